package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/ikegod/ikegod/conf"
	"github.com/ikegod/ikegod/ike/auth"
	"github.com/ikegod/ikegod/ike/engine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/ctl"
)

// configuration brings ipsec.conf and ipsec.secrets from the disk into the engine, at the start and again.
type configuration struct {
	file    string
	secrets string // as given on the command line; empty: what "config setup" says, or the default
	z       *zap.Logger

	mu     sync.Mutex // one load at a time; guards what follows
	engine *engine.Engine
	set    *policy.Set
	last   conf.Diagnostics
}

// loaded is a configuration that was read and compiled.
type loaded struct {
	file  *conf.Config
	set   *policy.Set
	store *auth.Store
	count int // secrets
	diags conf.Diagnostics
}

const defaultSecrets = "/etc/ipsec.secrets" //nolint:gosec // the name of a file

// read reads both files. Its error says that nothing of them may be used.
func (c *configuration) read() (loaded, error) {
	file, _ := conf.Load(c.file, conf.Options{})
	set, diags := file.Compile()
	l := loaded{file: file, set: set, diags: diags}
	if diags.Fatal() {
		return l, &ctl.Error{Code: ctl.CodeConfig, Message: fmt.Sprintf("%s cannot be used: %s", c.file, firstFatal(diags)), Report: l.report()}
	}
	return l, c.readSecrets(&l)
}

func (c *configuration) readSecrets(l *loaded) error {
	name := c.secrets
	if name == "" && l.set != nil {
		name = l.set.Setup.SecretsFile
	}
	if name == "" {
		name = defaultSecrets
	}
	secrets, diags := conf.LoadSecrets(name)
	l.diags = append(slices.Clone(l.diags), diags...)
	if diags.Fatal() {
		return &ctl.Error{Code: ctl.CodeConfig, Message: fmt.Sprintf("%s cannot be used: %s", name, firstFatal(diags)), Report: l.report()}
	}
	l.store, l.count = auth.NewStore(secrets), len(secrets)
	return nil
}

func firstFatal(ds conf.Diagnostics) string {
	for _, d := range ds {
		if d.Fatal {
			return d.String()
		}
	}
	return ds.Error()
}

// refused are the connections that errors leave out.
func (l loaded) refused() []string {
	var names []string
	for _, d := range l.diags {
		if d.Severity == conf.Error && d.Conn != "" && !slices.Contains(names, d.Conn) {
			names = append(names, d.Conn)
		}
	}
	return names
}

func (l loaded) report() *ctl.LoadReport {
	return &ctl.LoadReport{Refused: l.refused(), Secrets: l.count, Diagnostics: ctlDiagnostics(l.diags)}
}

// log tells every finding of a load.
func (c *configuration) log(l loaded) {
	for _, d := range l.diags {
		text := d.String()
		f := []zap.Field{zap.String(keyPart, "conf"), zap.String(keyFile, d.Position())}
		if d.Conn != "" {
			f = append(f, zap.String(keyConn, d.Conn))
		}
		switch d.Severity {
		case conf.Error:
			c.z.Error(text, f...)
		case conf.Warning:
			c.z.Warn(text, f...)
		default:
			c.z.Debug(text, f...)
		}
	}
	if names := l.refused(); len(names) > 0 {
		c.z.Error(fmt.Sprintf("left out because of errors: %s", strings.Join(names, ", ")), zap.String(keyPart, "conf"))
	}
}

// start puts what was read into the engine.
func (c *configuration) start(ctx context.Context, e *engine.Engine, l loaded) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.engine, c.set, c.last = e, l.set, l.diags
	return e.Apply(ctx, l.set)
}

// reload reads everything again. It changes nothing when the files cannot be used, or when a connection has errors that had none before: half an edit
// must not take tunnels down.
func (c *configuration) reload(ctx context.Context) (ctl.LoadReport, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, err := c.read()
	c.log(l)
	if err != nil {
		c.z.Error("reload failed, the configuration stays as it was: "+err.Error(), zap.String(keyPart, "conf"))
		return ctl.LoadReport{}, err
	}
	known := loaded{diags: c.last}.refused()
	for _, name := range l.refused() {
		if !slices.Contains(known, name) {
			text := fmt.Sprintf("nothing was reloaded: connection %q has errors that it had not before", name)
			c.z.Error(text, zap.String(keyPart, "conf"), zap.String(keyConn, name))
			return ctl.LoadReport{}, &ctl.Error{Code: ctl.CodeConfig, Message: text, Report: l.report()}
		}
	}
	changes := conf.Diff(c.set, l.set)
	before := c.engine.SetSecrets(l.store) // first, since connections may start at once
	if err := c.engine.Apply(ctx, l.set); err != nil {
		c.engine.SetSecrets(before)
		return ctl.LoadReport{}, fmt.Errorf("nothing was reloaded: %w", err)
	}
	if listens(c.set.Setup) != listens(l.set.Setup) {
		l.diags = append(l.diags, conf.Diagnostic{
			Severity: conf.Warning, File: c.file,
			Text: "config setup: listen-udp=, listen-tcp= and listen= take effect with the next start of ikegod",
		})
	}
	c.set, c.last = l.set, l.diags
	r := l.report()
	r.Added, r.Removed, r.Changed = changes.Added, changes.Removed, changes.Changed
	r.Unchanged = len(l.set.Connections) - len(changes.Added) - len(changes.Changed)
	c.z.Info(fmt.Sprintf("reloaded %s: %d connections added, %d changed, %d removed, %d unchanged", c.file, len(r.Added), len(r.Changed), len(r.Removed),
		r.Unchanged), zap.String(keyPart, "conf"))
	return *r, nil
}

// add loads one connection of the file, which may have changed.
func (c *configuration) add(ctx context.Context, name string) (ctl.LoadReport, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, err := c.read()
	if err != nil {
		return ctl.LoadReport{}, err
	}
	if !slices.Contains(l.file.Names(), name) {
		return ctl.LoadReport{}, notFound(name, c.file, l.file.Names())
	}
	conn, diags := l.file.Connection(name)
	if conn == nil {
		return ctl.LoadReport{}, &ctl.Error{Code: ctl.CodeConfig, Message: fmt.Sprintf("connection %q has errors", name), Report: &ctl.LoadReport{
			Refused: []string{name}, Diagnostics: ctlDiagnostics(diags),
		}}
	}
	was := slices.ContainsFunc(c.engine.Connections(), func(s engine.ConnectionStatus) bool { return s.Name == name })
	before := c.engine.SetSecrets(l.store)
	if err := c.engine.Add(ctx, conn); err != nil {
		c.engine.SetSecrets(before)
		return ctl.LoadReport{}, err
	}
	r := ctl.LoadReport{Secrets: l.count, Diagnostics: ctlDiagnostics(diags)}
	set := &policy.Set{Setup: c.set.Setup}
	for _, old := range c.set.Connections {
		if old.Name != name {
			set.Connections = append(set.Connections, old)
		}
	}
	set.Connections = append(set.Connections, conn)
	c.set = set
	if was {
		r.Changed = []string{name}
	} else {
		r.Added = []string{name}
	}
	return r, nil
}

// delete unloads one connection, until the next add or, but for auto=ignore, the next reload.
func (c *configuration) delete(ctx context.Context, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.engine.Delete(ctx, name); err != nil {
		return err
	}
	set := *c.set
	set.Connections = slices.DeleteFunc(slices.Clone(set.Connections), func(p *policy.Connection) bool {
		return p.Name == name && p.Auto != policy.AutoIgnore // that one is in the set without being loaded
	})
	c.set = &set
	return nil
}

// rereadSecrets reads the secrets alone.
func (c *configuration) rereadSecrets() (ctl.LoadReport, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := loaded{set: c.set}
	err := c.readSecrets(&l)
	c.log(l)
	if err != nil {
		return ctl.LoadReport{}, err
	}
	c.engine.SetSecrets(l.store)
	c.z.Info(fmt.Sprintf("read %d secrets", l.count), zap.String(keyPart, "conf"))
	return *l.report(), nil
}

// diagnostics are the findings of the last load.
func (c *configuration) diagnostics() conf.Diagnostics {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// listens is what of a setup is decided at the start.
func listens(s policy.Setup) string { return fmt.Sprint(s.ListenUDP, s.ListenTCP, s.Listen) }

func ctlDiagnostics(ds conf.Diagnostics) []ctl.Diagnostic {
	var out []ctl.Diagnostic
	for _, d := range ds {
		out = append(out, ctl.Diagnostic{
			Severity: d.Severity.String(), File: d.File, Line: d.Line, Column: d.Col, Width: d.Width, Connection: d.Conn,
			Text: d.Text, Suggestion: d.Suggestion, Source: d.Source,
		})
	}
	return out
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/ikegod/ikegod/ike/engine"
	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/probe"
	"github.com/ikegod/ikegod/pkg/ctl"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/suggest"
)

// service answers the control socket.
type service struct {
	d *daemon
}

var _ ctl.Service = service{}

// Status implements ctl.Service.
func (s service) Status(context.Context) (ctl.Status, error) {
	counts := s.d.sample()
	now := &counts.engine
	st := ctl.Status{
		Version: buildVersion(), PID: os.Getpid(), Started: s.d.started, RunDir: s.d.settings.RunDir, Config: s.d.settings.Config, Backend: s.d.dp.Features().Name,
		BackendWhy: s.d.choice.Why, Notes: s.d.notes(), Listening: s.d.listening(), Loaded: now.Connections,
		IKESAs: int(now.IKESAs - now.Closing), HalfOpen: int(now.HalfOpen), ChildSAs: int(now.Children), Drops: counts.drops(), Diagnostics: ctlDiagnostics(s.d.config.diagnostics()),
	}
	return st, nil
}

// Doctor implements ctl.Service. The attempts are made anew, so that what was loaded or mounted since the start shows.
func (s service) Doctor(context.Context) (ctl.Doctor, error) {
	out := ctlDoctor(probe.Run(), s.d.choice)
	out.Running, out.Notes = true, s.d.notes()
	return out, nil
}

// SAs implements ctl.Service.
func (s service) SAs(ctx context.Context, yield func(ctl.IKESA) bool) error {
	why := s.d.whyDatapath()
	s.d.engine.Status(func(sa machine.Snapshot, u []kernel.Usage) bool { return ctx.Err() == nil && yield(ctlSA(sa, u, why)) })
	return ctx.Err()
}

// Connections implements ctl.Service.
func (s service) Connections(context.Context) ([]ctl.Connection, error) {
	list := []ctl.Connection{}
	for _, c := range s.d.engine.Connections() {
		list = append(list, ctlConnection(c))
	}
	return list, nil
}

// Explain implements ctl.Service.
func (s service) Explain(ctx context.Context, name, peer, id string) (ctl.Explanation, error) {
	var addr netip.Addr
	var who ident.ID
	var err error
	if peer != "" {
		if addr, err = netip.ParseAddr(peer); err != nil || !ofHost(addr.Unmap()) {
			return ctl.Explanation{}, &ctl.Error{Code: ctl.CodeUsage, Message: fmt.Sprintf("the peer %q is not the address of a host", peer)}
		}
	}
	if id != "" {
		if who, err = ident.Parse(id); err != nil {
			return ctl.Explanation{}, &ctl.Error{Code: ctl.CodeUsage, Message: "the peer's " + err.Error()}
		}
	}
	x, err := s.d.engine.Explain(name, addr, who)
	return ctlExplanation(x), answer(ctx, err)
}

// ofHost reports whether a host can have an address, so that a packet may come from it.
func ofHost(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// Up implements ctl.Service.
func (s service) Up(ctx context.Context, name string, progress func(ctl.Event)) error {
	return answer(ctx, s.d.engine.Up(ctx, name, func(e event.Event) { progress(ctlEvent(e)) }))
}

// Down implements ctl.Service.
func (s service) Down(ctx context.Context, name string, progress func(ctl.Event)) error {
	return answer(ctx, s.d.engine.Down(ctx, name, func(e event.Event) { progress(ctlEvent(e)) }))
}

// RekeyChild implements ctl.Service.
func (s service) RekeyChild(ctx context.Context, name string, progress func(ctl.Event)) error {
	return answer(ctx, s.d.engine.RekeyChild(ctx, name, func(e event.Event) { progress(ctlEvent(e)) }))
}

// Delete implements ctl.Service.
func (s service) Delete(ctx context.Context, name string) error {
	return answer(ctx, s.d.config.delete(ctx, name))
}

// Add implements ctl.Service.
func (s service) Add(ctx context.Context, name string) (ctl.LoadReport, error) {
	r, err := s.d.config.add(ctx, name)
	return r, answer(ctx, err)
}

// Reload implements ctl.Service.
func (s service) Reload(ctx context.Context) (ctl.LoadReport, error) {
	r, err := s.d.config.reload(ctx)
	return r, answer(ctx, err)
}

// RereadSecrets implements ctl.Service.
func (s service) RereadSecrets(ctx context.Context) (ctl.LoadReport, error) {
	r, err := s.d.config.rereadSecrets()
	return r, answer(ctx, err)
}

// Shutdown implements ctl.Service.
func (s service) Shutdown(context.Context) error {
	s.d.stop()
	return nil
}

// answer gives an error of the engine the code that ikectl's exit status follows from.
func answer(ctx context.Context, err error) error {
	var up *engine.UpError
	var own *ctl.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own
	case errors.Is(err, engine.ErrNoConnection):
		return &ctl.Error{Code: ctl.CodeNotFound, Message: err.Error()}
	case errors.As(err, &up):
		e := &ctl.Error{Code: ctl.CodeFailed, Message: upMessage(up)}
		for _, a := range up.Attempts {
			e.Attempts = append(e.Attempts, ctlAttempt(a))
		}
		return e
	case errors.Is(err, context.DeadlineExceeded):
		return &ctl.Error{Code: ctl.CodeTimeout, Message: err.Error()}
	case ctx.Err() != nil:
		return &ctl.Error{Code: ctl.CodeFailed, Message: "the client left"}
	}
	return &ctl.Error{Code: ctl.CodeFailed, Message: err.Error()}
}

// notFound is the answer for a name that is in no loaded configuration.
func notFound(name, file string, names []string) *ctl.Error {
	text := fmt.Sprintf("no connection %q in %s", name, file)
	if meant := suggest.DidYouMean(name, names); meant != "" {
		text += "; " + meant
	}
	return &ctl.Error{Code: ctl.CodeNotFound, Message: text}
}

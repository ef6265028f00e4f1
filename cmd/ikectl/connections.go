package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ikegod/ikegod/pkg/ctl"
)

func (a *app) connections() *cobra.Command {
	return &cobra.Command{
		Use:   "connections",
		Short: "Show the loaded connections, up or not",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cs, err := a.client().Connections(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				a.object(cs)
				return nil
			}
			instances, err := a.instances(cmd.Context(), cs)
			if err != nil {
				return err
			}
			for _, c := range cs {
				a.printConnection(c)
				for _, i := range instances[c.Name] {
					a.printf("    instance    %s", i)
				}
			}
			if len(cs) == 0 {
				a.printf("no connection is loaded")
			}
			return nil
		},
	}
}

// instances lists the peers of templates, by connection.
func (a *app) instances(ctx context.Context, cs []ctl.Connection) (map[string][]string, error) {
	if !slices.ContainsFunc(cs, func(c ctl.Connection) bool { return strings.HasPrefix(c.Remote.Host, "%any") && c.State == "up" }) {
		return nil, nil
	}
	out := map[string][]string{}
	err := a.client().SAs(ctx, func(sa ctl.IKESA) bool {
		for name, text := range instanceTexts(sa) {
			out[name] = append(out[name], text)
		}
		return true
	})
	return out, err
}

// instanceTexts says what each template has in the IKE SA of one peer: several may have their Child SAs there.
func instanceTexts(sa ctl.IKESA) map[string]string {
	out := map[string]string{}
	add := func(name string, number int, more string) {
		if number == 0 {
			return
		}
		if out[name] == "" {
			out[name] = instanceName(name, number, sa) + "  " + sa.State
			if sa.RemoteID != "" {
				out[name] += ", " + sa.RemoteID
			}
		}
		out[name] += more
	}
	add(sa.Connection, sa.Instance, "")
	for _, c := range sa.Children {
		add(c.Connection, c.Instance, ", "+c.Local+" === "+c.Remote)
	}
	return out
}

func (a *app) printConnection(c ctl.Connection) {
	a.printf("%q  %s", c.Name, stateOf(c))
	a.printf("    %s...%s", endText(c.Local, true), endText(c.Remote, false))
	settings := []string{}
	for _, s := range []struct{ key, value string }{{"type", c.Shunt}, {"auto", c.Auto}, {"enable-tcp", c.TCP}, {"ike", c.Algorithms}, {"esp", c.ESP}} {
		if s.value != "" {
			settings = append(settings, s.key+"="+s.value)
		}
	}
	a.printf("    %s", strings.Join(settings, " "))
	if len(c.Children) > 1 {
		for _, child := range c.Children {
			state := "down  "
			switch {
			case c.Shunt != "":
				state = "" // all are in place, or none
			case child.Up:
				state = "up  "
			case strings.HasPrefix(c.Remote.Host, "%any"):
				state = "" // each instance has its own
			}
			a.printf("    child %q  %s%s === %s", child.Name, state, child.Local, child.Remote)
		}
	}
	if c.Path != nil {
		a.printf("    path        %s -> %s %s", c.Path.Local, c.Path.Remote, c.Path.Carrier)
	}
	if c.Why != "" {
		a.printf("    not usable  %s", c.Why)
	}
	if c.LastError != "" {
		a.printf("    last error  %s", c.LastError)
	}
	if !c.NextTry.IsZero() {
		a.printf("    next try    in %s", short(time.Until(c.NextTry).Round(time.Second)))
	}
	if c.Position != "" {
		a.printf("    from        %s", c.Position)
	}
}

// stateOf is the state of a connection, with how many of its Child SAs are up if those are some of several. A template's come with its peers.
func stateOf(c ctl.Connection) string {
	if c.ChildrenUp == 0 || c.ChildrenUp == len(c.Children) {
		return c.State
	}
	return fmt.Sprintf("%s %d/%d", c.State, c.ChildrenUp, len(c.Children))
}

// endText prints an end as libreswan does: net===host[id] on the left, host[id]===net on the right, and host[id]:TCP/443 where the host itself is protected in part.
func endText(e ctl.End, left bool) string {
	host := e.Host
	if e.ID != "" {
		host += "[" + e.ID + "]"
	}
	switch {
	case e.Subnets == "" && e.ProtoPort != "":
		return host + ":" + e.ProtoPort
	case e.Subnets == "":
		return host
	case left:
		return e.Subnets + "===" + host
	}
	return host + "===" + e.Subnets
}

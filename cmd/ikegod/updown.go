package main

import (
	"fmt"
	"net/netip"

	"go.uber.org/zap"

	"github.com/ikegod/ikegod/ike/engine"
	"github.com/ikegod/ikegod/kernel/updown"
	"github.com/ikegod/ikegod/pkg/ts"
)

// scriptsMost is for how many pairs of prefixes of one Child SA its script runs.
const scriptsMost = 16

// newUpdown runs the scripts of leftupdown=.
func (d *daemon) newUpdown() *updown.Runner {
	return updown.New(func(connection string, failed bool, text string) {
		f := []zap.Field{zap.String(keyPart, "updown"), zap.String(keyConn, connection)}
		if failed {
			d.z.Error(text, f...)
		} else {
			d.z.Info(text, f...)
		}
	})
}

// tellUpdown puts a change of a tunnel into the words of its script, which runs for each pair of prefixes, as libreswan's does.
func tellUpdown(r *updown.Runner) func(engine.Change, engine.Tunnel) {
	verbs := map[engine.Change]updown.Verb{
		engine.TunnelRouted: updown.Route, engine.TunnelUp: updown.Up, engine.TunnelDown: updown.Down, engine.TunnelUnrouted: updown.Unroute,
	}
	return func(c engine.Change, t engine.Tunnel) {
		for _, one := range updownTunnels(&t) {
			r.Change(verbs[c], one)
		}
	}
}

func updownTunnels(t *engine.Tunnel) (out []updown.Tunnel) {
	o, child := t.Conn, t.Conn.Children[t.Child]
	base := updown.Tunnel{
		Connection: o.Name, Script: o.Local.Updown, SourceIP: t.SourceIP, MTU: child.MTU, Transport: child.Transport, SPIIn: t.SPIIn, SPIOut: t.SPIOut,
		Local:  updown.End{Host: o.LocalAddr, ID: idText(t.LocalID)},
		Remote: updown.End{Host: o.RemoteAddr, ID: idText(t.RemoteID)},
	}
	if !t.Path.IsZero() {
		base.Local.Host, base.Remote.Host = t.Path.Local.Addr().Unmap(), t.Path.Remote.Addr().Unmap()
	}
	end := func(e updown.End, s ts.Selector, p netip.Prefix) updown.End {
		e.Client, e.Protocol = p, s.Protocol
		if !s.AnyPort() && !s.Opaque() {
			e.Port = s.StartPort
		}
		return e
	}
	for _, l := range t.Local {
		for _, r := range t.Remote {
			for _, lp := range (ts.Set{l}).Prefixes() {
				for _, rp := range (ts.Set{r}).Prefixes() {
					if lp.Addr().Is4() != rp.Addr().Is4() || len(out) >= scriptsMost {
						continue
					}
					one := base
					one.Key, one.Local, one.Remote = fmt.Sprintf("%s/%d", t.Policy, len(out)), end(base.Local, l, lp), end(base.Remote, r, rp)
					out = append(out, one)
				}
			}
		}
	}
	return out
}

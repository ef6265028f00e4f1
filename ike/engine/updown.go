package engine

import (
	"fmt"
	"strings"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
)

// The scripts of leftupdown= follow the policies, whose lock keeps their order: a policy that is routed, and the first and the last of its Child SAs. Up is part of
// an installation: a Child SA whose script fails is refused like one that the datapath refuses.

// tunnel is what the script of this host's end is told about a policy, or nil if there is no script.
func (c *control) tunnel(o *policy.Oriented, i int, pol kernel.Policy) *kernel.Tunnel {
	if c.e.updown == nil || o.Local.Updown == "" || c.conn.IsShunt() {
		return nil
	}
	t := &kernel.Tunnel{
		Policy: pol.ID, Order: c.conn.Name, Script: o.Local.Updown, Connection: c.conn.Name, Transport: o.Children[i].Transport, Words: connectionWords(o.Connection, i),
		LocalAddr: pol.LocalAddr, RemoteAddr: pol.RemoteAddr, LocalID: o.LocalID().String(), Local: pol.Local, Remote: pol.Remote,
		SourceIP: o.Local.SourceIP, MTU: o.Children[i].MTU, Interface: pol.Interface, MarkIn: pol.MarkIn, MarkOut: pol.MarkOut,
	}
	if id, ok := o.RemoteID().One(); ok {
		t.RemoteID = id.String()
	}
	child := o.Children[i].Name
	t.Tell = func(failed bool, text string) {
		level := event.Info
		if failed {
			level = event.Warn
		}
		c.home.box.post(func() {
			c.tell(event.Event{Level: level, Child: child, Text: fmt.Sprintf("connection %q: %s", c.conn.Name, text)})
		})
	}
	return t
}

// tunnelUp is tunnel for a Child SA that is being installed; ok false: there is no script.
func (s *shard) tunnelUp(a *sa, c *control, ef machine.Install, pol kernel.Policy) (t kernel.Tunnel, ok bool) {
	p := c.tunnel(ef.Conn, ef.Index, pol)
	if p == nil {
		return t, false
	}
	t = *p
	if !ef.Conn.RemoteAddr.IsValid() {
		t.Instance, t.Order = true, string(pol.ID) // peers of a template do not wait for each other
	}
	snap := a.m.Snapshot()
	t.LocalID, t.RemoteID = snap.Local.String(), snap.Remote.String()
	t.SPIIn, t.SPIOut, t.Added = kernel.SPI(ef.SPIIn), kernel.SPI(ef.SPIOut), time.Now()
	return t, true
}

// runUp goes on with done, in s, when the script has said yes or no to a Child SA whose SAs are in place.
func (s *shard) runUp(t kernel.Tunnel, scripted bool, err error, done func(error)) {
	if err != nil || !scripted {
		done(err)
		return
	}
	s.e.updown.Up(t, func(err error) {
		if err != nil {
			err = fmt.Errorf("leftupdown= or rightupdown= of this host has failed: %w", err)
		}
		s.box.post(func() { done(err) })
	})
}

// unrouteScript tells that a policy goes.
func (e *Engine) unrouteScript(id kernel.PolicyID) {
	if e.updown != nil {
		e.updown.Unroute(id)
	}
}

// afterScripts calls f in the home shard when the scripts of the connection that were asked for have ended.
func (c *control) afterScripts(f func()) {
	if c.e.updown == nil || c.conn.Left.Updown == "" && c.conn.Right.Updown == "" {
		f()
		return
	}
	c.e.updown.After(c.conn.Name, func() { c.home.box.post(f) })
}

// lastPair is what a Child SA has carried, before it is removed.
func (e *Engine) lastPair(c child) kernel.LastPair {
	last := kernel.LastPair{SPIIn: c.spi, SPIOut: c.spiOut}
	if u := e.dp.Usage(c.spi); len(u) == 1 {
		last.InBytes, last.OutBytes = u[0].InBytes, u[0].OutBytes
	}
	return last
}

// connectionWords are those of PLUTO_CONN_POLICY that hold here.
func connectionWords(c *policy.Connection, i int) string {
	words := []string{"IKEv2", "PSK", "ENCRYPT"}
	if !c.Children[i].Transport {
		words = append(words, "TUNNEL")
	}
	if c.Children[i].PFS {
		words = append(words, "PFS")
	}
	if c.Narrowing {
		words = append(words, "IKEV2_ALLOW_NARROWING")
	}
	return strings.Join(words, "+")
}

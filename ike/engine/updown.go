package engine

import (
	"net/netip"

	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/ts"
)

// Change is what has become of a tunnel, for leftupdown=.
type Change uint8

// Changes.
const (
	TunnelRouted   Change = iota // its packets bring it up
	TunnelUp                     // its first Child SA is there
	TunnelDown                   // its last one has gone; its packets may be held
	TunnelUnrouted               // its packets go on as if there were no connection
)

// Tunnel is one that a script wants to hear of. Before the first Child SA there is no path, and the identities are those of the connection.
type Tunnel struct {
	Policy            kernel.PolicyID
	Conn              *policy.Oriented
	Child             int // in Conn.Children
	Local, Remote     ts.Set
	LocalID, RemoteID ident.ID
	Path              path.Path
	SPIIn, SPIOut     uint32
	SourceIP          netip.Addr
}

// wantsUpdown reports whether somebody is to hear of a connection's tunnels.
func (e *Engine) wantsUpdown(o *policy.Oriented) bool { return e.updown != nil && o.Local.Updown != "" }

// tunnel is what a script is told of a Child SA; nil: there is none that wants to hear of it.
func (s *shard) tunnel(a *sa, ef machine.Install, pol *kernel.Policy) *Tunnel {
	if !s.e.wantsUpdown(ef.Conn) {
		return nil
	}
	snap := a.m.Snapshot()
	return &Tunnel{
		Policy: pol.ID, Conn: ef.Conn, Child: ef.Index, Local: ef.Local, Remote: ef.Remote, LocalID: snap.Local, RemoteID: snap.Remote, Path: ef.Path,
		SPIIn: ef.SPIIn, SPIOut: ef.SPIOut, SourceIP: pol.SourceIP,
	}
}

// tell tells a script about the tunnel of a Child SA. In the connection's home, so that changes are told in their order.
func (c *control) tellUpdown(ch Change, t *Tunnel) {
	if t != nil {
		c.e.updown(ch, *t)
	}
}

// routed tells a script that a policy without a Child SA has been put in place to bring one up, or has been taken away.
func (c *control) tellRouted(i int, action kernel.Action, route bool, pol *kernel.Policy) {
	if o := c.oriented; c.e.wantsUpdown(o) && (!route || action == kernel.Trap) {
		change := TunnelRouted
		if !route {
			change = TunnelUnrouted
		}
		c.e.updown(change, Tunnel{
			Policy: pol.ID, Conn: o, Child: i, Local: pol.Local, Remote: pol.Remote, LocalID: o.LocalID(), RemoteID: o.RemoteID().ID, SourceIP: pol.SourceIP,
		})
	}
}

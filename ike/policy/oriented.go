package policy

import (
	"net/netip"

	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/ts"
)

// Oriented is a connection seen from this host: which end is us, with addresses. Immutable.
type Oriented struct {
	*Connection
	Local, Remote         *End
	LocalAddr, RemoteAddr netip.Addr // RemoteAddr is invalid for a template (%any)
	LeftIsLocal           bool
}

func familyOf(a netip.Addr) Family {
	if a.Is4() || a.Is4In6() {
		return FamilyV4
	}
	return FamilyV6
}

func side(left bool) string {
	if left {
		return "left"
	}
	return "right"
}

// end prints an end as it was written, with its place: `left=192.1.2.45 (ipsec.conf:7)`.
func (c *Connection) end(left bool) string {
	word, e := "right", &c.Right
	if left {
		word, e = "left", &c.Left
	}
	s := word + "=" + e.Host.String()
	if p := e.Positions[word]; p != "" {
		s += " (" + p + ")"
	}
	return s
}

// Instance is a template (%any) with the address of one peer.
func (o *Oriented) Instance(peer netip.Addr) *Oriented {
	i := *o
	i.RemoteAddr = peer
	return &i
}

// LocalTS and RemoteTS are the selectors of child i seen from this host. RemoteTS of a template without subnet is empty: its instances have one.
func (o *Oriented) LocalTS(i int) ts.Set {
	s := o.Children[i].Right
	if o.LeftIsLocal {
		s = o.Children[i].Left
	}
	return orHost(s, o.Local, o.LocalAddr)
}

// RemoteTS is the other side of LocalTS.
func (o *Oriented) RemoteTS(i int) ts.Set {
	s := o.Children[i].Left
	if o.LeftIsLocal {
		s = o.Children[i].Right
	}
	return orHost(s, o.Remote, o.RemoteAddr)
}

// orHost is s or, when no subnet was written, the host itself with the end's protocol and ports.
func orHost(s ts.Set, e *End, a netip.Addr) ts.Set {
	if len(s) > 0 || !a.IsValid() {
		return s
	}
	host := ts.Selector{Start: a, End: a, Protocol: e.Protocol, StartPort: e.StartPort, EndPort: e.EndPort}
	if e.Protocol == 0 {
		host.StartPort, host.EndPort = 0, 0xffff
	}
	return ts.Set{host}
}

// LocalID is the identity that we send: the configured one or our address.
func (o *Oriented) LocalID() ident.ID {
	if !o.Local.ID.ID.IsZero() {
		return o.Local.ID.ID
	}
	return ident.FromAddr(o.LocalAddr)
}

// RemoteID is what we allow as the peer's identity: the configured one, or its address, or any for a template without an id.
func (o *Oriented) RemoteID() ident.Pattern {
	switch {
	case o.Remote.ID.Any || !o.Remote.ID.ID.IsZero():
		return o.Remote.ID
	case o.RemoteAddr.IsValid():
		return ident.Pattern{ID: ident.FromAddr(o.RemoteAddr)}
	}
	return ident.Pattern{Any: true}
}

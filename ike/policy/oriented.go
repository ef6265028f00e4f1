package policy

import (
	"errors"
	"fmt"
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

// ErrUnresolved says that the peer is written as a DNS name whose address is not known. errors.Is finds it in what Orient returns.
var ErrUnresolved = errors.New("name not resolved")

// Orient finds out which end of the connection is this host. isLocal answers whether an address is one of ours. defaultSource is the address that the
// system would use towards an address, for %defaultroute; it is asked with an invalid address when the peer's is not known (%any). A remote
// %any gives a template: RemoteAddr is invalid. The error is one sentence for the operator, and names the lines to look at.
func (c *Connection) Orient(isLocal func(netip.Addr) bool, defaultSource func(remote netip.Addr) (netip.Addr, error)) (*Oriented, error) {
	left, right := c.Left.isUs(isLocal), c.Right.isUs(isLocal)
	switch {
	case left && right:
		return nil, fmt.Errorf("conn %s: both %s and %s are this host: one of them must be the peer",
			c.Name, c.end(true), c.end(false))
	case !left && !right:
		return nil, fmt.Errorf("conn %s: neither %s nor %s is an address of this host: correct one of them, or add the address to an interface",
			c.Name, c.end(true), c.end(false))
	}
	o := &Oriented{Connection: c, LeftIsLocal: left, Local: &c.Left, Remote: &c.Right}
	if right {
		o.Local, o.Remote = &c.Right, &c.Left
	}
	switch o.Remote.Host.Kind {
	case HostAddress:
		o.RemoteAddr = o.Remote.Host.Addr
	case HostName:
		return nil, fmt.Errorf("conn %s: the peer %s is a name: %w; write its address", c.Name, c.end(!left), ErrUnresolved)
	case HostAny, HostDefaultRoute: // a template; the latter is us
	}
	o.LocalAddr = o.Local.Host.Addr
	if o.Local.Host.Kind == HostDefaultRoute {
		a, err := defaultSource(o.RemoteAddr)
		if err != nil {
			return nil, fmt.Errorf("conn %s: %s: no address of this host leads to the peer: %w", c.Name, c.end(left), err)
		}
		o.LocalAddr = a.Unmap()
	}
	if err := o.checkFamilies(); err != nil {
		return nil, err
	}
	if _, one := o.Local.ID.One(); !one && !o.Local.ID.Any && !o.Local.ID.ID.IsZero() {
		return nil, fmt.Errorf("conn %s: this host is %s, and %sid=%v (%s) stands for many: write the identity without *",
			c.Name, c.end(left), side(left), o.Local.ID, o.Local.Positions[side(left)+"id"])
	}
	return o, nil
}

// isUs reports whether the end is this host. %defaultroute always is; %any and names are the peer.
func (e *End) isUs(isLocal func(netip.Addr) bool) bool {
	switch e.Host.Kind {
	case HostDefaultRoute:
		return true
	case HostAddress:
		return isLocal(e.Host.Addr)
	case HostAny, HostName:
	}
	return false
}

func (o *Oriented) checkFamilies() error {
	remote := o.Remote.Host.Family
	if o.RemoteAddr.IsValid() {
		remote = familyOf(o.RemoteAddr)
	}
	local := familyOf(o.LocalAddr)
	if f := o.Local.Host.Family; f != FamilyAny && f != local {
		return fmt.Errorf("conn %s: %s is to be IPv%d, and %s is not", o.Name, o.end(o.LeftIsLocal), f, o.LocalAddr)
	}
	if remote != FamilyAny && remote != local {
		return fmt.Errorf("conn %s: this host's address %s is IPv%d, the peer %s is IPv%d",
			o.Name, o.LocalAddr, local, o.end(!o.LeftIsLocal), remote)
	}
	return nil
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

package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// ErrUnresolved says that a host is written as a DNS name whose addresses are not known. errors.Is finds it in what Orient returns.
var ErrUnresolved = errors.New("name not resolved")

// Here answers what orientation asks about this host. Its functions must not block.
type Here struct {
	// IsLocal says whether an address is one of ours.
	IsLocal func(netip.Addr) bool
	// DefaultSource is the address that the system would use towards an address, for %defaultroute. It is asked with an invalid address when the peer's is
	// not known (%any), and with :: when that peer is to be IPv6.
	DefaultSource func(remote netip.Addr) (netip.Addr, error)
	// Resolve gives the known addresses of a name, best first; the error says why there are none. nil: no name is known.
	Resolve func(name string) ([]netip.Addr, error)
}

// Orient is OrientAll without names, and with the first answer alone.
func (c *Connection) Orient(isLocal func(netip.Addr) bool, defaultSource func(remote netip.Addr) (netip.Addr, error)) (*Oriented, error) {
	all, err := c.OrientAll(Here{IsLocal: isLocal, DefaultSource: defaultSource})
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// OrientAll finds out which end of the connection is this host. There is one answer, or for a peer that is a name one for each of its addresses that can be
// used from here, in their order. A remote %any gives a template: RemoteAddr is invalid. The error is one sentence for the operator, and names the lines to look at.
func (c *Connection) OrientAll(here Here) ([]*Oriented, error) {
	leftAddrs, leftErr := c.addrsOf(&c.Left, here)
	rightAddrs, rightErr := c.addrsOf(&c.Right, here)
	left, right := c.Left.isUs(leftAddrs, here), c.Right.isUs(rightAddrs, here)
	switch {
	case left && right:
		return nil, fmt.Errorf("conn %s: both %s and %s are this host: one of them must be the peer",
			c.Name, c.end(true), c.end(false))
	case !left && !right && leftErr != nil:
		return nil, fmt.Errorf("conn %s: %s: %w", c.Name, c.end(true), leftErr)
	case !left && !right && rightErr != nil:
		return nil, fmt.Errorf("conn %s: %s: %w", c.Name, c.end(false), rightErr)
	case !left && !right:
		return nil, fmt.Errorf("conn %s: neither %s nor %s is an address of this host: correct one of them, or add the address to an interface",
			c.Name, c.end(true), c.end(false))
	}
	o := Oriented{Connection: c, LeftIsLocal: left, Local: &c.Left, Remote: &c.Right}
	ours, theirs, err := leftAddrs, rightAddrs, rightErr
	if right {
		o.Local, o.Remote, ours, theirs, err = &c.Right, &c.Left, rightAddrs, leftAddrs, leftErr
	}
	if err != nil {
		return nil, fmt.Errorf("conn %s: the peer %s: %w", c.Name, c.end(!left), err)
	}
	if _, one := o.Local.ID.One(); !one && !o.Local.ID.Any && !o.Local.ID.ID.IsZero() {
		return nil, fmt.Errorf("conn %s: this host is %s, and %sid=%v (%s) stands for many: write the identity without *",
			c.Name, c.end(left), side(left), o.Local.ID, o.Local.Positions[side(left)+"id"])
	}
	return o.towards(ours, theirs, here)
}

// towards makes an answer for each address of the peer; the error is that of the first, if none can be used.
func (o Oriented) towards(ours, theirs []netip.Addr, here Here) (all []*Oriented, first error) {
	for _, remote := range theirs {
		one := o
		one.RemoteAddr = remote
		err := one.chooseLocal(ours, here)
		if err == nil {
			err = one.checkFamilies()
		}
		if err == nil {
			all = append(all, &one)
		} else if first == nil {
			first = err
		}
	}
	if len(all) > 0 {
		return all, nil
	}
	return nil, first
}

// chooseLocal finds our address: the one that is written, that of our name which is ours and of the peer's family, or the one that the system would use.
func (o *Oriented) chooseLocal(ours []netip.Addr, here Here) error {
	switch o.Local.Host.Kind {
	case HostDefaultRoute:
		towards := o.RemoteAddr
		if !towards.IsValid() && (o.Remote.Host.Family == FamilyV6 || o.Local.Host.Family == FamilyV6) {
			towards = netip.IPv6Unspecified()
		}
		a, err := here.DefaultSource(towards)
		if err != nil {
			return fmt.Errorf("conn %s: %s: no address of this host leads to the peer: %w", o.Name, o.end(o.LeftIsLocal), err)
		}
		o.LocalAddr = a.Unmap()
	case HostName:
		for _, a := range ours {
			if here.IsLocal(a) && (!o.LocalAddr.IsValid() || o.RemoteAddr.IsValid() && familyOf(a) == familyOf(o.RemoteAddr) && familyOf(o.LocalAddr) != familyOf(a)) {
				o.LocalAddr = a
			}
		}
	case HostAddress, HostAny:
		o.LocalAddr = o.Local.Host.Addr
	}
	return nil
}

// addrsOf are the addresses of an end as far as they are known; one invalid address stands for any.
func (c *Connection) addrsOf(e *End, here Here) ([]netip.Addr, error) {
	switch e.Host.Kind {
	case HostAddress:
		return []netip.Addr{e.Host.Addr}, nil
	case HostAny, HostDefaultRoute:
		return []netip.Addr{{}}, nil
	case HostName:
	}
	if here.Resolve == nil {
		return nil, ErrUnresolved
	}
	known, err := here.Resolve(e.Host.Name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnresolved, err)
	}
	var usable []netip.Addr
	for _, a := range known {
		a = a.Unmap().WithZone("")
		if a.IsUnspecified() || a.IsMulticast() || a.Is6() && a.IsLinkLocalUnicast() || e.Host.Family != FamilyAny && familyOf(a) != e.Host.Family || slices.Contains(usable, a) {
			continue
		}
		usable = append(usable, a)
	}
	switch {
	case len(usable) > 0:
		return usable, nil
	case len(known) > 0 && e.Host.Family != FamilyAny:
		return nil, fmt.Errorf("%w to an IPv%d address: it is %v; link-local addresses do not count", ErrUnresolved, e.Host.Family, known)
	case len(known) > 0:
		return nil, fmt.Errorf("%w to an address that can be used: it is %v", ErrUnresolved, known)
	}
	return nil, ErrUnresolved
}

// isUs reports whether the end is this host. %defaultroute always is; %any is the peer; a name is us if one of its addresses is ours.
func (e *End) isUs(addrs []netip.Addr, here Here) bool {
	switch e.Host.Kind {
	case HostDefaultRoute:
		return true
	case HostAddress, HostName:
		return slices.ContainsFunc(addrs, here.IsLocal)
	case HostAny:
	}
	return false
}

// Names are the DNS names of the two hosts.
func (c *Connection) Names() (names []string) {
	for _, e := range []*End{&c.Left, &c.Right} {
		if e.Host.Kind == HostName {
			names = append(names, e.Host.Name)
		}
	}
	return names
}

// Guest is how the connection meets a peer whose name has no known address: like a template, for a peer from anywhere that proves the identity that is
// written. nil: there is no such identity, or this host is not written as an address.
func (c *Connection) Guest(isLocal func(netip.Addr) bool) *Oriented {
	for _, o := range []Oriented{{Connection: c, LeftIsLocal: true, Local: &c.Left, Remote: &c.Right}, {Connection: c, Local: &c.Right, Remote: &c.Left}} {
		id := o.Remote.ID
		if o.Remote.Host.Kind == HostName && o.Local.Host.Kind == HostAddress && isLocal(o.Local.Host.Addr) && !id.Any && !id.ID.IsZero() {
			o.LocalAddr = o.Local.Host.Addr
			return &o
		}
	}
	return nil
}

// Side is the connection while the peer's name has no known address: which end is this host can be told all the same, and with it what is to be protected, but
// for a remote side that is the peer itself. RemoteAddr is invalid. nil: it cannot be told, or the peer is not a name.
func (c *Connection) Side(here Here) *Oriented {
	for _, o := range []Oriented{{Connection: c, LeftIsLocal: true, Local: &c.Left, Remote: &c.Right}, {Connection: c, Local: &c.Right, Remote: &c.Left}} {
		ours, err := c.addrsOf(o.Local, here)
		theirs, unresolved := c.addrsOf(o.Remote, here)
		if err != nil || o.Remote.Host.Kind != HostName || !o.Local.isUs(ours, here) || o.Remote.isUs(theirs, here) || unresolved == nil {
			continue
		}
		if err := o.chooseLocal(ours, here); err != nil {
			o.LocalAddr = netip.Addr{} // the local side may be written
		}
		return &o
	}
	return nil
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

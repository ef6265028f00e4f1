package ts

import (
	"fmt"
	"net/netip"
)

// Difference is why a selector is not allowed: the first that is not, the one of those allowed that comes nearest, and what of them differs.
type Difference struct {
	Asked, Allowed Selector // Allowed is the zero Selector when nothing is allowed
	What           Part
	Overlap        bool // a part of Asked is allowed: narrowing would find it
}

// Part is what two selectors differ in.
type Part uint8

// Parts of a selector, in the order in which they are compared.
const (
	Everything Part = iota // nothing is allowed
	AddressFamily
	Addresses
	Protocol
	Ports
)

// FirstDifference finds the first selector of asked that is not inside one of allowed; ok is false when each is.
func (s Set) FirstDifference(asked Set) (d Difference, ok bool) {
	for _, a := range asked {
		if !s.Contains(Set{a}) {
			return s.nearest(a), true
		}
	}
	return Difference{}, false
}

// nearest compares with each selector of s, and keeps the one whose first difference comes last; of equals the one that overlaps.
func (s Set) nearest(a Selector) Difference {
	best := Difference{Asked: a}
	for i, t := range s {
		_, overlap := t.Intersect(a)
		d := Difference{Asked: a, Allowed: t, What: t.differs(a), Overlap: overlap}
		if i == 0 || d.What > best.What || d.What == best.What && d.Overlap && !best.Overlap {
			best = d
		}
	}
	return best
}

// differs names the first part in which a goes beyond s.
func (s Selector) differs(a Selector) Part {
	switch {
	case s.Start.BitLen() != a.Start.BitLen():
		return AddressFamily
	case a.Start.Less(s.Start) || s.End.Less(a.End):
		return Addresses
	case s.Protocol != 0 && s.Protocol != a.Protocol:
		return Protocol
	}
	return Ports
}

// String is a few words: "10.0.0.0/8 is wider than the allowed 10.1.0.0/16".
func (d Difference) String() string {
	switch d.What {
	case Everything:
		return fmt.Sprintf("%v is asked for, nothing is allowed", d.Asked)
	case AddressFamily:
		return fmt.Sprintf("%v is %s, the allowed %v is %s", d.Asked, family(d.Asked.Start), d.Allowed, family(d.Allowed.Start))
	case Addresses:
		return d.addresses()
	case Protocol:
		return fmt.Sprintf("%v has %s, the allowed %v has %s", d.Asked, d.Asked.protocolText(), d.Allowed, d.Allowed.protocolText())
	case Ports:
	}
	return fmt.Sprintf("%v has %s, the allowed %v has %s", d.Asked, d.Asked.portText(), d.Allowed, d.Allowed.portText())
}

func (d Difference) addresses() string {
	asked, allowed := d.Asked, d.Allowed
	switch {
	case asked.End.Less(allowed.Start) || allowed.End.Less(asked.Start):
		return fmt.Sprintf("%v has no address in common with the allowed %v", asked, allowed)
	case !allowed.Start.Less(asked.Start) && !asked.End.Less(allowed.End):
		return fmt.Sprintf("%v is wider than the allowed %v", asked, allowed)
	}
	return fmt.Sprintf("only a part of %v is in the allowed %v", asked, allowed)
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

func (s Selector) protocolText() string {
	if s.Protocol == 0 {
		return "any protocol"
	}
	return "protocol " + protocolName(s.Protocol)
}

func (s Selector) portText() string {
	switch {
	case s.AnyPort():
		return "any port"
	case s.Opaque():
		return "port " + opaque
	case s.StartPort == s.EndPort:
		return fmt.Sprintf("port %d", s.StartPort)
	}
	return fmt.Sprintf("ports %d-%d", s.StartPort, s.EndPort)
}

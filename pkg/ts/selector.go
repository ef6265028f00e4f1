// Package ts is about traffic selectors: parse, print, contain, intersect and narrow (RFC 7296 2.9).
package ts

import (
	"net/netip"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// Selector is an address range with an IP protocol (0 = any) and a port range (0-65535 = any; 65535-0 = OPAQUE, RFC 7296 3.13.1).
// For ICMP the ports hold type and code: type in the upper eight bits, code in the lower. Comparable. Start and End are of one family;
// the zero Selector and one whose range is empty hold nothing and are inside nothing.
type Selector struct {
	Start, End         netip.Addr
	Protocol           uint8
	StartPort, EndPort uint16
}

// Ends of a port range that holds every port (RFC 7296 3.13.1).
const (
	firstPort = 0
	lastPort  = 65535
)

// FromPrefix makes the selector of a whole prefix, any protocol and port.
func FromPrefix(p netip.Prefix) Selector {
	if !p.IsValid() {
		return Selector{}
	}
	return Selector{Start: p.Masked().Addr(), End: lastAddr(p), StartPort: firstPort, EndPort: lastPort}
}

// FromAddr makes the selector of one address, any protocol and port.
func FromAddr(a netip.Addr) Selector {
	return Selector{Start: a, End: a, StartPort: firstPort, EndPort: lastPort}
}

// AnyPort reports whether the ports are not restricted. ANY includes OPAQUE (RFC 4301 4.4.1.1).
func (s Selector) AnyPort() bool { return s.StartPort == firstPort && s.EndPort == lastPort }

// Opaque reports whether the selector is for packets whose ports are not to be seen, such as fragments (RFC 4301 4.4.1.1).
func (s Selector) Opaque() bool { return s.StartPort == lastPort && s.EndPort == firstPort }

// LinkLocal reports whether all addresses are IPv6 link-local (RFC 4291 2.5.6).
func (s Selector) LinkLocal() bool {
	return s.Start.Is6() && s.Start.IsLinkLocalUnicast() && s.End.IsLinkLocalUnicast()
}

// Valid reports whether the selector holds anything: both addresses of one family, in order, and a port range in order or OPAQUE.
func (s Selector) Valid() bool {
	return s.Start.IsValid() && s.Start.BitLen() == s.End.BitLen() && s.Start.Compare(s.End) <= 0 &&
		(s.StartPort <= s.EndPort || s.Opaque())
}

// ContainsPacket reports whether a packet's address, protocol and port are inside. port is 0 for protocols without ports, and for
// packets whose port is not to be seen; OPAQUE holds those alone.
func (s Selector) ContainsPacket(a netip.Addr, protocol uint8, port uint16) bool {
	switch {
	case !s.Valid() || a.BitLen() != s.Start.BitLen() || a.Less(s.Start) || s.End.Less(a):
		return false
	case s.Protocol != 0 && s.Protocol != protocol:
		return false
	case s.Opaque():
		return port == 0
	}
	return s.StartPort <= port && port <= s.EndPort
}

// Contains reports whether every packet of o is in s.
func (s Selector) Contains(o Selector) bool {
	got, ok := s.Intersect(o)
	return ok && got == o
}

// Intersect returns what both hold; ok is false when that is nothing.
func (s Selector) Intersect(o Selector) (Selector, bool) {
	if !s.Valid() || !o.Valid() || s.Start.BitLen() != o.Start.BitLen() {
		return Selector{}, false
	}
	got := s
	if got.Start.Less(o.Start) {
		got.Start = o.Start
	}
	if o.End.Less(got.End) {
		got.End = o.End
	}
	switch {
	case s.Protocol == 0:
		got.Protocol = o.Protocol
	case o.Protocol != 0 && o.Protocol != s.Protocol:
		return Selector{}, false
	}
	var ok bool
	got.StartPort, got.EndPort, ok = intersectPorts(s, o)
	if !ok || got.End.Less(got.Start) {
		return Selector{}, false
	}
	return got, true
}

// intersectPorts lets OPAQUE meet only itself and ANY, which includes it (RFC 4301 4.4.1.1).
func intersectPorts(s, o Selector) (first, last uint16, ok bool) {
	switch {
	case s.AnyPort() || s.Opaque() && o.Opaque():
		return o.StartPort, o.EndPort, true
	case o.AnyPort():
		return s.StartPort, s.EndPort, true
	case s.Opaque() || o.Opaque():
		return 0, 0, false
	}
	first, last = max(s.StartPort, o.StartPort), min(s.EndPort, o.EndPort)
	return first, last, first <= last
}

// FromWire reads a TS payload's selectors, skipping types that are not address ranges (RFC 7296 2.9) and selectors that hold nothing; it
// is empty if none is left.
func FromWire(p wire.TS) Set {
	var set Set
	for _, w := range p.Selectors {
		if w.TSType != iana.TS_IPV4_ADDR_RANGE && w.TSType != iana.TS_IPV6_ADDR_RANGE {
			continue
		}
		s := Selector{Start: w.Start, End: w.End, Protocol: w.IPProtocol, StartPort: w.StartPort, EndPort: w.EndPort}
		if s.Valid() {
			set = append(set, s)
		}
	}
	return set
}

// ToWire makes the selectors for a TS payload.
func (s Set) ToWire() []wire.Selector {
	out := make([]wire.Selector, 0, len(s))
	for _, sel := range s {
		t := iana.TS_IPV6_ADDR_RANGE
		if sel.Start.Is4() {
			t = iana.TS_IPV4_ADDR_RANGE
		}
		out = append(out, wire.Selector{
			TSType: t, IPProtocol: sel.Protocol, StartPort: sel.StartPort, EndPort: sel.EndPort,
			Start: sel.Start, End: sel.End,
		})
	}
	return out
}

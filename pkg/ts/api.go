// Package ts is about traffic selectors: parse, print, contain, intersect and narrow (RFC 7296 2.9).
package ts

import (
	"errors"
	"net/netip"

	"github.com/ikegod/ikegod/pkg/wire"
)

var errSkeleton = errors.New("ts: not written yet")

// Selector is an address range with an IP protocol (0 = any) and a port range (0-65535 = any; 65535-0 = OPAQUE, RFC 7296 3.13.1).
// For ICMP the ports hold type and code. Comparable.
type Selector struct {
	Start, End         netip.Addr
	Protocol           uint8
	StartPort, EndPort uint16
}

// Set is a list of selectors; a packet is in the set if it is in one of them.
type Set []Selector

// FromPrefix makes the selector of a whole prefix, any protocol and port.
func FromPrefix(p netip.Prefix) Selector { return Selector{} }

// Parse reads "10.0.0.0/8", "10.0.0.1", "10.0.0.1-10.0.0.9", each with an optional "/proto/port" as in leftsubnet= and leftprotoport=.
func Parse(s string) (Selector, error) { return Selector{}, errSkeleton }

// String prints a prefix where the range is one, a range otherwise, with protocol and ports where they are not any.
func (s Selector) String() string { return "" }

// String joins the selectors with commas.
func (s Set) String() string { return "" }

// ContainsPacket reports whether a packet's address, protocol and port are inside (port 0 for protocols without ports).
func (s Selector) ContainsPacket(a netip.Addr, protocol uint8, port uint16) bool { return false }

// Contains reports whether every packet of o is in s.
func (s Selector) Contains(o Selector) bool { return false }

// Intersect returns what both hold; ok is false when that is nothing.
func (s Selector) Intersect(o Selector) (Selector, bool) { return Selector{}, false }

// Contains reports whether every selector of o is inside one selector of s.
func (s Set) Contains(o Set) bool { return false }

// Intersect returns the pairwise intersections without duplicates and without selectors contained in others.
func (s Set) Intersect(o Set) Set { return nil }

// Equal reports whether both hold the same selectors in any order.
func (s Set) Equal(o Set) bool { return false }

// Prefixes covers the addresses of the set with prefixes, the smallest number that covers them exactly.
func (s Set) Prefixes() []netip.Prefix { return nil }

// Narrow is the responder's choice (RFC 7296 2.9) for one side: the part of offer that allowed allows. When the first selector of
// the offer is the packet that triggered it (a single address or a specific port, followed by a wider one), the result contains it or the
// choice is empty. An empty result means TS_UNACCEPTABLE. narrowing false: offer must be inside allowed as a whole, else empty.
func Narrow(offer, allowed Set, narrowing bool) Set { return nil }

// FromWire reads a TS payload's selectors, skipping types that are not address ranges; it is empty if none is.
func FromWire(p wire.TS) Set { return nil }

// ToWire makes the selectors for a TS payload.
func (s Set) ToWire() []wire.Selector { return nil }

package ts

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/ikegod/ikegod/pkg/wire"
)

// Set is a list of selectors; a packet is in the set if it is in one of them.
type Set []Selector

// String joins the selectors with commas.
func (s Set) String() string {
	words := make([]string, 0, len(s))
	for _, sel := range s {
		words = append(words, sel.String())
	}
	return strings.Join(words, ",")
}

// ContainsPacket reports whether a packet is in one of the selectors.
func (s Set) ContainsPacket(a netip.Addr, protocol uint8, port uint16) bool {
	return slices.ContainsFunc(s, func(sel Selector) bool { return sel.ContainsPacket(a, protocol, port) })
}

// Contains reports whether every selector of o is inside one selector of s.
func (s Set) Contains(o Set) bool {
	for _, sel := range o {
		if !slices.ContainsFunc(s, func(t Selector) bool { return t.Contains(sel) }) {
			return false
		}
	}
	return true
}

// Intersect returns the pairwise intersections without duplicates and without selectors contained in others, in the order of s.
func (s Set) Intersect(o Set) Set { return s.intersect(o, len(s)*len(o)) }

// intersect stops when it has found so many.
func (s Set) intersect(o Set, limit int) Set {
	var out Set
	for _, a := range s {
		for _, b := range o {
			if got, ok := a.Intersect(b); ok {
				if out = out.with(got); len(out) >= limit {
					return out
				}
			}
		}
	}
	return out
}

// with adds a selector, unless it is inside one that is there, in the place of those that are inside it.
func (s Set) with(sel Selector) Set {
	if slices.ContainsFunc(s, func(t Selector) bool { return t.Contains(sel) }) {
		return s
	}
	return append(slices.DeleteFunc(s, func(t Selector) bool { return sel.Contains(t) }), sel)
}

// Equal reports whether both hold the same selectors in any order.
func (s Set) Equal(o Set) bool {
	all := func(s, o Set) bool {
		return !slices.ContainsFunc(s, func(sel Selector) bool { return !slices.Contains(o, sel) })
	}
	return all(s, o) && all(o, s)
}

// Narrow is the responder's choice (RFC 7296 2.9) for one side: the part of offer that allowed allows. When allowed allows the first selector of
// the offer, which is the packet that triggered it if a packet did, the result contains it. An empty result means TS_UNACCEPTABLE.
// narrowing false: every selector of offer must be inside one of allowed, and the offer is returned without what is said twice; else the
// result is empty. IPv6 link-local selectors are never allowed: they name other hosts on each link. It has at most wire.MaxSelectors selectors, as many as an answer can hold, so that hostile offers make neither a long nor a wrong one.
func Narrow(offer, allowed Set, narrowing bool) Set {
	wide := slices.DeleteFunc(slices.Clone(offer), Selector.LinkLocal)
	if !narrowing && (len(wide) < len(offer) || !allowed.Contains(offer)) {
		return nil
	}
	// Everything allowed goes into one SA, so there is no choosing among subsets and the first selector, if allowed, is never lost: it
	// is in the result as it is or inside a wider one.
	return wide.intersect(allowed, wire.MaxSelectors)
}

package ts

import (
	"net/netip"
	"slices"
)

// Prefixes covers the addresses of the set with prefixes, the smallest number that covers them exactly; IPv4 first, then by address.
// Protocols and ports do not count.
func (s Set) Prefixes() []netip.Prefix {
	ranges := make([]Selector, 0, len(s))
	for _, sel := range s {
		if sel.Valid() {
			ranges = append(ranges, sel)
		}
	}
	// netip orders IPv4 before IPv6.
	slices.SortFunc(ranges, func(a, b Selector) int { return a.Start.Compare(b.Start) })
	var out []netip.Prefix
	for i := 0; i < len(ranges); {
		start, end := ranges[i].Start, ranges[i].End
		for i++; i < len(ranges) && ranges[i].Start.BitLen() == start.BitLen(); i++ {
			// The address after the last one of the family is invalid and less than every other.
			if next := end.Next(); next.IsValid() && next.Less(ranges[i].Start) {
				break
			}
			if end.Less(ranges[i].End) {
				end = ranges[i].End
			}
		}
		out = appendRange(out, start, end)
	}
	return out
}

// appendRange splits a range into the largest prefixes from the left.
func appendRange(out []netip.Prefix, start, end netip.Addr) []netip.Prefix {
	for {
		p := netip.PrefixFrom(start, start.BitLen())
		for p.Bits() > 0 {
			wider := netip.PrefixFrom(start, p.Bits()-1)
			if wider.Masked().Addr() != start || end.Less(lastAddr(wider)) {
				break
			}
			p = wider
		}
		out = append(out, p)
		last := lastAddr(p)
		if last == end {
			return out
		}
		start = last.Next()
	}
}

// lastAddr is the highest address of a prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < p.Addr().BitLen(); bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

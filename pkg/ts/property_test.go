package ts_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/ikegod/ikegod/pkg/ts"
)

// The universe of these tests is small enough to look at every packet: 16 addresses in each family, three protocols, the ports 0 to 4, and
// "no port to be seen", which OPAQUE is about. A set of packets is compared with what the selectors say.

const noPort = -1

type packet struct {
	a        netip.Addr
	protocol uint8
	port     int
}

func universe() []packet {
	var out []packet
	for _, base := range []string{"10.0.0.0", "2001:db8::"} {
		a := netip.MustParseAddr(base)
		for range 16 {
			for _, protocol := range []uint8{1, 6, 17} {
				for port := noPort; port <= 4; port++ {
					out = append(out, packet{a, protocol, port})
				}
			}
			a = a.Next()
		}
	}
	return out
}

// holds is the obvious reference.
func holds(s ts.Selector, p packet) bool {
	if s.Start.BitLen() != p.a.BitLen() || p.a.Compare(s.Start) < 0 || p.a.Compare(s.End) > 0 {
		return false
	}
	if s.Protocol != 0 && s.Protocol != p.protocol {
		return false
	}
	if p.port == noPort {
		return s.StartPort == 0 && s.EndPort == 65535 || s.StartPort == 65535 && s.EndPort == 0
	}
	return int(s.StartPort) <= p.port && p.port <= int(s.EndPort)
}

func setHolds(s ts.Set, p packet) bool {
	return slices.ContainsFunc(s, func(sel ts.Selector) bool { return holds(sel, p) })
}

func randomSelector(rnd *rand.Rand) ts.Selector {
	base := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	nth := func(n int, v6 bool) netip.Addr {
		if v6 {
			base[15] = byte(n)
			return netip.AddrFrom16(base)
		}
		return netip.AddrFrom4([4]byte{10, 0, 0, byte(n)})
	}
	v6 := rnd.IntN(2) == 0
	i, j := rnd.IntN(16), rnd.IntN(16)
	s := ts.Selector{Start: nth(min(i, j), v6), End: nth(max(i, j), v6), Protocol: []uint8{0, 0, 1, 6, 17}[rnd.IntN(5)]}
	switch rnd.IntN(4) {
	case 0:
		s.StartPort, s.EndPort = 65535, 0
	case 1:
		p, q := rnd.IntN(5), rnd.IntN(5)
		s.StartPort, s.EndPort = uint16(min(p, q)), uint16(max(p, q))
	default:
		s.EndPort = 65535
	}
	return s
}

func randomSet(rnd *rand.Rand) ts.Set {
	out := make(ts.Set, rnd.IntN(4))
	for i := range out {
		out[i] = randomSelector(rnd)
	}
	return out
}

func TestSelectorsAgainstReference(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 9))
	all := universe()
	for range 5000 {
		a, b := randomSelector(rnd), randomSelector(rnd)
		both, any := a.Intersect(b)
		common, outside := false, false
		for _, p := range all {
			inA, inB := holds(a, p), holds(b, p)
			common = common || inA && inB
			outside = outside || inB && !inA
			if got := any && holds(both, p); got != (inA && inB) {
				t.Fatalf("%v and %v have %v in common, which is wrong for %v", a, b, both, p)
			}
			if p.port == noPort {
				continue
			}
			// Port 0 also stands for "no port to be seen", so OPAQUE holds it.
			want := inA || a.Opaque() && p.port == 0 && holds(a, packet{p.a, p.protocol, noPort})
			if got := a.ContainsPacket(p.a, p.protocol, uint16(p.port)); got != want {
				t.Fatalf("%v contains %v: %t, want %t", a, p, got, want)
			}
		}
		if any != common {
			t.Fatalf("%v and %v have something in common: %t, want %t", a, b, any, common)
		}
		// Ports and protocols outside the universe count too: b with any protocol is not in a with all three of ours.
		if got := a.Contains(b); got && outside {
			t.Fatalf("%v contains %v: %t", a, b, got)
		}
		if !a.Contains(a) || any && (!a.Contains(both) || !b.Contains(both)) {
			t.Fatalf("%v, %v and %v in common: containment is not reflexive or not of the parts", a, b, both)
		}
		if other, ok := b.Intersect(a); ok != any || other != both {
			t.Fatalf("%v and %v: %v one way, %v the other", a, b, both, other)
		}
		if back, err := ts.Parse(a.String()); err == nil && back != a {
			t.Fatalf("%v is read back as %v", a, back)
		}
	}
}

func TestSetsAgainstReference(t *testing.T) {
	rnd := rand.New(rand.NewPCG(72, 96))
	all := universe()
	for range 2000 {
		offer, allowed := randomSet(rnd), randomSet(rnd)
		got := ts.Narrow(offer, allowed, true)
		for _, p := range all {
			if want := setHolds(offer, p) && setHolds(allowed, p); setHolds(got, p) != want {
				t.Fatalf("narrow %v by %v gives %v, wrong for %v (want %t)", offer, allowed, got, p, want)
			}
		}
		for i, s := range got {
			for j, o := range got {
				if i != j && o.Contains(s) {
					t.Fatalf("narrow %v by %v gives %v, where %v is inside %v", offer, allowed, got, s, o)
				}
			}
		}
		if len(offer) > 0 && allowed.Contains(offer[:1]) && !got.Contains(offer[:1]) {
			t.Fatalf("narrow %v by %v gives %v without the first selector", offer, allowed, got)
		}
		if !allowed.Contains(got) || !offer.Contains(got) {
			t.Fatalf("narrow %v by %v gives %v, which is not inside both", offer, allowed, got)
		}
		strict := ts.Narrow(offer, allowed, false)
		if allowed.Contains(offer) {
			for _, p := range all {
				if setHolds(strict, p) != setHolds(offer, p) {
					t.Fatalf("%v inside %v must be taken as a whole, got %v", offer, allowed, strict)
				}
			}
		} else if len(strict) != 0 {
			t.Fatalf("%v not inside %v, got %v without narrowing", offer, allowed, strict)
		}
	}
}

func TestPrefixesAgainstReference(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 13))
	all := universe()
	for range 2000 {
		s := randomSet(rnd)
		got := s.Prefixes()
		for _, p := range all {
			want := slices.ContainsFunc(s, func(sel ts.Selector) bool {
				return sel.Start.BitLen() == p.a.BitLen() && !p.a.Less(sel.Start) && !sel.End.Less(p.a)
			})
			n := 0
			for _, prefix := range got {
				if prefix.Contains(p.a) {
					n++
				}
			}
			if want && n != 1 || !want && n != 0 {
				t.Fatalf("prefixes %v of %v hold %v %d times, want %t", got, s, p.a, n, want)
			}
		}
		// The fewest: two neighbours that make one larger prefix would have been joined.
		for _, p := range got {
			parent := netip.PrefixFrom(p.Addr(), p.Bits()-1).Masked()
			halves := 0
			for _, q := range got {
				if q.Bits() == p.Bits() && parent.Contains(q.Addr()) {
					halves++
				}
			}
			if halves == 2 {
				t.Fatalf("prefixes %v of %v could be fewer", got, s)
			}
		}
	}
}

// TestICMPAgainstReference: the ports of ICMP are type and code, the type in the upper octet (RFC 7296 3.13.1, RFC 4301 4.4.1.1): a single type with one, some or
// all codes, or everything.
func TestICMPAgainstReference(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 92))
	codes := []int{0, 1, 2, 13, 255}
	types := []int{0, 3, 8, 255}
	type icmp struct{ first, last, from, to int } // types and codes
	random := func() (icmp, ts.Selector) {
		k := types[rnd.IntN(len(types))]
		a, b := codes[rnd.IntN(len(codes))], codes[rnd.IntN(len(codes))]
		s := icmp{k, k, min(a, b), max(a, b)}
		switch rnd.IntN(4) {
		case 0:
			s = icmp{0, 255, 0, 255}
		case 1:
			s.from, s.to = 0, 255
		}
		sel := ts.FromAddr(netip.MustParseAddr("10.0.0.1"))
		sel.Protocol, sel.StartPort, sel.EndPort = 1, uint16(s.first<<8|s.from), uint16(s.last<<8|s.to)
		return s, sel
	}
	holds := func(s icmp, k, c int) bool { return s.first <= k && k <= s.last && s.from <= c && c <= s.to }
	for range 2000 {
		a, sa := random()
		b, sb := random()
		both, any := sa.Intersect(sb)
		narrowed := ts.Narrow(ts.Set{sa}, ts.Set{sb}, true)
		inside := true
		for k := range 256 {
			for _, c := range codes {
				inA, inB := holds(a, k, c), holds(b, k, c)
				inside = inside && (inA || !inB)
				port := uint16(k<<8 | c)
				if got := sa.ContainsPacket(sa.Start, 1, port); got != inA {
					t.Fatalf("%v holds type %d code %d: %t", sa, k, c, got)
				}
				if got := any && both.ContainsPacket(sa.Start, 1, port); got != (inA && inB) {
					t.Fatalf("%v and %v: type %d code %d: %t", sa, sb, k, c, got)
				}
				if got := narrowed.ContainsPacket(sa.Start, 1, port); got != (inA && inB) {
					t.Fatalf("%v narrowed by %v: type %d code %d: %t", sa, sb, k, c, got)
				}
			}
		}
		if got := sa.Contains(sb); got != inside {
			t.Fatalf("%v contains %v: %t, want %t", sa, sb, got, inside)
		}
		if back, err := ts.Parse(sa.String()); err != nil || back != sa {
			t.Fatalf("%v is read back as %v: %v", sa, back, err)
		}
	}
}

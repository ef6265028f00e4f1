package ts_test

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/pkg/ts"
)

func TestFirstDifference(t *testing.T) {
	for _, c := range []struct {
		name           string
		allowed, asked []string
		want           string // empty: none
		overlap        bool
	}{
		{"equal", []string{"10.0.0.0/8"}, []string{"10.0.0.0/8"}, "", false},
		{"inside", []string{"10.0.0.0/8"}, []string{"10.1.0.0/16/tcp/80"}, "", false},
		{"wider", []string{"10.1.0.0/16"}, []string{"10.0.0.0/8"}, "10.0.0.0/8 is wider than the allowed 10.1.0.0/16", true},
		{"other", []string{"10.1.0.0/16"}, []string{"10.2.0.0/16"}, "10.2.0.0/16 has no address in common with the allowed 10.1.0.0/16", false},
		{"part", []string{"10.0.0.5-10.0.0.9"}, []string{"10.0.0.1-10.0.0.6"}, "only a part of 10.0.0.1-10.0.0.6 is in the allowed 10.0.0.5-10.0.0.9", true},
		{"family", []string{"10.0.0.0/8"}, []string{"2001:db8::/32"}, "2001:db8::/32 is IPv6, the allowed 10.0.0.0/8 is IPv4", false},
		{"protocol", []string{"10.0.0.0/8/udp"}, []string{"10.0.0.0/8/tcp"}, "10.0.0.0/8/TCP has protocol TCP, the allowed 10.0.0.0/8/UDP has protocol UDP", false},
		{"any-protocol", []string{"10.0.0.0/8/udp"}, []string{"10.0.0.0/8"}, "10.0.0.0/8 has any protocol, the allowed 10.0.0.0/8/UDP has protocol UDP", true},
		{"port", []string{"10.0.0.0/8/tcp/80"}, []string{"10.0.0.0/8/tcp/443"}, "10.0.0.0/8/TCP/443 has port 443, the allowed 10.0.0.0/8/TCP/80 has port 80", false},
		{"ports", []string{"10.0.0.0/8/tcp/80-90"}, []string{"10.0.0.0/8/tcp"}, "10.0.0.0/8/TCP has any port, the allowed 10.0.0.0/8/TCP/80-90 has ports 80-90", true},
		{"second", []string{"10.0.0.0/8"}, []string{"10.1.0.0/16", "192.0.2.0/24"}, "192.0.2.0/24 has no address in common with the allowed 10.0.0.0/8", false},
		{"nearest", []string{"192.0.2.0/24", "10.0.0.0/8/udp", "2001:db8::/32"}, []string{"10.0.0.0/8/tcp"}, "10.0.0.0/8/TCP has protocol TCP, the allowed 10.0.0.0/8/UDP has protocol UDP", false},
		{"nearest-overlaps", []string{"192.0.2.0/24", "10.1.0.0/16"}, []string{"10.0.0.0/8"}, "10.0.0.0/8 is wider than the allowed 10.1.0.0/16", true},
		{"nothing", nil, []string{"10.0.0.0/8"}, "10.0.0.0/8 is asked for, nothing is allowed", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, ok := set(t, strings.Join(c.allowed, " ")).FirstDifference(set(t, strings.Join(c.asked, " ")))
			if ok != (c.want != "") || ok && d.String() != c.want || d.Overlap != c.overlap {
				t.Errorf("%q (overlap %t), want %q (%t)", d, d.Overlap, c.want, c.overlap)
			}
		})
	}
}

// TestFirstDifferenceAgrees: there is a difference exactly when Narrow without narrowing refuses, and no overlap with any means that narrowing finds nothing.
func TestFirstDifferenceAgrees(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7296, 29))
	some := func() ts.Set {
		var s ts.Set
		for range 1 + rnd.IntN(3) {
			a, b := rnd.IntN(6), rnd.IntN(6)
			p, q := rnd.IntN(4), rnd.IntN(4)
			sel := ts.Selector{
				Start: netip.AddrFrom4([4]byte{10, 0, 0, byte(min(a, b))}), End: netip.AddrFrom4([4]byte{10, 0, 0, byte(max(a, b))}),
				Protocol: []uint8{0, 6, 17}[rnd.IntN(3)], StartPort: uint16(min(p, q)), EndPort: uint16(max(p, q)),
			}
			if rnd.IntN(2) == 0 {
				sel.StartPort, sel.EndPort = 0, 65535
			}
			s = append(s, sel)
		}
		return s
	}
	for range 20000 {
		asked, allowed := some(), some()
		d, ok := allowed.FirstDifference(asked)
		if ok == (len(ts.Narrow(asked, allowed, false)) > 0) {
			t.Fatalf("asked %v, allowed %v: difference %v %t", asked, allowed, d, ok)
		}
		if ok && d.String() == "" {
			t.Fatalf("asked %v, allowed %v: no words", asked, allowed)
		}
	}
}

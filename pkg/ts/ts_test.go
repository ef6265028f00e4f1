package ts_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/pkg/wire"
)

func sel(t *testing.T, s string) ts.Selector {
	t.Helper()
	got, err := ts.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// set reads selectors separated by blanks.
func set(t *testing.T, s string) ts.Set {
	t.Helper()
	var out ts.Set
	for w := range strings.FieldsSeq(s) {
		out = append(out, sel(t, w))
	}
	return out
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestParse(t *testing.T) {
	whole := func(from, to string) ts.Selector {
		return ts.Selector{Start: addr(from), End: addr(to), EndPort: 65535}
	}
	with := func(s ts.Selector, protocol uint8, first, last uint16) ts.Selector {
		s.Protocol, s.StartPort, s.EndPort = protocol, first, last
		return s
	}
	net := whole("192.0.2.0", "192.0.2.255")
	host := whole("10.0.0.1", "10.0.0.1")
	for _, c := range []struct {
		in   string
		want ts.Selector
		text string // as printed, when not as read
	}{
		{"192.0.2.0/24", net, ""},
		{"192.0.2.7/24", net, "192.0.2.0/24"},
		{"192.0.2.0/255.255.255.0", net, "192.0.2.0/24"},
		{"0.0.0.0/0", whole("0.0.0.0", "255.255.255.255"), ""},
		{"0.0.0.0/0.0.0.0", whole("0.0.0.0", "255.255.255.255"), "0.0.0.0/0"},
		{"10.0.0.1", host, "10.0.0.1/32"},
		{"10.0.0.1/32", host, ""},
		{"10.0.0.1/255.255.255.255", host, "10.0.0.1/32"},
		{"10.0.0.1-10.0.0.9", whole("10.0.0.1", "10.0.0.9"), ""},
		{"10.0.0.0-10.0.0.255", whole("10.0.0.0", "10.0.0.255"), "10.0.0.0/24"},
		{"2001:db8:0:1::/64", whole("2001:db8:0:1::", "2001:db8:0:1:ffff:ffff:ffff:ffff"), ""},
		{"::/0", whole("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), ""},
		{"192.0.2.0/24/tcp", with(net, 6, 0, 65535), "192.0.2.0/24/TCP"},
		{"192.0.2.0/24/6/443", with(net, 6, 443, 443), "192.0.2.0/24/TCP/443"},
		{"192.0.2.0/24/udp/1000-2000", with(net, 17, 1000, 2000), "192.0.2.0/24/UDP/1000-2000"},
		{"192.0.2.0/24/UDP/%any", with(net, 17, 0, 65535), "192.0.2.0/24/UDP"},
		{"192.0.2.0/24/udp/0", with(net, 17, 0, 65535), "192.0.2.0/24/UDP"},
		{"192.0.2.0/24/udp/0-0", with(net, 17, 0, 0), "192.0.2.0/24/UDP/0-0"},
		{"192.0.2.0/24/tcp/opaque", with(net, 6, 65535, 0), "192.0.2.0/24/TCP/OPAQUE"},
		{"192.0.2.0/24/icmp/2048", with(net, 1, 2048, 2048), "192.0.2.0/24/ICMP/2048"},
		{"192.0.2.0/24/gre", with(net, 47, 0, 65535), "192.0.2.0/24/GRE"},
		{"192.0.2.0/24/199", with(net, 199, 0, 65535), ""},
		{"192.0.2.0/24/%any/0", net, "192.0.2.0/24"},
		{"10.0.0.1/tcp/22", with(host, 6, 22, 22), "10.0.0.1/32/TCP/22"},
		{"10.0.0.1-10.0.0.9/tcp/22", with(whole("10.0.0.1", "10.0.0.9"), 6, 22, 22), "10.0.0.1-10.0.0.9/TCP/22"},
		{"2001:db8::/32/ipv6-icmp/32768", with(whole("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"), 58, 32768, 32768), "2001:db8::/32/ICMPv6/32768"},
	} {
		got, err := ts.Parse(c.in)
		if err != nil || got != c.want {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", c.in, got, err, c.want)
			continue
		}
		want := c.text
		if want == "" {
			want = c.in
		}
		if got.String() != want {
			t.Errorf("Parse(%q) prints %q, want %q", c.in, got, want)
		}
		if back, err := ts.Parse(got.String()); err != nil || back != got {
			t.Errorf("%q is read back as %v, %v", got, back, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ in, why string }{
		{"", "not an address"},
		{"west", "not an address"},
		{"10.0.0.0/", "neither a protocol"},
		{"10.0.0.0/33", "prefix length"},
		{"10.0.0.0/-1", "prefix length"},
		{"2001:db8::/129", "prefix length"},
		{"2001:db8::/255.255.0.0", "prefix length"},
		{"10.0.0.0/255.0.255.0", "hole"},
		{"10.0.0.9-10.0.0.1", "go up"},
		{"10.0.0.1-2001:db8::1", "one address family"},
		{"10.0.0.1-", "not an address"},
		{"fe80::1%eth0/64", "zone"},
		{"10.0.0.0/8/foo", "neither a protocol"},
		{"10.0.0.0/8/256", "neither a protocol"},
		{"10.0.0.0/8/tcp/65536", "not a port"},
		{"10.0.0.0/8/tcp/http", "not a port"},
		{"10.0.0.0/8/tcp/9-1", "not a port"},
		{"10.0.0.0/8/tcp/", "not a port"},
		{"10.0.0.0/8/esp/80", "has no ports"},
		{"10.0.0.0/8/0/80", "has no ports"},
		{"10.0.0.0/8/tcp/80/90", "not a port"},
	} {
		got, err := ts.Parse(c.in)
		if err == nil || !strings.Contains(err.Error(), c.why) || got != (ts.Selector{}) {
			t.Errorf("Parse(%q) = %v, %v, want an error with %q", c.in, got, err, c.why)
		}
	}
}

func TestParseProtoPort(t *testing.T) {
	for in, want := range map[string][3]int{
		"%any": {0, 0, 65535}, "any": {0, 0, 65535}, "0": {0, 0, 65535}, "tcp": {6, 0, 65535}, "6": {6, 0, 65535},
		"17/1701": {17, 1701, 1701}, "udp/%any": {17, 0, 65535}, "tcp/1000-2000": {6, 1000, 2000}, "icmp/2048": {1, 2048, 2048},
		"TCP/%opaque": {6, 65535, 0}, "50": {50, 0, 65535}, "%any/%any": {0, 0, 65535},
	} {
		p, first, last, err := ts.ParseProtoPort(in)
		if got := [3]int{int(p), int(first), int(last)}; err != nil || got != want {
			t.Errorf("ParseProtoPort(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
}

func TestSetString(t *testing.T) {
	if got, want := set(t, "10.0.0.0/8 192.0.2.1/32/tcp/80").String(), "10.0.0.0/8,192.0.2.1/32/TCP/80"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := (ts.Selector{}).String(); got != "nothing" {
		t.Errorf("the zero selector prints %q", got)
	}
}

func TestOpaque(t *testing.T) {
	all, some, none := sel(t, "10.0.0.0/8/udp"), sel(t, "10.0.0.0/8/udp/0-4500"), sel(t, "10.0.0.0/8/udp/opaque")
	if !all.Contains(none) || none.Contains(all) {
		t.Error("ANY includes OPAQUE (RFC 4301 4.4.1.1), and not the other way round")
	}
	if _, ok := some.Intersect(none); ok {
		t.Error("a range of ports and OPAQUE have nothing in common")
	}
	if got, ok := none.Intersect(all); !ok || got != none {
		t.Errorf("OPAQUE and ANY have %v in common", got)
	}
	if !none.ContainsPacket(addr("10.0.0.1"), 17, 0) || none.ContainsPacket(addr("10.0.0.1"), 17, 53) {
		t.Error("OPAQUE holds packets without a visible port, and no others")
	}
}

func TestInvalidHoldsNothing(t *testing.T) {
	good := sel(t, "10.0.0.0/8")
	for name, bad := range map[string]ts.Selector{
		"zero":     {},
		"backward": {Start: addr("10.0.0.2"), End: addr("10.0.0.1"), EndPort: 65535},
		"families": {Start: addr("10.0.0.2"), End: addr("2001:db8::"), EndPort: 65535},
		"ports":    {Start: addr("10.0.0.1"), End: addr("10.0.0.1"), StartPort: 2, EndPort: 1},
	} {
		t.Run(name, func(t *testing.T) {
			if _, ok := good.Intersect(bad); ok || good.Contains(bad) || bad.Contains(good) || bad.Contains(bad) {
				t.Error("it has something in common with a good one")
			}
			if bad.ContainsPacket(addr("10.0.0.1"), 0, 0) {
				t.Error("it holds a packet")
			}
			if got := (ts.Set{bad}).Prefixes(); len(got) != 0 {
				t.Errorf("it has prefixes %v", got)
			}
		})
	}
}

// TestNarrow follows the cases of RFC 7296 2.9.
func TestNarrow(t *testing.T) {
	for _, c := range []struct {
		name, offer, allowed string
		narrowing            bool
		want                 string
	}{
		{"all-allowed", "198.51.100.0/24", "198.51.100.0/24", true, "198.51.100.0/24"},
		{"all-allowed-wider-policy", "198.51.100.0/24", "198.51.0.0/16", false, "198.51.100.0/24"},
		{"nothing", "198.51.100.0/24", "192.0.2.0/24", true, ""},
		{"part", "0.0.0.0/0", "192.0.2.0/24", true, "192.0.2.0/24"},
		{"part-but-not-narrowing", "0.0.0.0/0", "192.0.2.0/24", false, ""},
		{"overlap", "10.0.0.0-10.0.0.99", "10.0.0.50-10.0.0.200", true, "10.0.0.50-10.0.0.99"},
		{"first-is-packet", "198.51.100.43/32/tcp/5000 198.51.100.0/24", "198.51.100.0/24", true, "198.51.100.0/24"},
		{"first-is-packet-no-narrowing", "198.51.100.43/32/tcp/5000 198.51.100.0/24", "198.51.100.0/24", false, "198.51.100.0/24"},
		{"first-is-packet-narrowed-around", "198.51.100.43/32/tcp/5000 0.0.0.0/0", "198.51.100.0/24", true, "198.51.100.0/24"},
		{"first-is-packet-policy-of-protocol", "198.51.100.43/32/tcp/5000 198.51.100.0/24", "198.51.100.0/24/tcp", true, "198.51.100.0/24/tcp"},
		{"first-not-allowed", "198.51.100.43/32 198.51.0.0/16", "198.51.7.0/24", true, "198.51.7.0/24"},
		{"several", "10.1.0.0/16 10.2.0.0/16", "10.2.5.0/24 10.1.5.0/24", true, "10.1.5.0/24 10.2.5.0/24"},
		{"one-of-several", "10.1.0.0/16 10.2.0.0/16", "10.2.0.0/16", true, "10.2.0.0/16"},
		{"one-of-several-no-narrowing", "10.1.0.0/16 10.2.0.0/16", "10.2.0.0/16", false, ""},
		{"families", "10.1.0.0/16 2001:db8::/32", "0.0.0.0/0 2001:db8:1::/48", true, "10.1.0.0/16 2001:db8:1::/48"},
		{"ports", "10.0.0.1/32/tcp", "10.0.0.0/8/tcp/443", true, "10.0.0.1/32/tcp/443"},
		{"ports-not-narrowing", "10.0.0.1/32/tcp", "10.0.0.0/8/tcp/443", false, ""},
		{"icmp-type-and-code", "10.0.0.1/32/icmp", "10.0.0.0/8/icmp/2048-2303", true, "10.0.0.1/32/icmp/2048-2303"},
		{"protocol", "10.0.0.1/32/udp", "10.0.0.0/8/tcp", true, ""},
		{"empty-offer", "", "10.0.0.0/8", true, ""},
		{"empty-offer-no-narrowing", "", "10.0.0.0/8", false, ""},
		{"link-local", "fe80::/64", "::/0", true, ""},
		{"link-local-no-narrowing", "2001:db8::/32 fe80::1/128", "::/0", false, ""},
		{"link-local-among-others", "2001:db8::/32 fe80::1/128", "::/0", true, "2001:db8::/32"},
		{"everything-is-not-link-local", "::/0", "::/0", false, "::/0"},
		{"nothing-allowed", "10.0.0.0/8", "", true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ts.Narrow(set(t, c.offer), set(t, c.allowed), c.narrowing)
			if !got.Equal(set(t, c.want)) || len(got) != len(set(t, c.want)) {
				t.Errorf("narrow %s by %s gives %v, want %s", c.offer, c.allowed, got, c.want)
			}
		})
	}
}

func TestEqual(t *testing.T) {
	a, b := set(t, "10.0.0.0/8 192.0.2.0/24"), set(t, "192.0.2.0/24 10.0.0.0/8")
	if !a.Equal(b) || !b.Equal(a) {
		t.Error("the order counts")
	}
	if a.Equal(a[:1]) || a[:1].Equal(a) || a.Equal(nil) || !ts.Set(nil).Equal(nil) {
		t.Error("sets of different selectors are equal")
	}
}

func TestPrefixes(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"10.0.0.0/8", "10.0.0.0/8"},
		{"10.0.0.0/9 10.128.0.0/9", "10.0.0.0/8"},
		{"10.0.0.1-10.0.0.6", "10.0.0.1/32 10.0.0.2/31 10.0.0.4/31 10.0.0.6/32"},
		{"10.0.0.0/24/tcp/80 10.0.0.0/25/udp", "10.0.0.0/24"},
		{"0.0.0.0/0 10.0.0.0/8", "0.0.0.0/0"},
		{"255.255.255.255/32 0.0.0.0/32", "0.0.0.0/32 255.255.255.255/32"},
		{"::/0 0.0.0.0/0", "0.0.0.0/0 ::/0"},
		{"2001:db8::-2001:db8::2 10.0.0.7/32", "10.0.0.7/32 2001:db8::/127 2001:db8::2/128"},
		{"0.0.0.0/1 128.0.0.0-255.255.255.254", "0.0.0.0/1 128.0.0.0/2 192.0.0.0/3 224.0.0.0/4 240.0.0.0/5 248.0.0.0/6 252.0.0.0/7 254.0.0.0/8 255.0.0.0/9 255.128.0.0/10 255.192.0.0/11 255.224.0.0/12 255.240.0.0/13 255.248.0.0/14 255.252.0.0/15 255.254.0.0/16 255.255.0.0/17 255.255.128.0/18 255.255.192.0/19 255.255.224.0/20 255.255.240.0/21 255.255.248.0/22 255.255.252.0/23 255.255.254.0/24 255.255.255.0/25 255.255.255.128/26 255.255.255.192/27 255.255.255.224/28 255.255.255.240/29 255.255.255.248/30 255.255.255.252/31 255.255.255.254/32"},
	} {
		var words []string
		for _, p := range set(t, c.in).Prefixes() {
			words = append(words, p.String())
		}
		if got := strings.Join(words, " "); got != c.want {
			t.Errorf("prefixes of %s are %s, want %s", c.in, got, c.want)
		}
	}
}

func TestWire(t *testing.T) {
	s := set(t, "192.0.2.0/24 2001:db8::/32/tcp/443 10.0.0.1/32/udp/opaque")
	w := s.ToWire()
	want := []wire.Selector{
		{TSType: iana.TS_IPV4_ADDR_RANGE, EndPort: 65535, Start: addr("192.0.2.0"), End: addr("192.0.2.255")},
		{
			TSType: iana.TS_IPV6_ADDR_RANGE, IPProtocol: 6, StartPort: 443, EndPort: 443,
			Start: addr("2001:db8::"), End: addr("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
		},
		{TSType: iana.TS_IPV4_ADDR_RANGE, IPProtocol: 17, StartPort: 65535, Start: addr("10.0.0.1"), End: addr("10.0.0.1")},
	}
	if diff := cmp.Diff(want, w, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	w = append(w,
		wire.Selector{TSType: iana.TS_SECLABEL, Raw: []byte("label")},
		wire.Selector{TSType: iana.TS_IPV4_ADDR_RANGE, EndPort: 65535, Start: addr("10.0.0.2"), End: addr("10.0.0.1")})
	got := ts.FromWire(wire.TS{Payload: iana.PayloadTSi, Selectors: w})
	if diff := cmp.Diff(s, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("an unknown type and a backward range must be skipped:\n%s", diff)
	}
	if got := ts.FromWire(wire.TS{Selectors: w[3:]}); len(got) != 0 {
		t.Errorf("nothing known is left as %v", got)
	}
}

func TestFromPrefix(t *testing.T) {
	if got := ts.FromPrefix(netip.MustParsePrefix("10.1.2.3/8")); got != sel(t, "10.0.0.0/8") {
		t.Errorf("got %v", got)
	}
	if got := ts.FromPrefix(netip.Prefix{}); got.Valid() {
		t.Errorf("the zero prefix gives %v", got)
	}
	if got := ts.FromAddr(addr("10.1.2.3")); got != sel(t, "10.1.2.3") {
		t.Errorf("got %v", got)
	}
}

// TestNarrowFitsIntoAPayload: a peer that offers 255 selectors cannot make an answer of more, whose count would not fit its octet (RFC 7296 3.13), nor one
// that takes long to find.
func TestNarrowFitsIntoAPayload(t *testing.T) {
	var offer, allowed ts.Set
	for i := range wire.MaxSelectors {
		offer = append(offer, ts.FromAddr(netip.AddrFrom4([4]byte{10, 0, byte(i), 1})))
	}
	for i := range 100 {
		allowed = append(allowed, ts.Selector{Start: netip.MustParseAddr("10.0.0.0"), End: netip.MustParseAddr("10.255.255.255"), Protocol: 17, StartPort: uint16(2 * i), EndPort: uint16(2 * i)})
	}
	got := ts.Narrow(offer, allowed, true)
	if len(got) != wire.MaxSelectors || got[0].Start != offer[0].Start || !allowed.Contains(got) || !offer.Contains(got) {
		t.Fatalf("%d selectors: %v...", len(got), got[:min(len(got), 3)])
	}
	p := wire.TS{Payload: iana.PayloadTSi, Selectors: got.ToWire()}
	if _, err := wire.ParseChain(iana.PayloadTSi, wire.AppendChain(nil, []wire.Item{{Payload: p}}), 0); err != nil {
		t.Fatal(err)
	}
	// What is said many times, and once more in a wider selector, is one selector.
	offer = append(offer[:0:0], offer[0])
	for range wire.MaxSelectors - 2 {
		offer = append(offer, offer[0])
	}
	offer = append(offer, ts.FromPrefix(netip.MustParsePrefix("10.0.0.0/8")))
	if got := ts.Narrow(offer, ts.Set{ts.FromPrefix(netip.MustParsePrefix("10.0.0.0/8"))}, true); len(got) != 1 || !got.Contains(offer) {
		t.Fatalf("%v", got)
	}
}

func BenchmarkNarrowHostile(b *testing.B) {
	var offer, allowed ts.Set
	for i := range wire.MaxSelectors {
		offer = append(offer, ts.FromAddr(netip.AddrFrom4([4]byte{10, 0, byte(i), 1})))
	}
	for i := range 10 {
		allowed = append(allowed, ts.Selector{Start: netip.MustParseAddr("10.0.0.0"), End: netip.MustParseAddr("10.255.255.255"), Protocol: 17, StartPort: uint16(2 * i), EndPort: uint16(2 * i)})
	}
	for b.Loop() {
		ts.Narrow(offer, allowed, true)
	}
}

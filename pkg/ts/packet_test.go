package ts_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/testing/subnets"
)

func TestPacketSelectors(t *testing.T) {
	for _, tc := range []struct {
		src, dst string
		protocol uint8
		want     string // both selectors; empty: none
	}{
		{"192.0.1.1:33000", "192.0.2.1:443", 6, "192.0.1.1/32/TCP/33000 192.0.2.1/32/TCP/443"},
		{"192.0.1.1:0", "192.0.2.1:443", 6, "192.0.1.1/32/TCP 192.0.2.1/32/TCP/443"}, // connect, before it has its port
		{"[2001:db8::1]:5000", "[2001:db8::2]:53", 17, "2001:db8::1/128/UDP/5000 2001:db8::2/128/UDP/53"},
		{"192.0.1.1:2048", "192.0.2.1:2048", 1, "192.0.1.1/32/ICMP/2048 192.0.2.1/32/ICMP/2048"},                // echo request
		{"[2001:db8::1]:32768", "[2001:db8::2]:32768", 58, "2001:db8::1/128/58/32768 2001:db8::2/128/58/32768"}, // the same over IPv6
		{"192.0.1.1:7", "192.0.2.1:9", 47, "192.0.1.1/32/GRE 192.0.2.1/32/GRE"},                                 // what the kernel has in the place of ports is a key
		{"192.0.1.1:0", "192.0.2.1:0", 0, "192.0.1.1/32 192.0.2.1/32"},
		{"[::ffff:192.0.1.1]:1", "192.0.2.1:2", 17, "192.0.1.1/32/UDP/1 192.0.2.1/32/UDP/2"},
		{"0.0.0.0:1", "192.0.2.1:2", 17, ""},
		{"192.0.1.1:1", "[2001:db8::2]:2", 17, ""},
		{"[fe80::1%eth0]:1", "[2001:db8::2]:2", 17, ""},
		{"", "192.0.2.1:2", 17, ""},
		{"", "", 0, ""},
	} {
		p := ts.Packet{Protocol: tc.protocol}
		if tc.src != "" {
			p.Src = netip.MustParseAddrPort(tc.src)
		}
		if tc.dst != "" {
			p.Dst = netip.MustParseAddrPort(tc.dst)
		}
		src, dst, ok := p.Selectors()
		if !ok {
			if tc.want != "" {
				t.Errorf("%v: none, want %s", p, tc.want)
			}
			continue
		}
		var want []ts.Selector
		for word := range strings.FieldsSeq(tc.want) {
			s, err := ts.Parse(word)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, s)
		}
		if len(want) != 2 || src != want[0] || dst != want[1] {
			t.Errorf("%v: %v and %v, want %q", p, src, dst, tc.want)
		}
	}
}

// TestPacketFirstAgainstReference: a packet's selector before others changes nothing of what a responder that takes all which it allows answers, and nothing of what
// is taken or refused as a whole; and if it allows the packet, the answer holds it (RFC 7296 2.9).
func TestPacketFirstAgainstReference(t *testing.T) {
	rnd := rand.New(rand.NewPCG(29, 9))
	all := universe()
	met := 0
	for range 100000 {
		asked, allowed := randomSet(rnd), randomSet(rnd)
		p := all[rnd.IntN(len(all))]
		if p.port == noPort || !setHolds(asked, p) {
			continue
		}
		packet := ts.Selector{Start: p.a, End: p.a, Protocol: p.protocol, StartPort: uint16(p.port), EndPort: uint16(p.port)}
		offer := asked.First(packet)
		if offer[0] != packet || !offer[1:].Contains(slices.DeleteFunc(slices.Clone(asked), func(s ts.Selector) bool { return s == packet })) {
			t.Fatalf("%v before %v is %v", packet, asked, offer)
		}
		got, plain := ts.Narrow(offer, allowed, true), ts.Narrow(asked, allowed, true)
		if !got.Equal(plain) {
			t.Fatalf("%v narrowed by %v is %v, and with %v before it %v", asked, allowed, plain, packet, got)
		}
		if setHolds(allowed, p) {
			met++
			if !setHolds(got, p) {
				t.Fatalf("narrow %v by %v gives %v, without the packet", offer, allowed, got)
			}
		}
		if strict, plain := ts.Narrow(offer, allowed, false), ts.Narrow(asked, allowed, false); !strict.Equal(plain) {
			t.Fatalf("%v within %v is %v, and with %v before it %v", asked, allowed, plain, packet, strict)
		}
		// A responder may repeat it beside what it is a part of.
		if len(got) > 0 && setHolds(got, p) {
			if back := got.First(packet).WithoutFirst(packet, asked); !back.Equal(got) {
				t.Fatalf("%v is left of %v and %v", back, packet, got)
			}
		}
	}
	if met < 500 {
		t.Errorf("only %d of the offers allowed the packet", met)
	}
}

func TestCut(t *testing.T) {
	packet := func(protocol uint8, sport, dport uint16) ts.Packet {
		return ts.Packet{Src: netip.AddrPortFrom(netip.MustParseAddr("10.1.0.1"), sport), Dst: netip.AddrPortFrom(netip.MustParseAddr("10.9.0.1"), dport), Protocol: protocol}
	}
	tcp, ping, syn := packet(6, 40000, 443), packet(1, 8<<8, 8<<8), packet(6, 0, 443)
	const here, there, host, peer = "10.1.0.0/16", "10.9.0.0/16", "10.1.0.1/32", "10.9.0.1/32"
	for _, tc := range []struct {
		packet                  ts.Packet
		local, remote           string // the answer
		askedLocal, askedRemote string
		want                    bool
	}{
		{tcp, here, there, here, there, false},
		{tcp, here, "10.9.0.0/24", here, there, false},
		{tcp, host + "/tcp/40000", peer + "/tcp/443", here, there, true},
		{tcp, host, peer, here, there, true},
		{tcp, host, there, here, there, false},
		{tcp, here, peer, here, there, false},
		{tcp, here + "/tcp", there + "/tcp", here, there, false},
		{tcp, here + "/tcp", there + "/tcp/443", here, there, false},
		{tcp, here + "/tcp/40000", there + "/tcp", here, there, true},
		{tcp, here + "/tcp/40000", there + "/tcp", here + "/tcp/40000", there + "/tcp", false},
		{tcp, host, peer, host, peer, false},
		{tcp, host + "/tcp", peer + "/tcp/443", host, peer, false},
		{tcp, host + "/tcp/40000", peer + "/tcp/443", host, peer, true},
		{tcp, host, peer, host, there, true},
		{syn, here + "/tcp", there + "/tcp/443", here, there, false},
		{syn, host + "/tcp", peer + "/tcp/443", here, there, true},
		{ping, host + "/icmp/2048", peer + "/icmp/2048", here, there, true},
		{ping, here + "/icmp", there + "/icmp", here, there, false},
		{ts.Packet{}, host, peer, here, there, false},
	} {
		if got := tc.packet.Cut(subnets.Of(tc.local), subnets.Of(tc.remote), subnets.Of(tc.askedLocal), subnets.Of(tc.askedRemote)); got != tc.want {
			t.Errorf("%s===%s as the answer to %s===%s with %v before it: cut to that %t", tc.local, tc.remote, tc.askedLocal, tc.askedRemote, tc.packet, got)
		}
	}
	if tcp.Cut(append(subnets.Of("10.1.2.0/24"), subnets.Of(host)...), subnets.Of(peer), subnets.Of(here), subnets.Of(there)) {
		t.Error("an answer with more than the packet")
	}
	if tcp.Cut(nil, nil, subnets.Of(here), subnets.Of(there)) {
		t.Error("no answer")
	}
}

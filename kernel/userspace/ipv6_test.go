package userspace

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ts"
)

// between6 is an IPv6 packet from one inner network to the other.
func between6(next byte, body []byte) []byte {
	return ip6("2001:db8:0:1::7", "2001:db8:0:2::9", next, body)
}

func udpHeader(n int) []byte {
	u := make([]byte, 8+n)
	binary.BigEndian.PutUint16(u, 1000)
	binary.BigEndian.PutUint16(u[2:], 2000)
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	return u
}

// TestExtensionHeaders finds ports behind extension headers (RFC 8200 4), and refuses chains that are cut short.
func TestExtensionHeaders(t *testing.T) {
	options := func(next byte) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }
	fragment := func(next byte, offset uint16) []byte {
		return []byte{next, 0, byte(offset >> 8), byte(offset), 0, 0, 0, 1}
	}
	u := udpHeader(4)
	join := func(parts ...[]byte) (out []byte) {
		for _, p := range parts {
			out = append(out, p...)
		}
		return out
	}
	for _, tc := range []struct {
		name  string
		b     []byte
		ok    bool
		port  uint16
		later bool
		proto uint8
	}{
		{"none", between6(protoUDP, u), true, 2000, false, protoUDP},
		{"hop-by-hop-destination-routing", between6(0, join(options(60), options(43), options(protoUDP), u)), true, 2000, false, protoUDP},
		{"first-fragment", between6(44, join(fragment(protoUDP, 1), u)), true, 2000, false, protoUDP},
		{"later-fragment", between6(44, join(fragment(protoUDP, 8), u)), true, 0, true, protoUDP},
		{"no-next-header", between6(59, nil), true, 0, false, 59},
		{"cut-options", between6(0, []byte{protoUDP, 9, 0, 0, 0, 0, 0, 0}), false, 0, false, 0},
		{"cut-fragment-header", between6(44, []byte{protoUDP, 0, 0}), false, 0, false, 0},
		{"cut-transport", between6(protoUDP, u[:5]), false, 0, false, 0},
		{"longer-than-it-is", between6(protoUDP, u)[:44], false, 0, false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, f, ok := parse(tc.b)
			if ok != tc.ok || ok && (f.dport != tc.port || f.later != tc.later || f.protocol != tc.proto) {
				t.Errorf("ok %v, flow %+v", ok, f)
			}
		})
	}
}

// TestIPv6NeedsNoLessThan1280: below that the sealed packet is for the kernel to fragment (RFC 2473 7.1), alone in its send; nobody is told a smaller MTU.
func TestIPv6NeedsNoLessThan1280(t *testing.T) {
	west := newEnd(t, Config{}, &fakeHost{mtu: 1300})
	local, remote := ts.Set{ts.FromPrefix(netip.MustParsePrefix("2001:db8:0:1::/64"))}, ts.Set{ts.FromPrefix(netip.MustParsePrefix("2001:db8:0:2::/64"))}
	west.Route(1, kernel.Policy{ID: "c", Local: local, Remote: remote})
	west.Install(2, pairOf("c", gcm256, 1, true, local, remote, westUDP))
	west.must()
	small, large, tooLarge := between6(protoUDP, udpHeader(100)), between6(protoUDP, udpHeader(1280-48)), between6(protoUDP, udpHeader(1281-48))
	sent := west.out(frame(large), frame(small), frame(small), frame(large), frame(large))
	var alone []int
	for _, s := range sent {
		alone = append(alone, len(s.packets))
	}
	if len(sent) != 4 || alone[0] != 1 || alone[1] != 2 || alone[2] != 1 || alone[3] != 1 {
		t.Errorf("packets in each send: %v", alone)
	}
	if got := west.q.taken(); len(got) != 0 {
		t.Errorf("told the sender: %x", got)
	}
	if sent := west.out(frame(tooLarge)); len(sent) != 0 {
		t.Error("1281 octets were sent")
	}
	got := west.q.taken()
	if len(got) != 1 {
		t.Fatalf("%d frames to the TUN, want one ICMPv6", len(got))
	}
	icmp := got[0][vnetLen+40:]
	if mtu := binary.BigEndian.Uint32(icmp[4:]); icmp[0] != 2 || mtu != 1280 {
		t.Errorf("type %d, MTU %d; want packet too big with 1280 (RFC 8200 5)", icmp[0], mtu)
	}
}

package hostnet

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/testing/netns"
)

// fragment makes one of a UDP datagram, the first of which has the ports.
func fragment(src, dst string, at uint16, more bool) []byte {
	return fragmentOf(unix.IPPROTO_UDP, src, dst, at, more)
}

func fragmentOf(protocol byte, src, dst string, at uint16, more bool) []byte {
	b := make([]byte, 20+64)
	b[0], b[8], b[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[4:], 7)
	if more {
		at |= 0x2000
	}
	binary.BigEndian.PutUint16(b[6:], at)
	copy(b[12:], netip.MustParseAddr(src).AsSlice())
	copy(b[16:], netip.MustParseAddr(dst).AsSlice())
	binary.BigEndian.PutUint16(b[20:], 4000)
	binary.BigEndian.PutUint16(b[22:], 5000)
	binary.BigEndian.PutUint16(b[24:], 1008)
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum>>16+sum))
	return b
}

// arrive puts an IP packet on the wire to eth0.
func arrive(t *testing.T, packet []byte) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	wire, err := net.InterfaceByName("wire")
	if err != nil {
		t.Fatal(err)
	}
	eth0, err := net.InterfaceByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	frame := append(append(append([]byte{}, eth0.HardwareAddr...), wire.HardwareAddr...), 8, 0)
	if err := unix.Sendto(fd, append(frame, packet...), 0, &unix.SockaddrLinklayer{Ifindex: wire.Index}); err != nil {
		t.Fatal(err)
	}
}

// TestFragmentsHidePorts: what a policy for single ports may have to protect is not forwarded in clear because it came in fragments, which show none to the rules.
func TestFragmentsHidePorts(t *testing.T) {
	namespace(t)
	n := open(t, Settings{})
	sh(t, "ip neigh add 192.1.2.254 lladdr 02:00:00:00:00:01 dev eth0 nud permanent")
	route(t, n, "one", set(t, "192.0.1.0/24/udp"), set(t, "192.0.2.0/24/udp/5000"), 1400)
	sh(t, "nft add table ip saw")
	sh(t, "nft add chain ip saw out { type filter hook postrouting priority 0 ; }")
	sh(t, "nft add rule ip saw out oifname eth0 ip saddr 192.0.1.77 ip daddr 192.0.2.1 counter")
	sh(t, "nft add rule ip saw out oifname eth0 ip saddr 192.0.1.77 ip daddr 198.51.100.1 counter")
	forwarded := func(to string) string {
		_, after, _ := strings.Cut(sh(t, "nft list chain ip saw out"), to+" counter packets ")
		return strings.Fields(after)[0]
	}
	arrive(t, fragment("192.0.1.77", "192.0.2.1", 0, false))
	arrive(t, fragment("192.0.1.77", "192.0.2.1", 0, true))
	arrive(t, fragment("192.0.1.77", "192.0.2.1", 8, true))
	arrive(t, fragment("192.0.1.77", "192.0.2.1", 16, false))
	arrive(t, fragment("192.0.1.77", "198.51.100.1", 8, false))
	if !netns.Poll(2*time.Second, func() bool { return forwarded("198.51.100.1") == "1" }) {
		t.Error("what no policy is for is not forwarded")
	}
	if n := forwarded("192.0.2.1"); n != "0" {
		t.Errorf("%s packets were forwarded in clear", n)
	}
}

// TestFragmentsInClear: of what claims a protected source only fragments of what our sockets wait for come in, and never a first one.
func TestFragmentsInClear(t *testing.T) {
	namespace(t)
	n := open(t, Settings{})
	if n.guard == nil {
		need(t, "nft")
	}
	route(t, n, "one", set(t, "192.1.2.45/32", "192.0.1.0/24"), set(t, "192.1.2.23/32"), 1400)
	for _, tc := range []struct {
		what    string
		packet  []byte
		dropped uint64
	}{
		{"a first of UDP", fragment("192.1.2.23", "192.1.2.45", 0, true), 1},
		{"a later of UDP", fragment("192.1.2.23", "192.1.2.45", 8, true), 0},
		{"a later of UDP for others", fragment("192.1.2.23", "192.0.1.77", 8, true), 1},
		{"a first of ESP", fragmentOf(unix.IPPROTO_ESP, "192.1.2.23", "192.1.2.45", 0, true), 0},
		{"a later of ESP", fragmentOf(unix.IPPROTO_ESP, "192.1.2.23", "192.1.2.45", 8, true), 0},
		{"a later of ICMP", fragmentOf(unix.IPPROTO_ICMP, "192.1.2.23", "192.1.2.45", 8, true), 1},
		{"a later of TCP", fragmentOf(unix.IPPROTO_TCP, "192.1.2.23", "192.1.2.45", 8, false), 1},
	} {
		before := dropped(t, n)
		arrive(t, tc.packet)
		if !netns.Poll(2*time.Second, func() bool { return dropped(t, n)-before >= tc.dropped }) || dropped(t, n)-before != tc.dropped {
			t.Errorf("%s: %d dropped, want %d", tc.what, dropped(t, n)-before, tc.dropped)
		}
	}
}

func dropped(t *testing.T, n *Net) uint64 {
	t.Helper()
	d, err := n.guard.dropped()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

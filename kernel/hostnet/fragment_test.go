package hostnet

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/subnets"
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

// fragment6 makes an IPv6 packet with a fragment header; chain is the headers behind it, the last of which is made to be UDP.
func fragment6(src, dst string, at uint16, more bool, chain ...byte) []byte {
	b := make([]byte, 40, 40+64)
	b[0], b[6], b[7] = 0x60, unix.IPPROTO_FRAGMENT, 64
	copy(b[8:], netip.MustParseAddr(src).AsSlice())
	copy(b[24:], netip.MustParseAddr(dst).AsSlice())
	offset := at << 3
	if more {
		offset |= 1
	}
	b = binary.BigEndian.AppendUint32(append(b, chain[0], 0, byte(offset>>8), byte(offset)), 7)
	for _, next := range chain[1:] {
		b = append(b, next, 0, 1, 4, 0, 0, 0, 0) // destination options that are padding
	}
	b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, 4000), 5000)
	b = append(b, make([]byte, 28)...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
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
	kind := uint16(unix.ETH_P_IP)
	if packet[0]>>4 == 6 {
		kind = unix.ETH_P_IPV6
	}
	frame := binary.BigEndian.AppendUint16(append(append([]byte{}, eth0.HardwareAddr...), wire.HardwareAddr...), kind)
	if err := unix.Sendto(fd, append(frame, packet...), 0, &unix.SockaddrLinklayer{Ifindex: wire.Index}); err != nil {
		t.Fatal(err)
	}
}

// TestFragmentsHidePorts: what a policy for single ports may have to protect is not forwarded in clear because it came in fragments, which show none to the rules.
func TestFragmentsHidePorts(t *testing.T) {
	namespace(t)
	n := open(t, Settings{})
	sh(t, "ip neigh add 192.1.2.254 lladdr 02:00:00:00:00:01 dev eth0 nud permanent")
	route(t, n, "one", subnets.Of("192.0.1.0/24/udp"), subnets.Of("192.0.2.0/24/udp/5000"), 1400)
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

// TestIPv6FragmentsHideProtocols: in IPv6 the protocol hides as well, behind options in the fragments, and the ports even in a fragment that is whole.
func TestIPv6FragmentsHideProtocols(t *testing.T) {
	namespace(t)
	sh(t, "sysctl -qw net.ipv6.conf.all.forwarding=1")
	addIPv6(t, "2001:db8:0:1::254", "2001:db8:1:2::45")
	for _, c := range []string{
		"ip neigh add 2001:db8:1:2::254 lladdr 02:00:00:00:00:01 dev eth0 nud permanent",
		"nft add table ip6 saw", "nft add chain ip6 saw out { type filter hook postrouting priority 0 ; }",
	} {
		sh(t, c)
	}
	n := open(t, Settings{})
	const from, udp, options = "2001:db8:0:1::77", unix.IPPROTO_UDP, unix.IPPROTO_DSTOPTS
	route(t, n, "udp", subnets.Of("2001:db8:0:1::/64/udp"), subnets.Of("2001:db8:0:2::/64/udp"), 1400)
	route(t, n, "port", subnets.Of("2001:db8:0:1::/64/udp"), subnets.Of("2001:db8:0:3::/64/udp/5000"), 1400)
	protected, others := []string{"2001:db8:0:2::1", "2001:db8:0:3::1"}, "2001:db8:0:4::1"
	for _, to := range append(protected, others) {
		sh(t, "nft add rule ip6 saw out oifname eth0 ip6 saddr "+from+" ip6 daddr "+to+" counter")
	}
	forwarded := func(to string) string {
		_, after, _ := strings.Cut(sh(t, "nft list chain ip6 saw out"), to+" counter packets ")
		return strings.Fields(after)[0]
	}
	for _, to := range append(protected, others) {
		arrive(t, fragment6(from, to, 0, false, udp))
		arrive(t, fragment6(from, to, 0, true, udp))
		arrive(t, fragment6(from, to, 8, false, udp))
		arrive(t, fragment6(from, to, 0, false, options, udp))
		arrive(t, fragment6(from, to, 0, true, options, udp))
		arrive(t, fragment6(from, to, 8, false, options, udp))
	}
	if !netns.Poll(2*time.Second, func() bool { return forwarded(others) == "6" }) {
		t.Errorf("of 6 packets that no policy is for %s are forwarded", forwarded(others))
	}
	for _, to := range protected {
		if n := forwarded(to); n != "0" {
			t.Errorf("%s packets to %s were forwarded in clear", n, to)
		}
	}
}

// TestFragmentsInClear: of what claims a protected source only fragments of what our sockets wait for come in: never a first one, and of UDP only from the peer
// itself, where its sealed packets come from.
func TestFragmentsInClear(t *testing.T) {
	namespace(t)
	n := open(t, Settings{})
	if n.guard == nil {
		netns.Missing(t, tested, "nft")
	}
	route(t, n, "one", subnets.Of("192.1.2.45/32", "192.0.1.0/24"), subnets.Of("192.1.2.23/32", "192.0.2.0/24"), 1400, between("192.1.2.45", "192.1.2.23"))
	const us, inner, behind, peer, its = "192.1.2.45", "192.0.1.254", "192.0.1.77", "192.1.2.23", "192.0.2.77"
	sure := fragmentOf(unix.IPPROTO_TCP, its, behind, 0, false)
	judge(t, n, sure, []verdicts{
		{"a first of UDP", fragment(peer, us, 0, true), 1},
		{"a later of UDP", fragment(peer, us, 8, true), 0},
		{"a later of UDP for others", fragment(peer, behind, 8, true), 1},
		{"a later of UDP for another address of ours", fragment(peer, inner, 8, true), 1},
		{"a later of UDP from the peer's network", fragment(its, inner, 8, true), 1},
		{"a later of UDP from the peer's network to where the peer sends", fragment(its, us, 8, false), 1},
		{"a first of ESP", fragmentOf(unix.IPPROTO_ESP, peer, us, 0, true), 0},
		{"a later of ESP", fragmentOf(unix.IPPROTO_ESP, peer, us, 8, true), 0},
		{"a later of ICMP", fragmentOf(unix.IPPROTO_ICMP, peer, us, 8, true), 1},
		{"a later of TCP", fragmentOf(unix.IPPROTO_TCP, peer, us, 8, false), 1},
	})
	l, err := (&net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return Prepare(0)(c) }}).ListenPacket(t.Context(), "udp4", ":5000")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	judge(t, n, sure, []verdicts{
		{"a first of UDP for a socket of ours", fragment(peer, us, 0, true), 0},
		{"what has the ports of that socket, for a host behind", fragment(its, behind, 0, false), 1},
		{"a later of UDP with those ports where a first has its own", fragment(its, us, 8, false), 1},
		{"a later of TCP with those ports", fragmentOf(unix.IPPROTO_TCP, peer, us, 8, false), 1},
	})
	route(t, n, "one", subnets.Of("192.1.2.45/32", "192.0.1.0/24"), subnets.Of("192.1.2.23/32", "192.0.2.0/24"), 1400, between("192.1.2.45", "192.1.2.24"))
	judge(t, n, sure, []verdicts{{"a later of UDP from where the peer was", fragment(peer, us, 8, true), 1}})
	// One policy may protect the address of another's peer, whichever comes first.
	route(t, n, "two", subnets.Of("192.0.1.0/24"), subnets.Of("10.1.0.0/16"), 1400, between(us, "192.1.2.98"))
	route(t, n, "all", subnets.Of("192.1.2.45/32"), subnets.Of("192.1.2.96/29"), 1400)
	route(t, n, "three", subnets.Of("192.0.1.0/24"), subnets.Of("10.2.0.0/16"), 1400, between(us, "192.1.2.99"))
	judge(t, n, sure, []verdicts{
		{"a later of UDP from a peer that is protected later", fragment("192.1.2.98", us, 8, true), 0},
		{"a later of UDP from a peer that is protected already", fragment("192.1.2.99", us, 8, true), 0},
		{"a later of UDP from no peer", fragment("192.1.2.97", us, 8, true), 1},
	})
	if err := n.Unroute("two"); err != nil {
		t.Fatal(err)
	}
	judge(t, n, sure, []verdicts{{"a later of UDP from one that is no peer any more", fragment("192.1.2.98", us, 8, true), 1}})
}

// TestIPv6FragmentsInClear: in IPv6 the first fragment says which protocol all of them have, so that nothing that is said behind it lets one in, but from the peer.
func TestIPv6FragmentsInClear(t *testing.T) {
	namespace(t)
	n := open(t, Settings{})
	if n.guard == nil {
		netns.Missing(t, tested, "nft")
	}
	const us, peer, its, udp, esp, tcp = "2001:db8:1:2::45", "2001:db8:1:2::23", "2001:db8:0:2::77", unix.IPPROTO_UDP, unix.IPPROTO_ESP, unix.IPPROTO_TCP
	addIPv6(t, us)
	if !netns.Poll(2*time.Second, func() bool { return strings.HasPrefix(sh(t, "ip -6 route get "+us), "local") }) {
		t.Fatal("the address does not become ours")
	}
	route(t, n, "one", subnets.Of(us+"/128"), subnets.Of(peer+"/128", "2001:db8:0:2::/64"), 1400, between(us, peer))
	judge(t, n, fragment6(its, us, 0, false, tcp), []verdicts{
		{"a first of ESP", fragment6(peer, us, 0, true, esp), 0},
		{"a later of ESP", fragment6(peer, us, 8, true, esp), 0},
		{"a later of UDP", fragment6(peer, us, 8, true, udp), 0},
		{"a later of TCP", fragment6(peer, us, 8, true, tcp), 1},
		{"a later of ESP from the peer's network", fragment6(its, us, 8, true, esp), 1},
		{"a later of UDP from the peer's network", fragment6(its, us, 8, true, udp), 1},
		{"a first of UDP", fragment6(peer, us, 0, true, udp), 1},
	})
}

// TestFragmentsOfSinglePortsInClear: nor do fragments pass, in clear and from the network, whose ports or protocol only the first one shows.
func TestFragmentsOfSinglePortsInClear(t *testing.T) {
	namespace(t)
	n := open(t, Settings{})
	if n.guard == nil {
		netns.Missing(t, tested, "nft")
	}
	const us4, its4, us6, udp6, port6 = "192.0.1.77", "192.0.2.1", "2001:db8:0:1::77", "2001:db8:0:2::1", "2001:db8:0:3::1"
	route(t, n, "port4", subnets.Of("192.0.1.0/24/udp"), subnets.Of("192.0.2.0/24/udp/4000"), 1400)
	route(t, n, "udp6", subnets.Of("2001:db8:0:1::/64/udp"), subnets.Of("2001:db8:0:2::/64/udp"), 1400)
	route(t, n, "port6", subnets.Of("2001:db8:0:1::/64/udp"), subnets.Of("2001:db8:0:3::/64/udp/4000"), 1400)
	sure := fragment(its4, us4, 0, false)
	const udp, tcp, options = unix.IPPROTO_UDP, unix.IPPROTO_TCP, unix.IPPROTO_DSTOPTS
	judge(t, n, sure, []verdicts{
		{"IPv4, another protocol", fragmentOf(tcp, its4, us4, 8, true), 0},
		{"IPv4, a later", fragment(its4, us4, 8, true), 1},
		{"IPv6, any port, a later", fragment6(udp6, us6, 8, false, udp), 1},
		{"IPv6, any port, a first with options", fragment6(udp6, us6, 0, true, options, udp), 1},
		{"IPv6, any port, a later with options", fragment6(udp6, us6, 8, false, options, udp), 1},
		{"IPv6, a port, a first", fragment6(port6, us6, 0, true, udp), 1},
		{"IPv6, a port, a later", fragment6(port6, us6, 8, false, udp), 1},
		{"IPv6, a port, a later with options", fragment6(port6, us6, 8, false, options, udp), 1},
		{"IPv6, another protocol", fragment6(port6, us6, 8, false, tcp), 0},
	})
}

type verdicts struct {
	what    string
	packet  []byte
	dropped uint64
}

// judge has packets arrive one by one, and looks which of them the guard drops. Behind each comes one that it drops for sure, so that there is something to
// wait for.
func judge(t *testing.T, n *Net, sure []byte, all []verdicts) {
	t.Helper()
	for _, tc := range all {
		before := dropped(t, n)
		arrive(t, tc.packet)
		arrive(t, sure)
		if !netns.Poll(2*time.Second, func() bool { return dropped(t, n)-before > tc.dropped }) || dropped(t, n)-before != tc.dropped+1 {
			t.Errorf("%s: %d dropped, want %d", tc.what, int(dropped(t, n)-before)-1, tc.dropped)
		}
	}
}

// between names the hosts between which the packets of a policy travel.
func between(local, remote string) func(*kernel.Policy) {
	return func(p *kernel.Policy) {
		p.LocalAddr, p.RemoteAddr = netip.MustParseAddr(local), netip.MustParseAddr(remote)
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

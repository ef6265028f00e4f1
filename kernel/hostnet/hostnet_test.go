package hostnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/subnets"
)

const tested = "routes, rules and nft tables of a namespace"

// namespace puts the test into a network namespace of its own, with interface eth0 (192.0.1.254/24 and 192.1.2.45/24) and TUN t0.
func namespace(t *testing.T) {
	t.Helper()
	netns.Alone(t, tested, []string{"ip", "nft"},
		"sysctl -qw net.ipv4.ip_forward=1", "ip link set lo up", "ip link add eth0 type veth peer name wire", "ip addr add 192.0.1.254/24 dev eth0", "ip addr add 192.1.2.45/24 dev eth0",
		"ip link set eth0 up", "ip link set wire up", "ip route add default via 192.1.2.254", "ip tuntap add t0 mode tun")
}

// addIPv6 gives eth0 addresses, each in a /64, at once, and the namespace a default route in IPv6.
func addIPv6(t *testing.T, addrs ...string) {
	t.Helper()
	sh(t, "sysctl -qw net.ipv6.conf.eth0.accept_dad=0 net.ipv6.conf.default.accept_dad=0")
	for _, a := range addrs {
		sh(t, "ip addr add "+a+"/64 dev eth0 nodad")
	}
	sh(t, "ip route add default via 2001:db8:1:2::254")
}

func sh(t *testing.T, command string) string { t.Helper(); return netns.Sh(t, command) }

// lines runs a command and returns its lines without surrounding blanks, and without the blackholes that stand behind each route.
func lines(t *testing.T, command string) (out []string) {
	t.Helper()
	for l := range strings.Lines(sh(t, command)) {
		if strings.HasPrefix(l, "blackhole") {
			continue
		}
		l = strings.ReplaceAll(l, "linkdown", "") // nobody has opened t0
		out = append(out, strings.Join(strings.Fields(l), " "))
	}
	return out
}

// state is everything that a Net may change.
func state(t *testing.T) string {
	t.Helper()
	s := ""
	for _, c := range []string{"ip rule", "ip -6 rule", "ip route show table all type unicast", "ip route show table all type throw", "ip route show table all type blackhole", "nft list ruleset", "ip -br addr"} {
		s += c + "\n" + sh(t, c)
	}
	return s
}

func open(t *testing.T, s Settings) *Net {
	t.Helper()
	n, err := New("t0", s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	if len(n.Notes()) > 0 {
		t.Logf("notes: %q", n.Notes())
	}
	return n
}

// rules lists our rules of one preference.
func rules(t *testing.T, pref string) []string {
	t.Helper()
	return slices.DeleteFunc(lines(t, "ip rule"), func(s string) bool { return !strings.HasPrefix(s, pref+":") })
}

// goes checks where the kernel would send a packet.
func goes(t *testing.T, packet string, want ...string) {
	t.Helper()
	got := strings.Join(strings.Fields(sh(t, "ip route get "+packet)), " ")
	for _, w := range want {
		plain := strings.ReplaceAll(w, " table 4694", "")
		if !strings.Contains(got, w) && !strings.Contains(regexp.MustCompile(` table \d+`).ReplaceAllString(got, ""), plain) {
			t.Errorf("%s goes %q, want %q", packet, got, w)
		}
	}
}

func route(t *testing.T, n *Net, id string, local, remote ts.Set, mtu int, change ...func(*kernel.Policy)) {
	t.Helper()
	p := kernel.Policy{ID: kernel.PolicyID(id), Local: local, Remote: remote}
	for _, c := range change {
		c(&p)
	}
	if err := n.Route(p, mtu); err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

func TestRouteAndUnroute(t *testing.T) {
	namespace(t)
	before := state(t)
	n := open(t, Settings{})
	same(t, "rules", lines(t, "ip rule"), []string{
		"0: from all lookup local", "4500: from all fwmark 0x494b45 goto 4504", "4502: from 0.0.0.0 iif lo lookup 4500", "4504: from all nop",
		"32766: from all lookup main", "32767: from all lookup default",
	})
	route(t, n, "net", subnets.Of("192.0.1.0/24"), subnets.Of("192.0.2.0/24", "10.2.0.0/15"), 1438)
	same(t, "routes without source", lines(t, "ip route show table 4500"), []string{
		"192.0.2.0/24 dev t0 scope link src 192.0.1.254 mtu 1438", "10.2.0.0/15 dev t0 scope link src 192.0.1.254 mtu 1438",
	})
	same(t, "rule", rules(t, "4503"), []string{"4503: from 192.0.1.0/24 lookup 4502"})
	same(t, "routes", lines(t, "ip route show table 4502"), []string{"192.0.2.0/24 dev t0 scope link mtu 1438", "10.2.0.0/15 dev t0 scope link mtu 1438"})
	goes(t, "192.0.2.9", "dev t0", "src 192.0.1.254")
	goes(t, "192.0.2.9 from 192.0.1.254", "dev t0")
	goes(t, "192.0.2.9 from 192.0.1.77 iif eth0", "dev t0")
	goes(t, "192.0.2.9 from 192.1.2.45", "via 192.1.2.254 dev eth0") // not the policy's
	goes(t, "192.0.2.9 from 172.16.0.1 iif eth0", "via 192.1.2.254 dev eth0")
	goes(t, "192.0.2.9 mark 0x494b45", "via 192.1.2.254 dev eth0")
	// The same prefix for another policy; replaced with other selectors; taken away in the other order.
	route(t, n, "other", subnets.Of("172.16.0.0/16"), subnets.Of("192.0.2.0/24"), 1400)
	route(t, n, "third", subnets.Of("192.0.1.0/24"), subnets.Of("192.0.2.0/24"), 1390)
	same(t, "rules of two", rules(t, "4503"), []string{"4503: from 192.0.1.0/24 lookup 4502", "4503: from 172.16.0.0/16 lookup 4503"})
	same(t, "routes of two", lines(t, "ip route show table 4503"), []string{"192.0.2.0/24 dev t0 scope link mtu 1400"})
	same(t, "routes of two", lines(t, "ip route show table 4502"), []string{"192.0.2.0/24 dev t0 scope link mtu 1390", "10.2.0.0/15 dev t0 scope link mtu 1438"})
	route(t, n, "net", subnets.Of("192.0.1.0/24"), subnets.Of("192.0.2.0/24"), 1380)
	same(t, "routes replaced", lines(t, "ip route show table 4502"), []string{"192.0.2.0/24 dev t0 scope link mtu 1380"})
	for _, id := range []kernel.PolicyID{"net", "none", "third"} {
		if err := n.Unroute(id); err != nil {
			t.Error(err)
		}
	}
	same(t, "rules of one", rules(t, "4503"), []string{"4503: from 172.16.0.0/16 lookup 4503"})
	if err := n.Unroute("other"); err != nil {
		t.Error(err)
	}
	if got := sh(t, "ip route show table all"); strings.Contains(got, "table 45") {
		t.Errorf("routes left: %s", got)
	}
	if got := rules(t, "4503"); len(got) != 0 {
		t.Errorf("rules left: %q", got)
	}
	route(t, n, "net", subnets.Of("192.0.1.0/24"), subnets.Of("192.0.2.0/24"), 1438)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	sh(t, "ip link set t0 down")
	if after := state(t); strings.ReplaceAll(after, "DOWN", "UP") != strings.ReplaceAll(before, "DOWN", "UP") {
		t.Errorf("before:\n%s\nafter Close:\n%s", before, after)
	}
}

// TestWholeInternet: a network that sends everything through a tunnel; its gateway keeps its own way out.
func TestWholeInternet(t *testing.T) {
	namespace(t)
	n := open(t, Settings{})
	route(t, n, "all", subnets.Of("192.0.1.0/24"), subnets.Of("0.0.0.0/0"), 1438)
	route(t, n, "pass", subnets.Of("192.0.1.0/24"), subnets.Of("198.51.100.0/24"), 0, func(p *kernel.Policy) { p.Action = kernel.Pass })
	same(t, "routes", lines(t, "ip route show table 4502"), []string{
		"default dev t0 scope link mtu 1438", "throw 192.0.1.0/24", "throw 198.51.100.0/24", "throw 169.254.0.0/16", "throw 224.0.0.0/4", "throw 255.255.255.255",
	})
	goes(t, "8.8.8.8 from 192.0.1.7 iif eth0", "dev t0")
	goes(t, "8.8.8.8 from 192.0.1.254", "dev t0")
	goes(t, "192.0.1.7 from 192.0.1.254", "dev eth0")
	goes(t, "198.51.100.1 from 192.0.1.254", "dev eth0")
	goes(t, "192.0.1.254", "dev lo")
	goes(t, "8.8.8.8", "via 192.1.2.254 dev eth0 src 192.1.2.45")
	goes(t, "8.8.8.8 from 192.1.2.45", "via 192.1.2.254 dev eth0")
	goes(t, "8.8.8.8 from 192.0.1.254 mark 0x494b45", "dev eth0")
}

// TestWholeIPv6Internet: the same in IPv6; what belongs to one link stays there.
func TestWholeIPv6Internet(t *testing.T) {
	namespace(t)
	sh(t, "sysctl -qw net.ipv6.conf.all.forwarding=1")
	addIPv6(t, "2001:db8:0:1::254", "2001:db8:1:2::45", "fe80::45")
	n := open(t, Settings{})
	route(t, n, "all", subnets.Of("2001:db8:0:1::/64"), subnets.Of("::/0"), 1398)
	goes(t, "2001:db8:9::1 from 2001:db8:0:1::7 iif eth0", "dev t0")
	goes(t, "2001:db8:9::1 from 2001:db8:0:1::254", "dev t0")
	goes(t, "2001:db8:0:1::7 from 2001:db8:0:1::254", "dev eth0")
	goes(t, "2001:db8:9::1 from 2001:db8:0:1::254 mark 0x494b45", "dev eth0")
	goes(t, "fe80::1 from 2001:db8:0:1::254 oif eth0", "dev eth0")
	goes(t, "ff02::1 from 2001:db8:0:1::254 oif eth0", "dev eth0")
	goes(t, "ff05::2 from 2001:db8:0:1::254 oif eth0", "dev eth0")
	if err := n.Unroute("all"); err != nil {
		t.Fatal(err)
	}
	route(t, n, "group", subnets.Of("2001:db8:0:1::/64"), subnets.Of("ff05::/16"), 1398)
	if got := sh(t, "ip -6 route show table 4502"); strings.Contains(got, "throw") || !strings.Contains(got, "ff05::/16 dev t0") {
		t.Errorf("a policy that names groups: %s", got)
	}
}

// TestUnboundIPv6: what is made here without a source address goes into the tunnel in IPv6 too, and what has one that is not protected goes on as ever.
func TestUnboundIPv6(t *testing.T) {
	namespace(t)
	addIPv6(t, "2001:db8:1:2::45", "2001:db8:1:2::46", "fd00::45")
	before := sh(t, "ip -6 rule")
	n := open(t, Settings{})
	route(t, n, "host", subnets.Of("2001:db8:1:2::45/128"), subnets.Of("2001:db8:1:2::23/128"), 1466)
	route(t, n, "both", subnets.Of("192.1.2.45/32", "fd00::45/128"), subnets.Of("10.9.0.0/16", "2001:db8:9::/48"), 1398)
	route(t, n, "web", subnets.Of("2001:db8:1:2::46/128"), subnets.Of("2001:db8:8::8/128/TCP/443"), 1398)
	goes(t, "2001:db8:1:2::23", "dev t0", "src 2001:db8:1:2::45")
	goes(t, "2001:db8:1:2::23 from 2001:db8:1:2::45", "dev t0")
	goes(t, "2001:db8:1:2::23 from 2001:db8:1:2::46", "dev eth0")
	goes(t, "2001:db8:1:2::23 from fd00::45", "dev eth0")
	goes(t, "2001:db8:1:2::23 mark 0x494b45", "dev eth0")
	goes(t, "2001:db8:9::1", "dev t0", "src fd00::45")
	goes(t, "10.9.0.1", "dev t0", "src 192.1.2.45")
	goes(t, "2001:db8:8::8 ipproto tcp dport 443", "dev t0", "src 2001:db8:1:2::46")
	goes(t, "2001:db8:8::8 ipproto tcp dport 80", "dev eth0")
	goes(t, "2001:db8:7::7", "dev eth0")
	for _, id := range []kernel.PolicyID{"host", "both", "web"} {
		if err := n.Unroute(id); err != nil {
			t.Fatal(err)
		}
	}
	goes(t, "2001:db8:1:2::23", "dev eth0")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if after := sh(t, "ip -6 rule"); after != before {
		t.Errorf("rules left: %s", after)
	}
}

// TestWholeInternetOfThisHost: a host that sends everything of its own through a tunnel, from its own address or one that it was given.
func TestWholeInternetOfThisHost(t *testing.T) {
	namespace(t)
	n := open(t, Settings{})
	route(t, n, "all", subnets.Of("192.1.2.45/32"), subnets.Of("0.0.0.0/0"), 1438)
	goes(t, "8.8.8.8", "dev t0 src 192.1.2.45")
	goes(t, "8.8.8.8 from 192.1.2.45", "dev t0")
	goes(t, "8.8.8.8 from 192.0.1.254", "dev eth0")
	goes(t, "8.8.8.8 mark 0x494b45", "dev eth0")
	if err := n.Unroute("all"); err != nil {
		t.Fatal(err)
	}
	route(t, n, "vip", subnets.Of("10.9.0.5/32"), subnets.Of("0.0.0.0/0"), 1438, func(p *kernel.Policy) { p.SourceIP = netip.MustParseAddr("10.9.0.5") })
	goes(t, "8.8.8.8", "dev t0 src 10.9.0.5")
	goes(t, "8.8.8.8 from 192.1.2.45", "dev eth0") // bound to the address of the cable: a DHCP client
}

// TestNothingFlowsWithoutTheTUN: it is set down by somebody, or gone since ikegod was killed.
func TestNothingFlowsWithoutTheTUN(t *testing.T) {
	namespace(t)
	n := open(t, Settings{})
	route(t, n, "net", subnets.Of("192.0.1.0/24"), subnets.Of("192.0.2.0/24"), 1438)
	route(t, n, "pass", subnets.Of("192.0.1.0/24"), subnets.Of("192.0.2.7/32"), 0, func(p *kernel.Policy) { p.Action = kernel.Pass })
	for _, how := range []string{"ip link set t0 down", "ip link del t0"} {
		sh(t, how)
		for _, packet := range []string{"192.0.2.9", "192.0.2.9 from 192.0.1.254"} {
			if out, err := exec.Command("sh", "-c", "ip route get "+packet).CombinedOutput(); err == nil {
				t.Errorf("after %q %s goes %s", how, packet, out)
			}
		}
		goes(t, "192.0.2.9 mark 0x494b45", "dev eth0")
		goes(t, "192.0.2.7 from 192.0.1.254", "dev eth0")
	}
	if err := n.Unroute("net"); err != nil {
		t.Error(err)
	}
	goes(t, "192.0.2.9", "dev eth0")
}

func TestTooManyLocalPrefixesShare(t *testing.T) {
	namespace(t)
	n := open(t, Settings{})
	for i := range 300 {
		route(t, n, fmt.Sprint(i), subnets.Of(fmt.Sprintf("10.%d.%d.0/24", i/256, i%256)), subnets.Of("192.0.2.0/24"), 1400)
	}
	if got := len(rules(t, "4503")); got != maxLocals-2+1 {
		t.Errorf("%d rules", got)
	}
	goes(t, "192.0.2.9 from 10.1.43.7 iif eth0", "dev t0")
	for i := range 300 {
		if err := n.Unroute(kernel.PolicyID(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if got := rules(t, "4503"); len(got) != 0 || len(n.locals) != 0 || len(n.rules) != 0 || len(n.prefixes) != 0 {
		t.Errorf("left: %q", got)
	}
}

func TestSinglePorts(t *testing.T) {
	namespace(t)
	before := sh(t, "ip rule")
	n := open(t, Settings{})
	route(t, n, "bgp", subnets.Of("192.1.2.45/32"), subnets.Of("192.1.2.23/32/tcp/179"), 1400)
	route(t, n, "gre", subnets.Of("192.1.2.45/32/gre"), subnets.Of("192.1.2.23/32/gre"), 1400)
	same(t, "rules", rules(t, "4501"), []string{
		"4501: from 192.1.2.45 to 192.1.2.23 ipproto tcp dport 179 lookup 4501", "4501: from 0.0.0.0 to 192.1.2.23 iif lo ipproto tcp dport 179 lookup 4694",
		"4501: from 192.1.2.45 to 192.1.2.23 ipproto gre lookup 4501", "4501: from 0.0.0.0 to 192.1.2.23 iif lo ipproto gre lookup 4694",
	})
	goes(t, "192.1.2.23 ipproto tcp dport 179", "dev t0 table 4694 src 192.1.2.45")
	goes(t, "192.1.2.23 from 192.1.2.45 ipproto tcp dport 179", "dev t0")
	goes(t, "192.1.2.23 from 192.0.1.254 ipproto tcp dport 179", "dev eth0")
	goes(t, "192.1.2.23 ipproto tcp dport 80", "dev eth0")
	chain := sh(t, "nft list chain inet ikegod specific")
	for _, want := range []string{"ip saddr 192.1.2.23 ip daddr 192.1.2.45 tcp sport 179 goto clear", "l4proto gre goto clear"} {
		if !strings.Contains(strings.Join(strings.Fields(chain), " "), want) {
			t.Errorf("nft chain has no %q: %s", want, chain)
		}
	}
	for _, id := range []kernel.PolicyID{"bgp", "gre"} {
		if err := n.Unroute(id); err != nil {
			t.Error(err)
		}
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if after := sh(t, "ip rule"); after != before {
		t.Errorf("rules left: %s", after)
	}
}

func TestSourceAddressOfOurOwn(t *testing.T) {
	namespace(t)
	n := open(t, Settings{})
	vip := netip.MustParseAddr("10.9.0.5")
	with := func(p *kernel.Policy) { p.SourceIP = vip }
	route(t, n, "one", subnets.Of("10.9.0.5/32"), subnets.Of("192.0.2.0/24"), 1438, with)
	route(t, n, "two", subnets.Of("10.9.0.5/32"), subnets.Of("192.0.3.0/24"), 1438, with)
	if got := sh(t, "ip -br addr show t0"); !strings.Contains(got, "10.9.0.5/32") {
		t.Errorf("address: %s", got)
	}
	same(t, "routes", lines(t, "ip route show table 4500"), []string{
		"192.0.2.0/24 dev t0 scope link src 10.9.0.5 mtu 1438", "192.0.3.0/24 dev t0 scope link src 10.9.0.5 mtu 1438",
	})
	route(t, n, "one", subnets.Of("10.9.0.5/32"), subnets.Of("192.0.2.0/24"), 1400, with) // replacing keeps it
	if err := errors.Join(n.Unroute("one")); err != nil {
		t.Fatal(err)
	}
	if got := sh(t, "ip -br addr show t0"); !strings.Contains(got, "10.9.0.5/32") {
		t.Errorf("the address went while a policy needs it: %s", got)
	}
	if err := n.Unroute("two"); err != nil {
		t.Fatal(err)
	}
	if got := sh(t, "ip -br addr show t0"); strings.Contains(got, "10.9.0.5") {
		t.Errorf("the address stayed: %s", got)
	}
	route(t, n, "three", subnets.Of("192.0.1.0/24"), subnets.Of("192.0.2.0/24"), 0, func(p *kernel.Policy) { p.SourceIP = netip.MustParseAddr("192.0.1.254") })
	if got := sh(t, "ip -br addr show t0"); strings.Contains(got, "192.0.1.254") {
		t.Errorf("an address of eth0 was put on the TUN as well: %s", got)
	}
}

// TestSourceAddressBesidePass: a policy that lets pass needs no source address, and so takes none away when it goes.
func TestSourceAddressBesidePass(t *testing.T) {
	namespace(t)
	n := open(t, Settings{})
	vip := netip.MustParseAddr("10.9.0.5")
	with := func(a kernel.Action) func(*kernel.Policy) {
		return func(p *kernel.Policy) { p.SourceIP, p.Action = vip, a }
	}
	route(t, n, "one", subnets.Of("10.9.0.5/32"), subnets.Of("192.0.2.0/24"), 1438, with(kernel.Pass))
	route(t, n, "one", subnets.Of("10.9.0.5/32"), subnets.Of("192.0.2.0/24"), 1438, with(kernel.Protect))
	if got := sh(t, "ip -br addr show t0"); !strings.Contains(got, "10.9.0.5/32") {
		t.Errorf("a tunnel that came after negotiationshunt=passthrough has no source address: %s", got)
	}
	route(t, n, "two", subnets.Of("10.9.0.5/32"), subnets.Of("192.0.3.0/24"), 1438, with(kernel.Pass))
	if err := n.Unroute("two"); err != nil {
		t.Fatal(err)
	}
	if got := sh(t, "ip -br addr show t0"); !strings.Contains(got, "10.9.0.5/32") {
		t.Errorf("the address went while a policy needs it: %s", got)
	}
}

func TestSettingsAreChecked(t *testing.T) {
	for _, s := range []Settings{{Table: 1}, {Table: 254}, {Table: 255}, {Table: -5}, {Preference: 32762}, {Preference: -1}} {
		if n, err := New("t0", s); err == nil {
			t.Errorf("%+v was taken: %v", s, n.Close())
		}
	}
}

func TestRouteFailsWhole(t *testing.T) {
	namespace(t)
	n := open(t, Settings{})
	route(t, n, "c", subnets.Of("192.0.1.0/24"), subnets.Of("192.0.2.0/24"), 1438)
	before := state(t)
	bad := kernel.Policy{ID: "c", Local: subnets.Of("192.0.1.0/24"), Remote: subnets.Of("192.0.3.0/24"), SourceIP: netip.MustParseAddr("192.0.1.254")}
	n.index += 1000 // no such interface
	if err := n.Route(bad, 1400); err == nil {
		t.Error("a route through no interface was put in place")
	}
	n.index -= 1000
	if err := n.Route(n.policies["c"].policy, 1438); err != nil {
		t.Fatal(err)
	}
	if after := state(t); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestPathMTU(t *testing.T) {
	namespace(t)
	sh(t, "ip link set eth0 mtu 1400")
	sh(t, "ip route add 203.0.113.0/24 via 192.1.2.254 mtu 1300")
	n := open(t, Settings{})
	route(t, n, "all", subnets.Of("192.0.1.0/24"), subnets.Of("0.0.0.0/0"), 1000) // does not count for what carries our mark
	for remote, want := range map[string]int{"192.1.2.23": 1400, "203.0.113.9": 1300} {
		if got := n.PathMTU(netip.MustParseAddr("192.1.2.45"), netip.MustParseAddr(remote)); got != want {
			t.Errorf("%s: %d, want %d", remote, got, want)
		}
	}
	sh(t, "ip route del default")
	if got := n.PathMTU(netip.MustParseAddr("192.1.2.45"), netip.MustParseAddr("8.8.8.8")); got != 0 {
		t.Errorf("no route: %d", got)
	}
}

func TestReversePathFilters(t *testing.T) {
	namespace(t)
	if err := write("ipv4/conf/eth0/rp_filter", "1"); err != nil {
		t.Fatal(err)
	}
	if err := write("ipv4/conf/t0/rp_filter", "1"); err != nil {
		t.Fatal(err)
	}
	n := open(t, Settings{})
	if got := read("ipv4/conf/t0/rp_filter"); got != "0" {
		t.Errorf("rp_filter of the TUN is %s", got)
	}
	if !slices.ContainsFunc(n.Notes(), func(s string) bool { return strings.Contains(s, "eth0") }) {
		t.Errorf("no word of eth0 in %q", n.Notes())
	}
	if err := write("ipv4/conf/all/rp_filter", "1"); err != nil {
		t.Fatal(err)
	}
	n.sysctls()
	if got := read("ipv4/conf/t0/rp_filter"); got != "2" {
		t.Errorf("with strict filtering for all, rp_filter of the TUN is %s, want 2 (loose)", got)
	}
}

func TestPrepareSetsTheMark(t *testing.T) {
	namespace(t)
	l, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := Prepare(0)(c); err != nil {
		t.Fatal(err)
	}
	if err := c.Control(func(fd uintptr) {
		if got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK); err != nil || got != DefaultMark {
			t.Errorf("mark %#x, %v", got, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAddrs(t *testing.T) {
	namespace(t)
	s, err := NewAddrs()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for a, want := range map[string]bool{"192.1.2.45": true, "192.0.1.254": true, "127.0.0.1": true, "::1": true, "192.1.2.23": false, "8.8.8.8": false, "192.1.2.255": false} {
		if got := s.IsLocal(netip.MustParseAddr(a)); got != want {
			t.Errorf("IsLocal(%s) = %v", a, got)
		}
	}
	if a, err := s.DefaultSource(netip.MustParseAddr("8.8.8.8")); err != nil || a != netip.MustParseAddr("192.1.2.45") {
		t.Errorf("source towards 8.8.8.8: %v, %v", a, err)
	}
	if a, err := s.DefaultSource(netip.MustParseAddr("192.0.1.7")); err != nil || a != netip.MustParseAddr("192.0.1.254") {
		t.Errorf("source towards 192.0.1.7: %v, %v", a, err)
	}
	if a, err := s.DefaultSource(netip.Addr{}); err != nil || a != netip.MustParseAddr("192.1.2.45") {
		t.Errorf("source of the default route: %v, %v", a, err)
	}
	if a, ok := s.AddrInside(netip.MustParsePrefix("192.0.1.0/24")); !ok || a != netip.MustParseAddr("192.0.1.254") {
		t.Errorf("address inside 192.0.1.0/24: %v, %v", a, ok)
	}
	if a, ok := s.AddrInside(netip.MustParsePrefix("127.0.0.0/8")); ok {
		t.Errorf("address inside 127.0.0.0/8: %v", a)
	}
	sh(t, "ip route del default")
	if a, err := s.DefaultSource(netip.Addr{}); err == nil {
		t.Errorf("no default route, but source %v", a)
	}
	if a, err := s.DefaultSource(netip.MustParseAddr("8.8.8.8")); err == nil {
		t.Errorf("no route, but source %v", a)
	}
}

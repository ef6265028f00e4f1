package hostnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ts"
)

// namespace puts the test into a network namespace of its own, with interface eth0 (192.0.1.254/24 and 192.1.2.45/24) and TUN t0.
func namespace(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		need(t, "root")
	}
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			need(t, tool)
		}
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test, and the namespace with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		need(t, "network namespaces ("+err.Error()+")")
	}
	for _, c := range []string{
		"ip link set lo up", "ip link add eth0 type veth peer name wire", "ip addr add 192.0.1.254/24 dev eth0", "ip addr add 192.1.2.45/24 dev eth0",
		"ip link set eth0 up", "ip link set wire up", "ip route add default via 192.1.2.254", "ip tuntap add t0 mode tun",
	} {
		sh(t, c)
	}
}

// need skips loudly, or fails where CI promises what is missing.
func need(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI must have %s", what)
	}
	t.Skipf("NOT TESTED: routes, rules and nft tables of a namespace; this needs %s", what)
}

func sh(t *testing.T, command string) string {
	t.Helper()
	args := strings.Fields(command)
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

// lines runs a command and returns its lines without surrounding blanks.
func lines(t *testing.T, command string) (out []string) {
	t.Helper()
	for l := range strings.Lines(sh(t, command)) {
		l = strings.ReplaceAll(l, "linkdown", "") // nobody has opened t0
		out = append(out, strings.Join(strings.Fields(l), " "))
	}
	return out
}

// state is everything that a Net may change.
func state(t *testing.T) string {
	t.Helper()
	s := ""
	for _, c := range []string{"ip rule", "ip -6 rule", "ip route show table all type unicast", "ip route show table all type throw", "nft list ruleset", "ip -br addr"} {
		s += c + "\n" + sh(t, c)
	}
	return s
}

func set(t *testing.T, all ...string) (out ts.Set) {
	t.Helper()
	for _, s := range all {
		sel, err := ts.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, sel)
	}
	return out
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
		"0: from all lookup local", "4500: from all fwmark 0x494b45 goto 4503", "4502: from all lookup 4500", "4503: from all nop",
		"32766: from all lookup main", "32767: from all lookup default",
	})
	route(t, n, "net", set(t, "192.0.1.0/24"), set(t, "192.0.2.0/24", "10.2.0.0/15"), 1438)
	same(t, "routes", lines(t, "ip route show table 4500"), []string{
		"192.0.2.0/24 dev t0 scope link src 192.0.1.254 mtu 1438", "10.2.0.0/15 dev t0 scope link src 192.0.1.254 mtu 1438",
	})
	if got := sh(t, "ip route get 192.0.2.9"); !strings.Contains(got, "dev t0") || !strings.Contains(got, "src 192.0.1.254") {
		t.Errorf("ip route get: %s", got)
	}
	if got := sh(t, "ip route get 192.0.2.9 mark 0x494b45"); !strings.Contains(got, "via 192.1.2.254 dev eth0") {
		t.Errorf("with our mark: %s", got)
	}
	// The same prefix for another policy; replaced with other selectors; taken away in the other order.
	route(t, n, "other", set(t, "172.16.0.0/16"), set(t, "192.0.2.0/24"), 1400)
	same(t, "routes of two", lines(t, "ip route show table 4500 192.0.2.0/24"), []string{"192.0.2.0/24 dev t0 scope link src 192.0.1.254 mtu 1400"})
	route(t, n, "net", set(t, "192.0.1.0/24"), set(t, "192.0.2.0/24"), 1438)
	same(t, "routes replaced", lines(t, "ip route show table 4500"), []string{"192.0.2.0/24 dev t0 scope link src 192.0.1.254 mtu 1400"})
	for _, id := range []kernel.PolicyID{"net", "none", "other"} {
		if err := n.Unroute(id); err != nil {
			t.Error(err)
		}
	}
	if got := lines(t, "ip route show table 4500"); len(got) != 0 {
		t.Errorf("routes left: %q", got)
	}
	route(t, n, "net", set(t, "192.0.1.0/24"), set(t, "192.0.2.0/24"), 1438)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	sh(t, "ip link set t0 down")
	if after := state(t); strings.ReplaceAll(after, "DOWN", "UP") != strings.ReplaceAll(before, "DOWN", "UP") {
		t.Errorf("before:\n%s\nafter Close:\n%s", before, after)
	}
}

func TestPassAndWholeInternet(t *testing.T) {
	namespace(t)
	n := open(t, Settings{})
	route(t, n, "all", set(t, "192.0.1.0/24"), set(t, "0.0.0.0/0"), 1438)
	route(t, n, "pass", set(t, "192.0.1.0/24"), set(t, "198.51.100.0/24"), 0, func(p *kernel.Policy) { p.Action = kernel.Pass })
	same(t, "routes", lines(t, "ip route show table 4500"), []string{
		"default dev t0 scope link src 192.0.1.254 mtu 1438", "throw 192.0.1.0/24", "throw 198.51.100.0/24",
	})
	for dst, dev := range map[string]string{"8.8.8.8": "dev t0", "192.0.1.7": "dev eth0", "198.51.100.1": "dev eth0", "192.0.1.254": "dev lo"} {
		if got := sh(t, "ip route get "+dst); !strings.Contains(got, dev) {
			t.Errorf("%s: %s, want %s", dst, got, dev)
		}
	}
	if got := sh(t, "ip route get 8.8.8.8 mark 0x494b45"); !strings.Contains(got, "dev eth0") {
		t.Errorf("with our mark: %s", got)
	}
}

func TestSinglePorts(t *testing.T) {
	namespace(t)
	before := sh(t, "ip rule")
	n := open(t, Settings{})
	route(t, n, "bgp", set(t, "192.1.2.45/32"), set(t, "192.1.2.23/32/tcp/179"), 1400)
	route(t, n, "gre", set(t, "192.1.2.45/32/gre"), set(t, "192.1.2.23/32/gre"), 1400)
	same(t, "rules", slices.DeleteFunc(lines(t, "ip rule"), func(s string) bool { return !strings.HasPrefix(s, "4501") }), []string{
		"4501: from all to 192.1.2.23 ipproto tcp dport 179 lookup 4501", "4501: from all to 192.1.2.23 ipproto gre lookup 4501",
	})
	if got := sh(t, "ip route get 192.1.2.23 ipproto tcp dport 179"); !strings.Contains(got, "dev t0") {
		t.Errorf("BGP: %s", got)
	}
	if got := sh(t, "ip route get 192.1.2.23 ipproto tcp dport 80"); !strings.Contains(got, "dev eth0") {
		t.Errorf("HTTP: %s", got)
	}
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
	route(t, n, "one", set(t, "10.9.0.5/32"), set(t, "192.0.2.0/24"), 1438, with)
	route(t, n, "two", set(t, "10.9.0.5/32"), set(t, "192.0.3.0/24"), 1438, with)
	if got := sh(t, "ip -br addr show t0"); !strings.Contains(got, "10.9.0.5/32") {
		t.Errorf("address: %s", got)
	}
	same(t, "routes", lines(t, "ip route show table 4500"), []string{
		"192.0.2.0/24 dev t0 scope link src 10.9.0.5 mtu 1438", "192.0.3.0/24 dev t0 scope link src 10.9.0.5 mtu 1438",
	})
	route(t, n, "one", set(t, "10.9.0.5/32"), set(t, "192.0.2.0/24"), 1400, with) // replacing keeps it
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
	route(t, n, "three", set(t, "192.0.1.0/24"), set(t, "192.0.2.0/24"), 0, func(p *kernel.Policy) { p.SourceIP = netip.MustParseAddr("192.0.1.254") })
	if got := sh(t, "ip -br addr show t0"); strings.Contains(got, "192.0.1.254") {
		t.Errorf("an address of eth0 was put on the TUN as well: %s", got)
	}
}

func TestLeftoversOfACrashAreRemoved(t *testing.T) {
	namespace(t)
	set1 := set(t, "192.0.1.0/24")
	first, err := New("t0", Settings{})
	if err != nil {
		t.Fatal(err)
	}
	route(t, first, "a", set1, set(t, "192.0.2.0/24"), 1438)
	route(t, first, "b", set1, set(t, "192.0.3.0/24/tcp/80"), 1438)
	route(t, first, "c", set1, set(t, "198.51.100.0/24"), 0, func(p *kernel.Policy) { p.Action = kernel.Pass })
	first.handle.Close() // gone without a word
	n := open(t, Settings{})
	route(t, n, "a", set1, set(t, "192.0.9.0/24"), 1438)
	same(t, "rules", lines(t, "ip rule"), []string{
		"0: from all lookup local", "4500: from all fwmark 0x494b45 goto 4503", "4502: from all lookup 4500", "4503: from all nop",
		"32766: from all lookup main", "32767: from all lookup default",
	})
	same(t, "routes", lines(t, "ip route show table 4500"), []string{"192.0.9.0/24 dev t0 scope link src 192.0.1.254 mtu 1438"})
	if got := sh(t, "nft list tables"); strings.Count(got, "ikegod") != 1 {
		t.Errorf("nft tables: %s", got)
	}
}

func TestSomebodyElsesTableIsLeftAlone(t *testing.T) {
	namespace(t)
	sh(t, "ip route add 203.0.113.0/24 dev eth0 table 4500")
	before := state(t)
	if n, err := New("t0", Settings{}); err == nil {
		t.Fatal("took a table that is in use", n.Close())
	} else if !strings.Contains(err.Error(), "203.0.113.0/24") {
		t.Errorf("the message does not name the route: %v", err)
	}
	if after := state(t); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	open(t, Settings{Table: 4600})
}

func TestRouteFailsWhole(t *testing.T) {
	namespace(t)
	n := open(t, Settings{})
	route(t, n, "c", set(t, "192.0.1.0/24"), set(t, "192.0.2.0/24"), 1438)
	before := state(t)
	bad := kernel.Policy{ID: "c", Local: set(t, "192.0.1.0/24"), Remote: set(t, "192.0.3.0/24"), SourceIP: netip.MustParseAddr("192.0.1.254")}
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

func TestGuardSets(t *testing.T) {
	namespace(t)
	n := open(t, Settings{NFTable: "other"})
	for i, c := range []struct{ local, want string }{
		{"10.0.0.0/24", "10.0.0.0/24"},
		{"10.0.1.0/24", "10.0.0.0/23"},
		{"10.0.0.7/32", "10.0.0.0/23"},
		{"10.0.4.0/24", "10.0.0.0/23, 10.0.4.0/24"},
		{"0.0.0.0/0", "0.0.0.0/0"},
	} {
		route(t, n, fmt.Sprint(i), set(t, c.local), set(t, "192.0.2.0/24"), 1400)
		got := strings.Join(strings.Fields(sh(t, "nft list set inet other local4")), " ")
		want := "elements = { " + strings.ReplaceAll(c.want, "0.0.0.0/0", "0.0.0.0-255.255.255.255") + " }"
		if !strings.Contains(got, want) && !strings.Contains(got, "elements = { "+c.want+" }") {
			t.Errorf("after %s: %s, want %s", c.local, got, want)
		}
	}
	for i := range 5 {
		if err := n.Unroute(kernel.PolicyID(fmt.Sprint(i))); err != nil {
			t.Error(err)
		}
	}
	if got := sh(t, "nft list set inet other local4"); strings.Contains(got, "elements") {
		t.Errorf("left: %s", got)
	}
}

func TestPathMTU(t *testing.T) {
	namespace(t)
	sh(t, "ip link set eth0 mtu 1400")
	sh(t, "ip route add 203.0.113.0/24 via 192.1.2.254 mtu 1300")
	n := open(t, Settings{})
	route(t, n, "all", set(t, "192.0.1.0/24"), set(t, "0.0.0.0/0"), 1000) // does not count for what carries our mark
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

func TestMerge(t *testing.T) {
	r := func(a, b string) addrRange { return addrRange{netip.MustParseAddr(a), netip.MustParseAddr(b)} }
	got := merge([]addrRange{r("10.0.0.5", "10.0.0.9"), r("10.0.0.1", "10.0.0.6"), r("10.0.0.10", "10.0.0.10"), r("10.0.0.2", "10.0.0.3"), r("10.0.0.20", "10.0.0.30")})
	if want := []addrRange{r("10.0.0.1", "10.0.0.10"), r("10.0.0.20", "10.0.0.30")}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
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

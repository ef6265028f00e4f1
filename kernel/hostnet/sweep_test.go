package hostnet

import (
	"net"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/subnets"
)

// kill ends a Net as a kill of its daemon does: without a word, and the TUN goes with it.
func kill(t *testing.T, n *Net) {
	t.Helper()
	n.handle.Close()
	if n.guard != nil {
		if err := n.guard.conn.CloseLasting(); err != nil {
			t.Error(err)
		}
	}
	sh(t, "ip link del t0")
	sh(t, "ip tuntap add t0 mode tun")
}

// anyTable makes the numbers of tables the same for policies that came in another order.
func anyTable(state string) string {
	return regexp.MustCompile(`\b(450[234]|469\d)\b`).ReplaceAllString(state, "T")
}

func TestLeftoversOfACrashAreRemoved(t *testing.T) {
	namespace(t)
	sh(t, "sysctl -qw net.ipv6.conf.eth0.accept_dad=0")
	sh(t, "ip addr add 2001:db8:0:1::254/64 dev eth0 nodad")
	set1, set6 := subnets.Of("192.0.1.0/24"), subnets.Of("2001:db8:0:1::/64")
	pass := func(p *kernel.Policy) { p.Action = kernel.Pass }
	first, err := New("t0", Settings{})
	if err != nil {
		t.Fatal(err)
	}
	route(t, first, "x", subnets.Of("192.1.2.45/32"), subnets.Of("192.0.8.0/24"), 1438, between("192.1.2.45", "192.1.2.99"))
	route(t, first, "a", set1, subnets.Of("192.0.2.0/24"), 1438)
	route(t, first, "b", set1, subnets.Of("192.0.3.0/24/tcp/80"), 1438)
	route(t, first, "c", set1, subnets.Of("198.51.100.0/24"), 0, pass)
	route(t, first, "d", set6, subnets.Of("2001:db8:0:2::/64", "2001:db8:0:3::/64/tcp/80"), 1438)
	kill(t, first)
	second, err := New("t0", Settings{}) // does not get far
	if err != nil {
		t.Fatal(err)
	}
	route(t, second, "a", set1, subnets.Of("192.0.4.0/24"), 1438)
	kill(t, second)
	loads := func(n *Net) {
		route(t, n, "a", set1, subnets.Of("192.0.9.0/24"), 1438, between("192.1.2.45", "192.1.2.23"))
		route(t, n, "b", set1, subnets.Of("192.0.3.0/24/tcp/443"), 1438)
		route(t, n, "d", set6, subnets.Of("2001:db8:0:2::/64"), 1438)
	}
	n := open(t, Settings{})
	loads(n)
	if err := n.Sweep(); err != nil {
		t.Fatal(err)
	}
	after := state(t)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	fresh := open(t, Settings{})
	loads(fresh)
	if err := fresh.Sweep(); err != nil {
		t.Fatal(err)
	}
	// The first had tables for two local sides before.
	if want := anyTable(state(t)); anyTable(after) != want {
		t.Errorf("after a crash:\n%s\nwithout one:\n%s", anyTable(after), want)
	}
}

// TestNothingFlowsWhileADaemonIsReplaced: what the killed one held back is held back in every moment until its successor protects it, and longer where that fails.
func TestNothingFlowsWhileADaemonIsReplaced(t *testing.T) {
	namespace(t)
	probe, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()
	eth0, err := net.InterfaceByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	first, err := New("t0", Settings{})
	if err != nil {
		t.Fatal(err)
	}
	local, remote := subnets.Of("192.0.1.0/24"), subnets.Of("192.0.2.0/24", "192.0.3.0/24/udp/4000")
	route(t, first, "a", local, remote, 1438)
	var asked, leaks atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, src := range []net.IP{nil, net.IPv4(192, 0, 1, 254)} {
				asked.Add(1)
				routes, err := probe.RouteGetWithOptions(net.IPv4(192, 0, 2, 9), &netlink.RouteGetOptions{SrcAddr: src})
				if err == nil && routes[0].LinkIndex == eth0.Index {
					leaks.Add(1)
				}
			}
		}
	}()
	guarded := func(n *Net, when string) {
		t.Helper()
		arrive(t, fragment("192.0.3.1", "192.0.1.77", 0, false))
		if !netns.Poll(2*time.Second, func() bool { return dropped(t, n) == 1 }) {
			t.Errorf("%s: what only the rule of a single port keeps out is not dropped", when)
		}
	}
	kill(t, first)
	second, err := New("t0", Settings{})
	if err != nil {
		t.Fatal(err)
	}
	guarded(second, "killed, and begun again")
	sh(t, "ip link del t0")
	if err := second.Close(); err != nil { // it fails before its policies are in place
		t.Fatal(err)
	}
	sh(t, "ip tuntap add t0 mode tun")
	third := open(t, Settings{})
	guarded(third, "begun again after one that failed")
	route(t, third, "a", local, remote, 1438)
	if err := third.Sweep(); err != nil {
		t.Fatal(err)
	}
	before := asked.Load()
	if !netns.Poll(2*time.Second, func() bool { return asked.Load() > before+10 }) {
		t.Error("nobody asks for routes any more")
	}
	close(stop)
	<-stopped
	if n := leaks.Load(); n > 0 {
		t.Errorf("%d of %d times the kernel would have sent a packet in clear", n, asked.Load())
	}
	route(t, third, "a", local, remote, 1438)
	goes(t, "192.0.2.9 from 192.0.1.254", "dev t0")
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
	open(t, Settings{Table: 5000})
}

func TestSomebodyElsesRuleIsLeftAlone(t *testing.T) {
	for _, family := range []string{"-4", "-6"} {
		t.Run(family, func(t *testing.T) {
			namespace(t)
			sh(t, "ip "+family+" rule add from all lookup 100 pref 4502")
			before := state(t)
			if n, err := New("t0", Settings{}); err == nil {
				t.Fatal("took preferences that are in use", n.Close())
			} else if !strings.Contains(err.Error(), "preference=4500") || !strings.Contains(err.Error(), "rule 4502 (lookup 100)") {
				t.Errorf("the message does not name the rule: %v", err)
			}
			if after := state(t); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			open(t, Settings{Preference: 5000})
		})
	}
}

package hostnet

import (
	"testing"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/testing/subnets"
)

// TestPassTakesNoUnbound: what passes for other sources takes nothing of this host's own away from a tunnel; for a source that the tunnel would give it does.
func TestPassTakesNoUnbound(t *testing.T) {
	for _, first := range []string{"pass", "tunnel"} {
		t.Run(first, func(t *testing.T) {
			namespace(t)
			addIPv6(t, "2001:db8:0:1::254", "fd00:1::254", "2001:db8:1:2::45")
			sh(t, "ip addr add 10.8.0.254/24 dev eth0")
			n := open(t, Settings{})
			pass := func() {
				for i, p := range [][2]string{{"10.8.0.0/24", "192.0.2.1/32"}, {"fd00:1::/64", "2001:db8:0:2::1/128"}, {"192.0.1.0/24", "192.0.2.7/32"}, {"192.1.2.0/24", "192.0.2.8/32"}} {
					route(t, n, string(rune('a'+i)), subnets.Of(p[0]), subnets.Of(p[1]), 0, passes)
				}
			}
			if first == "pass" {
				pass()
			}
			route(t, n, "one", subnets.Of("192.0.1.0/24"), subnets.Of("192.0.2.0/24"), 1438)
			route(t, n, "one6", subnets.Of("2001:db8:0:1::/64"), subnets.Of("2001:db8:0:2::/64"), 1398)
			if first != "pass" {
				pass()
			}
			goes(t, "192.0.2.1", "dev t0", "src 192.0.1.254")
			goes(t, "192.0.2.1 from 10.8.0.254", "dev eth0")
			goes(t, "2001:db8:0:2::1", "dev t0", "src 2001:db8:0:1::254")
			goes(t, "2001:db8:0:2::1 from fd00:1::254", "dev eth0")
			goes(t, "192.0.2.7", "dev eth0")
			goes(t, "192.0.2.8", "dev eth0", "src 192.1.2.45")
			if err := n.Unroute("one"); err != nil {
				t.Fatal(err)
			}
			goes(t, "192.0.2.1", "dev eth0")
			goes(t, "192.0.2.7", "dev eth0")
		})
	}
}

// TestUnboundStays: a second policy for the same remote side takes this host's own traffic from one that carries it only if its source is that of the system.
func TestUnboundStays(t *testing.T) {
	namespace(t)
	sh(t, "ip addr add 10.8.0.254/24 dev eth0")
	trap := func(p *kernel.Policy) { p.Action = kernel.Trap }
	remote := subnets.Of("192.0.2.0/24")
	n := open(t, Settings{})
	one := func(change ...func(*kernel.Policy)) {
		route(t, n, "one", subnets.Of("192.0.1.0/24"), remote, 1438, change...)
	}
	two := func(change ...func(*kernel.Policy)) {
		route(t, n, "two", subnets.Of("10.8.0.0/24"), remote, 1438, change...)
	}
	one()
	two(trap)
	goes(t, "192.0.2.1", "dev t0", "src 192.0.1.254")
	two()
	goes(t, "192.0.2.1", "dev t0", "src 192.0.1.254")
	one() // replaced, it is as old as before
	goes(t, "192.0.2.1", "dev t0", "src 192.0.1.254")
	one(trap)
	goes(t, "192.0.2.1", "dev t0", "src 10.8.0.254")
	one()
	two(trap)
	goes(t, "192.0.2.1", "dev t0", "src 192.0.1.254")
	route(t, n, "own", subnets.Of("192.1.2.45/32"), remote, 1438, trap)
	goes(t, "192.0.2.1", "dev t0", "src 192.1.2.45")
	if err := n.Unroute("own"); err != nil {
		t.Fatal(err)
	}
	if err := n.Unroute("one"); err != nil {
		t.Fatal(err)
	}
	goes(t, "192.0.2.1", "dev t0", "src 10.8.0.254")
}

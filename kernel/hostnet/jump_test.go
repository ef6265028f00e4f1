package hostnet

import (
	"testing"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/testing/subnets"
)

// TestPassInsideATunnel: what passes for one host goes past the tunnel of its network, whichever came first, and never around a tunnel that is narrower.
func TestPassInsideATunnel(t *testing.T) {
	for _, first := range []string{"pass", "net"} {
		namespace(t)
		n := open(t, Settings{})
		tunnel := func() { route(t, n, "net", subnets.Of("192.0.1.0/24"), subnets.Of("192.0.2.0/24"), 1438) }
		pass := func() {
			route(t, n, "pass", subnets.Of("192.0.1.254/32"), subnets.Of("192.0.2.0/28"), 0, func(p *kernel.Policy) { p.Action = kernel.Pass })
		}
		if first == "pass" {
			pass()
			tunnel()
		} else {
			tunnel()
			pass()
		}
		goes(t, "192.0.2.7 from 192.0.1.254", "dev eth0")
		goes(t, "192.0.2.77 from 192.0.1.254", "dev t0")
		goes(t, "192.0.2.7 from 192.0.1.9 iif eth0", "dev t0")
		if err := n.Sweep(); err != nil {
			t.Error(err)
		}
		goes(t, "192.0.2.7 from 192.0.1.254", "dev eth0")
		route(t, n, "host", subnets.Of("192.0.1.254/32"), subnets.Of("192.0.2.7/32"), 1438)
		goes(t, "192.0.2.7 from 192.0.1.254", "dev t0") // stronger than what lets pass
		if err := n.Unroute("host"); err != nil {
			t.Error(err)
		}
		if err := n.Unroute("pass"); err != nil {
			t.Error(err)
		}
		goes(t, "192.0.2.7 from 192.0.1.254", "dev t0")
		if err := n.Unroute("net"); err != nil {
			t.Error(err)
		}
		same(t, "rules", rules(t, "4500"), []string{"4500: from all fwmark 0x494b45 goto 4504"})
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestPassInsideTunnelsOfOtherPrefixes: the local prefix of the tunnel need not be that of what passes inside it. Where it is the narrower one, the tunnel is stronger for its packets.
func TestPassInsideTunnelsOfOtherPrefixes(t *testing.T) {
	for _, tc := range []struct{ name, tunnelLocal, tunnelRemote, passLocal, passRemote, want string }{
		{"wider local", "192.0.0.0/16", "192.0.2.0/24", "192.0.1.0/24", "192.0.2.7/32", "dev eth0"},
		{"wider both", "192.0.0.0/16", "192.0.0.0/16", "192.0.1.254/32", "192.0.2.0/24", "dev eth0"},
		{"same remote", "192.0.0.0/16", "192.0.2.7/32", "192.0.1.0/24", "192.0.2.7/32", "dev eth0"},
		{"narrower local", "192.0.1.0/24", "192.0.2.0/24", "192.0.0.0/16", "192.0.2.7/32", "dev t0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			namespace(t)
			n := open(t, Settings{})
			route(t, n, "net", subnets.Of(tc.tunnelLocal), subnets.Of(tc.tunnelRemote), 1438)
			route(t, n, "pass", subnets.Of(tc.passLocal), subnets.Of(tc.passRemote), 0, func(p *kernel.Policy) { p.Action = kernel.Pass })
			goes(t, "192.0.2.7 from 192.0.1.254", tc.want)
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

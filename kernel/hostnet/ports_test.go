package hostnet

import (
	"testing"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/testing/subnets"
)

func passes(p *kernel.Policy) { p.Action = kernel.Pass }

// TestPortsPassBesidePorts: what one policy lets pass by its port opens no other port, and is not held by the tunnel of one.
func TestPortsPassBesidePorts(t *testing.T) {
	namespace(t)
	addIPv6(t, "2001:db8:0:1::254", "2001:db8:1:2::45")
	n := open(t, Settings{})
	lan, lan6 := subnets.Of("192.0.1.0/24"), subnets.Of("2001:db8:0:1::/64")
	route(t, n, "web", lan, subnets.Of("192.0.2.0/24/tcp/80"), 1438)
	route(t, n, "web6", lan6, subnets.Of("2001:db8:0:2::/64/tcp/80"), 1398)
	for _, pass := range []struct{ host, host6 string }{{"192.0.2.1/32/tcp/22", "2001:db8:0:2::1/128/tcp/22"}, {"192.0.2.0/24/tcp/22", "2001:db8:0:2::/64/tcp/22"}} {
		route(t, n, "ssh", lan, subnets.Of(pass.host), 0, passes)
		route(t, n, "ssh6", lan6, subnets.Of(pass.host6), 0, passes)
		for _, from := range []string{"192.0.2.1 from 192.0.1.254", "192.0.2.1 from 192.0.1.7 iif eth0", "192.0.2.1"} {
			goes(t, from+" ipproto tcp dport 80", "dev t0")
			goes(t, from+" ipproto tcp dport 22", "dev eth0")
		}
		for _, from := range []string{"2001:db8:0:2::1 from 2001:db8:0:1::254", "2001:db8:0:2::1"} {
			goes(t, from+" ipproto tcp dport 80", "dev t0")
			goes(t, from+" ipproto tcp dport 22", "dev eth0")
		}
	}
	// A second tunnel to the host that fails, with failureshunt=passthrough.
	route(t, n, "sql", lan, subnets.Of("192.0.2.1/32/tcp/5432"), 1438)
	goes(t, "192.0.2.1 from 192.0.1.254 ipproto tcp dport 5432", "dev t0")
	route(t, n, "sql", lan, subnets.Of("192.0.2.1/32/tcp/5432"), 0, passes)
	goes(t, "192.0.2.1 from 192.0.1.254 ipproto tcp dport 5432", "dev eth0")
	goes(t, "192.0.2.1 from 192.0.1.254 ipproto tcp dport 80", "dev t0")
}

// TestPortPassInsideTunnel: by its port nothing passes where a tunnel for all protocols is; the datapath drops it there, as ipsec.conf(5) says.
func TestPortPassInsideTunnel(t *testing.T) {
	namespace(t)
	n := open(t, Settings{})
	route(t, n, "net", subnets.Of("192.0.1.0/24"), subnets.Of("192.0.2.0/24"), 1438)
	route(t, n, "ssh", subnets.Of("192.0.1.0/24"), subnets.Of("192.0.2.1/32/tcp/22"), 0, passes)
	for _, from := range []string{"192.0.2.1 from 192.0.1.254", "192.0.2.1"} {
		goes(t, from+" ipproto tcp dport 22", "dev t0")
		goes(t, from+" ipproto tcp dport 80", "dev t0")
	}
	route(t, n, "ssh", subnets.Of("192.0.1.0/24"), subnets.Of("192.0.2.1/32/tcp/22"), 1438)
	if err := n.Unroute("ssh"); err != nil {
		t.Fatal(err)
	}
	goes(t, "192.0.2.1 from 192.0.1.254 ipproto tcp dport 22", "dev t0")
}

package hostnet

import (
	"fmt"
	"slices"
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

// TestOwnNetworksOfPorts: what one policy of a port keeps in clear of its wide remote side is protected by others.
func TestOwnNetworksOfPorts(t *testing.T) {
	namespace(t)
	n := open(t, Settings{})
	route(t, n, "host", subnets.Of("192.1.2.45/32"), subnets.Of("0.0.0.0/0/tcp/443"), 1438)
	route(t, n, "lan", subnets.Of("192.0.0.0/16"), subnets.Of("0.0.0.0/0/tcp/80"), 1438)
	route(t, n, "near", subnets.Of("192.0.0.0/16"), subnets.Of("192.0.0.0/14/tcp/22"), 1438)
	check := func() {
		t.Helper()
		goes(t, "192.0.2.1 from 192.1.2.45 ipproto tcp dport 443", "dev t0")
		goes(t, "192.0.2.1 from 192.0.1.254 ipproto tcp dport 80", "dev eth0")
		goes(t, "8.8.8.8 from 192.0.1.254 ipproto tcp dport 80", "dev t0")
		goes(t, "224.0.0.5 from 192.1.2.45 ipproto tcp dport 443", "dev eth0")
		goes(t, "192.0.2.1 ipproto tcp dport 443", "dev t0", "src 192.1.2.45")
		goes(t, "192.2.2.1 from 192.0.1.254 ipproto tcp dport 22", "dev t0")
	}
	check()
	route(t, n, "host", subnets.Of("192.1.2.45/32"), subnets.Of("0.0.0.0/0/tcp/443"), 1400)
	check()
	for _, id := range []kernel.PolicyID{"lan", "near"} {
		if err := n.Unroute(id); err != nil {
			t.Fatal(err)
		}
	}
	goes(t, "192.0.2.1 from 192.1.2.45 ipproto tcp dport 443", "dev t0")
	if err := n.Unroute("host"); err != nil {
		t.Fatal(err)
	}
	if len(n.ports)+len(n.rules)+len(n.prefixes) != 0 {
		t.Errorf("left: %v %v %v", n.ports, n.rules, n.prefixes)
	}
}

// TestSourcesOfPorts: each policy of a port gives packets made here its own source, whichever came first.
func TestSourcesOfPorts(t *testing.T) {
	namespace(t)
	addIPv6(t, "2001:db8:0:1::254", "fd00:1::254", "2001:db8:1:2::45")
	sh(t, "ip addr add 10.8.0.254/24 dev eth0")
	n := open(t, Settings{})
	web := func() {
		route(t, n, "web", subnets.Of("192.0.1.0/24", "2001:db8:0:1::/64"), subnets.Of("192.0.2.0/24/tcp/80", "2001:db8:0:2::/64/tcp/80"), 1398)
	}
	route(t, n, "tls", subnets.Of("10.8.0.0/24", "fd00:1::/64"), subnets.Of("192.0.2.0/24/tcp/443", "2001:db8:0:2::/64/tcp/443"), 1398)
	web()
	check := func() {
		t.Helper()
		goes(t, "192.0.2.1 ipproto tcp dport 80", "dev t0", "src 192.0.1.254")
		goes(t, "192.0.2.1 ipproto tcp dport 443", "dev t0", "src 10.8.0.254")
		goes(t, "2001:db8:0:2::1 ipproto tcp dport 80", "dev t0", "src 2001:db8:0:1::254")
		goes(t, "2001:db8:0:2::1 ipproto tcp dport 443", "dev t0", "src fd00:1::254")
		goes(t, "192.0.2.1 ipproto tcp dport 22", "dev eth0")
	}
	check()
	if err := n.Unroute("web"); err != nil {
		t.Fatal(err)
	}
	web()
	check()
}

// TestTooManyTablesOfPorts: those that find none are led to the TUN all the same.
func TestTooManyTablesOfPorts(t *testing.T) {
	namespace(t)
	n := open(t, Settings{})
	const all = maxPorts + 3
	address := func(i int) string { return fmt.Sprintf("10.0.%d.1", i) }
	for i := range all {
		sh(t, "ip addr add "+address(i)+"/32 dev eth0")
		route(t, n, fmt.Sprint(i), subnets.Of(address(i)+"/32"), subnets.Of(fmt.Sprintf("192.0.%d.0/24/icmp", i)), 1400)
	}
	for i := range all {
		goes(t, fmt.Sprintf("192.0.%d.1 ipproto icmp", i), "dev t0")
		goes(t, fmt.Sprintf("192.0.%d.1 from %s ipproto icmp", i, address(i)), "dev t0")
	}
	for i := range all {
		if err := n.Unroute(kernel.PolicyID(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if len(n.ports)+len(n.rules)+len(n.prefixes) != 0 {
		t.Errorf("left: %v %v %v", n.ports, n.rules, n.prefixes)
	}
}

// TestTablesOfPortsAreTakenOver: the daemon after one that was killed leads packets to its tunnels before all its policies are in place, and lets nothing pass that
// another policy of the killed one kept in clear.
func TestTablesOfPortsAreTakenOver(t *testing.T) {
	namespace(t)
	sh(t, "ip addr add 10.8.0.254/24 dev eth0")
	loads := []func(*Net){
		func(n *Net) { route(t, n, "lan", subnets.Of("192.0.0.0/16"), subnets.Of("0.0.0.0/0/tcp/80"), 1438) },
		func(n *Net) { route(t, n, "host", subnets.Of("192.1.2.45/32"), subnets.Of("0.0.0.0/0/tcp/443"), 1438) },
		func(n *Net) { route(t, n, "tls", subnets.Of("10.8.0.0/24"), subnets.Of("192.0.2.0/24/tcp/22"), 1398) },
	}
	first, err := New("t0", Settings{})
	if err != nil {
		t.Fatal(err)
	}
	for _, load := range loads {
		load(first)
	}
	kill(t, first)
	n := open(t, Settings{})
	check := []func(){
		func() {
			t.Helper()
			goes(t, "8.8.8.8 from 192.0.1.254 ipproto tcp dport 80", "dev t0")
			goes(t, "192.0.2.1 from 192.0.1.254 ipproto tcp dport 80", "dev eth0")
		},
		func() {
			t.Helper()
			goes(t, "192.0.2.1 from 192.1.2.45 ipproto tcp dport 443", "dev t0")
			goes(t, "192.0.2.1 ipproto tcp dport 443", "dev t0", "src 192.1.2.45")
		},
		func() { t.Helper(); goes(t, "192.0.2.1 ipproto tcp dport 22", "dev t0", "src 10.8.0.254") },
	}
	for i, load := range slices.Backward(loads) { // other numbers than before, if none were taken over
		load(n)
		check[i]()
	}
	if err := n.Sweep(); err != nil {
		t.Fatal(err)
	}
	for _, c := range check {
		c()
	}
	if len(n.leftTables)+len(n.leftRules) != 0 {
		t.Errorf("still known as left: %v %v", n.leftTables, n.leftRules)
	}
}

// TestPortsToTheEnd: Linux has no rule for ports from 0 or to 65535, and policies have such ranges.
func TestPortsToTheEnd(t *testing.T) {
	namespace(t)
	n := open(t, Settings{})
	high, low := subnets.Of("192.0.2.0/24/tcp"), subnets.Of("192.0.3.0/24/tcp")
	high[0].StartPort, high[0].EndPort = 1024, 65535
	low[0].StartPort, low[0].EndPort = 0, 1023
	route(t, n, "high", subnets.Of("192.0.1.0/24"), high, 1438)
	route(t, n, "low", subnets.Of("192.0.1.0/24"), low, 1438)
	for to, dev := range map[string]string{"2.1 1024": "t0", "2.1 65534": "t0", "2.1 1023": "eth0", "3.1 1": "t0", "3.1 1023": "t0", "3.1 1024": "eth0"} {
		var host, port string
		if _, err := fmt.Sscan(to, &host, &port); err != nil {
			t.Fatal(err)
		}
		goes(t, "192.0."+host+" from 192.0.1.254 ipproto tcp dport "+port, "dev "+dev)
	}
}

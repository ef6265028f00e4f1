package xfrm

import (
	"strings"
	"testing"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/testing/subnets"
)

// routesOfOurs lists our routes, one a line.
func routesOfOurs(t *testing.T) string {
	t.Helper()
	return sh(t, "ip route show table all proto 73") + sh(t, "ip -6 route show table all proto 73")
}

// Packets of the host itself get the policy's source address, where they would have another.
func TestSourceRoutes(t *testing.T) {
	namespace(t)
	r := open(t, Config{})
	p := westEast(t, kernel.Hold)
	p.SourceIP = addr("192.0.1.254")
	r.route(p)
	if got := routesOfOurs(t); strings.Count(got, "\n") != 1 || !strings.Contains(got, "192.0.2.0/24 via 192.1.2.254 dev eth0 table 4800 src 192.0.1.254") {
		t.Errorf("routes: %q", got)
	}
	if got := sh(t, "ip route get 192.0.2.1"); !strings.Contains(got, "src 192.0.1.254") {
		t.Errorf("%s", got)
	}
	other := p
	other.ID, other.MTU = "other", 1300
	r.route(other) // shares it
	p.Remote = subnets.Of("0.0.0.0/0")
	r.route(p)
	got := routesOfOurs(t)
	for _, want := range []string{"0.0.0.0/1 via 192.1.2.254", "128.0.0.0/1 via 192.1.2.254", "192.0.2.0/24 via"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	// Nothing is made where the source is right anyhow, or where the policy lets pass.
	for _, id := range []kernel.PolicyID{"west-east", "other"} {
		r.must(func(n kernel.Request) { r.Unroute(n, id) })
	}
	p.Remote, p.SourceIP = subnets.Of("192.0.2.0/24"), addr("192.1.2.45")
	sh(t, "ip route add 192.0.2.0/25 via 192.1.2.254 src 192.1.2.45")
	r.route(p)
	p.ID, p.Action, p.SourceIP = "pass", kernel.Pass, addr("192.0.1.254")
	r.route(p)
	if got := routesOfOurs(t); got != "" {
		t.Errorf("left, or needless: %q", got)
	}
}

// A policy that comes takes no packets of the host away from one that carries them, and gives them back when it goes.
func TestSourceStays(t *testing.T) {
	namespace(t)
	sh(t, "ip addr add 10.8.0.254/24 dev eth0")
	r := open(t, Config{})
	one, two := westEast(t, kernel.Protect), westEast(t, kernel.Trap)
	one.SourceIP = addr("192.0.1.254")
	two.ID, two.Local, two.SourceIP, two.MTU = "two", subnets.Of("10.8.0.0/24"), addr("10.8.0.254"), 1300
	source := func(when, want string) {
		t.Helper()
		if got := sh(t, "ip route get 192.0.2.1"); !strings.Contains(got, "src "+want+" ") {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
	}
	r.route(two)
	source("alone", "10.8.0.254")
	r.route(one)
	source("one that protects", "192.0.1.254")
	two.Action = kernel.Protect
	r.route(two)
	source("the older protects", "10.8.0.254")
	two.Action = kernel.Trap
	r.route(two)
	source("it has no SA any more", "192.0.1.254")
	r.must(func(n kernel.Request) { r.Unroute(n, one.ID) })
	source("it goes", "10.8.0.254")
	if got := routesOfOurs(t); strings.Count(got, "\n") != 1 || !strings.Contains(got, "mtu 1300") {
		t.Errorf("routes: %q", got)
	}
	r.route(one)
	r.must(func(n kernel.Request) { r.Unroute(n, "two") })
	source("the other goes", "192.0.1.254")
	r.must(func(n kernel.Request) { r.Unroute(n, one.ID) })
	if got := sh(t, "ip rule show pref 4499") + routesOfOurs(t); got != "" {
		t.Errorf("left: %q", got)
	}
}

// A route of somebody else to the same network stays, and does not keep packets of the host from the policy. IPv6 has no way to tell packets without a source.
func TestSourceBesideRoutes(t *testing.T) {
	namespace(t)
	r := open(t, Config{})
	sh(t, "ip route add 192.0.2.0/24 via 192.1.2.23")
	sh(t, "ip -6 route add 2001:db8:0:2::/64 via 2001:db8:1:2::23")
	sh(t, "ip addr add 2001:dead:0:1::254/64 dev eth0 nodad")
	p := westEast(t, kernel.Hold)
	p.SourceIP = addr("192.0.1.254")
	r.route(p)
	six := kernel.Policy{ID: "six", Local: subnets.Of("2001:dead:0:1::/64"), Remote: subnets.Of("2001:db8:0:2::/64"), SourceIP: addr("2001:dead:0:1::254")}
	r.route(six)
	for command, want := range map[string]string{
		"ip route get 192.0.2.1":                 "via 192.1.2.23 dev eth0 table 4800 src 192.0.1.254",
		"ip route get 192.0.2.1 from 192.1.2.45": "from 192.1.2.45 via 192.1.2.23 dev eth0",
		"ip -6 route get 2001:db8:0:2::1":        "via 2001:db8:1:2::23 dev eth0 table 4800 proto 73 src 2001:dead:0:1::254",
		"ip rule show pref 4499":                 "from 0.0.0.0 iif lo lookup 4800",
		"ip -6 rule show pref 4499":              "from all iif lo lookup 4800",
	} {
		if got := strings.Join(strings.Fields(sh(t, command)), " "); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", command, got, want)
		}
	}
	for _, id := range []kernel.PolicyID{"west-east", "six"} {
		r.must(func(n kernel.Request) { r.Unroute(n, id) })
	}
	if got := sh(t, "ip rule show pref 4499") + sh(t, "ip -6 rule show pref 4499") + routesOfOurs(t); got != "" {
		t.Errorf("left: %q", got)
	}
	if got := sh(t, "ip route show 192.0.2.0/24"); !strings.Contains(got, "via 192.1.2.23") {
		t.Errorf("the other's route: %q", got)
	}
}

// When the way changes, the routes follow it.
func TestSourceRoutesFollowTheWay(t *testing.T) {
	namespace(t)
	r := open(t, Config{})
	p := westEast(t, kernel.Hold)
	p.SourceIP = addr("192.0.1.254")
	r.route(p)
	sh(t, "ip addr add 2001:dead:0:1::254/64 dev eth0 nodad")
	six := kernel.Policy{ID: "six", Local: subnets.Of("2001:dead:0:1::/64"), Remote: subnets.Of("2001:db8:0:2::/64"), SourceIP: addr("2001:dead:0:1::254"), MTU: 1400}
	r.route(six) // there is no way yet
	renewed := func() {
		t.Helper()
		r.RoutesChanged()
		r.must(func(n kernel.Request) { r.Unroute(n, "behind it") })
	}
	has := func(when string, want ...string) {
		t.Helper()
		got := strings.Join(strings.Fields(routesOfOurs(t)), " ")
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: no %q in %q", when, w, got)
			}
		}
	}
	sh(t, "ip -6 route add default via 2001:db8:1:2::254")
	renewed()
	has("a way", "192.0.2.0/24 via 192.1.2.254 dev eth0 table 4800", "2001:db8:0:2::/64 via 2001:db8:1:2::254 dev eth0 table 4800")
	sh(t, "ip route replace default via 192.1.2.253")
	sh(t, "ip -6 route replace default via 2001:db8:1:2::253")
	renewed()
	has("another way", "192.0.2.0/24 via 192.1.2.253 dev eth0 table 4800 src 192.0.1.254", "2001:db8:0:2::/64 via 2001:db8:1:2::253 dev eth0 table 4800")
	sh(t, "ip link set eth0 down")
	sh(t, "ip link set eth0 up")
	sh(t, "ip addr replace 2001:db8:1:2::45/64 dev eth0 nodad")
	sh(t, "ip addr replace 2001:dead:0:1::254/64 dev eth0 nodad")
	sh(t, "ip route replace default via 192.1.2.252")
	sh(t, "ip -6 route replace default via 2001:db8:1:2::252")
	renewed()
	has("the link was down", "192.0.2.0/24 via 192.1.2.252 dev eth0 table 4800 src 192.0.1.254", "2001:db8:0:2::/64 via 2001:db8:1:2::252 dev eth0 table 4800")
}

// portRules lists our rules for ports.
func portRules(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	for l := range strings.Lines(sh(t, "ip rule") + sh(t, "ip -6 rule")) {
		if strings.Contains(l, "iif lo ipproto") {
			out.WriteString(l)
		}
	}
	return out.String()
}

// Two policies to the same network, for other ports, have each its own source, in both families, beside one for all packets.
func TestSourceOfPorts(t *testing.T) {
	namespace(t)
	for _, a := range []string{"10.8.0.254/24", "10.9.0.254/24", "2001:dead:8::254/64", "2001:dead:9::254/64"} {
		sh(t, "ip addr add "+a+" dev eth0 nodad")
	}
	sh(t, "ip -6 route add default via 2001:db8:1:2::254")
	r := open(t, Config{})
	port := func(id kernel.PolicyID, local, remote, source, spec string) kernel.Policy {
		p := kernel.Policy{ID: id, Local: subnets.Of(local), Remote: subnets.Of(remote), SourceIP: addr(source), Action: kernel.Protect}
		for i := range p.Remote {
			sel := &p.Remote[i]
			switch spec {
			case "ssh":
				sel.Protocol, sel.StartPort, sel.EndPort = 6, 22, 22
			case "web":
				sel.Protocol, sel.StartPort, sel.EndPort = 6, 80, 443
			case "udp":
				sel.Protocol = 17
			case "high":
				sel.Protocol, sel.StartPort, sel.EndPort = 17, 1024, 65535
			case "low":
				sel.Protocol, sel.StartPort, sel.EndPort = 17, 0, 1023
			case "last":
				sel.Protocol, sel.StartPort, sel.EndPort = 33, 65535, 65535
			}
		}
		return p
	}
	all := westEast(t, kernel.Protect)
	all.SourceIP = addr("192.0.1.254")
	list := []kernel.Policy{
		port("ssh", "10.8.0.0/24", "192.0.2.0/24", "10.8.0.254", "ssh"), port("web", "10.9.0.0/24", "192.0.2.0/24", "10.9.0.254", "web"), all,
		port("udp", "10.9.0.0/24", "192.0.2.0/24", "10.9.0.254", "udp"),
		port("ssh6", "2001:dead:8::/64", "2001:db8:0:2::/64", "2001:dead:8::254", "ssh"), port("web6", "2001:dead:9::/64", "2001:db8:0:2::/64", "2001:dead:9::254", "web"),
		port("high", "10.8.0.0/24", "192.0.2.0/24", "10.8.0.254", "high"), port("low", "10.9.0.0/24", "192.0.2.0/24", "10.9.0.254", "low"),
		port("last", "10.8.0.0/24", "192.0.2.0/24", "10.8.0.254", "last"), port("wide", "10.8.0.0/24", "198.51.0.0/16", "10.8.0.254", "ssh"),
		port("narrow", "10.9.0.0/24", "198.51.100.0/24", "10.9.0.254", "ssh"),
		port("udp0", "10.8.0.0/24", "0.0.0.0/0", "10.8.0.254", "udp"),
	}
	for _, p := range list {
		r.route(p)
	}
	want := map[string]string{
		"192.0.2.1 ipproto tcp dport 22": "10.8.0.254", "192.0.2.1 ipproto tcp dport 80": "10.9.0.254", "192.0.2.1 ipproto tcp dport 443": "10.9.0.254",
		"192.0.2.1 ipproto tcp dport 444": "192.0.1.254", "192.0.2.1 ipproto icmp": "192.0.1.254", "192.0.2.1 ipproto udp dport 53": "10.9.0.254",
		"198.51.100.1 ipproto udp dport 53": "10.8.0.254", "198.51.100.1 ipproto tcp dport 80": "192.1.2.45",
		"192.0.2.1 ipproto udp dport 1024": "10.8.0.254", "192.0.2.1 ipproto udp dport 1023": "10.9.0.254",
		"198.51.100.1 ipproto tcp dport 22": "10.9.0.254", "198.51.7.1 ipproto tcp dport 22": "10.8.0.254", // the narrower first, although it came later
		"2001:db8:0:2::1 ipproto tcp dport 22": "2001:dead:8::254", "2001:db8:0:2::1 ipproto tcp dport 81": "2001:dead:9::254",
	}
	sources := func(when string) {
		t.Helper()
		for to, src := range want {
			if got := strings.Join(strings.Fields(sh(t, "ip route get "+to)), " "); !strings.Contains(got, "src "+src+" ") {
				t.Errorf("%s: %s: %s, want %s", when, to, got, src)
			}
		}
	}
	sources("all routed")
	sh(t, "ip route replace default via 192.1.2.253")
	r.RoutesChanged()
	r.must(func(n kernel.Request) { r.Unroute(n, "behind it") })
	sources("another way")
	if got := sh(t, "ip route get 192.0.2.1 ipproto tcp dport 22"); !strings.Contains(got, "via 192.1.2.253") {
		t.Errorf("it did not follow the way: %s", got)
	}
	r.must(func(n kernel.Request) { r.Unroute(n, "ssh") })
	want["192.0.2.1 ipproto tcp dport 22"] = "192.0.1.254"
	sources("without one")
	for _, p := range list {
		r.must(func(n kernel.Request) { r.Unroute(n, p.ID) })
	}
	if got := portRules(t) + sh(t, "ip rule show pref 4499") + routesOfOurs(t); got != "" {
		t.Errorf("left: %q", got)
	}
}

package xfrm

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/testing/subnets"
)

// The interfaces of a killed daemon stay, with what is on them, until those of the new one are in place: the same interface serves both.
func testLeftInterface(t *testing.T, west, east *gateway) {
	dir := t.TempDir()
	for _, n := range []string{east.n4, east.n6} {
		west.ip(t, "route del "+n)
	}
	onIt := func(name string) string {
		return west.ip(t, "-br addr show "+name) + west.ip(t, "-4 route show dev "+name) + west.ip(t, "-6 route show proto 73 dev "+name)
	}
	interfaces := func() string { return west.ip(t, "-d link show type xfrm") }
	policy := func(id kernel.PolicyID, iface kernel.Interface) kernel.Policy {
		c := tunnel{suite: gcm, carrier: path.ESP, iface: iface}
		p := c.policy(t, west, east, kernel.Hold)
		p.ID = id
		return p
	}
	address := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	p := policy("west-east", kernel.Interface{Name: "ipsec1", ID: 1, Addrs: address("198.18.15.15/24")})
	unwanted := policy("unwanted", kernel.Interface{Name: "ipsec2", ID: 2})
	unwanted.Remote = subnets.Of("192.0.99.0/24")
	renumbered := policy("renumbered", kernel.Interface{Name: "ipsec3", ID: 3})
	renumbered.Remote = subnets.Of("192.0.98.0/24")

	west.in(func() { west.rig = openUnclosed(t, Config{RunDir: dir}) })
	for _, p := range []kernel.Policy{p, unwanted, renumbered} {
		west.route(p)
	}
	index := func() string { return strings.Fields(west.ip(t, "-o link show ipsec1"))[0] }
	before, was, number := interfaces(), onIt("ipsec1"), index()
	if strings.Count(before, "xfrm if_id") != 3 || strings.Count(was, "\n") != 4 {
		t.Fatalf("first:\n%s%s", before, was)
	}
	west.kill()
	p.Interface.Addrs, renumbered.Interface.ID = address("198.18.15.16/24"), 4

	var said []string
	again := func() {
		west.rig = openUnclosed(t, Config{RunDir: dir, Left: func(s string) { said = append(said, s) }})
	}
	west.in(again)
	if got := interfaces(); got != before {
		t.Errorf("before its policies come:\n%swant\n%s", got, before)
	}
	west.route(p)
	if got := onIt("ipsec1"); !strings.Contains(got, "198.18.15.15/24") || !strings.Contains(got, "198.18.15.16/24") {
		t.Errorf("the new policy's:\n%s", got)
	}
	if err := west.Close(); err != nil {
		t.Error(err)
	}
	if got := interfaces() + onIt("ipsec1"); got != before+was {
		t.Errorf("after one that could not start:\n%swant\n%s", got, before+was)
	}

	said = nil
	west.in(again)
	west.route(p)
	west.route(renumbered)
	if err := west.Sweep(); err != nil {
		t.Error(err)
	}
	text := strings.Join(said, "; ")
	if !strings.Contains(text, "stay until those of this one are in place: ipsec1, ipsec2, ipsec3") || !strings.Contains(text, "removed interfaces that an earlier daemon had left: ipsec2") {
		t.Errorf("said %q", said)
	}
	if got := interfaces(); strings.Contains(got, "ipsec2") || !strings.Contains(got, "if_id 0x4") || strings.Contains(got, "if_id 0x3") || index() != number {
		t.Errorf("swept:\n%s", got)
	}
	if got := onIt("ipsec1"); strings.Contains(got, "198.18.15.15/24") || !strings.Contains(got, "198.18.15.16/24") || !strings.Contains(got, east.n4) || !strings.Contains(got, east.n6) {
		t.Errorf("swept:\n%s", got)
	}
	if err := west.Close(); err != nil {
		t.Error(err)
	}
	if got := interfaces() + west.ip(t, "xfrm policy"); got != "" {
		t.Errorf("left:\n%s", got)
	}
}

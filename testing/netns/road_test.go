package netns_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/ctl"
	"github.com/ikegod/ikegod/testing/netns"
)

// roads makes a gateway and three road warriors: the first two come from one address, that of their NAT, the third from its own.
func roads(t *testing.T) (east *netns.Host, road []*netns.Host) {
	t.Helper()
	netns.Need(t)
	l, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	host := func(name string) *netns.Host {
		h, err := l.Host(name)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	east = host("east")
	nic := host("nic")
	errs := []error{
		l.Cable(east, netns.Outer, []string{netns.East + "/24"}, nic, "eth1", []string{"192.1.2.254/24"}),
		east.Stub("eth0", netns.EastInner+"/24"), east.Run("ip", "route", "add", "default", "via", "192.1.2.254"),
		nic.RunInput("table ip nat {\n\tchain out {\n\t\ttype nat hook postrouting priority srcnat;\n\t\tip saddr { 192.1.3.0/24, 192.1.4.0/24 } oifname eth1 masquerade\n\t}\n}\n", "nft", "-f", "-"),
	}
	for i := range 3 {
		h := host(fmt.Sprintf("road%d", i+1))
		network := fmt.Sprintf("192.1.%d.", 3+i)
		errs = append(errs, l.Cable(h, netns.Outer, []string{network + "209/24"}, nic, fmt.Sprintf("eth%d", 2+i), []string{network + "254/24"}),
			h.Run("ip", "route", "add", "default", "via", network+"254"))
		road = append(road, h)
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return east, road
}

const roadSecrets = "@east %any : PSK \"a secret that nobody guesses\"\n"

func inner(i int) string { return fmt.Sprintf("10.9.0.%d", i+1) }

// TestRoadWarriors: one template serves several peers at once, also behind one NAT; each is an instance with its own policy, and goes by itself.
func TestRoadWarriors(t *testing.T) {
	for _, mode := range []string{"enable-tcp=no", "enable-tcp=yes"} {
		t.Run(mode, func(t *testing.T) { testRoadWarriors(t, mode) })
	}
}

func testRoadWarriors(t *testing.T, mode string) {
	e, road := roads(t)
	before, err := e.State()
	if err != nil {
		t.Fatal(err)
	}
	east := start(t, e, `config setup
	listen-tcp=yes

conn road
	left=192.1.2.23
	leftid=@east
	leftsubnet=192.0.2.0/24
	right=%any
	rightsubnet=10.9.0.0/24
	narrowing=yes
	authby=secret
	auto=add
`, roadSecrets)
	var peers []*netns.Daemon
	for i, h := range road {
		d := start(t, h, fmt.Sprintf(`conn %s
	left=%%defaultroute
	leftid=@road%d
	leftsubnet=%s/32
	leftsourceip=%s
	right=192.1.2.23
	rightid=@east
	rightsubnet=192.0.2.0/24
	authby=secret
	auto=add
	%s
`, conn, i+1, inner(i), inner(i), mode), roadSecrets)
		up(t, d)
		peers = append(peers, d)
	}
	for i, h := range road {
		pings(t, h, inner(i), netns.EastInner, 56)
	}
	numbers := instances(t, east)
	if len(numbers) != 3 {
		t.Fatalf("instances: %v", numbers)
	}
	for verb, want := range map[string][]string{
		"status":        {`"road"[1] 192.1.2.254`, `"road"[2] 192.1.2.254`, `"road"[3] 192.1.5.209`},
		"trafficstatus": {`"road"[1] 192.1.2.254, type=ESP`, `id='@road2'`, `"road"[3] 192.1.5.209, type=ESP`},
		"connections":   {`"road"`, `"road"[2] 192.1.2.254`, "192.0.2.0/24 === 10.9.0.2/32"},
	} {
		out, status := east.Ikectl(verb)
		if status != 0 {
			t.Errorf("%s: exit status %d", verb, status)
		}
		mentions(t, verb, out, want)
	}
	unblock, err := road[1].Block("all", "meta l4proto { udp, tcp, esp }") // or it would be back at once
	if err != nil {
		t.Fatal(err)
	}
	if out, status := east.Ikectl("down", fmt.Sprintf("road[%d]", numbers["@road2"])); status != 0 {
		t.Errorf("down of an instance: %s", out)
	}
	if left := instances(t, east); len(left) != 2 || left["@road2"] != 0 {
		t.Errorf("left: %v", left)
	}
	pings(t, road[0], inner(0), netns.EastInner, 56)
	pings(t, road[2], inner(2), netns.EastInner, 56)
	if out, err := e.Output("ip", "route", "get", inner(1), "from", netns.EastInner); err != nil || strings.Contains(out, "ikegod") {
		t.Errorf("the policy of the instance is still there: %v %s", err, out)
	}
	if out, status := east.Ikectl("down", "road[99]"); status != 1 || !strings.Contains(out, "no instance 99") {
		t.Errorf("down of none: %d %s", status, out)
	}
	if err := unblock(); err != nil {
		t.Fatal(err)
	}
	if out, status := peers[1].Ikectl("down", conn); status != 0 {
		t.Error(out)
	}
	up(t, peers[1])
	netns.Until(t, 10*time.Second, "a road warrior that was sent away comes again", func() bool { return len(instances(t, east)) == 3 })
	if n := instances(t, east)["@road2"]; n != 4 {
		t.Errorf("it is instance %d, expected the next number, 4", n)
	}
	for _, d := range peers {
		if out, status := d.Ikectl("down", conn); status != 0 {
			t.Error(out)
		}
	}
	if out, status := east.Ikectl("down", "road"); status != 0 || len(sas(t, east)) != 0 {
		t.Errorf("down of the template: %s", out)
	}
	if err := east.Stop(); err != nil {
		t.Error(err)
	}
	if after, err := e.State(); err != nil || after != before {
		t.Errorf("%v; before:\n%s\nafter:\n%s", err, before, after)
	}
}

// instances are the numbers of the template's peers, by identity.
func instances(t *testing.T, d *netns.Daemon) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, sa := range sas(t, d) {
		if sa.Instance > 0 && slices.ContainsFunc(sa.Children, func(c ctl.ChildSA) bool { return !c.Installed.IsZero() }) {
			out[sa.RemoteID] = sa.Instance
		}
	}
	return out
}

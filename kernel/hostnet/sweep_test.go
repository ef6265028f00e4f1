package hostnet

import (
	"strings"
	"testing"

	"github.com/ikegod/ikegod/kernel"
)

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
		"0: from all lookup local", "4500: from all fwmark 0x494b45 goto 4504", "4502: from 0.0.0.0 iif lo lookup 4500", "4504: from all nop",
		"4503: from 192.0.1.0/24 lookup 4502", "32766: from all lookup main", "32767: from all lookup default",
	})
	same(t, "routes", lines(t, "ip route show table 4500"), []string{"192.0.9.0/24 dev t0 scope link src 192.0.1.254 mtu 1438"})
	same(t, "routes", lines(t, "ip route show table 4502"), []string{"192.0.9.0/24 dev t0 scope link mtu 1438"})
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

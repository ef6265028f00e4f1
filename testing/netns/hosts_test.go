package netns_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// TestPeerByName looks the peer up for each attempt and asks all its addresses; then the name is given another address, and the next attempt finds it.
func TestPeerByName(t *testing.T) {
	_, w, e := netns.Gateways(t)
	if err := w.Names("192.1.2.99 east.test\n" + netns.East + " east.test\n"); err != nil {
		t.Fatal(err)
	}
	conf := strings.Replace(config(nil, "retransmit-timeout=1s"), "right="+netns.East, "right=east.test", 1)
	west, east := start(t, w, strings.Replace(conf, "left="+netns.West, "left=%defaultroute", 1), secrets), start(t, e, config(nil), secrets)
	if out := up(t, west); !strings.Contains(out, netns.East) {
		t.Errorf("up: %s", out)
	}
	heard(t, "west's log", west, []string{"east.test is ", "192.1.2.99", netns.East})
	carries(t, west, east)
	if err := w.Names("192.1.2.98 east.test\n"); err != nil {
		t.Fatal(err)
	}
	netns.Until(t, 15*time.Second, "the new address is asked", func() bool {
		west.Ikectl("down", conn) // or revival, which may have read the old file, has brought it up
		out, status := west.Ikectl("up", conn)
		return status == 1 && strings.Contains(out, "192.1.2.98") && !strings.Contains(out, netns.East+":")
	})
	if err := w.Names(netns.East6 + " east.test\n" + netns.East + " east.test\n"); err != nil {
		t.Fatal(err)
	}
	netns.Until(t, 15*time.Second, "of both families the one that answers is used", func() bool {
		_, status := west.Ikectl("up", conn)
		return status == 0
	})
	carries(t, west, east)
}

// TestUnknownName says what is wrong with the name, and that it is the name.
func TestUnknownName(t *testing.T) {
	_, w, _ := netns.Gateways(t)
	if err := w.Names("127.0.0.1 localhost\n"); err != nil {
		t.Fatal(err)
	}
	west := start(t, w, strings.Replace(config(nil), "right="+netns.East, "right=east.test", 1), secrets)
	out, status := west.Ikectl("up", "--timeout", "20s", conn)
	if status != 1 {
		t.Errorf("exit status %d", status)
	}
	mentions(t, "up", out, []string{"east.test", "ipsec.conf:8", "not resolved"})
}

// TestAddressComesAndGoes adds and removes the address of a gateway under its daemon.
func TestAddressComesAndGoes(t *testing.T) {
	_, w, e := netns.Gateways(t)
	address := func(verb string) {
		t.Helper()
		if err := w.Run("ip", "addr", verb, netns.West+"/24", "dev", netns.Outer); err != nil {
			t.Fatal(err)
		}
	}
	address("del")
	conf := config(nil, "retransmit-timeout=1s")
	second := "\n" + strings.SplitAfterN(strings.Replace(mixed(families[1], families[1]), conn, "other", 1), "\n\n", 2)[1]
	west := start(t, w, strings.Replace(conf, "auto=add", "auto=start", 1)+second, secrets)
	start(t, e, conf+second, secrets)
	heard(t, "west's log", west, []string{"neither left=" + netns.West, "add the address to an interface"})
	if out, status := west.Ikectl("up", "other"); status != 0 {
		t.Fatalf("the other connection: %s", out)
	}
	other := func() string {
		for _, sa := range sas(t, west) {
			if sa.Connection == "other" {
				return sa.SPIi
			}
		}
		return ""
	}
	kept := other()
	carried := func() bool {
		for _, sa := range sas(t, west) {
			if sa.Connection == conn && len(sa.Children) > 0 && !sa.Children[0].Installed.IsZero() {
				return true
			}
		}
		return false
	}
	for range 2 {
		address("add")
		netns.Until(t, 15*time.Second, "it comes up when its address comes", carried)
		pings(t, w, netns.WestInner, netns.EastInner, 56)
		address("del")
		netns.Until(t, 5*time.Second, "its SAs end when its address goes", func() bool { return !carried() })
	}
	heard(t, "west's log", west, []string{`connection "` + conn + `" has lost its hosts`})
	if other() != kept || kept == "" {
		t.Error("a connection that was not concerned lost its IKE SA")
	}
	pings(t, w, netns.WestInner6, netns.EastInner6, 56)
	if err := west.Stop(); err != nil {
		t.Error(err)
	}
}

// TestSeveralAddresses has two addresses of each family on both gateways, and a connection for each pair: what belongs to a connection, IKE and ESP, travels between its
// two addresses alone, whoever begins.
func TestSeveralAddresses(t *testing.T) {
	for _, f := range []struct {
		family
		second [2]string
	}{{families[0], [2]string{"192.1.2.46", "192.1.2.24"}}, {families[1], [2]string{"2001:db8:1:2::46", "2001:db8:1:2::24"}}} {
		for _, mode := range []string{"encapsulation=no", "encapsulation=yes", "enable-tcp=yes"} {
			t.Run(fmt.Sprintf("IPv%d/%s", f.version, mode), func(t *testing.T) {
				_, w, e := netns.Gateways(t)
				sides := [2][]string{{f.west, f.second[0]}, {f.east, f.second[1]}}
				for i, h := range []*netns.Host{w, e} {
					if err := h.Run("ip", "addr", "add", fmt.Sprintf("%s/%d", f.second[i], f.bits), "dev", netns.Outer); err != nil {
						t.Fatal(err)
					}
				}
				conf, counters := "config setup\n\tlisten-tcp=yes\n", "table netdev pairs {\n\tchain in {\n\t\ttype filter hook ingress device eth1 priority -500;\n"
				ip := map[int]string{4: "ip", 6: "ip6"}[f.version]
				for i, l := range sides[0] {
					for j, r := range sides[1] {
						conf += fmt.Sprintf("\nconn pair%d%d\n\tleft=%s\n\tleftid=@west\n\tleftsubnet=%s\n\tright=%s\n\trightid=@east\n\trightsubnet=%s\n\tauthby=secret\n\tauto=add\n\t%s\n",
							i, j, l, families[0].westNet, r, families[0].eastNet, mode)
						counters += fmt.Sprintf("\t\t%s saddr %s %s daddr %s meta l4proto { tcp, udp, esp } counter comment \"pair%d%d\"\n", ip, l, ip, r, i, j)
					}
				}
				west, east := start(t, w, conf, secrets), start(t, e, conf, secrets)
				for _, name := range []string{"pair00", "pair01", "pair10", "pair11"} {
					if err := e.RunInput(counters+"\t}\n}\n", "nft", "-f", "-"); err != nil {
						t.Fatal(err)
					}
					from, to := west, east
					if name == "pair10" {
						from, to = east, west
					}
					if out, status := from.Ikectl("up", name); status != 0 {
						t.Fatalf("up %s: %s", name, out)
					}
					if got := one(t, to).Children[0].Name; got != name {
						t.Errorf("%s is %s at the other end", name, got)
					}
					pings(t, w, netns.WestInner, netns.EastInner, 56, 3000)
					if out, status := from.Ikectl("down", name); status != 0 {
						t.Errorf("down %s: %s", name, out)
					}
					out, err := e.Output("nft", "list", "table", "netdev", "pairs")
					if err != nil {
						t.Fatal(err)
					}
					for line := range strings.Lines(out) {
						if strings.Contains(line, "comment") && strings.Contains(line, "packets 0 ") == strings.Contains(line, name) {
							t.Errorf("%s: %s", name, line)
						}
					}
					if err := e.Run("nft", "delete", "table", "netdev", "pairs"); err != nil {
						t.Fatal(err)
					}
				}
			})
		}
	}
}

package netns_test

import (
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

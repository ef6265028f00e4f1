package netns_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/ctl"
	"github.com/ikegod/ikegod/testing/netns"
)

// Further networks behind the gateways.
const (
	west2, west2Net = "10.1.0.254", "10.1.0.0/24"
	east2, east2Net = "10.2.0.254", "10.2.0.0/24"
)

// moreNetworks gives each gateway a second inner network.
func moreNetworks(t *testing.T, west, east *netns.Host) {
	t.Helper()
	for _, c := range []struct {
		h *netns.Host
		a string
	}{{west, west2 + "/24"}, {east, east2 + "/24"}} {
		if err := c.h.Run("ip", "addr", "add", c.a, "dev", "eth0"); err != nil {
			t.Fatal(err)
		}
	}
}

// ping says whether pings go from one inner address to another, all of them.
func ping(h *netns.Host, from, to string, count string) (bool, string) {
	out, err := h.Output("ping", "-n", "-q", "-c", count, "-i", "0.02", "-W", "1", "-I", from, to)
	return err == nil && strings.Contains(out, " 0% packet loss"), out
}

// tunnels are the Child SAs of the only IKE SA of a daemon, by name.
func tunnels(t *testing.T, d *netns.Daemon) map[string]ctl.ChildSA {
	t.Helper()
	list := sas(t, d)
	if len(list) != 1 {
		t.Fatalf("%s has %d IKE SAs: %+v", d.Host.Name, len(list), list)
	}
	m := map[string]ctl.ChildSA{}
	for _, c := range list[0].Children {
		m[c.Name] = c
	}
	return m
}

var carriers = map[string]string{"udp": "enable-tcp=no", "tcp": "enable-tcp=yes"}

// TestSubnets: leftsubnets= and rightsubnets= make a Child SA for each pair, all on one IKE SA, each of which carries its traffic; and a rekeying loses no packet.
func TestSubnets(t *testing.T) {
	for name, tcp := range carriers {
		t.Run(name, func(t *testing.T) {
			_, w, e := netns.Gateways(t)
			moreNetworks(t, w, e)
			conf := strings.NewReplacer("leftsubnet="+netns.WestNet, "leftsubnets="+netns.WestNet+","+west2Net,
				"rightsubnet="+netns.EastNet, "rightsubnets="+netns.EastNet+","+east2Net).Replace(config(nil, tcp))
			west, east := start(t, w, conf, secrets), start(t, e, conf, secrets)
			out := up(t, west)
			for _, child := range []string{"1x1", "1x2", "2x1", "2x2"} {
				if _, ok := tunnels(t, west)[conn+"/"+child]; !ok {
					t.Errorf("no Child SA %s:\n%s", child, out)
				}
			}
			if n := len(tunnels(t, east)); n != 4 {
				t.Errorf("east has %d Child SAs", n)
			}
			for _, from := range []string{netns.WestInner, west2} {
				for _, to := range []string{netns.EastInner, east2} {
					if ok, out := ping(w, from, to, "5"); !ok {
						t.Errorf("%s to %s: %s", from, to, out)
					}
				}
			}
			for child, c := range tunnels(t, west) {
				if c.InPackets != 5 || c.OutPackets != 5 {
					t.Errorf("%s: %d packets in, %d out", child, c.InPackets, c.OutPackets)
				}
			}
			rekeyed := make(chan string, 2)
			go func() {
				for _, d := range []*netns.Daemon{west, east} {
					out, status := d.Ikectl("rekey-child", conn)
					if status != 0 {
						rekeyed <- out
						continue
					}
					rekeyed <- ""
				}
			}()
			before := tunnels(t, west)
			if ok, out := ping(w, netns.WestInner, netns.EastInner, "100"); !ok {
				t.Errorf("while rekeying: %s", out)
			}
			for range 2 {
				if out := <-rekeyed; out != "" {
					t.Errorf("rekey-child: %s", out)
				}
			}
			after := tunnels(t, west)
			for child, c := range after {
				if c.SPIIn == before[child].SPIIn {
					t.Errorf("%s was not rekeyed", child)
				}
			}
			if ok, out := ping(w, west2, east2, "5"); !ok {
				t.Errorf("after rekeying: %s", out)
			}
			if out, status := west.Ikectl("down", conn); status != 0 {
				t.Errorf("down: %s", out)
			}
			if a, b := len(sas(t, west)), len(sas(t, east)); a+b != 0 {
				t.Errorf("%d and %d IKE SAs are left", a, b)
			}
		})
	}
}

// TestTwoConnectionsShare: two connections that differ in their subnets alone use one IKE SA; each goes down alone, and the IKE SA with the last.
func TestTwoConnectionsShare(t *testing.T) {
	for name, tcp := range carriers {
		t.Run(name, func(t *testing.T) {
			_, w, e := netns.Gateways(t)
			moreNetworks(t, w, e)
			conf := config(nil, tcp)
			second := conf[strings.Index(conf, "conn "):]
			conf += "\n" + strings.NewReplacer("conn "+conn, "conn second", netns.WestNet, west2Net, netns.EastNet, east2Net).Replace(second)
			west, east := start(t, w, conf, secrets), start(t, e, conf, secrets)
			up(t, west)
			if out, status := west.Ikectl("up", "second"); status != 0 {
				t.Fatalf("up: %s", out)
			}
			for _, d := range []*netns.Daemon{west, east} {
				if m := tunnels(t, d); len(m) != 2 || m["second"].Connection != "second" {
					t.Errorf("%s: %+v", d.Host.Name, m)
				}
			}
			both := func(first bool) {
				t.Helper()
				if ok, out := ping(w, netns.WestInner, netns.EastInner, "3"); ok != first {
					t.Errorf("first connection carries pings: %t: %s", ok, out)
				}
				if ok, out := ping(w, west2, east2, "3"); !ok {
					t.Errorf("second connection: %s", out)
				}
			}
			both(true)
			if out, status := west.Ikectl("down", conn); status != 0 {
				t.Errorf("down: %s", out)
			}
			if m := tunnels(t, east); len(m) != 1 {
				t.Errorf("east: %+v", m)
			}
			if ok, out := ping(w, west2, east2, "3"); !ok {
				t.Errorf("second connection after the first is down: %s", out)
			}
			up(t, east)
			both(true)
			// Each by the end that wants it.
			if out, status := west.Ikectl("down", "second"); status != 0 {
				t.Errorf("down: %s", out)
			}
			if out, status := east.Ikectl("down", conn); status != 0 {
				t.Errorf("down: %s", out)
			}
			if netns.Poll(5*time.Second, func() bool { return len(sas(t, west))+len(sas(t, east)) == 0 }); len(sas(t, west))+len(sas(t, east)) != 0 {
				t.Errorf("west %+v, east %+v", sas(t, west), sas(t, east))
			}
		})
	}
}

package uml_test

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/ctl"
	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/uml"
)

// two are two gateways with an ikegod each.
type two struct{ west, east *netns.Daemon }

func gatewaysWith(t *testing.T, more ...string) two {
	t.Helper()
	return gatewaysThat(t, "add", more...)
}

// gatewaysThat have a connection with auto=.
func gatewaysThat(t *testing.T, auto string, more ...string) two {
	t.Helper()
	_, w, e := netns.Gateways(t)
	captured(t, w, e)
	lines := []string{
		"left=" + netns.West, "leftid=@west", "leftsubnet=" + netns.WestNet, "right=" + netns.East, "rightid=@east", "rightsubnet=" + netns.EastNet, "authby=secret", "auto=" + auto,
	}
	conf := "config setup\n\tlisten-tcp=yes\n\nconn meeting\n\t" + strings.Join(append(lines, more...), "\n\t") + "\n"
	var d two
	var err error
	if d.east, err = e.Ikegod(conf, psk); err == nil {
		d.west, err = w.Ikegod(conf, psk)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, end := range []*netns.Daemon{d.west, d.east} {
				out, _ := end.Host.Output("sh", "-c", "ip xfrm state; ip xfrm policy; nft list ruleset; ip rule; ip route show table all; cat /proc/net/xfrm_stat")
				status, _ := end.Ikectl("status")
				t.Logf("%s\n%s\n%s", end.Log(), status, out)
			}
		}
	})
	return d
}

func (d two) up(t *testing.T) {
	t.Helper()
	if out, status := d.west.Ikectl("up", "meeting"); status != 0 {
		t.Fatalf("up: %d\n%s", status, out)
	}
}

// child is the one Child SA of a daemon.
func child(t *testing.T, d *netns.Daemon) ctl.ChildSA {
	t.Helper()
	var all []ctl.ChildSA
	if err := d.SAs(t.Context(), func(sa ctl.IKESA) bool { all = append(all, sa.Children...); return true }); err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 {
		t.Fatalf("%d Child SAs: %+v", len(all), all)
	}
	return all[0]
}

// carried pings both ways and transfers a megabyte, with nothing in clear on the wire.
func (d two) carried(t *testing.T, datapath, carrier string) {
	t.Helper()
	for _, end := range []*netns.Daemon{d.west, d.east} {
		if c := child(t, end); c.Datapath != datapath || c.Carrier != carrier {
			t.Errorf("the Child SA is %s by %s, want %s by %s", c.Carrier, c.Datapath, carrier, datapath)
		}
	}
	watched(t, func() {
		for _, way := range [][3]any{{d.west, netns.WestInner, netns.EastInner}, {d.east, netns.EastInner, netns.WestInner}} {
			if out, err := way[0].(*netns.Daemon).Host.Output("ping", "-c", "3", "-i", "0.1", "-W", "3", "-I", way[1].(string), way[2].(string)); err != nil {
				t.Fatalf("%s by %s: %v\n%s", carrier, datapath, err, out)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if got, err := netns.Transfer(ctx, d.east.Host, net.JoinHostPort(netns.EastInner, "0"), d.west.Host, netns.WestInner, 1<<20); err != nil || got.Octets != 1<<20 {
			t.Errorf("transfer: %+v %v", got, err)
		}
	}, d.west.Host, d.east.Host)
	if c := child(t, d.west); c.InPackets == 0 || c.OutPackets == 0 {
		t.Errorf("the counters stand still: %+v", c)
	}
}

// states counts the ESP states of a kernel.
func states(t *testing.T, h *netns.Host) int {
	t.Helper()
	out, err := h.Output("ip", "xfrm", "state")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(out, "proto esp")
}

// TestStockKernel is Debian's case: ESP in UDP is the kernel's, and when UDP is blocked the same connection goes on over TCP in userspace, and back.
func TestStockKernel(t *testing.T) {
	if uml.Outside(t, uml.Stock, uml.Programs) {
		return
	}
	t.Run("fallback", func(t *testing.T) {
		d := gatewaysWith(t, "encapsulation=yes", "enable-tcp=fallback", "retransmit-timeout=2s")
		d.explains(t)
		d.up(t)
		d.carried(t, "xfrm", "ESPinUDP")
		if n := states(t, d.west.Host); n != 2 {
			t.Errorf("%d states in the kernel, want 2", n)
		}
		unblock, err := d.east.Host.Block("udp", "meta l4proto { udp, esp }")
		if err != nil {
			t.Fatal(err)
		}
		if out, status := d.west.Ikectl("down", "--timeout=10s", "meeting"); status != 0 {
			t.Fatalf("down: %d %s", status, out)
		}
		d.up(t)
		netns.Until(t, 20*time.Second, "east is rid of the old IKE SA", func() bool { return len(saList(t, d.east)) == 1 })
		d.carried(t, "userspace", "ESPinTCP")
		d.explains(t)
		if text, _ := d.west.Ikectl("status"); !strings.Contains(strings.Join(strings.Fields(text), " "), "ESPinTCP (userspace: the kernel has no ESP in TCP)") {
			t.Errorf("status after the fallback: %s", text)
		}
		if n := states(t, d.west.Host); n != 0 {
			t.Errorf("%d states in the kernel, want none", n)
		}
		if err := unblock(); err != nil {
			t.Fatal(err)
		}
		if out, status := d.west.Ikectl("down", "--timeout=10s", "meeting"); status != 0 {
			t.Fatalf("down: %d %s", status, out)
		}
		d.up(t)
		d.carried(t, "xfrm", "ESPinUDP")
		d.leavesNothing(t)
	})
	t.Run("carriers", func(t *testing.T) { eachCarrier(t, "userspace") })
}

// TestStockKernelBlocked: UDP is blocked under a connection that is up, and nobody says so but the silence: with dpddelay= the peer is asked, does not answer, and the connection comes up
// again by itself, over TCP and in userspace, with not one packet in clear.
func TestStockKernelBlocked(t *testing.T) {
	fullOnly(t)
	if uml.Outside(t, uml.Stock, uml.Programs) {
		return
	}
	d := gatewaysWith(t, "encapsulation=yes", "enable-tcp=fallback", "retransmit-timeout=3s", "dpddelay=1s")
	d.up(t)
	d.carried(t, "xfrm", "ESPinUDP")
	watched(t, func() {
		if _, err := d.east.Host.Block("udp", "meta l4proto { udp, esp }"); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		netns.Until(t, time.Minute, "an answer over TCP", func() bool {
			return d.west.Host.Run("ping", "-n", "-q", "-c", "1", "-W", "1", "-I", netns.WestInner, netns.EastInner) == nil
		})
		t.Logf("packets pass again after %s", time.Since(begin).Round(100*time.Millisecond))
	}, d.west.Host, d.east.Host)
	netns.Until(t, 20*time.Second, "east is rid of the old IKE SA", func() bool { return len(saList(t, d.east)) == 1 && len(saList(t, d.west)) == 1 })
	d.carried(t, "userspace", "ESPinTCP")
	if n := states(t, d.west.Host); n != 0 {
		t.Errorf("%d states in the kernel, want none", n)
	}
	d.leavesNothing(t)
}

// TestKernelWithESPinTCP: a kernel that can do everything carries everything.
func TestKernelWithESPinTCP(t *testing.T) {
	if uml.Outside(t, uml.Full, uml.Programs) {
		return
	}
	eachCarrier(t, "xfrm")
}

// TestNewerKernel: the kernel of Debian 13 carries everything too, and its SAs have a direction.
func TestNewerKernel(t *testing.T) {
	fullOnly(t)
	if uml.Outside(t, uml.Newer, uml.Programs) {
		return
	}
	eachCarrier(t, "xfrm")
	d := gatewaysWith(t, "encapsulation=auto")
	if text, _ := d.west.Ikectl("doctor"); !strings.Contains(strings.Join(strings.Fields(text), " "), "SA direction yes") {
		t.Errorf("doctor:\n%s", text)
	}
}

// eachCarrier brings a connection up by each carrier, rekeys it, and takes it down.
func eachCarrier(t *testing.T, tcp string) {
	for _, c := range []struct{ conn, datapath, carrier string }{
		{"encapsulation=auto", "xfrm", "ESP"}, {"encapsulation=yes", "xfrm", "ESPinUDP"}, {"enable-tcp=yes", tcp, "ESPinTCP"},
	} {
		t.Run(c.carrier, func(t *testing.T) {
			d := gatewaysWith(t, c.conn)
			d.up(t)
			d.carried(t, c.datapath, c.carrier)
			if out, status := d.west.Ikectl("rekey-child", "meeting"); status != 0 {
				t.Errorf("rekey-child: %d %s", status, out)
			}
			netns.Until(t, 10*time.Second, "one Child SA at both ends", func() bool { return len(saList(t, d.west)[0].Children) == 1 && len(saList(t, d.east)[0].Children) == 1 })
			d.carried(t, c.datapath, c.carrier)
			d.leavesNothing(t)
		})
	}
}

func saList(t *testing.T, d *netns.Daemon) (out []ctl.IKESA) {
	t.Helper()
	if err := d.SAs(t.Context(), func(sa ctl.IKESA) bool { out = append(out, sa); return true }); err != nil {
		t.Fatal(err)
	}
	return out
}

// explains: status, doctor and the log say that there are two datapaths, and why.
func (d two) explains(t *testing.T) {
	t.Helper()
	out, status := d.west.Ikectl("--json", "doctor")
	var doctor ctl.Doctor
	if err := json.Unmarshal([]byte(out), &doctor); err != nil || status != 0 {
		t.Fatalf("%d %v %s", status, err, out)
	}
	found := map[string]ctl.Finding{}
	for _, f := range doctor.Findings {
		t.Logf("%+v", f)
		found[f.Feature] = f
	}
	if tcp := found["ESP in TCP"]; doctor.Datapath != "xfrm and userspace" || tcp.Outcome != "no" || !strings.Contains(tcp.Hint, "CONFIG_INET_ESPINTCP") ||
		!strings.Contains(doctor.Why, "CONFIG_INET_ESPINTCP") {
		t.Errorf("%+v", doctor)
	}
	for _, f := range []string{"ESP", "ESP over IPv6", "ESP in UDP", "ESN", "xfrm interfaces", "migrate", "AES_GCM_16", "CHACHA20_POLY1305", "HMAC_SHA1_96", "TUN", "nft secpath"} {
		if found[f].Outcome != "yes" {
			t.Errorf("%+v", found[f])
		}
	}
	text, _ := d.west.Ikectl("status")
	if words := strings.Join(strings.Fields(text), " "); !strings.Contains(words, "datapath xfrm and userspace: the kernel has ESP and ESP in UDP, but no ESP in TCP") {
		t.Errorf("status: %s", text)
	}
}

// leavesNothing stops both and looks what is left.
func (d two) leavesNothing(t *testing.T) {
	t.Helper()
	for _, end := range []*netns.Daemon{d.west, d.east} {
		if err := end.Stop(); err != nil {
			t.Error(err)
		}
		for _, what := range []string{"ip xfrm state", "ip xfrm policy", "nft list ruleset"} {
			if out, err := end.Host.Output("sh", "-c", what); err != nil || strings.Contains(out, "ikegod") || strings.HasPrefix(what, "ip") && strings.TrimSpace(out) != "" {
				t.Errorf("%s after the stop: %v\n%s", what, err, out)
			}
		}
	}
}

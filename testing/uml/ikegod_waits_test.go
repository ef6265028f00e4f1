package uml_test

import (
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/uml"
)

// firstPing is one packet, for which the connection comes up; it gets its answer.
func (p *pairOfOurs) firstPing(t *testing.T) {
	t.Helper()
	begin := time.Now()
	if out, err := p.west.host.Output("ping", "-n", "-c", "1", "-W", "60", "-I", p.west.in, p.east.in); err != nil {
		t.Errorf("the first packet: %v %s", err, out)
	}
	t.Logf("answered after %s", time.Since(begin).Round(time.Millisecond))
}

// TestIkegodWaits: a packet that comes before its SA waits for it in the kernel, by whatever carrier that comes; and without one it is not sent.
func TestIkegodWaits(t *testing.T) {
	for _, c := range []struct {
		with ours
		do   func(*testing.T, ours)
	}{
		{ours{name: "udp-nat", place: weBehindNAT, carrier: "ESPinUDP"}, waits},
		{ours{name: "tcp", place: direct, conn: useTCP, carrier: "ESPinTCP"}, waits},
		{ours{name: "fallback-hold", place: udpDropped, conn: append([]string{"negotiationshunt=hold"}, fallback...), carrier: "ESPinTCP"}, waits},
		{ours{name: "4in6", place: direct, outer6: true, carrier: "ESP"}, waits},
		{ours{name: "refused", place: direct, conn: []string{"negotiationshunt=hold"}, carrier: "ESP"}, waitsInVain},
	} {
		t.Run(c.with.name, func(t *testing.T) {
			if !uml.Outside(t, uml.Full, uml.Programs) {
				c.do(t, c.with)
			}
		})
	}
}

func waits(t *testing.T, o ours) {
	p := o.meet(t, "ondemand")
	p.watched(t, func() { p.firstPing(t) })
	p.settled(t)
	p.leavesNothing(t)
}

func waitsInVain(t *testing.T, o ours) {
	p := o.meet(t, "ondemand")
	if out, status := p.east.Ikectl("delete", "meeting"); status != 0 {
		t.Fatalf("delete: %d %s", status, out)
	}
	p.watched(t, func() {
		if out, err := p.west.host.Output("ping", "-n", "-c", "1", "-W", "2", "-I", p.west.in, p.east.in); err == nil {
			t.Errorf("answered: %s", out)
		}
	})
	said(t, "the log of west", p.west.Log(), "is needed for a packet from "+p.west.in)
	p.leavesNothing(t)
}

// TestStockKernelWaits: where the kernel has no ESP in TCP, a packet waits for its SA whether that comes in the kernel or, over TCP, in userspace, and is sent by the one that has it.
func TestStockKernelWaits(t *testing.T) {
	for _, c := range []struct {
		name, datapath, carrier string
		blocked                 bool
		conn                    []string
	}{
		{"esp", "xfrm", "ESP", false, nil},
		{"udp", "xfrm", "ESPinUDP", false, []string{"encapsulation=yes", "negotiationshunt=hold"}},
		{"tcp", "userspace", "ESPinTCP", false, []string{"enable-tcp=yes"}},
		{"fallback", "userspace", "ESPinTCP", true, []string{"enable-tcp=fallback", "retransmit-timeout=4s"}},
		{"ports", "xfrm", "ESP", false, []string{"leftprotoport=icmp", "rightprotoport=icmp"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name != "udp" {
				fullOnly(t)
			}
			if uml.Outside(t, uml.Stock, uml.Programs) {
				return
			}
			d := gatewaysThat(t, "ondemand", c.conn...)
			if c.blocked {
				if _, err := d.east.Host.Block("udp", "meta l4proto { udp, esp }"); err != nil {
					t.Fatal(err)
				}
			}
			watched(t, func() {
				begin := time.Now()
				if out, err := d.west.Host.Output("ping", "-n", "-c", "1", "-W", "60", "-I", netns.WestInner, netns.EastInner); err != nil {
					t.Errorf("the first packet: %v %s", err, out)
				}
				t.Logf("answered after %s", time.Since(begin).Round(time.Millisecond))
			}, d.west.Host, d.east.Host)
			for _, end := range []*netns.Daemon{d.west, d.east} {
				if got := child(t, end); got.Datapath != c.datapath || got.Carrier != c.carrier {
					t.Errorf("the Child SA is %s by %s, want %s by %s", got.Carrier, got.Datapath, c.carrier, c.datapath)
				}
			}
			if c.name != "ports" { // which protects no TCP
				d.carried(t, c.datapath, c.carrier)
			}
			d.leavesNothing(t)
		})
	}
}

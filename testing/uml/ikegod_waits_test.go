package uml_test

import (
	"testing"
	"time"

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

package uml_test

import (
	"testing"

	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/uml"
)

// TestIkegodDeleted: the end that answered takes the connection down. Its peer's SAs go with its own, and the peer, which was told to have the connection up,
// makes new ones; it takes them down for good.
func TestIkegodDeleted(t *testing.T) {
	fullOnly(t)
	if uml.Outside(t, uml.Full, uml.Programs) {
		return
	}
	for _, o := range []ours{
		{name: "esp", place: direct, carrier: "ESP"},
		{name: "udp", place: direct, conn: useUDP, carrier: "ESPinUDP"},
		{name: "tcp", place: direct, conn: useTCP, carrier: "ESPinTCP"},
	} {
		t.Run(o.name, func(t *testing.T) {
			p := o.meet(t, "add")
			p.up(t)
			before := ikeSAs(t, p.west.Daemon)[0]
			if out, status := p.east.Ikectl("down", "meeting"); status != 0 {
				t.Errorf("ikectl down at east: %d\n%s", status, out)
			}
			netns.Until(t, patience, "west has other SAs than before", func() bool {
				list := ikeSAs(t, p.west.Daemon)
				return len(list) == 1 && list[0].SPIi != before.SPIi && len(list[0].Children) == 1
			})
			p.settled(t)
			p.watched(t, func() {
				p.pings(t, p.west, p.west.in, p.east.in)
				p.pings(t, p.east, p.east.in, p.west.in)
			})
			p.down(t)
			p.golden(t, "down")
			p.leavesNothing(t)
		})
	}
}

package engine

import (
	"fmt"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ts"
)

// demand is the packet for which a connection with auto=ondemand comes up: it goes with the request for the Child SA that it is for (RFC 7296 2.9). Others, later rounds
// and a rekeying have none.
type demand struct {
	packet ts.Packet // the zero Packet: none
	child  int
	plain  bool // the last round with a packet has failed: the next goes without, in case that a peer does not bear it
	again  bool // the peer has been asked once more, without it
	never  bool // that has helped: this peer is asked without from now on, which is faster
}

// packetFor is what the request for a child of the connection goes with.
func (d demand) packetFor(child int) ts.Packet {
	if d.child != child {
		return ts.Packet{}
	}
	return d.packet
}

// refused takes note that the peer is asked once more, without it.
func (d *demand) refused(child int) {
	d.again = d.again || d.packetFor(child) != ts.Packet{}
}

// met takes note that the packet's Child SA is there.
func (d *demand) met(child int) {
	d.plain = false // there may have been nobody when it failed
	if d.child == child {
		d.never = d.never || d.again
		d.packet, d.again = ts.Packet{}, false
	}
}

// failed takes note that it will not be there, now.
func (d *demand) failed() {
	d.plain = d.packet != ts.Packet{}
	d.packet, d.again = ts.Packet{}, false
}

// acquire starts an ondemand connection because of a packet.
func (c *control) acquire(ev kernel.Acquire) {
	some := c.children > 0 && c.phase == phaseUp && !c.allUp() && !c.asking() // one of several is missing
	if c.gone || c.shunts() == nil || c.e.closing.Load() || c.refused && time.Since(c.round.first) < refusedWait ||
		!some && (c.phase == phaseNegotiating || c.phase == phaseUp || c.children > 0) {
		return
	}
	c.tell(event.Event{Level: event.Info, Text: fmt.Sprintf("connection %q is needed for a packet from %s to %s (protocol %d)", c.conn.Name, ev.Src, ev.Dst, ev.Protocol)})
	c.demand.packet, c.demand.again = ts.Packet{}, false
	if i := c.kidNamed(string(ev.Policy)); i >= 0 && !c.demand.plain && !c.demand.never {
		c.demand.child, c.demand.packet = i, ts.Packet{Src: ev.Src, Dst: ev.Dst, Protocol: ev.Protocol}
	}
	if some {
		c.askMissing()
	} else {
		c.startRound()
	}
}

package userspace

import (
	"fmt"
	"sync/atomic"
	"time"
)

// Drop is why a packet was dropped.
type Drop uint8

// Reasons of outbound drops (from the TUN), then of inbound ones (from the network).
const (
	DropMalformed  Drop = iota // not IP, or lengths that do not fit
	DropNoPolicy               // routed to the TUN, but no policy wants it (its source is outside Local, for instance)
	DropLinkLocal              // the kernel\'s own group reports and the like on the TUN: nothing is wrong
	DropHeld                   // its policy protects or holds, and there was no SA for as long as it waited, or others waited already
	DropByPolicy               // its policy drops or rejects
	DropTrapped                // the same, and its policy traps: Acquire was sent
	DropFragment               // a later fragment, whose ports a selector wants to see
	DropReassembly             // fragments that have to be put together, of which others are missing, or that contradict each other
	DropOptions                // IP options or extension headers that cannot stand before ESP in transport mode: ICMP was sent
	DropTooBig                 // larger than the tunnel carries, with DF: ICMP was sent
	DropExhausted              // the SA's sequence numbers are used up
	DropSend                   // the socket did not take it: queue full, or the path is gone
	DropShort                  // too short to be ESP
	DropUnknownSPI             // no SA with this SPI
	DropReplay                 // sequence number seen before or too old
	DropIntegrity              // did not authenticate
	DropPadding                // authentic, but its padding or lengths are wrong
	DropDummy                  // a dummy packet for traffic flow confidentiality: not an error (RFC 4303 2.6)
	DropInner                  // authentic, but what it holds is not an IP packet, or in transport mode not a whole one
	DropSelector               // authentic, but outside the SA's selectors (RFC 4301 5.2)
	DropTUN                    // the TUN did not take it
	DropClear                  // came in clear although a policy protects it: the guard of Host dropped it
	NumDrops
)

var dropNames = [NumDrops]string{
	"malformed", "no policy", "link-local", "held without SA", "dropped by policy", "trapped", "fragment without ports", "fragments not whole", "IP options", "too big", "sequence numbers used up",
	"not sent", "too short", "unknown SPI", "replay", "integrity", "padding", "dummy", "inner packet", "selector", "TUN write", "clear",
}

// String is a few words for an operator.
func (d Drop) String() string {
	if d < NumDrops {
		return dropNames[d]
	}
	return fmt.Sprintf("drop(%d)", uint8(d))
}

// drops counts by reason.
type drops [NumDrops]atomic.Uint64

func (c *drops) add(why Drop, n int) {
	if n > 0 {
		c[why].Add(uint64(n))
	}
}

// Drops returns the packets dropped since the start, by reason; reasons that never occurred are left out.
func (d *Datapath) Drops() map[Drop]uint64 {
	d.drops.add(DropReassembly, d.fragments.stale(time.Now())+d.arrived.stale(time.Now()))
	d.stale()
	out := map[Drop]uint64{}
	for why := range NumDrops {
		if n := d.drops[why].Load(); n > 0 {
			out[why] = n
		}
	}
	if d.host != nil && !d.closed.Load() {
		if n, err := d.host.ClearDropped(); err == nil && n > 0 {
			out[DropClear] = n
		}
	}
	return out
}

package machine

import (
	"fmt"
	"slices"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/pkg/wire"
)

// The packet for which a Child SA is asked for (RFC 7296 2.9): its selectors stand before the connection's, so that a peer that narrows takes a part with the packet
// in it. What is protected does not change by that: it is what the connection says, and of a peer that knows the rule no other answer comes than without.
//
// There are peers that look at the first selector alone, and refuse it or take it for all that is asked for: libreswan does so with narrowing=yes. They are asked once more, on the same IKE SA, without the packet (docs/decisions/0011).

// withPacket puts the packet's selectors before those that are asked for. A packet that is not for this Child SA, or says nothing more than the connection, is
// left out.
func (m *Machine) withPacket(c *child, local, remote ts.Set) (ts.Set, ts.Set) {
	o := c.offer
	src, dst, ok := o.packet.Selectors()
	if !ok || !local.Contains(ts.Set{src}) || !remote.Contains(ts.Set{dst}) {
		o.packet = ts.Packet{}
		return local, remote
	}
	l, r := local.First(src), remote.First(dst)
	if len(l) > wire.MaxSelectors || len(r) > wire.MaxSelectors || slices.Equal(l, local) && slices.Equal(r, remote) {
		o.packet = ts.Packet{}
		return local, remote
	}
	return l, r
}

// forPacket is what the log says of the packet's selectors; empty: there are none.
func (o *offer) forPacket() string {
	src, dst, ok := o.packet.Selectors()
	if !ok {
		return ""
	}
	return " for the packet " + tunnel(ts.Set{src}, ts.Set{dst})
}

// withoutPacket takes the packet's selectors out of an answer that repeats them beside those that they are a part of.
func (o *offer) withoutPacket(local, remote ts.Set) (ts.Set, ts.Set) {
	src, dst, ok := o.packet.Selectors()
	if !ok {
		return local, remote
	}
	return local.WithoutFirst(src, o.local), remote.WithoutFirst(dst, o.remote)
}

// onlyPacket reports whether an answer is for the packet alone, and not for what the connection asks for.
func (o *offer) onlyPacket(local, remote ts.Set) bool {
	return o.packet.Cut(local, remote, o.local, o.remote)
}

// askWithoutPacket asks once more for a Child SA that has come to nothing for its selectors, without those of a packet. It reports whether it does.
func (m *Machine) askWithoutPacket(c *child, why string) bool {
	if _, _, ok := c.offer.packet.Selectors(); !ok || c.unwanted || m.state != established {
		return false
	}
	m.emit(event.Event{
		Level: event.Info, Kind: event.KindPacketRefused, Conn: c.conn.Name, Child: c.name(),
		Text: fmt.Sprintf("Child SA %q: %s; asking once more, without the selectors of the packet that it is needed for", c.name(), why),
	})
	m.openChild(c.conn, c.index)
	return true
}

// refusedTS is why askWithoutPacket asks after a refusal.
func (m *Machine) refusedTS() string {
	return fmt.Sprintf("peer %s refused it with %v", m.path.Peer(), iana.TS_UNACCEPTABLE)
}

// firstChoices puts the children that allow the first selectors of both ends before those that narrowing would take them from: the answer to a request must hold them
// where we allow them (RFC 7296 2.9).
func (m *Machine) firstChoices(r request, list []target) []target {
	if len(list) < 2 || len(r.ours) == 0 || len(r.theirs) == 0 {
		return list
	}
	var holding, others []target
	for _, t := range list {
		local, remote := m.selectors(t.conn, t.index)
		ours, theirs, _, refusal := m.chooseMode(r, t)
		if refusal == nil && local.Contains(ours[:1]) && remote.Contains(theirs[:1]) {
			holding = append(holding, t)
		} else {
			others = append(others, t)
		}
	}
	return append(holding, others...)
}

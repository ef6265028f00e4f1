package machine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/pkg/wire"
)

// Rekeying a Child SA (RFC 7296 1.3.3, 2.8): a successor is made by CREATE_CHILD_SA, and then whoever asked for it deletes the old one. No packet is lost: the
// asker seals with the successor from its installation on, which the answerer has then; the answerer goes on with the old one until the asker deletes it, which it
// does when it has the successor. The asker has the old one until the answer to that, which the owner sends when its datapath has left the old one: a Send after a
// Remove waits for it.

// rekeying is the successor that the peer has made for a Child SA.
type rekeying struct {
	theirs ChildID // zero: none
	low    []byte  // the lower nonce of that exchange
}

// onRekeyChild makes a successor for a Child SA on the owner's wish. KindChildRekeyed or KindChildFailed tells the outcome.
func (m *Machine) onRekeyChild(in RekeyChild) {
	old := m.child(in.Child)
	if old != nil && in.OrClose {
		old.stranded = true
	}
	switch {
	case old == nil:
	case m.beingReplaced(old):
		m.tellRekeyed(old, in.Request) // the peer was faster
	case m.state != established || old.state != childInstalled || m.successor(old) != nil:
		m.emit(event.Event{
			Level: event.Warn, Kind: event.KindChildFailed, Conn: old.conn.Name, Child: old.name(),
			Text:  fmt.Sprintf("Child SA %q cannot be rekeyed now: it is being made, rekeyed or deleted", old.name()),
			Close: &event.Close{Reason: event.ReasonProtocol, Detail: fmt.Sprintf("Child SA %q is being made, rekeyed or deleted", old.name())}, Request: in.Request,
		})
	default:
		c := m.openChild(old.conn, old.index)
		c.offer.rekeys, c.request = old.id, in.Request
	}
}

// abandon deletes the Child SA that c, which comes to nothing, was to replace, if it is stranded: whoever must remain up then makes another from the beginning, which
// the peer may not refuse.
func (m *Machine) abandon(c *child) {
	id := c.replaces
	if c.offer != nil && c.asker {
		id = c.offer.rekeys
	}
	old := m.child(id)
	if old == nil || !old.stranded || old.state != childInstalled || m.beingReplaced(old) {
		return
	}
	m.emit(event.Event{
		Level: event.Warn, Conn: old.conn.Name, Child: old.name(),
		Text: fmt.Sprintf("Child SA %q cannot go on without the successor that it did not get: deleting it", old.name()),
	})
	m.deleteChild(old)
}

// successor is what we are asking for in the place of a child.
func (m *Machine) successor(old *child) *child {
	for _, c := range m.children {
		if c.offer != nil && c.offer.rekeys == old.id {
			return c
		}
	}
	return nil
}

// beingReplaced reports whether a child is part of a rekeying by the peer that is not over: it has a successor, is one, or is one of two and may be closed.
func (m *Machine) beingReplaced(c *child) bool {
	return c.redundant || m.child(c.rekeyed.theirs) != nil || m.child(c.replaces) != nil ||
		slices.ContainsFunc(m.children, func(o *child) bool { return o.offer != nil && o.offer.crossing.theirs == c.id })
}

// inUse is what a child protects now. In transport mode that is the two hosts, wherever they are.
func (m *Machine) inUse(c *child) (local, remote ts.Set) {
	if c.mode.transport {
		return readdress(c.local, m.path.Local.Addr()), readdress(c.remote, m.path.Remote.Addr())
	}
	return c.local, c.remote
}

// asksFor is what a request of ours has as selectors: those of the connection or, for a successor, those in use. RFC 7296 2.9.2 allows a superset too, but where the
// connection allows more than the peer's does, as after narrowing, its answer to the superset would be a part of it or a refusal; what is in use it has agreed to.
func (m *Machine) asksFor(c *child) (local, remote ts.Set) {
	local, remote = m.selectors(c.conn, c.index)
	if old := m.child(c.offer.rekeys); old != nil {
		if l, r := m.inUse(old); local.Contains(l) && remote.Contains(r) {
			return l, r
		}
	}
	return local, remote
}

// lessThan says that selectors do not hold all that a child protects now; empty: they do.
func (m *Machine) lessThan(old *child, local, remote ts.Set) string {
	l, r := m.inUse(old)
	if local.Contains(l) && remote.Contains(r) {
		return ""
	}
	return fmt.Sprintf("%s, which is less than the %s of the Child SA that it is to replace (RFC 7296 2.9.2)", tunnel(local, remote), tunnel(l, r))
}

// noSuccessor refuses to replace a child by one that protects less: what the old one lets through would be dropped (RFC 7296 2.9.2).
func (m *Machine) noSuccessor(old *child, ch *chosen) *childRefusal {
	less := m.lessThan(old, ch.local, ch.remote)
	if less == "" {
		return nil
	}
	return &childRefusal{
		conn: old.conn, reason: event.ReasonTSUnacceptable, notify: iana.TS_UNACCEPTABLE,
		text: fmt.Sprintf("of what the peer asks for as the successor of Child SA %q, this end (%s, %s) allows %s", old.name(), whereSubnet(old.conn, true),
			whereSubnet(old.conn, false), less),
	}
}

// rekeyNotify names the SA that a request of ours is to replace; ok is false when that is gone meanwhile.
func (m *Machine) rekeyNotify(c *child) (items []wire.Item, ok bool) {
	if c.offer.rekeys == 0 {
		return nil, true
	}
	old := m.child(c.offer.rekeys)
	if old == nil || old.state != childInstalled {
		m.removeChild(c)
		m.childFailed(c, event.Close{Reason: event.ReasonReplaced, Detail: fmt.Sprintf("Child SA %q is gone: there is nothing to rekey", c.name())})
		return nil, false
	}
	if m.child(old.rekeyed.theirs) != nil {
		m.removeChild(c)
		m.tellRekeyed(old, c.request) // the peer was faster
		return nil, false
	}
	n := wire.Notify{Notify: iana.REKEY_SA, Protocol: iana.ProtoESP, SPI: binary.BigEndian.AppendUint32(nil, old.spiIn)}
	return []wire.Item{{Payload: n}}, true
}

// succeed is called when a successor that we asked for is installed: the old one goes, or, if the peer has made a successor at the same time, perhaps ours.
func (m *Machine) succeed(c *child, o *offer) {
	old := m.child(o.rekeys)
	switch {
	case o.rekeys == 0:
	case o.crossing.theirs != 0 && redundant(lowest(o.ni, o.nr), o.crossing.low):
		c.ending = true
		m.deleteChild(c)
	case old == nil || old.state == childDeleting:
		m.tellRekeyed(c, c.request)
	default:
		old.ending, old.request = true, c.request
		m.deleteChild(old)
	}
	if theirs := m.child(o.crossing.theirs); theirs != nil && c.state == childInstalled {
		theirs.redundant = true // the peer deletes it
	}
}

// tellRekeyed reports the end of a rekeying of ours.
func (m *Machine) tellRekeyed(c *child, request uint32) {
	m.emit(event.Event{Level: event.Info, Kind: event.KindChildRekeyed, Conn: c.conn.Name, Child: c.name(), Text: fmt.Sprintf("Child SA %q is rekeyed", c.name()), Request: request})
}

// rekeyNotFound goes on when the peer does not have the SA that was to be rekeyed: ours goes without a word, and a new one is asked for from scratch
// (RFC 7296 2.25). If the peer has made a successor meanwhile, as when both rekeyed at once, that one serves (2.8.1).
func (m *Machine) rekeyNotFound(c *child) {
	old := m.child(c.offer.rekeys)
	if old == nil || m.child(c.offer.crossing.theirs) != nil {
		m.removeChild(c)
		m.tellRekeyed(c, c.request)
		return
	}
	m.removeChild(old)
	m.tellChildClosed(old, event.Close{Reason: event.ReasonPeerDeleted, Remote: true, Detail: fmt.Sprintf("peer %s has lost Child SA %q; making another", m.path.Peer(), old.name())})
	c.offer.rekeys, c.offer.exchange = 0, nil
	c.offer.lost = true
	m.enqueue(task{kind: taskCreateChild, child: c.id})
}

// onRekeyRequest makes a successor for a Child SA. The peer deletes the old one; until then both are there, and ours are still sealed with the old one.
func (m *Machine) onRekeyRequest(msg *message, n wire.Notify) {
	var old *child
	if n.Protocol == iana.ProtoESP {
		old = m.childBySPIOut(spiOf(n.SPI))
	}
	switch {
	case old == nil:
		m.refuseCreate(msg, &childRefusal{
			reason: event.ReasonProtocol, notify: iana.CHILD_SA_NOT_FOUND, protocol: n.Protocol, spi: n.SPI, // RFC 7296 2.25: as the request named it
			text: fmt.Sprintf("the peer wants to rekey the Child SA %x, which is not here", n.SPI),
		})
	case old.state != childInstalled:
		m.refuseCreate(msg, &childRefusal{
			conn: old.conn, reason: event.ReasonOperator, notify: iana.TEMPORARY_FAILURE, text: fmt.Sprintf("Child SA %q is being deleted", old.name()), // RFC 7296 2.25.1
		})
	default:
		if c := m.create(msg, []target{{old.conn, old.index}}, old); c != nil {
			c.standby, c.replaces = true, old.id
			old.rekeyed = rekeying{theirs: c.id, low: bytes.Clone(lowest(c.offer.ni, c.offer.nr))}
			if ours := m.successor(old); ours != nil {
				ours.offer.crossing = old.rekeyed
			}
		}
	}
}

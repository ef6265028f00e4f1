package machine

import (
	"fmt"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// onInfoRequest answers INFORMATIONAL: an empty request asks whether we live, others delete SAs or report errors (RFC 7296 1.4).
func (m *Machine) onInfoRequest(msg *message) {
	if n, ok := m.fatalNotify(msg); ok {
		m.put(m.seal(m.header(msg.h.Exchange, msg.h.MessageID, true), nil), true)
		m.finishReplied(m.peerError(n))
		return
	}
	var gone []uint32
	for _, it := range msg.items {
		switch p := it.Payload.(type) {
		case wire.Delete:
			if p.Protocol == iana.ProtoIKE {
				m.deletedByPeer(msg)
				return
			}
			gone = append(gone, m.deleteChildren(p)...)
		case wire.Notify:
			m.noteNotify(p)
		}
	}
	var items []wire.Item
	if len(gone) > 0 {
		items = append(items, wire.Item{Payload: deleteESP(gone...)})
	}
	m.answer(msg, items)
}

// deletedByPeer ends the IKE SA: an empty reply, and everything goes (RFC 7296 1.4.1). Our own Delete, if it crosses this one, is forgotten (2.25.2).
func (m *Machine) deletedByPeer(msg *message) {
	m.put(m.seal(m.header(msg.h.Exchange, msg.h.MessageID, true), nil), true)
	c := event.Close{Reason: event.ReasonPeerDeleted, Remote: true, Detail: "IKE SA deleted by peer " + m.path.Peer()}
	if m.closing != nil {
		c = *m.closing
	}
	m.finishReplied(c)
}

// deleteChildren removes the children that the peer names by its inbound SPIs, and returns our inbound SPIs for the reply. A child that we are deleting
// ourselves is not among them: the two requests cross (RFC 7296 1.4.1). Unknown SPIs are passed over (2.25.1), but for those that an answer still on its way
// may bring.
func (m *Machine) deleteChildren(d wire.Delete) (ours []uint32) {
	if d.Protocol != iana.ProtoESP {
		return nil
	}
	for _, b := range d.SPIs {
		c := m.childBySPIOut(spiOf(b))
		if c == nil {
			m.noteGone(spiOf(b))
			continue
		}
		crossing := c.state == childDeleting
		if !crossing {
			ours = append(ours, c.spiIn)
		}
		m.removeChild(c)
		why := event.Close{Reason: event.ReasonPeerDeleted, Remote: !crossing, Detail: fmt.Sprintf("Child SA %q deleted by peer", c.name())}
		if c.offer != nil {
			m.childFailed(c, why) // it was never up, and whoever waits for it waits no more
		} else {
			m.tellChildClosed(c, why)
			m.abandon(c)
		}
	}
	return ours
}

// noteGone remembers an SPI that we do not know while a CREATE_CHILD_SA request of ours is unanswered. The peer may have made the Child SA and deleted it again
// before its answer, lost and repeated, arrives: what is installed then would be ours alone.
func (m *Machine) noteGone(spi uint32) {
	if c := m.child(m.out.task.child); c != nil && m.out.task.kind == taskCreateChild && c.offer != nil && len(c.offer.gone) < maxGone {
		c.offer.gone = append(c.offer.gone, spi)
	}
}

// fatalNotify finds an error that ends the IKE SA without a Delete: the initiator did not accept us, and says so in the exchange right after IKE_AUTH
// (RFC 7296 2.21.2).
func (m *Machine) fatalNotify(msg *message) (wire.Notify, bool) {
	n, ok := errorNotify(msg.items)
	if !ok || m.initiator || msg.h.MessageID != 2 {
		return n, false
	}
	switch n.Notify {
	case iana.AUTHENTICATION_FAILED, iana.INVALID_SYNTAX, iana.UNSUPPORTED_CRITICAL_PAYLOAD:
		return n, true
	}
	return n, false
}

// noteNotify reports what the peer notifies; nothing changes by it (RFC 7296 2.21.4).
func (m *Machine) noteNotify(n wire.Notify) {
	level := event.Debug
	if n.Notify.Error() {
		level = event.Warn
	}
	ev := event.Event{Level: level, Text: fmt.Sprintf("peer %s notifies %v", m.path.Peer(), n.Notify)}
	if level == event.Debug {
		m.emit(ev)
	} else {
		m.tellRefusal(ev)
	}
}

// onInfoResponse finishes what our request was for.
func (m *Machine) onInfoResponse(msg *message) {
	t := m.answered()
	if n, ok := errorNotify(msg.items); ok {
		if n.Notify == iana.INVALID_SYNTAX && m.state == established {
			m.finish(m.peerError(n)) // fatal at both ends (RFC 7296 2.21.3)
			return
		}
		m.noteNotify(n)
	}
	switch t.kind {
	case taskDeleteChild:
		if c := m.child(t.child); c != nil {
			m.removeChild(c)
			m.tellChildClosed(c, event.Close{Reason: event.ReasonOperator, Detail: fmt.Sprintf("Child SA %q deleted", c.name())})
		}
	case taskDeleteIKE, taskNotify:
		m.closeNow()
	case taskNone, taskLiveness, taskCreateChild:
	}
}

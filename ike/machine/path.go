package machine

import (
	"fmt"
	"strings"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/path"
)

// needPath gives up the attempt on the present path and asks for another.
func (m *Machine) needPath(c event.Close) {
	m.removeChildren()
	m.clock = clock{linger: m.clock.linger}
	m.out, m.in, m.held = outbound{}, inbound{}, nil
	m.state = waiting
	m.hs.forget()
	m.hs.last = &c
	if m.closing != nil {
		m.finish(*m.closing) // nobody wants it any more
		return
	}
	m.do(NeedPath{Conn: m.conn, Last: m.path, Why: &c})
}

// onPathReady goes on with another path: with a new IKE_SA_INIT, or by sending what is outstanding again.
func (m *Machine) onPathReady(in PathReady) {
	switch {
	case m.state == waiting:
		m.tellFallback(in.Path)
		m.path = in.Path
		if in.SPI != 0 {
			m.spii = in.SPI
		}
		m.begin()
	case m.pathLost && m.state == initSent:
		m.path, m.pathLost = in.Path, false
		m.sendInit()
	case m.pathLost && m.initiator && (m.state == established || m.state == deleting):
		if !in.Path.Kind.Stream() {
			// Another carrier for an established IKE SA needs MOBIKE (RFC 9329 5).
			m.finish(event.Close{Reason: event.ReasonPathFailed, Detail: fmt.Sprintf("the stream to %s ended, and an IKE SA cannot go on over %s without MOBIKE",
				m.path.Peer(), in.Path.Kind)})
			return
		}
		m.moveTo(in.Path)
		m.emit(event.Event{Level: event.Info, Text: "back on a new stream, " + m.path.String()})
		// A fresh message makes the responder choose this stream; a repeated one may not (RFC 9329 6.1).
		if len(m.tasks) == 0 {
			m.enqueue(task{kind: taskLiveness})
		}
	}
}

// onNoPath ends what has nowhere to go.
func (m *Machine) onNoPath(in NoPath) {
	var c event.Close
	switch {
	case m.state == waiting:
		c = *m.hs.last
	case m.pathLost && m.state == initSent:
		m.pathLost = false
		if in.Err != nil {
			m.hs.last.Detail += ", and no other could be opened: " + in.Err.Error()
		}
		m.needPath(*m.hs.last)
		return
	case m.pathLost:
		c = event.Close{Reason: event.ReasonPathFailed, Detail: "the stream to " + m.path.Peer() + " ended"}
	default:
		return
	}
	if in.Err != nil {
		// Where this attempt was the last one, the error is what is known of it already, perhaps with more behind it: say it once.
		if more, same := strings.CutPrefix(in.Err.Error(), c.Detail); same {
			c.Detail += more
		} else {
			c.Detail += "; no further path: " + in.Err.Error()
		}
	}
	m.finish(c)
}

// onPathLost takes notice that the stream has ended. An established IKE SA survives it (RFC 9329 6.1).
func (m *Machine) onPathLost(in PathLost) {
	if in.Path != m.path || m.pathLost {
		return
	}
	c := m.lostReason(in.Err)
	switch m.state {
	case authSent:
		if m.out.busy {
			m.pathLost = true // the answer is here and may be good: the IKE SA goes on without the stream
			return
		}
		m.needPath(c)
	case initSent:
		if m.hs.streams < m.hs.retries {
			m.askOnAnother(c)
			return
		}
		m.needPath(c)
	case keying:
		m.needPath(c)
	case halfOpen:
		m.finish(c)
	case idle:
		if m.in.busy { // a responder whose public value is being made
			m.finish(c)
		}
	case deleting, ended:
		m.closeNow()
	case established:
		m.suspend(c)
	case waiting, closed: // nothing is on the path
	}
}

// askOnAnother has the request, which a responder wants to have repeated for COOKIE or INVALID_KE_PAYLOAD, go out on another stream: to stay stateless the responder
// may close the one on which it has asked (RFC 9329 6.3), and libreswan always does. The IKE SA and its SPI are the same, for the cookie may depend on it.
func (m *Machine) askOnAnother(c event.Close) {
	m.hs.streams, m.hs.last = m.hs.retries, &c
	m.pathLost = true
	m.out = outbound{}
	m.onAnswered()
	m.emit(event.Event{Level: event.Info, Text: c.Detail + ", as a responder may that has asked for another IKE_SA_INIT request; opening another"})
	m.do(NeedPath{Conn: m.conn, Last: m.path, Why: &c, Again: true})
}

// suspend leaves an established IKE SA without a path until its originator has opened another stream.
func (m *Machine) suspend(c event.Close) {
	m.pathLost = true
	m.onSuspended()
	m.emit(event.Event{Level: event.Warn, Kind: event.KindPathLost, Text: c.Detail + m.lostAdvice()})
	if m.initiator {
		m.do(NeedPath{Conn: m.conn, Last: m.path, Why: &c})
	}
}

// onAbandoned ends an IKE SA whose stream never came back.
func (m *Machine) onAbandoned() {
	m.finish(event.Close{
		Reason: event.ReasonPathFailed, Remote: true,
		Detail: fmt.Sprintf("the stream from %s ended and the peer did not open another", m.path.Peer()),
	})
}

// onAuthentic is called with every fresh message that authenticated: it shows that the peer lives, and by which path (RFC 9329 6.1, RFC 7296 2.23). Our
// paths as the initiator come from our owner.
func (m *Machine) onAuthentic(msg *message) {
	m.onAlive(m.now)
	if m.initiator || msg.path == m.path && !m.pathLost {
		return
	}
	switch {
	case m.state == halfOpen:
		m.path = msg.path // the initiator floats to port 4500
	case m.state != established:
	case msg.path.Kind.Stream() && m.path.Kind.Stream(), !msg.path.Kind.Stream() && !m.path.Kind.Stream() && m.natRemote && !m.natLocal:
		from := m.path
		m.moveTo(msg.path)
		m.emit(event.Event{Level: event.Info, Text: fmt.Sprintf("peer has moved: %s, was %s", m.path, from)})
	}
}

// moveTo makes p the path of an established IKE SA and of its children, and sends what is outstanding again (RFC 9329 6.2).
func (m *Machine) moveTo(p path.Path) {
	m.path, m.pathLost = p, false
	for _, c := range m.children {
		switch c.state {
		case childInstalled, childDeleting:
			m.moveChild(c)
		case childInstalling:
			c.moved = true
		case childReserving, childReserved:
		}
	}
	m.startKeepAlive()
	m.onResumed()
	if m.out.request != nil {
		m.do(Send{Path: m.path, Data: m.out.request})
	}
}

// moveChild lets the ESP of a child follow its IKE SA. Plain ESP between the same addresses has not moved.
func (m *Machine) moveChild(c *child) {
	if p := m.espPath(c.conn); p != c.path {
		c.path = p
		m.do(Move{Child: c.id, SPIIn: c.spiIn, Path: p})
	}
}

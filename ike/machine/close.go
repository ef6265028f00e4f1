package machine

import (
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/suite"
)

// abortFor is how long an initiator that did not accept the responder waits for the answer to its AUTHENTICATION_FAILED (RFC 7296 2.21.2).
const abortFor = 5 * time.Second

// finish ends the IKE SA with nothing left to say.
func (m *Machine) finish(c event.Close) {
	if m.over() {
		return
	}
	m.tellEnd(c)
	m.state = closed
	m.do(Close{c})
}

// finishReplied ends the IKE SA after the reply that ends it. The reply may be lost: on datagrams the machine stays to repeat it, without keys.
func (m *Machine) finishReplied(c event.Close) {
	if m.in.path.Kind.Stream() {
		m.finish(c)
		return
	}
	if m.over() {
		return
	}
	m.tellEnd(c)
	m.state = ended
	m.closing = &c
	m.onLinger(lingerFor)
	m.do(Ended{c})
}

// closeNow is called when the time to linger has passed.
func (m *Machine) closeNow() {
	c := event.Close{}
	if m.closing != nil {
		c = *m.closing
	}
	if m.state == ended {
		m.state = closed
		m.do(Close{c})
		return
	}
	m.finish(c)
}

func (m *Machine) over() bool { return m.state == ended || m.state == closed }

// tellEnd reports the end, takes the children away and forgets the keys.
func (m *Machine) tellEnd(c event.Close) {
	m.removeChildren()
	m.stopKeepAlive()
	m.emitEnd(c)
	m.clock = clock{}
	m.tasks, m.held, m.again, m.hs, m.closing = nil, nil, nil, nil, nil
	m.out = outbound{}
	clear(m.keys.D)
	clear(m.keys.Ai)
	clear(m.keys.Ar)
	clear(m.keys.Ei)
	clear(m.keys.Er)
	clear(m.keys.Pi)
	clear(m.keys.Pr)
	m.keys = suite.IKEKeys{}
}

// onCloseIKE ends the IKE SA on the owner's wish.
func (m *Machine) onCloseIKE(in CloseIKE) {
	c := event.Close{Reason: in.Reason}
	switch m.state {
	case established:
		m.closeWith(c, in.Linger)
	case deleting:
		m.clock.linger = min(m.clock.linger, m.now.add(max(in.Linger, 1)))
		if in.Linger <= 0 {
			m.closeNow()
		}
	case ended:
		m.closeNow()
	case authSent:
		// The responder may be established already, and only its answer lets us send a Delete: wait for that, for a while.
		if in.Linger <= 0 {
			m.finish(c)
			return
		}
		m.closing = &c
		m.clock.linger = m.now.add(in.Linger)
	default:
		m.finish(c)
	}
}

// closeWith sends a Delete for the IKE SA and waits for its answer at most linger (RFC 7296 1.4.1). The children go at once.
func (m *Machine) closeWith(c event.Close, linger time.Duration) {
	m.removeChildren()
	if m.pathLost {
		m.finish(c) // there is nobody to tell
		return
	}
	if m.in.busy && m.state == established {
		m.refuseInWork(&childRefusal{reason: c.Reason, notify: iana.TEMPORARY_FAILURE, text: "this IKE SA is being deleted"}) // RFC 7296 2.25.2
	}
	m.state, m.closing = deleting, &c
	m.tasks = []task{{kind: taskDeleteIKE}}
	m.tellDeleting(c, "to delete it")
	m.nextTask()
	if linger <= 0 {
		m.finish(c)
		return
	}
	m.onLinger(linger)
}

// abort ends an IKE SA that the initiator does not accept: the responder is told why in an INFORMATIONAL exchange, and needs no Delete (RFC 7296 2.21.2).
func (m *Machine) abort(c event.Close, n iana.Notify, data []byte) {
	m.removeChildren()
	if m.pathLost {
		m.finish(c)
		return
	}
	m.state, m.closing = deleting, &c
	m.tasks = []task{{kind: taskNotify, notify: n, data: data}}
	m.tellDeleting(c, "with "+n.String())
	m.nextTask()
	m.onLinger(abortFor)
}

// stopKeepAlive ends NAT keepalives.
func (m *Machine) stopKeepAlive() {
	if !m.keepalive.IsZero() {
		m.do(KeepAlive{Path: m.keepalive, On: false})
		m.keepalive = path.Path{}
	}
}

// startKeepAlive asks for NAT keepalives on the present path if we are really behind a NAT (RFC 7296 2.23; on a stream they are not sent, RFC 9329 6.6).
func (m *Machine) startKeepAlive() {
	want := m.natLocal && m.conn.NATKeepAlive && !m.path.Kind.Stream()
	if m.keepalive == m.path && want {
		return
	}
	m.stopKeepAlive()
	if want {
		m.keepalive = m.path
		m.do(KeepAlive{Path: m.path, On: true})
	}
}

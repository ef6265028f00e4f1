package machine

import (
	"fmt"
	"time"

	"github.com/ikegod/ikegod/ike/event"
)

// retransmit sends the outstanding request again, bit for bit, and doubles the delay (RFC 7296 2.1, 2.4). On a stream it is never called.
func (m *Machine) retransmit() {
	if m.out.request == nil || m.out.busy || m.path.Kind.Stream() {
		return
	}
	m.out.retransmits++
	m.out.interval *= 2
	next := m.now.add(m.out.interval)
	end := m.clock.exchange
	if end == 0 {
		end = m.clock.linger
	}
	wait := m.out.interval
	if next < end {
		m.clock.retransmit = next
	} else {
		wait = time.Duration(end - m.now)
	}
	m.do(Send{Path: m.path, Data: m.out.request})
	m.emit(event.Event{Level: event.Info, Kind: event.KindRetransmit, Text: fmt.Sprintf("no answer from %s: %v request sent again (%d), will wait %v",
		m.path.Peer(), m.out.exchange, m.out.retransmits, wait.Round(time.Millisecond))})
}

// resume arms retransmission again after a response that led nowhere.
func (m *Machine) resume() {
	m.out.busy = false
	if !m.path.Kind.Stream() {
		m.clock.retransmit = m.now.add(m.out.interval)
	}
}

// onExchangeTimeout is called when the outstanding request is given up: before the IKE SA is established another path may help; an established one is
// dead (RFC 7296 2.4).
func (m *Machine) onExchangeTimeout() {
	c := m.timeoutReason()
	switch m.state {
	case initSent, keying, authSent:
		m.needPath(c)
	case deleting:
		m.closeNow()
	default:
		m.finish(c)
	}
}

package machine

import (
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
)

// Times that no keyword sets.
const (
	defaultHalfOpen   = 30 * time.Second
	defaultInterval   = 500 * time.Millisecond
	defaultRetransmit = 30 * time.Second
	// hintedFor is how long a better answer to IKE_SA_INIT is waited for after a refusal over UDP, which anybody on the path can forge. Somebody waits for `up`, and
	// the true answer to a request that reached the peer is there within a round trip or its next retransmissions.
	hintedFor = 5 * time.Second
	// lingerFor is how long a machine that is over repeats its last reply. A peer that retransmits with the usual doubling from half a second asks
	// four times in it.
	lingerFor = 10 * time.Second
	// replyKept is how long a reply is kept for a peer that sends no further request: RFC 7296 2.1 allows to forget it "after a timeout of several
	// minutes". A request is retransmitted for at most half a minute by us, and less than three minutes by strongSwan (165 s).
	replyKept = 4 * time.Minute
	// abandonedAfter ends an IKE SA whose stream is gone when neither liveness nor a lifetime is configured.
	abandonedAfter = time.Hour
	// temporaryFor is how long a request waits that was answered with TEMPORARY_FAILURE: RFC 7296 2.25 forbids to repeat it at once.
	temporaryFor = 5 * time.Second
)

// moment is an instant: nanoseconds since just before the first Step, so that a timer is a number and follows the monotonic clock that the
// owner's times carry. Zero: not set.
type moment time.Duration

func (t moment) add(d time.Duration) moment { return t + moment(d) }

// clock holds every deadline of an IKE SA. Only the functions of this file set them, each named for the moment that does.
type clock struct {
	retransmit moment // the outstanding request goes out again; datagrams only
	exchange   moment // the outstanding request is given up
	halfOpen   moment // the responder gives up waiting for IKE_AUTH
	liveness   moment // nothing authentic was seen for so long that we ask
	abandoned  moment // the stream's originator has not come back
	linger     moment // the machine goes
	forget     moment // the last reply is forgotten
	again      moment // what the peer could not do is asked for again
}

// Deadline is when Step wants a Tick; zero means never.
func (m *Machine) Deadline() time.Time {
	var first moment
	for _, t := range [...]moment{
		m.clock.retransmit, m.clock.exchange, m.clock.halfOpen, m.clock.liveness, m.clock.abandoned, m.clock.linger,
		m.clock.forget, m.clock.again,
	} {
		if t != 0 && (first == 0 || t < first) {
			first = t
		}
	}
	if first == 0 {
		return time.Time{}
	}
	return m.born.Add(time.Duration(first))
}

// due reports whether *t has come, and clears it.
func (m *Machine) due(t *moment) bool {
	if *t == 0 || *t > m.now {
		return false
	}
	*t = 0
	return true
}

// onTick acts on the deadlines that have come. An end takes the others with it.
func (m *Machine) onTick() {
	switch {
	case m.due(&m.clock.linger):
		m.closeNow()
		return
	case m.due(&m.clock.halfOpen):
		m.onHalfOpenTimeout()
		return
	case m.due(&m.clock.abandoned):
		m.onAbandoned()
		return
	case m.due(&m.clock.exchange):
		m.onExchangeTimeout()
		return
	}
	if m.due(&m.clock.retransmit) {
		m.retransmit()
	}
	if m.due(&m.clock.liveness) {
		m.onSilence()
	}
	if m.due(&m.clock.forget) {
		m.in.reply = nil
	}
	if m.due(&m.clock.again) {
		m.askAgain()
	}
}

// onSent is called when a new request has gone out: on datagrams it is repeated until the timeout, on a stream there is only the timeout
// (RFC 9329 6.2).
func (m *Machine) onSent() {
	t := timing(m.conn)
	m.clock.exchange = m.now.add(t.Timeout)
	m.clock.retransmit = 0
	if !m.path.Kind.Stream() {
		m.out.interval = t.Interval
		m.clock.retransmit = m.now.add(t.Interval)
	}
}

// onHint is called when an IKE_SA_INIT request was refused without protection: RFC 7296 2.21.1 wants us to continue "for some time", not for ever. The retransmissions
// of that time ask again.
func (m *Machine) onHint() {
	if m.clock.exchange != 0 {
		m.clock.exchange = min(m.clock.exchange, m.now.add(hintedFor))
	}
}

// onAnswered is called when the outstanding request has its answer.
func (m *Machine) onAnswered() { m.clock.retransmit, m.clock.exchange = 0, 0 }

// onTemporaryFailure is called when the peer cannot do now what we asked for.
func (m *Machine) onTemporaryFailure() { m.clock.again = m.now.add(temporaryFor) }

// onReplied is called when a request of the peer was answered.
func (m *Machine) onReplied() { m.clock.forget = m.now.add(replyKept) }

// onHalfOpen is called when the responder has answered IKE_SA_INIT.
func (m *Machine) onHalfOpen() { m.clock.halfOpen = m.now.add(m.cfg.HalfOpen) }

// onEstablished is called when both ends have proved their identity.
func (m *Machine) onEstablished() {
	m.establishedAt = m.now
	m.clock.halfOpen = 0
	m.onAlive(m.now)
}

// onAlive is called when something authentic and fresh came from the peer.
func (m *Machine) onAlive(at moment) {
	if m.state == established && m.conn.Liveness > 0 {
		m.clock.liveness = max(m.clock.liveness, at.add(m.conn.Liveness))
	}
}

// onSuspended is called when the stream under an established IKE SA has ended: nothing is sent until its originator is back, which has to happen
// before the SA's liveness would have ended (RFC 9329 6.1).
func (m *Machine) onSuspended() {
	m.clock.retransmit, m.clock.exchange, m.clock.liveness = 0, 0, 0
	wait := abandonedAfter
	switch {
	case m.conn.Liveness > 0:
		wait = m.conn.Liveness + timing(m.conn).Timeout
	case m.conn.Lifetimes.IKE > 0:
		wait = m.conn.Lifetimes.IKE
	}
	m.clock.abandoned = m.now.add(wait)
}

// onResumed is called when an established IKE SA has a path again.
func (m *Machine) onResumed() {
	m.clock.abandoned = 0
	m.onAlive(m.now)
	if m.out.request != nil {
		m.onSent()
	}
}

// onLinger is called when the machine is over but may have to repeat its last reply, or waits a limited time for the answer to its Delete.
func (m *Machine) onLinger(d time.Duration) {
	m.clock = clock{linger: m.now.add(max(d, 1)), retransmit: m.clock.retransmit}
}

// timing is retransmit-interval and retransmit-timeout of a connection.
func timing(c *policy.Oriented) policy.Retransmit {
	t := policy.Retransmit{Interval: defaultInterval, Timeout: defaultRetransmit}
	if c == nil {
		return t
	}
	if c.Retransmit.Interval > 0 {
		t.Interval = c.Retransmit.Interval
	}
	if c.Retransmit.Timeout > 0 {
		t.Timeout = c.Retransmit.Timeout
	}
	return t
}

// onHalfOpenTimeout ends a responder whose peer never sent a good IKE_AUTH request.
func (m *Machine) onHalfOpenTimeout() {
	m.finish(event.Close{Reason: event.ReasonHalfOpenTimeout, Detail: m.halfOpenText()})
}

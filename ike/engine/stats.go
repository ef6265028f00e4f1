package engine

import (
	"sync/atomic"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/path"
)

// counters count since the start. All atomic.
type counters struct {
	sas, over, established, children atomic.Int64 // now

	sent, sendErrors, stateless, cookies atomic.Uint64
	retransmits, panics, revivals        atomic.Uint64
	roundsFailed                         atomic.Uint64
	fallbacks                            [2]atomic.Uint64 // by the carrier that is tried next
	drops                                [event.NumDrops]atomic.Uint64
	handshakes                           [2][2][event.NumReasons]atomic.Uint64 // by role, carrier, reason; ReasonNone is success
	closed                               [event.NumReasons]atomic.Uint64       // established IKE SAs that ended
	handshakeTimes                       [2][2]durations                       // by role and carrier, of those that succeeded
	fallbackTimes                        durations                             // from the first attempt to an IKE SA on another carrier
}

func (c *counters) drop(d event.Drop) {
	if d < event.NumDrops {
		c.drops[d].Add(1)
	}
}

// count counts an event of a machine or a connection.
func (c *counters) count(ev event.Event) {
	switch ev.Kind {
	case event.KindDrop:
		c.drop(ev.Drop)
	case event.KindRetransmit:
		c.retransmits.Add(1)
	case event.KindFallback:
		c.fallbacks[carrier(ev.Path.Kind)].Add(1)
	default:
	}
}

// The first index of what is counted by role, and the second, by carrier of IKE messages.
func role(initiator bool) int {
	if initiator {
		return 1
	}
	return 0
}

var carriers = [2]path.Kind{path.UDP, path.TCP}

func carrier(kind path.Kind) int {
	if kind.Stream() {
		return 1
	}
	return 0
}

// handshake counts the outcome of one negotiation on one carrier.
func (c *counters) handshake(initiator bool, kind path.Kind, why event.Reason) {
	if why < event.NumReasons {
		c.handshakes[role(initiator)][carrier(kind)][why].Add(1)
	}
}

// ended counts the end of an IKE SA. What an initiator's rungs answered is counted as it comes.
func (c *counters) ended(a *sa, why event.Close) {
	switch {
	case a.established && why.Reason < event.NumReasons:
		c.closed[why.Reason].Add(1)
	case !a.established && !a.initiator:
		c.handshake(false, a.path.Kind, why.Reason)
	}
}

// Stats are the engine's counters since its start, and how much there is now.
type Stats struct {
	IKESAs, HalfOpen, Established, Children       int64 // now; IKESAs includes those that only repeat a last reply
	Closing                                       int64 // those that only repeat a last reply
	Sent, SendErrors, StatelessReplies, Cookies   uint64
	Retransmits, Fallbacks, Panics, Revivals      uint64
	RoundsFailed                                  uint64 // a round tries every rung of a connection's ladder
	Drops                                         [event.NumDrops]uint64
	Handshakes                                    []HandshakeCount // every combination, those that never happened too
	HandshakeTimes                                []HandshakeTimes
	FallbacksTo                                   map[path.Kind]uint64     // Fallbacks by the carrier that is tried next
	FallbackTimes                                 Histogram                // from the first attempt to an IKE SA on another carrier
	Closed                                        [event.NumReasons]uint64 // established IKE SAs that ended, by event.Reason
	Connections, ConnectionsWanted, ConnectionsUp int
	ConnectionsMissing                            int       // wanted and not up
	Traffic                                       []Traffic // by connection; at most MaxNamed, and one for the others at the end
}

// HandshakeCount is how many negotiations ended in one way. Result is ReasonNone for an established IKE SA.
type HandshakeCount struct {
	Initiator bool
	Kind      path.Kind
	Result    event.Reason
	Count     uint64
}

// HandshakeTimes is how long negotiations took that succeeded, seen from one role: for an initiator the last rung alone.
type HandshakeTimes struct {
	Initiator bool
	Kind      path.Kind
	Took      Histogram
}

// Stats returns the counters. They are read one after the other, while work goes on.
func (e *Engine) Stats() Stats {
	c := &e.counters
	st := Stats{
		IKESAs: c.sas.Load(), HalfOpen: e.halfOpen.Load(), Established: c.established.Load(), Children: c.children.Load(), Closing: c.over.Load(),
		Sent: c.sent.Load(), SendErrors: c.sendErrors.Load(), StatelessReplies: c.stateless.Load(), Cookies: c.cookies.Load(),
		Retransmits: c.retransmits.Load(), Panics: c.panics.Load(), Revivals: c.revivals.Load(),
		RoundsFailed: c.roundsFailed.Load(), FallbacksTo: map[path.Kind]uint64{}, FallbackTimes: c.fallbackTimes.read(),
		Traffic: e.traffic.read(e.dp.Usage),
	}
	for i := range st.Drops {
		st.Drops[i] = c.drops[i].Load()
	}
	for role := range c.handshakes {
		for carrier := range c.handshakes[role] {
			st.HandshakeTimes = append(st.HandshakeTimes, HandshakeTimes{role == 1, carriers[carrier], c.handshakeTimes[role][carrier].read()})
			for why := range c.handshakes[role][carrier] {
				st.Handshakes = append(st.Handshakes, HandshakeCount{role == 1, carriers[carrier], event.Reason(why), c.handshakes[role][carrier][why].Load()})
			}
		}
	}
	for kind := range c.fallbacks {
		n := c.fallbacks[kind].Load()
		st.FallbacksTo[carriers[kind]] = n
		st.Fallbacks += n
	}
	for why := range c.closed {
		st.Closed[why] = c.closed[why].Load()
	}
	for _, s := range e.Connections() {
		st.Connections++
		up := s.State == phaseUp.String() || s.State == phaseInPlace.String()
		if up {
			st.ConnectionsUp++
		}
		if s.Wanted {
			st.ConnectionsWanted++
		}
		if s.Wanted && !up {
			st.ConnectionsMissing++
		}
	}
	return st
}

package engine

import (
	"sync/atomic"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/path"
)

// numReasons is one more than the largest event.Reason.
const numReasons = int(event.ReasonPeerError) + 1

// counters count since the start. All atomic.
type counters struct {
	sas, established, children atomic.Int64 // now

	sent, sendErrors, stateless, cookies     atomic.Uint64
	retransmits, fallbacks, panics, revivals atomic.Uint64
	roundsFailed                             atomic.Uint64
	drops                                    [event.NumDrops]atomic.Uint64
	handshakes                               [2][2][numReasons]atomic.Uint64 // by role, carrier, reason; ReasonNone is success
	closed                                   [numReasons]atomic.Uint64       // established IKE SAs that ended
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
		c.fallbacks.Add(1)
	default:
	}
}

// handshake counts the outcome of one negotiation on one carrier.
func (c *counters) handshake(initiator bool, kind path.Kind, why event.Reason) {
	role, carrier := 0, 0
	if initiator {
		role = 1
	}
	if kind.Stream() {
		carrier = 1
	}
	if int(why) < numReasons {
		c.handshakes[role][carrier][why].Add(1)
	}
}

// ended counts the end of an IKE SA. What an initiator's rungs answered is counted as it comes.
func (c *counters) ended(a *sa, why event.Close) {
	switch {
	case a.established && int(why.Reason) < numReasons:
		c.closed[why.Reason].Add(1)
	case !a.established && !a.initiator:
		c.handshake(false, a.path.Kind, why.Reason)
	}
}

// Stats are the engine's counters since its start, and how much there is now.
type Stats struct {
	IKESAs, HalfOpen, Established, Children       int64 // now; IKESAs includes those that only repeat a last reply
	Sent, SendErrors, StatelessReplies, Cookies   uint64
	Retransmits, Fallbacks, Panics, Revivals      uint64
	RoundsFailed                                  uint64 // a round tries every rung of a connection's ladder
	Drops                                         [event.NumDrops]uint64
	Handshakes                                    []HandshakeCount
	Closed                                        map[event.Reason]uint64 // established IKE SAs that ended
	Connections, ConnectionsWanted, ConnectionsUp int
}

// HandshakeCount is how many negotiations ended in one way. Result is ReasonNone for an established IKE SA.
type HandshakeCount struct {
	Initiator bool
	Kind      path.Kind
	Result    event.Reason
	Count     uint64
}

// Stats returns the counters. They are read one after the other, while work goes on.
func (e *Engine) Stats() Stats {
	c := &e.counters
	st := Stats{
		IKESAs: c.sas.Load(), HalfOpen: e.halfOpen.Load(), Established: c.established.Load(), Children: c.children.Load(),
		Sent: c.sent.Load(), SendErrors: c.sendErrors.Load(), StatelessReplies: c.stateless.Load(), Cookies: c.cookies.Load(),
		Retransmits: c.retransmits.Load(), Fallbacks: c.fallbacks.Load(), Panics: c.panics.Load(), Revivals: c.revivals.Load(),
		RoundsFailed: c.roundsFailed.Load(), Closed: map[event.Reason]uint64{},
	}
	for i := range st.Drops {
		st.Drops[i] = c.drops[i].Load()
	}
	for role := range c.handshakes {
		for carrier := range c.handshakes[role] {
			for why := range c.handshakes[role][carrier] {
				if n := c.handshakes[role][carrier][why].Load(); n > 0 {
					st.Handshakes = append(st.Handshakes, HandshakeCount{role == 1, path.Kind(carrier), event.Reason(why), n})
				}
			}
		}
	}
	for why := range c.closed {
		if n := c.closed[why].Load(); n > 0 {
			st.Closed[event.Reason(why)] = n
		}
	}
	for _, s := range e.Connections() {
		st.Connections++
		if s.Wanted {
			st.ConnectionsWanted++
		}
		if s.State == phaseUp.String() {
			st.ConnectionsUp++
		}
	}
	return st
}

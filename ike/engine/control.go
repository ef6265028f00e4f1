package engine

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/transport/ladder"
)

// deleteLinger is how long an IKE SA that ends waits for the answer to its Delete.
const deleteLinger = 2 * time.Second

// control is one loaded connection: whether it is wanted, and how far it is. Its home shard owns it.
type control struct {
	// Constant after construction. A connection that changes gets a new control.
	e        *Engine
	home     *shard
	conn     *policy.Connection
	oriented *policy.Oriented // nil: not oriented, why says why
	why      error
	share    uint64 // its key in Engine.shares, zero if none

	// Atomic.
	watched atomic.Int32                      // waiters that want its events
	numbers atomic.Int32                      // instances that a template has had
	hinted  atomic.Bool                       // an ICMP hint is on its way to the home shard
	written atomic.Pointer[policy.Connection] // conn as it stands in the file now: a reload that moves its lines does not make another of it

	// Owned by the home shard.
	phase     phase
	wanted    bool // up was asked for, or auto=start: revival keeps it
	gone      bool // taken out of the set
	attempt   *sa  // the IKE SA that this connection is initiating now
	dial      context.CancelFunc
	ladder    *ladder.Ladder // nil: the configuration leaves no carrier to try
	round     round
	roundID   int  // so that a completion for an earlier round is told from one for this
	ownTried  bool // this round has gone from an IKE SA that takes no more to one of its own
	demand    demand
	sas       int // IKE SAs that this connection uses, in whatever shard
	kids      []kid
	on        *sa // where kids are asked for
	missed    int // how often, in a row, not all of them came up
	children  int // installed Child SAs
	instances int // the same for a template: one or more for each peer
	upSince   time.Time
	alarm     alarm
	ups       []*waiter
	downs     []*waiter
	rekeys    rekeyings

	// Hosts, see orient.go. The first five are constant after construction.
	others  []*policy.Oriented // further addresses of a peer that is a name, not tried yet in this attempt
	met     []*policy.Oriented // all of them, for the peer that comes to us
	guest   *policy.Oriented   // how it meets a peer whose name has no known address; nil: not at all
	side    *policy.Oriented   // which end is us, while that name has none or it is refused: enough for its policies; nil: not so
	refused bool               // its hosts are those of side, but it cannot have the port or the datapath that it needs
	carried []Attempt          // what the addresses before have answered in this attempt
	resumes int                // the round that waited for these hosts
	sought  bool               // this round's hosts have been looked for
	lost    bool               // our address has gone; it waits for it
	without error              // why it has no hosts now; why is that of its beginning
	heir    *control           // goes on with other hosts
	holds   bool               // it is gone, and what it has protected is held until the policies of the one in its place are there

	public struct { // guarded by mu
		mu sync.Mutex
		ConnectionStatus
	}
}

// phase is how far a connection is.
type phase uint8

const (
	phaseDown phase = iota
	phaseNegotiating
	phaseUp
	phaseWaiting // for its revival
	phaseInPlace // a shunt
)

func (p phase) String() string {
	return [...]string{"down", "negotiating", "up", "waiting for revival", "in place"}[p]
}

// newControl makes the control of a connection with the answers of OrientAll, or why there is none.
func newControl(e *Engine, c *policy.Connection, setup policy.Setup, found []*policy.Oriented, why error) *control {
	k := &control{e: e, home: e.homeOf(c.Name), conn: c, ladder: newLadder(e, c, setup), why: why, without: why}
	k.written.Store(c)
	if len(found) > 0 {
		k.oriented, k.others, k.met = found[0], found[1:], found
	}
	k.share, k.kids = shareKey(e.seed, k.oriented), make([]kid, len(c.Children))
	k.public.ConnectionStatus = ConnectionStatus{Name: c.Name, Conn: c, Oriented: k.oriented, State: phaseDown.String()}
	if k.why != nil {
		k.public.Why = k.why.Error()
	}
	return k
}

// describe names the connection with its addresses, for messages.
func (c *control) describe() string {
	if c.oriented == nil {
		return fmt.Sprintf("%q (not oriented: %s)", c.conn.Name, c.peek().Why)
	}
	remote := "%any"
	if c.oriented.RemoteAddr.IsValid() {
		remote = c.oriented.RemoteAddr.String()
	}
	return fmt.Sprintf("%q %s...%s", c.conn.Name, c.oriented.LocalAddr, remote)
}

// set moves to a phase and publishes it.
func (c *control) set(p phase) {
	c.phase = p
	if p != phaseNegotiating {
		resume(c.e.shares.leave(c))
	}
	c.publish(func(s *ConnectionStatus) {
		s.State, s.Wanted = p.String(), c.wanted
		if p != phaseWaiting {
			s.NextTry = time.Time{}
		}
		if p == phaseDown || p == phaseWaiting {
			s.Path = path.Path{}
		}
	})
}

func (c *control) publish(change func(*ConnectionStatus)) {
	c.public.mu.Lock()
	change(&c.public.ConnectionStatus)
	c.public.mu.Unlock()
}

// tell emits an event of the connection itself and shows it to those who wait for it.
func (c *control) tell(ev event.Event) {
	ev.Conn, ev.At = c.conn.Name, time.Now()
	c.e.counters.count(ev)
	c.e.emit(c.home, ev)
	c.progress(ev)
}

// progress shows an event to those who wait for this connection. Called in the home shard.
func (c *control) progress(ev event.Event) {
	for _, w := range c.ups {
		w.push(ev)
	}
	for _, w := range c.downs {
		w.push(ev)
	}
	for _, w := range c.rekeys.waiters {
		w.push(ev)
	}
}

// up brings the connection up; w may be nil (auto=start).
func (c *control) up(w *waiter) {
	if c.heir != nil {
		c.heir.up(w)
		return
	}
	c.watch(&c.ups, w)
	switch {
	case c.gone:
		c.finishUps(fmt.Errorf("connection %q was deleted", c.conn.Name))
	case c.oriented == nil && !c.refused && len(c.conn.Names()) == 0:
		c.finishUps(c.without)
	case c.oriented != nil && !c.oriented.RemoteAddr.IsValid() && !c.conn.IsShunt():
		c.finishUps(fmt.Errorf("connection %q waits for peers (its other end is %s): it cannot be brought up from here", c.conn.Name, c.oriented.WhereHost(false)))
	case c.e.closing.Load():
		c.finishUps(errShutdown)
	case c.conn.IsShunt():
		c.place()
	case c.children > 0 && !c.allUp():
		c.want()
		c.set(phaseUp)
		c.tell(event.Event{Level: event.Info, Text: fmt.Sprintf("connection %q is up in part: asking for the other Child SAs", c.conn.Name)})
		if !c.asking() {
			c.askMissing()
		}
	case c.children > 0:
		c.want()
		c.set(phaseUp)
		c.tell(event.Event{Level: event.Info, Text: fmt.Sprintf("connection %q is up already", c.conn.Name)})
		c.finishUps(nil)
	case c.phase == phaseNegotiating:
		c.want()
		c.set(phaseNegotiating)
		c.tell(event.Event{Level: event.Info, Text: fmt.Sprintf("connection %q is being negotiated already; waiting for the outcome", c.conn.Name)})
	default:
		c.want()
		if c.ladder != nil {
			c.ladder.Start()
		}
		c.startRound()
	}
}

// want makes the connection one that is kept up. A down that is not done yet will not be.
func (c *control) want() {
	c.wanted = true
	c.finishDowns(fmt.Errorf("connection %q was brought up again before it was down", c.conn.Name))
}

// down takes the connection down; w may be nil.
func (c *control) down(w *waiter, reason event.Reason, linger time.Duration) {
	if c.heir != nil {
		c.heir.down(w, reason, linger)
		return
	}
	c.watch(&c.downs, w)
	c.wanted, c.demand.packet = false, ts.Packet{}
	c.home.alarms.unset(c)
	c.stopDial()
	c.roundID++ // what the round waits for comes too late
	c.forgetOutcomes()
	c.stopRekeying(fmt.Errorf("connection %q was taken down", c.conn.Name))
	resume(c.e.shares.leave(c))
	c.finishUps(fmt.Errorf("connection %q was taken down while it was being negotiated", c.conn.Name))
	if c.sas == 0 && c.phase != phaseDown || c.attempt == nil && c.phase == phaseNegotiating {
		c.set(phaseDown)
	}
	if reason == event.ReasonShutdown {
		c.settle() // Shutdown ends all IKE SAs at once, or the last of them settles it
		return
	}
	left := len(c.e.shards)
	for _, s := range c.e.shards {
		s.box.post(func() {
			s.closeAll(c, reason, linger)
			c.home.box.post(func() {
				if left--; left == 0 {
					c.settle()
				}
			})
		})
	}
}

// closeAll ends what one connection has in this shard.
func (s *shard) closeAll(c *control, reason event.Reason, linger time.Duration) {
	for _, spi := range s.sortedSPIs(func(a *sa) bool { return a.user(c) >= 0 && !a.over }) {
		if a := s.sas[spi]; a != nil {
			s.release(a, c, reason, linger)
		}
	}
}

// release ends the use of an IKE SA by a connection: the connection's Child SAs are deleted, or, if no other uses it, the IKE SA.
func (s *shard) release(a *sa, c *control, reason event.Reason, linger time.Duration) {
	stays := slices.IndexFunc(a.users, func(u user) bool { return u.control != c && u.leaving == event.ReasonNone })
	if stays < 0 {
		s.closeIKE(a, reason, linger)
		return
	}
	if i := a.user(c); i >= 0 {
		a.users[i].leaving = reason
	}
	s.step(a, machine.CloseConn{Conn: c.conn, Heir: a.users[stays].control.oriented})
	if a.idleHere(c) {
		s.leave(a, c)
	}
}

// closeIKE ends an IKE SA with all its Child SAs. No connection asks for another on it.
func (s *shard) closeIKE(a *sa, reason event.Reason, linger time.Duration) {
	s.e.shares.remove(a.share, a.spi)
	s.step(a, machine.CloseIKE{Reason: reason, Linger: linger})
}

// settle ends a down when the last IKE SA is gone: the policies go, and those who waited hear of it.
func (c *control) settle() {
	if c.wanted || c.sas > 0 {
		return
	}
	c.stopDial()
	c.set(phaseDown)
	c.base(func(d kernel.Done) { c.afterScripts(func() { c.finishDowns(d.Err) }) })
}

// base sets what traffic meets when the connection is neither up nor negotiating: nothing, or for a loaded auto=ondemand the trap that starts it.
func (c *control) base(done func(kernel.Done)) {
	if c.heir != nil { // it decides
		if done != nil {
			done(kernel.Done{})
		}
		return
	}
	action, route := c.baseAction()
	c.shunt(action, route, done)
}

func (c *control) baseAction() (action kernel.Action, route bool) {
	if c.holds && !c.e.closing.Load() {
		return kernel.Hold, true
	}
	if c.conn.IsShunt() {
		return c.standing()
	}
	if c.conn.Auto == policy.AutoOnDemand && !c.gone && !c.e.closing.Load() {
		return kernel.Trap, true
	}
	return shuntAction(policy.ShuntNone)
}

// idle puts a shunt in place of the missing Child SAs.
func (c *control) idle(s policy.Shunt, done func(kernel.Done)) {
	action, route := shuntAction(s)
	c.shunt(action, route, done)
}

// shuntAction is what a policy does for a shunt; route false: there is none.
func shuntAction(s policy.Shunt) (action kernel.Action, route bool) {
	switch s {
	case policy.ShuntPass:
		return kernel.Pass, true
	case policy.ShuntDrop:
		return kernel.Drop, true
	case policy.ShuntHold:
		return kernel.Hold, true
	case policy.ShuntReject:
		return kernel.Reject, true
	case policy.ShuntNone:
	}
	return kernel.Pass, false
}

// shunt routes (or, with route false, unroutes) the policies of all children that have no SA.
func (c *control) shunt(action kernel.Action, route bool, done func(kernel.Done)) {
	o := c.shunts()
	if o == nil {
		if done != nil {
			done(kernel.Done{})
		}
		return
	}
	left, failed := len(o.Children), kernel.Done{}
	for i := range o.Children {
		c.shuntOne(i, action, route, func(d kernel.Done) {
			if d.Err != nil {
				failed = d
			}
			if left--; left == 0 && done != nil {
				done(failed)
			}
		})
	}
}

// shunts is what says which traffic is the connection's while it has no SA; nil: nothing does, as with a template, whose peers say so.
func (c *control) shunts() *policy.Oriented {
	if o := c.oriented; o != nil && (o.RemoteAddr.IsValid() || o.IsShunt()) {
		return o
	} else if o == nil {
		return c.side
	}
	return nil
}

// clearUntilFound says once what cannot be protected before the peer's name has an address.
func (c *control) clearUntilFound() {
	if c.side == nil || !c.holdsFromLoad() {
		return
	}
	for i := range c.side.Children {
		if len(c.side.RemoteTS(i)) == 0 {
			host, word := c.side.Remote.Host, "left"
			if c.side.LeftIsLocal {
				word = "right"
			}
			c.tell(event.Event{Level: event.Info, Child: c.side.Children[i].Name, Text: fmt.Sprintf("connection %q protects what goes to its peer itself: that flows in clear "+
				"until %s has an address; write %s as an address, or %ssubnet=, if it must not", c.conn.Name, host, word, word)})
		}
	}
}

// shuntOne is shunt for one child.
func (c *control) shuntOne(i int, action kernel.Action, route bool, done func(kernel.Done)) {
	o := c.shunts()
	local, remote := o.LocalTS(i), o.RemoteTS(i)
	if len(local) == 0 || len(remote) == 0 { // an end itself, whose address is not known yet; a peer that has come by itself may have left its policy
		c.e.policies.idle(c.home, c, kernel.Policy{ID: policyID(o, i, remote)}, false, nil, done)
		return
	}
	pol := c.e.protectPolicy(o, i, local, remote)
	pol.Action = action
	c.e.policies.idle(c.home, c, pol, route, c.tunnel(o, i, pol), func(d kernel.Done) {
		if d.Err != nil {
			c.tell(event.Event{Level: event.Warn, Child: o.Children[i].Name, Text: fmt.Sprintf("connection %q: the policy %s === %s was refused: %v",
				c.conn.Name, pol.Local, pol.Remote, d.Err)})
		}
		if done != nil {
			done(d)
		}
	})
}

func (c *control) bell() *alarm { return &c.alarm }

// ring is the revival, of all Child SAs or of some.
func (c *control) ring(time.Time) {
	if c.phase == phaseUp && !c.gone && !c.e.closing.Load() && !c.asking() && !c.allUp() {
		c.askMissing()
	}
	if c.phase == phaseWaiting && !c.gone && !c.e.closing.Load() {
		c.e.counters.revivals.Add(1)
		c.tell(event.Event{Level: event.Info, Text: fmt.Sprintf("reviving connection %q, which must remain up", c.conn.Name)})
		c.startRound()
	}
}

func (c *control) stopDial() {
	if c.dial != nil {
		c.dial()
		c.dial = nil
	}
}

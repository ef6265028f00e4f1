package engine

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/pkg/wire"
	"github.com/ikegod/ikegod/transport/ladder"
)

// The Child SAs of one connection. The first comes with its IKE SA; the others, and all of a connection that uses another's IKE SA, by CREATE_CHILD_SA.

// kid is one Child SA that a connection is to have. Owned by the home shard.
type kid struct {
	up     int          // installed, with those that replace each other
	asked  bool         // a request of ours is under way
	failed *event.Close // why the last request of this round came to nothing
}

const (
	// missingWait is the delay before a Child SA is asked for that is missing beside others; it doubles up to maxMissingWait.
	missingWait    = 10 * time.Second
	maxMissingWait = 5 * time.Minute
	// peersTurn is how long the peer that has initiated an IKE SA may take to ask for all of its Child SAs, before we ask.
	peersTurn = 3 * time.Second
)

// missing are the Child SAs to be asked for.
func (c *control) missing() []int {
	var list []int
	for i, k := range c.kids {
		if k.up == 0 && !k.asked && k.failed == nil {
			list = append(list, i)
		}
	}
	return list
}

// forgetOutcomes begins anew with all Child SAs.
func (c *control) forgetOutcomes() {
	for i := range c.kids {
		c.kids[i].asked, c.kids[i].failed = false, nil
	}
	c.on = nil
}

func (c *control) allUp() bool {
	return !slices.ContainsFunc(c.kids, func(k kid) bool { return k.up == 0 })
}

// publishKids shows which Child SAs are there.
func (c *control) publishKids() {
	up := make([]bool, len(c.kids))
	for i, k := range c.kids {
		up[i] = k.up > 0
	}
	c.publish(func(s *ConnectionStatus) { s.ChildUp = up })
}

func (c *control) asking() bool {
	return slices.ContainsFunc(c.kids, func(k kid) bool { return k.asked })
}

func (c *control) kidNamed(name string) int {
	return slices.IndexFunc(c.conn.Children, func(ch policy.Child) bool { return ch.Name == name })
}

// begin starts a round: on an IKE SA that may be shared, if there is one or another connection is negotiating it; otherwise at the first rung of the ladder.
func (c *control) begin() {
	spi, task := c.e.shares.join(c, c.roundID)
	switch {
	case task == taskAdopt:
		c.tell(event.Event{Level: event.Info, Text: fmt.Sprintf("connection %q uses the IKE SA that is established between the same hosts and identities", c.conn.Name)})
		c.adopt(spi)
	case task == taskWait:
		c.tell(event.Event{Level: event.Info, Text: fmt.Sprintf("connection %q waits for the IKE SA that another connection is negotiating between the same hosts and identities",
			c.conn.Name)})
	case c.ladder == nil:
		c.cannotBegin(event.ReasonPathFailed, ladder.ErrNoRung)
	default:
		c.tryRung(c.ladder.Current())
	}
}

// adopt asks for the missing Child SAs on an established IKE SA, in whatever shard.
func (c *control) adopt(spi wire.SPI) {
	s, id := c.e.shardOf(spi), c.roundID
	s.box.post(func() {
		a := s.sas[spi]
		ok := a != nil && a.established && !a.over
		if !ok {
			c.e.shares.remove(c.share, spi)
		}
		c.home.box.post(func() {
			switch {
			case id != c.roundID:
			case ok:
				c.ask(a)
			case c.phase == phaseNegotiating:
				c.begin()
			default:
				c.askMissing()
			}
		})
	})
}

// ask asks for the missing Child SAs on an IKE SA.
func (c *control) ask(a *sa) {
	list := c.missing()
	if len(list) == 0 {
		c.conclude()
		return
	}
	for _, i := range list {
		c.kids[i].asked = true
	}
	c.on = a
	s, o, d := a.s, c.oriented, c.demand
	s.box.post(func() {
		if a.over || a.closed {
			c.home.box.post(func() {
				c.lostWhileAsking(a, event.Close{Reason: event.ReasonPathFailed, Detail: "the IKE SA has ended"})
			})
			return
		}
		s.join(a, c)
		for _, i := range list {
			s.step(a, machine.OpenChild{Conn: o, Index: i, Packet: d.packetFor(i)})
		}
	})
}

// askMissing asks for Child SAs that are missing beside others of the connection.
func (c *control) askMissing() {
	for i := range c.kids {
		c.kids[i].failed = nil
	}
	if spi, ok := c.e.shares.established(c.share); ok {
		c.adopt(spi)
		return
	}
	why := event.Close{Reason: event.ReasonPathFailed, Detail: "no IKE SA is left that takes further Child SAs"}
	for _, i := range c.missing() {
		c.kids[i].failed = &why
	}
	c.conclude()
}

// childUp takes note of an installed Child SA, whoever initiated it.
func (c *control) childUp(a *sa, p path.Path, ch child) {
	if ch.instance {
		c.instances++
		c.set(phaseUp)
		return
	}
	if c.children == 0 {
		c.upSince = time.Now()
	}
	c.children++
	k := &c.kids[ch.index]
	k.up, k.failed = k.up+1, nil
	c.demand.met(ch.index)
	c.publishKids()
	ours := a == c.attempt || k.asked && a == c.on
	if a == c.on {
		k.asked = false
	}
	switch {
	case a == c.attempt:
		c.attempt = nil
	case c.attempt != nil && !c.attempt.authSent:
		// The peer was faster. Ours has not gone so far that the peer could have established it: nobody misses it.
		c.home.step(c.attempt, machine.CloseIKE{Reason: event.ReasonReplaced})
	}
	c.home.alarms.unset(c)
	c.set(phaseUp)
	c.publish(func(s *ConnectionStatus) { s.Path, s.LastError = p, "" })
	switch {
	case ours && !c.asking() && !c.gone:
		c.ask(a)
	case ours || c.allUp():
		c.conclude()
	case c.wanted && !c.asking():
		c.later(peersTurn) // the peer has more to ask for, and knows it
	}
}

// conclude tells, once nothing is asked for any more, those who wait what has become of the Child SAs.
func (c *control) conclude() {
	switch {
	case c.asking():
	case c.allUp():
		c.missed = 0
		c.finishUps(nil)
	case c.children > 0:
		if c.demand.packet != (ts.Packet{}) {
			c.demand.failed()
		}
		err := c.childrenError()
		c.publish(func(s *ConnectionStatus) { s.LastError = err.Error() })
		c.tell(event.Event{Level: event.Warn, Text: err.Error()})
		c.finishUps(err)
		if c.wanted && !c.gone {
			c.later(min(missingWait<<min(c.missed, 10), maxMissingWait))
			c.missed++
		}
	case c.phase == phaseNegotiating:
		c.noneUp()
	}
}

// noneUp ends a round on an established IKE SA without any Child SA. If that was for the IKE SA's sake another is negotiated.
func (c *control) noneUp() {
	on, again := c.on, false
	for i, k := range c.kids {
		if k.failed == nil {
			continue
		}
		again = again || on != nil && (k.failed.Reason == event.ReasonPathFailed || k.failed.Notify == iana.NO_ADDITIONAL_SAS)
		if n := len(c.round.attempts); n == 0 || c.round.attempts[n-1].Close.Detail != k.failed.Detail {
			c.round.attempts = append(c.round.attempts, Attempt{Path: c.round.on, Close: *k.failed})
		}
		c.kids[i].failed = nil
	}
	if again && !c.ownTried {
		c.ownTried = true
		c.round.attempts = nil
		c.shun(on)
		c.tell(event.Event{Level: event.Info, Text: fmt.Sprintf("connection %q: that IKE SA takes no further Child SA; negotiating another", c.conn.Name)})
		c.begin()
		return
	}
	c.round.wait = c.refusedWait()
	c.roundFailed()
}

// shun asks for nothing on an IKE SA any more, and ends it if it serves nobody.
func (c *control) shun(a *sa) {
	c.e.shares.remove(a.share, a.spi)
	s := a.s
	s.box.post(func() {
		if !a.over && a.user(c) >= 0 && len(a.children) == 0 {
			s.release(a, c, event.ReasonReplaced, deleteLinger)
		}
	})
}

// refusedWait is the delay after a refusal that no other rung cures.
func (c *control) refusedWait() time.Duration {
	if c.ladder == nil {
		return c.reviveWait()
	}
	return c.ladder.Failed(ladder.Refused).Wait
}

// childrenError says which Child SAs are missing, and why.
func (c *control) childrenError() error {
	var why []string
	up := 0
	for i, k := range c.kids {
		name := c.conn.Children[i].Name
		switch {
		case k.up > 0:
			up++
		case k.failed != nil:
			why = append(why, fmt.Sprintf("%q: %s", name, k.failed.Error()))
		default:
			why = append(why, fmt.Sprintf("%q is missing", name))
		}
	}
	return fmt.Errorf("%d of the %d Child SAs of connection %q are up; %s", up, len(c.kids), c.conn.Name, strings.Join(why, "; "))
}

// later looks after missing Child SAs in a while.
func (c *control) later(d time.Duration) {
	c.home.alarms.set(c, time.Since(c.e.epoch)+d)
}

// childFailed takes note of a Child SA that was refused, or could not be installed, while its IKE SA stays.
func (c *control) childFailed(a *sa, ev event.Event) {
	why := event.Close{Reason: event.ReasonTSUnacceptable, Detail: ev.Text}
	if ev.Close != nil {
		why = *ev.Close
	}
	i, mine := c.kidNamed(ev.Child), a == c.attempt
	switch {
	case ev.Request != 0:
		c.rekeyed(a, ev.Request, &why)
	case i < 0 && (!mine || why.Remote && ev.Child == ""):
		return // a request of the peer that we refused
	case mine:
		c.attempt = nil
		c.record(why)
		if why.Notify == iana.NO_ADDITIONAL_SAS {
			c.shun(a)
		}
		if c.phase != phaseNegotiating {
			return // the peer's Child SA is up
		}
		c.kids[max(i, 0)].failed = &why
		c.ask(a)
	case c.kids[i].asked && a == c.on:
		c.kids[i].asked, c.kids[i].failed = false, &why
		c.round.on = ev.Path
		c.conclude()
	}
}

// lostWhileAsking is called when the IKE SA ends on which Child SAs were asked for.
func (c *control) lostWhileAsking(a *sa, why event.Close) {
	if a != c.on {
		return
	}
	why.Reason = event.ReasonPathFailed
	for i := range c.kids {
		if c.kids[i].asked {
			c.kids[i].asked, c.kids[i].failed = false, &why
		}
	}
	c.conclude()
	if !c.asking() && c.on == a {
		c.on = nil
	}
}

// childGone takes note of a Child SA that has left the datapath; left is how many others stand behind its policy.
func (c *control) childGone(ch child, left int) {
	if ch.instance {
		switch {
		case left > 0:
		case c.side != nil && c.wanted && !c.gone && !c.e.closing.Load():
			c.idle(c.conn.Negotiation, nil) // the name goes on being looked up
		case c.side != nil:
			c.base(nil)
		default:
			c.e.policies.idle(c.home, c, kernel.Policy{ID: ch.policy}, false, nil, nil)
		}
		if ch.told {
			if c.instances--; c.instances == 0 {
				c.set(phaseDown)
			}
		}
		return
	}
	if !ch.told {
		if left == 0 && c.phase == phaseDown { // it was refused: what was routed for it holds nothing that nobody asked to hold
			c.base(nil)
		}
		return
	}
	c.children--
	c.kids[ch.index].up--
	c.publishKids()
	if c.children > 0 || c.phase != phaseUp {
		if c.phase == phaseUp && c.kids[ch.index].up == 0 {
			c.oneGone(ch.index)
		}
		return
	}
	switch {
	case c.attempt != nil && !c.gone:
		c.set(phaseNegotiating) // another is on its way already, as when both ends came up at once
		return
	case !c.wanted || c.gone || c.e.closing.Load():
		c.set(phaseDown)
		c.base(nil)
		return
	}
	if c.ladder != nil && time.Since(c.upSince) >= lasting {
		c.ladder.Established() // a tunnel that dies young is no success: the back-off goes on
	}
	c.idle(c.conn.Negotiation, nil)
	c.revive(c.reviveWait(), "its last Child SA is gone")
}

// oneGone is for one of several Child SAs: it is asked for again, or its traffic meets what the connection says for one that is not there.
func (c *control) oneGone(i int) {
	switch {
	case c.heir != nil: // it decides
	case !c.wanted || c.gone || c.e.closing.Load():
		action, route := c.baseAction()
		c.shuntOne(i, action, route, nil)
	default:
		action, route := shuntAction(c.conn.Negotiation)
		c.shuntOne(i, action, route, nil)
		if !c.asking() {
			c.later(missingWait)
		}
	}
}

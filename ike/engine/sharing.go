package engine

import (
	"hash/maphash"
	"slices"
	"sync"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/wire"
)

// shares knows, of connections that may share an IKE SA, which IKE SAs are established, and who is negotiating one: the others wait for it instead of
// negotiating their own.
type shares struct {
	mu sync.Mutex
	m  map[uint64]*share
}

type share struct {
	spis    []wire.SPI // ours, of established IKE SAs that take further Child SAs, oldest first; they name the shard
	leader  *control   // negotiates one
	waiting []waitingShare
}

// waitingShare is a connection whose round waits for the leader's.
type waitingShare struct {
	c     *control
	round int
}

func (t *shares) init() { t.m = map[uint64]*share{} }

// shareKey is one number for what connections must have in common to share an IKE SA: hosts, identities, authentication and ike=; and, because it is the IKE SA
// that travels, its ports, how TCP is used, and whose datapath is on its sockets. Zero: none can be shared, as the peer is not known.
func shareKey(seed maphash.Seed, o *policy.Oriented) uint64 {
	if o == nil || !o.RemoteAddr.IsValid() {
		return 0
	}
	var h maphash.Hash
	h.SetSeed(seed)
	maphash.WriteComparable(&h, addrPair{o.LocalAddr, o.RemoteAddr})
	maphash.WriteComparable(&h, o.LocalID())
	maphash.WriteComparable(&h, o.RemoteID().String())
	maphash.WriteComparable(&h, [2]uint8{uint8(o.Local.Auth), uint8(o.Remote.Auth)})
	maphash.WriteComparable(&h, o.TCP)
	maphash.WriteComparable(&h, o.Encapsulation)
	maphash.WriteComparable(&h, [2]uint16{o.Local.IKEPort, o.Remote.IKEPort})
	maphash.WriteComparable(&h, o.Backend == policy.BackendUserspace)
	_, _ = h.WriteString(o.IKE.String())
	return max(h.Sum64(), 1)
}

// task is what a round of a connection has to do.
type task uint8

const (
	taskLead  task = iota // negotiate an IKE SA
	taskAdopt             // ask for Child SAs on one that is there
	taskWait              // another connection is negotiating one
)

// join finds out what a round of c has to do.
func (t *shares) join(c *control, round int) (wire.SPI, task) {
	if c.share == 0 {
		return 0, taskLead
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.get(c.share)
	switch {
	case len(s.spis) > 0:
		return s.spis[len(s.spis)-1], taskAdopt
	case s.leader == nil || s.leader == c:
		s.leader = c
		return 0, taskLead
	}
	s.waiting = append(s.waiting, waitingShare{c, round})
	return 0, taskWait
}

func (t *shares) get(key uint64) *share {
	s := t.m[key]
	if s == nil {
		s = &share{}
		t.m[key] = s
	}
	return s
}

// established returns the newest IKE SA that connections with this key may use.
func (t *shares) established(key uint64) (wire.SPI, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.m[key]; s != nil && len(s.spis) > 0 {
		return s.spis[len(s.spis)-1], true
	}
	return 0, false
}

// add notes an established IKE SA and returns who waited for it.
func (t *shares) add(key uint64, spi wire.SPI) []waitingShare {
	if key == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.get(key)
	if !slices.Contains(s.spis, spi) {
		s.spis = append(s.spis, spi)
	}
	return s.takeWaiting()
}

func (s *share) takeWaiting() []waitingShare {
	w := s.waiting
	s.waiting = nil
	return w
}

// remove forgets an IKE SA that has ended, or takes no further Child SAs.
func (t *shares) remove(key uint64, spi wire.SPI) {
	if key == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.m[key]; s != nil {
		s.spis = slices.DeleteFunc(s.spis, func(x wire.SPI) bool { return x == spi })
		t.tidy(key, s)
	}
}

// leave notes that c negotiates, or waits, no more. Those who waited for it have to go on by themselves.
func (t *shares) leave(c *control) []waitingShare {
	if c.share == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.m[c.share]
	if s == nil {
		return nil
	}
	defer t.tidy(c.share, s)
	s.waiting = slices.DeleteFunc(s.waiting, func(w waitingShare) bool { return w.c == c })
	if s.leader != c {
		return nil
	}
	s.leader = nil
	return s.takeWaiting()
}

func (t *shares) tidy(key uint64, s *share) {
	if len(s.spis) == 0 && s.leader == nil && len(s.waiting) == 0 {
		delete(t.m, key)
	}
}

// resume lets the rounds go on that waited for an IKE SA.
func resume(waiting []waitingShare) {
	for _, w := range waiting {
		w.c.home.box.post(func() {
			if w.round == w.c.roundID && w.c.phase == phaseNegotiating {
				w.c.begin()
			}
		})
	}
}

// user is a connection that has Child SAs in an IKE SA, or asks for them there.
type user struct {
	control  *control
	identity uint64       // its key in Engine.identities, zero if none
	instance int          // the number of this IKE SA among its peers, if it is a template; zero: it is not
	leaving  event.Reason // why its Child SAs are being deleted; ReasonNone: they are not
}

func (a *sa) user(c *control) int {
	return slices.IndexFunc(a.users, func(u user) bool { return u.control == c })
}

// controlNamed finds the connection that an event of an IKE SA is about.
func (a *sa) controlNamed(name string) *control {
	for _, u := range a.users {
		if u.control.conn.Name == name {
			return u.control
		}
	}
	if c := a.s.e.view.Load().byName[name]; c != nil {
		return c
	}
	return a.control
}

// join makes a connection one of those that use an IKE SA.
func (s *shard) join(a *sa, c *control) {
	if i := a.user(c); i >= 0 {
		a.users[i].leaving = event.ReasonNone
		return
	}
	u := user{control: c, instance: c.number()}
	if a.established && s.e.view.Load().setup.UniqueIDs {
		snap := a.m.Snapshot()
		u.identity = identityKey(s.e.seed, c.conn.Name, snap.Local, snap.Remote)
		for _, spi := range s.e.identities.add(u.identity, a.spi) {
			if !a.initiator {
				other := s.e.shardOf(spi)
				other.box.post(func() { other.replace(spi, u.identity) })
			}
		}
	}
	a.users = append(a.users, u)
	c.home.box.post(c.saBound)
}

// leave ends the use of an IKE SA by a connection; another has Child SAs there and goes on. Without another the IKE SA goes, if the last one was to leave it.
func (s *shard) leave(a *sa, c *control) {
	i := a.user(c)
	switch {
	case i < 0 || a.over:
		return
	case len(a.users) == 1:
		if why := a.users[0].leaving; why != event.ReasonNone {
			s.closeIKE(a, why, deleteLinger)
		}
		return
	}
	s.e.identities.remove(a.users[i].identity, a.spi)
	if n := a.users[i].instance; n > 0 {
		a.gone = &instance{c.conn.Name, n}
	}
	a.users = slices.Delete(a.users, i, i+1)
	if a.control == c {
		a.control = a.users[0].control
	}
	c.home.box.post(func() { c.saLeft(a) })
}

// idleHere reports whether a connection has no Child SA in an IKE SA.
func (a *sa) idleHere(c *control) bool {
	return !slices.ContainsFunc(a.children, func(ch child) bool { return ch.control == c })
}

package engine

import (
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
)

// halfOpenTime is how long a responder waits for IKE_AUTH.
const halfOpenTime = 30 * time.Second

// stepper is a machine.Machine; tests put scripts in its place.
type stepper interface {
	Step(now time.Time, in machine.Input) []machine.Effect
	Deadline() time.Time
	Snapshot() machine.Snapshot
}

// makers make steppers.
type makers struct {
	initiator func(machine.Config, *policy.Oriented, []int) stepper
	responder func(machine.Config, []*policy.Oriented, path.Path) stepper
}

var machineMakers = makers{
	initiator: func(c machine.Config, o *policy.Oriented, children []int) stepper {
		return machine.NewInitiator(c, o, children)
	},
	responder: func(c machine.Config, o []*policy.Oriented, p path.Path) stepper {
		return machine.NewResponder(c, o, p)
	},
}

// sa is one IKE SA with what the engine keeps for it. Owned by its shard.
type sa struct {
	s       *shard
	m       stepper
	spi     wire.SPI  // ours
	control *control  // the connection that it was negotiated for; nil while a responder does not know it yet
	users   []user    // connections that have Child SAs in it, control among them
	gone    *instance // the one that has left last, whose end is still to be told; nil: none, or no template
	share   uint64    // its key in Engine.shares, zero if none
	peer    uint64    // the key of its two identities in Engine.identities, zero if none
	alarm   alarm

	initiator   bool
	halfOpen    bool // counted as half-open: a responder before IKE_AUTH
	authSent    bool // initiator: the responder may have established it already
	established bool
	sole        bool        // the peer has said INITIAL_CONTACT
	older       []wire.SPI  // IKE SAs that go when this one has a Child SA of control
	over        bool        // Ended or closed: it counts for nothing any more
	closed      bool        // forgotten: late completions only clean up
	forgotten   atomic.Bool // closed, for workers: nobody waits for their result

	repeat    uint64 // its key in shard.repeats, zero if none
	stream    uint64 // generation of the stream that it owns, zero if none
	path      path.Path
	keepalive *path.Path // where it has asked for NAT keepalives, nil if nowhere
	began     time.Time
	working   bool          // a job of it is on a worker
	jobs      []machine.Job // waiting for that one
	children  []child
	removing  int            // Child SAs that the datapath is taking away
	held      []machine.Send // waiting for that
	lastESP   time.Time
}

// child is one Child SA in the datapath.
type child struct {
	id        machine.ChildID
	control   *control // its connection, from Install on
	index     int      // in the connection's Children
	spi       kernel.SPI
	spiOut    kernel.SPI      // set from Install on
	policy    kernel.PolicyID // set from Install on
	hosts     hostPair        // transport mode
	instance  bool            // its policy is one of a template's many
	carrier   path.Kind       // that its ESP travels on; set from Install on
	scripted  bool            // leftupdown= is run for its policy
	installed bool
	moves     int  // since it was to be installed
	held      bool // the datapath keeps its packets until its stream carries ESP
	told      bool // its connection has heard of it, and counts it
}

func (s *shard) newSA(initiator bool, c *control, p path.Path) (*sa, io.Reader, error) {
	rand := s.e.newRand()
	spi, err := s.newSPI(rand)
	if err != nil {
		return nil, nil, err
	}
	a := &sa{s: s, spi: spi, initiator: initiator, control: c, path: p, began: time.Now()}
	if c != nil {
		a.users = []user{{control: c}}
	}
	return a, rand, nil
}

// machineConfig is what the machine of a new IKE SA gets from us.
func (e *Engine) machineConfig(spi wire.SPI, rand io.Reader) machine.Config {
	can := e.dp.Features()
	return machine.Config{SPI: spi, Rand: rand, HalfOpen: halfOpenTime, PlainESP: can.PlainESP, Lacks: can.Lacks, Candidates: e.candidates}
}

func (a *sa) connName() string {
	if a.control == nil {
		return ""
	}
	return a.control.conn.Name
}

func (a *sa) bell() *alarm { return &a.alarm }

func (a *sa) ring(now time.Time) {
	if a.established {
		a.feedESPSeen()
		if d := a.m.Deadline(); d.IsZero() || d.After(now) {
			a.s.rearm(a)
			return
		}
	}
	a.s.step(a, machine.Tick{})
}

// feedESPSeen tells the machine of authentic ESP since the last time it asked: what arrives proves that the peer is alive, and saves a liveness check.
func (a *sa) feedESPSeen() {
	if a.control == nil || a.control.conn.Liveness == 0 {
		return
	}
	for i := range a.children {
		if !a.children[i].installed {
			continue
		}
		if u := a.s.e.dp.Usage(a.children[i].spi); len(u) == 1 && u[0].LastIn.After(a.lastESP) {
			a.lastESP = u[0].LastIn
			a.s.step(a, machine.ESPSeen{At: a.lastESP})
		}
	}
}

func (a *sa) childOf(id machine.ChildID) *child {
	for i := range a.children {
		if a.children[i].id == id {
			return &a.children[i]
		}
	}
	return nil
}

// step feeds one input to a machine and executes what it answers. Called while another Step's effects are executed, it waits for its turn, so that
// effects never interleave.
func (s *shard) step(a *sa, in machine.Input) {
	if a.closed {
		return
	}
	s.inputs = append(s.inputs, input{a, in})
	if s.stepping {
		return
	}
	s.stepping = true
	for i := 0; i < len(s.inputs); i++ {
		s.stepOne(s.inputs[i].a, s.inputs[i].in)
		s.inputs[i] = input{}
	}
	s.inputs = s.inputs[:0]
	s.stepping = false
}

// stepOne is the one place where a machine runs. A panic there or in the execution of its effects ends this one IKE SA.
func (s *shard) stepOne(a *sa, in machine.Input) {
	if a.closed {
		return
	}
	defer func() {
		if r := recover(); r != nil {
			s.broken(a, in, r, debug.Stack())
		}
	}()
	effects := a.m.Step(time.Now(), in)
	for _, ef := range effects {
		s.exec(a, ef)
		if a.closed {
			return
		}
	}
	s.rearm(a)
}

func (s *shard) rearm(a *sa) {
	if a.closed {
		return
	}
	if d := a.m.Deadline(); d.IsZero() {
		s.alarms.unset(a)
	} else {
		s.alarms.set(a, d.Sub(s.e.epoch))
	}
}

// broken ends an IKE SA whose machine has panicked.
func (s *shard) broken(a *sa, in machine.Input, what any, stack []byte) {
	s.e.counters.panics.Add(1)
	var story strings.Builder
	fmt.Fprintf(&story, "internal error in IKE SA %016x of connection %q with %s on %T, please report it; this IKE SA is closed: %v",
		uint64(a.spi), a.connName(), a.path.Peer(), in, what)
	for _, ev := range s.recent.of(a.spi) {
		fmt.Fprintf(&story, "\n  before: %s %s", ev.At.Format(time.TimeOnly+".000"), ev.Text)
	}
	fmt.Fprintf(&story, "\n%s", stack)
	why := event.Close{Reason: event.ReasonInternal, Detail: fmt.Sprintf("internal error: %v", what)}
	s.e.emit(s, event.Event{Level: event.Error, Kind: event.KindIKEClosed, SA: a.spi, Conn: a.connName(), Path: a.path, Text: story.String(), Close: &why})
	s.forget(a, why)
}

// add registers a new IKE SA.
func (s *shard) add(a *sa) {
	s.sas[a.spi] = a
	s.e.counters.sas.Add(1)
}

// renew gives an initiator a new SPI for a new IKE_SA_INIT and forgets the old one (RFC 9329 5.1).
func (s *shard) renew(a *sa) error {
	spi, err := s.newSPI(s.e.newRand())
	if err != nil {
		return err
	}
	delete(s.sas, a.spi)
	a.spi = spi
	s.sas[spi] = a
	return nil
}

// end notes that an IKE SA is over: it counts for its connection no more, but may stay to repeat its last reply.
func (s *shard) end(a *sa, why event.Close) {
	if a.over {
		return
	}
	a.over = true
	s.e.shares.remove(a.share, a.spi)
	s.e.counters.over.Add(1)
	s.removeChildren(a)
	s.setHalfOpen(a, false)
	for _, u := range a.users {
		s.e.identities.remove(u.identity, a.spi)
	}
	s.e.identities.remove(a.peer, a.spi)
	s.e.counters.ended(a, why)
	if a.established {
		a.established = false
		s.e.counters.established.Add(-1)
	}
	for _, u := range a.users {
		u.control.home.box.post(func() { u.control.saGone(a, why) })
	}
}

// forget is the end of everything that the engine keeps for an IKE SA.
func (s *shard) forget(a *sa, why event.Close) {
	if a.closed {
		return
	}
	s.sendHeld(a)
	s.end(a, why)
	a.closed = true
	a.forgotten.Store(true)
	s.alarms.unset(a)
	delete(s.sas, a.spi)
	if a.repeat != 0 {
		delete(s.repeats, a.repeat)
	}
	s.stopKeepAlive(a)
	s.releaseStream(a, why)
	a.jobs = nil
	s.e.counters.sas.Add(-1)
	s.e.counters.over.Add(-1)
}

func (s *shard) setHalfOpen(a *sa, on bool) {
	if a.halfOpen == on {
		return
	}
	a.halfOpen = on
	if on {
		s.e.halfOpen.Add(1)
	} else {
		s.e.halfOpen.Add(-1)
	}
}

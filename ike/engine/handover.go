package engine

import (
	"errors"
	"fmt"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

// handsOver reports whether SAs on this path get their stream into the kernel once they are there.
func (s *shard) handsOver(a *sa, p path.Path) bool {
	return p.Kind.Stream() && s.e.attach != nil && a.backend() != kernel.BackendUserspace
}

// attached goes on with done when a stream that SAs have been installed for carries their ESP: where that is the kernel's, its socket is handed over now. The SAs
// come first, so that ESP which the peer has sent right behind its last message finds them. done is called in s; lost: there is no such stream any more.
func (s *shard) attached(a *sa, p path.Path, err error, done func(lost bool, err error)) {
	if err == nil && p.Kind.Stream() && s.e.attach != nil && a.backend() == kernel.BackendUserspace {
		s.e.keep(p)
	}
	if err != nil || !s.handsOver(a, p) {
		done(false, err)
		return
	}
	s.e.attach(p, func(err error) {
		lost := errors.Is(err, transport.ErrNoPath)
		if lost {
			err = nil // the machine hears of that by itself, and moves the SAs to the next
		}
		s.box.post(func() { done(lost, err) })
	})
}

// released lets packets out by a pair that was held until its stream carried ESP. moves is how often it had moved before: if it has moved since it stays where it is, and
// is let go there; if its stream is lost its packets go on waiting, until it moves.
func (s *shard) released(a *sa, id machine.ChildID, to kernel.Endpoints, moves int, lost bool, done func(error)) {
	c := a.childOf(id)
	if lost || c == nil || !c.held || c.moves != moves {
		done(nil)
		return
	}
	to.Held = false
	s.moveTo(a, id, to, done)
}

// moveTo moves a child that is in the datapath.
func (s *shard) moveTo(a *sa, id machine.ChildID, to kernel.Endpoints, done func(error)) {
	c := a.childOf(id)
	s.e.dp.Move(s.request(request{fn: func(d kernel.Done) {
		if c := a.childOf(id); c != nil && d.Err == nil {
			c.held = to.Held
		}
		done(d.Err)
	}}), c.spi, to)
}

// move sends a child's packets another way. That the machine moves shows that a fresh message authenticated on the new path: a stream becomes the IKE
// SA's own (RFC 9329 6.1). What waits for a stream waits until this one carries ESP.
func (s *shard) move(a *sa, ef machine.Move) {
	if ef.Path.Kind.Stream() && s.ownStream(a, ef.Path) { // one that we have dialed is the IKE SA's already, but the transport has yet to hear of it
		s.e.mux.Own(ef.Path)
	}
	if ef.Path.Kind != path.ESP { // IKE travels beside it
		a.path = ef.Path
	}
	c := a.childOf(ef.Child)
	if c == nil {
		return
	}
	c.moves++
	c.carrier = ef.Path.Kind
	moves, to := c.moves, kernel.Endpoints{Path: ef.Path, Backend: a.backend(), Held: c.held && s.handsOver(a, ef.Path)}
	s.moveTo(a, ef.Child, to, func(err error) {
		if err != nil {
			s.unmoved(a, ef, err, machine.RekeyChild{Child: ef.Child, OrClose: true}) // its successor is made on the new path (RFC 7296 2.8)
			return
		}
		s.attached(a, ef.Path, nil, func(lost bool, err error) {
			if err != nil { // it has left the path that it had, and can send nothing on this one
				s.unmoved(a, ef, err, machine.CloseChild{Child: ef.Child})
				return
			}
			s.released(a, ef.Child, to, moves, lost, func(err error) {
				if err != nil {
					s.unmoved(a, ef, err, machine.RekeyChild{Child: ef.Child, OrClose: true})
				}
			})
		})
	})
}

// unmoved says that a child does not send where its IKE SA is now, and has the machine do something about it.
func (s *shard) unmoved(a *sa, ef machine.Move, err error, cure machine.Input) {
	if a.closed {
		return
	}
	s.emit(a, event.Event{
		Level: event.Warn, Path: ef.Path,
		Text: fmt.Sprintf("the datapath did not move the Child SA %#08x to %s: %v", ef.SPIIn, ef.Path, err),
	})
	s.step(a, cure)
}

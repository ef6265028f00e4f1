package engine

import (
	"errors"

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

// released lets packets out by a pair that was held until its stream carried ESP. If it has moved meanwhile it is held no more, and is to stay where it is; if its
// stream is lost they go on waiting, until it moves.
func (s *shard) released(a *sa, id machine.ChildID, pair kernel.SAPair, lost bool, done func(error)) {
	if c := a.childOf(id); !pair.Held || lost || c == nil || c.moved {
		done(nil)
		return
	}
	s.e.dp.Move(s.request(request{fn: func(d kernel.Done) { done(d.Err) }}), pair.In.SPI, pair.Endpoints)
}

package engine

import (
	"errors"
	"sync"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
	"github.com/ikegod/ikegod/transport"
)

// maxJunk is how many messages in a row may belong to no IKE SA before a stream is closed.
const maxJunk = 4

// streams knows which IKE SA each stream belongs to: one, or an SA and its rekeys, never two (RFC 9329 6.1).
type streams struct {
	mu    sync.Mutex
	m     map[uint64]*stream // by generation
	dials int                // under way
	early map[uint64]error   // streams lost before their dialer knew them; only while dials are under way
}

type stream struct {
	path  path.Path
	owner wire.SPI // our SPI, zero: nobody yet
	junk  int
}

func (t *streams) init() { t.m, t.early = map[uint64]*stream{}, map[uint64]error{} }

// accept notes a stream that a peer has opened.
func (t *streams) accept(p path.Path) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m[p.Generation] == nil {
		t.m[p.Generation] = &stream{path: p}
	}
}

// admits reports whether a message for the IKE SA with this SPI may come on p.
func (t *streams) admits(p path.Path, spi wire.SPI) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	st := t.m[p.Generation]
	if st == nil {
		return true // lost meanwhile: what it carried before counts
	}
	st.junk = 0
	return st.owner == 0 || st.owner == spi
}

// own gives p to an IKE SA; false says that it belongs to another or is gone.
func (t *streams) own(p path.Path, spi wire.SPI) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	st := t.m[p.Generation]
	if st == nil || st.owner != 0 && st.owner != spi {
		return false
	}
	st.owner = spi
	return true
}

// release takes a stream from its owner and returns its path; ok is false when it is gone.
func (t *streams) release(generation uint64) (p path.Path, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	st := t.m[generation]
	if st == nil {
		return path.Path{}, false
	}
	st.owner = 0
	return st.path, true
}

// close forgets a stream that we are about to close.
func (t *streams) close(generation uint64) {
	t.mu.Lock()
	delete(t.m, generation)
	t.mu.Unlock()
}

// closeUnowned forgets a stream if nobody owns it; ok says that it did.
func (t *streams) closeUnowned(generation uint64) (ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	st := t.m[generation]
	if st == nil || st.owner != 0 {
		return false
	}
	delete(t.m, generation)
	return true
}

// lose forgets a stream and returns who owned it. why is kept for a dialer that does not know its stream yet; a stream that we closed
// ourselves has none.
func (t *streams) lose(p path.Path, why error) (owner wire.SPI, owned bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	st := t.m[p.Generation]
	if st == nil {
		if t.dials > 0 && !errors.Is(why, transport.ErrClosed) {
			t.early[p.Generation] = why
		}
		return 0, false
	}
	delete(t.m, p.Generation)
	return st.owner, st.owner != 0
}

// junk counts a message that belongs to nothing and reports whether that was one too many.
func (t *streams) junk(p path.Path) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	st := t.m[p.Generation]
	if st == nil {
		return false
	}
	st.junk++
	return st.junk >= maxJunk
}

func (t *streams) dialing() {
	t.mu.Lock()
	t.dials++
	t.mu.Unlock()
}

// dialed ends a dial; p is registered unless err says that there is none. The error is err, or that p was lost meanwhile.
func (t *streams) dialed(p path.Path, err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dials--
	lost := t.early[p.Generation]
	delete(t.early, p.Generation)
	if t.dials == 0 {
		clear(t.early)
	}
	switch {
	case err != nil:
		return err
	case lost != nil:
		return lost
	}
	if t.m[p.Generation] == nil {
		t.m[p.Generation] = &stream{path: p}
	}
	return nil
}

// oldStreamGrace is how long a responder leaves a stream open whose IKE SA has gone on to a newer one: what is under way on it may still arrive, and the
// originator is the one to close it (RFC 9329 6.1).
const oldStreamGrace = 5 * time.Second

// ownStream makes p the stream of an IKE SA. An older one of the same IKE SA is closed: by its originator at once, by the responder after a while. false says
// that p belongs to another IKE SA, or is gone.
func (s *shard) ownStream(a *sa, p path.Path) bool {
	if a.stream == p.Generation {
		return true
	}
	if !s.e.streams.own(p, a.spi) {
		return false
	}
	if a.stream != 0 {
		if old, ok := s.e.streams.release(a.stream); ok {
			s.e.retireStream(old, a.initiator)
		}
	}
	a.stream = p.Generation
	return true
}

// retireStream closes a stream that its IKE SA has left. One that the IKE SA has come back to stays.
func (e *Engine) retireStream(p path.Path, atOnce bool) {
	retire := func() {
		if e.streams.closeUnowned(p.Generation) {
			e.mux.CloseStream(p)
		}
	}
	if atOnce {
		retire()
		return
	}
	time.AfterFunc(oldStreamGrace, retire)
}

// releaseStream ends what an IKE SA has to do with its stream. It is closed, but for one case: a responder that has refused an IKE_SA_INIT with a
// notify expects the corrected request on the same stream (RFC 9329 6.4); if none comes the transport's limits close it.
func (s *shard) releaseStream(a *sa, why event.Close) {
	if a.stream == 0 {
		return
	}
	p, ok := s.e.streams.release(a.stream)
	a.stream = 0
	if !ok || !a.initiator && a.control == nil && why.Notify != 0 && !why.Remote {
		return
	}
	s.e.streams.close(p.Generation)
	s.e.mux.CloseStream(p)
}

var (
	errForeign = errors.New("a message of another IKE SA came on the connection (RFC 9329 6.1)")
	errCrowded = errors.New("too many half-open IKE SAs")
)

// breakStream closes a stream because of what came on it, and tells its owner.
func (e *Engine) breakStream(p path.Path, why error) {
	spi, owned := e.streams.lose(p, transport.ErrClosed)
	e.mux.CloseStream(p)
	if owned {
		e.tellLost(spi, p, why)
	}
}

// tellLost tells an IKE SA that its stream has ended. One that is half-open ends with it: its initiator starts again with a new IKE_SA_INIT
// (RFC 9329 5.1).
func (e *Engine) tellLost(spi wire.SPI, p path.Path, err error) {
	s := e.shardOf(spi)
	s.box.post(func() {
		a := s.sas[spi]
		if a == nil || a.stream != p.Generation {
			return
		}
		a.stream = 0
		s.step(a, machine.PathLost{Path: p, Err: err})
		if a.halfOpen && !a.closed {
			s.forget(a, event.Close{Reason: event.ReasonPathFailed, Detail: "the TCP connection ended before IKE_AUTH: " + err.Error()})
		}
	})
}

// alive reports whether p is open.
func (t *streams) alive(p path.Path) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.m[p.Generation] != nil
}

package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/wire"
)

// shard is one goroutine and what it alone may touch. Other goroutines reach it through its mailbox.
type shard struct {
	// Constant after construction.
	e     *Engine
	index int
	bits  int // low bits of our SPIs that name the shard
	box   mailbox

	// Owned by the goroutine of run.
	sas      map[wire.SPI]*sa
	repeats  map[uint64]*sa // hash of an IKE_SA_INIT request -> the IKE SA that answers it (RFC 7296 2.1)
	inbound  map[kernel.SPI]*sa
	requests map[kernel.Request]request
	lastReq  uint64
	alarms   alarms
	inputs   []input // waiting for their Step
	stepping bool
	work     batch
	sources  sources
	recent   recent
}

// input is one Step to do.
type input struct {
	a  *sa
	in machine.Input
}

func newShard(e *Engine, index, bits int) *shard {
	s := &shard{
		e: e, index: index, bits: bits,
		sas: map[wire.SPI]*sa{}, repeats: map[uint64]*sa{}, inbound: map[kernel.SPI]*sa{}, requests: map[kernel.Request]request{},
	}
	s.box.init()
	return s
}

// run serves until ctx ends.
func (s *shard) run(ctx context.Context) {
	defer s.box.close()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		for s.box.take(&s.work) {
			s.serve()
		}
		s.ringDue()
		if wait, ok := s.untilNext(); ok {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case <-s.box.wake:
		case <-timer.C:
		}
	}
}

// serve works through one batch: calls and datagrams of existing IKE SAs in order, then strangers, then the streams that waited.
func (s *shard) serve() {
	for i := range s.work.main {
		m := &s.work.main[i]
		if m.call != nil {
			s.guarded(m.call)
		} else {
			s.guarded(func() { s.known(m.dg, m.spi) })
		}
		if i%64 == 63 {
			s.ringDue()
		}
	}
	for i := range s.work.initial {
		d := s.work.initial[i]
		s.guarded(func() { s.initialRequest(d) })
	}
	for _, p := range s.work.paused {
		s.e.mux.Resume(p)
	}
	s.ringDue()
}

func (s *shard) ringDue() {
	for {
		now := time.Now()
		who := s.alarms.due(now.Sub(s.e.epoch))
		if who == nil {
			return
		}
		s.guarded(func() { who.ring(now) })
	}
}

func (s *shard) untilNext() (time.Duration, bool) {
	at, ok := s.alarms.next()
	if !ok {
		return 0, false
	}
	return max(at-time.Since(s.e.epoch), 0), true
}

// guarded runs f; a panic outside of any IKE SA's Step is a bug that costs what f was about, not the daemon.
func (s *shard) guarded(f func()) {
	defer func() {
		if r := recover(); r != nil {
			s.stepping = false
			clear(s.inputs) // what waited behind it is lost with it
			s.inputs = s.inputs[:0]
			s.e.counters.panics.Add(1)
			s.e.emit(s, event.Event{
				Level: event.Error, Kind: event.KindNote,
				Text: fmt.Sprintf("internal error in shard %d, please report it: %v\n%s", s.index, r, debug.Stack()),
			})
		}
	}()
	f()
}

// newSPI draws an SPI that names this shard in its low bits and is random otherwise, not zero and not in use (RFC 7296 2.6).
func (s *shard) newSPI(rand io.Reader) (wire.SPI, error) {
	for {
		var b [8]byte
		if _, err := io.ReadFull(rand, b[:]); err != nil {
			return 0, fmt.Errorf("no randomness for an IKE SPI: %w", err)
		}
		spi := wire.SPI(binary.BigEndian.Uint64(b[:])>>s.bits<<s.bits | uint64(s.index))
		if _, used := s.sas[spi]; !used && spi != 0 {
			return spi, nil
		}
	}
}

// shardOf finds the shard that an SPI of ours names; nil when none of ours looks like that.
func (e *Engine) shardOf(spi wire.SPI) *shard {
	i := int(spi & (1<<e.shards[0].bits - 1))
	if i >= len(e.shards) {
		return nil
	}
	return e.shards[i]
}

// recent keeps the last events of a shard, so that the report of a panic can tell what led to it.
type recent struct {
	events [64]event.Event
	next   int
}

func (r *recent) add(ev event.Event) {
	r.events[r.next%len(r.events)] = ev
	r.next++
}

// of returns the kept events of one IKE SA, oldest first.
func (r *recent) of(spi wire.SPI) []event.Event {
	var out []event.Event
	for i := range len(r.events) {
		if ev := r.events[(r.next+i)%len(r.events)]; ev.SA == spi && !ev.At.IsZero() {
			out = append(out, ev)
		}
	}
	return out
}

package engine

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

func streamNumber(n uint64) path.Path { return path.Path{Kind: path.TCP, Generation: n} }

// TestOldStreamRetires: a responder leaves the stream that its IKE SA has gone from open for a while, and closes it then unless the IKE SA has come back to
// it: an authenticated peer cannot pile up streams.
func TestOldStreamRetires(t *testing.T) {
	inRig(t, policy.Setup{}, func(*script, machine.Input) []machine.Effect { return nil }, func(t *testing.T, r *rig) {
		first, second := streamNumber(1), streamNumber(2)
		a := &sa{spi: 7}
		r.e.streams.accept(first)
		r.e.streams.accept(second)
		open := func(want1, want2 bool) {
			t.Helper()
			if got1, got2 := r.e.streams.alive(first), r.e.streams.alive(second); got1 != want1 || got2 != want2 {
				t.Fatalf("open: first %v, second %v; expected %v, %v", got1, got2, want1, want2)
			}
		}
		if !r.s.ownStream(a, first) || !r.s.ownStream(a, second) {
			t.Fatal("a free stream is refused")
		}
		open(true, true)
		if !r.s.ownStream(a, first) { // back again: now the second is the old one
			t.Fatal("the IKE SA may not go back to its first stream")
		}
		time.Sleep(oldStreamGrace + time.Second) // virtual time
		synctest.Wait()
		open(true, false)
	})
}

// TestEarlyLoss: a stream that is lost before its dialer knows it gives the dialer the reason; those that we close ourselves leave no trace.
func TestEarlyLoss(t *testing.T) {
	var s streams
	s.init()
	s.dialing()
	s.lose(streamNumber(1), transport.ErrClosed)
	if len(s.early) != 0 {
		t.Errorf("%d streams of our own kept", len(s.early))
	}
	s.lose(streamNumber(2), io.ErrUnexpectedEOF)
	if err := s.dialed(streamNumber(2), nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the dialer is told %v", err)
	}
	if s.alive(streamNumber(2)) || len(s.early) != 0 {
		t.Error("a lost stream is kept")
	}
}

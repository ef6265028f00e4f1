package engine

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
)

// requests are the numbers of the wishes that a script has heard of.
func (m *script) requests() (list []uint32) {
	for _, in := range m.inputs {
		if r, ok := in.(machine.RekeyChild); ok {
			list = append(list, r.Request)
		}
	}
	return list
}

// outcome lets a script tell what has become of a rekeying.
func (r *rig) outcome(m *script, request uint32) {
	r.inShard(func() {
		ev := event.Event{Kind: event.KindChildRekeyed, Conn: "west-east", Child: "west-east", Request: request}
		r.s.emit(r.s.sas[m.cfg.SPI], ev)
	})
}

// rekeying begins to rekey and returns where its end will be told.
func (r *rig) rekeying(t *testing.T) chan error {
	done := make(chan error, 1)
	go func() { done <- r.e.RekeyChild(t.Context(), "west-east", nil) }()
	synctest.Wait()
	return done
}

func waits(t *testing.T, done chan error, why string) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-done:
		t.Fatalf("%s ended the wait: %v", why, err)
	default:
	}
}

// TestRekeyWaitsForItsOwn: the end of another IKE SA of the connection, and an outcome that belongs to an earlier wish, do not end the wait for a rekeying.
func TestRekeyWaitsForItsOwn(t *testing.T) {
	inRig(t, policy.Setup{}, slowToClose, func(t *testing.T, r *rig) {
		r.stranger(1)
		first := r.rekeying(t)
		r.stranger(2)
		other := r.machines()[1]
		r.end(other)
		waits(t, first, "another IKE SA")
		r.outcome(r.machines()[0], 0) // of a failure that nobody wished for
		waits(t, first, "an outcome of nobody's wish")

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = r.e.Down(ctx, "west-east", nil) // it goes on without us
		if err := <-first; err == nil {
			t.Error("what was taken down is rekeyed")
		}
		second := r.rekeying(t) // the IKE SA is slow to go, and has its Child SA still
		one := r.machines()[0]
		if got := one.requests(); len(got) != 2 || got[0] == got[1] {
			t.Fatalf("requests %v", got)
		}
		r.stranger(3)
		r.end(r.machines()[2])
		r.outcome(one, one.requests()[0])
		waits(t, second, "a late outcome")
		r.outcome(one, one.requests()[1])
		if err := <-second; err != nil {
			t.Error(err)
		}
		third := r.rekeying(t)
		r.end(one)
		if err := <-third; !errors.Is(err, errRekeyEnded) {
			t.Errorf("its own IKE SA has ended: %v", err)
		}
	})
}

package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/kernel"
)

// Shutdown sends deletes, waits for them at most until ctx ends, and removes all SAs and policies. Nothing is initiated or answered to strangers from
// the moment it is called. Run goes on until its own context ends.
func (e *Engine) Shutdown(ctx context.Context) error {
	e.closing.Store(true) // a change under way ends soon
	if err := e.beginChange(ctx); err == nil {
		defer e.endChange()
	}
	linger := deleteLinger
	if at, ok := ctx.Deadline(); ok {
		linger = min(linger, max(time.Until(at)*3/4, 0))
	}
	down := e.takeDown(e.view.Load().list, nil, event.ReasonShutdown) // nothing is initiated any more once the shards come to what follows
	for _, s := range e.shards {
		s.box.post(func() { s.closeEverything(linger) })
	}
	e.awaitDown(ctx, down)
	e.awaitEmpty(ctx)
	for _, s := range e.shards {
		if _, ok := ask(e, s, s.forgetEverything); !ok {
			return errStopped
		}
	}
	return e.unrouteAll()
}

// closeEverything ends all IKE SAs of the shard, those without a connection too.
func (s *shard) closeEverything(linger time.Duration) {
	for _, spi := range s.sortedSPIs(func(a *sa) bool { return !a.over }) {
		if a := s.sas[spi]; a != nil {
			s.step(a, machine.CloseIKE{Reason: event.ReasonShutdown, Linger: linger})
		}
	}
}

// awaitEmpty waits until no IKE SA is left, or ctx ends.
func (e *Engine) awaitEmpty(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		left := 0
		for _, s := range e.shards {
			n, ok := ask(e, s, s.alive)
			if !ok {
				return
			}
			left += n
		}
		if left == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// alive counts the IKE SAs that are not over.
func (s *shard) alive() int {
	n := 0
	for _, a := range s.sas {
		if !a.over {
			n++
		}
	}
	return n
}

// forgetEverything takes away what did not end in time.
func (s *shard) forgetEverything() int {
	spis := s.sortedSPIs(everySA)
	for _, spi := range spis {
		s.forget(s.sas[spi], event.Close{Reason: event.ReasonShutdown})
	}
	return len(spis)
}

// unrouteAll takes the last policies away and waits for the datapath to have done so. Requests of one shard complete in order, so that the Removes
// before them are done too.
func (e *Engine) unrouteAll() error {
	s := e.shards[0]
	ids := e.policies.all()
	done := make(chan error, len(ids))
	for _, id := range ids {
		e.unrouteScript(id)
		s.box.post(func() {
			e.dp.Unroute(s.request(request{fn: func(d kernel.Done) { done <- d.Err }}), id)
		})
	}
	var first error
	for range ids {
		select {
		case err := <-done:
			if err != nil && first == nil {
				first = fmt.Errorf("shutdown: a policy could not be taken away: %w", err)
			}
		case <-e.stopped:
			return errStopped
		case <-time.After(deleteLinger):
			return fmt.Errorf("shutdown: the datapath did not take all policies away within %v", deleteLinger)
		}
	}
	return first
}

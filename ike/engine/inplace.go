package engine

import (
	"context"

	"github.com/ikegod/ikegod/kernel"
)

// flight counts the requests for policies that the datapath has not completed yet. Guarded by the lock of policies.
type flight struct {
	n      int
	landed chan struct{} // closed when n becomes zero; nil while nobody waits
}

// launch makes a request for a policy; the lock is held. done may be nil.
func (p *policies) launch(s *shard, done func(kernel.Done)) kernel.Request {
	p.flight.n++
	return s.request(request{fn: func(d kernel.Done) {
		if done != nil {
			done(d)
		}
		p.land()
	}})
}

func (p *policies) land() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flight.n--; p.flight.n == 0 && p.flight.landed != nil {
		close(p.flight.landed)
		p.flight.landed = nil
	}
}

// quiet is closed once no request for a policy is on its way.
func (p *policies) quiet() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flight.n == 0 {
		done := make(chan struct{})
		close(done)
		return done
	}
	if p.flight.landed == nil {
		p.flight.landed = make(chan struct{})
	}
	return p.flight.landed
}

// InPlace waits until the connections that were loaded have their policies in the datapath, or until ctx ends. A daemon says that it is ready after that: who
// hears it may rely on it that what auto= protects without an SA is protected.
func (e *Engine) InPlace(ctx context.Context) error {
	loaded := make(chan struct{}, len(e.shards))
	for _, s := range e.shards {
		if !s.box.post(func() { loaded <- struct{}{} }) { // behind the loads
			return errStopped
		}
	}
	wait := func(ch <-chan struct{}) error {
		select {
		case <-ch:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-e.stopped:
			return errStopped
		}
	}
	for range e.shards {
		if err := wait(loaded); err != nil {
			return err
		}
	}
	return wait(e.policies.quiet())
}

package updown

import (
	"errors"

	"github.com/ikegod/ikegod/kernel"
)

// These run on the worker that has the tunnel's line, one at a time for a tunnel.

// route gets a tunnel from unrouted to routed. What was routed between other hosts or by another script is unrouted first, as it was routed.
func (r *Runner) route(t *tunnel, spec kernel.Tunnel) error {
	if old := t.told; t.state == routed && (old.Script != spec.Script || old.LocalAddr != spec.LocalAddr || old.RemoteAddr != spec.RemoteAddr) {
		r.unroute(t)
	}
	if t.state != unrouted {
		return nil
	}
	before := spec
	before.SPIIn, before.SPIOut = 0, 0
	_ = r.run(before, "prepare", kernel.LastPair{}) // it was told; as in libreswan, route decides
	if err := r.run(before, "route", kernel.LastPair{}); err != nil {
		return err
	}
	r.become(t, routed, before)
	return nil
}

// up gets a tunnel up. One whose up has failed gets no down, as in libreswan. One that is up for other hosts or traffic goes down first, as it came up: its peer has come
// again from elsewhere before the old SAs were gone.
func (r *Runner) up(t *tunnel, spec kernel.Tunnel) error {
	if t.state == up {
		if !moved(t.told, spec) {
			return nil
		}
		r.down(t, kernel.LastPair{})
	}
	if err := r.route(t, spec); err != nil {
		return err
	}
	err := r.run(spec, "up", kernel.LastPair{})
	if err == nil {
		r.become(t, up, spec)
	}
	return err
}

// moved reports whether a tunnel that is up is another for a script.
func moved(old, next kernel.Tunnel) bool {
	return old.Script != next.Script || old.LocalAddr != next.LocalAddr || old.RemoteAddr != next.RemoteAddr || old.RemoteID != next.RemoteID ||
		!old.Local.Equal(next.Local) || !old.Remote.Equal(next.Remote)
}

func (r *Runner) down(t *tunnel, last kernel.LastPair) {
	if t.state != up {
		return
	}
	spec := t.told
	if last.SPIIn != 0 {
		spec.SPIIn, spec.SPIOut = last.SPIIn, last.SPIOut
	}
	_ = r.run(spec, "down", last) // it was told, and there is no way back
	spec.SPIIn, spec.SPIOut = 0, 0
	r.become(t, routed, spec)
}

func (r *Runner) unroute(t *tunnel) {
	r.down(t, kernel.LastPair{})
	if t.state != routed {
		return
	}
	_ = r.run(t.told, "unroute", kernel.LastPair{}) // it was told, and there is no way back
	r.become(t, unrouted, kernel.Tunnel{})
}

func (r *Runner) become(t *tunnel, s state, told kernel.Tunnel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t.state, t.told = s, told
}

// run runs the script of one verb once for each pair of prefixes, as libreswan does for each pair of selectors. All are run; the error is that of all.
func (r *Runner) run(spec kernel.Tunnel, verb string, last kernel.LastPair) error {
	pairs, err := pairsOf(spec)
	if err != nil {
		spec.Tell(true, err.Error())
		return err
	}
	var errs []error
	for _, p := range pairs {
		if err := r.execute(spec, verb, r.environment(spec, verb, p, last)); err != nil {
			spec.Tell(true, err.Error())
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

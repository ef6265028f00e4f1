package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
)

// rekeyings are the Child SAs of one connection that are being rekeyed on an operator's wish. Owned by the home shard.
type rekeyings struct {
	waiters []*waiter
	request uint32      // the number of the wish in work; an outcome of an earlier one comes too late
	shards  int         // that have not said what they have
	open    map[*sa]int // outcomes to come
	found   int
	failed  error // the first
}

// RekeyChild replaces all Child SAs of a connection, the one of this name, or those with one peer of a template (NAME[N]), by new ones with the same policy, and calls progress for each event of it. It
// returns when the old ones are gone. Cancelling ctx stops the waiting, not the rekeying.
func (e *Engine) RekeyChild(ctx context.Context, name string, progress func(event.Event)) error {
	if c, number := e.view.Load().ofInstance(name); c != nil {
		if _, _, err := e.peerOf(c, number); err != nil {
			return err
		}
		return e.await(ctx, c, progress, func(w *waiter) { c.rekey(w, wish{child: -1, instance: number}) })
	}
	c, child := e.ownerOf(name)
	if c == nil {
		return e.unknown(name)
	}
	return e.await(ctx, c, progress, func(w *waiter) { c.rekey(w, wish{child: child}) })
}

// wish is which Child SAs of a connection are to be rekeyed.
type wish struct {
	child    int // its index; -1: all
	instance int // with this peer of a template; zero: with any
}

func (w *wish) holds(ch *child) bool { return ch.told && (w.child < 0 || w.child == ch.index) }

// ownerOf finds the connection of a name, or the connection that has a Child SA of this name and its index; index is -1 for all.
func (e *Engine) ownerOf(name string) (c *control, index int) {
	v := e.view.Load()
	if c := v.byName[name]; c != nil {
		return c, -1
	}
	for _, c := range v.list {
		if i := c.kidNamed(name); i >= 0 {
			return c, i
		}
	}
	return nil, 0
}

func (c *control) rekey(w *waiter, what wish) {
	r := &c.rekeys
	if r.busy() {
		w.finish(fmt.Errorf("connection %q is being rekeyed already", c.conn.Name))
		return
	}
	r.request = max(r.request+1, 1)
	r.shards, r.open, r.found, r.failed = len(c.e.shards), map[*sa]int{}, 0, nil
	c.watch(&r.waiters, w)
	request := r.request
	for _, s := range c.e.shards {
		s.box.post(func() { s.rekeyChildren(c, what, request) })
	}
}

func (r *rekeyings) busy() bool { return r.shards > 0 || len(r.open) > 0 }

func (s *shard) rekeyChildren(c *control, what wish, request uint32) {
	type one struct {
		a  *sa
		id machine.ChildID
	}
	var list []one
	kind := func(a *sa) bool { return a.user(c) >= 0 && !a.over }
	if what.instance > 0 {
		kind = isInstance(c, what.instance)
	}
	for _, spi := range s.sortedSPIs(kind) {
		a := s.sas[spi]
		for i := range a.children {
			if ch := &a.children[i]; ch.control == c && what.holds(ch) {
				list = append(list, one{a, ch.id})
			}
		}
	}
	c.home.box.post(func() {
		r := &c.rekeys
		if r.request != request || r.shards == 0 {
			return
		}
		r.shards--
		r.found += len(list)
		for _, o := range list {
			r.open[o.a]++
		}
		c.concludeRekeying()
	})
	for _, o := range list {
		s.step(o.a, machine.RekeyChild{Child: o.id, Request: request})
	}
}

// rekeyed takes note of one outcome, of a request of an IKE SA.
func (c *control) rekeyed(a *sa, request uint32, err error) {
	r := &c.rekeys
	if request != r.request || r.open[a] == 0 {
		return
	}
	if r.failed == nil {
		r.failed = err
	}
	if r.open[a]--; r.open[a] == 0 {
		delete(r.open, a)
	}
	c.concludeRekeying()
}

// rekeyLost takes note that the connection has nothing on an IKE SA any more: there will be no outcome of what was asked for there.
func (c *control) rekeyLost(a *sa) {
	r := &c.rekeys
	if r.open[a] == 0 {
		return
	}
	if r.failed == nil {
		r.failed = errRekeyEnded
	}
	delete(r.open, a)
	c.concludeRekeying()
}

// concludeRekeying tells when all outcomes are there.
func (c *control) concludeRekeying() {
	r := &c.rekeys
	if r.busy() {
		return
	}
	if r.found == 0 && r.failed == nil {
		r.failed = fmt.Errorf("connection %q has no Child SA to rekey", c.conn.Name)
	}
	c.finish(&r.waiters, r.failed)
}

// stopRekeying ends what is waited for: err says why there will be no outcome.
func (c *control) stopRekeying(err error) {
	c.rekeys.shards, c.rekeys.open = 0, nil
	c.finish(&c.rekeys.waiters, err)
}

var errRekeyEnded = errors.New("it ended, or its IKE SA, before it was rekeyed")

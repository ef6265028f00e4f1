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
	open    int // outcomes to come: how many each shard has, and what becomes of each
	found   int
	failed  error // the first
}

// RekeyChild replaces all Child SAs of a connection, or the one of this name, by new ones with the same policy, and calls progress for each event of it. It
// returns when the old ones are gone. Cancelling ctx stops the waiting, not the rekeying.
func (e *Engine) RekeyChild(ctx context.Context, name string, progress func(event.Event)) error {
	c, index := e.ownerOf(name)
	if c == nil {
		return e.unknown(name)
	}
	return e.await(ctx, c, progress, func(w *waiter) { c.rekey(w, index) })
}

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

func (c *control) rekey(w *waiter, index int) {
	if c.rekeys.open > 0 {
		w.finish(fmt.Errorf("connection %q is being rekeyed already", c.conn.Name))
		return
	}
	c.rekeys.open, c.rekeys.found, c.rekeys.failed = len(c.e.shards), 0, nil
	c.watch(&c.rekeys.waiters, w)
	for _, s := range c.e.shards {
		s.box.post(func() { s.rekeyChildren(c, index) })
	}
}

func (s *shard) rekeyChildren(c *control, index int) {
	type one struct {
		a  *sa
		id machine.ChildID
	}
	var list []one
	for _, spi := range s.sortedSPIs(func(a *sa) bool { return a.user(c) >= 0 && !a.over }) {
		a := s.sas[spi]
		for _, ch := range a.children {
			if ch.control == c && ch.told && (index < 0 || index == ch.index) {
				list = append(list, one{a, ch.id})
			}
		}
	}
	c.home.box.post(func() {
		c.rekeys.open += len(list) // one of them is this shard's answer
		c.rekeys.found += len(list)
		c.rekeyed(nil)
	})
	for _, o := range list {
		s.step(o.a, machine.RekeyChild{Child: o.id})
	}
}

// rekeyed takes note of one outcome, and tells when all are there.
func (c *control) rekeyed(err error) {
	r := &c.rekeys
	if r.open == 0 {
		return
	}
	if r.failed == nil {
		r.failed = err
	}
	if r.open--; r.open > 0 {
		return
	}
	if r.found == 0 && r.failed == nil {
		r.failed = fmt.Errorf("connection %q has no Child SA to rekey", c.conn.Name)
	}
	c.finish(&r.waiters, r.failed)
}

// stopRekeying ends what is waited for: err says why there will be no outcome.
func (c *control) stopRekeying(err error) {
	c.rekeys.open = 0
	c.finish(&c.rekeys.waiters, err)
}

var errRekeyEnded = errors.New("its IKE SA ended before it was rekeyed")

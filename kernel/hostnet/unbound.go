package hostnet

import (
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
)

// Packets made here whose source is not chosen yet belong to no policy before a route gives them one. Where several policies could have them, the choice is to
// change as little as can be: a policy that comes takes no traffic away from one that carries it.

// sourceOf finds the policy whose source address a route gives: first those whose local side holds what the system would choose anyhow, then those that have an SA,
// then the oldest. nil: none has one.
func (n *Net) sourceOf(k tableKey, list []*routed) *routed {
	list = slices.DeleteFunc(slices.Clone(list), func(r *routed) bool { w := r.routes[k]; return w.kind != unix.RTN_UNICAST || !w.source })
	if len(list) == 0 {
		return nil
	}
	best := list[0]
	if !slices.ContainsFunc(list, func(r *routed) bool { return r.source(k.prefix) != best.source(k.prefix) }) {
		return best
	}
	anyhow := n.systemSource(k.prefix)
	rank := func(r *routed) (worse int) {
		if !inside(r.policy.Local, anyhow) {
			worse += 2
		}
		if r.policy.Action != kernel.Protect {
			worse++
		}
		return worse
	}
	return slices.MinFunc(list, func(a, b *routed) int { return rank(a) - rank(b) })
}

// passesUnbound reports whether policies that let a prefix pass may have packets whose source is not chosen yet: if the system would choose one inside their
// local side, or if a tunnel around it would give them such a one.
func (n *Net) passesUnbound(k tableKey, list []*routed) bool {
	var passing []*routed
	throw := false
	for _, r := range list {
		if r.policy.Action == kernel.Pass {
			passing = append(passing, r)
		} else {
			throw = true // what a tunnel spares
		}
	}
	if throw {
		return true
	}
	sources := []netip.Addr{n.systemSource(k.prefix)}
	for bits := k.prefix.Bits() - 1; bits >= 0; bits-- {
		around := tableKey{netip.PrefixFrom(k.prefix.Addr(), bits).Masked(), k.table}
		if r := n.sourceOf(around, n.prefixes[around]); r != nil {
			sources = append(sources, r.source(k.prefix))
			break
		}
	}
	return slices.ContainsFunc(passing, func(r *routed) bool {
		return slices.ContainsFunc(sources, func(a netip.Addr) bool { return inside(r.policy.Local, a) })
	})
}

// judgePasses asks passesUnbound again about what lies inside of routes that have changed.
func (n *Net) judgePasses(changed map[tableKey]bool) error {
	var errs []error
	unbound := n.set.Table + tableUnbound
	for id := range n.passing {
		for k := range n.policies[id].routes {
			if k.table != unbound {
				continue
			}
			for c := range changed {
				if c.table == unbound && c.prefix.Bits() < k.prefix.Bits() && c.prefix.Overlaps(k.prefix) {
					errs = append(errs, n.setPrefix(k, n.prefixes[k]))
					break
				}
			}
		}
	}
	return errors.Join(errs...)
}

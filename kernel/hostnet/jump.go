package hostnet

import (
	"errors"
	"maps"
	"slices"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ts"
)

// What a policy lets pass is thrown out of the table of its local prefix, and comes to the tables of wider ones then: where a tunnel for these is, its packets
// would go to the TUN all the same. So they jump past all of our tables, as what carries our mark does. A jump comes before every table, and so there is none
// where a policy protects some of the packets by selectors that are not wider.

// maxJumps bounds the rules of one policy.
const maxJumps = 64

// jump gives a policy that lets pass its jumps, if it may have them and needs them.
// coming are policies that are not in place yet; they count, and what they replace does too.
func (n *Net) jump(r *routed, coming ...*routed) {
	p := &r.policy
	if p.Action != kernel.Pass || p.Priority != 0 || slices.ContainsFunc(p.Local, specific) || slices.ContainsFunc(p.Remote, specific) {
		return
	}
	needed := false
	for _, other := range slices.AppendSeq(coming, maps.Values(n.policies)) {
		if other.policy.ID == p.ID || other.policy.Action == kernel.Pass || !overlap(p, &other.policy) {
			continue
		}
		if !wider(&other.policy, p) {
			return
		}
		needed = true
	}
	from, to := p.Local.Prefixes(), p.Remote.Prefixes()
	if !needed || len(from)*len(to) > maxJumps {
		return
	}
	for _, f := range from {
		for _, t := range to {
			if f.Addr().Is6() == t.Addr().Is6() {
				r.add(ruleKey{pref: prefMark, from: f, to: t, jump: true})
			}
		}
	}
}

// stopJumps takes the jumps away that would lead packets of a policy around it, before it comes, and gives others theirs that need them from now on.
func (n *Net) stopJumps(next *routed) error {
	var errs []error
	if next.policy.Action == kernel.Pass {
		return nil
	}
	for id := range n.passing {
		r := n.policies[id]
		if id == next.policy.ID || !overlap(&r.policy, &next.policy) {
			continue
		}
		changed := *r
		changed.rules = slices.DeleteFunc(slices.Clone(r.rules), func(k ruleKey) bool { return k.jump })
		if wider(&next.policy, &r.policy) {
			n.jump(&changed, next)
		}
		if err := n.swap(r, &changed); err != nil {
			errs = append(errs, err)
			continue
		}
		n.policies[id] = &changed
	}
	return errors.Join(errs...)
}

// overlap reports whether a packet may be of both policies, as far as addresses say.
func overlap(a, b *kernel.Policy) bool { return meet(a.Local, b.Local) && meet(a.Remote, b.Remote) }

func meet(a, b ts.Set) bool {
	return slices.ContainsFunc(a, func(x ts.Selector) bool {
		return slices.ContainsFunc(b, func(y ts.Selector) bool {
			return x.Start.BitLen() == y.Start.BitLen() && !x.End.Less(y.Start) && !y.End.Less(x.Start)
		})
	})
}

// wider reports whether all packets of b are also a's, and not the other way round, by selectors without protocol and ports.
func wider(a, b *kernel.Policy) bool {
	return a.Priority == 0 && !slices.ContainsFunc(a.Local, specific) && !slices.ContainsFunc(a.Remote, specific) &&
		holds(a.Local, b.Local) && holds(a.Remote, b.Remote) && !(holds(b.Local, a.Local) && holds(b.Remote, a.Remote))
}

func holds(a, b ts.Set) bool {
	return !slices.ContainsFunc(b, func(y ts.Selector) bool {
		return !slices.ContainsFunc(a, func(x ts.Selector) bool {
			return x.Start.BitLen() == y.Start.BitLen() && !y.Start.Less(x.Start) && !x.End.Less(y.End)
		})
	})
}

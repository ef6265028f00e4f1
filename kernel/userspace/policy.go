package userspace

import (
	"cmp"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/gaissmai/bart"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ts"
)

// route is a policy in place. Immutable but for its SAs.
type route struct {
	policy  kernel.Policy
	strong  int // order: smaller is stronger
	seq     int // breaks ties: the older policy wins
	pairs   *atomic.Pointer[[]*pair]
	acquire *atomic.Int64 // when Acquire was last sent, in Unix nanoseconds
}

// matches reports whether an outbound packet is one of the policy's.
func (r *route) matches(f *flow) bool {
	return contains(r.policy.Local, f.src, f, f.sport) && contains(r.policy.Remote, f.dst, f, f.dport)
}

// newest returns the newest SA pair whose negotiated selectors hold the packet.
func (r *route) newest(f *flow) *pair {
	pairs := r.pairs.Load()
	if pairs == nil {
		return nil
	}
	for _, p := range *pairs {
		if contains(p.sa.Local, f.src, f, f.sport) && contains(p.sa.Remote, f.dst, f, f.dport) {
			return p
		}
	}
	return nil
}

// contains compares one end of a packet with selectors. A fragment whose ports are not to be seen is in none that wants to see them
// (RFC 4301 7.2: it needs a selector with any or OPAQUE ports).
func contains(set ts.Set, a netip.Addr, f *flow, port uint16) bool {
	if !f.later {
		return set.ContainsPacket(a, f.protocol, port)
	}
	for _, s := range set {
		if (s.AnyPort() || s.Opaque()) && s.ContainsPacket(a, f.protocol, 0) {
			return true
		}
	}
	return false
}

// policies finds the policy of an outbound packet: by longest prefix of the destination, then by the order in the bucket of that prefix. Readers
// take the table from an atomic pointer; one writer makes the next version of it, sharing what did not change.
type policies struct {
	table atomic.Pointer[bart.Table[[]*route]]
	byID  map[kernel.PolicyID]*route // the writer's
	seq   int
}

func (t *policies) init() {
	t.table.Store(&bart.Table[[]*route]{})
	t.byID = map[kernel.PolicyID]*route{}
}

// lookup finds the strongest policy that matches. Almost always the first bucket decides; wider prefixes are tried only after it did not match.
func (t *policies) lookup(f *flow) *route {
	table := t.table.Load()
	bucket, ok := table.Lookup(f.dst)
	if !ok {
		return nil
	}
	for _, r := range bucket {
		if r.matches(f) {
			return r
		}
	}
	for _, bucket := range table.Supernets(netip.PrefixFrom(f.dst, f.dst.BitLen())) {
		for _, r := range bucket {
			if r.matches(f) {
				return r
			}
		}
	}
	return nil
}

// put adds a policy or replaces the one with its ID, which hands over its SAs.
func (t *policies) put(p kernel.Policy) {
	r := &route{policy: p, strong: p.Priority, pairs: new(atomic.Pointer[[]*pair]), acquire: new(atomic.Int64)}
	table := t.table.Load()
	if old, ok := t.byID[p.ID]; ok {
		r.seq, r.pairs, r.acquire = old.seq, old.pairs, old.acquire
		table = without(table, old)
	} else {
		t.seq++
		r.seq = t.seq
	}
	if r.strong == 0 {
		r.strong = width(p.Local) + width(p.Remote)
	}
	for _, prefix := range p.Remote.Prefixes() {
		table = table.ModifyPersist(prefix, func(bucket []*route, _ bool) ([]*route, bool) {
			bucket = append(slices.Clone(bucket), r)
			slices.SortFunc(bucket, func(a, b *route) int { return cmp.Or(cmp.Compare(a.strong, b.strong), cmp.Compare(a.seq, b.seq)) })
			return bucket, false
		})
	}
	t.byID[p.ID] = r
	t.table.Store(table)
}

// drop removes a policy, if it is there.
func (t *policies) drop(id kernel.PolicyID) {
	if r, ok := t.byID[id]; ok {
		delete(t.byID, id)
		t.table.Store(without(t.table.Load(), r))
	}
}

func without(table *bart.Table[[]*route], r *route) *bart.Table[[]*route] {
	for _, prefix := range r.policy.Remote.Prefixes() {
		table = table.ModifyPersist(prefix, func(bucket []*route, _ bool) ([]*route, bool) {
			bucket = slices.DeleteFunc(slices.Clone(bucket), func(o *route) bool { return o == r })
			return bucket, len(bucket) == 0
		})
	}
	return table
}

// width says how wide selectors are, for the order of policies without a priority: the host bits of the widest, and a step each for any protocol
// and any port.
func width(set ts.Set) int {
	most := 0
	for _, s := range set {
		w := 4 * (s.Start.BitLen() - commonBits(s.Start, s.End))
		if s.Protocol == 0 {
			w += 2
		}
		if s.AnyPort() {
			w++
		}
		most = max(most, w)
	}
	return most
}

func commonBits(a, b netip.Addr) int {
	x, y := a.AsSlice(), b.AsSlice()
	n := 0
	for i := range min(len(x), len(y)) {
		d := x[i] ^ y[i]
		if d == 0 {
			n += 8
			continue
		}
		for d&0x80 == 0 {
			n++
			d <<= 1
		}
		break
	}
	return n
}

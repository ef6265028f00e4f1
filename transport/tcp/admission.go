package tcp

import (
	"net/netip"
	"sync"

	"github.com/ikegod/ikegod/transport"
)

// Limits bound the connections that peers open. A zero field means its default.
type Limits struct {
	Streams   int // all together; zero: 100,000
	Unowned   int // those that no IKE SA owns; zero: 1,024
	PerSource int // unowned ones from one IPv4 address or one IPv6 /64; zero: 64, so that a branch office behind one NAT can come back at once
}

func (l Limits) withDefaults() Limits {
	set := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	set(&l.Streams, 100_000)
	set(&l.Unowned, 1024)
	set(&l.PerSource, 64)
	return l
}

// admission counts the accepted connections. Safe for concurrent use.
type admission struct {
	limits Limits

	mu      sync.Mutex // guards what follows
	streams int
	unowned int
	sources map[netip.Addr]int // unowned streams by source
}

// Ticket is the place of one accepted connection under the limits.
type Ticket struct {
	a      *admission
	source netip.Addr
	owned  bool // guarded by a.mu
	gone   bool // guarded by a.mu
}

func newAdmission(l Limits) *admission {
	return &admission{limits: l.withDefaults(), sources: make(map[netip.Addr]int)}
}

// source is what one stranger can get as many addresses of as he likes.
func source(a netip.Addr) netip.Addr {
	if a = a.Unmap(); a.Is4() {
		return a
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}

// admit takes a place, or says which limit is reached.
func (a *admission) admit(from netip.Addr) (*Ticket, transport.Drop, bool) {
	s := source(from)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.streams >= a.limits.Streams || a.unowned >= a.limits.Unowned {
		return nil, transport.DropStreamLimit, false
	}
	if a.sources[s] >= a.limits.PerSource {
		return nil, transport.DropStreamSource, false
	}
	a.streams++
	a.unowned++
	a.sources[s]++
	return &Ticket{a: a, source: s}, 0, true
}

// Own moves the connection out of the limits for unowned ones. A nil Ticket, that of a dialed connection, has no limits.
func (t *Ticket) Own() {
	if t == nil {
		return
	}
	t.a.mu.Lock()
	defer t.a.mu.Unlock()
	if !t.owned && !t.gone {
		t.owned = true
		t.strangerGone()
	}
}

// Release gives the place back.
func (t *Ticket) Release() {
	if t == nil {
		return
	}
	t.a.mu.Lock()
	defer t.a.mu.Unlock()
	if t.gone {
		return
	}
	t.gone = true
	t.a.streams--
	if !t.owned {
		t.strangerGone()
	}
}

func (t *Ticket) strangerGone() {
	t.a.unowned--
	if t.a.sources[t.source]--; t.a.sources[t.source] <= 0 {
		delete(t.a.sources, t.source)
	}
}

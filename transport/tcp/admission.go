package tcp

import (
	"container/list"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

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

// reached says which limit an operator meets.
func (l Limits) reached(d transport.Drop) string {
	if d == transport.DropStreamSource {
		return fmt.Sprintf("%s reached: %d connections from one IPv4 address or IPv6 /64 have no IKE SA", d, l.PerSource)
	}
	return fmt.Sprintf("%s reached: %d connections have no IKE SA, or there are %d in all", d, l.Unowned, l.Streams)
}

// What a connection is left alone for when the places run out. An honest peer sends its IKE_SA_INIT one round trip after the connection stands, and is
// authenticated a few later; whoever only wants to hold a place stays longer.
const (
	silentGrace = time.Second
	spokenGrace = 10 * time.Second
)

// admission counts the accepted connections, and decides which of the strangers gives way to a new one when there are too many: a place that
// nobody uses must not keep out a peer that would use it. Safe for concurrent use.
type admission struct {
	limits Limits

	mu      sync.Mutex // guards what follows
	streams int
	silent  list.List          // *Ticket: unowned, no whole IKE message yet; oldest first
	spoken  list.List          // *Ticket: unowned, with one; the one that spoke first is first
	sources map[netip.Addr]int // unowned streams by source
}

// Ticket is the place of one accepted connection under the limits.
type Ticket struct {
	a      *admission
	source netip.Addr
	spoke  atomic.Bool

	// guarded by a.mu
	since time.Time  // when it entered the list that it is in
	in    *list.List // silent or spoken; nil: owned
	at    *list.Element
	gone  bool
	cut   func(transport.Drop, error)
	why   error // it gave way before cut was set
	kind  transport.Drop
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

// admit takes a place, which another connection may have to give up, or says which limit is reached.
func (a *admission) admit(from netip.Addr) (*Ticket, transport.Drop, bool) {
	t := &Ticket{a: a, source: source(from)}
	a.mu.Lock()
	full := transport.NumDrops
	switch {
	case a.sources[t.source] >= a.limits.PerSource:
		full = transport.DropStreamSource
	case a.streams >= a.limits.Streams || a.silent.Len()+a.spoken.Len() >= a.limits.Unowned:
		full = transport.DropStreamLimit
	}
	var cut func()
	if full != transport.NumDrops {
		victim := a.victim(t, full == transport.DropStreamSource)
		if victim == nil {
			a.mu.Unlock()
			return nil, full, false
		}
		cut = victim.giveWay(full)
	}
	a.streams++
	a.sources[t.source]++
	t.enter(&a.silent)
	a.mu.Unlock()
	if cut != nil {
		cut()
	}
	return t, 0, true
}

// victim is the stranger that gives way to t, or nil: whoever has been silent for longest; then, if some source has at least twice as many
// connections as t's, the newest of the source with most, so that what began first can finish; then whoever has spoken but is still not
// authenticated long afterwards. Peers that all come back at once push nobody out: the first finish, and the others try again.
func (a *admission) victim(t *Ticket, sameSource bool) *Ticket {
	now := time.Now()
	if v := oldest(&a.silent, t, now.Add(-silentGrace), sameSource); v != nil {
		return v
	}
	if !sameSource {
		most, n := netip.Addr{}, 0
		for s, k := range a.sources {
			if k > n {
				most, n = s, k
			}
		}
		if n >= 2*(a.sources[t.source]+1) {
			if v := newest(&a.spoken, most); v != nil {
				return v
			}
			return newest(&a.silent, most)
		}
	}
	return oldest(&a.spoken, t, now.Add(-spokenGrace), sameSource)
}

// oldest is the first of l, if it has been there since before then, or nil.
func oldest(l *list.List, t *Ticket, then time.Time, sameSource bool) *Ticket {
	for e := l.Front(); e != nil; e = e.Next() {
		v := e.Value.(*Ticket)
		if !v.since.Before(then) {
			return nil
		}
		if !sameSource || v.source == t.source {
			return v
		}
	}
	return nil
}

// newest is the last of l from that source, or nil.
func newest(l *list.List, source netip.Addr) *Ticket {
	for e := l.Back(); e != nil; e = e.Prev() {
		if v := e.Value.(*Ticket); v.source == source {
			return v
		}
	}
	return nil
}

// enter puts the ticket into a list. Called with a.mu held.
func (t *Ticket) enter(l *list.List) { t.since, t.in, t.at = time.Now(), l, l.PushBack(t) }

// leave takes the ticket out of the strangers. Called with a.mu held.
func (t *Ticket) leave() {
	if t.in == nil {
		return
	}
	t.in.Remove(t.at)
	t.in, t.at = nil, nil
	if t.a.sources[t.source]--; t.a.sources[t.source] <= 0 {
		delete(t.a.sources, t.source)
	}
}

// release gives the place back. Called with a.mu held.
func (t *Ticket) release() {
	if !t.gone {
		t.gone = true
		t.a.streams--
		t.leave()
	}
}

// giveWay gives the place back at once and returns what ends the connection, to be called without a.mu. Called with a.mu held.
func (t *Ticket) giveWay(kind transport.Drop) func() {
	t.release()
	what := "sent no IKE message"
	if t.spoke.Load() {
		what = "authenticated no IKE SA"
	}
	t.kind, t.why = kind, fmt.Errorf("it had %s for %v and gave way to a newer connection: %s", what, time.Since(t.since).Round(time.Millisecond), t.a.limits.reached(kind))
	cut, why := t.cut, t.why
	return func() {
		if cut != nil {
			cut(kind, why)
		}
	}
}

// OnCut says how to end the connection when it has to give way to another, with the limit that was reached and an operator's words for it. It may happen
// within the call.
func (t *Ticket) OnCut(cut func(transport.Drop, error)) {
	if t == nil {
		return
	}
	t.a.mu.Lock()
	t.cut = cut
	kind, why := t.kind, t.why
	t.a.mu.Unlock()
	if why != nil {
		cut(kind, why)
	}
}

// Spoke notes that a whole IKE message came on the connection.
func (t *Ticket) Spoke() {
	if t == nil || t.spoke.Load() || t.spoke.Swap(true) {
		return
	}
	t.a.mu.Lock()
	defer t.a.mu.Unlock()
	if t.in == &t.a.silent {
		t.in.Remove(t.at)
		t.enter(&t.a.spoken)
	}
}

// Own moves the connection out of the limits for unowned ones. A nil Ticket, that of a dialed connection, has no limits.
func (t *Ticket) Own() {
	if t == nil {
		return
	}
	t.a.mu.Lock()
	defer t.a.mu.Unlock()
	t.leave()
}

// Release gives the place back.
func (t *Ticket) Release() {
	if t == nil {
		return
	}
	t.a.mu.Lock()
	defer t.a.mu.Unlock()
	t.release()
}

package engine

import (
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
)

// identities knows the established IKE SAs of each pair of identities, of a connection and of all of them, whatever shard they live in.
type identities struct {
	mu sync.Mutex
	m  map[uint64][]wire.SPI // our SPIs, oldest first; they name the shard
}

func (t *identities) init() { t.m = map[uint64][]wire.SPI{} }

// identityKey is one number for two identities and a connection, or, without its name, for any. A keyed hash stands for the strings, which 100,000 IKE SAs would hold twice; whoever
// acts on a match compares again in the shard. Never zero.
func identityKey(seed maphash.Seed, conn string, local, remote ident.ID) uint64 {
	return max(maphash.Comparable(seed, struct {
		conn          string
		local, remote ident.ID
	}{conn, local, remote}), 1)
}

// add notes an established IKE SA and returns the older ones with the same key.
func (t *identities) add(key uint64, spi wire.SPI) []wire.SPI {
	if key == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	older := slices.Clone(t.m[key])
	t.m[key] = append(t.m[key], spi)
	return older
}

func (t *identities) remove(key uint64, spi wire.SPI) {
	if key == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	left := slices.DeleteFunc(t.m[key], func(x wire.SPI) bool { return x == spi })
	if len(left) == 0 {
		delete(t.m, key)
	} else {
		t.m[key] = left
	}
}

// crossingSettle is how long two IKE SAs that both ends have initiated at once may live side by side: until deletions that are under way have arrived.
const crossingSettle = 15 * time.Second

// ikeUp notes an established IKE SA, and with uniqueids=yes cares for older ones of the same connection and identities.
//
// When we are the responder of the new one, an older one is what a restarted peer has left behind: it goes at once, with the Child SAs of whatever connection it
// carries. Only the responder of the newer IKE SA does this. When both ends initiate at once, the responder of each has it before its initiator; so it cannot be
// that each end sees the one that the other keeps as the older, and deletes it. An older one that this connection has nothing on stays: the peer may have one
// for each connection. For the same reason the older ones stay while the new one has no Child SA of this connection: without that the peer may have meant another,
// which is not there or was refused. But a peer that says INITIAL_CONTACT has none but this (RFC 7296 2.4).
//
// When we are the initiator of the new one, the older is the peer's: both ends may now have both, each in its own order. After a while the one with the
// larger SPIi goes, by the hand of its initiator. Both ends see the same two numbers.
func (s *shard) ikeUp(a *sa, ev event.Event) {
	if a.established {
		return
	}
	a.established = true
	s.e.counters.established.Add(1)
	s.established(a, ev.Path)
	if c := a.control; c != nil {
		a.share = c.share
		resume(s.e.shares.add(a.share, a.spi))
	}
	if len(a.users) == 0 {
		return
	}
	if !s.e.view.Load().setup.UniqueIDs {
		a.users[0].identity, a.peer = 0, 0 // there may be any number of the same: nobody asks, so nobody keeps a list
		return
	}
	identity := a.users[0].identity
	older, ofPeer := s.e.identities.add(identity, a.spi), s.e.identities.add(a.peer, a.spi)
	switch {
	case a.sole:
		s.supersede(a, ofPeer, a.peer)
	case a.initiator:
		s.settleCrossing(a, older, identity)
	case a.idleHere(a.control):
		a.older = older
	default:
		s.supersede(a, older, identity)
	}
}

// firstChild does what had to wait for a Child SA of the connection that an IKE SA was negotiated for.
func (s *shard) firstChild(a *sa, c *control) {
	if older := a.older; len(older) > 0 && c == a.control {
		a.older = nil
		s.supersede(a, older, a.users[a.user(c)].identity)
	}
}

// settleCrossing looks in a while whether of two IKE SAs that both ends have initiated ours is the one to go.
func (s *shard) settleCrossing(a *sa, older []wire.SPI, identity uint64) {
	for _, spi := range older {
		other := s.e.shardOf(spi)
		time.AfterFunc(crossingSettle, func() {
			other.box.post(func() {
				if old := other.sas[spi]; old != nil && old.as(identity) != nil && old.established && !old.initiator {
					theirs := old.m.Snapshot().SPIi
					s.box.post(func() {
						if a.spi > theirs {
							s.replace(a.spi, identity)
						}
					})
				}
			})
		})
	}
}

// established counts a handshake that succeeded, and how long it took.
func (s *shard) established(a *sa, p path.Path) {
	count, began := &s.e.counters, a.began
	count.handshake(a.initiator, p.Kind, event.ReasonNone)
	if c := a.control; a.initiator && c.attempt == a { // then this is its home shard
		began = c.round.began
		if c.round.fellBack {
			count.fallbackTimes.observe(time.Since(c.round.first))
		}
	}
	count.handshakeTimes[role(a.initiator)][carrier(p.Kind)].observe(time.Since(began))
}

// as finds the connection that uses an IKE SA with this identity.
func (a *sa) as(identity uint64) *control {
	for _, u := range a.users {
		if u.identity == identity && identity != 0 {
			return u.control
		}
	}
	return nil
}

// supersede ends the older IKE SAs that were noted under a key.
func (s *shard) supersede(by *sa, older []wire.SPI, key uint64) {
	said := ""
	if by.sole {
		said = " and says that it has no other (INITIAL_CONTACT)"
	}
	for _, spi := range older {
		other, text := s.e.shardOf(spi), fmt.Sprintf("peer %s has a new IKE SA %016x with the same identities%s", by.path.Peer(), uint64(by.spi), said)
		other.box.post(func() {
			old := other.sas[spi]
			if old == nil || old.over || !old.established || old.peer != key && old.as(key) == nil {
				return
			}
			other.emit(old, event.Event{Level: event.Info, Text: fmt.Sprintf("%s: this one goes, with its %d Child SAs", text, len(old.children))})
			other.closeIKE(old, event.ReasonReplaced, deleteLinger)
		})
	}
}

// replace ends a connection's use of an IKE SA in favour of another with the same identities, and with its last use the IKE SA.
func (s *shard) replace(spi wire.SPI, identity uint64) {
	if old := s.sas[spi]; old != nil && !old.over {
		if c := old.as(identity); c != nil {
			s.release(old, c, event.ReasonReplaced, deleteLinger)
		}
	}
}

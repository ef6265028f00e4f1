package engine

import (
	"hash/maphash"
	"slices"
	"sync"

	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/wire"
)

// identities knows the established IKE SAs of each pair of identities of a connection, whatever shard they live in.
type identities struct {
	mu sync.Mutex
	m  map[uint64][]wire.SPI // our SPIs, oldest first; they name the shard
}

func (t *identities) init() { t.m = map[uint64][]wire.SPI{} }

// identityKey is one number for a connection and two identities. A keyed hash stands for the strings, which 100,000 IKE SAs would hold twice; whoever
// acts on a match compares again in the shard. Never zero.
func identityKey(seed maphash.Seed, conn string, local, remote ident.ID) uint64 {
	return max(maphash.Comparable(seed, struct {
		conn          string
		local, remote ident.ID
	}{conn, local, remote}), 1)
}

// add notes an established IKE SA and returns the older ones of the same identities.
func (t *identities) add(a *sa) []wire.SPI {
	if a.identity == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	older := slices.Clone(t.m[a.identity])
	t.m[a.identity] = append(t.m[a.identity], a.spi)
	return older
}

func (t *identities) remove(a *sa) {
	if a.identity == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	left := slices.DeleteFunc(t.m[a.identity], func(spi wire.SPI) bool { return spi == a.spi })
	if len(left) == 0 {
		delete(t.m, a.identity)
	} else {
		t.m[a.identity] = left
	}
}

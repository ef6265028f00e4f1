package engine

import (
	"hash/maphash"
	"net/netip"
	"time"
)

// bucket is a token bucket. The zero value is full. Not safe for concurrent use.
type bucket struct {
	level time.Duration // how far ahead of real time what was let through has got
	last  time.Duration
}

// allow takes one token of a bucket that refills every interval and holds burst.
func (b *bucket) allow(at, interval time.Duration, burst int) bool {
	b.level = max(b.level-(at-b.last), 0)
	b.last = at
	if b.level+interval > interval*time.Duration(burst) {
		return false
	}
	b.level += interval
	return true
}

// Limits for one source address (an IPv6 /64 counts as one). A NAT with many users behind it stays below them.
const (
	sourceInterval = 2 * time.Millisecond // 500 new IKE_SA_INIT a second
	sourceBurst    = 1000
	sourceBuckets  = 1024 // addresses share a bucket by a keyed hash: the memory is fixed whatever strangers send
)

// sources limits the rate of each source address.
type sources struct {
	seed    maphash.Seed
	buckets []bucket // made when first needed
}

func (r *sources) allow(at time.Duration, from netip.Addr) bool {
	if r.buckets == nil {
		r.seed, r.buckets = maphash.MakeSeed(), make([]bucket, sourceBuckets)
	}
	from = from.Unmap().WithZone("")
	if from.Is6() {
		p, _ := from.Prefix(64)
		from = p.Addr()
	}
	return r.buckets[maphash.Comparable(r.seed, from)%sourceBuckets].allow(at, sourceInterval, sourceBurst)
}

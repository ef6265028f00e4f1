package engine

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/ikegod/ikegod/kernel"
)

const (
	// MaxNamed is how many connections have traffic counters of their own; the others share one, so that ten thousand connections do not become
	// forty thousand time series. A place is taken in the order of loading, and freed when its connection is deleted.
	MaxNamed = 100
	// OtherConnections names what they share.
	OtherConnections = "other"
)

// Traffic is what the Child SAs of a connection have carried, those that are gone included.
type Traffic struct {
	Conn                 string
	InPackets, InBytes   uint64 // octets of the inner packets
	OutPackets, OutBytes uint64
}

func (t *Traffic) add(now, before kernel.Usage) {
	t.InPackets += now.InPackets - before.InPackets
	t.InBytes += now.InBytes - before.InBytes
	t.OutPackets += now.OutPackets - before.OutPackets
	t.OutBytes += now.OutBytes - before.OutBytes
}

// traffic adds up what the datapath counts by Child SA, so that counters by connection outlive a rekey and never go back.
type traffic struct {
	mu    sync.Mutex
	named map[string]*Traffic // at most MaxNamed
	other Traffic
	live  map[kernel.SPI]carried
}

// carried is one Child SA: whose it is, and how much of what it has carried has been added.
type carried struct {
	to    *Traffic
	added kernel.Usage
}

func (t *traffic) init() {
	t.named, t.live, t.other = map[string]*Traffic{}, map[kernel.SPI]carried{}, Traffic{Conn: OtherConnections}
}

// load says which connections there are now.
func (t *traffic) load(list []*control) {
	t.mu.Lock()
	defer t.mu.Unlock()
	loaded := map[string]bool{}
	for _, c := range list {
		loaded[c.conn.Name] = true
	}
	maps.DeleteFunc(t.named, func(name string, _ *Traffic) bool { return !loaded[name] })
	for _, c := range list {
		if name := c.conn.Name; t.named[name] == nil && len(t.named) < MaxNamed && name != OtherConnections {
			t.named[name] = &Traffic{Conn: name}
		}
	}
}

func (t *traffic) begin(spi kernel.SPI, conn string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	to := t.named[conn]
	if to == nil {
		to = &t.other
	}
	t.live[spi] = carried{to: to}
}

// end adds what a Child SA has carried until now, and forgets it.
func (t *traffic) end(spi kernel.SPI, usage func(...kernel.SPI) []kernel.Usage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, u := range usage(spi) {
		t.take(spi, u)
	}
	delete(t.live, spi)
}

// take adds what is new. A Child SA that the datapath does not know any more counts as nothing.
func (t *traffic) take(spi kernel.SPI, u kernel.Usage) {
	c, ok := t.live[spi]
	if !ok || u.InPackets < c.added.InPackets || u.OutPackets < c.added.OutPackets {
		return
	}
	c.to.add(u, c.added)
	c.added = u
	t.live[spi] = c
}

// read returns the sums, by name, with the shared one at the end. Shards that come in between wait for one chunk only.
func (t *traffic) read(usage func(...kernel.SPI) []kernel.Usage) []Traffic {
	t.mu.Lock()
	spis := slices.Collect(maps.Keys(t.live))
	t.mu.Unlock()
	for chunk := range slices.Chunk(spis, statusChunk) {
		t.mu.Lock()
		for i, u := range usage(chunk...) {
			t.take(chunk[i], u)
		}
		t.mu.Unlock()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Traffic
	for _, sum := range t.named {
		out = append(out, *sum)
	}
	slices.SortFunc(out, func(a, b Traffic) int { return strings.Compare(a.Conn, b.Conn) })
	return append(out, t.other)
}

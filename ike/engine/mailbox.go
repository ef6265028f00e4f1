package engine

import (
	"sync"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
	"github.com/ikegod/ikegod/transport"
)

// Limits of a mailbox. What the engine and the kernel say to a shard has no limit of its own: each such mail answers something that the shard has
// asked for, or a call of the control interface, or is of those that the datapath sends a few of in a second for each SA or policy.
const (
	maxDatagrams    = 1024    // for IKE SAs that exist
	maxInitial      = 256     // IKE_SA_INIT requests: strangers wait in a line of their own, so that peers are served first
	maxMailboxBytes = 4 << 20 // both together
)

// mail is one thing for a shard: a call, or a datagram for the IKE SA with our SPI.
type mail struct {
	call func()
	spi  wire.SPI
	dg   transport.Datagram
}

// mailbox is the only way into a shard from other goroutines.
type mailbox struct {
	wake chan struct{} // capacity 1: there is something

	mu        sync.Mutex // guards all below
	main      []mail     // calls and datagrams for IKE SAs that exist, in order of arrival
	initial   []transport.Datagram
	datagrams int // in main
	bytes     int
	paused    []path.Path // streams that were told to wait
	closed    bool
}

func (b *mailbox) init() { b.wake = make(chan struct{}, 1) }

func (b *mailbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// post hands a call to the shard. It never blocks; false says that the shard has stopped.
func (b *mailbox) post(call func()) bool {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return false
	}
	b.main = append(b.main, mail{call: call})
	b.mu.Unlock()
	b.signal()
	return true
}

// deliver hands over a datagram for an IKE SA that exists. false: full (or stopped); a stream is noted and will be resumed.
func (b *mailbox) deliver(d transport.Datagram, spi wire.SPI) bool {
	b.mu.Lock()
	if !b.room(d, b.datagrams, maxDatagrams) {
		b.mu.Unlock()
		return false
	}
	b.main = append(b.main, mail{spi: spi, dg: d})
	b.datagrams++
	b.mu.Unlock()
	b.signal()
	return true
}

// deliverInitial hands over an IKE_SA_INIT request.
func (b *mailbox) deliverInitial(d transport.Datagram) bool {
	b.mu.Lock()
	if !b.room(d, len(b.initial), maxInitial) {
		b.mu.Unlock()
		return false
	}
	b.initial = append(b.initial, d)
	b.mu.Unlock()
	b.signal()
	return true
}

func (b *mailbox) room(d transport.Datagram, have, limit int) bool {
	if b.closed {
		return false
	}
	if have >= limit || b.bytes+len(d.Data) > maxMailboxBytes {
		if d.Path.Kind.Stream() {
			b.paused = append(b.paused, d.Path)
		}
		return false
	}
	b.bytes += len(d.Data)
	return true
}

// batch is what take gives out; its slices go back into the mailbox with the next take.
type batch struct {
	main    []mail
	initial []transport.Datagram
	paused  []path.Path
}

// take empties the mailbox into t and reports whether there was anything.
func (b *mailbox) take(t *batch) bool {
	clear(t.main)
	clear(t.initial)
	b.mu.Lock()
	defer b.mu.Unlock()
	t.main, b.main = b.main, shrunk(t.main)
	t.initial, b.initial = b.initial, shrunk(t.initial)
	t.paused, b.paused = b.paused, nil
	b.datagrams, b.bytes = 0, 0
	return len(t.main)+len(t.initial)+len(t.paused) > 0
}

// shrunk is an empty slice to fill again; one that a burst has made large is left to the collector.
func shrunk[T any](s []T) []T {
	if cap(s) > 4*maxDatagrams {
		return nil
	}
	return s[:0]
}

func (b *mailbox) close() {
	b.mu.Lock()
	b.closed = true
	b.main, b.initial, b.paused = nil, nil, nil
	b.mu.Unlock()
}

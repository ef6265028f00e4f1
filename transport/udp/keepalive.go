package udp

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

// maxKeepAlives bounds the table of paths with NAT keepalives.
const maxKeepAlives = 1 << 17

// keepAlives sends the one-octet NAT keepalive on paths where nothing was sent for their interval (RFC 3948 4). One timer serves all paths; it
// looks at them every quarter of the shortest interval and at least once a second. A NAT does not forgive lateness, so a keepalive rather leaves early,
// by less than two such steps.
type keepAlives struct {
	t     *Transport
	count atomic.Int32 // len(paths), read without the lock by every send

	mu       sync.RWMutex // guards what follows
	paths    map[path.Path]*keepAlive
	shortest time.Duration
	looked   time.Time
	timer    *time.Timer
	closed   bool
}

type keepAlive struct {
	interval time.Duration
	sent     atomic.Bool // something was sent since the last look
	last     time.Time   // nothing before it counts; guarded by keepAlives.mu
}

func newKeepAlives(t *Transport) *keepAlives {
	return &keepAlives{t: t, paths: make(map[path.Path]*keepAlive)}
}

// KeepAlive asks for keepalives on a path whenever nothing was sent on it for interval; zero ends them.
func (t *Transport) KeepAlive(p path.Path, interval time.Duration) { t.alive.set(p, interval) }

func (k *keepAlives) set(p path.Path, interval time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if interval <= 0 {
		delete(k.paths, p)
		k.count.Store(int32(len(k.paths)))
		return
	}
	e := k.paths[p]
	if e == nil {
		if len(k.paths) >= maxKeepAlives || k.closed {
			k.t.meter.Drop(transport.DropKeepAliveLimit, 1)
			return
		}
		e = &keepAlive{last: time.Now()}
		k.paths[p] = e
		k.count.Store(int32(len(k.paths)))
	}
	e.interval = interval
	if k.shortest == 0 || interval < k.shortest {
		k.shortest = interval
	}
	if k.timer == nil {
		k.timer = time.AfterFunc(k.step(), k.look)
	} else if len(k.paths) == 1 {
		k.timer.Reset(k.step())
	}
}

func (k *keepAlives) step() time.Duration {
	return min(max(k.shortest/4, 5*time.Millisecond), time.Second)
}

// sent notes that something was sent on p.
func (k *keepAlives) sent(p path.Path) {
	if k.count.Load() == 0 {
		return
	}
	k.mu.RLock()
	e := k.paths[p]
	k.mu.RUnlock()
	if e != nil && !e.sent.Load() {
		e.sent.Store(true)
	}
}

// look is the timer's function.
func (k *keepAlives) look() {
	k.mu.Lock()
	if k.closed || len(k.paths) == 0 {
		k.shortest = 0
		k.mu.Unlock()
		return
	}
	now, step, before := time.Now(), k.step(), k.looked
	k.looked, k.shortest = now, 0
	var due []path.Path
	for p, e := range k.paths {
		if k.shortest == 0 || e.interval < k.shortest {
			k.shortest = e.interval
		}
		if e.sent.Swap(false) {
			if before.After(e.last) {
				e.last = before
			}
		} else if now.Add(step).Sub(e.last) > e.interval {
			e.last = now
			due = append(due, p)
		}
	}
	k.mu.Unlock()
	for _, p := range due {
		k.t.sendKeepAlive(p)
	}
	k.mu.Lock()
	if !k.closed {
		k.timer.Reset(k.step())
	}
	k.mu.Unlock()
}

func (k *keepAlives) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if k.timer != nil {
		k.timer.Stop()
	}
	clear(k.paths)
	k.count.Store(0)
}

// keepAliveOctet is the whole keepalive (RFC 3948 2.3).
var keepAliveOctet = [1]byte{0xff}

func (t *Transport) sendKeepAlive(p path.Path) {
	s := t.socket(p)
	if s == nil || !s.marker {
		return
	}
	m := s.senders.Get().(*sender)
	defer s.senders.Put(m)
	if m.address(p) == nil && m.send(keepAliveOctet[:], 0) == nil {
		t.meter.KeepAlive(path.UDP)
	}
}

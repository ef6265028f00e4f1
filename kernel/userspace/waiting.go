package userspace

import (
	"slices"
	"sync"
	"time"

	"github.com/ikegod/ikegod/kernel"
)

// Packets without an SA wait for one if their policy protects, holds or traps: the first that go into a tunnel are those that have started it, and their senders
// may never repeat them. They are few and wait for a short time: who sends more will send again, and what is old is of no use any more. The oldest stay.
const (
	waitingPackets = 4       // of one policy
	waitingMost    = 256     // of all policies
	waitingOctets  = 1 << 20 // of all policies
	waitingTime    = 10 * time.Second
)

// waiting is the packets that wait for an SA.
type waiting struct {
	mu     sync.Mutex
	of     map[kernel.PolicyID][]waitingPacket
	count  int
	octets int
}

type waitingPacket struct {
	frame []byte // as it came from the TUN
	since time.Time
	why   Drop // what it is counted as if nothing comes
}

func (w *waiting) init() { w.of = map[kernel.PolicyID][]waitingPacket{} }

// wait keeps a copy of a frame, if there is room. If SAs or policies have changed since the decision nothing is kept, and again is true: release takes what waits under
// the lock, after the change, so that no packet stays behind.
func (d *Datapath) wait(e *decision, frame []byte) (again bool) {
	w, now, id, why := &d.waiting, time.Now(), e.route.policy.ID, e.why
	w.mu.Lock()
	defer w.mu.Unlock()
	if d.epoch.Load() != e.epoch {
		return true
	}
	d.tooLong(id, now)
	if full := w.count >= waitingMost || w.octets+len(frame) > waitingOctets; full { // perhaps of what nobody asks for any more
		d.allTooLong(now)
	}
	if len(w.of[id]) >= waitingPackets || w.count >= waitingMost || w.octets+len(frame) > waitingOctets {
		d.drops.add(why, 1)
		return false
	}
	w.of[id] = append(w.of[id], waitingPacket{slices.Clone(frame), now, why})
	w.count++
	w.octets += len(frame)
	return false
}

// tooLong drops those packets of a policy that have waited too long. The caller has the lock.
func (d *Datapath) tooLong(id kernel.PolicyID, now time.Time) {
	list := d.waiting.of[id]
	n := 0
	for n < len(list) && now.Sub(list[n].since) >= waitingTime {
		d.drops.add(list[n].why, 1)
		n++
	}
	d.waiting.forget(id, n)
}

// forget takes the first n packets of a policy away. The caller has the lock.
func (w *waiting) forget(id kernel.PolicyID, n int) {
	list := w.of[id]
	for _, p := range list[:n] {
		w.octets -= len(p.frame)
	}
	w.count -= n
	if w.of[id] = list[n:]; n == len(list) {
		delete(w.of, id)
	}
}

// take returns the packets that wait for a policy's SA, but for those that have waited too long.
func (d *Datapath) take(id kernel.PolicyID) []waitingPacket {
	w := &d.waiting
	w.mu.Lock()
	defer w.mu.Unlock()
	d.tooLong(id, time.Now())
	list := w.of[id]
	w.forget(id, len(list))
	return list
}

// giveUp drops what waits for a policy.
func (d *Datapath) giveUp(id kernel.PolicyID) {
	for _, p := range d.take(id) {
		d.drops.add(p.why, 1)
	}
}

// stale drops what has waited too long, of all policies.
func (d *Datapath) stale() {
	w, now := &d.waiting, time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	d.allTooLong(now)
}

// allTooLong is tooLong for every policy. The caller has the lock.
func (d *Datapath) allTooLong(now time.Time) {
	for id := range d.waiting.of {
		d.tooLong(id, now)
	}
}

// release sends what has waited for a policy's SA, in the order in which it came, on the control goroutine. It does not wait for room on a stream, and what finds no
// SA after all is dropped.
func (c *controller) release(id kernel.PolicyID) {
	list := c.d.take(id)
	if len(list) == 0 {
		return
	}
	if c.sender == nil {
		c.sender = newWorker(c.d, c.d.queues[0])
		c.sender.pressure, c.sender.impatient = nil, true
	}
	for _, p := range list {
		c.sender.frame(p.frame)
	}
	c.sender.flush()
}

// mayWait reports whether packets of a policy wait for an SA.
func mayWait(a kernel.Action) bool {
	return a == kernel.Protect || a == kernel.Hold || a == kernel.Trap
}

// Package updown runs the scripts of leftupdown= and rightupdown=: in order, a few at once, for a limited time, with an environment of libreswan's variables.
package updown

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
)

// Options are the limits of a Runner, and what it asks about the host. Zero values are replaced by defaults.
type Options struct {
	Limit   time.Duration // of one run; then its process group is killed; 10 s
	AtOnce  int           // runs at the same time; 16
	Waiting int           // tunnels that wait to be routed or to come up; 4096. What takes tunnels down is never refused

	// Towards is the interface and the next hop to a peer, "" and invalid if there is no route. nil: not known.
	Towards func(peer netip.Addr) (link string, nextHop netip.Addr)
	// Reqid is the reqid of a policy in the kernel, zero if it has none. nil: not known.
	Reqid func(kernel.PolicyID) uint32
}

const (
	defaultLimit   = 10 * time.Second
	defaultAtOnce  = 16
	defaultWaiting = 4096
)

var errClosed = errors.New("leftupdown= is not run any more: the daemon is shutting down")

// Runner is a kernel.Updown.
type Runner struct {
	o    Options
	life context.Context // ends when runs are to be killed
	kill context.CancelFunc

	mu      sync.Mutex // guards all below
	tunnels map[kernel.PolicyID]*tunnel
	lines   map[queue]*line
	ready   []*line // those with a job that nobody runs
	workers int
	waiting int // jobs that the limit counts
	closed  bool
	empty   chan struct{} // after Close: closed when the last worker ends
}

// tunnel is what is known of one policy. Its state is the worker's of its line, who changes it with the lock.
type tunnel struct {
	state state
	queue queue
	asked int  // jobs that wait or run; nothing is forgotten before they are done
	downs bool // a down waits, and nothing behind it
	told  kernel.Tunnel
}

type state uint8

const (
	unrouted state = iota
	routed
	up
)

// queue names a line: the Order of tunnels of one connection.
type queue struct{ connection, order string }

// line is the jobs of one queue.
type line struct {
	queue queue
	jobs  []job
	busy  bool
}

type job struct {
	do      func() error
	done    func(error)
	id      kernel.PolicyID
	t       *tunnel // nil: it is about none
	counted bool
}

var _ kernel.Updown = (*Runner)(nil)

// New makes a Runner. What the process has inherited as open files stays closed to the scripts.
func New(o Options) *Runner {
	if o.Limit == 0 {
		o.Limit = defaultLimit
	}
	if o.AtOnce == 0 {
		o.AtOnce = defaultAtOnce
	}
	if o.Waiting == 0 {
		o.Waiting = defaultWaiting
	}
	if o.Towards == nil {
		o.Towards = func(netip.Addr) (string, netip.Addr) { return "", netip.Addr{} }
	}
	if o.Reqid == nil {
		o.Reqid = func(kernel.PolicyID) uint32 { return 0 }
	}
	// Our own are close-on-exec anyway; an old kernel without the call leaves those that whoever started us has left open.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	r := &Runner{o: o, tunnels: map[kernel.PolicyID]*tunnel{}, lines: map[queue]*line{}, empty: make(chan struct{})}
	r.life, r.kill = context.WithCancel(context.Background())
	return r
}

// Route implements kernel.Updown.
func (r *Runner) Route(spec kernel.Tunnel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.of(spec); r.admit(spec, nil) {
		r.push(t.queue, job{t: t, id: spec.Policy, counted: true, do: func() error { return r.route(t, spec) }})
	}
}

// Up implements kernel.Updown.
func (r *Runner) Up(spec kernel.Tunnel, done func(error)) {
	r.mu.Lock()
	t := r.of(spec)
	already := t.state == up && t.asked == 0 && !moved(t.told, spec)
	if already || !r.admit(spec, done) {
		r.mu.Unlock()
		if already {
			done(nil)
		}
		return
	}
	r.push(t.queue, job{t: t, id: spec.Policy, counted: true, done: done, do: func() error { return r.up(t, spec) }})
	r.mu.Unlock()
}

// Down implements kernel.Updown.
func (r *Runner) Down(id kernel.PolicyID, last kernel.LastPair) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.tunnels[id]; t != nil && !r.closed && !t.downs { // one after the other would wait where the scripts are slow and each up is refused
		r.push(t.queue, job{t: t, id: id, do: func() error { r.begin(t); r.down(t, last); return nil }})
		t.downs = true
	}
}

// begin takes note that a down does not wait any more: another is needed for what comes up from now on.
func (r *Runner) begin(t *tunnel) {
	r.mu.Lock()
	t.downs = false
	r.mu.Unlock()
}

// Unroute implements kernel.Updown.
func (r *Runner) Unroute(id kernel.PolicyID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.tunnels[id]; t != nil && !r.closed {
		r.push(t.queue, job{t: t, id: id, do: func() error { r.unroute(t); return nil }})
	}
}

// After implements kernel.Updown.
func (r *Runner) After(connection string, f func()) {
	r.mu.Lock()
	var waits []queue
	for q := range r.lines {
		if q.connection == connection {
			waits = append(waits, q)
		}
	}
	var done atomic.Int64
	for _, q := range waits {
		r.push(q, job{done: func(error) {
			if done.Add(1) == int64(len(waits)) {
				f()
			}
		}})
	}
	r.mu.Unlock()
	if len(waits) == 0 {
		f()
	}
}

// Close waits until all that was asked for is done. When ctx ends first what runs is killed, and the error says how much was not run. Nothing new is taken.
func (r *Runner) Close(ctx context.Context) error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	if r.workers == 0 {
		close(r.empty)
	}
	r.mu.Unlock()
	select {
	case <-r.empty:
		r.kill()
		return nil
	case <-ctx.Done():
	}
	r.mu.Lock()
	left := 0
	for _, l := range r.lines {
		left += len(l.jobs)
	}
	r.mu.Unlock()
	r.kill()
	<-r.empty
	return fmt.Errorf("scripts of leftupdown= took too long: what runs was killed, and %d are not run", left)
}

// of finds the tunnel, or makes it. The lock is held.
func (r *Runner) of(spec kernel.Tunnel) *tunnel {
	t := r.tunnels[spec.Policy]
	if t == nil {
		t = &tunnel{queue: queue{spec.Connection, spec.Order}}
		r.tunnels[spec.Policy] = t
	}
	return t
}

// admit refuses what is too much. The lock is held; done, if not nil, is called later.
func (r *Runner) admit(spec kernel.Tunnel, done func(error)) bool {
	var err error
	switch {
	case r.closed:
		err = errClosed
	case r.waiting >= r.o.Waiting:
		err = fmt.Errorf("leftupdown= is not run for %s: %d tunnels wait for it already; the scripts are too slow", spec.Policy, r.waiting)
	default:
		return true
	}
	r.forget(spec.Policy)
	go func() {
		spec.Tell(true, err.Error())
		if done != nil {
			done(err)
		}
	}()
	return false
}

// forget drops a tunnel of which nothing is left. The lock is held.
func (r *Runner) forget(id kernel.PolicyID) {
	if t := r.tunnels[id]; t != nil && t.state == unrouted && t.asked == 0 {
		delete(r.tunnels, id)
	}
}

// push puts a job at the end of its line. The lock is held.
func (r *Runner) push(q queue, j job) {
	if j.t != nil {
		j.t.asked++
		j.t.downs = false
	}
	if j.counted {
		r.waiting++
	}
	l := r.lines[q]
	if l == nil {
		l = &line{queue: q}
		r.lines[q] = l
	}
	l.jobs = append(l.jobs, j)
	if l.busy {
		return
	}
	l.busy = true
	r.ready = append(r.ready, l)
	if r.workers < r.o.AtOnce {
		r.workers++
		go r.work()
	}
}

// work runs the first job of one line after the other until no line is ready.
func (r *Runner) work() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.ready) > 0 {
		l := r.ready[0]
		r.ready = r.ready[1:]
		j := l.jobs[0]
		l.jobs = l.jobs[1:]
		r.mu.Unlock()
		r.perform(j)
		r.mu.Lock()
		if j.counted {
			r.waiting--
		}
		if j.t != nil {
			j.t.asked--
			r.forget(j.id)
		}
		if len(l.jobs) > 0 {
			r.ready = append(r.ready, l)
		} else {
			delete(r.lines, l.queue)
		}
	}
	if r.workers--; r.workers == 0 && r.closed {
		close(r.empty)
	}
}

func (r *Runner) perform(j job) {
	var err error
	switch {
	case j.do == nil:
	case r.life.Err() != nil:
		err = errClosed
	default:
		err = j.do()
	}
	if j.done != nil {
		j.done(err)
	}
}

package xfrm

import (
	"errors"
	"sync"

	"github.com/ikegod/ikegod/kernel"
)

var errClosed = errors.New("the datapath is closed")

// requests is what the worker has to do, in order. Nobody waits to put something in: it holds what IKE has asked for and not yet heard of, which the number
// of its SAs bounds, and of the kernel's messages at most maxNews.
type requests struct {
	events func(kernel.Event)
	done   chan struct{} // closed when run has ended

	mu      sync.Mutex // guards what follows
	wake    sync.Cond
	pending []func(closed bool)
	news    int // of pending, what the kernel has told
	closed  bool
}

// maxNews bounds the kernel's messages that wait: beyond it acquires are dropped, which the kernel repeats, and the state of SAs and policies is read anew.
const maxNews = 4096

func newRequests(events func(kernel.Event)) *requests {
	q := &requests{events: events, done: make(chan struct{})}
	q.wake.L = &q.mu
	return q
}

// run works until close, and finishes with an error what was asked before it.
func (q *requests) run() {
	defer close(q.done)
	for {
		q.mu.Lock()
		for len(q.pending) == 0 && !q.closed {
			q.wake.Wait()
		}
		batch, closed := q.pending, q.closed
		q.pending, q.news = nil, 0
		q.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for _, do := range batch {
			do(closed)
		}
	}
}

// request queues do, whose result completes r.
func (q *requests) request(r kernel.Request, spi kernel.SPI, do func(*kernel.Done)) {
	q.do(func(closed bool) {
		done := kernel.Done{Request: r, SPI: spi, Err: errClosed}
		if !closed {
			done.Err = nil
			do(&done)
		}
		q.events(done)
	})
}

// do queues what somebody waits for.
func (q *requests) do(work func(closed bool)) {
	q.mu.Lock()
	ended := q.closed
	if !ended {
		q.pending = append(q.pending, work)
	}
	q.mu.Unlock()
	if ended {
		work(true)
		return
	}
	q.wake.Signal()
}

// tell queues what the kernel has told. False: there is no room.
func (q *requests) tell(do func()) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return true
	}
	if q.news >= maxNews {
		return false
	}
	q.news++
	q.pending = append(q.pending, func(closed bool) {
		if !closed {
			do()
		}
	})
	q.wake.Signal()
	return true
}

// close ends run and waits for it. It reports whether it was the first.
func (q *requests) close() bool {
	q.mu.Lock()
	first := !q.closed
	q.closed = true
	q.mu.Unlock()
	q.wake.Signal()
	<-q.done
	return first
}

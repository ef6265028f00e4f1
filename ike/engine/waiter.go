package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ikegod/ikegod/ike/event"
)

// maxProgress is how many events wait for one slow watcher; what comes after is counted and left out.
const maxProgress = 1024

var (
	errShutdown = errors.New("the daemon is shutting down")
	errStopped  = errors.New("the engine has stopped")
)

// waiter carries the events of one Up or Down from the shard to the caller, in order, and then the outcome. It never blocks a shard.
type waiter struct {
	signal chan struct{} // capacity 1: there is something

	mu      sync.Mutex // guards all below
	events  []event.Event
	skipped int
	done    bool
	err     error
}

func newWaiter() *waiter { return &waiter{signal: make(chan struct{}, 1)} }

func (w *waiter) push(ev event.Event) {
	w.mu.Lock()
	if len(w.events) < maxProgress {
		w.events = append(w.events, ev)
	} else {
		w.skipped++
	}
	w.mu.Unlock()
	w.wake()
}

func (w *waiter) finish(err error) {
	w.mu.Lock()
	if !w.done {
		w.done, w.err = true, err
	}
	w.mu.Unlock()
	w.wake()
}

func (w *waiter) wake() {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

func (w *waiter) take() (events []event.Event, done bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	events, w.events = w.events, nil
	if w.skipped > 0 {
		events = append(events, event.Event{At: events[len(events)-1].At, Level: event.Warn, Text: fmt.Sprintf("%d events were not shown: the reader is slow", w.skipped)})
		w.skipped = 0
	}
	return events, w.done, w.err
}

// wait shows the events until the outcome is there. Cancelling ctx stops the waiting only.
func (w *waiter) wait(ctx context.Context, stopped <-chan struct{}, progress func(event.Event)) error {
	for {
		events, done, err := w.take()
		for _, ev := range events {
			if progress != nil {
				progress(ev)
			}
		}
		if done {
			return err
		}
		select {
		case <-w.signal:
		case <-ctx.Done():
			return ctx.Err()
		case <-stopped:
			return errStopped
		}
	}
}

// watch adds a waiter to one of the connection's lists. Called in the home shard.
func (c *control) watch(list *[]*waiter, w *waiter) {
	if w != nil {
		*list = append(*list, w)
		c.watched.Add(1)
	}
}

// unwatch takes a waiter out whose caller has gone.
func (c *control) unwatch(w *waiter) {
	for _, list := range []*[]*waiter{&c.ups, &c.downs, &c.rekeys.waiters} {
		for i, have := range *list {
			if have == w {
				*list = append((*list)[:i:i], (*list)[i+1:]...)
				c.watched.Add(-1)
				break
			}
		}
	}
}

func (c *control) finishUps(err error)   { c.finish(&c.ups, err) }
func (c *control) finishDowns(err error) { c.finish(&c.downs, err) }

func (c *control) finish(list *[]*waiter, err error) {
	for _, w := range *list {
		w.finish(err)
	}
	c.watched.Add(-int32(len(*list)))
	*list = nil
}

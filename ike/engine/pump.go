package engine

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ikegod/ikegod/ike/event"
)

// Pump hands events over to a consumer that may be slow, such as a log. It is the one place where events are buffered between the engine and whoever
// writes them down: when its buffer is full events are dropped and counted, and the consumer is told how many. Safe for concurrent use.
type Pump struct {
	ch      chan event.Event
	dropped atomic.Uint64
	done    chan struct{}
	stop    chan struct{}
}

// NewPump starts a goroutine that calls consume for each event, in order. size is how many may wait.
func NewPump(size int, consume func(event.Event)) *Pump {
	p := &Pump{ch: make(chan event.Event, size), done: make(chan struct{}), stop: make(chan struct{})}
	go p.run(consume)
	return p
}

// Push is for Options.Events. It never blocks.
func (p *Pump) Push(ev event.Event) {
	select {
	case p.ch <- ev:
	default:
		p.dropped.Add(1)
	}
}

// Dropped is how many events found no room.
func (p *Pump) Dropped() uint64 { return p.dropped.Load() }

// Close consumes what waits and ends the goroutine. Events pushed later are dropped once the buffer is full.
func (p *Pump) Close() {
	close(p.stop)
	<-p.done
}

func (p *Pump) run(consume func(event.Event)) {
	defer close(p.done)
	told := uint64(0)
	handle := func(ev event.Event) {
		consume(ev)
		if n := p.dropped.Load(); n > told {
			consume(event.Event{At: time.Now(), Level: event.Warn, Text: fmt.Sprintf("%d events were not logged: they came faster than they could be written", n-told)})
			told = n
		}
	}
	for {
		select {
		case ev := <-p.ch:
			handle(ev)
		case <-p.stop:
			for {
				select {
				case ev := <-p.ch:
					handle(ev)
				default:
					return
				}
			}
		}
	}
}

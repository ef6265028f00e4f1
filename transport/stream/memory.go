package stream

import (
	"container/list"
	"errors"
	"sync"
	"time"

	"github.com/ikegod/ikegod/transport"
)

// memoryGrace is how long a message of a stranger may take to arrive before others may have its memory. An honest one is there within a round trip or two.
const memoryGrace = time.Second

// Memory is the octets that messages of streams nobody owns may take together, beyond the first 2 KiB of each. When there is none left, the stream whose
// message has been arriving for longest is cut: whoever sends large messages slowly must not keep out others. Safe for concurrent use.
type Memory struct {
	limit int

	mu    sync.Mutex // guards what follows, and every loan
	used  int
	loans list.List // *loan of messages that are arriving, the first begun first
}

// loan is what the message of one stream has of a Memory.
type loan struct {
	s      *Conn
	octets int
	since  time.Time
	at     *list.Element // nil: nothing lent, or the message is complete
}

// NewMemory makes a Memory of so many octets.
func NewMemory(limit int) *Memory { return &Memory{limit: limit} }

var errMemory = errors.New("too many connections without an IKE SA send large messages at once: this one is closed")

// take makes l as large as octets and reports whether there was room. A nil Memory has no limit.
func (m *Memory) take(l *loan, octets int) bool {
	if m == nil {
		return true
	}
	m.mu.Lock()
	var slow []*Conn
	for m.used+octets-l.octets > m.limit {
		victim := m.slowest(l)
		if victim == nil {
			break
		}
		m.drop(victim)
		slow = append(slow, victim.s)
	}
	ok := m.used+octets-l.octets <= m.limit
	if ok {
		m.used += octets - l.octets
		if l.octets = octets; l.at == nil {
			l.since, l.at = time.Now(), m.loans.PushBack(l)
		}
	}
	m.mu.Unlock()
	for _, s := range slow {
		s.Cut(transport.DropStreamMemory, errMemory)
	}
	return ok
}

// slowest is the loan that has to give way to l, or nil. Called with mu held.
func (m *Memory) slowest(l *loan) *loan {
	for e := m.loans.Front(); e != nil; e = e.Next() {
		v := e.Value.(*loan)
		if time.Since(v.since) <= memoryGrace {
			return nil
		}
		if v != l && !v.s.owned.Load() {
			return v
		}
	}
	return nil
}

// arrived says that the message is complete: what it waits for now is not its sender's fault.
func (m *Memory) arrived(l *loan) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.at != nil {
		m.loans.Remove(l.at)
		l.at = nil
	}
}

// give ends the loan.
func (m *Memory) give(l *loan) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(l)
}

// drop ends the loan. Called with mu held.
func (m *Memory) drop(l *loan) {
	m.used -= l.octets
	l.octets = 0
	if l.at != nil {
		m.loans.Remove(l.at)
		l.at = nil
	}
}

// Used returns the octets lent now.
func (m *Memory) Used() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

package simnet

import (
	"fmt"
	"slices"
	"sync"

	"github.com/ikegod/ikegod/kernel"
)

// Scripts is a kernel.Updown that runs nothing and keeps what was asked for. Safe for concurrent use.
type Scripts struct {
	mu     sync.Mutex // guards all below
	asked  []string
	last   kernel.Tunnel
	refuse error // what Up answers
}

var _ kernel.Updown = (*Scripts)(nil)

func (s *Scripts) note(what string, id kernel.PolicyID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, fmt.Sprintf("%s %s", what, id))
}

// Asked is what was asked for, in order, "up west-east".
func (s *Scripts) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// Last is the tunnel of the last Up.
func (s *Scripts) Last() kernel.Tunnel {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Refuse lets every Up fail; nil ends that.
func (s *Scripts) Refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = err
}

// Route implements kernel.Updown.
func (s *Scripts) Route(t kernel.Tunnel) { s.note("route", t.Policy) }

// Up implements kernel.Updown. It says a line, as a script may.
func (s *Scripts) Up(t kernel.Tunnel, done func(error)) {
	s.note("up", t.Policy)
	s.mu.Lock()
	s.last = t
	err := s.refuse
	s.mu.Unlock()
	t.Tell(false, `command "up" output: hello`)
	done(err)
}

// Down implements kernel.Updown.
func (s *Scripts) Down(id kernel.PolicyID, last kernel.LastPair) {
	s.note(fmt.Sprintf("down in=%t out=%t", last.SPIIn != 0, last.SPIOut != 0), id)
}

// Unroute implements kernel.Updown.
func (s *Scripts) Unroute(id kernel.PolicyID) { s.note("unroute", id) }

// After implements kernel.Updown.
func (s *Scripts) After(_ string, f func()) { f() }

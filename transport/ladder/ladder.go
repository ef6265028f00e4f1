// Package ladder decides which carrier a connection tries next, and when: UDP, then TCP, then the same again after a while. It is a pure decision:
// no sockets, no clock.
package ladder

import (
	"errors"
	"fmt"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
)

// Mode is enable-tcp= of a connection.
type Mode uint8

// Modes.
const (
	UDPOnly  Mode = iota // enable-tcp=no
	TCPOnly              // enable-tcp=yes
	Fallback             // enable-tcp=fallback: UDP, and TCP where UDP brings no answer (RFC 9329 5.1)
)

// String returns the value of enable-tcp=.
func (m Mode) String() string {
	switch m {
	case UDPOnly:
		return "no"
	case TCPOnly:
		return "yes"
	case Fallback:
		return "fallback"
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// Rung is one way to try: a carrier. Which ports it means is said by the connection.
type Rung struct{ Kind path.Kind }

// String prints the rung's carrier.
func (r Rung) String() string { return r.Kind.String() }

// Config describes the ladder of one connection.
type Config struct {
	Mode      Mode
	ListenUDP bool // we listen on UDP (listen-udp=): without, there is nothing to initiate from
	// Jitter, if not nil, returns a number in [0,1) that shortens each wait by up to a tenth, so that the clients of a gateway that comes back do not come all at
	// once. The caller injects it, so that a seed reproduces a run.
	Jitter func() float64
}

// The waits before rounds that follow a failed one (libreswan's): none before the first, then five seconds more each time.
const (
	waitStep = 5 * time.Second
	waitMax  = 300 * time.Second
)

// Outcome is how an attempt on a rung ended.
type Outcome uint8

// Outcomes.
const (
	// NoAnswer: retransmit-timeout used up, connection refused or lost, stream silent. Another carrier may do better.
	NoAnswer Outcome = iota
	// Refused: the peer answered, and said no. Another carrier would bring the same answer, so the round ends.
	Refused
)

// Step is what to do next.
type Step struct {
	Rung Rung
	// NewRound: every rung of this round was tried. The rung is the first one again, to be tried after Wait, and only by a connection that is to
	// remain up. Without NewRound the rung is tried at once.
	NewRound bool
	Wait     time.Duration
}

// Ladder is the position of one connection. The zero value is not usable. Not safe for concurrent use.
type Ladder struct {
	rungs  []Rung
	jitter func() float64
	at     int // the rung being tried
	failed int // rounds that failed in a row
}

// ErrNoRung says that the configuration leaves nothing to try.
var ErrNoRung = errors.New("initiating over UDP needs listen-udp=yes; set it, or enable-tcp=yes for this connection")

// New makes the ladder of a connection, at its first rung.
func New(c Config) (*Ladder, error) {
	l := &Ladder{jitter: c.Jitter}
	if c.Mode != TCPOnly && c.ListenUDP {
		l.rungs = append(l.rungs, Rung{path.UDP})
	}
	if c.Mode != UDPOnly {
		l.rungs = append(l.rungs, Rung{path.TCP})
	}
	if len(l.rungs) == 0 {
		return nil, ErrNoRung
	}
	return l, nil
}

// Rungs returns all rungs in the order they are tried.
func (l *Ladder) Rungs() []Rung { return append([]Rung(nil), l.rungs...) }

// Current is the rung being tried.
func (l *Ladder) Current() Rung { return l.rungs[l.at] }

// Start begins at the first rung with no failures remembered: for `up`, a restart, a redirect to another gateway (RFC 9329 7.2).
func (l *Ladder) Start() Rung {
	l.at, l.failed = 0, 0
	return l.rungs[0]
}

// Established says that the current rung worked. What comes after this SA begins with the first rung and without wait.
func (l *Ladder) Established() { l.at, l.failed = 0, 0 }

// Failed moves on after an attempt on the current rung has ended without an SA. An SA that was established and then lost is not a failed attempt: that is
// Established, then Revive.
func (l *Ladder) Failed(o Outcome) Step {
	if o == NoAnswer && l.at+1 < len(l.rungs) {
		l.at++
		return Step{Rung: l.rungs[l.at]}
	}
	if o == Refused {
		l.failed = max(l.failed, 1) // who said no will not say yes at once
	}
	return l.Revive()
}

// Revive begins a new round, after the back-off that the failed rounds ask for.
func (l *Ladder) Revive() Step {
	wait := min(time.Duration(l.failed)*waitStep, waitMax)
	if l.jitter != nil {
		wait -= time.Duration(float64(wait) * l.jitter() / 10)
	}
	l.at = 0
	if l.failed < int(waitMax/waitStep) {
		l.failed++
	}
	return Step{Rung: l.rungs[0], NewRound: true, Wait: wait}
}

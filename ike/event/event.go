// Package event holds everything worth telling about IKE: typed events, the reasons for drops and the reasons for the end of an SA.
package event

import (
	"fmt"
	"time"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
)

// Level says how loud an event is: the default log shows Info and above.
type Level int8

// Levels.
const (
	Debug Level = iota
	Info
	Warn
	Error
)

var levels = [...]string{"debug", "info", "warn", "error"}

// String is "debug", "info", "warn" or "error".
func (l Level) String() string {
	if l >= 0 && int(l) < len(levels) {
		return levels[l]
	}
	return fmt.Sprintf("level(%d)", int8(l))
}

// Event is one thing that happened. SA, Conn, Peer and Child say to whom; Text is one line in an operator's words that stands by itself: what
// happened, what was expected, what was found, what to do.
type Event struct {
	At    time.Time
	Level Level
	Kind  Kind
	SA    wire.SPI // our own SPI of the IKE SA, zero when none
	Conn  string
	// Instance is the number of the peer of a template (right=%any), from 1. Zero: Conn is no template, or the peer is not known yet.
	Instance int
	Child    string
	Path     path.Path
	Text     string
	Drop     Drop
	Request  uint32 // KindChildRekeyed, KindChildFailed: the wish of the owner of the IKE SA that this is the outcome of; zero: of none
	Close    *Close // with KindIKEClosed and KindChildClosed
}

// Kind is what happened, for machines.
type Kind uint8

// Kinds.
const (
	KindNote          Kind = iota // progress: request sent, response processed
	KindRetransmit                // a request went out again
	KindDrop                      // a packet was dropped; Drop says why
	KindFallback                  // the next rung of the ladder is tried
	KindAuthenticated             // the peer has proved its identity
	KindIKEUp                     // IKE SA established
	KindChildUp                   // Child SA installed
	KindChildFailed               // Child SA refused or not installed, the IKE SA stays
	KindChildClosed
	KindChildRekeyed // a successor is installed and the old Child SA is deleted, on our own wish
	KindIKEClosed
	KindPathLost
	KindPacketRefused // a Child SA is asked for once more, without the packet that it is needed for
)

var kinds = [...]string{
	"note", "retransmit", "drop", "fallback", "authenticated", "IKE up", "child up", "child failed", "child closed", "child rekeyed", "IKE closed",
	"path lost", "asked without the packet",
}

// String names the kind in a few words.
func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Close is why an IKE SA or Child SA ended.
type Close struct {
	Reason Reason
	Notify iana.Notify // what was sent to or received from the peer, zero if none
	Remote bool        // the peer caused it
	Detail string      // one line for the operator
}

func (c *Close) Error() string {
	if c.Detail != "" {
		return c.Detail
	}
	return c.Reason.String()
}

// Reason is the kind of an end.
type Reason uint8

// Reasons for an end.
const (
	ReasonNone Reason = iota
	ReasonOperator
	ReasonShutdown
	ReasonPeerDeleted
	ReasonTimeout         // no answer within retransmit-timeout or the deadline on a stream
	ReasonHalfOpenTimeout // responder: IKE_AUTH never came
	ReasonNoProposal
	ReasonAuthFailed   // we did not accept the peer
	ReasonAuthRejected // the peer did not accept us
	ReasonNoConnection // identities match no connection
	ReasonTSUnacceptable
	ReasonSyntax
	ReasonProtocol // the peer broke the protocol
	ReasonInstallFailed
	ReasonPathFailed // connection refused, no route, stream lost
	ReasonReplaced
	ReasonInternal // a panic in Step; reported as a bug
	ReasonPeerError
	NumReasons
)

var reasons = [...]string{
	"none", "operator", "shutdown", "deleted by peer", "timeout", "half-open timeout", "no proposal chosen",
	"authentication failed", "authentication rejected by peer", "no connection for these identities", "traffic selectors unacceptable",
	"invalid syntax", "protocol error", "installation failed", "path failed", "replaced", "internal error", "peer error",
}

func (r Reason) String() string {
	if int(r) < len(reasons) {
		return reasons[r]
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// Drop is why a packet was dropped. Every drop of an IKE message is one of these, counted.
type Drop uint8

// Drop reasons.
const (
	DropNone           Drop = iota
	DropShort               // shorter than a header
	DropLength              // header length is not the packet length
	DropMajorVersion        // major version above 2 or below
	DropUnknownSPI          // no IKE SA has this SPI
	DropNotInitiator        // an IKE_SA_INIT request with flags or IDs that no initiator sends
	DropNoConnection        // no connection for these addresses
	DropHalfOpen            // too many half-open IKE SAs
	DropRate                // too many from this source
	DropMailbox             // mailbox full
	DropDuplicate           // retransmission of a request that was answered (the reply is sent again) or is in work
	DropStaleMessageID      // message ID outside the window
	DropUnexpected          // response nobody asked for, wrong exchange, wrong direction
	DropIntegrity           // did not authenticate
	DropSyntax              // malformed
	DropUnprotected         // clear where SK is required
	DropFragment            // fragment that cannot be used
	DropClosed              // the IKE SA has ended
	DropIgnoredError        // unauthenticated error notify that is only a hint
	DropTooLarge            // larger than a message of its kind may be
	NumDrops
)

var drops = [...]string{
	"none", "short", "length", "major version", "unknown SPI", "not an initial request", "no connection", "half-open limit",
	"rate", "mailbox full", "duplicate", "stale message ID", "unexpected", "integrity", "syntax", "unprotected", "fragment", "closed", "ignored error",
	"too large",
}

func (d Drop) String() string {
	if int(d) < len(drops) {
		return drops[d]
	}
	return fmt.Sprintf("drop(%d)", uint8(d))
}

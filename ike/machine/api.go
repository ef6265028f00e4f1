// Package machine is one IKE SA: a pure state machine of RFC 7296. Inputs and the time go in, effects come out; it does no I/O, reads no clock, starts
// no goroutine and holds no lock. One goroutine owns a Machine.
package machine

import (
	"io"
	"net/netip"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/pkg/wire"
)

// Config is what every Machine needs from its owner.
type Config struct {
	SPI  wire.SPI  // ours
	Rand io.Reader // nonces, private keys, IVs of CBC: the same octets give the same run
	// HalfOpen is how long a responder waits for IKE_AUTH.
	HalfOpen time.Duration
	// Candidates are the connections that the two addresses of a path allow now, best first: those that a Child SA may belong to which the peer asks for on
	// an established IKE SA. nil: only that of the IKE SA.
	Candidates func(path.Path) []*policy.Oriented
	// PlainESP says that the datapath carries plain ESP; without it ESP is always put into UDP or TCP.
	PlainESP bool
	// Lacks is the algorithms that the datapath does not have: they are not offered for Child SAs, and not chosen.
	Lacks suite.Lacking
}

// Input is one thing that happened to the IKE SA.
type Input interface{ machineInput() }

type (
	// Start makes an initiator begin on a path. Packet is what its first Child SA is needed for; the zero Packet: nothing in particular.
	Start struct {
		Path   path.Path
		Packet ts.Packet
	}
	// Datagram is a message whose header the owner has checked (length, version 2, our SPI). The machine may keep Data. Cookie replies and other
	// stateless answers are the owner's.
	Datagram struct {
		Path path.Path
		Data []byte
	}
	// Tick says that Deadline has come.
	Tick struct{}
	// JobDone completes a Job.
	JobDone struct {
		ID   JobID
		Data []byte // the secret, the public value of an AnswerJob, or AUTH data; empty for a verification
		// Pending goes with an AnswerJob.
		Pending *suite.Pending
		Err     error
	}
	// SPIReserved completes ReserveSPI.
	SPIReserved struct {
		Child ChildID
		SPI   uint32
		Err   error
		// Notify is what the peer is told of Err, if it has asked for the Child SA; zero: NO_ADDITIONAL_SAS.
		Notify iana.Notify
	}
	// InstallDone completes Install.
	InstallDone struct {
		Child  ChildID
		Err    error
		Notify iana.Notify // as in SPIReserved
	}
	// PathReady answers NeedPath. Before the IKE SA is established it starts a new IKE_SA_INIT with the new SPI (RFC 9329 5.1); the owner has
	// registered SPI and forgotten the old one. On an established SA it re-sends what is outstanding (RFC 9329 6.2).
	PathReady struct {
		Path path.Path
		SPI  wire.SPI
	}
	// NoPath answers NeedPath: the ladder has no further rung now. An initiator closes with the reason of its last attempt.
	NoPath struct{ Err error }
	// PathLost says that a stream ended.
	PathLost struct {
		Path path.Path
		Err  error
	}
	// CloseIKE ends the IKE SA: a Delete is sent if there is a peer that knows us, and Close follows when it is answered or after Linger.
	CloseIKE struct {
		Reason event.Reason
		Linger time.Duration
	}
	// OpenChild asks the peer for a further Child SA, of any connection that may share the IKE SA. KindChildUp or KindChildFailed tells the outcome.
	OpenChild struct {
		Conn   *policy.Oriented
		Index  int       // in Conn.Children
		Packet ts.Packet // what it is needed for; the zero Packet: nothing in particular
	}
	// CloseChild deletes one Child SA.
	CloseChild struct{ Child ChildID }
	// RekeyChild replaces one Child SA by a new one with the same policy. KindChildRekeyed or KindChildFailed tells the outcome, with the same Request.
	RekeyChild struct {
		Child   ChildID
		Request uint32
		// OrClose says that the Child SA carries nothing any more: if it gets no successor it is deleted.
		OrClose bool
	}
	// CloseConn deletes the Child SAs of one connection, those that are still being made too. Others go on with the IKE SA: if it was that connection's own,
	// it is Heir's from now on.
	CloseConn struct {
		Conn *policy.Connection
		Heir *policy.Oriented
	}
	// ESPSeen says that authentic ESP from the peer was seen at At: the peer is alive.
	ESPSeen struct{ At time.Time }
)

func (Start) machineInput()       {}
func (Datagram) machineInput()    {}
func (Tick) machineInput()        {}
func (JobDone) machineInput()     {}
func (SPIReserved) machineInput() {}
func (InstallDone) machineInput() {}
func (PathReady) machineInput()   {}
func (NoPath) machineInput()      {}
func (PathLost) machineInput()    {}
func (CloseIKE) machineInput()    {}
func (OpenChild) machineInput()   {}
func (CloseChild) machineInput()  {}
func (RekeyChild) machineInput()  {}
func (CloseConn) machineInput()   {}
func (ESPSeen) machineInput()     {}

// Effect is one thing that the owner must do, strictly in the order returned.
type Effect interface{ machineEffect() }

// JobID names a job within its machine.
type JobID uint32

// ChildID names a Child SA within its machine.
type ChildID uint32

type (
	// Send sends a message. Data stays unchanged and may be shared with the window. Last asks a stream to be closed after it (a Delete's reply).
	Send struct {
		Path path.Path
		Data []byte
		Last bool
	}
	// Job is slow or secret work. Exactly one of the pointers is set; the answer is a JobDone.
	Job struct {
		ID      JobID
		Answer  *AnswerJob
		Finish  *FinishJob
		Pending *suite.Pending // compute Secret
		Sign    *AuthJob
		Verify  *AuthJob
	}
	// AnswerJob makes the responder's half of a key exchange whose public value alone is slow to make (suite.Slow). The random octets were drawn when the job
	// was asked for, so that a run can be repeated.
	AnswerJob struct {
		Method iana.KE
		Public []byte
		octets []byte
	}
	// FinishJob computes the initiator's shared secret.
	FinishJob struct {
		Exchange *suite.Exchange
		Reply    []byte
	}
	// AuthJob makes or checks AUTH data (RFC 7296 2.15).
	AuthJob struct {
		Conn          *policy.Oriented
		Method        iana.AuthMethod
		Local, Remote ident.ID // seen from this host
		PRF           iana.PRF
		Octets        []byte // InitiatorSignedOctets or ResponderSignedOctets
		Data          []byte // to verify
		Used          string // set by whoever does the job: file:line of the secret, for messages
	}
	// ReserveSPI asks for an inbound ESP SPI.
	ReserveSPI struct{ Child ChildID }
	// Install asks for the SAs of a child.
	Install struct {
		Child         ChildID
		Conn          *policy.Oriented
		Index         int // in Conn.Children
		SPIIn, SPIOut uint32
		Suite         suite.Suite
		In, Out       Keys
		Local, Remote ts.Set
		Path          path.Path
		// Transport is transport mode. The originals are then the addresses of the two hosts as the peer sees them, which differ from the selectors' behind
		// a NAT (RFC 7296 2.23.1).
		Transport                     bool
		OriginalLocal, OriginalRemote netip.Addr
		Standby                       bool // outbound packets stay with the SA that it replaces, until that is removed
	}
	// Keys is one direction of a child. It never prints.
	Keys struct{ Encr, Integ []byte }
	// Move tells that a child's packets take another path from now on.
	Move struct {
		Child ChildID
		SPIIn uint32
		Path  path.Path
	}
	// Remove takes a child's SAs (or its reserved SPI) away. What is sent after it goes out when they are gone: it may be the answer to the peer's Delete.
	Remove struct {
		Child ChildID
		SPIIn uint32
	}
	// NeedPath asks for another path: the present one gave no answer, or is lost. Again: not another rung of the ladder, but another stream to the same peer, with the
	// SPI that the machine has. The answer is PathReady or NoPath.
	NeedPath struct {
		Conn  *policy.Oriented
		Last  path.Path
		Why   *event.Close
		Again bool
	}
	// Authenticated tells that the stream (or UDP path) now belongs to an authenticated IKE SA of these identities. InitialContact: the peer says that it is the
	// only one between them that is active (RFC 7296 2.4).
	Authenticated struct {
		Conn           *policy.Oriented
		Local, Remote  ident.ID
		Path           path.Path
		InitialContact bool
	}
	// KeepAlive asks for NAT keepalives on a path: we are behind a NAT (RFC 7296 2.23).
	KeepAlive struct {
		Path path.Path
		On   bool
	}
	// Emit tells.
	Emit struct{ event.Event }
	// Ended tells that the IKE SA is over and its children are gone (their Remove effects come before it). On datagrams the machine stays a few seconds
	// more, only to repeat its last reply to a peer that did not get it; Close follows. Where nothing needs repeating, Close comes without Ended.
	Ended struct{ event.Close }
	// Close is the last effect of a machine: forget it. Children that are still installed are in Remove effects before it.
	Close struct{ event.Close }
)

func (Send) machineEffect()          {}
func (Job) machineEffect()           {}
func (ReserveSPI) machineEffect()    {}
func (Install) machineEffect()       {}
func (Move) machineEffect()          {}
func (Remove) machineEffect()        {}
func (NeedPath) machineEffect()      {}
func (Authenticated) machineEffect() {}
func (KeepAlive) machineEffect()     {}
func (Emit) machineEffect()          {}
func (Ended) machineEffect()         {}
func (Close) machineEffect()         {}

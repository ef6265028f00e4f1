// Package transport is the port between IKE and sockets: datagrams on paths. Its subpackages hold the sockets.
package transport

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
)

// Datagram is one whole IKE message as it came, marker and framing removed. Data belongs to the receiver.
type Datagram struct {
	Path path.Path
	Data []byte
	At   time.Time
}

// Handler takes what arrives. IKE and Lost must not block; InputESP runs to completion on the socket reader's goroutine.
type Handler interface {
	// IKE takes an IKE message. On a stream, false means "cannot take it now": the reader stops reading this stream until Resume, since the
	// peer will not repeat it (RFC 9329 6.2), and then offers the same message again. On UDP false means dropped, and is counted by the transport.
	IKE(Datagram) bool
	// Accepted reports a new TCP connection from a peer, after its "IKETCP" prefix.
	Accepted(path.Path)
	// Lost reports that a stream ended; err says why in an operator's words. It is called exactly once for every stream that was reported by
	// Accepted or returned by Dial, with an error that is ErrClosed when this side closed it. For a stream of ours it may come before Dial has returned: Send then says ErrNoPath.
	Lost(p path.Path, err error)
}

// ESPHandler takes ESP packets (SPI first) of one read, on the reader's goroutine. The buffers belong to the transport again after it returns.
type ESPHandler interface {
	InputESP(p path.Path, packets [][]byte)
}

// UnreachableHandler may be implemented by a Handler that wants to hear of ICMP errors. They are not authenticated: a hint for the operator's message,
// never a reason to end anything (RFC 7296 2.4).
type UnreachableHandler interface {
	Unreachable(p path.Path, err error)
}

// Mux sends on paths. Safe for concurrent use.
type Mux interface {
	// Send queues or sends one IKE message, parts concatenated, adding marker and framing; never on plain ESP. It never blocks on a peer. On a stream IKE goes ahead
	// of queued ESP, never inside a frame.
	Send(p path.Path, parts ...[]byte) error
	// SendESP sends sealed ESP packets. On UDP and plain ESP buf holds packets of segmentSize octets each (the last may be shorter); on a stream buf holds whole
	// frames, each with its 2-octet length (RFC 9329 3), and segmentSize is ignored. A stream whose queue is full drops the buffer and returns ErrQueueFull.
	// buf may be used again after the return.
	SendESP(p path.Path, buf []byte, segmentSize int) error
	// Dial opens a TCP connection to remote from local (an invalid local lets the system choose) and sends the prefix. It blocks: call it on a goroutine.
	Dial(ctx context.Context, local netip.Addr, remote netip.AddrPort) (path.Path, error)
	// UDPPath makes the path for a UDP peer. An error says that UDP is not listened on.
	UDPPath(local netip.Addr, localPort uint16, remote netip.AddrPort) (path.Path, error)
	// CloseStream closes a stream after what is queued for it has been written (the reply to a Delete is flushed), within a short time.
	CloseStream(p path.Path)
	// Own tells that an IKE SA which has authenticated owns the stream: the limits for silent and half-open streams end.
	Own(p path.Path)
	// Resume lets a reader go on that was stopped by a false from Handler.IKE.
	Resume(p path.Path)
	// KeepAlive asks for NAT keepalives on a UDP path (RFC 3948 4) whenever nothing was sent for interval; zero ends them.
	KeepAlive(p path.Path, interval time.Duration)
}

// Attacher may be implemented by a Mux that can hand the socket of a stream to the kernel.
type Attacher interface {
	// AttachESP asks that the kernel, if that is what carries the ESP of streams, take over the socket of p, between two whole messages in each direction; on any
	// other path there is nothing to do. done is called once, with nil or with the reason why not in an operator's words, perhaps before AttachESP returns; it must
	// not block. The stream has an owner. ESP of the peer that has come already is the first that the kernel sees: its SAs are to be in place.
	AttachESP(p path.Path, done func(error))
	// KeepESP says that the ESP of a stream is not the kernel's although that of others may be: it is read here. The stream has an owner.
	KeepESP(p path.Path)
}

// PortOpener may be implemented by a Mux that can listen on further ports while it runs.
type PortOpener interface {
	// OpenPort listens on a port beside those of everybody: over UDP, always with the non-ESP marker, and over TCP, each where the Mux listens on that carrier at all.
	// What is listened on already is left as it is. Where the kernel keeps the ESP that comes over UDP, ours says that this port's is read here all the same. The
	// error is in an operator's words; with it nothing has changed.
	OpenPort(port uint16, ours bool) error
	// ClosePort undoes OpenPort. Streams that were accepted on the port live on.
	ClosePort(port uint16)
}

// Errors of Mux.
var (
	ErrNoPath    = errors.New("no such path: the stream is closed, or the carrier is not listened on")
	ErrQueueFull = errors.New("send queue full")
	ErrTooLarge  = errors.New("message too large for the path")
	ErrClosed    = errors.New("closed by this side")
)

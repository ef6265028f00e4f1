package transport

import (
	"fmt"
	"sync/atomic"

	"github.com/ikegod/ikegod/pkg/path"
)

// Drop is why the transport dropped a packet or refused or cut a stream. Every drop is one of these, counted.
type Drop uint8

// Drop reasons.
const (
	DropKeepAlive      Drop = iota // NAT keepalive of the peer: wanted, and not an error (RFC 3948 4, RFC 9329 6.6)
	DropEmpty                      // empty datagram, or a stream message of length 2 (RFC 9329 3)
	DropShort                      // shorter than an IKE header or an ESP header
	DropLength                     // the IKE header's Length is not the size of the message
	DropTruncated                  // larger than the read buffer, or its control data did not fit
	DropNoDatapath                 // ESP, but no datapath takes it
	DropHandlerBusy                // IKE over UDP that the handler could not take
	DropSendQueue                  // ESP that a full or overaged send queue dropped
	DropSendBuffer                 // a datagram that the socket buffer or the interface queue had no room for
	DropSendTooLarge               // a datagram larger than the path allows
	DropSendFailed                 // a datagram that the system refused to send
	DropUnreachable                // an ICMP error came back: a hint only
	DropStreamPrefix               // a stream that did not begin with "IKETCP"
	DropStreamSlow                 // a stream without a whole message in time
	DropStreamCorrupt              // a stream with a bad length, or too many messages that make no sense
	DropStreamMemory               // a stream whose large message found no room in the memory for strangers, or had been arriving for too long when others needed it
	DropStreamLimit                // a connection refused by the limit on streams, or a stranger's that gave way to a newer one
	DropStreamSource               // the same by the limit on streams of one source
	DropStreamIKEQueue             // a stream closed since its peer did not read the IKE messages for it
	DropKeepAliveLimit             // a path that found no room in the table of NAT keepalives
	DropAccept                     // a TCP connection that the system could not hand over, for lack of file descriptors or memory
	NumDrops
)

var drops = [...]string{
	"NAT keepalive", "empty", "short", "length mismatch", "truncated", "no datapath", "handler busy",
	"send queue full", "send buffer full", "too large to send", "send failed", "ICMP unreachable", "no IKETCP prefix", "slow stream",
	"corrupt stream", "memory for unauthenticated streams", "stream limit", "stream limit per source", "IKE queue overflow", "keepalive table full",
	"accept failed",
}

// String names the reason in lower-case words.
func (d Drop) String() string {
	if int(d) < len(drops) {
		return drops[d]
	}
	return fmt.Sprintf("drop(%d)", uint8(d))
}

// Traffic is what one carrier has carried. IKE octets are without marker and framing; ESP octets sent on a stream are with framing.
type Traffic struct {
	IKEIn, IKEInBytes   uint64
	IKEOut, IKEOutBytes uint64
	ESPIn, ESPInBytes   uint64
	ESPOut, ESPOutBytes uint64
	Reads, Writes       uint64 // system calls that carried something: packets per call tell how well batching works
	KeepAlives          uint64 // NAT keepalives sent
}

// Counters is a snapshot of a Meter.
type Counters struct {
	UDP, TCP, ESP    Traffic // ESP: plain ESP, IP protocol 50
	Drops            [NumDrops]uint64
	Streams, Unowned int64 // streams open now, and those among them that no IKE SA owns
	Accepted, Dialed uint64
}

// Meter counts; a Mux and all parts of it share one. The zero value is ready. Safe for concurrent use.
type Meter struct {
	carriers         [path.NumKinds]carrierMeter
	drops            [NumDrops]atomic.Uint64
	Streams, Unowned atomic.Int64
	Accepted, Dialed atomic.Uint64
}

type carrierMeter struct {
	ikeIn, ikeInBytes, espIn, espInBytes, reads             atomic.Uint64
	_                                                       [64]byte // the two directions run on different cores
	ikeOut, ikeOutBytes, espOut, espOutBytes, writes, alive atomic.Uint64
}

func (m *Meter) of(k path.Kind) *carrierMeter {
	return &m.carriers[min(int(k), path.NumKinds-1)]
}

// IKEIn counts a received IKE message.
func (m *Meter) IKEIn(k path.Kind, octets int) {
	m.of(k).ikeIn.Add(1)
	m.of(k).ikeInBytes.Add(uint64(octets))
}

// IKEOut counts a sent IKE message.
func (m *Meter) IKEOut(k path.Kind, octets int) {
	m.of(k).ikeOut.Add(1)
	m.of(k).ikeOutBytes.Add(uint64(octets))
}

// ESPIn counts received ESP packets.
func (m *Meter) ESPIn(k path.Kind, packets, octets int) {
	m.of(k).espIn.Add(uint64(packets))
	m.of(k).espInBytes.Add(uint64(octets))
}

// ESPOut counts ESP packets that were sent or queued.
func (m *Meter) ESPOut(k path.Kind, packets, octets int) {
	m.of(k).espOut.Add(uint64(packets))
	m.of(k).espOutBytes.Add(uint64(octets))
}

// Read counts one system call that read something.
func (m *Meter) Read(k path.Kind) { m.of(k).reads.Add(1) }

// Write counts one system call that wrote something.
func (m *Meter) Write(k path.Kind) { m.of(k).writes.Add(1) }

// KeepAlive counts a NAT keepalive sent.
func (m *Meter) KeepAlive(k path.Kind) { m.of(k).alive.Add(1) }

// Drop counts n drops for one reason.
func (m *Meter) Drop(d Drop, n int) {
	if d < NumDrops && n > 0 {
		m.drops[d].Add(uint64(n))
	}
}

// Dropped returns the count of one reason.
func (m *Meter) Dropped(d Drop) uint64 { return m.drops[d].Load() }

// Snapshot copies the counters; they are read one after the other, while traffic goes on.
func (m *Meter) Snapshot() Counters {
	c := Counters{
		UDP: m.of(path.UDP).snapshot(), TCP: m.of(path.TCP).snapshot(), ESP: m.of(path.ESP).snapshot(),
		Streams: m.Streams.Load(), Unowned: m.Unowned.Load(), Accepted: m.Accepted.Load(), Dialed: m.Dialed.Load(),
	}
	for i := range c.Drops {
		c.Drops[i] = m.drops[i].Load()
	}
	return c
}

func (c *carrierMeter) snapshot() Traffic {
	return Traffic{
		IKEIn: c.ikeIn.Load(), IKEInBytes: c.ikeInBytes.Load(), IKEOut: c.ikeOut.Load(), IKEOutBytes: c.ikeOutBytes.Load(),
		ESPIn: c.espIn.Load(), ESPInBytes: c.espInBytes.Load(), ESPOut: c.espOut.Load(), ESPOutBytes: c.espOutBytes.Load(),
		Reads: c.reads.Load(), Writes: c.writes.Load(), KeepAlives: c.alive.Load(),
	}
}

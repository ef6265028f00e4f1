// Package esp seals and opens ESP packets (RFC 4303): format, algorithms, sequence numbers and replay protection of one SA direction. It does
// no I/O and allocates nothing per packet.
package esp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/ikegod/ikegod/pkg/suite"
)

// Sizes of the fixed fields (RFC 4303 2).
const (
	HeaderLen  = 8 // SPI and sequence number
	trailerLen = 2 // pad length and next header
)

// NextHeaderDummy marks a dummy packet, sent for traffic flow confidentiality and dropped by the receiver (RFC 4303 2.6).
const NextHeaderDummy = 59

// MaxReplayWindow is the largest replay window, in packets.
const MaxReplayWindow = 4096

// Errors of Seal and Open. Callers count them; they never reach the peer (RFC 4303 3.4).
var (
	ErrExhausted = errors.New("sequence numbers of the SA are used up")
	ErrBuffer    = errors.New("output buffer too small")
	ErrLength    = errors.New("length does not fit the algorithm")
	ErrReplay    = errors.New("sequence number seen before or too old")
	ErrIntegrity = errors.New("integrity check failed")
	ErrPadding   = errors.New("padding malformed")
)

// Params describe one direction of an SA.
type Params struct {
	SPI      uint32
	Suite    suite.Suite // Encr, Integ and SN
	EncrKey  []byte      // with the salt of RFC 4106 8.1, RFC 4309 7.1 and RFC 7634 2 at the end for AEADs
	IntegKey []byte
	// ReplayWindow is the number of packets that may come out of order (inbound); zero turns replay protection off, more than
	// MaxReplayWindow counts as MaxReplayWindow.
	ReplayWindow uint32
	// SoftLimit is the sequence number at which OnSoft is called, once, on the goroutine that seals (outbound). Zero chooses seven eighths of
	// what the sequence number can hold.
	SoftLimit uint64
	OnSoft    func()
}

// String hides the keys.
func (p Params) String() string { return fmt.Sprintf("SPI %#x %v ***", p.SPI, p.Suite.Encr) }

// GoString hides the keys.
func (p Params) GoString() string { return p.String() }

// Scratch is the working memory of one goroutine. The zero value is ready; it must not be used by two goroutines at a time.
type Scratch struct {
	nonce [suite.MaxNonceLen]byte
	aad   [12]byte
}

// Outbound seals packets of one SA. Safe for concurrent use.
type Outbound struct {
	transform
	spi       uint32
	max, soft uint64 // constant
	onSoft    func()
	seq       atomic.Uint64 // the last sequence number used
}

// NewOutbound makes the sealing half of an SA. The error names the algorithm or key length that does not fit.
func NewOutbound(p Params) (*Outbound, error) {
	o := &Outbound{spi: p.SPI, max: 1<<32 - 1, soft: p.SoftLimit, onSoft: p.OnSoft}
	if err := o.init(p); err != nil {
		return nil, err
	}
	if o.esn {
		o.max = 1<<63 - 1 // far from where the counter could overflow
	}
	if o.soft == 0 {
		o.soft = o.max - o.max/8
	}
	return o, o.initIV()
}

// Sequence returns the last sequence number used.
func (o *Outbound) Sequence() uint64 { return min(o.seq.Load(), o.max) }

// PayloadOffset is where the plaintext starts in a sealed packet: a caller that puts its plaintext there before Seal saves a copy.
func (t *transform) PayloadOffset() int { return HeaderLen + t.ivLen }

// SealedLen is the length of the ESP packet for n octets of plaintext.
func (t *transform) SealedLen(n int) int {
	return HeaderLen + t.ivLen + t.padded(n) + t.icvLen
}

// MaxPlain is the largest plaintext whose ESP packet has at most limit octets; zero if there is none.
func (t *transform) MaxPlain(limit int) int {
	return max(0, (limit-HeaderLen-t.ivLen-t.icvLen)&^(t.align-1)-trailerLen)
}

// padded is the length of plaintext, padding and trailer (RFC 4303 2.4).
func (t *transform) padded(n int) int { return (n + trailerLen + t.align - 1) &^ (t.align - 1) }

// Seal makes the ESP packet of plain in dst and returns its length, SealedLen(len(plain)). plain lies at dst[PayloadOffset():] already, or
// does not overlap dst. Once the sequence numbers are used up it returns ErrExhausted for ever: a number is never used twice, since that would
// repeat a nonce (RFC 4303 3.3.3, RFC 4106 3.1).
func (o *Outbound) Seal(s *Scratch, dst []byte, nextHeader uint8, plain []byte) (int, error) {
	off, body := HeaderLen+o.ivLen, o.padded(len(plain))
	n := off + body + o.icvLen
	if len(dst) < n {
		return 0, ErrBuffer
	}
	seq := o.seq.Add(1)
	if seq >= o.soft {
		if seq > o.max {
			return 0, ErrExhausted
		}
		if seq == o.soft && o.onSoft != nil {
			o.onSoft()
		}
	}
	dst = dst[:n:n]
	binary.BigEndian.PutUint32(dst, o.spi)
	binary.BigEndian.PutUint32(dst[4:], uint32(seq))
	if len(plain) > 0 && &dst[off] != &plain[0] {
		copy(dst[off:], plain)
	}
	pad := dst[off+len(plain) : off+body]
	copy(pad, padding[:])
	pad[len(pad)-2], pad[len(pad)-1] = uint8(len(pad)-trailerLen), nextHeader
	o.seal(s, dst, seq, body)
	return n, nil
}

// padding is what fills up to the alignment (RFC 4303 2.4): 1, 2, 3 ... No algorithm here needs more than 15 octets.
var padding = func() (p [16]byte) {
	for i := range p {
		p[i] = byte(i + 1)
	}
	return p
}()

// Inbound opens packets of one SA. Safe for concurrent use.
type Inbound struct {
	transform
	window window
}

// NewInbound makes the opening half of an SA. The error names the algorithm or key length that does not fit.
func NewInbound(p Params) (*Inbound, error) {
	i := &Inbound{}
	if err := i.init(p); err != nil {
		return nil, err
	}
	i.window.init(min(p.ReplayWindow, MaxReplayWindow))
	return i, nil
}

// Opened is what Open found in a packet.
type Opened struct {
	Plain      []byte // aliases the packet; padding removed, padding for traffic flow confidentiality (RFC 4303 2.7) not
	NextHeader uint8
	// Newest says that no packet with a higher sequence number has been accepted before: only such a packet may move the peer's address.
	Newest bool
}

// Open checks and decrypts packet in place; after an error its contents are undefined. The order is that of RFC 4303 3.4: sequence number,
// integrity, and only then the window moves.
func (i *Inbound) Open(s *Scratch, packet []byte) (Opened, error) {
	off := HeaderLen + i.ivLen
	body := len(packet) - off - i.icvLen
	if body < i.align || body&(i.align-1) != 0 {
		return Opened{}, ErrLength
	}
	seq := uint64(binary.BigEndian.Uint32(packet[4:]))
	next := false
	if i.esn {
		var ok bool
		if seq, next, ok = i.window.extend(uint32(seq)); !ok {
			return Opened{}, ErrReplay
		}
	}
	if !i.window.check(seq) {
		return Opened{}, ErrReplay
	}
	if !i.open(s, packet, seq, body) {
		if next { // almost certainly a late packet of this subspace, which the algorithm takes for one of the next
			return Opened{}, ErrReplay
		}
		return Opened{}, ErrIntegrity
	}
	newest, ok := i.window.accept(seq)
	if !ok {
		return Opened{}, ErrReplay
	}
	plain := packet[off : off+body]
	padLen := int(plain[body-2])
	if padLen > body-trailerLen {
		return Opened{}, ErrPadding
	}
	n := body - trailerLen - padLen
	for j, b := range plain[n : n+padLen] {
		if b != byte(j+1) {
			return Opened{}, ErrPadding
		}
	}
	return Opened{Plain: plain[:n], NextHeader: plain[body-1], Newest: newest}, nil
}

// SPI reads the SPI of an ESP packet; false if the packet is too short to have one.
func SPI(packet []byte) (uint32, bool) {
	if len(packet) < HeaderLen {
		return 0, false
	}
	return binary.BigEndian.Uint32(packet), true
}

package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

const (
	bulkRead   = 256 << 10
	bulkBatch  = 512  // packets of one InputESP at most
	exactStart = 2048 // a message of a stream that nobody owns begins with so much, and takes more only as it comes
	carryLimit = 4096 // a parked reader keeps at most so much of a frame without its block
	// A corrupted stream shows as messages that make no sense. A stranger gets no second chance; a peer that has authenticated gets a few, since
	// a syntax error in one IKE message is not the stream's fault (RFC 9329 6.1).
	badInARow = 8
	// How long a message that the handler refused waits for Resume before it is offered again anyway: a lost wake-up must not stop a stream.
	offerAgain = 250 * time.Millisecond
)

var errPrefix = errors.New(`the stream does not begin with "IKETCP": the peer speaks something else on this port`)

// block is the buffer of bulk reads. Streams share a pool of them: a parked reader has none.
type block struct {
	data    [bulkRead]byte
	packets [bulkBatch][]byte
}

var blocks = sync.Pool{New: func() any { return new(block) }}

// reader is owned by the goroutine of Conn.Run.
type reader struct {
	s     *Conn
	raw   syscall.RawConn // nil: a stream without a socket
	stage string          // what is waited for, when a deadline strikes
	one   [1][]byte

	// exact reads
	msg  []byte
	loan loan // what Memory has lent for msg, beyond exactStart
	owes bool // there may be a loan

	// bulk reads
	call  func(fd uintptr) bool // bound once
	block *block                // nil while parked
	have  int                   // octets of an incomplete frame at the front of block
	carry []byte                // the same while parked
	n     int
	err   error

	// a stream that the kernel is to have
	look func(fd uintptr) bool // bound once
	head [lookahead]byte       // of the next message, not taken
	seen int                   // octets in head
	hold time.Time             // until when ESP may be for the SAs of the last IKE message

	bad   int  // messages without sense in a row
	spoke bool // Config.Spoke has been called
}

func (r *reader) init(s *Conn, raw syscall.RawConn) {
	r.s, r.raw, r.loan.s = s, raw, s
	r.call, r.look = r.readReady, r.lookReady
}

// late says what a stream was too slow for.
func (r *reader) late(l Limits) error {
	switch r.stage {
	case "prefix":
		return fmt.Errorf("no \"IKETCP\" prefix within %v of the connection", l.FirstMessage)
	case "first":
		return fmt.Errorf("no whole IKE message within %v of the connection", l.FirstMessage)
	}
	return fmt.Errorf("no IKE message for %v, or no IKE SA authenticated on it within %v", l.Silence, l.Unowned)
}

func (r *reader) run() error {
	defer r.release()
	s := r.s
	if !s.cfg.Originator {
		r.stage = "prefix"
		s.readBy(s.start.Add(s.cfg.Limits.FirstMessage))
		if err := r.prefix(); err != nil {
			return err
		}
		if s.cfg.Accepted != nil {
			s.cfg.Accepted()
		}
		r.stage = "first"
	}
	if s.cfg.Attach != nil && r.raw != nil {
		return r.attachable()
	}
	for !s.owned.Load() {
		if err := r.exact(); err != nil {
			return err
		}
		if s.closing.Load() {
			return r.discard()
		}
	}
	return r.large()
}

// large reads with large reads until the stream ends.
func (r *reader) large() error {
	r.drop(0)
	for {
		if err := r.bulk(); err != nil {
			return err
		}
		if r.s.closing.Load() {
			return r.discard()
		}
	}
}

// prefix reads the whole prefix, however it is cut, before anything else is looked at (RFC 9329 6.1). The first wrong octet ends the stream.
func (r *reader) prefix() error {
	var b [len(Prefix)]byte
	for n := 0; n < len(b); {
		k, err := r.s.conn.Read(b[n:])
		for i := n; i < n+k; i++ {
			if b[i] != Prefix[i] {
				return r.s.fault(transport.DropStreamPrefix, errPrefix)
			}
		}
		if n += k; err != nil && n < len(b) {
			return err
		}
	}
	return nil
}

// exact reads one message and not an octet more, so that a stream of a stranger costs little, and so that a socket can be handed over to the kernel
// between two messages.
func (r *reader) exact() error {
	var length [lengthLen]byte
	if err := r.readFull(length[:]); err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if n < lengthLen {
		return r.s.fault(transport.DropStreamCorrupt, errBadLength)
	}
	if err := r.body(n - lengthLen); err != nil {
		return err
	}
	r.s.cfg.Meter.Read(path.TCP)
	r.one[0] = r.msg
	err := r.message(r.msg, r.one[:])
	r.one[0] = nil
	r.drop(exactStart)
	return err
}

// body reads n octets into r.msg, which grows with what has come and not with what the length promises.
func (r *reader) body(n int) error {
	for have := 0; have < n; {
		if want := min(n, max(exactStart, 2*have)); cap(r.msg) < want {
			if want > exactStart && r.limited() {
				if r.owes = true; !r.s.cfg.Memory.take(&r.loan, want-exactStart) {
					return r.s.fault(transport.DropStreamMemory, errMemory)
				}
			}
			r.msg = append(make([]byte, 0, want), r.msg[:have]...)
		}
		to := min(n, cap(r.msg))
		if err := r.readFull(r.msg[have:to]); err != nil {
			return err
		}
		r.msg, have = r.msg[:to], to
	}
	r.msg = r.msg[:n]
	if r.owes {
		r.s.cfg.Memory.arrived(&r.loan)
	}
	return nil
}

func (r *reader) limited() bool { return !r.s.cfg.Originator && !r.s.owned.Load() }

// drop lets go of a message buffer larger than keep, and of what Memory lent for it.
func (r *reader) drop(keep int) {
	if cap(r.msg) > keep {
		r.msg = nil
	}
	if r.owes && cap(r.msg) <= exactStart {
		r.owes = false
		r.s.cfg.Memory.give(&r.loan)
	}
}

func (r *reader) release() {
	r.drop(0)
	if r.block != nil {
		r.putBlock()
	}
}

func (r *reader) putBlock() {
	clear(r.block.packets[:])
	blocks.Put(r.block)
	r.block = nil
}

// message sorts one message. single is a slice that holds just msg.
func (r *reader) message(msg []byte, single [][]byte) error {
	m := r.s.cfg.Meter
	switch classify(msg) {
	case empty:
		m.Drop(transport.DropEmpty, 1)
	case keepAlive:
		m.Drop(transport.DropKeepAlive, 1)
	case runt:
		m.Drop(transport.DropShort, 1)
		return r.noSense(fmt.Errorf("a message of %d octets is neither IKE nor ESP", len(msg)))
	case ike:
		return r.ike(msg[markerLen:])
	case esp:
		r.esp(single, len(msg))
	}
	return nil
}

func (r *reader) esp(packets [][]byte, octets int) {
	if r.s.cfg.ESP == nil {
		r.s.cfg.Meter.Drop(transport.DropNoDatapath, len(packets))
		return
	}
	r.s.cfg.Meter.ESPIn(path.TCP, len(packets), octets)
	r.s.cfg.ESP.InputESP(r.s.cfg.Path, packets)
}

func (r *reader) ike(b []byte) error {
	s := r.s
	if why, ok := transport.PlausibleIKE(b); !ok {
		s.cfg.Meter.Drop(why, 1)
		if why == transport.DropShort {
			return r.noSense(fmt.Errorf("an IKE message of %d octets is shorter than an IKE header (%d octets)", len(b), transport.IKEHeaderLen))
		}
		return r.noSense(fmt.Errorf("an IKE message of %d octets says in its header that it has %d", len(b), binary.BigEndian.Uint32(b[24:])))
	}
	r.bad = 0
	s.cfg.Meter.IKEIn(path.TCP, len(b))
	now, data := time.Now(), b
	if cap(r.msg) > exactStart { // the buffer of a large message goes with it; its loan ends when it is taken
		r.msg = nil
	} else {
		data = append([]byte(nil), b...)
	}
	if s.cfg.Spoke != nil && !r.spoke {
		r.spoke = true
		s.cfg.Spoke()
	}
	r.offer(transport.Datagram{Path: s.cfg.Path, Data: data, At: now})
	r.handed(data)
	if r.limited() {
		r.stage = "next"
		by := time.Now().Add(s.cfg.Limits.Silence) // from here: how long we were busy is not the peer's silence
		if end := s.start.Add(s.cfg.Limits.Unowned); end.Before(by) {
			by = end
		}
		s.readBy(by)
	}
	return nil
}

// offer hands a message over. While the handler cannot take it nothing more is read: TCP's own flow control then stops the peer (RFC 9329 6.2:
// the peer will not repeat what is dropped).
func (r *reader) offer(d transport.Datagram) {
	s := r.s
	if s.closing.Load() || s.cfg.IKE(d) {
		return
	}
	again := time.NewTimer(offerAgain)
	defer again.Stop()
	for {
		select {
		case <-s.resume:
		case <-again.C:
			again.Reset(offerAgain)
		case <-s.stop:
			return
		}
		if s.cfg.IKE(d) {
			return
		}
	}
}

// noSense judges a message that cannot be IKE or ESP (RFC 9329 6.1).
func (r *reader) noSense(why error) error {
	s := r.s
	r.bad++
	if !s.owned.Load() || r.bad >= badInARow {
		return s.fault(transport.DropStreamCorrupt, fmt.Errorf("the stream is corrupt, or the peer sends garbage: %w", why))
	}
	if d := transport.DropStreamCorrupt; s.cfg.Notices.Due(d) {
		s.cfg.Notices.Tell(d, s.cfg.Path, "dropped a message from %s: %v", s.cfg.Path.Peer(), why)
	}
	return nil
}

// bulk makes one large read and hands on every whole frame in it.
func (r *reader) bulk() error {
	if err := r.fill(); err != nil {
		return err
	}
	r.s.cfg.Meter.Read(path.TCP)
	b := r.block.data[:r.have]
	used, err := r.frames(b)
	if err != nil {
		return err
	}
	r.have = copy(b, b[used:])
	return nil
}

// frames hands on the whole frames of b, ESP in batches and everything in order, and returns their size.
func (r *reader) frames(b []byte) (used int, err error) {
	packets, octets := r.block.packets[:0], 0
	flush := func() {
		if len(packets) > 0 {
			r.esp(packets, octets)
			packets, octets = packets[:0], 0
		}
	}
	for !r.s.closing.Load() {
		msg, n, err := next(b[used:])
		if err != nil {
			flush()
			return used, r.s.fault(transport.DropStreamCorrupt, err)
		}
		if n == 0 {
			break
		}
		used += n
		if classify(msg) == esp {
			octets += len(msg)
			if packets = append(packets, msg); len(packets) == bulkBatch {
				flush()
			}
			continue
		}
		flush()
		if err := r.message(msg, nil); err != nil {
			return used, err
		}
	}
	flush()
	return used, nil
}

// fill reads at least one octet more into the block.
func (r *reader) fill() error {
	if r.raw == nil {
		if r.block == nil {
			r.block = blocks.Get().(*block)
		}
		n, err := r.s.conn.Read(r.block.data[r.have:])
		if r.have += n; n > 0 {
			return nil
		}
		return err
	}
	if err := r.raw.Read(r.call); err != nil {
		return err
	}
	if r.err != nil {
		return r.err
	}
	if r.n == 0 {
		return io.EOF
	}
	r.have += r.n
	return nil
}

// readReady is called by the poller when there may be something to read; false parks the reader, without a block.
func (r *reader) readReady(fd uintptr) bool {
	if r.block == nil {
		r.block = blocks.Get().(*block)
		r.have = copy(r.block.data[:], r.carry)
		r.carry = r.carry[:0]
	}
	for {
		r.n, r.err = syscall.Read(int(fd), r.block.data[r.have:])
		switch {
		case r.err == nil:
		case errors.Is(r.err, syscall.EINTR):
			continue
		case errors.Is(r.err, syscall.EAGAIN):
			if r.have <= carryLimit {
				r.carry = append(r.carry[:0], r.block.data[:r.have]...)
				r.putBlock()
			}
			return false
		}
		return true
	}
}

// discard reads on until the peer has closed too or the time for it is over, so that what we have sent is not lost to a reset.
func (r *reader) discard() error {
	var b [1024]byte
	for {
		if _, err := r.s.conn.Read(b[:]); err != nil {
			return err
		}
	}
}

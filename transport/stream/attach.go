package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

// A stream whose ESP the kernel carries begins like every other: prefix and first messages are read and written here. At Attach its socket is handed over between
// two messages. The kernel goes on with the first octet that has not been read and with the next that is written, so the reader must not hold an octet of the
// next message, and the writer must have finished the last. Until then the reader looks at a message before it takes it, and leaves ESP that comes right behind
// an IKE message where it is: it is for the SAs that this message is about to bring.

const (
	// holdESP is how long ESP at the head of a stream waits for Attach after an IKE message. Then it is dropped, since IKE waits behind it. That is enough to
	// check a signature and to install SAs on a busy host; a peer whose ESP overtakes its own IKE message is held up no longer than this.
	holdESP = 500 * time.Millisecond
	// attachWait is how long the reader waits for the writer to come to the end of a frame that the peer is slow to take. A peer that waits for us to read meanwhile
	// would wait for ever.
	attachWait = 2 * time.Second
	// lookahead is length and marker: enough to tell ESP from IKE.
	lookahead = lengthLen + markerLen
	// lastLooks bounds how often the end of an attached stream is looked at again while octets before it wait to be taken apart.
	lastLooks = 100

	offExchange = 18 // in the IKE header (RFC 7296 3.1)
	ikeSAInit   = 34
)

var (
	errUnowned  = errors.New("the TCP connection cannot be given to the kernel: no IKE SA owns it")
	errNoSocket = errors.New("the stream cannot be given to the kernel: it is no TCP connection")
	errKept     = errors.New("the stream cannot be given to the kernel: a connection on it has the userspace datapath")
	errSlow     = fmt.Errorf("the stream was not given to the kernel: the peer has not taken the message that is half sent within %v", attachWait)
	errAttached = fmt.Errorf("the kernel carries the ESP of this stream: %w", transport.ErrNoPath)
)

// Attach hands the stream's socket to the kernel at the next boundary of messages in both directions, with Config.Attach; without one there is nothing to do.
// done is called once, with nil when the kernel has it, perhaps before Attach returns; it must not block. The stream must have an owner. A stream that could not
// be handed over goes on as before.
func (s *Conn) Attach(done func(error)) {
	if s.cfg.Attach == nil {
		done(nil)
		return
	}
	s.mu.Lock()
	var err error
	switch {
	case s.w.raw == nil:
		err = errNoSocket
	case !s.owned.Load():
		err = errUnowned
	case s.reason != nil:
		err = transport.ErrNoPath
	case s.kept:
		err = errKept
	case !s.attached:
		s.attaching = append(s.attaching, done)
		select {
		case s.asked <- struct{}{}:
		default:
		}
		_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	done(err)
}

// Keep says that the kernel is not to have the socket of a stream which has an owner: it turns to large reads, as one without Config.Attach does.
func (s *Conn) Keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.Attach == nil || s.w.raw == nil || s.kept || s.attached || s.reason != nil || !s.owned.Load() {
		return
	}
	s.kept, s.waking = true, true
	select {
	case s.asked <- struct{}{}:
	default:
	}
	_ = s.conn.SetReadDeadline(time.Unix(1, 0))
}

// isKept reports, between two messages, whether the kernel is not to have the stream.
func (s *Conn) isKept() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waking && s.reason == nil {
		_ = s.conn.SetReadDeadline(time.Time{})
	}
	s.waking = false
	return s.kept
}

// woken reports whether a read deadline that struck was only to wake the reader, and takes it away.
func (s *Conn) woken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.attaching) == 0 && !s.waking || s.reason != nil {
		return false
	}
	s.waking = false
	_ = s.conn.SetReadDeadline(time.Time{})
	return true
}

// takeAttaching returns who waits for the hand-over.
func (s *Conn) takeAttaching() []func(error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := s.attaching
	s.attaching = nil
	if len(waiting) > 0 && s.reason == nil {
		_ = s.conn.SetReadDeadline(time.Time{})
	}
	return waiting
}

// attach hands the socket over if somebody waits for it. Called by the reader between two messages; done says that the kernel has the socket now.
func (r *reader) attach() (done bool) {
	s := r.s
	waiting := s.takeAttaching()
	if len(waiting) == 0 {
		return false
	}
	err := r.handOver()
	if err == nil {
		s.mu.Lock()
		s.attached = true
		waiting = append(waiting, s.attaching...)
		s.attaching = nil
		if s.reason == nil {
			_ = s.conn.SetReadDeadline(time.Time{})
		}
		s.mu.Unlock()
	}
	for _, f := range waiting {
		f(err)
	}
	return err == nil
}

// handOver waits until the writer has handed the socket over, or cannot.
func (r *reader) handOver() error {
	result := make(chan error, 1)
	r.s.w.attach(func(err error) { result <- err })
	timer := time.NewTimer(attachWait)
	defer timer.Stop()
	select {
	case err := <-result:
		return err
	case <-r.s.stop:
		return transport.ErrNoPath
	case <-timer.C:
		if r.s.w.withdraw() {
			return errSlow
		}
		return <-result
	}
}

// attachable reads like exact, message by message, until the stream ends or the kernel has the socket, and from then on as the kernel hands messages over.
func (r *reader) attachable() error {
	for {
		if r.s.isKept() {
			return r.large()
		}
		if r.attach() {
			r.drop(0)
			return r.messages()
		}
		esp, err := r.lookESP()
		switch {
		case err != nil && errors.Is(err, os.ErrDeadlineExceeded) && r.s.woken():
			continue
		case err != nil:
			return err
		case esp && r.held():
			continue
		}
		if err := r.exact(); err != nil {
			return err
		}
		if r.s.closing.Load() {
			return r.discard()
		}
	}
}

// lookESP waits for the next message, without taking any of it, and reports whether it is ESP.
func (r *reader) lookESP() (bool, error) {
	r.seen = 0
	if err := r.raw.Read(r.look); err != nil {
		return false, err
	}
	return r.seen == lookahead && classify(append(r.head[lengthLen:lookahead:lookahead], 0, 0, 0, 0)) == esp, nil
}

// lookReady is called by the poller. An incomplete message that is too short for a marker is waited for once more, and then left to exact, which knows about ends.
func (r *reader) lookReady(fd uintptr) bool {
	for {
		n, _, err := unix.Recvfrom(int(fd), r.head[:], unix.MSG_PEEK)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return false
		case err != nil || n == 0:
			return true // so will the next read say
		}
		enough := n == lookahead || n == r.seen || n >= lengthLen && n >= int(binary.BigEndian.Uint16(r.head[:]))
		r.seen = n
		return enough
	}
}

// held waits with ESP at the head of the stream until something else may be done about it, for as long as it may be for the SAs of the last IKE message; false
// says that it may not.
func (r *reader) held() bool {
	left := time.Until(r.hold)
	if left <= 0 {
		return false
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.s.asked:
	case <-r.s.stop:
		return false
	}
	return true
}

// handed notes that an IKE message was handed over: ESP right behind it may be for the SAs that it brings. The answer to an IKE_SA_INIT brings none.
func (r *reader) handed(msg []byte) {
	if r.s.cfg.Attach != nil {
		r.hold = time.Time{}
		if msg[offExchange] != ikeSAInit {
			r.hold = time.Now().Add(holdESP)
		}
	}
}

// readFull is io.ReadFull for one message that is begun: a deadline that was only to wake the reader does not interrupt it.
func (r *reader) readFull(b []byte) error {
	for n := 0; n < len(b); {
		k, err := r.s.conn.Read(b[n:])
		n += k
		switch {
		case err == nil || n == len(b):
		case errors.Is(err, os.ErrDeadlineExceeded) && r.s.cfg.Attach != nil && r.s.woken():
		case errors.Is(err, io.EOF) && n > 0:
			return io.ErrUnexpectedEOF
		default:
			return err
		}
	}
	return nil
}

// messages reads what the kernel hands over of an attached stream: each read is one IKE message with its marker (ESP and keepalives stay in the kernel).
func (r *reader) messages() error {
	r.call = r.messageReady
	for looks := 0; ; {
		if err := r.raw.Read(r.call); err != nil {
			return err
		}
		switch {
		case r.err != nil:
			return r.badFrame(r.err)
		case r.n == 0:
			// The end of the stream. It may be seen before the kernel has taken the octets before it apart: the last message, such as the answer to a Delete, would be lost.
			left := r.unread()
			if looks++; looks > 1 && left == 0 || looks > lastLooks {
				return io.EOF
			}
			if left > 0 {
				time.Sleep(time.Millisecond)
			}
			continue
		}
		r.s.cfg.Meter.Read(path.TCP)
		if err := r.message(r.block.data[:r.n], nil); err != nil {
			return err
		}
		if r.s.closing.Load() {
			return r.discard()
		}
	}
}

// unread is how many octets the kernel has not taken apart. Asking takes the socket's lock: what was at it is done then.
func (r *reader) unread() (n int) {
	_ = r.raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCINQ) })
	return n
}

// messageReady is called by the poller when there may be a message; false parks the reader, without a block.
func (r *reader) messageReady(fd uintptr) bool {
	if r.block == nil {
		r.block = blocks.Get().(*block)
	}
	for {
		r.n, r.err = syscall.Read(int(fd), r.block.data[:maxFrame]) // what does not fit would be lost: everything fits
		switch {
		case errors.Is(r.err, syscall.EINTR):
			continue
		case errors.Is(r.err, syscall.EAGAIN):
			r.putBlock()
			return false
		}
		return true
	}
}

// badFrame says what the errors of the kernel's own reader mean: a length of 0 or 1, or one that its buffer cannot hold.
func (r *reader) badFrame(err error) error {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.EPROTO) || errors.Is(err, unix.EBADMSG) {
		return r.s.fault(transport.DropStreamCorrupt, fmt.Errorf("the kernel cannot take the stream apart, the peer has sent a message of an impossible length: %w", err))
	}
	return err
}

// attach hands the socket over as soon as no frame is begun; done is called once, with mu held, and must not block.
func (w *writer) attach(done func(error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.state != alive:
		done(transport.ErrNoPath)
	case w.draining:
		w.handOver = done
	default:
		done(w.attachNow())
	}
}

// attachWaiting does what attach has left to the drainer. Called with mu held.
func (w *writer) attachWaiting() {
	if w.handOver == nil {
		return
	}
	err := transport.ErrNoPath
	if w.state == alive {
		err = w.attachNow()
	}
	w.handOver(err)
	w.handOver = nil
}

// withdraw takes back what attach has left to the drainer; false: it is done already.
func (w *writer) withdraw() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	waits := w.handOver != nil
	w.handOver = nil
	return waits
}

// attachNow hands the socket over. Nothing is begun on the wire. Called with mu held.
func (w *writer) attachNow() error {
	if err := w.s.cfg.Attach(w.raw); err != nil {
		return err
	}
	w.whole = true
	for len(w.esp) > 0 { // sealed by another datapath than the kernel: its keys are not the ones that the peer has now
		n, _ := count(w.esp[0].data[w.esp[0].off:])
		w.s.cfg.Meter.Drop(transport.DropSendQueue, n)
		w.shift()
	}
	return nil
}

// writeWhole writes one message to an attached socket, and waits until it takes it. The poller is of no use here: the kernel may say that there is room while
// it is still busy with the message before, and does not say again when it has done with it.
func (w *writer) writeWhole(frame []byte) (int, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		n, err := w.drained.do(w.raw, frame[lengthLen:])
		switch {
		case err != nil:
			return 0, err
		case n > 0:
			w.s.cfg.Meter.Write(path.TCP)
			return lengthLen + n, nil
		}
		time.Sleep(wait)
	}
}

// last makes sure that the last message to an attached socket is with TCP before the sending side is closed: the kernel keeps what a full socket does not take,
// and forgets it at the close. It takes another message only after that one, so a keepalive, which every receiver ignores, is the way to ask. Called by the
// drainer, without mu.
func (w *writer) last() error {
	waits := 0
	err := w.raw.Control(func(fd uintptr) { waits, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	if err == nil && waits > 0 {
		_, err = w.writeWhole([]byte{0, lengthLen + 1, 0xff})
	}
	return err
}

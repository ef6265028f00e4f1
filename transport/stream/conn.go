package stream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

// Limits bound a stream that no IKE SA owns. The originator's own streams have none of them: whoever dials sets a deadline on the exchange.
type Limits struct {
	FirstMessage time.Duration // from the start to the first whole IKE message; zero: 5 s
	Silence      time.Duration // from one IKE message to the next; zero: 30 s
	Unowned      time.Duration // from the start to Own; zero: 2 min, so that a person can type a password meanwhile
}

func (l Limits) withDefaults() Limits {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&l.FirstMessage, 5*time.Second)
	set(&l.Silence, 30*time.Second)
	set(&l.Unowned, 2*time.Minute)
	return l
}

// Queue bounds what waits for a peer that reads slowly.
type Queue struct {
	ESPBytes int           // octets of ESP frames; zero: 512 KiB
	ESPAge   time.Duration // older ESP is dropped: what it carried was sent again long ago; zero: 500 ms
	IKEBytes int           // octets of IKE frames; more closes the stream; zero: 256 KiB
	Flush    time.Duration // how long Close waits for the peer to take what is queued; zero: 1 s
}

func (q Queue) withDefaults() Queue {
	if q.ESPBytes == 0 {
		q.ESPBytes = 512 << 10
	}
	if q.ESPAge == 0 {
		q.ESPAge = 500 * time.Millisecond
	}
	if q.IKEBytes == 0 {
		q.IKEBytes = 256 << 10
	}
	if q.Flush == 0 {
		q.Flush = time.Second
	}
	return q
}

// Config says how a stream behaves and who gets what arrives on it.
type Config struct {
	Path       path.Path
	Originator bool // this side opened the connection and sends the prefix; otherwise it waits for it
	Limits     Limits
	Memory     *Memory // for messages of streams that nobody owns; nil: unbounded
	Queue      Queue
	Attach     func(syscall.RawConn) error   // hands the socket to the kernel, which carries the ESP then, see Conn.Attach; nil: ESP is carried here
	IKE        func(transport.Datagram) bool // as transport.Handler.IKE
	ESP        transport.ESPHandler          // nil: ESP is dropped and counted
	Accepted   func()                        // called once, when a responder has read the whole prefix; may be nil
	Spoke      func()                        // called once, for the first whole IKE message; may be nil
	Meter      *transport.Meter              // nil: a private one
	Notices    *transport.Notices
}

// Conn is one stream. Run reads it; all other methods are safe for concurrent use and never block on the peer.
type Conn struct {
	cfg   Config
	conn  net.Conn
	start time.Time
	r     reader
	w     writer

	resume  chan struct{} // a token: the handler may be asked again
	asked   chan struct{} // a token: somebody waits in attaching
	stop    chan struct{} // closed by the first of Close and fail
	owned   atomic.Bool
	closing atomic.Bool

	mu     sync.Mutex // guards what follows, and the read deadline while it depends on owned and closing
	reason error      // why the stream ended; the first one counts
	timer  *time.Timer
	// Who waits for the kernel to have the socket, and that it has it.
	attaching []func(error)
	attached  bool
	kept      bool // the kernel is not to have it
	waking    bool // the read deadline is there only to tell the reader that it is kept
}

// New makes a stream over c, which belongs to it from now on, and begins to send the prefix if this side is the originator.
func New(c net.Conn, cfg Config) *Conn {
	cfg.Limits, cfg.Queue = cfg.Limits.withDefaults(), cfg.Queue.withDefaults()
	if cfg.Meter == nil {
		cfg.Meter = new(transport.Meter)
	}
	s := &Conn{cfg: cfg, conn: c, start: time.Now(), resume: make(chan struct{}, 1), asked: make(chan struct{}, 1), stop: make(chan struct{})}
	var raw syscall.RawConn
	if sc, ok := c.(syscall.Conn); ok {
		raw, _ = sc.SyscallConn()
	}
	s.r.init(s, raw)
	s.w.init(s, raw)
	return s
}

// Path is the stream's path.
func (s *Conn) Path() path.Path { return s.cfg.Path }

// Run waits for the prefix (responder; an originator's was sent by New), then reads until the stream ends, and says why it did, in an operator's words. Afterwards
// the connection is closed. Call it once.
func (s *Conn) Run() error {
	err := s.r.run()
	if s.closing.Load() { // the peer has closed its side, or the time is over; what is queued may still be on its way out
		s.w.waitFlushed()
	}
	s.fail(s.explain(err))
	s.w.end()
	for _, f := range s.takeAttaching() {
		f(transport.ErrNoPath)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}

// SendIKE sends or queues one IKE message, parts concatenated, ahead of queued ESP. A peer that does not read for so long that the queue of IKE messages
// overflows loses the stream.
func (s *Conn) SendIKE(parts ...[]byte) error { return s.w.sendIKE(parts) }

// SendESP sends or queues whole frames, each ESP packet with its Length field. Frames that find no room are dropped, counted, and reported by ErrQueueFull.
func (s *Conn) SendESP(frames []byte) error { return s.w.sendESP(frames) }

// RoomESP reports whether the queue of ESP is at most half full, or the stream takes nothing any more, which SendESP will say. A sender that can wait
// waits for it rather than have frames dropped.
func (s *Conn) RoomESP() bool { return s.w.roomESP() }

// Own ends the limits for streams that nobody owns, and turns to large reads unless the kernel is to have the socket. It reports whether this call did it.
func (s *Conn) Own() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owned.Swap(true) {
		return false
	}
	if !s.closing.Load() {
		_ = s.conn.SetReadDeadline(time.Time{})
	}
	return true
}

// Resume offers the message again that the handler could not take.
func (s *Conn) Resume() {
	select {
	case s.resume <- struct{}{}:
	default:
	}
}

// Close lets what is queued be written, for at most Queue.Flush, and closes. It returns at once; Run returns when it is done.
func (s *Conn) Close() {
	s.mu.Lock()
	if s.closing.Swap(true) || s.reason != nil {
		s.mu.Unlock()
		return
	}
	s.reason = transport.ErrClosed
	close(s.stop)
	limit := time.Now().Add(s.cfg.Queue.Flush)
	_ = s.conn.SetDeadline(limit)
	s.timer = time.AfterFunc(s.cfg.Queue.Flush, func() { s.conn.Close() })
	s.mu.Unlock()
	s.w.finish()
}

// Cut ends the stream at once, with a reset, which leaves nothing behind on this side. It returns at once; Run then returns a *Fault.
func (s *Conn) Cut(why transport.Drop, reason error) {
	s.w.mu.Lock()
	s.w.die() // before fail: Run may wait for the queue of a stream that is closing
	s.w.mu.Unlock()
	if c, ok := s.conn.(interface{ SetLinger(sec int) error }); ok {
		_ = c.SetLinger(0)
	}
	s.fail(s.fault(why, reason))
}

// fail ends the stream at once; the first reason counts.
func (s *Conn) fail(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason == nil {
		s.reason = reason
		close(s.stop)
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	s.conn.Close()
}

// readBy sets the deadline of the next read of a stream with limits.
func (s *Conn) readBy(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.owned.Load() && !s.closing.Load() {
		_ = s.conn.SetReadDeadline(t)
	}
}

// Fault is the reason of a stream that this side ended because of what the peer did or failed to do.
type Fault struct {
	Why transport.Drop
	err error
}

func (f *Fault) Error() string { return f.err.Error() }

// Unwrap returns what exactly was wrong.
func (f *Fault) Unwrap() error { return f.err }

// fault counts and makes a Fault.
func (s *Conn) fault(why transport.Drop, err error) error {
	s.cfg.Meter.Drop(why, 1)
	return &Fault{why, err}
}

// explain turns the end of a read into an operator's words.
func (s *Conn) explain(err error) error {
	f, fault := errors.AsType[*Fault](err)
	switch {
	case s.closing.Load(), err == nil, errors.Is(err, net.ErrClosed):
		return transport.ErrClosed
	case fault: // it has its words already, whatever it wraps
		return f
	case errors.Is(err, os.ErrDeadlineExceeded):
		return s.fault(transport.DropStreamSlow, s.r.late(s.cfg.Limits))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe):
		return errors.New("the peer closed the TCP connection")
	case errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("the TCP connection was reset, by the peer or by a middlebox: %w", syscall.ECONNRESET)
	case errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("the peer closed the TCP connection: %w", syscall.EPIPE)
	case errors.Is(err, syscall.ETIMEDOUT):
		return fmt.Errorf("the TCP connection timed out, the peer does not acknowledge: %w", syscall.ETIMEDOUT)
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return fmt.Errorf("the TCP connection failed: %w", errno)
	}
	return err
}

package stream

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

const (
	queueBlock = 64 << 10 // at least one frame of the largest size
	queueSpans = 8        // ESP queued within this part of Queue.ESPAge shares its age
	plainPiece = 16 << 10 // ESP of one write where writing blocks: IKE waits for no more than this, or for one frame
)

// writerState is how far the end of a writer has come.
type writerState uint8

const (
	alive   writerState = iota
	ending              // takes nothing new, writes what is queued
	stopped             // writes nothing
)

// espBlock is queued whole frames, oldest first. data[off:] waits.
type espBlock struct {
	data []byte
	off  int
	at   time.Time // when its first frame was queued
}

var espBlocks = sync.Pool{New: func() any { return &espBlock{data: make([]byte, 0, queueBlock)} }}

// writer puts frames on the stream. While nothing waits, the caller's own goroutine writes without blocking. What the socket does not take is
// queued, and a goroutine that lives only while the queue does drains it: first the rest of a frame already begun, then IKE, then ESP.
type writer struct {
	s   *Conn
	raw syscall.RawConn // nil: every write goes through the queue

	mu       sync.Mutex // guards what follows; held only around writes that do not block
	state    writerState
	draining bool      // the drainer runs: it alone writes
	flying   *espBlock // what the drainer writes from, or nil
	rest     []byte    // of a frame that is begun on the wire, or the prefix
	ike      [][]byte
	ikeBytes int
	esp      []*espBlock
	espBytes int
	direct   attempt
	whole    bool        // the kernel has the socket: each write is one message, without length
	handOver func(error) // to be called when it has, at the end of the frame that is begun; or nil

	drainer   sync.WaitGroup
	drained   attempt               // owned by the drainer
	whenReady func(fd uintptr) bool // bound once
	flushed   chan struct{}         // closed when a closing writer has written all, or has given up
}

// attempt is one write that does not block.
type attempt struct {
	out  []byte
	n    int
	err  error
	send func(fd uintptr) // bound once
}

func (a *attempt) init(w *writer) {
	a.send = func(fd uintptr) {
		flags := unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
		if w.whole {
			flags = unix.MSG_DONTWAIT // espintcp refuses every other flag; the runtime takes care of SIGPIPE
		}
		for {
			a.n, a.err = unix.SendmsgN(int(fd), a.out, nil, nil, flags)
			if !errors.Is(a.err, unix.EINTR) {
				return
			}
		}
	}
}

// do writes without blocking; n is 0 when the socket is full. An attached socket takes a message whole or not at all.
func (a *attempt) do(raw syscall.RawConn, b []byte) (n int, err error) {
	a.out = b
	err = raw.Control(a.send)
	a.out = nil
	switch {
	case err != nil:
		return 0, err
	case errors.Is(a.err, unix.EAGAIN), errors.Is(a.err, unix.ENOBUFS): // of an attached socket: it is busy with the message before
		return 0, nil
	case a.err != nil:
		return 0, a.err
	}
	return a.n, nil
}

// init makes the writer ready. The first octets of an originator's stream are the prefix (RFC 9329 6.1), whatever is sent meanwhile.
func (w *writer) init(s *Conn, raw syscall.RawConn) {
	w.s, w.raw = s, raw
	w.flushed = make(chan struct{})
	w.direct.init(w)
	w.drained.init(w)
	w.whenReady = func(fd uintptr) bool {
		w.drained.send(fd)
		return !errors.Is(w.drained.err, unix.EAGAIN)
	}
	if s.cfg.Originator {
		w.mu.Lock()
		w.rest = append(w.rest, Prefix...)
		w.drain()
		w.mu.Unlock()
	}
}

// try writes without blocking; n is 0 when the socket is full. Called with mu held and nothing queued.
func (w *writer) try(b []byte) (n int, err error) {
	if n, err = w.direct.do(w.raw, b); n > 0 {
		w.s.cfg.Meter.Write(path.TCP)
	}
	return n, err
}

func (w *writer) sendIKE(parts [][]byte) error {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	if size > MaxIKE {
		return fmt.Errorf("%s: an IKE message of %d octets: %w (RFC 9329 3: at most %d)", w.s.cfg.Path, size, transport.ErrTooLarge, MaxIKE)
	}
	frame := appendIKE(make([]byte, 0, lengthLen+markerLen+size), parts...)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state != alive {
		return transport.ErrNoPath
	}
	if !w.draining && w.raw != nil {
		b := frame
		if w.whole {
			b = frame[lengthLen:]
		}
		n, err := w.try(b)
		if err != nil {
			return w.broken(err)
		}
		if n == len(b) {
			w.s.cfg.Meter.IKEOut(path.TCP, size)
			return nil
		}
		if n > 0 {
			w.rest = append(w.rest[:0], frame[n:]...)
			frame = nil
		}
	}
	if frame != nil {
		if w.ikeBytes+len(frame) > w.s.cfg.Queue.IKEBytes {
			return w.broken(w.s.fault(transport.DropStreamIKEQueue, fmt.Errorf("the peer does not read: %d octets of IKE messages wait for it", w.ikeBytes)))
		}
		w.ike = append(w.ike, frame)
		w.ikeBytes += len(frame)
	}
	w.s.cfg.Meter.IKEOut(path.TCP, size)
	w.drain()
	return nil
}

var errNotFrames = errors.New("SendESP on a stream takes whole frames, each with its 2-octet length")

func (w *writer) sendESP(b []byte) error {
	packets, ok := count(b)
	if !ok {
		return errNotFrames
	}
	if packets == 0 {
		return nil
	}
	size := len(b)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.state != alive:
		return transport.ErrNoPath
	case w.whole:
		w.s.cfg.Meter.Drop(transport.DropNoDatapath, packets)
		return errAttached
	}
	if !w.draining && w.raw != nil {
		n, err := w.try(b)
		if err != nil {
			return w.broken(err)
		}
		if n == size {
			w.s.cfg.Meter.ESPOut(path.TCP, packets, size)
			return nil
		}
		b = w.begun(b, n)
	}
	b = w.enqueue(b)
	w.drain()
	dropped, _ := count(b)
	w.s.cfg.Meter.ESPOut(path.TCP, packets-dropped, size-len(b))
	if dropped > 0 {
		w.s.cfg.Meter.Drop(transport.DropSendQueue, dropped)
		return transport.ErrQueueFull
	}
	return nil
}

func (w *writer) roomESP() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state != alive || w.espBytes <= w.s.cfg.Queue.ESPBytes/2
}

// begun notes that n octets of the frames b are written: the rest of the frame that they end in must follow. It returns the frames not begun.
func (w *writer) begun(b []byte, n int) []byte {
	end := boundary(b, n)
	w.rest = append(w.rest[:0], b[n:end]...)
	return b[end:]
}

// enqueue copies as many whole frames as there is room for and returns the others.
func (w *writer) enqueue(b []byte) []byte {
	if len(b) == 0 {
		return b
	}
	now := time.Now()
	w.expire(now)
	for len(b) > 0 {
		n := fit(b, w.s.cfg.Queue.ESPBytes-w.espBytes)
		if n == 0 {
			return b
		}
		tail := w.tail(now)
		k := fit(b[:n], cap(tail.data)-len(tail.data))
		if k == 0 {
			tail = w.newTail(now)
			k = fit(b[:n], cap(tail.data))
		}
		tail.data = append(tail.data, b[:k]...)
		w.espBytes += k
		b = b[k:]
	}
	return b
}

func (w *writer) tail(now time.Time) *espBlock {
	if len(w.esp) > 0 {
		if t := w.esp[len(w.esp)-1]; now.Sub(t.at) <= w.s.cfg.Queue.ESPAge/queueSpans {
			return t
		}
	}
	return w.newTail(now)
}

func (w *writer) newTail(now time.Time) *espBlock {
	t := espBlocks.Get().(*espBlock)
	t.data, t.off, t.at = t.data[:0], 0, now
	w.esp = append(w.esp, t)
	return t
}

// expire drops ESP that has waited too long. The block that the drainer is writing from stays.
func (w *writer) expire(now time.Time) {
	for len(w.esp) > 0 && now.Sub(w.esp[0].at) > w.s.cfg.Queue.ESPAge {
		b := w.esp[0]
		if b == w.flying {
			return
		}
		n, _ := count(b.data[b.off:])
		w.s.cfg.Meter.Drop(transport.DropSendQueue, n)
		w.shift()
	}
}

// shift takes the first block out of the queue.
func (w *writer) shift() {
	b := w.esp[0]
	w.espBytes -= len(b.data) - b.off
	w.esp[0] = nil
	if w.esp = w.esp[1:]; len(w.esp) == 0 {
		w.esp = nil
	}
	espBlocks.Put(b)
}

// broken ends the stream for a reason found while writing. Called with mu held.
func (w *writer) broken(why error) error {
	w.die()
	w.s.fail(w.s.explain(why))
	return fmt.Errorf("%w (%w)", transport.ErrNoPath, why)
}

// die drops everything that is queued. Called with mu held.
func (w *writer) die() {
	if w.state == stopped {
		return
	}
	w.state = stopped
	if w.handOver != nil {
		w.handOver(transport.ErrNoPath)
		w.handOver = nil
	}
	w.esp, w.espBytes, w.ike, w.ikeBytes, w.rest = nil, 0, nil, 0, nil // not into the pool: the drainer may be writing from a block
	close(w.flushed)
}

// finish lets the queue be written and then closes the sending side.
func (w *writer) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state != alive {
		return
	}
	w.state = ending
	switch {
	case w.draining:
	case w.whole:
		w.draining = true
		w.drainer.Go(w.run)
	default:
		w.halfClose()
	}
}

// halfClose tells the peer that nothing more comes. Called with mu held.
func (w *writer) halfClose() {
	w.die()
	if c, ok := w.s.conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	} else {
		w.s.conn.Close()
	}
}

// waitFlushed returns when a closing writer is done; Close has set a deadline for it.
func (w *writer) waitFlushed() { <-w.flushed }

// end is called when the connection is closed; it waits for the drainer.
func (w *writer) end() {
	w.mu.Lock()
	w.die()
	w.mu.Unlock()
	w.drainer.Wait()
}

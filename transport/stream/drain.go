package stream

import (
	"time"

	"github.com/ikegod/ikegod/pkg/path"
)

// source is where the drainer's current write comes from.
type source uint8

const (
	nothing source = iota
	fromRest
	fromIKE
	fromESP
)

// drain starts the drainer if there is something to write. Called with mu held.
func (w *writer) drain() {
	if w.draining || (len(w.rest) == 0 && len(w.ike) == 0 && len(w.esp) == 0) {
		return
	}
	w.draining = true
	w.drainer.Go(w.run)
}

// run writes until nothing is queued.
func (w *writer) run() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		if len(w.rest) == 0 {
			w.attachWaiting()
		}
		b, from := w.pick()
		if from == nothing {
			w.stop()
			return
		}
		w.mu.Unlock()
		n, err := w.write(b)
		w.mu.Lock()
		w.flying = nil
		if w.state == stopped {
			w.draining = false
			return
		}
		w.wrote(from, n)
		if err != nil {
			w.draining = false
			_ = w.broken(err)
			return
		}
	}
}

// stop ends the drainer: nothing is queued. Called with mu held.
func (w *writer) stop() {
	if w.state == ending && w.whole {
		w.mu.Unlock()
		_ = w.last() // an error is that of the stream, and its reader's to tell
		w.mu.Lock()
	}
	w.draining = false
	if w.state == ending {
		w.halfClose()
	}
}

// pick chooses what goes next: a frame begun is finished first, so that nothing is ever inside a frame; then IKE; then ESP that is not too old.
func (w *writer) pick() ([]byte, source) {
	switch {
	case w.state == stopped:
		return nil, nothing
	case len(w.rest) > 0:
		return w.rest, fromRest
	case len(w.ike) > 0:
		return w.ike[0], fromIKE
	}
	w.expire(time.Now())
	if len(w.esp) == 0 {
		return nil, nothing
	}
	w.flying = w.esp[0]
	b := w.flying.data[w.flying.off:]
	if w.raw == nil {
		if n := fit(b, plainPiece); n > 0 {
			b = b[:n]
		} else {
			b = b[:boundary(b, 1)]
		}
	}
	return b, fromESP
}

// wrote accounts for n octets that are on the wire.
func (w *writer) wrote(from source, n int) {
	switch from {
	case nothing:
	case fromRest:
		w.rest = w.rest[n:]
	case fromIKE:
		if n == 0 {
			return
		}
		w.rest = w.ike[0][n:]
		w.ikeBytes -= len(w.ike[0])
		w.ike[0] = nil
		if w.ike = w.ike[1:]; len(w.ike) == 0 {
			w.ike = nil
		}
	case fromESP:
		b := w.esp[0]
		w.espBytes -= len(b.data) - b.off
		left := w.begun(b.data[b.off:], n)
		b.off = len(b.data) - len(left)
		w.espBytes += len(left)
		if len(left) == 0 {
			w.shift()
		}
	}
}

// write writes at least one octet, and waits until the socket takes it.
func (w *writer) write(b []byte) (int, error) {
	if w.raw == nil {
		n, err := w.s.conn.Write(b)
		w.s.cfg.Meter.Write(path.TCP)
		return n, err
	}
	if w.whole {
		return w.writeWhole(b)
	}
	w.drained.out = b
	err := w.raw.Write(w.whenReady)
	w.drained.out = nil
	if err != nil {
		return 0, err
	}
	if w.drained.err != nil {
		return 0, w.drained.err
	}
	w.s.cfg.Meter.Write(path.TCP)
	return w.drained.n, nil
}

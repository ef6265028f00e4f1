package mux

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
	"github.com/ikegod/ikegod/transport/udp"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// recorder is a handler that keeps what it gets.
type recorder struct {
	mu       sync.Mutex
	ike      []transport.Datagram
	esp      [][]byte
	calls    int // of InputESP
	espPath  path.Path
	accepted []path.Path
	lost     map[path.Path]error
	busy     int // so many IKE messages are refused first
	changed  chan struct{}
}

func newRecorder() *recorder {
	return &recorder{lost: make(map[path.Path]error), changed: make(chan struct{}, 1)}
}

func (r *recorder) note() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *recorder) IKE(d transport.Datagram) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.note()
	if r.busy > 0 {
		r.busy--
		return false
	}
	r.ike = append(r.ike, d)
	return true
}

func (r *recorder) InputESP(p path.Path, packets [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	r.espPath = p
	for _, b := range packets {
		r.esp = append(r.esp, bytes.Clone(b))
	}
	r.note()
}

func (r *recorder) Accepted(p path.Path) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.accepted = append(r.accepted, p)
	r.note()
}

func (r *recorder) Lost(p path.Path, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, twice := r.lost[p]; twice {
		panic(fmt.Sprintf("Lost(%s) twice", p))
	}
	r.lost[p] = err
	r.note()
}

// message is the ith IKE message.
func (r *recorder) message(i int) transport.Datagram {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ike[i]
}

// until waits for cond, which it calls with the lock held.
func (r *recorder) until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond) // counters change without a call
	defer tick.Stop()
	for {
		r.mu.Lock()
		ok := cond()
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-r.changed:
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func ikeMessage(body string) []byte {
	b := make([]byte, transport.IKEHeaderLen, transport.IKEHeaderLen+len(body))
	b[0] = 0x11
	b = append(b, body...)
	binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
	return b
}

func espPacket(seq uint32, size int) []byte {
	b := make([]byte, size)
	binary.BigEndian.PutUint32(b, 0xc0ffee01)
	binary.BigEndian.PutUint32(b[4:], seq)
	for i := 8; i < size; i++ {
		b[i] = byte(seq)
	}
	return b
}

func frame(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b)+2)), b...)
}

func start(t *testing.T, o Options) (*Mux, *recorder) {
	t.Helper()
	if o.ListenUDP && len(o.UDPPorts) == 0 {
		o.UDPPorts = []udp.Port{{}, {Marker: true}}
	}
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r := newRecorder()
	m.Start(r, r)
	t.Cleanup(func() { m.Close() })
	return m, r
}

func dial(t *testing.T, from, to *Mux) path.Path {
	t.Helper()
	p, err := from.Dial(t.Context(), netip.Addr{}, netip.AddrPortFrom(loopback, to.TCPPorts()[0]))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestUDPBothWays(t *testing.T) {
	west, wr := start(t, Options{ListenUDP: true})
	east, er := start(t, Options{ListenUDP: true})
	for i, kind := range []string{"500", "4500"} {
		p, err := west.UDPPath(netip.Addr{}, west.UDPPorts()[i].Number, netip.AddrPortFrom(loopback, east.UDPPorts()[i].Number))
		if err != nil {
			t.Fatal(err)
		}
		if p.Local.Addr() != loopback {
			t.Fatalf("the path %s does not name the address that packets leave from", p)
		}
		ask, answer := ikeMessage("ask "+kind), ikeMessage("answer "+kind)
		if err := west.Send(p, ask[:9], ask[9:]); err != nil {
			t.Fatal(err)
		}
		er.until(t, "request", func() bool { return len(er.ike) == i+1 })
		d := er.message(i)
		if !bytes.Equal(d.Data, ask) {
			t.Fatalf("got %q", d.Data)
		}
		if err := east.Send(d.Path, answer); err != nil {
			t.Fatal(err)
		}
		wr.until(t, "reply", func() bool { return len(wr.ike) == i+1 })
		if d := wr.message(i); d.Path != p || !bytes.Equal(d.Data, answer) {
			t.Fatalf("got %q on %s, want it on %s", d.Data, d.Path, p)
		}
	}
}

func TestTCPBothWays(t *testing.T) {
	before := runtime.NumGoroutine()
	west, wr := start(t, Options{})
	east, er := start(t, Options{ListenTCP: []uint16{0}})
	p := dial(t, west, east)
	ask, answer := ikeMessage("ask"), ikeMessage("answer")
	if err := west.Send(p, ask); err != nil {
		t.Fatal(err)
	}
	er.until(t, "request", func() bool { return len(er.ike) == 1 && len(er.accepted) == 1 })
	q := er.message(0).Path
	er.until(t, "the accepted path", func() bool { return er.accepted[0] == q })
	if q.Remote != p.Local || q.Local != p.Remote || q.Kind != path.TCP || q.Generation == 0 || q.Generation == p.Generation {
		t.Fatalf("paths %v and %v do not fit", p, q)
	}
	if err := east.Send(q, answer); err != nil {
		t.Fatal(err)
	}
	wr.until(t, "reply", func() bool { return len(wr.ike) == 1 })
	west.Own(p)
	east.Own(q)
	if err := west.SendESP(p, append(frame(espPacket(1, 100)), frame(espPacket(2, 1400))...), 0); err != nil {
		t.Fatal(err)
	}
	er.until(t, "ESP on its path", func() bool {
		return len(er.esp) == 2 && bytes.Equal(er.esp[1], espPacket(2, 1400)) && er.espPath == q
	})
	if err := east.Send(q, ikeMessage("last words")); err != nil {
		t.Fatal(err)
	}
	east.CloseStream(q)
	wr.until(t, "last words and the end", func() bool { return len(wr.ike) == 2 && wr.lost[p] != nil })
	er.until(t, "Lost on the closing side", func() bool { return errors.Is(er.lost[q], transport.ErrClosed) })
	if err := west.Send(p, ask); !errors.Is(err, transport.ErrNoPath) {
		t.Fatalf("Send on a closed stream: %v", err)
	}
	if c := east.Counters(); c.Streams != 0 || c.Unowned != 0 || c.TCP.IKEIn != 1 || c.TCP.ESPIn != 2 {
		t.Fatalf("counters: %+v", c)
	}
	west.Close()
	east.Close()
	noMoreGoroutines(t, before)
}

// noMoreGoroutines fails when goroutines are left behind.
func noMoreGoroutines(t *testing.T, before int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for runtime.NumGoroutine() > before {
		if ctx.Err() != nil {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
		runtime.Gosched()
	}
}

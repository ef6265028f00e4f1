package stream

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/transport"
)

// These tests attach a socket to nothing: Config.Attach only notes what the kernel would find. What follows on the wire is as the kernel's own socket would
// have it, without lengths; testing/uml does the same with the kernel.

// handOver is a Config.Attach that notes what is unread at the moment of the hand-over.
type handOver struct {
	mu     sync.Mutex
	unread []byte
	calls  int
	fail   error
}

func (h *handOver) attach(c syscall.RawConn) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls++
	if h.fail != nil {
		return h.fail
	}
	b := make([]byte, 1<<16)
	n := 0
	_ = c.Control(func(fd uintptr) { n, _, _ = unix.Recvfrom(int(fd), b, unix.MSG_PEEK|unix.MSG_DONTWAIT) })
	h.unread = b[:max(n, 0)]
	return nil
}

func (k *sink) until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	limit := time.NewTimer(10 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-k.changed:
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("not within 10 s: %s; got %q", what, k.all())
		}
	}
}

func result(t *testing.T, s *Conn) error {
	t.Helper()
	c := make(chan error, 1)
	s.Attach(func(err error) { c <- err })
	select {
	case err := <-c:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("no answer to Attach within 10 s")
		return nil
	}
}

// auth is an IKE message of IKE_AUTH: ESP may follow it.
func auth(body string) []byte {
	b := ikeMessage(body)
	b[offExchange] = 35
	return b
}

// TestAttachPosition: whatever comes right behind the last IKE message is left to the kernel, to the octet; what is sent before is framed here, what is sent
// after is not.
func TestAttachPosition(t *testing.T) {
	near, far := tcpPair(t)
	k, h := newSink(), new(handOver)
	cfg := k.config()
	cfg.Attach = h.attach
	var s *Conn
	attached := make(chan error, 1)
	k.onIKE = func(int) { // on the reader's goroutine, as early as can be
		s.Own()
		if err := s.SendIKE(ikeMessage("before")); err != nil {
			t.Error(err)
		}
		s.Attach(func(err error) { attached <- err })
	}
	s = New(near, cfg)
	done := run(s)
	behind := append(frame(espPacket(1, 100)), frame(espPacket(2, 1400))[:77]...) // the second has not come wholly
	stream := append([]byte(Prefix), appendIKE(nil, auth("hello"))...)
	if err := far.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := far.Write(append(stream, behind...)); err != nil {
		t.Fatal(err)
	}
	if err := <-attached; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(h.unread, behind) {
		t.Fatalf("the kernel finds %d octets %.20x, want %d octets %.20x", len(h.unread), h.unread, len(behind), behind)
	}
	if got := k.all(); len(got) != 1 || got[0].data != string(auth("hello")) {
		t.Fatalf("got %q", got)
	}
	if err := s.SendIKE(ikeMessage("after")); err != nil {
		t.Fatal(err)
	}
	want := append(ikeFrame("before"), ikeFrame("after")[lengthLen:]...)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%v; on the wire %q, want %q", err, got, want)
	}
	if err := s.SendESP(frame(espPacket(1, 60))); !errors.Is(err, transport.ErrNoPath) {
		t.Fatalf("SendESP on an attached stream: %v", err)
	}
	if err := result(t, s); err != nil || h.calls != 1 {
		t.Fatalf("asked twice: %v, %d calls", err, h.calls)
	}
	s.Close()
	far.Close()
	if err := <-done; !errors.Is(err, transport.ErrClosed) {
		t.Fatal(err)
	}
}

// TestAttachInTheMiddle: neither a message that has half come nor one that has half gone is cut by the hand-over.
func TestAttachInTheMiddle(t *testing.T) {
	near, far := tcpPair(t)
	if err := errors.Join(near.SetWriteBuffer(4096), far.SetReadBuffer(4096), far.SetDeadline(time.Now().Add(10*time.Second))); err != nil {
		t.Fatal(err)
	}
	k, h := newSink(), new(handOver)
	cfg := k.config()
	cfg.Attach, cfg.Queue.IKEBytes = h.attach, 1<<20
	s := New(near, cfg)
	done := run(s)
	half := ikeFrame("a message that takes its time")
	first := append(append([]byte(Prefix), ikeFrame("hello")...), half[:9]...)
	if _, err := far.Write(first); err != nil {
		t.Fatal(err)
	}
	k.until(t, "hello", func() bool { return len(k.all()) == 1 })
	s.Own()
	var sent []byte
	for i := range 8 { // more than the buffers of both sockets take
		m := ikeMessage(strings.Repeat(string(rune('a'+i)), 60000))
		if err := s.SendIKE(m); err != nil {
			t.Fatal(err)
		}
		sent = appendIKE(sent, m)
	}
	answer := make(chan error, 1)
	s.Attach(func(err error) { answer <- err })
	if _, err := far.Write(half[9:]); err != nil {
		t.Fatal(err)
	}
	k.until(t, "the half message", func() bool { return len(k.all()) == 2 })
	select {
	case err := <-answer:
		t.Fatalf("handed over (%v) with a frame half on the wire", err)
	default:
	}
	// The frame that is begun is finished. The next is the kernel's, which adds the length; here nobody does.
	const head = 100
	var got []byte
	framed := 0
	for want := sent; ; {
		if len(got) >= head && !bytes.HasPrefix(got, want[:head]) {
			if !bytes.HasPrefix(got, want[lengthLen:head]) {
				t.Fatalf("after %d framed messages: the stream is out of step: %q", framed, got[:head])
			}
			break
		}
		if size := len(sent) / 8; len(got) >= size {
			if !bytes.Equal(got[:size], want[:size]) {
				t.Fatalf("after %d framed messages: a damaged frame", framed)
			}
			got, want = got[size:], want[size:]
			if framed++; len(want) == 0 {
				t.Fatal("everything is sent and nothing handed over")
			}
			continue
		}
		b := make([]byte, 1<<16)
		n, err := far.Read(b)
		if err != nil {
			t.Fatalf("after %d framed messages and %d octets: %v", framed, len(got), err)
		}
		got = append(got, b[:n]...)
	}
	if err := <-answer; err != nil || framed == 0 {
		t.Fatalf("%v; %d framed messages", err, framed)
	}
	if len(h.unread) != 0 {
		t.Fatalf("the kernel finds %q", h.unread)
	}
	s.Close()
	far.Close()
	<-done
}

// TestAttachToASlowPeer: a peer that does not take what is half sent, since it waits to be read itself, is read again after a while, and the stream goes on.
func TestAttachToASlowPeer(t *testing.T) {
	near, far := tcpPair(t)
	if err := errors.Join(near.SetWriteBuffer(4096), far.SetReadBuffer(4096), far.SetDeadline(time.Now().Add(20*time.Second))); err != nil {
		t.Fatal(err)
	}
	k, h := newSink(), new(handOver)
	cfg := k.config()
	cfg.Attach, cfg.Queue.IKEBytes = h.attach, 1<<20
	s := New(near, cfg)
	done := run(s)
	if _, err := far.Write(append([]byte(Prefix), ikeFrame("hello")...)); err != nil {
		t.Fatal(err)
	}
	k.until(t, "hello", func() bool { return len(k.all()) == 1 })
	s.Own()
	var sent []byte
	for range 8 { // more than the buffers of both sockets take
		m := ikeMessage(strings.Repeat("x", 60000))
		if err := s.SendIKE(m); err != nil {
			t.Fatal(err)
		}
		sent = appendIKE(sent, m)
	}
	answer := make(chan error, 1)
	s.Attach(func(err error) { answer <- err })
	if _, err := far.Write(ikeFrame("read me first")); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; !errors.Is(err, errSlow) {
		t.Fatalf("handed over: %v", err)
	}
	k.until(t, "what came meanwhile", func() bool { return len(k.all()) == 2 })
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("what was on its way came damaged: %v", err)
	}
	if err := result(t, s); err != nil { // now there is a boundary
		t.Fatal(err)
	}
	s.Close()
	far.Close()
	<-done
}

// TestESPBeforeItsTime: ESP that is before an IKE message of its own, such as that of a peer whose first packets overtake its answer, does not keep that
// message back for long, before and after an owner is there.
func TestESPBeforeItsTime(t *testing.T) {
	near, far := tcpPair(t)
	k, h := newSink(), new(handOver)
	cfg := k.config()
	cfg.Attach = h.attach
	s := New(near, cfg)
	done := run(s)
	b := append([]byte(Prefix), appendIKE(nil, auth("one"))...)
	b = append(append(b, frame(espPacket(1, 100))...), ikeFrame("two")...)
	b = append(append(b, frame([]byte{0xff})...), frame(espPacket(2, 100))...)
	b = append(append(b, appendIKE(nil, auth("three"))...), frame(espPacket(3, 100))...)
	if _, err := far.Write(b); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	k.until(t, "the third message", func() bool { return len(k.all()) == 5 })
	if took := time.Since(start); took < holdESP || took > holdESP+5*time.Second {
		t.Errorf("took %v, want one wait of %v: after \"one\", and none after \"two\", which is of IKE_SA_INIT", took, holdESP)
	}
	kinds := ""
	for _, g := range k.all() {
		kinds += map[kind]string{ike: "I", esp: "E"}[g.kind]
	}
	if kinds != "IEIEI" {
		t.Errorf("came as %s", kinds)
	}
	s.Own()
	if err := result(t, s); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(h.unread, frame(espPacket(3, 100))) {
		t.Errorf("the kernel finds %x", h.unread)
	}
	s.Close()
	far.Close()
	<-done
}

// TestAttachRefused: a stream that cannot be handed over goes on, and says why.
func TestAttachRefused(t *testing.T) {
	near, far := tcpPair(t)
	k, h := newSink(), &handOver{fail: errors.New("no such protocol")}
	cfg := k.config()
	cfg.Attach = h.attach
	s := New(near, cfg)
	done := run(s)
	if _, err := far.Write(append([]byte(Prefix), ikeFrame("one")...)); err != nil {
		t.Fatal(err)
	}
	k.until(t, "one", func() bool { return len(k.all()) == 1 })
	if err := result(t, s); !errors.Is(err, errUnowned) {
		t.Fatalf("without an owner: %v", err)
	}
	s.Own()
	if err := result(t, s); !errors.Is(err, h.fail) {
		t.Fatalf("got %v", err)
	}
	if _, err := far.Write(ikeFrame("two")); err != nil {
		t.Fatal(err)
	}
	k.until(t, "two", func() bool { return len(k.all()) == 2 })
	if err := s.SendIKE(ikeMessage("three")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(ikeFrame("three")))
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, ikeFrame("three")) {
		t.Fatalf("%v %q", err, got)
	}
	far.Close()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "the peer closed") {
		t.Fatal(err)
	}
	if err := result(t, s); !errors.Is(err, transport.ErrNoPath) {
		t.Fatalf("after the end: %v", err)
	}
}

// TestAttachOfADyingStream: whoever waits hears of the end, too: the writer may never come to a boundary.
func TestAttachOfADyingStream(t *testing.T) {
	near, far := tcpPair(t)
	if err := errors.Join(near.SetWriteBuffer(4096), far.SetReadBuffer(4096)); err != nil {
		t.Fatal(err)
	}
	k, h := newSink(), new(handOver)
	cfg := k.config()
	cfg.Attach, cfg.Originator, cfg.Queue.IKEBytes = h.attach, true, 1<<20
	s := New(near, cfg)
	done := run(s)
	s.Own()
	for range 8 {
		if err := s.SendIKE(ikeMessage(strings.Repeat("x", 60000))); err != nil {
			t.Fatal(err)
		}
	}
	answer := make(chan error, 1)
	s.Attach(func(err error) { answer <- err })
	s.Cut(transport.DropStreamLimit, errors.New("enough"))
	if err := <-answer; !errors.Is(err, transport.ErrNoPath) {
		t.Fatal(err)
	}
	<-done
	if h.calls != 0 {
		t.Fatal("a frame is half on the wire, and the socket was handed over")
	}
}

// TestKeep: a stream that the kernel is not to have after all turns to large reads, wherever its reader is at the moment: between messages, in one, or with ESP that it
// holds back. Nothing is lost, and nothing is handed over any more.
func TestKeep(t *testing.T) {
	half := frame(espPacket(9, 300))
	for name, first := range map[string][]byte{
		"between": nil,
		"within":  half[:100],
		"held":    frame(espPacket(1, 100)),
	} {
		t.Run(name, func(t *testing.T) {
			near, far := tcpPair(t)
			k, h := newSink(), new(handOver)
			cfg := k.config()
			cfg.Attach = h.attach
			s := New(near, cfg)
			done := run(s)
			if _, err := far.Write(append(append([]byte(Prefix), appendIKE(nil, auth("hello"))...), first...)); err != nil {
				t.Fatal(err)
			}
			k.until(t, "the IKE message", func() bool { return len(k.all()) == 1 })
			s.Keep() // nobody owns it: nothing happens
			s.Own()
			s.Keep()
			rest := []byte(nil)
			want := 1
			switch name {
			case "within":
				rest, want = half[100:], 2
			case "held":
				want = 2
			}
			for i := range 20 {
				rest = append(rest, frame(espPacket(uint32(i), 200))...)
			}
			begun := time.Now()
			if _, err := far.Write(append(rest, ikeFrame("and on")...)); err != nil {
				t.Fatal(err)
			}
			want += 20 + 1
			k.until(t, "everything", func() bool { return len(k.all()) == want })
			if took := time.Since(begun); took > holdESP/2 {
				t.Errorf("after %s: ESP was held back", took)
			}
			if err := s.SendESP(frame(espPacket(1, 60))); err != nil {
				t.Errorf("SendESP: %v", err)
			}
			s.Attach(func(err error) {
				if !errors.Is(err, errKept) {
					t.Errorf("Attach: %v, want %v", err, errKept)
				}
			})
			if h.calls != 0 {
				t.Error("the kernel has it")
			}
			s.Close()
			far.Close()
			<-done
		})
	}
}

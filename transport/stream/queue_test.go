package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ikegod/ikegod/transport"
)

// parse takes the stream that a peer has read apart; it fails the test when a frame is damaged.
func parse(t *testing.T, b []byte) (messages []got, rest int) {
	t.Helper()
	for {
		msg, n, err := next(b)
		if err != nil {
			t.Fatalf("after %d messages: %v", len(messages), err)
		}
		if n == 0 {
			return messages, len(b)
		}
		b = b[n:]
		switch classify(msg) {
		case ike:
			if _, ok := transport.PlausibleIKE(msg[markerLen:]); !ok {
				t.Fatalf("after %d messages: a damaged IKE message", len(messages))
			}
			messages = append(messages, got{ike, string(msg[markerLen:])})
		case esp:
			if !bytes.Equal(msg, espPacket(uint32(msg[4])<<24|uint32(msg[5])<<16|uint32(msg[6])<<8|uint32(msg[7]), len(msg))) {
				t.Fatalf("after %d messages: a damaged ESP packet", len(messages))
			}
			messages = append(messages, got{esp, string(msg)})
		default:
			t.Fatalf("after %d messages: a message of %d octets nobody sent", len(messages), len(msg))
		}
	}
}

func sequence(g got) uint32 {
	return uint32(g.data[4])<<24 | uint32(g.data[5])<<16 | uint32(g.data[6])<<8 | uint32(g.data[7])
}

// fill sends ESP until the queue refuses, and returns the next sequence number.
func fill(t *testing.T, s *Conn, seq uint32) uint32 {
	t.Helper()
	for range 100_000 {
		var buf []byte
		for range 10 {
			seq++
			buf = append(buf, frame(espPacket(seq, 1400))...)
		}
		if err := s.SendESP(buf); errors.Is(err, transport.ErrQueueFull) {
			return seq
		} else if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the queue never fills")
	return 0
}

// TestPeerThatDoesNotRead: on a real socket and on a stream without one, IKE overtakes queued ESP, frames stay whole, queues stay bounded.
func TestPeerThatDoesNotRead(t *testing.T) {
	for _, kindOf := range []string{"socket", "pipe"} {
		t.Run(kindOf, func(t *testing.T) {
			var near, far net.Conn
			if kindOf == "pipe" {
				near, far = net.Pipe()
			} else {
				near, far = tcpPair(t)
			}
			k := newSink()
			cfg := k.config()
			cfg.Meter = new(transport.Meter)
			cfg.Queue.ESPAge = time.Hour // this test is about octets
			s := New(near, cfg)
			s.Own()
			done := run(s)
			if _, err := far.Write([]byte(Prefix)); err != nil {
				t.Fatal(err)
			}
			seq := fill(t, s, 0)
			for i := range 5 {
				if err := s.SendIKE(ikeMessage(fmt.Sprintf("urgent %d", i))); err != nil {
					t.Fatal(err)
				}
			}
			fill(t, s, seq)
			s.w.mu.Lock()
			held := 0
			for _, b := range s.w.esp {
				held += cap(b.data)
			}
			queued := s.w.espBytes
			s.w.mu.Unlock()
			if queued > s.cfg.Queue.ESPBytes || held > 2*s.cfg.Queue.ESPBytes {
				t.Fatalf("%d octets queued in %d, the bound is %d", queued, held, s.cfg.Queue.ESPBytes)
			}
			s.Close()
			stream, err := io.ReadAll(far)
			if err != nil {
				t.Fatal(err)
			}
			far.Close()
			<-done
			messages, rest := parse(t, stream)
			if rest != 0 {
				t.Fatalf("the stream ends with %d octets of a frame", rest)
			}
			first, last, esps := -1, -1, 0
			var before uint32
			for i, g := range messages {
				if g.kind == ike {
					if first < 0 {
						first = i
					}
					last = i
					continue
				}
				esps++
				if q := sequence(g); q <= before {
					t.Fatalf("ESP %d after %d", q, before)
				} else {
					before = q
				}
			}
			if last-first != 4 {
				t.Fatalf("the five IKE messages are at %d to %d", first, last)
			}
			if after := len(messages) - 1 - last; after*1402 < s.cfg.Queue.ESPBytes*3/4 {
				t.Fatalf("only %d ESP packets come after IKE: it did not overtake the queue", after)
			}
			if d := cfg.Meter.Dropped(transport.DropSendQueue); d == 0 || cfg.Meter.Snapshot().TCP.ESPOut != uint64(esps) {
				t.Fatalf("%d packets arrived, %d counted as sent, %d as dropped", esps, cfg.Meter.Snapshot().TCP.ESPOut, d)
			}
		})
	}
}

func TestIKEQueueOverflowEndsTheStream(t *testing.T) {
	near, far := tcpPair(t)
	k := newSink()
	cfg := k.config()
	cfg.Meter = new(transport.Meter)
	s := New(near, cfg)
	s.Own()
	done := run(s)
	if _, err := far.Write([]byte(Prefix)); err != nil {
		t.Fatal(err)
	}
	big := ikeMessage(strings.Repeat("x", 60000))
	var err error
	for i := 0; i < 10_000 && err == nil; i++ {
		err = s.SendIKE(big)
	}
	if !errors.Is(err, transport.ErrNoPath) {
		t.Fatalf("SendIKE never failed, or with %v", err)
	}
	if reason := <-done; !strings.Contains(reason.Error(), "the peer does not read") {
		t.Fatalf("ended with %v", reason)
	}
	if cfg.Meter.Dropped(transport.DropStreamIKEQueue) != 1 {
		t.Fatal("not counted")
	}
	if err := s.SendESP(frame(espPacket(1, 100))); !errors.Is(err, transport.ErrNoPath) {
		t.Fatalf("SendESP after the end: %v", err)
	}
}

func TestOldESPIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		k := newSink()
		cfg := k.config()
		cfg.Meter = new(transport.Meter)
		s := New(near, cfg)
		s.Own()
		done := run(s)
		far.Write([]byte(Prefix))
		for seq := range uint32(3) {
			if err := s.SendESP(frame(espPacket(seq, 100))); err != nil { // the first is in the drainer's hands
				t.Fatal(err)
			}
			synctest.Wait()
		}
		time.Sleep(cfg.Queue.withDefaults().ESPAge + time.Millisecond) // the bubble's clock
		if err := s.SendESP(frame(espPacket(9, 100))); err != nil {
			t.Fatal(err)
		}
		s.Close()
		stream, _ := io.ReadAll(far)
		<-done
		messages, _ := parse(t, stream)
		var seqs []uint32
		for _, g := range messages {
			seqs = append(seqs, sequence(g))
		}
		// The first three share a block that the drainer holds; what it has begun is finished, and then the rest of the block is too old.
		if len(seqs) != 2 || seqs[0] != 0 || seqs[1] != 9 {
			t.Fatalf("arrived: %v, want 0 and 9", seqs)
		}
		if d := cfg.Meter.Dropped(transport.DropSendQueue); d != 2 {
			t.Fatalf("%d counted as dropped, want 2", d)
		}
	})
}

// TestCloseFlushes: what was queued before Close arrives, IKE first, and Close does not wait for ever.
func TestCloseFlushes(t *testing.T) {
	near, far := tcpPair(t)
	k := newSink()
	s := New(near, k.config())
	s.Own()
	done := run(s)
	if _, err := far.Write([]byte(Prefix)); err != nil {
		t.Fatal(err)
	}
	fill(t, s, 0)
	last := ikeMessage("reply to the Delete")
	if err := s.SendIKE(last); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := s.SendIKE(last); !errors.Is(err, transport.ErrNoPath) {
		t.Fatalf("SendIKE after Close: %v", err)
	}
	stream, err := io.ReadAll(far)
	if err != nil {
		t.Fatal(err)
	}
	messages, rest := parse(t, stream)
	found := false
	for _, g := range messages {
		found = found || g.data == string(last)
	}
	if !found || rest != 0 {
		t.Fatalf("found %v, %d octets of a frame at the end", found, rest)
	}
	far.Close()
	if err := <-done; !errors.Is(err, transport.ErrClosed) {
		t.Fatalf("ended with %v", err)
	}
}

func TestCloseGivesUpOnAPeerThatDoesNotRead(t *testing.T) {
	near, _ := tcpPair(t)
	k := newSink()
	cfg := k.config()
	cfg.Originator = true
	cfg.Queue.Flush = 50 * time.Millisecond
	s := New(near, cfg)
	done := run(s)
	fill(t, s, 0)
	start := time.Now()
	s.Close()
	if err := <-done; !errors.Is(err, transport.ErrClosed) {
		t.Fatalf("ended with %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Fatalf("took %v", took)
	}
}

func TestPrefixIsFirstWhateverIsSent(t *testing.T) {
	for range 50 {
		near, far := tcpPair(t)
		k := newSink()
		cfg := k.config()
		cfg.Originator = true
		s := New(near, cfg)
		if err := s.SendIKE(ikeMessage("at once")); err != nil {
			t.Fatal(err)
		}
		done := run(s)
		s.Close()
		stream, err := io.ReadAll(far)
		if err != nil || string(stream) != Prefix+string(ikeFrame("at once")) {
			t.Fatalf("the peer read %q, %v", stream, err)
		}
		far.Close()
		<-done
	}
}

func TestSendRefusesWhatIsNotFrames(t *testing.T) {
	near, _ := tcpPair(t)
	s := New(near, newSink().config())
	for _, b := range [][]byte{{0}, {0, 1}, {0, 2}, {0, 9, 1}, append(frame(espPacket(1, 9)), 0)} {
		if err := s.SendESP(b); !errors.Is(err, errNotFrames) {
			t.Errorf("SendESP(% x): %v", b, err)
		}
	}
	if err := s.SendIKE(make([]byte, MaxIKE+1)); !errors.Is(err, transport.ErrTooLarge) {
		t.Errorf("an IKE message too large for a frame: %v", err)
	}
}

func TestESPAllocatesNothing(t *testing.T) {
	near, far := tcpPair(t)
	k := newSink()
	cfg := k.config()
	cfg.ESP = nil
	s, r := New(near, cfg), New(far, Config{Path: testPath, IKE: k.IKE, Originator: true})
	s.Own()
	r.Own()
	done, done2 := run(s), run(r)
	var buf []byte
	for i := range uint32(44) {
		buf = append(buf, frame(espPacket(i, 1456))...)
	}
	if n := testing.AllocsPerRun(200, func() { _ = s.SendESP(buf) }); n > 1 { // a drainer may start when the socket is full
		t.Errorf("%v allocations per SendESP", n)
	}
	s.Close()
	r.Close()
	<-done
	<-done2
}

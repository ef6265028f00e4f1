package stream

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ikegod/ikegod/transport"
)

// trickle writes data one octet each interval until it is done or the connection ends.
func trickle(c net.Conn, data []byte, interval time.Duration) {
	for i := range data {
		if _, err := c.Write(data[i : i+1]); err != nil {
			return
		}
		time.Sleep(interval) // the bubble's clock
	}
}

func TestSlowStreamsAreCut(t *testing.T) {
	hello := append([]byte(Prefix), ikeFrame("hello")...)
	for _, tc := range []struct {
		name  string
		peer  func(c net.Conn)
		after time.Duration
		want  string
	}{
		{"silent", func(net.Conn) {}, 5 * time.Second, `no "IKETCP" prefix within 5s`},
		{"slow_prefix", func(c net.Conn) { trickle(c, []byte(Prefix), 2*time.Second) }, 5 * time.Second, `no "IKETCP" prefix within 5s`},
		{"prefix_then_silent", func(c net.Conn) { c.Write([]byte(Prefix)) }, 5 * time.Second, "no whole IKE message within 5s"},
		{"slow_message", func(c net.Conn) { trickle(c, hello, 200*time.Millisecond) }, 5 * time.Second, "no whole IKE message within 5s"},
		{"esp_only", func(c net.Conn) {
			c.Write([]byte(Prefix))
			trickle(c, frame(espPacket(1, 4000)), time.Millisecond)
		}, 5 * time.Second, "no whole IKE message within 5s"},
		{"one_message_then_silent", func(c net.Conn) { c.Write(hello) }, 30 * time.Second, "no IKE message for 30s"},
		{"one_message_then_slow", func(c net.Conn) {
			c.Write(hello)
			trickle(c, ikeFrame(strings.Repeat("x", 3000)), time.Second)
		}, 30 * time.Second, "no IKE message for 30s"},
		{"messages_for_ever", func(c net.Conn) {
			c.Write(hello)
			for range 100 {
				if _, err := c.Write(ikeFrame("again")); err != nil {
					return
				}
				time.Sleep(10 * time.Second) // the bubble's clock
			}
		}, 2 * time.Minute, "no IKE SA authenticated on it within 2m"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer far.Close()
				k := newSink()
				cfg := k.config()
				cfg.Meter, cfg.Memory = new(transport.Meter), NewMemory(1<<20)
				start := time.Now()
				done := run(New(near, cfg))
				var peer sync.WaitGroup
				defer peer.Wait()
				peer.Go(func() { tc.peer(far) })
				err := <-done
				if took := time.Since(start); took != tc.after {
					t.Errorf("cut after %v, want %v", took, tc.after)
				}
				if !strings.Contains(err.Error(), tc.want) {
					t.Errorf("ended with %q, want %q", err, tc.want)
				}
				if cfg.Meter.Dropped(transport.DropStreamSlow) != 1 || cfg.Memory.Used() != 0 {
					t.Errorf("counted %d, memory still reserved %d", cfg.Meter.Dropped(transport.DropStreamSlow), cfg.Memory.Used())
				}
			})
		})
	}
}

func TestOwnEndsTheLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		k := newSink()
		s := New(near, k.config())
		k.onIKE = func(int) { s.Own() }
		done := run(s)
		far.Write(append([]byte(Prefix), ikeFrame("one")...))
		time.Sleep(time.Hour) // the bubble's clock
		go far.Write(ikeFrame("two"))
		synctest.Wait()
		if have := k.all(); len(have) != 2 {
			t.Fatalf("got %d messages, want 2", len(have))
		}
		if s.Own() {
			t.Fatal("a second Own says that it was the first")
		}
		far.Close()
		if err := <-done; !strings.Contains(err.Error(), "the peer closed") {
			t.Fatalf("ended with %v", err)
		}
	})
}

func TestOriginatorHasNoLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		k := newSink()
		cfg := k.config()
		cfg.Originator = true
		s := New(near, cfg)
		done := run(s)
		prefix := make([]byte, len(Prefix))
		far.Read(prefix)
		if string(prefix) != Prefix {
			t.Fatalf("begins with %q", prefix)
		}
		time.Sleep(time.Hour) // the bubble's clock
		go far.Write(ikeFrame("late"))
		synctest.Wait()
		if have := k.all(); len(have) != 1 {
			t.Fatalf("got %d messages", len(have))
		}
		s.Close()
		far.Close()
		if err := <-done; !errors.Is(err, transport.ErrClosed) {
			t.Fatalf("ended with %v", err)
		}
	})
}

// TestMemoryOfStrangers: what a length promises costs nothing, what has come is counted, and beyond the limit the stream ends.
func TestMemoryOfStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		k := newSink()
		cfg := k.config()
		cfg.Meter, cfg.Memory = new(transport.Meter), NewMemory(20000)
		done := run(New(near, cfg))
		far.Write([]byte(Prefix))
		far.Write(binary.BigEndian.AppendUint16(nil, 65535))
		synctest.Wait()
		if n := cfg.Memory.Used(); n > exactStart {
			t.Errorf("a length alone took %d octets", n)
		}
		far.Write(make([]byte, 5000))
		synctest.Wait()
		if n := cfg.Memory.Used(); n < 5000 || n > 10000 {
			t.Errorf("5000 octets took %d", n)
		}
		go far.Write(make([]byte, 60000))
		if err := <-done; !strings.Contains(err.Error(), "large messages at once") {
			t.Errorf("ended with %v", err)
		}
		if cfg.Memory.Used() != 0 || cfg.Meter.Dropped(transport.DropStreamMemory) != 1 {
			t.Errorf("still reserved %d, counted %d", cfg.Memory.Used(), cfg.Meter.Dropped(transport.DropStreamMemory))
		}
	})
}

// TestBusyHandlerIsNotThePeersFault: the time for which we could not take a message does not count as the peer's silence.
func TestBusyHandlerIsNotThePeersFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		k := newSink()
		k.busy = 1 << 30
		done := run(New(near, k.config()))
		far.Write(append([]byte(Prefix), ikeFrame("one")...))
		time.Sleep(40 * time.Second) // the bubble's clock: longer than Limits.Silence
		k.mu.Lock()
		k.busy = 0
		k.mu.Unlock()
		time.Sleep(time.Second) // the bubble's clock
		if _, err := far.Write(ikeFrame("two")); err != nil || len(k.all()) != 2 {
			t.Fatalf("cut while we were busy: %v, %d messages", err, len(k.all()))
		}
		far.Close()
		<-done
	})
}

// TestSlowMessagesGiveWay: strangers who send large messages and never finish them do not keep out a peer with a large IKE_AUTH.
func TestSlowMessagesGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, meter := NewMemory(20000), new(transport.Meter)
		stranger := func() (net.Conn, *sink, <-chan error) {
			near, far := net.Pipe()
			t.Cleanup(func() { far.Close() })
			k := newSink()
			cfg := k.config()
			cfg.Meter, cfg.Memory = meter, memory
			return far, k, run(New(near, cfg))
		}
		var slow []<-chan error
		for range 2 {
			far, _, done := stranger()
			slow = append(slow, done)
			far.Write([]byte(Prefix))
			far.Write(ikeFrame(strings.Repeat("x", 11000))[:11000])
			synctest.Wait()
			time.Sleep(time.Millisecond) // the bubble's clock: one of them is the first
		}
		hello := append([]byte(Prefix), ikeFrame(strings.Repeat("y", 8000))...)
		early, _, done := stranger()
		go early.Write(hello)
		if err := <-done; !strings.Contains(err.Error(), "large messages at once") || len(slow[0])+len(slow[1]) > 0 {
			t.Fatalf("while all are on time: %v", err)
		}
		time.Sleep(2 * memoryGrace) // the bubble's clock
		far, k, _ := stranger()
		go far.Write(hello)
		synctest.Wait()
		if have := k.all(); len(have) != 1 {
			t.Fatalf("the message of the honest peer did not come: %d", len(have))
		}
		if err := <-slow[0]; !strings.Contains(err.Error(), "large messages at once") || len(slow[1]) > 0 {
			t.Fatalf("the slowest ended with %v, the next: %d", err, len(slow[1]))
		}
		far.Close()
		time.Sleep(time.Minute) // the bubble's clock
		if <-slow[1]; memory.Used() != 0 {
			t.Fatalf("%d octets still lent", memory.Used())
		}
	})
}

// TestLargeMessageIsLetGo: a stream that has sent one large message does not keep its buffer.
func TestLargeMessageIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		k := newSink()
		cfg := k.config()
		cfg.Memory = NewMemory(1 << 20)
		s := New(near, cfg)
		done := run(s)
		far.Write(append([]byte(Prefix), ikeFrame(strings.Repeat("x", 60000))...))
		far.Write(frame(espPacket(1, 60000)))
		synctest.Wait()
		if len(k.all()) != 2 || cfg.Memory.Used() != 0 || cap(s.r.msg) > exactStart || s.r.one[0] != nil {
			t.Errorf("%d messages, %d octets lent, a buffer of %d, one of %d", len(k.all()), cfg.Memory.Used(), cap(s.r.msg), cap(s.r.one[0]))
		}
		far.Close()
		<-done
	})
}

// TestOctetsOfBatches: a read that ends with a full batch counts its last packet, too.
func TestOctetsOfBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		k := newSink()
		cfg := k.config()
		cfg.Meter = new(transport.Meter)
		s := New(near, cfg)
		s.Own()
		done := run(s)
		var b []byte
		for i := range uint32(bulkBatch) {
			b = append(b, frame(espPacket(i, 100))...)
		}
		far.Write([]byte(Prefix))
		far.Write(b)
		synctest.Wait()
		if c := cfg.Meter.Snapshot().TCP; c.ESPIn != bulkBatch || c.ESPInBytes != 100*bulkBatch {
			t.Errorf("%d packets of 100 octets counted as %d octets", c.ESPIn, c.ESPInBytes)
		}
		far.Close()
		<-done
	})
}

// TestCut: whatever the stream is doing, Run ends with the reason.
func TestCut(t *testing.T) {
	for _, doing := range []string{"reading", "busy handler", "closing"} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			defer far.Close()
			k := newSink()
			cfg := k.config()
			cfg.Meter = new(transport.Meter)
			if doing == "busy handler" {
				k.busy = 1 << 30
			}
			s := New(near, cfg)
			done := run(s)
			go far.Write(append([]byte(Prefix), ikeFrame("one")...))
			synctest.Wait()
			if doing == "closing" {
				s.SendIKE([]byte("nobody reads this"))
				s.Close()
			}
			s.Cut(transport.DropStreamLimit, errors.New("enough"))
			s.Cut(transport.DropStreamLimit, errors.New("twice"))
			s.Close()
			err := <-done
			if f, ok := errors.AsType[*Fault](err); doing != "closing" && (!ok || f.Why != transport.DropStreamLimit || f.Error() != "enough") ||
				doing == "closing" && !errors.Is(err, transport.ErrClosed) {
				t.Errorf("%s: ended with %v", doing, err)
			}
		})
	}
}

// TestBusyHandlerStopsTheReader: a message that cannot be taken is offered again after Resume, nothing behind it overtakes, nothing is lost
// (RFC 9329 6.2: the peer will not repeat it).
func TestBusyHandlerStopsTheReader(t *testing.T) {
	for _, owned := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			k := newSink()
			k.busy = 1
			s := New(near, k.config())
			if owned {
				s.Own()
			}
			done := run(s)
			go far.Write(append(append([]byte(Prefix), ikeFrame("one")...), frame(espPacket(1, 100))...))
			synctest.Wait()
			if len(k.all()) != 0 || k.offers != 1 {
				t.Fatalf("owned %v: %d messages after %d offers", owned, len(k.all()), k.offers)
			}
			s.Resume()
			synctest.Wait()
			if have := k.all(); len(have) != 2 || have[0].kind != ike || have[1].kind != esp || k.offers != 2 {
				t.Fatalf("owned %v: got %v after %d offers", owned, have, k.offers)
			}
			k.mu.Lock()
			k.busy = 3
			k.mu.Unlock()
			go far.Write(ikeFrame("two"))
			time.Sleep(4 * offerAgain) // the bubble's clock: nobody calls Resume
			synctest.Wait()
			if have := k.all(); len(have) != 3 {
				t.Fatalf("owned %v: without Resume the message was not offered again: got %d", owned, len(have))
			}
			k.mu.Lock()
			k.busy = 1 << 30
			k.mu.Unlock()
			go far.Write(ikeFrame("three"))
			synctest.Wait()
			s.Close()
			far.Close()
			<-done
		})
	}
}

// TestEndsAreExplained: no error of Go's net package, which names both addresses a second time, reaches an operator.
func TestEndsAreExplained(t *testing.T) {
	near, _ := net.Pipe()
	s := New(near, newSink().config())
	defer s.Close()
	for errno, want := range map[syscall.Errno]string{
		syscall.ECONNRESET: "the TCP connection was reset, by the peer or by a middlebox", syscall.EHOSTUNREACH: "the TCP connection failed: no route to host",
		syscall.EPIPE: "the peer closed the TCP connection", syscall.ETIMEDOUT: "does not acknowledge", syscall.ENETDOWN: "the TCP connection failed: network is down",
	} {
		err := s.explain(&net.OpError{Op: "read", Net: "tcp", Addr: &net.TCPAddr{Port: 4500}, Err: os.NewSyscallError("read", errno)})
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "tcp :4500") || !errors.Is(err, errno) {
			t.Errorf("%v: %v", errno, err)
		}
	}
}

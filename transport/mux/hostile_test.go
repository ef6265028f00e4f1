package mux

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
	"github.com/ikegod/ikegod/transport/stream"
	"github.com/ikegod/ikegod/transport/tcp"
)

func rawTCP(t *testing.T, to *Mux) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp4", netip.AddrPortFrom(loopback, to.TCPPorts()[0]).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// endOf waits until the other side has closed, and says how long that took.
func endOf(t *testing.T, c net.Conn) time.Duration {
	t.Helper()
	start := time.Now()
	if _, err := io.Copy(io.Discard, c); errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	} else if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		t.Fatal("the other side does not close")
	}
	return time.Since(start)
}

func TestHostileStreamsAreCut(t *testing.T) {
	var mu sync.Mutex
	var notices []string
	east, er := start(t, Options{
		ListenTCP: []uint16{0},
		// Long enough for a peer that does not dawdle, on a machine that is busy with other things.
		StreamLimits: stream.Limits{FirstMessage: 2 * time.Second, Silence: 2 * time.Second, Unowned: 4 * time.Second},
		Notice: func(_ transport.Drop, _ path.Path, text string) {
			mu.Lock()
			defer mu.Unlock()
			notices = append(notices, text)
		},
	})
	hello := append([]byte(stream.Prefix), frame(append(make([]byte, 4), ikeMessage("hello")...))...)
	slow := func(c net.Conn, b []byte) {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for i := range b {
			if _, err := c.Write(b[i : i+1]); err != nil {
				return
			}
			<-tick.C
		}
	}
	// Of the streams that are too slow only the first is told of, and it is to be one that says nothing at all: alone, before the others.
	if took := endOf(t, rawTCP(t, east)); took > 10*time.Second {
		t.Errorf("a silent peer was cut after %v", took)
	}
	const many = 5
	peers := []func(net.Conn){
		func(net.Conn) {},
		func(c net.Conn) { c.Write([]byte("GET / HTTP/1.1\r\n\r\n")) },
		func(c net.Conn) { c.Write([]byte("IKE")) },
		func(c net.Conn) { c.Write([]byte(stream.Prefix)) },
		func(c net.Conn) { slow(c, hello) },
		func(c net.Conn) { c.Write(hello) },
		func(c net.Conn) { c.Write([]byte(stream.Prefix + "\x00\x01")) },
		func(c net.Conn) { c.Write([]byte(stream.Prefix + "\xff\xff")) },
		func(c net.Conn) { c.Write([]byte(stream.Prefix + "\x00\x08\x00\x00\x00\x00xx")) },
	}
	var wg sync.WaitGroup
	for i := range many * len(peers) {
		c := rawTCP(t, east)
		wg.Go(func() {
			peers[i%len(peers)](c)
			if took := endOf(t, c); took > 10*time.Second {
				t.Errorf("peer %d was cut after %v", i%len(peers), took)
			}
		})
	}
	wg.Wait()
	er.until(t, "every accepted stream is reported lost", func() bool { return len(er.accepted) == 6*many && len(er.lost) == 6*many })
	c := east.Counters()
	if c.Streams != 0 || c.Unowned != 0 || c.Drops[transport.DropStreamPrefix] != many || c.Drops[transport.DropStreamSlow] != 6*many+1 ||
		c.Drops[transport.DropStreamCorrupt] != 2*many {
		t.Fatalf("counted %+v", c)
	}
	if east.memory.Used() != 0 {
		t.Fatalf("%d octets still reserved for strangers", east.memory.Used())
	}
	mu.Lock()
	defer mu.Unlock()
	text := strings.Join(notices, "\n")
	for _, want := range []string{"from 127.0.0.1:TCP/", "does not begin with", "within 2s of the connection", "authenticated on it: the "} {
		if !strings.Contains(text, want) {
			t.Errorf("no notice says %q: %q", want, notices)
		}
	}
}

// TestHonestPeerGetsAPlace: two addresses hold every place for strangers, and a third comes through.
func TestHonestPeerGetsAPlace(t *testing.T) {
	notices := make(chan string, 100)
	east, er := start(t, Options{
		ListenTCP: []uint16{0}, TCPLimits: tcp.Limits{Unowned: 8, PerSource: 4},
		Notice: func(_ transport.Drop, _ path.Path, text string) { notices <- text },
	})
	west, _ := start(t, Options{})
	from := func(local string) (path.Path, error) {
		return west.Dial(t.Context(), netip.MustParseAddr(local), netip.AddrPortFrom(loopback, east.TCPPorts()[0]))
	}
	for i := range 8 {
		if _, err := from([]string{"127.0.0.2", "127.0.0.3"}[i%2]); err != nil {
			t.Fatal(err)
		}
	}
	er.until(t, "all strangers are there", func() bool { return len(er.accepted) == 8 })
	p, err := from("127.0.0.4")
	if err != nil {
		t.Fatal(err)
	}
	if err := west.Send(p, ikeMessage("hello")); err != nil {
		t.Fatal(err)
	}
	er.until(t, "the honest message, and one stranger less", func() bool { return len(er.ike) == 1 && len(er.lost) == 1 })
	if got := er.message(0).Path.Remote.Addr().String(); got != "127.0.0.4" {
		t.Fatalf("the message came from %s", got)
	}
	if text := <-notices; !strings.Contains(text, "gave way to a newer connection") {
		t.Fatalf("told %q", text)
	}
	c := east.Counters()
	if c.Unowned != 8 || c.Drops[transport.DropStreamLimit] != 1 {
		t.Fatalf("counted %+v", c)
	}
}

// TestGarbage floods all ports and looks at the memory afterwards.
func TestGarbage(t *testing.T) {
	east, er := start(t, Options{ListenUDP: true, ListenTCP: []uint16{0}, TCPLimits: tcp.Limits{PerSource: 32}})
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	flood := func(n int) {
		var wg sync.WaitGroup
		for _, port := range east.UDPPorts() {
			wg.Go(func() {
				c, err := net.Dial("udp4", netip.AddrPortFrom(loopback, port.Number).String())
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				rng := rand.New(rand.NewPCG(uint64(port.Number), 2))
				for i := range n {
					b := make([]byte, rng.IntN(1500))
					for j := range b {
						b[j] = byte(rng.Uint32())
					}
					if i%8 == 0 {
						b = ikeMessage(string(b)) // passes the first check, so that the handler has to refuse it
					}
					_, _ = c.Write(b)
				}
			})
		}
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(3, 3))
			for i := range n / 20 {
				c, err := net.Dial("tcp4", netip.AddrPortFrom(loopback, east.TCPPorts()[0]).String())
				if errors.Is(err, syscall.ECONNRESET) {
					continue // the limit per source
				} else if err != nil {
					t.Error(err)
					return
				}
				b := make([]byte, 3000)
				for j := range b {
					b[j] = byte(rng.Uint32())
				}
				if i%2 == 0 {
					copy(b, stream.Prefix)
				}
				_, _ = c.Write(b)
				c.Close()
			}
		})
		wg.Wait()
	}
	er.mu.Lock()
	er.busy = 1 << 40
	er.mu.Unlock()
	flood(2000)
	before := heap()
	flood(20000)
	er.until(t, "all strangers are gone", func() bool {
		er.esp, er.lost, er.accepted = nil, map[path.Path]error{}, nil
		return east.Counters().Streams == 0
	})
	var after uint64 // what still stands in the sockets' buffers is worked off, and pools are emptied, in a while; a leak stays
	er.until(t, fmt.Sprintf("memory as before, which was %d KiB", before>>10), func() bool {
		er.esp = nil
		after = heap()
		return after <= before+10<<20
	})
	t.Logf("%d KiB before, %d KiB after; drops %v", before>>10, after>>10, east.Counters().Drops)
}

// TestEverythingAtOnce runs all methods against each other for the race detector, and closes in the middle of it.
func TestEverythingAtOnce(t *testing.T) {
	before := runtime.NumGoroutine()
	west, wr := start(t, Options{ListenUDP: true})
	east, _ := start(t, Options{ListenUDP: true, ListenTCP: []uint16{0}, TCPLimits: tcp.Limits{PerSource: 1000}})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			up, err := west.UDPPath(loopback, west.UDPPorts()[1].Number, netip.AddrPortFrom(loopback, east.UDPPorts()[1].Number))
			if err != nil {
				t.Error(err)
				return
			}
			for j := range 20 {
				p, err := west.Dial(t.Context(), netip.Addr{}, netip.AddrPortFrom(loopback, east.TCPPorts()[0]))
				if err != nil {
					t.Error(err)
					return
				}
				west.Own(p)
				for k := range uint32(20) {
					buf := bytes.Repeat(frame(espPacket(k, 1400)), 40)
					_ = west.SendESP(p, buf, 0)
					_ = west.SendESP(up, espPacket(k, 1400), 0)
					_ = west.Send(p, ikeMessage(fmt.Sprint(i, j, k)))
					_ = west.Send(up, ikeMessage(fmt.Sprint(i, j, k)))
					west.KeepAlive(up, time.Duration(k+1)*time.Millisecond)
					west.Resume(p)
				}
				if j%2 == 0 {
					west.CloseStream(p)
				}
			}
		})
	}
	wg.Wait()
	west.Close()
	east.Close()
	wr.until(t, "every stream lost once", func() bool { return len(wr.lost) == 8*20 })
	noMoreGoroutines(t, before)
	if _, err := west.Dial(t.Context(), netip.Addr{}, netip.MustParseAddrPort("127.0.0.1:1")); err == nil {
		t.Fatal("Dial after Close")
	}
}

func TestCloseEndsEverything(t *testing.T) {
	before := runtime.NumGoroutine()
	west, wr := start(t, Options{ListenUDP: true})
	east, er := start(t, Options{ListenUDP: true, ListenTCP: []uint16{0}})
	p := dial(t, west, east)
	if err := west.Send(p, ikeMessage("hello")); err != nil {
		t.Fatal(err)
	}
	er.until(t, "hello", func() bool { return len(er.ike) == 1 })
	silent := rawTCP(t, east)
	if err := east.Send(er.message(0).Path, ikeMessage("goodbye")); err != nil {
		t.Fatal(err)
	}
	east.Close()
	east.Close()
	endOf(t, silent)
	wr.until(t, "goodbye, then the end", func() bool { return len(wr.ike) == 1 && wr.lost[p] != nil })
	west.Close()
	noMoreGoroutines(t, before)
}

func TestUDPOff(t *testing.T) {
	m, _ := start(t, Options{})
	if _, err := m.UDPPath(loopback, 500, netip.MustParseAddrPort("127.0.0.1:500")); !errors.Is(err, transport.ErrNoPath) || !strings.Contains(err.Error(), "listen-udp=yes") {
		t.Fatalf("UDPPath without UDP: %v", err)
	}
	p := path.Path{Local: netip.AddrPortFrom(loopback, 500), Remote: netip.AddrPortFrom(loopback, 500)}
	if err := m.Send(p, ikeMessage("x")); !errors.Is(err, transport.ErrNoPath) {
		t.Fatalf("Send: %v", err)
	}
	if err := m.SendESP(p, espPacket(1, 60), 0); !errors.Is(err, transport.ErrNoPath) {
		t.Fatalf("SendESP: %v", err)
	}
}

package uml_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ikegod/ikegod/kernel/xfrm/socket"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/uml"
	"github.com/ikegod/ikegod/transport"
	"github.com/ikegod/ikegod/transport/mux"
)

var kernelTCP = mux.Options{ListenTCP: []uint16{4500}, Prepare: socket.Bypass, AttachTCP: socket.EspInTCP}

func TestSocketsInTCP(t *testing.T) {
	if uml.Outside(t, uml.Full) {
		return
	}
	west, east := facing(t, false, kernelTCP)
	for _, tc := range []struct {
		name string
		run  func(t *testing.T, west, east *gateway)
	}{
		{"both-ways", bothWays},
		{"critical-moment", criticalMoment},
		{"thousand", thousand},
		{"transfer", transfer},
		{"peer-that-does-not-read", slowPeer},
		{"one-side", oneSide},
		{"closed-by-the-peer", closed},
		{"reset", reset},
		{"nonsense", nonsense},
		{"states-first", func(t *testing.T, west, east *gateway) { closeOrder(t, west, east, true) }},
		{"sockets-first", func(t *testing.T, west, east *gateway) { closeOrder(t, west, east, false) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			defer forget(t, west, east)
			tc.run(t, west, east)
		})
	}
}

// TestSocketsInTCP6 is what differs in the kernel between the families.
func TestSocketsInTCP6(t *testing.T) {
	if uml.Outside(t, uml.Full) {
		return
	}
	west, east := facing(t, true, kernelTCP)
	for name, run := range map[string]func(t *testing.T, west, east *gateway){"both-ways": bothWays, "critical-moment": criticalMoment, "closed-by-the-peer": closed} {
		t.Run(name, func(t *testing.T) {
			defer forget(t, west, east)
			run(t, west, east)
		})
	}
}

// bothWays: IKE and ESP on one connection, and IKE of every size that fits.
func bothWays(t *testing.T, west, east *gateway) {
	t.Helper()
	w, e := attached(t, west, east)
	west.pings(t, east, 5, 10*time.Millisecond)
	east.pings(t, west, 5, 10*time.Millisecond)
	for i, size := range []int{0, 1, 100, 1400, 9000, 65535 - 6 - transport.IKEHeaderLen} {
		m := message(exchangeAuth, strings.Repeat("x", size))
		what := fmt.Sprintf("a message of %d octets", len(m))
		west.send(t, w, m)
		east.has(t, 2+i, what)
		east.send(t, e, east.messages()[1+i].Data)
		west.has(t, 1+i, what)
		if got := west.messages()[i].Data; string(got) != string(m) {
			t.Fatalf("of %d octets came back %d: %.40x", len(m), len(got), got)
		}
		west.pings(t, east, 2, 10*time.Millisecond)
	}
}

// criticalMoment: the responder is attached and sends ESP right behind its last message; the initiator is attached when that has come already. Nothing is lost.
func criticalMoment(t *testing.T, west, east *gateway) {
	t.Helper()
	// SAs first, then the socket: east before its answer, west when the answer has come.
	w, e := secured(t, west, east)
	east.attach(t, e)
	waits := make(chan int64, 1) // ESP in west's socket behind the message
	west.hears(func(transport.Datagram) {
		go func() {
			var n int64
			netns.Poll(holdESP/2, func() bool { n = west.unread(); return n > 0 })
			waits <- n
		}()
	})
	pinged := make(chan struct{})
	east.send(t, e, message(exchangeAuth, "last"))
	go func() {
		defer close(pinged)
		east.pings(t, west, 4, 0)
	}()
	n := <-waits
	west.attach(t, w)
	if n == 0 {
		t.Error("no ESP was waiting: this shows nothing")
	}
	<-pinged
	west.has(t, 1, "the last message")
}

// thousand IKE messages each way, at once, among pings: each comes once, in order.
func thousand(t *testing.T, west, east *gateway) {
	t.Helper()
	w, e := attached(t, west, east)
	const n = 1000
	numbered := func(i int) []byte { return message(exchangeAuth, fmt.Sprintf("%d%s", i, strings.Repeat(".", i%700))) }
	start := time.Now()
	var all sync.WaitGroup
	send := func(g *gateway, p path.Path) {
		for i := range n {
			if err := g.mux.Send(p, numbered(i)); err != nil {
				t.Errorf("%s: message %d: %v", g.host.Name, i, err)
				return
			}
		}
	}
	all.Go(func() { send(west, w) })
	all.Go(func() { send(east, e) })
	all.Go(func() { west.pings(t, east, 100, 2*time.Millisecond) })
	all.Go(func() { east.pings(t, west, 100, 2*time.Millisecond) })
	all.Wait()
	east.until(t, "all messages", func() bool { return len(east.messages()) >= 1+n })
	west.until(t, "all messages", func() bool { return len(west.messages()) >= n })
	t.Logf("%d messages each way and 200 pings in %v", n, time.Since(start).Round(time.Millisecond))
	for _, got := range [][]transport.Datagram{east.messages()[1:], west.messages()} {
		for i, d := range got {
			if string(d.Data) != string(numbered(i)) {
				t.Fatalf("message %d is %.40q", i, d.Data[transport.IKEHeaderLen:])
			}
		}
	}
}

// transfer: 20 MB through the tunnel, with IKE among it.
func transfer(t *testing.T, west, east *gateway) {
	t.Helper()
	w, _ := attached(t, west, east)
	done := make(chan error, 1)
	go func() {
		d, err := netns.Transfer(t.Context(), west.host, netip.AddrPortFrom(west.inner, 8080).String(), east.host, east.inner.String(), 20<<20)
		t.Logf("20 MB: %+v", d)
		done <- err
	}()
	longest, count := time.Duration(0), 0
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			t.Logf("%d IKE messages meanwhile, the slowest took %v", count, longest.Round(time.Millisecond))
			if count == 0 {
				t.Error("no IKE message during the transfer")
			}
			return
		default:
		}
		start := time.Now()
		west.send(t, w, message(exchangeAuth, fmt.Sprint("ask ", count)))
		east.has(t, 2+count, "a message during the transfer")
		count++
		longest = max(longest, time.Since(start))
	}
}

// slowPeer: a connection that takes nothing more holds IKE back, whole, and lets it go in order.
func slowPeer(t *testing.T, west, east *gateway) {
	t.Helper()
	w, _ := connect(t, west, east)
	west.attach(t, w)
	// east is not attached, and its reader stops at a message that nobody takes.
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	defer open()
	east.hears(func(transport.Datagram) { <-gate })
	const limit = 1000
	body := strings.Repeat("y", 30000)
	n := 0
	for full := false; n < limit && !full; n++ {
		before := east.unread()
		if err := west.mux.Send(w, message(exchangeAuth, fmt.Sprint(n, " ", body))); err != nil {
			t.Fatalf("message %d: %v", n, err)
		}
		// Full is when a message does not arrive, whole or in part, however long one waits. It then waits in west's kernel or in our queue, which has room for 256 KiB.
		full = !netns.Poll(time.Second, func() bool { return east.unread() != before }) && before > 0
	}
	if n == limit {
		t.Error("the connection never fills: this shows nothing")
	}
	open()
	east.has(t, 1+n, "all messages")
	for i, d := range east.messages()[1:] {
		if !strings.HasPrefix(string(d.Data[transport.IKEHeaderLen:]), fmt.Sprint(i, " y")) {
			t.Fatalf("message %d is %.20q", i, d.Data[transport.IKEHeaderLen:])
		}
	}
	t.Logf("%d messages of 30 kB", n)
}

// oneSide: a kernel and a userspace end fit together, whichever is which; only IKE here, since nobody carries east's ESP.
func oneSide(t *testing.T, west, east *gateway) {
	t.Helper()
	w, e := connect(t, west, east)
	east.attach(t, e)
	for i := range 100 {
		m := message(exchangeAuth, fmt.Sprint(i))
		west.send(t, w, m)
		east.send(t, e, m)
	}
	east.has(t, 101, "all messages")
	west.has(t, 100, "all messages")
}

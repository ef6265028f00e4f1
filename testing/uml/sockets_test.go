package uml_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ikegod/ikegod/kernel/xfrm/socket"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/uml"
	"github.com/ikegod/ikegod/transport"
	"github.com/ikegod/ikegod/transport/mux"
)

// The sockets of IKE on a kernel that carries the ESP: one socket for both, SAs by hand with fixed keys, and no daemon.

const (
	exchangeInit = 34
	exchangeAuth = 35
	// holdESP is how long transport/stream leaves ESP alone that is right behind an IKE message.
	holdESP = 500 * time.Millisecond
)

// gateway is a host with a transport, and what arrives on it.
type gateway struct {
	host        *netns.Host
	mux         *mux.Mux
	addr, inner netip.Addr
	net         string

	mu       sync.Mutex // guards what follows
	ike      []transport.Datagram
	accepted []path.Path
	lost     map[path.Path]error
	onIKE    func(transport.Datagram)
}

func (g *gateway) IKE(d transport.Datagram) bool {
	g.mu.Lock()
	g.ike = append(g.ike, d)
	f := g.onIKE
	g.mu.Unlock()
	if f != nil {
		f(d)
	}
	return true
}

func (g *gateway) Accepted(p path.Path) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.accepted = append(g.accepted, p)
}

func (g *gateway) Lost(p path.Path, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lost[p] = err
}

func (g *gateway) reason(p path.Path) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lost[p]
}

func (g *gateway) messages() []transport.Datagram {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]transport.Datagram(nil), g.ike...)
}

func (g *gateway) until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	if !netns.Poll(20*time.Second, cond) {
		stat, _ := g.host.Output("cat", "/proc/net/xfrm_stat")
		t.Fatalf("%s: not within 20 s: %s; %d IKE messages, %d octets unread\n%s", g.host.Name, what, len(g.messages()), g.unread(), nonZero(stat))
	}
}

// serve opens the sockets inside the host.
func (g *gateway) serve(t *testing.T, o mux.Options) {
	t.Helper()
	if err := g.host.Do(func() (err error) {
		g.mux, err = mux.New(o)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	g.mux.Start(g, nil)
	t.Cleanup(func() { g.mux.Close() })
}

// facing are two gateways with a transport each; six: they talk IPv6, outside and inside.
func facing(t *testing.T, six bool, o mux.Options) (west, east *gateway) {
	t.Helper()
	_, w, e := netns.Gateways(t)
	west = &gateway{host: w, addr: netip.MustParseAddr(netns.West), inner: netip.MustParseAddr(netns.WestInner), net: netns.WestNet}
	east = &gateway{host: e, addr: netip.MustParseAddr(netns.East), inner: netip.MustParseAddr(netns.EastInner), net: netns.EastNet}
	if six {
		west.addr, west.inner, west.net = netip.MustParseAddr(netns.West6), netip.MustParseAddr(netns.WestInner6), netns.WestNet6
		east.addr, east.inner, east.net = netip.MustParseAddr(netns.East6), netip.MustParseAddr(netns.EastInner6), netns.EastNet6
	}
	for _, g := range []*gateway{west, east} {
		g.lost = map[path.Path]error{}
		g.serve(t, o)
		g.answers(t)
	}
	return west, east
}

// forget makes two gateways new for another test: no SAs, no connections, no messages.
func forget(t *testing.T, gs ...*gateway) {
	t.Helper()
	for _, g := range gs {
		if err := g.flush(); err != nil {
			t.Fatal(err)
		}
		g.mu.Lock()
		open := g.accepted
		g.accepted, g.ike, g.onIKE = nil, nil, nil
		g.mu.Unlock()
		for _, p := range open {
			g.mux.CloseStream(p)
			g.until(t, "the end of "+p.String(), func() bool { return g.reason(p) != nil })
		}
	}
}

// message is an IKE message without a meaning.
func message(exchange uint8, body string) []byte {
	b := make([]byte, transport.IKEHeaderLen, transport.IKEHeaderLen+len(body))
	b[0], b[18] = 0x11, exchange
	b = append(b, body...)
	binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
	return b
}

// install puts SAs and policies for the traffic with peer in place; encap is "espintcp OURPORT THEIRPORT", or nothing.
func (g *gateway) install(peer *gateway, encap string) error {
	var batch strings.Builder
	word := append(strings.Fields(encap), "", "", "")
	state := func(from, to *gateway, spi, sport, dport string) {
		fmt.Fprintf(&batch, "xfrm state add src %s dst %s proto esp spi %s reqid 1 mode tunnel replay-window 32 aead rfc4106(gcm(aes)) 0x%s 128",
			from.addr, to.addr, spi, strings.Repeat(spi[len(spi)-2:], 20))
		if word[0] != "" {
			fmt.Fprintf(&batch, " encap %s %s %s 0.0.0.0", word[0], sport, dport)
		}
		batch.WriteByte('\n')
	}
	out, in := "0x1001", "0x1002"
	if g.host.Name == "east" {
		out, in = in, out
	}
	state(peer, g, in, word[2], word[1])
	state(g, peer, out, word[1], word[2])
	for _, dir := range []string{"out", "in", "fwd"} {
		from, to := peer, g
		if dir == "out" {
			from, to = g, peer
		}
		fmt.Fprintf(&batch, "xfrm policy add src %s dst %s dir %s tmpl src %s dst %s proto esp reqid 1 mode tunnel\n", from.net, to.net, dir, from.addr, to.addr)
	}
	return g.host.RunInput(batch.String(), "ip", "-batch", "-")
}

func (g *gateway) flush() error {
	return g.host.RunInput("xfrm state flush\nxfrm policy flush\n", "ip", "-batch", "-")
}

// answers sends back what comes to port 7 of the inner address.
func (g *gateway) answers(t *testing.T) {
	t.Helper()
	var c net.PacketConn
	if err := g.host.Do(func() (err error) {
		c, err = net.ListenPacket("udp", netip.AddrPortFrom(g.inner, 7).String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(b[:n], from)
		}
	}()
}

// pings sends n packets through the tunnel, one in each interval, and wants all answers.
func (g *gateway) pings(t *testing.T, peer *gateway, n int, interval time.Duration) {
	t.Helper()
	c, err := g.dialUDP(peer.inner)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	sent := make(chan error, 1)
	go func() {
		for i := range n {
			if _, err := c.Write(fmt.Appendf(nil, "%d", i)); err != nil {
				sent <- err
				return
			}
			if interval > 0 {
				time.Sleep(interval) // the rate of what is sent, not a wait for something
			}
		}
		sent <- nil
	}()
	got := map[string]bool{}
	b := make([]byte, 64)
	for len(got) < n {
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		k, err := c.Read(b)
		if err != nil {
			break
		}
		got[string(b[:k])] = true
	}
	if err := <-sent; err != nil || len(got) != n {
		stat, _ := g.host.Output("cat", "/proc/net/xfrm_stat")
		state, _ := g.host.Output("ip", "-s", "xfrm", "state")
		t.Errorf("%s: %d of %d answers (%v)\n%s\n%s", g.host.Name, len(got), n, err, nonZero(stat), state)
	}
}

// dialUDP opens a socket from the inner address to port 7 of another.
func (g *gateway) dialUDP(to netip.Addr) (c *net.UDPConn, err error) {
	err = g.host.Do(func() error {
		c, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(g.inner, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 7)))
		return err
	})
	return c, err
}

// unread is how many octets wait in the sockets of established TCP connections.
func (g *gateway) unread() (total int64) {
	_ = g.host.Do(func() error {
		for _, name := range []string{"tcp", "tcp6"} {
			b, err := os.ReadFile("/proc/thread-self/net/" + name)
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(b)) {
				if f := strings.Fields(line); len(f) > 4 && f[3] == "01" {
					_, rx, _ := strings.Cut(f[4], ":")
					n, _ := strconv.ParseInt(rx, 16, 64)
					total += n
				}
			}
		}
		return nil
	})
	return total
}

// nonZero is the lines of a counter file that do not end in 0.
func nonZero(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if f := strings.Fields(line); len(f) == 2 && f[1] != "0" {
			b.WriteString(line)
		}
	}
	return b.String()
}

// connect opens a TCP connection from west to east, on which a first message has gone each way and which both own.
func connect(t *testing.T, west, east *gateway) (w, e path.Path) {
	t.Helper()
	var err error
	if err := west.host.Do(func() error {
		w, err = west.mux.Dial(t.Context(), west.addr, netip.AddrPortFrom(east.addr, east.mux.TCPPorts()[0]))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	n := len(east.messages())
	if err := west.mux.Send(w, message(exchangeInit, "init")); err != nil {
		t.Fatal(err)
	}
	east.until(t, "the first message", func() bool { return len(east.messages()) > n })
	e = east.messages()[n].Path
	west.mux.Own(w)
	east.mux.Own(e)
	return w, e
}

// attach hands a stream over and waits.
func (g *gateway) attach(t *testing.T, p path.Path) {
	t.Helper()
	c := make(chan error, 1)
	g.mux.AttachESP(p, func(err error) { c <- err })
	select {
	case err := <-c:
		if err != nil {
			t.Fatalf("%s: %v", g.host.Name, err)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: no answer to AttachESP", g.host.Name)
	}
}

func espintcp(p path.Path) string {
	return fmt.Sprintf("espintcp %d %d", p.Local.Port(), p.Remote.Port())
}

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
	w, e := connect(t, west, east)
	if err := errors.Join(west.install(east, espintcp(w)), east.install(west, espintcp(e))); err != nil {
		t.Fatal(err)
	}
	west.attach(t, w)
	east.attach(t, e)
	west.pings(t, east, 5, 10*time.Millisecond)
	east.pings(t, west, 5, 10*time.Millisecond)
	for i, size := range []int{0, 1, 100, 1400, 9000, 65535 - 6 - transport.IKEHeaderLen} {
		m := message(exchangeAuth, strings.Repeat("x", size))
		if err := west.mux.Send(w, m); err != nil {
			t.Fatal(err)
		}
		east.until(t, fmt.Sprintf("a message of %d octets", len(m)), func() bool { return len(east.messages()) == 2+i })
		if err := east.mux.Send(e, east.messages()[1+i].Data); err != nil {
			t.Fatal(err)
		}
		west.until(t, fmt.Sprintf("a message of %d octets", len(m)), func() bool { return len(west.messages()) == 1+i })
		if got := west.messages()[i].Data; string(got) != string(m) {
			t.Fatalf("of %d octets came back %d: %.40x", len(m), len(got), got)
		}
		west.pings(t, east, 2, 10*time.Millisecond)
	}
}

// criticalMoment: the responder is attached and sends ESP right behind its last message; the initiator is attached when that has come already. Nothing is lost.
func criticalMoment(t *testing.T, west, east *gateway) {
	t.Helper()
	w, e := connect(t, west, east)
	// SAs first, then the socket: east before its answer, west when the answer has come.
	if err := errors.Join(west.install(east, espintcp(w)), east.install(west, espintcp(e))); err != nil {
		t.Fatal(err)
	}
	east.attach(t, e)
	waits := make(chan int64, 1) // ESP in west's socket behind the message
	west.mu.Lock()
	west.onIKE = func(transport.Datagram) {
		go func() {
			var n int64
			netns.Poll(holdESP/2, func() bool { n = west.unread(); return n > 0 })
			waits <- n
		}()
	}
	west.mu.Unlock()
	pinged := make(chan struct{})
	if err := east.mux.Send(e, message(exchangeAuth, "last")); err != nil {
		t.Fatal(err)
	}
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
	west.until(t, "the last message", func() bool { return len(west.messages()) == 1 })
}

// thousand IKE messages each way, at once, among pings: each comes once, in order.
func thousand(t *testing.T, west, east *gateway) {
	t.Helper()
	w, e := connect(t, west, east)
	if err := errors.Join(west.install(east, espintcp(w)), east.install(west, espintcp(e))); err != nil {
		t.Fatal(err)
	}
	west.attach(t, w)
	east.attach(t, e)
	const n = 1000
	start := time.Now()
	var all sync.WaitGroup
	send := func(g *gateway, p path.Path) {
		for i := range n {
			if err := g.mux.Send(p, message(exchangeAuth, fmt.Sprintf("%d%s", i, strings.Repeat(".", i%700)))); err != nil {
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
			if want := message(exchangeAuth, fmt.Sprintf("%d%s", i, strings.Repeat(".", i%700))); string(d.Data) != string(want) {
				t.Fatalf("message %d is %.40q", i, d.Data[transport.IKEHeaderLen:])
			}
		}
	}
}

// transfer: 20 MB through the tunnel, with IKE among it.
func transfer(t *testing.T, west, east *gateway) {
	t.Helper()
	w, e := connect(t, west, east)
	if err := errors.Join(west.install(east, espintcp(w)), east.install(west, espintcp(e))); err != nil {
		t.Fatal(err)
	}
	west.attach(t, w)
	east.attach(t, e)
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
		if err := west.mux.Send(w, message(exchangeAuth, fmt.Sprint("ask ", count))); err != nil {
			t.Fatal(err)
		}
		east.until(t, "a message during the transfer", func() bool { return len(east.messages()) == 2+count })
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
	east.mu.Lock()
	east.onIKE = func(transport.Datagram) { <-gate }
	east.mu.Unlock()
	const limit = 1000
	body := strings.Repeat("y", 30000)
	n, before := 0, int64(-1)
	for ; n < limit; n++ {
		if err := west.mux.Send(w, message(exchangeAuth, fmt.Sprint(n, " ", body))); err != nil {
			t.Fatalf("message %d: %v", n, err)
		}
		// Full is when nothing more arrives. A few messages more then wait in the kernel and in our queue, which has room for 256 KiB.
		stuck := func() bool { now := east.unread(); same := now == before && now > 0; before = now; return same }
		if n%4 == 3 && stuck() {
			n++
			break
		}
	}
	if n == limit {
		t.Error("the connection never fills: this shows nothing")
	}
	open()
	east.until(t, "all messages", func() bool { return len(east.messages()) == 1+n })
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
		if err := errors.Join(west.mux.Send(w, message(exchangeAuth, fmt.Sprint(i))), east.mux.Send(e, message(exchangeAuth, fmt.Sprint(i)))); err != nil {
			t.Fatal(err)
		}
	}
	east.until(t, "all messages", func() bool { return len(east.messages()) == 101 })
	west.until(t, "all messages", func() bool { return len(west.messages()) == 100 })
}

// closed: what was sent before the peer closed arrives, and the end is told in words.
func closed(t *testing.T, west, east *gateway) {
	t.Helper()
	for range 10 {
		w, e := connect(t, west, east)
		west.attach(t, w)
		east.attach(t, e)
		n := len(west.messages())
		for i := range 10 {
			if err := east.mux.Send(e, message(exchangeAuth, fmt.Sprint("bye ", i))); err != nil {
				t.Fatal(err)
			}
		}
		east.mux.CloseStream(e)
		west.until(t, "the end", func() bool { return west.reason(w) != nil })
		if err := west.reason(w); !strings.Contains(err.Error(), "the peer closed") {
			t.Fatal(err)
		}
		if got := len(west.messages()) - n; got != 10 {
			t.Fatalf("%d of 10 messages before the end", got)
		}
		east.until(t, "its own end", func() bool { return errors.Is(east.reason(e), transport.ErrClosed) })
	}
}

// stranger is a connection of west's to east by hand, which east owns and has attached.
func stranger(t *testing.T, west, east *gateway) (c *net.TCPConn, p path.Path) {
	t.Helper()
	any, err := west.host.Dial(t.Context(), "tcp", "", netip.AddrPortFrom(east.addr, 4500).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { any.Close() })
	n, first := len(east.messages()), message(exchangeInit, "init")
	b := append([]byte("IKETCP"), binary.BigEndian.AppendUint16(nil, uint16(6+len(first)))...)
	if _, err := any.Write(append(append(b, 0, 0, 0, 0), first...)); err != nil {
		t.Fatal(err)
	}
	east.until(t, "the first message", func() bool { return len(east.messages()) == n+1 })
	p = east.messages()[n].Path
	east.mux.Own(p)
	east.attach(t, p)
	return any.(*net.TCPConn), p
}

// reset: a connection that is cut is told in words.
func reset(t *testing.T, west, east *gateway) {
	t.Helper()
	c, p := stranger(t, west, east)
	if err := errors.Join(c.SetLinger(0), c.Close()); err != nil {
		t.Fatal(err)
	}
	east.until(t, "the reset", func() bool { return east.reason(p) != nil })
	if err := east.reason(p); !errors.Is(err, syscall.ECONNRESET) || !strings.Contains(err.Error(), "middlebox") {
		t.Error(err)
	}
}

// nonsense: a Length of 1 ends an attached stream, as it ends every other (RFC 9329 3), and no other stream.
func nonsense(t *testing.T, west, east *gateway) {
	t.Helper()
	_, e := connect(t, west, east)
	c, p := stranger(t, west, east)
	if _, err := c.Write([]byte{0, 1, 0xff}); err != nil {
		t.Fatal(err)
	}
	east.until(t, "the end", func() bool { return east.reason(p) != nil })
	if err := east.reason(p); !strings.Contains(err.Error(), "impossible length") {
		t.Error(err)
	}
	if err := east.reason(e); err != nil {
		t.Errorf("the other connection has ended too: %v", err)
	}
}

// closeOrder: SAs, then sockets; and the other way round, which a lost connection leaves no choice about. Nothing stays behind.
func closeOrder(t *testing.T, west, east *gateway, statesFirst bool) {
	t.Helper()
	w, e := connect(t, west, east)
	if err := errors.Join(west.install(east, espintcp(w)), east.install(west, espintcp(e))); err != nil {
		t.Fatal(err)
	}
	west.attach(t, w)
	east.attach(t, e)
	west.pings(t, east, 3, 10*time.Millisecond)
	if statesFirst {
		if err := errors.Join(west.flush(), east.flush()); err != nil {
			t.Fatal(err)
		}
	}
	west.mux.CloseStream(w)
	west.until(t, "the end", func() bool { return west.reason(w) != nil })
	east.until(t, "the end", func() bool { return east.reason(e) != nil })
	if !statesFirst {
		// Into a socket that is gone: dropped, and no harm.
		if c, err := west.dialUDP(east.inner); err == nil {
			_, _ = c.Write([]byte("lost"))
			c.Close()
		}
		if err := errors.Join(west.flush(), east.flush()); err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range []*gateway{west, east} {
		g.until(t, "no state and no connection", func() bool {
			states, err1 := g.host.Output("ip", "xfrm", "state")
			conns, err2 := g.host.Output("ss", "-Htn", "state", "established", "state", "close-wait", "state", "fin-wait-1", "state", "fin-wait-2")
			return err1 == nil && err2 == nil && states+conns == ""
		})
	}
}

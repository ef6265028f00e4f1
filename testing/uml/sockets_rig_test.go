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
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/testing/netns"
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

// hears sets what is done with each IKE message from now on, in the goroutine that reads.
func (g *gateway) hears(f func(transport.Datagram)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.onIKE = f
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
		t.Fatalf("%s: not within 20 s: %s; %d IKE messages, %d octets unread\n%s", g.host.Name, what, len(g.messages()), g.unread(), g.counters())
	}
}

// has waits until n IKE messages have come in all.
func (g *gateway) has(t *testing.T, n int, what string) {
	t.Helper()
	g.until(t, what, func() bool { return len(g.messages()) == n })
}

// ends waits for the end of a connection and returns its reason.
func (g *gateway) ends(t *testing.T, p path.Path) error {
	t.Helper()
	g.until(t, "the end of "+p.String(), func() bool { return g.reason(p) != nil })
	return g.reason(p)
}

// send sends one IKE message.
func (g *gateway) send(t *testing.T, p path.Path, m []byte) {
	t.Helper()
	if err := g.mux.Send(p, m); err != nil {
		t.Fatalf("%s: %v", g.host.Name, err)
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
			_ = g.ends(t, p)
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

// protect puts SAs and policies for the traffic between west and east in place, at both.
func protect(t *testing.T, west, east *gateway, encapWest, encapEast string) {
	t.Helper()
	if err := errors.Join(west.install(east, encapWest), east.install(west, encapEast)); err != nil {
		t.Fatal(err)
	}
}

func (g *gateway) flush() error {
	return g.host.RunInput("xfrm state flush\nxfrm policy flush\n", "ip", "-batch", "-")
}

// listenUDP opens a socket on the inner address.
func (g *gateway) listenUDP(t *testing.T, port uint16) (c net.PacketConn) {
	t.Helper()
	if err := g.host.Do(func() (err error) {
		c, err = net.ListenPacket("udp", netip.AddrPortFrom(g.inner, port).String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// answers sends back what comes to port 7 of the inner address.
func (g *gateway) answers(t *testing.T) {
	t.Helper()
	c := g.listenUDP(t, 7)
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
		t.Errorf("%s: %d of %d answers (%v)\n%s\n%s", g.host.Name, len(got), n, err, g.counters(), g.states())
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

// counters is what the kernel counts of packets that IPsec has dropped, without what is 0.
func (g *gateway) counters() string {
	stat, _ := g.host.Output("cat", "/proc/net/xfrm_stat")
	var b strings.Builder
	for line := range strings.Lines(stat) {
		if f := strings.Fields(line); len(f) == 2 && f[1] != "0" {
			b.WriteString(line)
		}
	}
	return b.String()
}

// states is the SAs of the kernel.
func (g *gateway) states() string {
	s, _ := g.host.Output("ip", "-s", "xfrm", "state")
	return s
}

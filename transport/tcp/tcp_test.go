package tcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

var loopback = netip.MustParseAddr("127.0.0.1")

func listen(t *testing.T, c Config) (*Listener, chan *Conn) {
	t.Helper()
	if len(c.Ports) == 0 {
		c.Ports = []uint16{0}
	}
	l, err := Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	conns := make(chan *Conn, 100)
	l.Serve(func(c *Conn) {
		c.Ticket.Spoke() // a silent one would give way to others after a second
		conns <- c
	})
	t.Cleanup(func() {
		l.Close()
		for len(conns) > 0 {
			(<-conns).Close()
		}
	})
	return l, conns
}

func option(t *testing.T, c *net.TCPConn, level, name int) int {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var v int
	var opt error
	if err := raw.Control(func(fd uintptr) { v, opt = unix.GetsockoptInt(int(fd), level, name) }); err != nil || opt != nil {
		t.Fatal(err, opt)
	}
	return v
}

func TestAcceptAndDial(t *testing.T) {
	var prepared int
	prepare := func(syscall.RawConn) error { prepared++; return nil }
	meter := new(transport.Meter)
	l, conns := listen(t, Config{Ports: []uint16{0, 0}, Addrs: []netip.Addr{loopback}, Prepare: prepare, Meter: meter})
	if len(l.Ports()) != 2 || prepared != 2 {
		t.Fatalf("ports %v, prepared %d sockets", l.Ports(), prepared)
	}
	seen := map[uint64]bool{}
	for _, port := range l.Ports() {
		d := Dialer{Prepare: prepare, Meter: meter}
		near, err := d.Dial(t.Context(), netip.MustParseAddr("127.0.0.9"), netip.AddrPortFrom(loopback, port))
		if err != nil {
			t.Fatal(err)
		}
		defer near.Close()
		far := <-conns
		defer far.Close()
		if near.Path.Local != far.Path.Remote || near.Path.Remote != far.Path.Local || near.Path.Local.Addr() != netip.MustParseAddr("127.0.0.9") ||
			near.Path.Kind != path.TCP {
			t.Fatalf("paths %v and %v", near.Path, far.Path)
		}
		for _, c := range []*Conn{near, far} {
			if g := c.Path.Generation; g == 0 || seen[g] {
				t.Fatalf("generation %d is not new", g)
			}
			seen[c.Path.Generation] = true
			if option(t, c.TCPConn, unix.IPPROTO_TCP, unix.TCP_NODELAY) == 0 || option(t, c.TCPConn, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT) != notSentLowat ||
				option(t, c.TCPConn, unix.SOL_SOCKET, unix.SO_KEEPALIVE) == 0 {
				t.Fatal("a socket option is missing")
			}
		}
	}
	if c := meter.Snapshot(); prepared != 4 || c.Accepted != 2 || c.Dialed != 2 {
		t.Fatalf("prepared %d, counted %+v", prepared, c)
	}
}

// TestFlowLabelStays: RFC 9329 6.1.
func TestFlowLabelStays(t *testing.T) {
	l, conns := listen(t, Config{})
	near, err := (&Dialer{}).Dial(t.Context(), netip.Addr{}, netip.AddrPortFrom(netip.IPv6Loopback(), l.Ports()[0]))
	if err != nil {
		t.Skipf("NOT TESTED: no IPv6 here: %v", err)
	}
	defer near.Close()
	far := <-conns
	defer far.Close()
	for _, c := range []*Conn{near, far} {
		if option(t, c.TCPConn, unix.IPPROTO_IPV6, unix.IPV6_AUTOFLOWLABEL) != 0 {
			t.Fatal("the system makes the flow label from the ports, which change with every connection")
		}
	}
}

func TestTooManyAreRefused(t *testing.T) {
	notices := make(chan string, 10)
	meter := new(transport.Meter)
	l, conns := listen(t, Config{
		Limits: Limits{PerSource: 3}, Meter: meter,
		Notices: transport.NewNotices(func(_ transport.Drop, _ path.Path, text string) { notices <- text }),
	})
	d := Dialer{}
	for i := range 8 {
		c, err := d.Dial(t.Context(), netip.Addr{}, netip.AddrPortFrom(loopback, l.Ports()[0]))
		if i >= 3 && errors.Is(err, syscall.ECONNRESET) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i >= 3 {
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("connection %d: %v, want a reset", i, err)
			}
		}
	}
	text := <-notices
	for deadline := time.Now().Add(10 * time.Second); meter.Dropped(transport.DropStreamSource) < 5 && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	if len(conns) != 3 || meter.Dropped(transport.DropStreamSource) != 5 {
		t.Fatalf("%d admitted, %d counted as refused", len(conns), meter.Dropped(transport.DropStreamSource))
	}
	if !strings.Contains(text, "per source reached: 3 connections") || len(notices) != 0 {
		t.Fatalf("first notice %q, and %d more", text, len(notices))
	}
	(<-conns).Ticket.Release()
	c, err := d.Dial(t.Context(), netip.Addr{}, netip.AddrPortFrom(loopback, l.Ports()[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 3 { // two that were there, and the new one
		select {
		case k := <-conns:
			defer k.Close()
		case <-time.After(10 * time.Second):
			t.Fatal("no place after one was given back")
		}
	}
}

func TestAcceptErrorsAreTold(t *testing.T) {
	var told []string
	meter := new(transport.Meter)
	l, _ := listen(t, Config{Meter: meter, Notices: transport.NewNotices(func(_ transport.Drop, _ path.Path, text string) { told = append(told, text) })})
	for range 3 {
		l.failed(l.listeners[0], &net.OpError{Op: "accept", Net: "tcp", Addr: l.listeners[0].Addr(), Err: os.NewSyscallError("accept4", syscall.EMFILE)})
	}
	if want := fmt.Sprintf("port %d: too many open files; raise", l.Ports()[0]); len(told) != 1 || !strings.Contains(told[0], want) || meter.Dropped(transport.DropAccept) != 3 {
		t.Fatalf("told %q, counted %d", told, meter.Dropped(transport.DropAccept))
	}
}

func TestDialErrorsSayWhatToDo(t *testing.T) {
	l, _ := listen(t, Config{})
	port := l.Ports()[0]
	l.Close()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel2 := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel2()
	boom := errors.New("boom")
	for _, tc := range []struct {
		name   string
		ctx    context.Context
		d      Dialer
		local  string
		remote string
		is     error
		says   string
	}{
		{"refused", t.Context(), Dialer{}, "", netip.AddrPortFrom(loopback, port).String(), syscall.ECONNREFUSED, "set listen-tcp=yes there"},
		{"local_address", t.Context(), Dialer{}, "192.0.2.77", "127.0.0.1:4500", syscall.EADDRNOTAVAIL, "192.0.2.77"},
		{"families", t.Context(), Dialer{}, "::1", "127.0.0.1:4500", nil, "one address is IPv4"},
		{"cancelled", cancelled, Dialer{}, "", "127.0.0.1:4500", context.Canceled, "127.0.0.1"},
		{"late", late, Dialer{}, "", "127.0.0.1:4500", context.DeadlineExceeded, "check firewalls"},
		{"prepare", t.Context(), Dialer{Prepare: func(syscall.RawConn) error { return boom }}, "", "127.0.0.1:4500", boom, "127.0.0.1"},
		{"firewall", t.Context(), Dialer{Prepare: func(syscall.RawConn) error { return syscall.EPERM }}, "", "127.0.0.1:4500", syscall.EPERM, "firewall on this host"},
	} {
		var local netip.Addr
		if tc.local != "" {
			local = netip.MustParseAddr(tc.local)
		}
		_, err := tc.d.Dial(tc.ctx, local, netip.MustParseAddrPort(tc.remote))
		if err == nil || tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.says)
		}
		if err != nil && (strings.Count(err.Error(), tc.remote) > 1 || strings.Contains(err.Error(), "context") || strings.Contains(err.Error(), "i/o timeout")) {
			t.Errorf("%s: names the peer twice, or speaks Go: %v", tc.name, err)
		}
	}
}

func TestListenErrorsSayWhatToDo(t *testing.T) {
	l, _ := listen(t, Config{})
	if _, err := Listen(Config{Ports: l.Ports()}); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "listen-tcp=") {
		t.Errorf("port in use: %v", err)
	}
	if _, err := Listen(Config{Ports: []uint16{0}, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.77")}}); !errors.Is(err, syscall.EADDRNOTAVAIL) ||
		!strings.Contains(err.Error(), "listen=") {
		t.Errorf("address of somebody else: %v", err)
	}
}

// TestOpenAndShut: a further port accepts as soon as it is open, before or after Serve, and no more once it is shut.
func TestOpenAndShut(t *testing.T) {
	loopback := netip.MustParseAddr("127.0.0.1")
	l, err := Listen(Config{Addrs: []netip.Addr{loopback}, Ports: []uint16{0}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan *Conn)
	free := func() uint16 {
		c, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return addrPort(c.Addr()).Port()
	}
	early, late := free(), free()
	if err := l.Open(early); err != nil {
		t.Fatal(err)
	}
	l.Serve(func(c *Conn) { got <- c })
	if err := errors.Join(l.Open(late), l.Open(late)); err != nil {
		t.Fatal(err)
	}
	if ports := l.Ports(); len(ports) != 3 {
		t.Errorf("ports %v", ports)
	}
	for _, port := range []uint16{early, late} {
		c, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback, port)))
		if err != nil {
			t.Fatal(err)
		}
		accepted := <-got
		if accepted.Path.Local.Port() != port {
			t.Errorf("%s, want port %d", accepted.Path, port)
		}
		accepted.Ticket.Release()
		accepted.Close()
		c.Close()
	}
	l.Shut(early)
	if c, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback, early))); err == nil {
		c.Close()
		t.Error("a port that is shut accepts")
	}
	l.Close()
	if err := l.Open(early); err == nil {
		t.Error("opened after Close")
	}
}

package udp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// recorder is a handler and a datapath that keep what they get.
type recorder struct {
	mu          sync.Mutex
	ike         []transport.Datagram
	esp         []string
	espPath     path.Path
	calls       int
	busy        bool
	unreachable []path.Path
	changed     chan struct{}
}

func newRecorder() *recorder { return &recorder{changed: make(chan struct{}, 1)} }

func (r *recorder) note() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *recorder) IKE(d transport.Datagram) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ike = append(r.ike, d)
	r.note()
	return !r.busy
}

func (r *recorder) InputESP(p path.Path, packets [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	r.espPath = p
	for _, b := range packets {
		r.esp = append(r.esp, string(b))
		clear(b) // a datapath decrypts in place
	}
	r.note()
}

func (r *recorder) Unreachable(p path.Path, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unreachable = append(r.unreachable, p)
	r.note()
}

func (r *recorder) Accepted(path.Path)    {}
func (r *recorder) Lost(path.Path, error) {}

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

func listen(t *testing.T, c Config) (*Transport, *recorder) {
	t.Helper()
	if len(c.Ports) == 0 {
		c.Ports = []Port{{}, {Marker: true}}
	}
	u, err := Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	r := newRecorder()
	u.Start(r, r)
	t.Cleanup(func() { u.Close() })
	return u, r
}

// message is the ith IKE message.
func (r *recorder) message(i int) transport.Datagram {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ike[i]
}

// plain and marked are the numbers of the two ports.
func plain(u *Transport) uint16  { return u.Ports()[0].Number }
func marked(u *Transport) uint16 { return u.Ports()[1].Number }

func ikeMessage(body string) []byte {
	b := make([]byte, transport.IKEHeaderLen, transport.IKEHeaderLen+len(body))
	b[0] = 0x11
	b = append(b, body...)
	binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
	return b
}

func espPackets(from, n, size int) []byte {
	var out []byte
	for i := range n {
		b := bytes.Repeat([]byte{byte(from + i)}, size)
		binary.BigEndian.PutUint32(b, 0xc0ffee01)
		binary.BigEndian.PutUint32(b[4:], uint32(from+i))
		out = append(out, b...)
	}
	return out
}

func mustPath(t *testing.T, u *Transport, local netip.Addr, port uint16, remote netip.AddrPort) path.Path {
	t.Helper()
	p, err := u.Path(local, port, remote)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestRepliesLeaveFromTheAddressAsked: RFC 7296 2.11.
func TestRepliesLeaveFromTheAddressAsked(t *testing.T) {
	u, r := listen(t, Config{})
	for i, to := range []string{"127.0.0.1", "127.0.0.2", "127.1.2.3", "::1"} {
		addr := netip.MustParseAddr(to)
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, marked(u)))) // connected: only replies from there are delivered
		if err != nil && addr.Is6() {
			t.Logf("not tested: no IPv6 here: %v", err)
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ask := ikeMessage("to " + to)
		if _, err := c.Write(append(make([]byte, 4), ask...)); err != nil {
			t.Fatal(err)
		}
		r.until(t, "the request to "+to, func() bool { return len(r.ike) == i+1 })
		d := r.message(i)
		if d.Path.Local != netip.AddrPortFrom(addr, marked(u)) || !bytes.Equal(d.Data, ask) {
			t.Fatalf("came on %s", d.Path)
		}
		if err := u.Send(d.Path, ikeMessage("answer")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := c.Read(buf)
		if err != nil || string(buf[:n]) != "\x00\x00\x00\x00"+string(ikeMessage("answer")) {
			t.Fatalf("reply from %s: %q, %v", to, buf[:n], err)
		}
	}
}

func TestESPBatches(t *testing.T) {
	for _, gso := range []bool{true, false} {
		west, _ := listen(t, Config{})
		east, er := listen(t, Config{})
		p := mustPath(t, west, loopback, marked(west), netip.AddrPortFrom(loopback, marked(east)))
		if !gso {
			west.socket(p).gso.Store(false)
		} else if !west.socket(p).gso.Load() {
			t.Log("not tested: this kernel has no UDP_SEGMENT")
			continue
		}
		const size, n = 1456, 100 // more than one sendmsg takes
		buf := espPackets(0, n, size)
		buf = append(buf, espPackets(n, 1, 77)...) // the last may be shorter
		if err := west.SendESP(p, buf, size); err != nil {
			t.Fatal(err)
		}
		er.until(t, "101 packets", func() bool { return len(er.esp) == n+1 })
		er.mu.Lock()
		packets, calls, from := er.esp, er.calls, er.espPath
		er.mu.Unlock()
		for i, b := range packets {
			want := espPackets(i, 1, len(b))
			if b != string(want) || len(b) != size && i < n {
				t.Fatalf("GSO %v: packet %d differs", gso, i)
			}
		}
		if from.Remote != p.Local || from.Local != p.Remote {
			t.Fatalf("came on %s, sent on %s", from, p)
		}
		c := west.meter.Snapshot().UDP
		if c.ESPOut != n+1 || c.ESPOutBytes != uint64(len(buf)) {
			t.Fatalf("counted %d packets, %d octets", c.ESPOut, c.ESPOutBytes)
		}
		t.Logf("GSO %v: %d packets in %d calls of InputESP", gso, n+1, calls)
	}
}

// TestSorting sends every kind of datagram to both ports.
func TestSorting(t *testing.T) {
	u, r := listen(t, Config{})
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mark := make([]byte, 4)
	long := ikeMessage("x")
	for _, tc := range []struct {
		name   string
		port   uint16
		data   []byte
		drop   transport.Drop
		passes int // 1: IKE, 2: ESP
	}{
		{"ike_500", plain(u), ikeMessage("a"), 0, 1},
		{"ike_4500", marked(u), append(mark, ikeMessage("b")...), 0, 1},
		{"esp", marked(u), espPackets(1, 1, 60), 0, 2},
		{"keepalive", marked(u), []byte{0xff}, transport.DropKeepAlive, 0},
		{"one_octet", marked(u), []byte{0xfe}, transport.DropShort, 0},
		{"empty", marked(u), nil, transport.DropEmpty, 0},
		{"short_esp", marked(u), espPackets(1, 1, 8)[:7], transport.DropShort, 0},
		{"short_ike_500", plain(u), long[:27], transport.DropShort, 0},
		{"marker_only", marked(u), mark, transport.DropShort, 0},
		{"truncated_ike", plain(u), long[:28], transport.DropLength, 0},
		{"esp_500", plain(u), espPackets(1, 1, 60), transport.DropLength, 0},
		{"keepalive_500", plain(u), []byte{0xff}, transport.DropShort, 0},
	} {
		before := u.meter.Snapshot()
		r.mu.Lock()
		ikes, esps := len(r.ike), len(r.esp)
		r.mu.Unlock()
		if _, err := c.WriteToUDPAddrPort(tc.data, netip.AddrPortFrom(loopback, tc.port)); err != nil {
			t.Fatal(err)
		}
		switch tc.passes {
		case 1:
			r.until(t, tc.name, func() bool { return len(r.ike) == ikes+1 })
		case 2:
			r.until(t, tc.name, func() bool { return len(r.esp) == esps+1 })
		default:
			r.until(t, tc.name+" counted, and not handed over", func() bool {
				return u.meter.Dropped(tc.drop) == before.Drops[tc.drop]+1 && len(r.ike) == ikes && len(r.esp) == esps
			})
		}
	}
}

func TestBusyHandlerIsCounted(t *testing.T) {
	u, r := listen(t, Config{})
	r.mu.Lock()
	r.busy = true
	r.mu.Unlock()
	p := mustPath(t, u, loopback, plain(u), netip.AddrPortFrom(loopback, plain(u)))
	if err := u.Send(p, ikeMessage("to myself")); err != nil {
		t.Fatal(err)
	}
	r.until(t, "the drop", func() bool { return u.meter.Dropped(transport.DropHandlerBusy) == 1 })
}

func TestKeepAlives(t *testing.T) {
	west, wr := listen(t, Config{})
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p := mustPath(t, west, loopback, marked(west), c.LocalAddr().(*net.UDPAddr).AddrPort())
	const interval = 100 * time.Millisecond
	west.KeepAlive(p, interval)
	start, buf := time.Now(), make([]byte, 100)
	c.SetReadDeadline(start.Add(10 * time.Second))
	for i := range 3 {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil || n != 1 || buf[0] != 0xff || from != p.Local {
			t.Fatalf("keepalive %d: % x from %s, %v", i, buf[:n], from, err)
		}
	}
	if took := time.Since(start); took < interval {
		t.Fatalf("three keepalives in %v, with an interval of %v", took, interval)
	}
	west.KeepAlive(p, 0)
	sent := west.meter.Snapshot().UDP.KeepAlives
	c.SetReadDeadline(time.Now().Add(3 * interval))
	for {
		if _, _, err := c.ReadFromUDPAddrPort(buf); err != nil {
			break
		}
	}
	wr.until(t, "quiet", func() bool { return west.meter.Snapshot().UDP.KeepAlives <= sent+1 })

	// A path on which something is sent needs none.
	west.KeepAlive(p, time.Minute)
	if west.alive.count.Load() != 1 {
		t.Fatal("not in the table")
	}
	e := west.alive.paths[p]
	if err := west.SendESP(p, espPackets(1, 1, 60), 0); err != nil {
		t.Fatal(err)
	}
	if !e.sent.Load() {
		t.Fatal("sending ESP was not noted")
	}
}

// TestUnreachableIsOnlyAHint: an ICMP error for one peer reaches the handler and disturbs nobody.
func TestUnreachableIsOnlyAHint(t *testing.T) {
	var mu sync.Mutex
	var notices []string
	west, wr := listen(t, Config{Notices: transport.NewNotices(func(_ transport.Drop, _ path.Path, text string) {
		mu.Lock()
		defer mu.Unlock()
		notices = append(notices, text)
	})})
	east, er := listen(t, Config{})
	dead, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		t.Fatal(err)
	}
	gone := mustPath(t, west, loopback, plain(west), dead.LocalAddr().(*net.UDPAddr).AddrPort())
	dead.Close()
	good := mustPath(t, west, loopback, plain(west), netip.AddrPortFrom(loopback, plain(east)))
	for i := range 20 {
		if err := west.Send(gone, ikeMessage("nobody")); err != nil {
			t.Fatal(err)
		}
		if err := west.Send(good, ikeMessage("somebody")); err != nil {
			t.Fatalf("round %d: sending to another peer failed: %v", i, err)
		}
	}
	er.until(t, "all to the other peer", func() bool { return len(er.ike) == 20 })
	wr.until(t, "the hint", func() bool { return len(wr.unreachable) > 0 })
	wr.mu.Lock()
	hint := wr.unreachable[0]
	wr.mu.Unlock()
	if hint != gone {
		t.Fatalf("the hint is about %s, want %s", hint, gone)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(notices) != 1 || !strings.Contains(notices[0], "nothing listens") {
		t.Fatalf("notices: %q", notices)
	}
}

func TestListenErrorsSayWhatToDo(t *testing.T) {
	u, _ := listen(t, Config{})
	_, err := Listen(Config{Ports: []Port{{Number: marked(u), Marker: true}}})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "another IKE daemon") {
		t.Errorf("port in use: %v", err)
	}
	_, err = Listen(Config{Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.77")}, Ports: []Port{{}}})
	if !errors.Is(err, syscall.EADDRNOTAVAIL) || !strings.Contains(err.Error(), "listen=") {
		t.Errorf("address of somebody else: %v", err)
	}
	boom := errors.New("boom")
	if _, err = Listen(Config{Ports: []Port{{}}, Prepare: func(syscall.RawConn) error { return boom }}); !errors.Is(err, boom) {
		t.Errorf("a Prepare that fails: %v", err)
	}
}

func TestPaths(t *testing.T) {
	prepared := 0
	u, _ := listen(t, Config{Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.2")}, Prepare: func(syscall.RawConn) error { prepared++; return nil }})
	if prepared != 2 {
		t.Errorf("Prepare was called %d times for 2 sockets", prepared)
	}
	peer := netip.MustParseAddrPort("127.0.0.1:4500")
	if p := mustPath(t, u, netip.Addr{}, marked(u), peer); p.Local.Addr() != netip.MustParseAddr("127.0.0.2") {
		t.Errorf("listen= does not decide the source: %s", p)
	}
	if p := mustPath(t, u, netip.Addr{}, marked(u), netip.MustParseAddrPort("[::ffff:127.0.0.1]:4500")); p.Remote != peer {
		t.Errorf("an IPv4 address in IPv6 form: %s", p)
	}
	for name, try := range map[string]func() (path.Path, error){
		"port nobody listens on": func() (path.Path, error) { return u.Path(netip.Addr{}, 1, peer) },
		"other address":          func() (path.Path, error) { return u.Path(loopback, marked(u), peer) },
	} {
		if _, err := try(); !errors.Is(err, transport.ErrNoPath) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := u.Path(netip.Addr{}, marked(u), netip.AddrPort{}); err == nil {
		t.Error("a path without peer")
	}
	if err := u.SendESP(path.Path{Local: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), plain(u)), Remote: peer}, espPackets(1, 1, 60), 0); !errors.Is(err, transport.ErrNoPath) {
		t.Errorf("ESP from the port that carries IKE only: %v", err)
	}
}

func TestTooLargeIsCounted(t *testing.T) {
	u, _ := listen(t, Config{})
	p := mustPath(t, u, loopback, marked(u), netip.AddrPortFrom(loopback, marked(u)))
	if err := u.SendESP(p, make([]byte, 70000), 0); !errors.Is(err, transport.ErrTooLarge) {
		t.Fatalf("70000 octets in one datagram: %v", err)
	}
	if u.meter.Dropped(transport.DropSendTooLarge) != 1 {
		t.Fatal("not counted")
	}
}

func TestNothingIsAllocated(t *testing.T) {
	west, _ := listen(t, Config{})
	sunk := &counter{}
	east, err := Listen(Config{Ports: []Port{{Marker: true}}})
	if err != nil {
		t.Fatal(err)
	}
	east.Start(newRecorder(), sunk)
	defer east.Close()
	p := mustPath(t, west, loopback, marked(west), netip.AddrPortFrom(loopback, east.Ports()[0].Number))
	west.KeepAlive(p, time.Hour)
	buf := espPackets(0, 44, 1456)
	if n := testing.AllocsPerRun(500, func() { _ = west.SendESP(p, buf, 1456) }); n != 0 { // counts the reader's too
		t.Errorf("%v allocations for 44 packets sent and received", n)
	}
}

// counter is a datapath that only counts.
type counter struct{ packets int }

func (c *counter) InputESP(_ path.Path, packets [][]byte) { c.packets += len(packets) }

// TestOpenAndShut: a further port, with marker, is read as soon as it is open, before or after Start, and sends no more once it is shut. The others stay.
func TestOpenAndShut(t *testing.T) {
	tr, err := Listen(Config{Addrs: []netip.Addr{loopback}, Ports: []Port{{Marker: true}}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	early, late := freePort(t), freePort(t)
	if err := tr.Open(early, false); err != nil {
		t.Fatal(err)
	}
	r := newRecorder()
	tr.Start(r, r)
	if err := errors.Join(tr.Open(late, false), tr.Open(late, true)); err != nil { // the second changes nothing
		t.Fatal(err)
	}
	if got := tr.Ports(); len(got) != 3 {
		t.Errorf("ports %v", got)
	}
	msg := make([]byte, transport.IKEHeaderLen)
	binary.BigEndian.PutUint32(msg[24:], uint32(len(msg)))
	for i, port := range []uint16{early, late} {
		to := netip.AddrPortFrom(loopback, tr.Ports()[0].Number)
		p, err := tr.Path(loopback, port, to)
		if err != nil {
			t.Fatal(err)
		}
		back := path.Path{Local: to, Remote: p.Local, Kind: path.UDP}
		if err := errors.Join(tr.Send(p, msg), tr.Send(back, msg)); err != nil {
			t.Fatal(err)
		}
		r.until(t, "both ends have a message", func() bool { return len(r.ike) == 2*(i+1) })
	}
	tr.Shut(early)
	if _, err := tr.Path(loopback, early, netip.AddrPortFrom(loopback, late)); !errors.Is(err, transport.ErrNoPath) {
		t.Errorf("a path from a port that is shut: %v", err)
	}
	if err := tr.Open(early, false); err != nil {
		t.Errorf("opened again: %v", err)
	}
	tr.Close()
	if err := tr.Open(freePort(t), false); err == nil {
		t.Error("opened after Close")
	}
}

// TestPortIsOurs: where ESP is left to the kernel, that of a port which is ours is not.
func TestPortIsOurs(t *testing.T) {
	encapsulated := 0
	tr, err := Listen(Config{Addrs: []netip.Addr{loopback}, Ports: []Port{{Marker: true}}, Encap: func(syscall.RawConn) error { encapsulated++; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	for _, ours := range []bool{true, false} {
		if err := tr.Open(freePort(t), ours); err != nil {
			t.Fatal(err)
		}
	}
	if encapsulated != 2 {
		t.Errorf("%d sockets were left to the kernel, want those of two ports", encapsulated)
	}
}

// freePort is a port that nobody has at the moment.
func freePort(t *testing.T) uint16 {
	t.Helper()
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

package rawesp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

// Addresses of this test's own: a raw socket on the wildcard would see what other tests send.
var (
	one   = netip.MustParseAddr("127.0.50.1")
	two   = netip.MustParseAddr("127.0.50.2")
	three = netip.MustParseAddr("127.0.50.3")
	six   = netip.MustParseAddr("::1")
)

// recorder is a datapath that keeps what it gets.
type recorder struct {
	mu    sync.Mutex
	esp   []string
	paths []path.Path // of each packet
	calls int
}

func (r *recorder) InputESP(p path.Path, packets [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	for _, b := range packets {
		r.esp, r.paths = append(r.esp, string(b)), append(r.paths, p)
		clear(b) // a datapath decrypts in place
	}
}

func (r *recorder) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.esp)
}

// until polls for cond.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func listen(t *testing.T, c Config) (*Transport, *recorder) {
	t.Helper()
	u, r := bind(t, c), &recorder{}
	u.Start(r)
	return u, r
}

// bind is listen that does not read yet: what is sent meanwhile waits in the sockets.
func bind(t *testing.T, c Config) *Transport {
	t.Helper()
	u, err := Listen(c)
	if errors.Is(err, syscall.EPERM) {
		if os.Getenv("CI") == "true" {
			t.Fatalf("NOT TESTED, and required in CI: %v", err)
		}
		t.Skipf("NOT TESTED: plain ESP on raw sockets: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

// espPackets makes n packets of size octets and one shorter one.
func espPackets(n, size int) []byte {
	var out []byte
	for i := range n + 1 {
		b := bytes.Repeat([]byte{byte(i)}, size)
		if i == n {
			b = b[:size-4]
		}
		binary.BigEndian.PutUint32(b, 0xc0ffee01)
		binary.BigEndian.PutUint32(b[4:], uint32(i))
		out = append(out, b...)
	}
	return out
}

func pathOf(from, to netip.Addr) path.Path {
	return path.Path{Local: netip.AddrPortFrom(from, 0), Remote: netip.AddrPortFrom(to, 0), Kind: path.ESP}
}

// TestBatches: what is sent arrives, whole and in order, with the path of the sender reversed; most packets share a system call.
func TestBatches(t *testing.T) {
	for _, tc := range []struct{ from, to netip.Addr }{{one, two}, {six, six}} {
		receiver, got := bind(t, Config{Addrs: []netip.Addr{tc.to}}), &recorder{}
		sender := receiver // two sockets of one address would both hear it
		if tc.from != tc.to {
			sender, _ = listen(t, Config{Addrs: []netip.Addr{tc.from}})
		}
		const n, size = 150, 1400
		buf := espPackets(n, size)
		if err := sender.SendESP(pathOf(tc.from, tc.to), buf, size); err != nil {
			t.Fatal(err)
		}
		receiver.Start(got) // only now, so that whole batches wait for it
		until(t, "all packets", func() bool { return got.len() == n+1 })
		if strings.Join(got.esp, "") != string(buf) {
			t.Errorf("%s: the packets differ", tc.to)
		}
		for _, p := range got.paths {
			if p != pathOf(tc.to, tc.from) {
				t.Fatalf("path %v", p)
			}
		}
		out, in := sender.meter.Snapshot().ESP, receiver.meter.Snapshot().ESP
		if out.ESPOut != n+1 || out.ESPOutBytes != uint64(len(buf)) || out.Writes != 3 {
			t.Errorf("sent: %+v", out)
		}
		if in.ESPIn != n+1 || in.ESPInBytes != uint64(len(buf)) || in.Reads != 3 {
			t.Errorf("received: %+v", in)
		}
	}
}

// TestRepliesLeaveFromTheAddressAsked: a socket for every address sends from the one that the path names, and says which was asked (RFC 7296 2.11).
func TestRepliesLeaveFromTheAddressAsked(t *testing.T) {
	every, heard := listen(t, Config{})
	peer, got := listen(t, Config{Addrs: []netip.Addr{three}})
	for _, local := range []netip.Addr{one, two} {
		if err := every.SendESP(pathOf(local, three), espPackets(0, 100), 0); err != nil {
			t.Fatal(err)
		}
		if err := peer.SendESP(pathOf(three, local), espPackets(0, 100), 0); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "both packets", func() bool { return got.len() == 2 })
	if got.paths[0].Remote.Addr() != one || got.paths[1].Remote.Addr() != two {
		t.Errorf("came from %v", got.paths)
	}
	// The socket for every address hears what was meant for the peer as well.
	asked := func(local netip.Addr) int {
		heard.mu.Lock()
		defer heard.mu.Unlock()
		n := 0
		for _, p := range heard.paths {
			if p == pathOf(local, three) {
				n++
			}
		}
		return n
	}
	until(t, "what the peer sent", func() bool { return asked(one) == 1 && asked(two) == 1 })
}

// TestPathsAreNotMixed: packets of one read that came from two hosts are handed over apart.
func TestPathsAreNotMixed(t *testing.T) {
	every, _ := listen(t, Config{})
	_, got := listen(t, Config{Addrs: []netip.Addr{three}})
	for range 50 {
		for _, from := range []netip.Addr{one, one, two} {
			if err := every.SendESP(pathOf(from, three), espPackets(0, 100), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	until(t, "all packets", func() bool { return got.len() == 150 })
	for i, p := range got.paths {
		if want := []netip.Addr{one, one, two}[i%3]; p.Remote.Addr() != want {
			t.Fatalf("packet %d came from %s, want %s", i, p.Remote, want)
		}
	}
}

// TestLargeAndSmall: a packet larger than the link is fragmented and arrives whole; one too short for ESP is counted.
func TestLargeAndSmall(t *testing.T) {
	u, _ := listen(t, Config{Addrs: []netip.Addr{one}})
	v, got := listen(t, Config{Addrs: []netip.Addr{two}})
	for _, n := range []int{7, 8, 65000} {
		if err := u.SendESP(pathOf(one, two), espPackets(1, 65004)[:n], 0); err != nil {
			t.Fatalf("%d octets: %v", n, err)
		}
	}
	until(t, "two packets", func() bool { return got.len() == 2 })
	if len(got.esp[0]) != 8 || len(got.esp[1]) != 65000 || v.meter.Dropped(transport.DropShort) != 1 {
		t.Errorf("%d and %d octets, %d short", len(got.esp[0]), len(got.esp[1]), v.meter.Dropped(transport.DropShort))
	}
	if err := u.SendESP(pathOf(one, two), make([]byte, 65536), 0); !errors.Is(err, transport.ErrTooLarge) || u.meter.Dropped(transport.DropSendTooLarge) != 1 {
		t.Errorf("larger than IP: %v", err)
	}
}

func TestNoSuchPath(t *testing.T) {
	u, _ := listen(t, Config{Addrs: []netip.Addr{one}})
	for _, p := range []path.Path{
		pathOf(two, three), pathOf(one, six), pathOf(six, six),
		{Local: netip.AddrPortFrom(one, 500), Remote: netip.AddrPortFrom(two, 500), Kind: path.UDP},
	} {
		if err := u.SendESP(p, make([]byte, 40), 0); !errors.Is(err, transport.ErrNoPath) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// TestICMPIsAHint: a host that takes no ESP says so by ICMP; it is told once and stops nothing.
func TestICMPIsAHint(t *testing.T) {
	var mu sync.Mutex
	var told []string
	u, _ := listen(t, Config{Addrs: []netip.Addr{one}, Notices: transport.NewNotices(func(_ transport.Drop, _ path.Path, text string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, text)
	})})
	for i := range 3 {
		if err := u.SendESP(pathOf(one, three), espPackets(3, 100), 100); err != nil {
			t.Errorf("send %d: %v", i, err)
		}
		until(t, "ICMP errors", func() bool { return u.meter.Dropped(transport.DropUnreachable) > uint64(i) })
	}
	mu.Lock()
	defer mu.Unlock()
	if len(told) != 1 || !strings.HasPrefix(told[0], "127.0.50.3:ESP: ") || !strings.Contains(told[0], "takes no plain ESP") {
		t.Errorf("told %q", told)
	}
}

// TestNothingIsAllocated for a packet, in either direction.
func TestNothingIsAllocated(t *testing.T) {
	u, _ := listen(t, Config{Addrs: []netip.Addr{one}})
	v, err := Listen(Config{Addrs: []netip.Addr{two}})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	var got counter
	v.Start(&got)
	buf, p := espPackets(20, 1400), pathOf(one, two)
	want := uint64(0)
	if n := testing.AllocsPerRun(50, func() {
		if err := u.SendESP(p, buf, 1400); err != nil {
			t.Fatal(err)
		}
		for want += 21; v.meter.Snapshot().ESP.ESPIn < want; {
			runtime.Gosched()
		}
	}); n > 1 { // what the runtime itself does meanwhile
		t.Errorf("%v allocations for 21 packets", n)
	}
}

type counter struct{ n int }

func (c *counter) InputESP(_ path.Path, packets [][]byte) { c.n += len(packets) }

// TestWithoutPrivilege: the error names the capability that is missing.
func TestWithoutPrivilege(t *testing.T) {
	runtime.LockOSThread() // not unlocked: the thread ends with this goroutine
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	data[0].Effective &^= 1 << unix.CAP_NET_RAW
	data[0].Permitted &^= 1 << unix.CAP_NET_RAW
	if err := unix.Capset(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	u, err := Listen(Config{})
	if err == nil {
		u.Close()
	}
	if !errors.Is(err, syscall.EPERM) || !strings.Contains(fmt.Sprint(err), "CAP_NET_RAW") || !strings.Contains(fmt.Sprint(err), "protocol 50") {
		t.Errorf("got %v", err)
	}
}

func TestAddressThatIsNotOurs(t *testing.T) {
	listen(t, Config{Addrs: []netip.Addr{one}})
	if _, err := Listen(Config{Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.77")}}); err == nil || !strings.Contains(err.Error(), "listen=") {
		t.Errorf("got %v", err)
	}
}

// FuzzTake gives one packet as the system would to the reader: it is handed over, without what comes before the ESP header, or counted.
func FuzzTake(f *testing.F) {
	f.Add(append([]byte{0x45}, make([]byte, 40)...), true, uint16(0))
	f.Add(append([]byte{0x4f}, make([]byte, 40)...), true, uint16(unix.MSG_TRUNC))
	f.Add(make([]byte, 9), false, uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, is4 bool, flags uint16) {
		u, got := &Transport{meter: new(transport.Meter)}, &recorder{}
		u.esp = got
		r := newReader(u, &bound{is4: is4, local: one})
		defer r.close()
		m := &r.messages[0]
		m.n, m.header.Flags = uint32(copy(r.buf[:readBuffer], data)), int32(flags)
		m.header.SetControllen(0)
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(&r.from[0])) = unix.RawSockaddrInet4{Addr: two.As4()}
		r.take(0)
		r.flush()
		drops := 0
		for _, n := range u.meter.Snapshot().Drops {
			drops += int(n)
		}
		if len(got.esp)+drops != 1 {
			t.Fatalf("%d packets and %d drops", len(got.esp), drops)
		}
		if len(got.esp) == 1 && !strings.HasSuffix(string(data), got.esp[0]) {
			t.Fatalf("%x became %x", data, got.esp[0])
		}
	})
}

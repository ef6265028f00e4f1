package userspace

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/ts"
)

var (
	gcm256 = suite.Suite{Encr: suite.Encr{ID: iana.ENCR_AES_GCM_16, KeyBits: 256}}
	cbc256 = suite.Suite{Encr: suite.Encr{ID: iana.ENCR_AES_CBC, KeyBits: 256}, Integ: iana.AUTH_HMAC_SHA2_256_128, SN: iana.SN_ESN}

	westNet = ts.Set{ts.FromPrefix(netip.MustParsePrefix("192.0.1.0/24"))}
	eastNet = ts.Set{ts.FromPrefix(netip.MustParsePrefix("192.0.2.0/24"))}
	anyNet  = ts.Set{ts.FromPrefix(netip.MustParsePrefix("0.0.0.0/0"))}
	anyNet6 = ts.Set{ts.FromPrefix(netip.MustParsePrefix("::/0"))}

	westUDP = path.Path{Local: netip.MustParseAddrPort("192.1.2.45:4500"), Remote: netip.MustParseAddrPort("192.1.2.23:4500")}
	eastUDP = reverse(westUDP)
	westTCP = path.Path{Local: netip.MustParseAddrPort("192.1.2.45:40000"), Remote: netip.MustParseAddrPort("192.1.2.23:4500"), Kind: path.TCP, Generation: 1}
	eastTCP = reverse(westTCP)
	westESP = westUDP.PlainESP()
	westSix = path.Path{Local: netip.MustParseAddrPort("[2001:db8:1:2::45]:0"), Remote: netip.MustParseAddrPort("[2001:db8:1:2::23]:0"), Kind: path.ESP}

	// everyPath has each carrier once, and plain ESP over IPv6.
	everyPath = []path.Path{westUDP, westTCP, westESP, westSix}
)

func reverse(p path.Path) path.Path { p.Local, p.Remote = p.Remote, p.Local; return p }

// fakeQueue is a TUN queue in memory: what is written is kept.
type fakeQueue struct {
	in     chan []byte
	mu     sync.Mutex
	frames [][]byte
	refuse error
}

func newFakeQueue() *fakeQueue { return &fakeQueue{in: make(chan []byte, 256)} }

func (q *fakeQueue) read(b []byte) (int, error) {
	f, ok := <-q.in
	if !ok {
		return 0, os.ErrClosed
	}
	return copy(b, f), nil
}

func (q *fakeQueue) tryRead(b []byte) (int, error) {
	select {
	case f, ok := <-q.in:
		if !ok {
			return 0, os.ErrClosed
		}
		return copy(b, f), nil
	default:
		return 0, nil
	}
}

func (q *fakeQueue) write(parts []unix.Iovec) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refuse != nil {
		return q.refuse
	}
	var f []byte
	for _, p := range parts {
		f = append(f, unsafe.Slice(p.Base, p.Len)...)
	}
	q.frames = append(q.frames, f)
	return nil
}

func (q *fakeQueue) interrupt()   { close(q.in) }
func (q *fakeQueue) close() error { return nil }

// taken returns the frames written since the last call.
func (q *fakeQueue) taken() [][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := q.frames
	q.frames = nil
	return f
}

// discardQueue takes everything and keeps nothing.
type discardQueue struct{ fakeQueue }

func (*discardQueue) write([]unix.Iovec) error { return nil }

// sent is one SendESP.
type sent struct {
	path    path.Path
	packets [][]byte
}

// wire is a Sender that keeps what is sent, cut into packets.
type wire struct {
	t    testing.TB
	sent []sent
	err  error
}

func (w *wire) SendESP(p path.Path, buf []byte, segment int) error {
	if w.err != nil {
		return w.err
	}
	buf = slices.Clone(buf)
	s := sent{path: p}
	for len(buf) > 0 {
		n := min(segment, len(buf))
		if p.Kind.Stream() {
			n = int(binary.BigEndian.Uint16(buf))
			if n < 2 || n > len(buf) {
				w.t.Fatalf("frame of %d octets in a buffer of %d", n, len(buf))
			}
			s.packets = append(s.packets, buf[2:n])
		} else {
			s.packets = append(s.packets, buf[:n])
		}
		buf = buf[n:]
	}
	w.sent = append(w.sent, s)
	return nil
}

func (w *wire) take() []sent { s := w.sent; w.sent = nil; return s }

// end is a Datapath without goroutines: requests and frames are carried out where they are made.
type end struct {
	*Datapath
	t      testing.TB
	q      *fakeQueue
	wire   *wire
	worker *worker
	events []kernel.Event
}

func newEnd(t testing.TB, cfg Config, host Host) *end {
	e := &end{t: t, q: newFakeQueue(), wire: &wire{t: t}}
	e.Datapath = newDatapath(cfg, e.wire, func(ev kernel.Event) { e.events = append(e.events, ev) }, []queue{e.q}, true)
	e.host = host
	e.worker = newWorker(e.Datapath, e.q)
	return e
}

// settle carries out pending requests and returns the events since the last call.
func (e *end) settle() []kernel.Event {
	for len(e.control.pending) > 0 {
		do := e.control.pending[0]
		e.control.pending = e.control.pending[1:]
		do()
	}
	ev := e.events
	e.events = nil
	return ev
}

// must carries out pending requests, all of which have to succeed.
func (e *end) must() {
	e.t.Helper()
	for _, ev := range e.settle() {
		if d, ok := ev.(kernel.Done); ok && d.Err != nil {
			e.t.Fatal(d.Err)
		}
	}
}

// out hands frames over as if they had been read from the TUN, and returns what was sent.
func (e *end) out(frames ...[]byte) []sent {
	for _, f := range frames {
		e.worker.frame(slices.Clone(f))
	}
	e.worker.flush()
	return e.wire.take()
}

// in hands over what the other end sent and returns the frames written to the TUN.
func (e *end) in(all ...sent) [][]byte {
	for _, s := range all {
		packets := make([][]byte, len(s.packets))
		for i := range packets {
			packets[i] = slices.Clone(s.packets[i])
		}
		e.InputESP(reverse(s.path), packets)
	}
	return e.q.taken()
}

func (e *end) dropped(why Drop) uint64 { return e.drops[why].Load() }

func keys(s suite.Suite, first byte) (encr, integ []byte) {
	fill := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = first + byte(i)
		}
		return b
	}
	return fill(s.EncrKeyLen()), fill(s.IntegKeyLen())
}

// pairOf makes the SA pair of one side; n makes SPIs and keys different.
func pairOf(id kernel.PolicyID, s suite.Suite, n byte, west bool, local, remote ts.Set, p path.Path) kernel.SAPair {
	sa := func(direction byte) kernel.SA {
		encr, integ := keys(s, n*16+direction*8)
		return kernel.SA{SPI: kernel.SPI(0xc0000000 + uint32(n)*2 + uint32(direction)), Suite: s, EncrKey: encr, IntegKey: integ, ReplayWindow: 128}
	}
	in, out := sa(0), sa(1)
	if !west {
		in, out = out, in
	}
	return kernel.SAPair{Policy: id, In: in, Out: out, Local: local, Remote: remote, Endpoints: kernel.Endpoints{Path: p}}
}

// tunnel makes two ends with one SA pair between 192.0.1.0/24 and 192.0.2.0/24.
func tunnel(t testing.TB, s suite.Suite, w path.Path) (west, east *end) {
	t.Helper()
	west, east = newEnd(t, Config{PlainESP: true}, nil), newEnd(t, Config{PlainESP: true}, nil)
	west.Route(1, kernel.Policy{ID: "c", Local: westNet, Remote: eastNet})
	west.Install(2, pairOf("c", s, 1, true, westNet, eastNet, w))
	west.must()
	east.Route(1, kernel.Policy{ID: "c", Local: eastNet, Remote: westNet})
	east.Install(2, pairOf("c", s, 1, false, eastNet, westNet, reverse(w)))
	east.must()
	return west, east
}

// ip4 describes an IPv4 packet for tests.
type ip4 struct {
	src, dst string
	proto    uint8
	df       bool
	id       uint16
	frag     uint16 // offset in units of 8 octets, and 0x2000 for more fragments
	body     []byte // from the transport header on
}

func (p ip4) bytes() []byte {
	b := make([]byte, 20+len(p.body))
	src, dst := netip.MustParseAddr(p.src).As4(), netip.MustParseAddr(p.dst).As4()
	b[0], b[8], b[9] = 0x45, 64, p.proto
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[4:], p.id)
	binary.BigEndian.PutUint16(b[6:], p.frag)
	if p.df {
		b[6] |= 0x40
	}
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	copy(b[20:], p.body)
	binary.BigEndian.PutUint16(b[10:], slowChecksum(b[:20]))
	return b
}

// tcp makes a TCP segment with its checksum.
func tcp(src, dst string, sport, dport uint16, seq uint32, flags byte, options, payload []byte) []byte {
	t := make([]byte, 20+len(options)+len(payload))
	binary.BigEndian.PutUint16(t, sport)
	binary.BigEndian.PutUint16(t[2:], dport)
	binary.BigEndian.PutUint32(t[4:], seq)
	binary.BigEndian.PutUint32(t[8:], 77)
	t[12], t[13] = byte((20+len(options))/4<<4), flags
	binary.BigEndian.PutUint16(t[14:], 500)
	copy(t[20:], options)
	copy(t[20+len(options):], payload)
	b := ip4{src: src, dst: dst, proto: protoTCP, df: true, body: t}.bytes()
	putTransportChecksum(b, 16)
	return b
}

func udp(src, dst string, sport, dport uint16, payload []byte) []byte {
	u := make([]byte, 8+len(payload))
	binary.BigEndian.PutUint16(u, sport)
	binary.BigEndian.PutUint16(u[2:], dport)
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	copy(u[8:], payload)
	b := ip4{src: src, dst: dst, proto: protoUDP, df: true, body: u}.bytes()
	putTransportChecksum(b, 6)
	return b
}

func putTransportChecksum(b []byte, at int) {
	b[20+at], b[21+at] = 0, 0
	binary.BigEndian.PutUint16(b[20+at:], transportChecksum(b))
}

// transportChecksum computes the checksum of an IPv4 packet's transport header and payload with the field as it is.
func transportChecksum(b []byte) uint16 {
	ps := append(slices.Clone(b[12:20]), 0, b[9], byte((len(b)-20)>>8), byte(len(b)-20))
	return slowChecksum(append(ps, b[20:]...))
}

// slowChecksum is RFC 1071 as written.
func slowChecksum(b []byte) uint16 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		if s += w; s > 0xffff {
			s = s&0xffff + 1
		}
	}
	return ^uint16(s)
}

// frame puts an empty virtio header before a packet.
func frame(b []byte) []byte { return append(make([]byte, vnetLen), b...) }

// super puts a virtio header for segmentation before a packet, whose checksum becomes partial as the kernel leaves it.
func super(b []byte, gsoType uint8, size int) []byte {
	at := 16
	if gsoType == unix.VIRTIO_NET_HDR_GSO_UDP_L4 {
		at = 6
	}
	binary.BigEndian.PutUint16(b[20+at:], uint16(fold(pseudo(b, b[9], len(b)-20))))
	f := frame(b)
	vnetHeader{flags: unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, gsoType: gsoType, gsoSize: uint16(size), hdrLen: 54, checkStart: 20, checkOffset: uint16(at)}.put(f)
	return f
}

// flatten undoes super-packets: the packets that a kernel would make of frames.
func flatten(t testing.TB, frames [][]byte) (out [][]byte) {
	t.Helper()
	for _, f := range frames {
		h := readVnet(f)
		p, _, ok := parse(f[vnetLen:])
		if !ok || len(p.b) != len(f)-vnetLen {
			t.Fatalf("frame does not hold exactly one packet: %x", f)
		}
		if h.gsoType == unix.VIRTIO_NET_HDR_GSO_NONE {
			out = append(out, p.b)
			continue
		}
		if !h.partialChecksum() || int(h.checkStart) != p.transport {
			t.Fatalf("super-packet with virtio header %+v", h)
		}
		s, ok := newSegmenter(h, &p)
		if !ok {
			t.Fatalf("virtio header %+v does not fit", h)
		}
		for s.more() {
			b := make([]byte, s.nextLen())
			s.next(b)
			out = append(out, b)
		}
	}
	return out
}

func describe(all [][]byte) string {
	s := ""
	for _, b := range all {
		s += fmt.Sprintf("%x\n", b[:min(len(b), 60)])
	}
	return s
}

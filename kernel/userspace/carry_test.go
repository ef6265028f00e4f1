package userspace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/ts"
)

func payload(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return b
}

func TestPacketThrough(t *testing.T) {
	for _, s := range []suite.Suite{gcm256, cbc256} {
		for _, w := range everyPath {
			west, east := tunnel(t, s, w)
			for _, n := range []int{1, 8, 100, 1300} {
				want := udp("192.0.1.7", "192.0.2.9", 1000, 2000, payload(n))
				sent := west.out(frame(want))
				if len(sent) != 1 || sent[0].path != w || len(sent[0].packets) != 1 {
					t.Fatalf("sent %v", sent)
				}
				if bytes.Contains(sent[0].packets[0], want[20:]) {
					t.Error("sent in clear")
				}
				got := east.in(sent...)
				if len(got) != 1 || !bytes.Equal(got[0], frame(want)) {
					t.Fatalf("%s: got %x, want %x", w.Kind, got, want)
				}
			}
			u := west.Usage(0xc0000002)[0]
			if u.OutPackets != 4 || u.OutBytes != 4*28+1409 || u.InPackets != 0 || u.LastOut.IsZero() || !u.LastIn.IsZero() {
				t.Errorf("usage west %+v", u)
			}
			if u := east.Usage(0xc0000003, 5); u[0].InPackets != 4 || u[0].InBytes != 4*28+1409 || u[1] != (kernel.Usage{}) {
				t.Errorf("usage east %+v", u)
			}
		}
	}
}

func TestSuperPacketThrough(t *testing.T) {
	// The largest inner packet, less the headers of TCP with timestamps: what is left of 1500 octets by IP, UDP or TCP, and 34 or more of ESP.
	for w, mss := range map[path.Path]int{westUDP: 1438 - 52, westTCP: 1410 - 52, westESP: 1446 - 52, westSix: 1426 - 52} {
		for _, n := range []int{mss, mss + 1, mss * 3, 60000} {
			west, east := tunnel(t, gcm256, w)
			b := tcp("192.0.1.7", "192.0.2.9", 1000, 2000, 1<<32-5, tcpACK|tcpPSH, []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}, payload(n))
			sent := west.out(super(slices.Clone(b), unix.VIRTIO_NET_HDR_GSO_TCPV4, mss))
			count := 0
			for _, s := range sent {
				count += len(s.packets)
				for i, p := range s.packets {
					if len(p) > 1500-20-8 && w.Kind != path.ESP || len(p) > 1500-20 || w == westSix && len(p) > 1500-40 || i+1 < len(s.packets) && len(p) != len(s.packets[0]) {
						t.Fatalf("packet %d of %d has %d octets", i, len(s.packets), len(p))
					}
				}
			}
			if want := (n + mss - 1) / mss; count != want {
				t.Fatalf("%d packets for %d octets, want %d", count, n, want)
			}
			frames := east.in(sent...)
			if n > mss && len(frames) > len(sent) {
				t.Errorf("%d octets: %d frames written for %d reads", n, len(frames), len(sent))
			}
			checkStream(t, flatten(t, frames), b)
		}
	}
}

// checkStream checks that TCP segments are valid and together carry what b carries.
func checkStream(t *testing.T, segments [][]byte, b []byte) {
	t.Helper()
	var got []byte
	seq := binary.BigEndian.Uint32(b[24:])
	for i, s := range segments {
		if slowChecksum(s[:20]) != 0 || transportChecksum(s) != 0 {
			t.Fatalf("segment %d: wrong checksum", i)
		}
		if binary.BigEndian.Uint32(s[24:]) != seq || !bytes.Equal(s[28:33], b[28:33]) || !bytes.Equal(s[40:52], b[40:52]) {
			t.Fatalf("segment %d: headers %x, want those of %x with sequence number %d", i, s[:52], b[:52], seq)
		}
		if push := s[33]&tcpPSH != 0; push != (i == len(segments)-1) {
			t.Errorf("segment %d of %d: PSH %v", i, len(segments), push)
		}
		got = append(got, s[52:]...)
		seq += uint32(len(s) - 52)
	}
	if !bytes.Equal(got, b[52:]) {
		t.Fatalf("%d octets of payload differ from %d", len(got), len(b)-52)
	}
}

func TestBatchesAcrossFramesAndFlushes(t *testing.T) {
	west, _ := tunnel(t, gcm256, westUDP)
	a := frame(udp("192.0.1.7", "192.0.2.9", 1, 2, payload(1000)))
	short := frame(udp("192.0.1.7", "192.0.2.9", 1, 2, payload(500)))
	sent := west.out(a, a, short, a, a)
	var shape []int
	for _, s := range sent {
		shape = append(shape, len(s.packets))
	}
	if !slices.Equal(shape, []int{3, 2}) { // a shorter packet ends a batch
		t.Errorf("batches of %v packets", shape)
	}
	many := make([][]byte, 100)
	for i := range many {
		many[i] = a
	}
	for _, s := range west.out(many...) {
		octets := 0
		for _, p := range s.packets {
			octets += len(p)
		}
		if len(s.packets) > 64 || octets > 65507 {
			t.Errorf("a batch of %d packets and %d octets", len(s.packets), octets)
		}
	}
}

func TestPartialChecksumIsCompleted(t *testing.T) {
	west, east := tunnel(t, gcm256, westUDP)
	for _, want := range [][]byte{
		udp("192.0.1.7", "192.0.2.9", 1000, 2000, payload(99)),
		tcp("192.0.1.7", "192.0.2.9", 1000, 2000, 5, tcpSYN, nil, nil),
	} {
		partial := super(slices.Clone(want), unix.VIRTIO_NET_HDR_GSO_NONE, 0)
		if want[9] == protoUDP { // super takes it for TCP
			partial = super(slices.Clone(want), unix.VIRTIO_NET_HDR_GSO_UDP_L4, 0)
			partial[1] = unix.VIRTIO_NET_HDR_GSO_NONE
		}
		if got := east.in(west.out(partial)...); len(got) != 1 || !bytes.Equal(got[0], frame(want)) {
			t.Errorf("got %x\nwant %x", got, want)
		}
	}
}

func TestSelectorsOutbound(t *testing.T) {
	west, _ := tunnel(t, gcm256, westUDP)
	for _, p := range [][2]string{{"192.0.1.7", "192.0.3.9"}, {"192.0.9.7", "192.0.2.9"}, {"192.0.2.9", "192.0.1.7"}} {
		if sent := west.out(frame(udp(p[0], p[1], 1, 2, nil))); len(sent) != 0 {
			t.Errorf("%v was sent", p)
		}
	}
	if n := west.dropped(DropNoPolicy); n != 3 {
		t.Errorf("counted %d", n)
	}
}

func TestSelectorsInbound(t *testing.T) {
	west, east := newEnd(t, Config{}, nil), newEnd(t, Config{}, nil)
	west.Route(1, kernel.Policy{ID: "c", Local: anyNet, Remote: anyNet}) // a peer that sends what was not agreed
	west.Install(2, pairOf("c", gcm256, 1, true, anyNet, anyNet, westUDP))
	west.must()
	narrow := ts.Set{{Start: netip.MustParseAddr("192.0.2.0"), End: netip.MustParseAddr("192.0.2.255"), Protocol: protoUDP, StartPort: 53, EndPort: 53}}
	east.Route(1, kernel.Policy{ID: "c", Local: narrow, Remote: westNet})
	east.Install(2, pairOf("c", gcm256, 1, false, narrow, westNet, eastUDP))
	east.must()
	for _, c := range []struct {
		name string
		b    []byte
		why  Drop
	}{
		{"source", udp("192.0.9.7", "192.0.2.9", 1000, 53, nil), DropSelector},
		{"destination", udp("192.0.1.7", "192.0.9.9", 1000, 53, nil), DropSelector},
		{"port", udp("192.0.1.7", "192.0.2.9", 1000, 54, nil), DropSelector},
		{"protocol", tcp("192.0.1.7", "192.0.2.9", 1000, 53, 1, tcpSYN, nil, nil), DropSelector},
		{"fragment", ip4{src: "192.0.1.7", dst: "192.0.2.9", proto: protoUDP, frag: 20, body: payload(30)}.bytes(), DropFragment},
	} {
		before := east.dropped(c.why)
		if got := east.in(west.out(frame(c.b))...); len(got) != 0 || east.dropped(c.why) != before+1 {
			t.Errorf("%s: written %d frames, drops %v", c.name, len(got), east.Drops())
		}
	}
	if got := east.in(west.out(frame(udp("192.0.1.7", "192.0.2.9", 1000, 53, nil)))...); len(got) != 1 {
		t.Errorf("what was agreed was dropped: %v", east.Drops())
	}
}

func TestInboundDrops(t *testing.T) {
	west, east := tunnel(t, gcm256, westUDP)
	good := west.out(frame(udp("192.0.1.7", "192.0.2.9", 1, 2, payload(50))))[0].packets[0]
	forged, unknown := slices.Clone(good), slices.Clone(good)
	forged[30] ^= 1
	unknown[3] ^= 0x80
	p := west.control.pairs[0xc0000002]
	seal := func(next uint8, plain []byte) []byte {
		b := make([]byte, p.out.SealedLen(len(plain)))
		if _, err := p.out.Seal(&west.worker.scratch, b, next, plain); err != nil {
			t.Fatal(err)
		}
		return b
	}
	got := east.in(sent{path: westUDP, packets: [][]byte{
		forged, unknown, {1, 2, 3}, nil, good, good, seal(59, nil), seal(4, []byte("not IP at all, is it")), seal(41, udp("192.0.1.7", "192.0.2.9", 1, 2, nil)),
	}})
	if len(got) != 1 {
		t.Errorf("%d frames", len(got))
	}
	for why, n := range map[Drop]uint64{DropIntegrity: 1, DropUnknownSPI: 1, DropShort: 2, DropReplay: 1, DropDummy: 1, DropInner: 2} {
		if east.dropped(why) != n {
			t.Errorf("%s: %d, want %d", why, east.dropped(why), n)
		}
	}
}

// TestConfidentialityPadding: what follows the inner packet is cut off (RFC 4303 2.7).
func TestConfidentialityPadding(t *testing.T) {
	west, east := tunnel(t, gcm256, westUDP)
	want := udp("192.0.1.7", "192.0.2.9", 1, 2, payload(50))
	p := west.control.pairs[0xc0000002]
	b := make([]byte, 500)
	n, err := p.out.Seal(&west.worker.scratch, b, 4, append(slices.Clone(want), make([]byte, 300)...))
	if err != nil {
		t.Fatal(err)
	}
	if got := east.in(sent{path: westUDP, packets: [][]byte{b[:n]}}); len(got) != 1 || !bytes.Equal(got[0], frame(want)) {
		t.Errorf("got %x", got)
	}
}

func TestTooBigGetsICMP(t *testing.T) {
	west, _ := tunnel(t, gcm256, westUDP)
	big := tcp("192.0.1.7", "192.0.2.9", 1000, 2000, 5, tcpACK, nil, payload(1460))
	for name, f := range map[string][]byte{
		"single": frame(big),
		"super":  super(tcp("192.0.1.7", "192.0.2.9", 1000, 2000, 5, tcpACK, nil, payload(14600)), unix.VIRTIO_NET_HDR_GSO_TCPV4, 1460),
	} {
		if sent := west.out(f); len(sent) != 0 {
			t.Errorf("%s: sent", name)
		}
		got := west.q.taken()
		if len(got) != 1 {
			t.Fatalf("%s: %d frames to the TUN, want one ICMP", name, len(got))
		}
		b := got[0][vnetLen:]
		icmp := b[20:]
		if slowChecksum(b[:20]) != 0 || slowChecksum(icmp) != 0 || b[9] != protoICMP || icmp[0] != 3 || icmp[1] != 4 {
			t.Fatalf("%s: %x", name, b)
		}
		if mtu := binary.BigEndian.Uint16(icmp[6:]); mtu != 1438 {
			t.Errorf("%s: MTU %d, want 1438", name, mtu)
		}
		if !bytes.Equal(b[12:16], big[16:20]) || !bytes.Equal(b[16:20], big[12:16]) || !bytes.Equal(icmp[8+20:8+28], big[20:28]) {
			t.Errorf("%s: addressed or quoted wrongly: %x", name, b)
		}
	}
	if n := west.dropped(DropTooBig); n != 2 {
		t.Errorf("counted %d", n)
	}
}

func TestICMPErrorsAreLimited(t *testing.T) {
	west, _ := tunnel(t, gcm256, westUDP)
	big := frame(tcp("192.0.1.7", "192.0.2.9", 1000, 2000, 5, tcpACK, nil, payload(1460)))
	for range 1000 {
		west.out(big)
	}
	if n := len(west.q.taken()); n > 2*icmpPerSecond || n == 0 {
		t.Errorf("%d errors for 1000 packets", n)
	}
	west.worker.icmp.sent = 0
	unreachable := ip4{src: "192.0.1.7", dst: "192.0.2.9", proto: protoICMP, df: true, body: append([]byte{3, 1, 0, 0}, payload(1440)...)}.bytes()
	west.out(frame(unreachable))
	if n := len(west.q.taken()); n != 0 {
		t.Error("an ICMP error about an ICMP error")
	}
}

func TestTooBigWithoutDFIsFragmented(t *testing.T) {
	west, east := tunnel(t, gcm256, westUDP)
	body := payload(4000)
	b := ip4{src: "192.0.1.7", dst: "192.0.2.9", proto: 200, id: 9, body: body}.bytes()
	frames := east.in(west.out(frame(b))...)
	if len(frames) != 3 {
		t.Fatalf("%d fragments", len(frames))
	}
	got := make([]byte, len(body))
	for i, f := range frames {
		p := f[vnetLen:]
		field := binary.BigEndian.Uint16(p[6:])
		if len(p) > 1438 || slowChecksum(p[:20]) != 0 || binary.BigEndian.Uint16(p[4:]) != 9 || field&0x2000 != 0 != (i < 2) {
			t.Errorf("fragment %d: %x", i, p[:20])
		}
		copy(got[int(field&0x1fff)*8:], p[20:])
	}
	if !bytes.Equal(got, body) {
		t.Error("the fragments do not make up the packet")
	}
}

func TestMSSIsClampedBothWays(t *testing.T) {
	west, east := tunnel(t, gcm256, westUDP)
	for name, options := range map[string][]byte{
		"even": {2, 4, 1460 >> 8, 1460 & 255},
		"odd":  {1, 2, 4, 1460 >> 8, 1460 & 255, 1, 1, 1},
	} {
		at := bytes.Index(options, []byte{2, 4}) + 2 + 40
		syn := tcp("192.0.1.7", "192.0.2.9", 1000, 2000, 5, tcpSYN, options, nil)
		for direction, got := range map[string][][]byte{
			"out": east.in(west.out(frame(syn))...),
			"in": func() [][]byte {
				end := east.control.pairs[0xc0000003].end.Load()
				west.control.pairs[0xc0000002].end.Store(&endpoint{path: end.path, mtu: 9000}) // a sender that does not clamp
				defer west.control.pairs[0xc0000002].end.Store(&endpoint{path: westUDP, mtu: 1438})
				return east.in(west.out(frame(syn))...)
			}(),
		} {
			b := got[0][vnetLen:]
			if mss := binary.BigEndian.Uint16(b[at:]); mss != 1398 || transportChecksum(b) != 0 {
				t.Errorf("%s %s: MSS %d, checksum left %x", name, direction, mss, transportChecksum(b))
			}
		}
		small := slices.Clone(options)
		small[at-40], small[at-39] = 2, 0
		keep := tcp("192.0.1.7", "192.0.2.9", 1000, 2000, 5, tcpSYN, small, nil)
		if got := east.in(west.out(frame(keep))...); !bytes.Equal(got[0], frame(keep)) {
			t.Errorf("%s: a smaller MSS was changed", name)
		}
	}
}

func TestSendFailureIsCounted(t *testing.T) {
	west, _ := tunnel(t, gcm256, westTCP)
	west.wire.err = errors.New("queue full")
	f := frame(udp("192.0.1.7", "192.0.2.9", 1, 2, nil))
	west.out(f, f, f)
	if n := west.dropped(DropSend); n != 3 {
		t.Errorf("counted %d", n)
	}
}

func TestTUNFailureIsCounted(t *testing.T) {
	west, east := tunnel(t, gcm256, westTCP)
	east.q.refuse = unix.EIO
	east.in(west.out(frame(udp("192.0.1.7", "192.0.2.9", 1, 2, nil)))...)
	if n := east.dropped(DropTUN); n != 1 {
		t.Errorf("counted %d", n)
	}
}

// TestCoalescingKeepsEverything sends random packets of a few flows and checks that the kernel would see the same packets, each flow in order.
func TestCoalescingKeepsEverything(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 300 {
		west, east := tunnel(t, gcm256, westUDP)
		seqs := map[uint16]uint32{}
		var packets [][]byte
		for range rng.IntN(120) {
			port := 1 + uint16(rng.IntN(4))
			n := []int{0, 1, 500, 1000, 1000, 1000}[rng.IntN(6)]
			switch rng.IntN(8) {
			case 0:
				packets = append(packets, udp("192.0.1.7", "192.0.2.9", port, 5, payload(n)))
			case 1:
				packets = append(packets, ip4{src: "192.0.1.7", dst: "192.0.2.9", proto: 47, body: payload(n)}.bytes())
			default:
				flags := []byte{tcpACK, tcpACK, tcpACK, tcpACK, tcpACK | tcpPSH, tcpACK | tcpFIN}[rng.IntN(6)]
				b := tcp("192.0.1.7", "192.0.2.9", port, 80, seqs[port], flags, nil, payload(n))
				if rng.IntN(30) == 0 {
					b[len(b)-1] ^= 0x10 // a checksum that was wrong before
				}
				packets = append(packets, b)
				seqs[port] += uint32(n)
			}
		}
		var frames [][]byte
		for _, p := range packets {
			frames = append(frames, frame(p))
		}
		got := flatten(t, east.in(west.out(frames...)...))
		byFlow := func(all [][]byte) map[string][][]byte {
			m := map[string][][]byte{}
			for _, b := range all {
				k := string(b[9:10]) + string(b[12:min(24, len(b))])
				if b[9] == 47 {
					k = "47"
				}
				m[k] = append(m[k], b)
			}
			return m
		}
		a, b := byFlow(packets), byFlow(got)
		for k := range a {
			if !slices.EqualFunc(a[k], b[k], sameButID) {
				t.Fatalf("round %d: flow %x: sent\n%sgot\n%s", round, k, describe(a[k]), describe(b[k]))
			}
		}
		if len(got) != len(packets) {
			t.Fatalf("round %d: %d of %d packets; drops %v", round, len(got), len(packets), east.Drops())
		}
	}
}

// sameButID compares packets; the identification of packets with DF may change, and the header checksum with it.
func sameButID(a, b []byte) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	for _, p := range [][]byte{a, b} {
		if p[6]&0x40 != 0 {
			clear(p[4:6])
			clear(p[10:12])
		}
	}
	return bytes.Equal(a, b)
}

func TestNoAllocationPerPacket(t *testing.T) {
	for _, w := range everyPath {
		west, east := tunnel(t, gcm256, w)
		q := &discardQueue{}
		east.queues[0] = q
		pipe := &pipeSender{to: east.Datapath, packets: make([][]byte, 0, 128)}
		west.sender = pipe
		f := super(tcp("192.0.1.7", "192.0.2.9", 1000, 2000, 5, tcpACK, nil, payload(1370*40)), unix.VIRTIO_NET_HDR_GSO_TCPV4, 1370)
		one := frame(udp("192.0.1.7", "192.0.2.9", 1, 2, payload(100)))
		work := make([]byte, len(f))
		run := func() {
			copy(work, f)
			west.worker.frame(work)
			west.worker.frame(work[:copy(work, one)])
			west.worker.flush()
		}
		run()
		if n := testing.AllocsPerRun(100, run); n != 0 {
			t.Errorf("%s: %v allocations for 41 packets", w.Kind, n)
		}
		if east.Usage(0xc0000003)[0].InPackets == 0 || len(east.Drops()) != 0 {
			t.Errorf("usage %+v, drops %v", east.Usage(0xc0000003), east.Drops())
		}
	}
}

// pipeSender hands what is sent straight to another Datapath.
type pipeSender struct {
	to      *Datapath
	packets [][]byte
}

func (s *pipeSender) SendESP(p path.Path, buf []byte, segment int) error {
	s.packets = s.packets[:0]
	for len(buf) > 0 {
		n := min(segment, len(buf))
		if p.Kind.Stream() {
			n = int(binary.BigEndian.Uint16(buf))
			s.packets = append(s.packets, buf[2:n])
		} else {
			s.packets = append(s.packets, buf[:n])
		}
		buf = buf[n:]
	}
	p.Local, p.Remote = p.Remote, p.Local
	s.to.InputESP(p, s.packets)
	return nil
}

func BenchmarkThrough(b *testing.B) {
	for _, w := range []path.Path{westUDP, westTCP, westESP} {
		b.Run(w.Kind.String(), func(b *testing.B) {
			west, east := tunnel(b, gcm256, w)
			east.queues[0] = &discardQueue{}
			west.sender = &pipeSender{to: east.Datapath, packets: make([][]byte, 0, 128)}
			f := super(tcp("192.0.1.7", "192.0.2.9", 1000, 2000, 5, tcpACK, nil, payload(1370*46)), unix.VIRTIO_NET_HDR_GSO_TCPV4, 1370)
			work := make([]byte, len(f))
			b.SetBytes(int64(len(f)))
			b.ReportAllocs()
			for b.Loop() {
				copy(work, f)
				west.worker.frame(work)
				west.worker.flush()
			}
		})
	}
}

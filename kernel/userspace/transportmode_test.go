package userspace

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/esp"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/ts"
)

const (
	westHost, eastHost   = "192.1.2.45", "192.1.2.23"
	westHost6, eastHost6 = "2001:db8:1:2::45", "2001:db8:1:2::23"
)

var (
	westUDP6 = path.Path{Local: netip.MustParseAddrPort("[2001:db8:1:2::45]:4500"), Remote: netip.MustParseAddrPort("[2001:db8:1:2::23]:4500")}
	westTCP6 = path.Path{Local: netip.MustParseAddrPort("[2001:db8:1:2::45]:40000"), Remote: netip.MustParseAddrPort("[2001:db8:1:2::23]:4500"), Kind: path.TCP, Generation: 1}
)

func one(a string) ts.Set { return ts.Set{ts.FromAddr(netip.MustParseAddr(a))} }

// hosts makes two ends with one SA pair in transport mode between the addresses of the path. change may change what either side installs.
func hosts(t testing.TB, w path.Path, change ...func(west, east *kernel.SAPair)) (west, east *end) {
	t.Helper()
	l, r := ts.Set{ts.FromAddr(w.Local.Addr())}, ts.Set{ts.FromAddr(w.Remote.Addr())}
	a, b := pairOf("c", gcm256, 1, true, l, r, w), pairOf("c", gcm256, 1, false, r, l, reverse(w))
	a.Transport, b.Transport = true, true
	for _, f := range change {
		f(&a, &b)
	}
	west, east = newEnd(t, Config{}, nil), newEnd(t, Config{}, nil)
	west.Route(1, kernel.Policy{ID: "c", Local: a.Local, Remote: a.Remote})
	west.Install(2, a)
	west.must()
	east.Route(1, kernel.Policy{ID: "c", Local: b.Local, Remote: b.Remote})
	east.Install(2, b)
	east.must()
	return west, east
}

// ip6 makes an IPv6 packet; body begins with what next says.
func ip6(src, dst string, next uint8, body []byte) []byte {
	b := make([]byte, 40, 40+len(body))
	b[0], b[6], b[7] = 0x60, next, 64
	binary.BigEndian.PutUint16(b[4:], uint16(len(body)))
	s, d := netip.MustParseAddr(src).As16(), netip.MustParseAddr(dst).As16()
	copy(b[8:], s[:])
	copy(b[24:], d[:])
	return append(b, body...)
}

// slowTransportChecksum computes what is left of a transport checksum of either family; at is where the transport header begins. Zero: right.
func slowTransportChecksum(b []byte, at int, protocol uint8) uint16 {
	addrs := b[12:20]
	if b[0]>>4 == 6 {
		addrs = b[8:40]
	}
	n := len(b) - at
	ps := append(slices.Clone(addrs), byte(n>>24), byte(n>>16), byte(n>>8), byte(n), 0, 0, 0, protocol)
	return slowChecksum(append(ps, b[at:]...))
}

func udp6(src, dst string, sport, dport uint16, body []byte) []byte {
	u := make([]byte, 8, 8+len(body))
	binary.BigEndian.PutUint16(u, sport)
	binary.BigEndian.PutUint16(u[2:], dport)
	binary.BigEndian.PutUint16(u[4:], uint16(8+len(body)))
	b := ip6(src, dst, protoUDP, append(u, body...))
	binary.BigEndian.PutUint16(b[46:], slowTransportChecksum(b, 40, protoUDP))
	return b
}

func datagramOf(w path.Path, n int) []byte {
	if w.Local.Addr().Is6() {
		return udp6(westHost6, eastHost6, 1000, 2000, payload(n))
	}
	return udp(westHost, eastHost, 1000, 2000, payload(n))
}

// TestTransportModeGolden holds what is sealed, and what is made of it, against RFC 4303 3.1.1 octet by octet.
func TestTransportModeGolden(t *testing.T) {
	for name, c := range map[string]struct {
		path             path.Path
		packet           []byte
		sealed, received string // what is inside ESP; the IP header that is made
		next             uint8
	}{
		"v4": {
			westUDP, ip4{src: westHost, dst: eastHost, proto: protoUDP, id: 0x1234, body: []byte{3, 232, 7, 208, 0, 10, 0, 0, 'h', 'i'}}.bytes(),
			"03e807d0000a00006869", "4500001e000040004011" + "b688" + "c001022d" + "c0010217", protoUDP,
		},
		"v4 with padding for options": {
			westUDP, func() []byte {
				b := ip4{src: westHost, dst: eastHost, proto: 89, body: append([]byte{1, 1, 1, 0}, "ospf"...)}.bytes()
				b[0] = 0x46
				return b
			}(),
			hex.EncodeToString([]byte("ospf")), "450000180000400040" + "59" + "b646" + "c001022d" + "c0010217", 89,
		},
		"v6": {
			westUDP6, ip6(westHost6, eastHost6, protoUDP, []byte{3, 232, 7, 208, 0, 10, 0, 9, 'h', 'i'}),
			"03e807d0000a00096869", "60000000000a1140" + "20010db8000100020000000000000045" + "20010db8000100020000000000000023", protoUDP,
		},
		"v6 with destination options": { // they are sealed (RFC 4303 3.1.1)
			westUDP6, ip6(westHost6, eastHost6, protoDestOptions, append([]byte{protoUDP, 0, 1, 4, 0, 0, 0, 0}, 3, 232, 7, 208, 0, 10, 0, 9, 'h', 'i')),
			"1100010400000000" + "03e807d0000a00096869", "6000000000123c40" + "20010db8000100020000000000000045" + "20010db8000100020000000000000023", protoDestOptions,
		},
	} {
		west, east := hosts(t, c.path)
		sent := west.out(frame(c.packet))
		if len(sent) != 1 || len(sent[0].packets) != 1 {
			t.Errorf("%s: sent %v, drops %v", name, sent, west.Drops())
			continue
		}
		encr, integ := keys(gcm256, 1*16+8)
		in, err := esp.NewInbound(esp.Params{SPI: 0xc0000003, Suite: gcm256, EncrKey: encr, IntegKey: integ})
		if err != nil {
			t.Fatal(err)
		}
		opened, err := in.Open(new(esp.Scratch), slices.Clone(sent[0].packets[0]))
		if got := hex.EncodeToString(opened.Plain); err != nil || got != c.sealed || opened.NextHeader != c.next {
			t.Errorf("%s: sealed next header %d and %s, %v; want %d and %s", name, opened.NextHeader, got, err, c.next, c.sealed)
		}
		got := east.in(sent...)
		if want := c.received + c.sealed; len(got) != 1 || hex.EncodeToString(got[0][vnetLen:]) != want {
			t.Errorf("%s: received %x, want %s; drops %v", name, got, want, east.Drops())
		}
		if u, n := east.Usage(0xc0000003)[0], uint64(len(c.received+c.sealed)/2); u.InPackets != 1 || u.InBytes != n {
			t.Errorf("%s: usage %+v, want %d octets", name, u, n)
		}
	}
}

// sameDatagram compares what arrives with what was sent: all but what an IP header may lose.
func sameDatagram(t *testing.T, got, want []byte) {
	t.Helper()
	g, gf, ok := parse(got)
	w, wf, wok := parse(want)
	if !ok || !wok || gf != wf || !bytes.Equal(g.b[g.transport:], w.b[w.transport:]) {
		t.Fatalf("got %d octets %x, want %d octets %x", len(got), got[:min(64, len(got))], len(want), want[:min(64, len(want))])
	}
	if got[0]>>4 == 4 && (slowChecksum(got[:20]) != 0 || got[8] == 0 || got[6] != 0x40) {
		t.Fatalf("IPv4 header %x", got[:20])
	}
}

// TestAnyDatagramThrough sends random datagrams of all sizes, fragmented as a host might, over every carrier: a datagram that goes in comes out.
func TestAnyDatagramThrough(t *testing.T) {
	rng := rand.New(rand.NewPCG(43, 3))
	for _, w := range []path.Path{westUDP, westTCP, westUDP6, westTCP6} {
		west, east := hosts(t, w)
		v6 := w.Local.Addr().Is6()
		for round := range 400 {
			n := rng.IntN(3000)
			if round%20 == 0 {
				n = rng.IntN(65400 - 60)
			}
			b := datagramOf(w, n)
			if rng.IntN(4) == 0 { // anything else than UDP
				if v6 {
					b = ip6(westHost6, eastHost6, 253, payload(n))
				} else {
					b = ip4{src: westHost, dst: eastHost, proto: 253, body: payload(n)}.bytes()
				}
			}
			if v6 && rng.IntN(3) == 0 {
				options := append([]byte{b[6], byte(rng.IntN(3))}, make([]byte, 6+16)...)
				options = options[:8+int(options[1])*8]
				b = ip6(westHost6, eastHost6, protoDestOptions, append(options, b[40:]...))
			}
			if !v6 && rng.IntN(3) == 0 {
				b = append(append(slices.Clone(b[:20]), 1, 1, 1, 0), b[20:]...)
				b[0] = 0x46
				binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
			}
			mtu := 1300
			if rng.IntN(4) == 0 {
				mtu = 100 + rng.IntN(1300)
			}
			frames := fragmentsOf(t, b, uint32(round+1), mtu)
			if rng.IntN(3) == 0 {
				rng.Shuffle(len(frames), func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
			}
			if rng.IntN(5) == 0 {
				frames = append(frames[:1:1], frames...) // the first one twice
			}
			sent := west.out(frames...)
			if len(sent) == 0 {
				t.Fatalf("%s: nothing sent of %d octets in %d fragments: %v", w.Kind, len(b), len(frames), west.Drops())
			}
			got := flatten(t, east.in(sent...))
			if len(got) == 0 || len(got) > 1 && len(frames) != 2 {
				t.Fatalf("%s: %d packets of %d octets in %d fragments; drops %v and %v", w.Kind, len(got), len(b), len(frames), west.Drops(), east.Drops())
			}
			sameDatagram(t, got[0], b)
		}
		if len(east.Drops()) != 0 {
			t.Errorf("%s: %v", w.Kind, east.Drops())
		}
		if west.fragments.octets != 0 && len(west.fragments.list) == 0 {
			t.Errorf("%d octets are counted, and nothing waits", west.fragments.octets)
		}
	}
}

// fragmentsOf cuts a packet as the host's IP layer would; one that fits stays as it is.
func fragmentsOf(t testing.TB, b []byte, id uint32, mtu int) (out [][]byte) {
	t.Helper()
	if len(b) <= mtu {
		return [][]byte{frame(b)}
	}
	if b[0]>>4 == 4 {
		b = slices.Clone(b)
		b[6], b[7] = 0, 0
		binary.BigEndian.PutUint16(b[4:], uint16(id))
		fragment4(b, mtu, func(f []byte) { out = append(out, frame(slices.Clone(f))) })
		return out
	}
	step := (mtu - 48) &^ 7
	body := b[40:]
	for off := 0; off < len(body); off += step {
		n := min(step, len(body)-off)
		field := uint16(off)
		if off+n < len(body) {
			field |= 1
		}
		h := []byte{b[6], 0, byte(field >> 8), byte(field), 0, 0, 0, 0}
		binary.BigEndian.PutUint32(h[4:], id)
		f := ip6(westHost6, eastHost6, protoFragment, append(h, body[off:off+n]...))
		out = append(out, frame(f))
	}
	return out
}

// TestTransportModeMTU: the largest packet for each carrier; one octet more with DF gets ICMP, without DF it goes as one sealed datagram for the
// socket to fragment.
func TestTransportModeMTU(t *testing.T) {
	for _, c := range []struct {
		path path.Path
		mtu  int
	}{{westUDP, 1458}, {westTCP, 1430}, {westUDP6, 1458}, {westTCP6, 1430}} {
		west, east := hosts(t, c.path)
		if got := west.control.pairs[0xc0000002].end.Load().mtu; got != c.mtu {
			t.Errorf("%s: MTU %d, want %d", c.path.Kind, got, c.mtu)
			continue
		}
		outer := 28
		if c.path.Local.Addr().Is6() {
			outer = 48
		}
		if c.path.Kind == path.TCP {
			outer += 26
		}
		fits := datagramOf(c.path, 0)
		fits = datagramOf(c.path, c.mtu-len(fits))
		sent := west.out(frame(fits))
		if len(sent) != 1 || len(sent[0].packets[0])+outer > 1500 || len(sent[0].packets[0])+outer < 1500-3 {
			t.Errorf("%s: the largest packet is sealed as %d octets", c.path.Kind, len(sent[0].packets[0]))
		}
		big := datagramOf(c.path, len(fits)+1-(len(fits)-(c.mtu-len(datagramOf(c.path, 0)))))
		if sent := west.out(frame(big)); len(sent) != 0 {
			t.Errorf("%s: %d octets with DF were sent", c.path.Kind, len(big))
		}
		if got := west.q.taken(); len(got) != 1 || !bytes.Contains(got[0], binary.BigEndian.AppendUint16(nil, uint16(c.mtu))) {
			t.Errorf("%s: ICMP %x", c.path.Kind, got)
		}
		if c.path.Local.Addr().Is6() {
			continue
		}
		without := slices.Clone(big)
		without[6] = 0
		sent = west.out(frame(without), frame(fits), frame(fits))
		if len(sent) == 0 || len(sent[0].packets[0])+outer <= 1500 || c.path.Kind == path.UDP && len(sent[0].packets) != 1 {
			t.Errorf("%s: a packet without DF: %d sends", c.path.Kind, len(sent))
		}
		if got := flatten(t, east.in(sent...)); len(got) != 3 {
			t.Errorf("%s: %d of 3 packets arrived", c.path.Kind, len(got))
		}
		west.out(frame(ip4{src: westHost, dst: eastHost, proto: 200, body: payload(65510)}.bytes()))
		if n := west.dropped(DropTooBig); n != 2 {
			t.Errorf("%s: what no carrier takes: %v", c.path.Kind, west.Drops())
		}
	}
	// A link of 1280 octets: a host may send as much without asking (RFC 8200 5).
	west, _ := newEnd(t, Config{LinkMTU: 1280}, nil), 0
	sa := pairOf("c", gcm256, 1, true, one(westHost6), one(eastHost6), westUDP6)
	sa.Transport = true
	west.Route(1, kernel.Policy{ID: "c", Local: sa.Local, Remote: sa.Remote})
	west.Install(2, sa)
	west.must()
	if sent := west.out(frame(udp6(westHost6, eastHost6, 1, 2, payload(1280-48)))); len(sent) != 1 {
		t.Errorf("a packet of 1280 octets: %v", west.Drops())
	}
}

func TestTransportModeSuperPacket(t *testing.T) {
	for _, w := range []path.Path{westUDP, westTCP} {
		west, east := hosts(t, w)
		b := tcp(westHost, eastHost, 1000, 2000, 7, tcpACK|tcpPSH, []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}, payload(40000))
		sent := west.out(super(slices.Clone(b), unix.VIRTIO_NET_HDR_GSO_TCPV4, 1378))
		frames := east.in(sent...)
		if len(frames) > len(sent) {
			t.Errorf("%d frames written for %d reads", len(frames), len(sent))
		}
		checkStream(t, flatten(t, frames), b)

		u := udp(westHost, eastHost, 1000, 2000, payload(3100))
		got := flatten(t, east.in(west.out(super(slices.Clone(u), unix.VIRTIO_NET_HDR_GSO_UDP_L4, 1000))...))
		if len(got) != 4 {
			t.Fatalf("%d datagrams, want 4", len(got))
		}
		for i, b := range got {
			sameDatagram(t, b, udp(westHost, eastHost, 1000, 2000, u[28+1000*i:min(28+1000*(i+1), len(u))]))
		}
	}
}

func TestTransportModeCompletesPartialChecksums(t *testing.T) {
	west, east := hosts(t, westUDP)
	want := udp(westHost, eastHost, 1, 2, payload(333))
	f := frame(slices.Clone(want))
	binary.BigEndian.PutUint16(f[vnetLen+26:], uint16(fold(pseudo(want, protoUDP, len(want)-20))))
	vnetHeader{flags: unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, checkStart: 20, checkOffset: 6}.put(f)
	got := east.in(west.out(f)...)
	if len(got) != 1 {
		t.Fatal(west.Drops())
	}
	sameDatagram(t, got[0][vnetLen:], want)
}

// TestTransportModeBehindNAT: the peer computed checksums with the addresses that it knows; what arrives has those that this host sees (RFC 3948 3.1.2).
func TestTransportModeBehindNAT(t *testing.T) {
	const inside, public, server, serverPublic = "10.0.0.5", "192.1.3.254", "172.16.0.1", "192.1.2.23"
	a := netip.MustParseAddr
	west, east := hosts(t, westUDP, func(w, e *kernel.SAPair) {
		w.Local, w.Remote, w.OriginalLocal, w.OriginalRemote = one(inside), one(serverPublic), a(public), a(server)
		e.Local, e.Remote, e.OriginalLocal, e.OriginalRemote = one(server), one(public), a(serverPublic), a(inside)
	})
	there := func(b []byte) []byte { return east.in(west.out(frame(b))...)[0][vnetLen:] }
	back := func(b []byte) []byte { return west.in(east.out(frame(b))...)[0][vnetLen:] }
	sameDatagram(t, there(udp(inside, serverPublic, 1, 2, payload(77))), udp(public, server, 1, 2, payload(77)))
	sameDatagram(t, back(udp(server, public, 2, 1, payload(78))), udp(serverPublic, inside, 2, 1, payload(78)))
	sameDatagram(t, there(tcp(inside, serverPublic, 1, 2, 3, tcpACK, nil, payload(9))), tcp(public, server, 1, 2, 3, tcpACK, nil, payload(9)))
	sameDatagram(t, back(tcp(server, public, 1, 2, 3, tcpSYN, nil, nil)), tcp(serverPublic, inside, 1, 2, 3, tcpSYN, nil, nil))

	none := udp(inside, serverPublic, 1, 2, payload(77)) // UDP without a checksum stays without
	none[26], none[27] = 0, 0
	if got := there(none); got[26] != 0 || got[27] != 0 {
		t.Errorf("a checksum came from nowhere: %x", got[20:28])
	}
	wrong := tcp(inside, serverPublic, 1, 2, 3, tcpACK, nil, payload(9))
	wrong[len(wrong)-1] ^= 4
	if got := there(wrong); transportChecksum(got) == 0 {
		t.Error("a wrong checksum was made right")
	}
	echo := ip4{src: inside, dst: serverPublic, proto: protoICMP, body: []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}}.bytes() // covers no address
	if got := there(echo); !bytes.Equal(got[20:], echo[20:]) {
		t.Errorf("ICMP changed: %x", got)
	}
	// Every value of the checksum, so that the corner at zero is met too.
	for i := range 1 << 16 {
		b := udp(inside, serverPublic, 1, 2, []byte{byte(i >> 8), byte(i)})
		if b[26]|b[27] == 0 {
			b[26], b[27] = 0xff, 0xff // RFC 768
		}
		if i%97 == 0 || binary.BigEndian.Uint16(b[26:]) < 3 || binary.BigEndian.Uint16(b[26:]) > 0xfffc {
			sameUDP(t, there(b), udp(public, server, 1, 2, []byte{byte(i >> 8), byte(i)}))
		}
	}
	if len(west.Drops())+len(east.Drops()) != 0 {
		t.Errorf("drops %v and %v", west.Drops(), east.Drops())
	}
}

// sameUDP compares datagrams whose checksum may be zero in one of its two forms.
func sameUDP(t *testing.T, got, want []byte) {
	t.Helper()
	if transportChecksum(got) != 0 || got[26]|got[27] == 0 || !bytes.Equal(got[12:26], want[12:26]) || !bytes.Equal(got[28:], want[28:]) {
		t.Fatalf("got %x, want %x", got, want)
	}
}

func TestTransportModeBehindNAT66(t *testing.T) {
	const inside, public = "fd00::5", "2001:db8:1:2::45"
	west, east := hosts(t, westUDP6, func(w, e *kernel.SAPair) {
		w.Local, w.OriginalLocal = one(inside), netip.MustParseAddr(public)
		e.OriginalRemote = netip.MustParseAddr(inside)
	})
	got := east.in(west.out(frame(udp6(inside, eastHost6, 1, 2, payload(50))))...)[0][vnetLen:]
	sameDatagram(t, got, udp6(public, eastHost6, 1, 2, payload(50)))
	echo := ip6(inside, eastHost6, protoICMPv6, []byte{128, 0, 0, 0, 1, 2, 3, 4})
	binary.BigEndian.PutUint16(echo[42:], slowTransportChecksum(echo, 40, protoICMPv6))
	if got := east.in(west.out(frame(echo))...)[0][vnetLen:]; slowTransportChecksum(got, 40, protoICMPv6) != 0 {
		t.Errorf("ICMPv6 %x", got)
	}
	options := ip6(inside, eastHost6, protoDestOptions, append([]byte{protoUDP, 0, 1, 4, 0, 0, 0, 0}, udp6(inside, eastHost6, 1, 2, payload(50))[40:]...))
	if got := east.in(west.out(frame(options))...)[0][vnetLen:]; slowTransportChecksum(got, 48, protoUDP) != 0 {
		t.Errorf("UDP behind destination options %x", got)
	}
}

// TestWhatCannotStandBeforeESP is refused with ICMP, and counted: sending it without would change what it asks for.
func TestWhatCannotStandBeforeESP(t *testing.T) {
	record := ip4{src: westHost, dst: eastHost, proto: protoUDP, body: append([]byte{7, 7, 4, 0, 0, 0, 0, 0}, payload(20)...)}.bytes()
	record[0] = 0x47
	body := udp6(westHost6, eastHost6, 1, 2, payload(20))[40:]
	for name, b := range map[string][]byte{
		"IPv4 option":           record,
		"hop by hop":            ip6(westHost6, eastHost6, protoHopByHop, append([]byte{protoUDP, 0, 1, 4, 0, 0, 0, 0}, body...)),
		"routing":               ip6(westHost6, eastHost6, protoRouting, append([]byte{protoUDP, 0, 4, 0, 0, 0, 0, 0}, body...)),
		"routing after options": ip6(westHost6, eastHost6, protoDestOptions, append([]byte{protoRouting, 0, 1, 4, 0, 0, 0, 0, protoUDP, 0, 4, 0, 0, 0, 0, 0}, body...)),
	} {
		w := westUDP
		if b[0]>>4 == 6 {
			w = westUDP6
		}
		west, _ := hosts(t, w)
		if sent := west.out(frame(b)); len(sent) != 0 || west.dropped(DropOptions) != 1 || len(west.q.taken()) != 1 {
			t.Errorf("%s: sent %v, drops %v", name, sent, west.Drops())
		}
	}
}

// TestTransportModeInbound: what an authentic peer must not send is dropped and counted.
func TestTransportModeInbound(t *testing.T) {
	port := func(w, e *kernel.SAPair) {
		e.Local[0].Protocol, e.Local[0].StartPort, e.Local[0].EndPort = protoTCP, 179, 179
		e.Remote[0].Protocol = protoTCP
	}
	bgp, other := tcp(westHost, eastHost, 1, 179, 1, tcpACK, nil, nil)[20:], tcp(westHost, eastHost, 1, 80, 1, tcpACK, nil, nil)[20:]
	udp6 := udp6(westHost6, eastHost6, 1, 2, nil)[40:]
	for name, c := range map[string]struct {
		path  path.Path
		plain []byte
		next  uint8
		why   Drop
		taken int
	}{
		"right port":                  {westUDP, bgp, protoTCP, 0, 1},
		"other port":                  {westUDP, other, protoTCP, DropSelector, 0},
		"other protocol":              {westUDP, udp6, protoUDP, DropSelector, 0},
		"cut short":                   {westUDP, bgp[:7], protoTCP, DropInner, 0},
		"dummy":                       {westUDP, payload(50), 59, DropDummy, 0},
		"tunnel in a transport SA":    {westUDP, udp("192.0.1.7", "192.0.2.9", 1, 2, nil), protoIPv4, DropSelector, 0},
		"v6: whole":                   {westUDP6, udp6, protoUDP, 0, 1},
		"v6: fragment":                {westUDP6, append([]byte{protoUDP, 0, 0, 1, 0, 0, 0, 9}, udp6...), protoFragment, DropInner, 0},
		"v6: later fragment":          {westUDP6, append([]byte{protoUDP, 0, 0, 16, 0, 0, 0, 9}, udp6...), protoFragment, DropInner, 0},
		"v6: routing header":          {westUDP6, append([]byte{protoUDP, 0, 4, 0, 0, 0, 0, 0}, udp6...), protoRouting, DropInner, 0},
		"v6: hop by hop":              {westUDP6, append([]byte{protoUDP, 0, 1, 4, 0, 0, 0, 0}, udp6...), protoHopByHop, DropInner, 0},
		"v6: fragment behind options": {westUDP6, append([]byte{protoFragment, 0, 1, 4, 0, 0, 0, 0, protoUDP, 0, 0, 1, 0, 0, 0, 9}, udp6...), protoDestOptions, DropInner, 0},
		"v6: options without end":     {westUDP6, []byte{protoDestOptions, 200, 1, 4, 0, 0, 0, 0}, protoDestOptions, DropInner, 0},
		"v6: nothing":                 {westUDP6, nil, protoUDP, DropInner, 0},
	} {
		var change []func(w, e *kernel.SAPair)
		if c.path == westUDP {
			change = append(change, port)
		}
		west, east := hosts(t, c.path, change...)
		out := west.control.pairs[0xc0000002].out
		b := make([]byte, out.SealedLen(len(c.plain)))
		if _, err := out.Seal(&west.worker.scratch, b, c.next, c.plain); err != nil {
			t.Fatal(err)
		}
		got := east.in(sent{path: c.path, packets: [][]byte{b}})
		if len(got) != c.taken || c.taken == 0 && east.dropped(c.why) != 1 {
			t.Errorf("%s: %d packets taken, drops %v", name, len(got), east.Drops())
		}
	}
}

func TestTransportModeNeedsSingleAddresses(t *testing.T) {
	two := append(one(westHost), one("192.1.2.46")...)
	for name, change := range map[string]func(*kernel.SAPair){
		"networks":  func(p *kernel.SAPair) { p.Local, p.Remote = westNet, eastNet },
		"two":       func(p *kernel.SAPair) { p.Local = two },
		"two right": func(p *kernel.SAPair) { p.Remote = two },
		"families":  func(p *kernel.SAPair) { p.Remote = one(eastHost6) },
	} {
		e := newEnd(t, Config{}, nil)
		sa := pairOf("c", gcm256, 1, true, one(westHost), one(eastHost), westUDP)
		sa.Transport = true
		change(&sa)
		e.Route(1, kernel.Policy{ID: "c", Local: sa.Local, Remote: sa.Remote})
		e.must()
		e.Install(2, sa)
		if err := errOf(t, e.settle()); err == nil || !strings.Contains(err.Error(), "transport mode is between two single addresses") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFragmentsOfOtherModes: a fragment goes its way in a tunnel even where an SA in transport mode is between the same hosts, and nothing is put together
// once that is gone.
func TestFragmentsOfOtherModes(t *testing.T) {
	west, east := hosts(t, westUDP, func(w, e *kernel.SAPair) { // transport mode for one protocol
		w.Local[0].Protocol, e.Remote[0].Protocol = protoUDP, protoUDP
	})
	for n, side := range []struct {
		e             *end
		local, remote ts.Set
		path          path.Path
	}{{west, one(westHost), one(eastHost), westUDP}, {east, one(eastHost), one(westHost), eastUDP}} {
		local := slices.Clone(side.local)
		local[0].Protocol = 200
		side.e.Route(3, kernel.Policy{ID: "t", Local: local, Remote: side.remote})
		side.e.Install(4, pairOf("t", gcm256, 2, n == 0, local, side.remote, side.path))
		side.e.must()
	}
	other := ip4{src: westHost, dst: eastHost, proto: 200, body: payload(3000)}.bytes()
	if got := east.in(west.out(fragmentsOf(t, other, 5, 1400)...)...); len(got) != 3 {
		t.Errorf("%d of 3 fragments through the tunnel; drops %v, %v", len(got), west.Drops(), east.Drops())
	}
	datagram := udp(westHost, eastHost, 1, 2, payload(3000))
	pieces := fragmentsOf(t, datagram, 6, 1400)
	if got := east.in(west.out(pieces...)...); len(got) != 1 {
		t.Errorf("%d datagrams in transport mode; drops %v, %v", len(got), west.Drops(), east.Drops())
	}
	west.Remove(5, 0xc0000002)
	west.must()
	if sent := west.out(pieces...); len(sent) != 0 || len(west.fragments.list) != 0 || len(*west.transports.Load()) != 0 {
		t.Errorf("without the SA: sent %v, waiting %d", sent, len(west.fragments.list))
	}
}

// TestPortsOfFragments: later fragments have no ports, and yet an SA for one port takes their datagram (RFC 4301 7 is about tunnels).
func TestPortsOfFragments(t *testing.T) {
	west, east := hosts(t, westUDP, func(w, e *kernel.SAPair) {
		for _, s := range []*ts.Selector{&w.Remote[0], &e.Local[0]} {
			s.Protocol, s.StartPort, s.EndPort = protoUDP, 1701, 1701
		}
	})
	b := udp(westHost, eastHost, 4000, 1701, payload(5000))
	got := east.in(west.out(fragmentsOf(t, b, 8, 1400)...)...)
	if len(got) != 1 {
		t.Fatalf("%d datagrams; drops %v", len(got), west.Drops())
	}
	sameDatagram(t, got[0][vnetLen:], b)
	if sent := west.out(fragmentsOf(t, udp(westHost, eastHost, 4000, 1702, payload(5000)), 9, 1400)...); len(sent) != 0 || west.dropped(DropNoPolicy) != 1 {
		t.Errorf("another port: sent %v, drops %v", sent, west.Drops())
	}
}

func TestTransportModeAllocatesNothing(t *testing.T) {
	for _, w := range []path.Path{westUDP, westTCP} {
		west, east := hosts(t, w)
		east.queues[0] = &discardQueue{}
		west.sender = &pipeSender{to: east.Datapath, packets: make([][]byte, 0, 128)}
		f := super(tcp(westHost, eastHost, 1000, 2000, 5, tcpACK, nil, payload(1370*40)), unix.VIRTIO_NET_HDR_GSO_TCPV4, 1370)
		one := frame(udp(westHost, eastHost, 1, 2, payload(100)))
		pieces := fragmentsOf(t, udp(westHost, eastHost, 1, 2, payload(8000)), 3, 1400)
		work := make([]byte, len(f))
		run := func() {
			copy(work, f)
			west.worker.frame(work)
			west.worker.frame(work[:copy(work, one)])
			for _, p := range pieces {
				west.worker.frame(work[:copy(work, p)])
			}
			west.worker.flush()
		}
		run()
		if n := testing.AllocsPerRun(100, run); n != 0 {
			t.Errorf("%s: %v allocations for 48 packets", w.Kind, n)
		}
		if east.Usage(0xc0000003)[0].InPackets == 0 || len(east.Drops())+len(west.Drops()) != 0 {
			t.Errorf("usage %+v, drops %v, %v", east.Usage(0xc0000003), west.Drops(), east.Drops())
		}
	}
}

package userspace

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
)

// FuzzFrame hands the datapath whatever the kernel might, and checks that what is sent opens at the other end or is dropped and counted there.
func FuzzFrame(f *testing.F) {
	f.Add(frame(udp("192.0.1.7", "192.0.2.9", 1, 2, payload(100))), false)
	f.Add(super(udp("192.0.1.7", "192.0.2.9", 1, 2, payload(3000)), unix.VIRTIO_NET_HDR_GSO_UDP_L4, 1000), true)
	f.Add(super(tcp("192.0.1.7", "192.0.2.9", 1, 2, 3, tcpACK, nil, payload(3000)), unix.VIRTIO_NET_HDR_GSO_TCPV4, 1000), false)
	f.Add(frame(tcp("192.0.1.7", "192.0.2.9", 1, 2, 3, tcpSYN, []byte{2, 4, 5, 180}, nil)), true)
	f.Add(frame(ip4{src: "192.0.1.7", dst: "192.0.2.9", proto: 1, frag: 7, body: payload(2000)}.bytes()), false)
	f.Add(frame(append([]byte{0x60, 0, 0, 0, 0, 16, 44, 64}, make([]byte, 48)...)), true)
	f.Fuzz(func(t *testing.T, b []byte, stream bool) {
		w := westUDP
		if stream {
			w = westTCP
		}
		west, east := anyTunnel(t, w)
		if len(b) > frameLen {
			return
		}
		sent := west.out(b)
		packets := 0
		for _, s := range sent {
			packets += len(s.packets)
			for _, p := range s.packets {
				if len(p) > 1500-28 {
					t.Fatalf("a sealed packet of %d octets", len(p))
				}
			}
		}
		got := flatten(t, east.in(sent...))
		dropped := uint64(0)
		for _, n := range east.Drops() {
			dropped += n
		}
		if uint64(len(got))+dropped != uint64(packets) {
			t.Fatalf("sent %d, got %d, dropped %v", packets, len(got), east.Drops())
		}
		if n := east.dropped(DropIntegrity) + east.dropped(DropPadding) + east.dropped(DropReplay) + east.dropped(DropShort); n != 0 {
			t.Fatalf("sealed wrongly: %v", east.Drops())
		}
	})
}

// FuzzInner lets an authentic peer send anything.
func FuzzInner(f *testing.F) {
	f.Add(udp("192.0.1.7", "192.0.2.9", 1, 2, payload(100)), tcp("192.0.1.7", "192.0.2.9", 1, 2, 3, tcpACK, nil, payload(300)), uint8(4))
	f.Add(tcp("192.0.1.7", "192.0.2.9", 1, 2, 3, tcpACK, nil, payload(300)), tcp("192.0.1.7", "192.0.2.9", 1, 2, 303, tcpACK|tcpPSH, nil, payload(300)), uint8(4))
	f.Add([]byte{0x60, 0, 0, 0}, []byte{0x4f}, uint8(41))
	f.Fuzz(func(t *testing.T, one, two []byte, next uint8) {
		west, east := anyTunnel(t, westUDP)
		p := west.control.pairs[0xc0000002]
		var packets [][]byte
		for _, plain := range [][]byte{one, two, one} {
			b := make([]byte, p.out.SealedLen(len(plain)))
			if _, err := p.out.Seal(&west.worker.scratch, b, next, plain); err != nil {
				t.Fatal(err)
			}
			packets = append(packets, b)
		}
		got := flatten(t, east.in(sent{path: westUDP, packets: packets}))
		dropped := uint64(0)
		for _, n := range east.Drops() {
			dropped += n
		}
		if uint64(len(got))+dropped != 3 {
			t.Fatalf("3 packets, got %d, dropped %v", len(got), east.Drops())
		}
		for _, b := range got {
			if b[0]>>4 != 4 && b[0]>>4 != 6 {
				t.Fatalf("not IP: %x", b)
			}
		}
	})
}

// anyTunnel is a tunnel between any addresses.
func anyTunnel(t testing.TB, w path.Path) (west, east *end) {
	all := append(slices.Clone(anyNet), anyNet6...)
	west, east = newEnd(t, Config{}, nil), newEnd(t, Config{}, nil)
	west.Route(1, kernel.Policy{ID: "c", Local: all, Remote: all})
	west.Install(2, pairOf("c", gcm256, 1, true, all, all, w))
	west.must()
	east.Route(1, kernel.Policy{ID: "c", Local: all, Remote: all})
	east.Install(2, pairOf("c", gcm256, 1, false, all, all, reverse(w)))
	east.must()
	return west, east
}

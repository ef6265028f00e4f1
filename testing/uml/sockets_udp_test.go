package uml_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ikegod/ikegod/kernel/xfrm/socket"
	"github.com/ikegod/ikegod/pkg/esp"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/testing/uml"
	"github.com/ikegod/ikegod/transport/mux"
	"github.com/ikegod/ikegod/transport/udp"
)

var kernelUDP = mux.Options{ListenUDP: true, UDPPorts: []udp.Port{{Number: 500}, {Number: 4500, Marker: true}}, Prepare: socket.Bypass, EncapUDP: socket.EncapUDP}

const espinudp = "espinudp 4500 4500"

// TestSocketsInUDP: one socket, ESP in the kernel and IKE in user space, and batches that arrive as one.
func TestSocketsInUDP(t *testing.T) {
	if uml.Outside(t, uml.Full) {
		return
	}
	for _, six := range []bool{false, true} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[six], func(t *testing.T) {
			west, east := facing(t, six, kernelUDP)
			protect(t, west, east, espinudp, espinudp)
			if !six {
				batch(t, west, east)
			}
			interleaved(t, west, east)
		})
	}
}

// interleaved: IKE on both ports, with pings in between.
func interleaved(t *testing.T, west, east *gateway) {
	t.Helper()
	const n = 100
	for _, port := range []uint16{500, 4500} {
		w, err := west.mux.UDPPath(west.addr, port, netip.AddrPortFrom(east.addr, port))
		if err != nil {
			t.Fatal(err)
		}
		before := len(east.messages())
		for i := range n {
			west.send(t, w, message(exchangeAuth, fmt.Sprint(port, " ", i)))
			if i%10 == 0 {
				west.pings(t, east, 1, 0)
			}
		}
		east.has(t, before+n, fmt.Sprintf("IKE on port %d", port))
		for i, d := range east.messages()[before:] {
			if want := message(exchangeAuth, fmt.Sprint(port, " ", i)); string(d.Data) != string(want) || d.Path.Local.Port() != port {
				t.Fatalf("message %d on %s is %q", i, d.Path, d.Data)
			}
		}
	}
}

// batch: a peer that seals in user space sends twenty packets by one call (UDP_SEGMENT), which over veth arrive as one. The kernel must see twenty.
func batch(t *testing.T, west, east *gateway) {
	t.Helper()
	sender := &gateway{host: west.host, lost: map[path.Path]error{}}
	sender.serve(t, mux.Options{ListenUDP: true, UDPPorts: []udp.Port{{Number: 4510, Marker: true}}, Prepare: socket.Bypass})
	p, err := sender.mux.UDPPath(west.addr, 4510, netip.AddrPortFrom(east.addr, 4500))
	if err != nil {
		t.Fatal(err)
	}
	c := east.listenUDP(t, 9)
	// The SA that install has made for what goes from west to east.
	key := slices.Repeat([]byte{0x01}, 20)
	out, err := esp.NewOutbound(esp.Params{SPI: 0x1001, Suite: suite.Suite{Encr: suite.Encr{ID: iana.ENCR_AES_GCM_16, KeyBits: 128}}, EncrKey: key})
	if err != nil {
		t.Fatal(err)
	}
	const n = 20
	var buf []byte
	var scratch esp.Scratch
	size := 0
	for i := range n {
		packet := inner(west.inner, east.inner, 9, fmt.Appendf(nil, "packet %02d", i))
		sealed := make([]byte, out.SealedLen(len(packet)))
		size, err = out.Seal(&scratch, sealed, 4, packet)
		if err != nil {
			t.Fatal(err)
		}
		buf = append(buf, sealed[:size]...)
	}
	if err := sender.mux.SendESP(p, buf, size); err != nil {
		t.Fatal(err)
	}
	got := 0
	b := make([]byte, 100)
	for ; got < n; got++ {
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		k, _, err := c.ReadFrom(b)
		if err != nil || string(b[:k]) != fmt.Sprintf("packet %02d", got) {
			t.Fatalf("after %d of %d packets: %q, %v\n%s%s", got, n, b[:k], err, east.counters(), east.states())
		}
	}
	// West's own kernel begins with sequence number 1 again, which east has seen: both SAs anew.
	if err := errors.Join(west.flush(), east.flush()); err != nil {
		t.Fatal(err)
	}
	protect(t, west, east, espinudp, espinudp)
}

// inner is a UDP datagram in IPv4, without UDP checksum.
func inner(from, to netip.Addr, port uint16, data []byte) []byte {
	b := make([]byte, 28, 28+len(data))
	b[0], b[8], b[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(b[2:], uint16(28+len(data)))
	copy(b[12:], from.AsSlice())
	copy(b[16:], to.AsSlice())
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum+sum>>16))
	binary.BigEndian.PutUint16(b[20:], port)
	binary.BigEndian.PutUint16(b[22:], port)
	binary.BigEndian.PutUint16(b[24:], uint16(8+len(data)))
	return append(b, data...)
}

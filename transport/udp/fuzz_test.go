package udp

import (
	"net/netip"
	"testing"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

// FuzzDatagram gives one read to the sorter, cut into segments as UDP_GRO would: every segment is handed over or counted, none twice.
func FuzzDatagram(f *testing.F) {
	f.Add(append(make([]byte, 4), ikeMessage("hello")...), uint16(0), true)
	f.Add(espPackets(0, 5, 60), uint16(60), true)
	f.Add(ikeMessage("hello"), uint16(0), false)
	f.Add([]byte{0xff}, uint16(1), true)
	f.Fuzz(func(t *testing.T, data []byte, segment uint16, marker bool) {
		k := newRecorder()
		u := &Transport{meter: new(transport.Meter), handler: k, esp: k}
		r := newReader(u, &bound{marker: marker})
		size := int(segment)
		if size == 0 {
			size = max(1, len(data))
		}
		r.split(path.Path{Remote: netip.AddrPortFrom(loopback, segment)}, data, size)
		segments, drops := max(1, (len(data)+size-1)/size), 0
		for _, n := range u.meter.Snapshot().Drops {
			drops += int(n)
		}
		if len(k.ike)+len(k.esp)+drops != segments {
			t.Fatalf("%d segments gave %d IKE messages, %d ESP packets and %d drops", segments, len(k.ike), len(k.esp), drops)
		}
		if !marker && len(k.esp) > 0 {
			t.Fatal("ESP on the port that carries IKE only")
		}
	})
}

package mux

import (
	"bytes"
	"errors"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
	"github.com/ikegod/ikegod/transport/udp"
)

// counter is a handler and a datapath that only count.
type counter struct {
	octets, packets, calls atomic.Uint64
	last                   atomic.Pointer[path.Path]
}

func (c *counter) InputESP(_ path.Path, packets [][]byte) {
	n := 0
	for _, b := range packets {
		n += len(b)
	}
	c.octets.Add(uint64(n))
	c.packets.Add(uint64(len(packets)))
	c.calls.Add(1)
}
func (c *counter) IKE(transport.Datagram) bool { return true }
func (c *counter) Accepted(p path.Path)        { c.last.Store(&p) }
func (c *counter) Lost(path.Path, error)       {}

// BenchmarkESP moves batches of 44 packets of 1,456 octets over loopback: what sockets alone allow, without any cipher.
func BenchmarkESP(b *testing.B) {
	for _, kind := range []path.Kind{path.UDP, path.TCP} {
		b.Run(kind.String(), func(b *testing.B) {
			var mux [2]*Mux
			var k [2]counter
			for i := range mux {
				m, err := New(Options{ListenUDP: true, UDPPorts: []udp.Port{{Marker: true}}, ListenTCP: []uint16{0}})
				if err != nil {
					b.Fatal(err)
				}
				defer m.Close()
				m.Start(&k[i], &k[i])
				mux[i] = m
			}
			p, err := mux[0].UDPPath(loopback, mux[0].UDPPorts()[0].Number, netip.AddrPortFrom(loopback, mux[1].UDPPorts()[0].Number))
			packet := espPacket(1, 1456)
			if kind == path.TCP {
				packet = frame(packet)
				p, err = mux[0].Dial(b.Context(), netip.Addr{}, netip.AddrPortFrom(loopback, mux[1].TCPPorts()[0]))
				for err == nil && k[1].last.Load() == nil {
					runtime.Gosched()
				}
				mux[0].Own(p)
				mux[1].Own(*k[1].last.Load())
			}
			if err != nil {
				b.Fatal(err)
			}
			buf := bytes.Repeat(packet, 44)
			b.SetBytes(44 * 1456)
			b.ReportAllocs()
			sent := uint64(0)
			for b.Loop() {
				for {
					err := mux[0].SendESP(p, buf, len(packet))
					if err == nil {
						break
					} else if !errors.Is(err, transport.ErrQueueFull) {
						b.Fatal(err)
					}
					runtime.Gosched()
				}
				sent += 44
			}
			c := mux[1].Counters()
			in := c.UDP
			if kind == path.TCP {
				in = c.TCP
			}
			b.ReportMetric(100*float64(k[1].packets.Load())/float64(sent), "%arrived")
			b.ReportMetric(float64(in.ESPIn)/float64(max(1, k[1].calls.Load())), "packets/read")
		})
	}
}

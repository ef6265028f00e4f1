package udp

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
	"github.com/ikegod/ikegod/transport/socket"
)

const (
	readBuffer = 65536 // the largest datagram, and the largest that UDP_GRO joins
	// The smallest ESP packet: SPI and sequence number (RFC 4303 2); the rest is judged by the datapath.
	espHeaderLen = 8
	// Segments of one GRO read: 64 KiB of the smallest packets that the kernel joins is far fewer than this.
	maxSegments = 256
)

// reader reads one socket on its own goroutine. Its buffers live as long as the socket: garbage allocates nothing.
type reader struct {
	t       *Transport
	s       *bound
	buf     []byte
	oob     [256]byte
	packets [][]byte // ESP of the current read
	octets  int      // in packets
}

func newReader(t *Transport, s *bound) *reader {
	return &reader{t: t, s: s, buf: make([]byte, readBuffer), packets: make([][]byte, 0, maxSegments)}
}

func (r *reader) run() {
	for failures := 0; ; {
		n, oobn, flags, from, err := r.s.conn.ReadMsgUDPAddrPort(r.buf, r.oob[:])
		if err != nil {
			if errors.Is(err, net.ErrClosed) || r.t.closed.Load() {
				return
			}
			// The error of an earlier datagram (IP_RECVERR). It concerns one peer and never the socket.
			r.t.readErrors(r.s)
			if failures++; failures >= 16 { // no error is worth a whole core
				r.t.pause(time.Millisecond)
			}
			continue
		}
		failures = 0
		r.t.meter.Read(path.UDP)
		if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
			r.t.meter.Drop(transport.DropTruncated, 1)
			continue
		}
		local, segment := r.controlData(r.oob[:oobn])
		if segment <= 0 {
			segment = n
		}
		p := path.Path{
			Local:  netip.AddrPortFrom(local, r.s.port),
			Remote: netip.AddrPortFrom(from.Addr().Unmap(), from.Port()),
			Kind:   path.UDP,
		}
		r.split(p, r.buf[:n], segment)
	}
}

// split takes the datagrams of one read apart. All have the same path, since UDP_GRO joins datagrams of one flow only.
func (r *reader) split(p path.Path, b []byte, segment int) {
	if len(b) == 0 {
		r.t.meter.Drop(transport.DropEmpty, 1)
		return
	}
	r.packets, r.octets = r.packets[:0], 0
	for len(b) > 0 {
		n := min(segment, len(b))
		r.datagram(p, b[:n:n])
		b = b[n:]
	}
	r.flushESP(p)
}

// datagram sorts one datagram (RFC 3948 2.2 to 2.4).
func (r *reader) datagram(p path.Path, b []byte) {
	switch {
	case !r.s.marker:
		// A peer that sends from its port 4500 may put the marker before IKE although our port is 500; no IKE message begins with it, since the
		// initiator's SPI is never zero (RFC 7296 3.1) and random otherwise.
		if p.Remote.Port() == NATTPort && len(b) >= 4 && binary.BigEndian.Uint32(b) == 0 {
			b = b[4:]
		}
		r.ike(p, b)
	case len(b) == 1 && b[0] == 0xff:
		r.t.meter.Drop(transport.DropKeepAlive, 1)
	case len(b) < 4:
		r.t.meter.Drop(transport.DropShort, 1)
	case binary.BigEndian.Uint32(b) == 0:
		r.ike(p, b[4:])
	case len(b) < espHeaderLen:
		r.t.meter.Drop(transport.DropShort, 1)
	default:
		if len(r.packets) == maxSegments {
			r.flushESP(p)
		}
		r.packets = append(r.packets, b)
		r.octets += len(b)
	}
}

func (r *reader) flushESP(p path.Path) {
	if len(r.packets) == 0 {
		return
	}
	if r.t.esp == nil {
		r.t.meter.Drop(transport.DropNoDatapath, len(r.packets))
	} else {
		r.t.meter.ESPIn(path.UDP, len(r.packets), r.octets)
		r.t.esp.InputESP(p, r.packets)
	}
	r.packets, r.octets = r.packets[:0], 0
}

func (r *reader) ike(p path.Path, b []byte) {
	r.flushESP(p) // order is kept
	if why, ok := transport.PlausibleIKE(b); !ok {
		r.t.meter.Drop(why, 1)
		if r.t.notices.Due(why) {
			if why == transport.DropShort {
				r.t.notices.Tell(why, p, "dropped a datagram of %d octets from %s: shorter than an IKE header (%d octets)", len(b), p.Peer(), transport.IKEHeaderLen)
			} else {
				r.t.notices.Tell(why, p, "dropped a datagram of %d octets from %s: its IKE header says %d octets; truncated, or not IKE",
					len(b), p.Peer(), binary.BigEndian.Uint32(b[24:]))
			}
		}
		return
	}
	r.t.meter.IKEIn(path.UDP, len(b))
	if !r.t.handler.IKE(transport.Datagram{Path: p, Data: append([]byte(nil), b...), At: time.Now()}) {
		r.t.meter.Drop(transport.DropHandlerBusy, 1)
	}
}

// controlData reads the local address that the peer sent to, and the size of the datagrams that UDP_GRO has joined (0: there is one).
func (r *reader) controlData(oob []byte) (local netip.Addr, segment int) {
	local = r.s.local
	for len(oob) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		oob = rest
		if a, ok := socket.Info(h, data); ok {
			local = a
		} else if h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4 {
			segment = int(binary.NativeEndian.Uint32(data))
		}
	}
	return local, segment
}

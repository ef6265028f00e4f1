package userspace

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// vnetLen is the length of the virtio-net header before each packet that is read from or written to the TUN (IFF_VNET_HDR).
const vnetLen = 10

// vnetHeader is struct virtio_net_hdr: it carries partial checksums and segmentation between the kernel and us.
type vnetHeader struct {
	flags, gsoType                           uint8
	hdrLen, gsoSize, checkStart, checkOffset uint16
}

func readVnet(b []byte) vnetHeader {
	return vnetHeader{
		flags: b[0], gsoType: b[1], hdrLen: binary.NativeEndian.Uint16(b[2:]), gsoSize: binary.NativeEndian.Uint16(b[4:]),
		checkStart: binary.NativeEndian.Uint16(b[6:]), checkOffset: binary.NativeEndian.Uint16(b[8:]),
	}
}

func (h vnetHeader) put(b []byte) {
	b[0], b[1] = h.flags, h.gsoType
	binary.NativeEndian.PutUint16(b[2:], h.hdrLen)
	binary.NativeEndian.PutUint16(b[4:], h.gsoSize)
	binary.NativeEndian.PutUint16(b[6:], h.checkStart)
	binary.NativeEndian.PutUint16(b[8:], h.checkOffset)
}

func (h vnetHeader) partialChecksum() bool { return h.flags&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0 }

// completeChecksum computes the checksum that the kernel left to the device: the field holds the sum of the pseudo-header so far.
func (h vnetHeader) completeChecksum(b []byte) bool {
	start, at := int(h.checkStart), int(h.checkStart)+int(h.checkOffset)
	if start >= len(b) || at+2 > len(b) {
		return false
	}
	initial := uint32(binary.BigEndian.Uint16(b[at:]))
	b[at], b[at+1] = 0, 0
	c := checksum(b[start:], initial)
	if c == 0 && h.checkOffset == 6 { // UDP: zero would mean that there is no checksum
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b[at:], c)
	return true
}

// segmenter cuts a super-packet, which the kernel hands over with one header, into the packets that it stands for.
type segmenter struct {
	packet []byte
	header int // length of IP and transport header
	size   int // payload of each segment
	off    int // of the next segment's payload
	index  int
	proto  uint8
	trans  int // offset of the transport header
	v6     bool
}

// newSegmenter checks that the virtio header fits the packet. The kernel's hdr_len is not used: on forwarded packets it covers more than the headers.
func newSegmenter(h vnetHeader, p *packet) (segmenter, bool) {
	s := segmenter{packet: p.b, size: int(h.gsoSize), proto: p.protocol, trans: p.transport, v6: p.v6()}
	switch h.gsoType {
	case unix.VIRTIO_NET_HDR_GSO_TCPV4, unix.VIRTIO_NET_HDR_GSO_TCPV6:
		t := p.tcpHeader()
		if t == nil || s.v6 != (h.gsoType == unix.VIRTIO_NET_HDR_GSO_TCPV6) {
			return s, false
		}
		s.header = p.transport + len(t)
	case unix.VIRTIO_NET_HDR_GSO_UDP_L4:
		if p.protocol != protoUDP || p.transport == 0 || p.fragment {
			return s, false
		}
		s.header = p.transport + 8
	default:
		return s, false
	}
	s.off = s.header
	return s, s.size > 0 && s.header < len(p.b)
}

// more reports whether segments are left.
func (s *segmenter) more() bool { return s.off < len(s.packet) }

// nextLen is the length of the next segment with its headers.
func (s *segmenter) nextLen() int { return s.header + min(s.size, len(s.packet)-s.off) }

// next writes the next segment to dst, which has nextLen octets, with checksums complete.
func (s *segmenter) next(dst []byte) {
	payload := len(dst) - s.header
	copy(dst, s.packet[:s.header])
	copy(dst[s.header:], s.packet[s.off:s.off+payload])
	last := s.off+payload == len(s.packet)
	if s.v6 {
		binary.BigEndian.PutUint16(dst[4:], uint16(len(dst)-40))
	} else {
		binary.BigEndian.PutUint16(dst[2:], uint16(len(dst)))
		binary.BigEndian.PutUint16(dst[4:], binary.BigEndian.Uint16(dst[4:])+uint16(s.index))
		putIPv4Checksum(dst[:s.trans])
	}
	t := dst[s.trans:]
	at := 16
	if s.proto == protoTCP {
		binary.BigEndian.PutUint32(t[4:], binary.BigEndian.Uint32(t[4:])+uint32(s.off-s.header))
		if !last {
			t[13] &^= tcpFIN | tcpPSH
		}
		if s.index > 0 {
			t[13] &^= tcpCWR
		}
	} else {
		binary.BigEndian.PutUint16(t[4:], uint16(len(t)))
		at = 6
	}
	t[at], t[at+1] = 0, 0
	c := checksum(t, pseudo(dst, s.proto, len(t)))
	if c == 0 && s.proto == protoUDP {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(t[at:], c)
	s.off += payload
	s.index++
}

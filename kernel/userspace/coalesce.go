package userspace

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

const (
	maxGroups = 16
	maxParts  = 64 // packets of one super-packet, and so UDP_MAX_SEGMENTS
)

// groups gathers packets of the same flow into super-packets for one write each. The order within a flow is kept: a packet that cannot join closes
// the group of its flow, and groups are written in the order in which they began.
type groups struct {
	n    int
	list [maxGroups]group
}

// group is one write to the TUN: a virtio-net header, a first packet, and the payloads of those that follow it.
type group struct {
	vnet     [vnetLen]byte
	flow     flow
	first    packet
	headers  int // length of IP and transport header of the first packet
	size     int // payload of the first packet; all others have as much, but the last
	octets   int // in all
	parts    int
	open     bool // more may join
	verified bool // the first packet's checksum is right
	iov      [maxParts + 1]unix.Iovec
}

// add takes a packet; false: there is no room, flush first. The packet's memory stays in use until flush.
func (g *groups) add(p *packet, f *flow, uso bool) bool {
	headers, size := coalescible(p, uso)
	for i := g.n - 1; i >= 0; i-- {
		c := &g.list[i]
		if c.flow != *f {
			continue
		}
		if c.open && headers > 0 && c.join(p, headers, size) {
			return true
		}
		c.open = false
		break
	}
	if g.n == maxGroups {
		return false
	}
	c := &g.list[g.n]
	g.n++
	c.flow, c.first, c.headers, c.size = *f, *p, headers, size
	c.octets, c.parts, c.open, c.verified = len(p.b), 1, headers > 0 && !p.pushes(), false
	c.iov[1].Base = &p.b[0]
	c.iov[1].SetLen(len(p.b))
	return true
}

// coalescible returns the length of the headers and of the payload if a packet may be part of a super-packet, or zero: TCP with a payload and no flag
// but ACK and PSH, UDP with a checksum, no fragments, no IP options.
func coalescible(p *packet, uso bool) (headers, size int) {
	if p.fragment || p.transport != 20 && p.transport != 40 || p.v6() != (p.transport == 40) {
		return 0, 0
	}
	switch p.protocol {
	case protoTCP:
		h := p.tcpHeader()
		if h == nil || h[13]&^tcpPSH != tcpACK {
			return 0, 0
		}
		headers = p.transport + len(h)
	case protoUDP:
		u := p.b[p.transport:]
		if !uso || len(u) < 8 || int(binary.BigEndian.Uint16(u[4:])) != len(u) || u[6]|u[7] == 0 {
			return 0, 0
		}
		headers = p.transport + 8
	default:
		return 0, 0
	}
	if len(p.b) == headers {
		return 0, 0
	}
	return headers, len(p.b) - headers
}

func (p *packet) pushes() bool { return p.protocol == protoTCP && p.b[p.transport+13]&tcpPSH != 0 }

// join appends a packet's payload if it continues the group. One that is shorter, or pushes, is the last.
func (c *group) join(p *packet, headers, size int) bool {
	if headers != c.headers || size > c.size || c.octets+size > 65535 || c.parts == maxParts || !c.continues(p) {
		return false
	}
	if !c.verified {
		if !checksumOK(&c.first) {
			return false
		}
		c.verified = true
	}
	if !checksumOK(p) {
		return false
	}
	c.parts++
	c.iov[c.parts].Base = &p.b[headers]
	c.iov[c.parts].SetLen(size)
	c.octets += size
	push := p.pushes()
	if push {
		c.first.b[c.first.transport+13] |= tcpPSH
	}
	c.open = size == c.size && !push
	return true
}

// continues compares all header fields that the kernel will copy from the first packet to all others when it cuts the super-packet up again.
func (c *group) continues(p *packet) bool {
	a, b := c.first.b, p.b
	if p.v6() {
		if !bytes.Equal(a[:4], b[:4]) || a[7] != b[7] { // traffic class and flow label, hop limit
			return false
		}
	} else if a[1] != b[1] || a[8] != b[8] || a[6] != b[6] { // TOS, TTL, DF
		return false
	} else if !c.first.df && binary.BigEndian.Uint16(b[4:]) != binary.BigEndian.Uint16(a[4:])+uint16(c.parts) {
		return false // without DF the identification has a meaning (RFC 6864 4)
	}
	if p.protocol == protoUDP {
		return true
	}
	x, y := a[c.first.transport:], b[p.transport:]
	next := binary.BigEndian.Uint32(x[4:]) + uint32(c.octets-c.headers)
	return binary.BigEndian.Uint32(y[4:]) == next &&
		bytes.Equal(x[8:12], y[8:12]) && x[12] == y[12] && // acknowledgement; data offset and reserved bits
		bytes.Equal(x[14:16], y[14:16]) && // window
		bytes.Equal(x[20:c.headers-c.first.transport], y[20:c.headers-c.first.transport]) // options
}

// checksumOK verifies the checksums: joined packets go to the kernel as verified, so that a wrong one must not join.
func checksumOK(p *packet) bool {
	if !p.v6() && fold(sum(p.b[:p.transport], 0)) != 0xffff {
		return false
	}
	t := p.b[p.transport:]
	return fold(sum(t, pseudo(p.b, p.protocol, len(t)))) == 0xffff
}

// flush writes all groups and returns the number of packets that the TUN did not take.
func (g *groups) flush(q queue) (lost int) {
	for i := range g.n {
		c := &g.list[i]
		c.finish()
		if q.write(c.iov[:c.parts+1]) != nil {
			lost += c.parts
		}
		clear(c.iov[1 : c.parts+1]) // the memory belongs to the transport again
		c.first.b = nil
	}
	g.n = 0
	return lost
}

// finish makes the virtio-net header, and the headers of a super-packet.
func (c *group) finish() {
	h := vnetHeader{}
	if c.parts > 1 {
		b, t := c.first.b, c.first.b[c.first.transport:]
		h = vnetHeader{flags: unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, hdrLen: uint16(c.headers), gsoSize: uint16(c.size), checkStart: uint16(c.first.transport)}
		length := c.octets - c.first.transport
		if c.first.v6() {
			binary.BigEndian.PutUint16(b[4:], uint16(c.octets-40))
		} else {
			binary.BigEndian.PutUint16(b[2:], uint16(c.octets))
			putIPv4Checksum(b[:20])
		}
		switch {
		case c.first.protocol == protoUDP:
			h.gsoType, h.checkOffset = unix.VIRTIO_NET_HDR_GSO_UDP_L4, 6
			binary.BigEndian.PutUint16(t[4:], uint16(length))
		case c.first.v6():
			h.gsoType, h.checkOffset = unix.VIRTIO_NET_HDR_GSO_TCPV6, 16
		default:
			h.gsoType, h.checkOffset = unix.VIRTIO_NET_HDR_GSO_TCPV4, 16
		}
		binary.BigEndian.PutUint16(t[h.checkOffset:], uint16(fold(pseudo(b, c.first.protocol, length))))
	}
	h.put(c.vnet[:])
	c.iov[0].Base = &c.vnet[0]
	c.iov[0].SetLen(vnetLen)
}

package userspace

import (
	"encoding/binary"
	"math/bits"
)

// sum adds the 16-bit words of b to initial in one's complement (RFC 1071), not folded. It adds 8 octets at a time with the carry, which gives
// the same result because 2^64-1 is a multiple of 2^16-1; the byte order is swapped at the end (RFC 1071 2.B). Two chains of additions run beside
// each other, each carry is added at the end of its block: several times as fast as one chain with the carry kept from block to block.
func sum(b []byte, initial uint32) uint32 {
	var p, q, c uint64
	for len(b) >= 128 {
		w := b[:128:128]
		p, c = bits.Add64(p, binary.NativeEndian.Uint64(w[0:]), 0)
		p, c = bits.Add64(p, binary.NativeEndian.Uint64(w[8:]), c)
		p, c = bits.Add64(p, binary.NativeEndian.Uint64(w[16:]), c)
		p, c = bits.Add64(p, binary.NativeEndian.Uint64(w[24:]), c)
		p, c = bits.Add64(p, binary.NativeEndian.Uint64(w[32:]), c)
		p, c = bits.Add64(p, binary.NativeEndian.Uint64(w[40:]), c)
		p, c = bits.Add64(p, binary.NativeEndian.Uint64(w[48:]), c)
		p, c = bits.Add64(p, binary.NativeEndian.Uint64(w[56:]), c)
		p, c = bits.Add64(p, c, 0)
		p += c
		q, c = bits.Add64(q, binary.NativeEndian.Uint64(w[64:]), 0)
		q, c = bits.Add64(q, binary.NativeEndian.Uint64(w[72:]), c)
		q, c = bits.Add64(q, binary.NativeEndian.Uint64(w[80:]), c)
		q, c = bits.Add64(q, binary.NativeEndian.Uint64(w[88:]), c)
		q, c = bits.Add64(q, binary.NativeEndian.Uint64(w[96:]), c)
		q, c = bits.Add64(q, binary.NativeEndian.Uint64(w[104:]), c)
		q, c = bits.Add64(q, binary.NativeEndian.Uint64(w[112:]), c)
		q, c = bits.Add64(q, binary.NativeEndian.Uint64(w[120:]), c)
		q, c = bits.Add64(q, c, 0)
		q += c
		b = b[128:]
	}
	for len(b) >= 32 {
		w := b[:32:32]
		p, c = bits.Add64(p, binary.NativeEndian.Uint64(w[0:]), 0)
		p, c = bits.Add64(p, binary.NativeEndian.Uint64(w[8:]), c)
		p, c = bits.Add64(p, binary.NativeEndian.Uint64(w[16:]), c)
		p, c = bits.Add64(p, binary.NativeEndian.Uint64(w[24:]), c)
		p, c = bits.Add64(p, c, 0)
		p += c
		b = b[32:]
	}
	for len(b) >= 8 {
		p, c = bits.Add64(p, binary.NativeEndian.Uint64(b), 0)
		p += c
		b = b[8:]
	}
	var last uint64 // less than 8 octets: no carry
	if len(b) >= 4 {
		last = uint64(binary.NativeEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		last += uint64(binary.NativeEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) > 0 {
		last += uint64(binary.NativeEndian.Uint16([]byte{b[0], 0}))
	}
	p, c = bits.Add64(p, last, 0)
	p += c
	p, c = bits.Add64(p, q, 0)
	p += c
	p = p>>32 + p&0xffffffff
	p = p>>32 + p&0xffffffff
	s := fold(uint32(p)&0xffff + uint32(p)>>16)
	return uint32(networkOrder(uint16(s))) + initial
}

// networkOrder swaps the octets of a native 16-bit word where the machine's order is not the network's.
func networkOrder(v uint16) uint16 {
	if littleEndian {
		return bits.ReverseBytes16(v)
	}
	return v
}

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// fold adds the upper half to the lower until the sum has 16 bits.
func fold(s uint32) uint32 {
	s = s>>16 + s&0xffff
	return s>>16 + s&0xffff
}

// checksum is the Internet checksum of b and initial.
func checksum(b []byte, initial uint32) uint16 { return ^uint16(fold(sum(b, initial))) }

// pseudo is the sum of the pseudo-header for a transport header in an IP packet (RFC 9293 3.1, RFC 8200 8.1).
func pseudo(ip []byte, protocol uint8, length int) uint32 {
	addrs := ip[12:20]
	if ip[0]>>4 == 6 {
		addrs = ip[8:40]
	}
	return sum(addrs, uint32(protocol)+uint32(length))
}

// putIPv4Checksum fills in the header checksum.
func putIPv4Checksum(header []byte) {
	header[10], header[11] = 0, 0
	binary.BigEndian.PutUint16(header[10:], checksum(header, 0))
}

// replace16 changes a 16-bit word that a checksum covers, and the checksum with it (RFC 1624 3).
func replace16(field, check []byte, value uint16) {
	old := binary.BigEndian.Uint16(field)
	s := uint32(^binary.BigEndian.Uint16(check)) + uint32(^old) + uint32(value)
	binary.BigEndian.PutUint16(field, value)
	binary.BigEndian.PutUint16(check, ^uint16(fold(s)))
}

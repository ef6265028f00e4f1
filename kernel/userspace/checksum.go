package userspace

import (
	"encoding/binary"
	"math/bits"
)

// sum adds the 16-bit words of b to initial in one's complement (RFC 1071), not folded. It adds 8 octets at a time with the carry, which gives
// the same result because 2^64-1 is a multiple of 2^16-1; the byte order is swapped at the end (RFC 1071 2.B).
func sum(b []byte, initial uint32) uint32 {
	var acc, carry uint64
	for len(b) >= 64 {
		w := b[:64:64]
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(w[0:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(w[8:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(w[16:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(w[24:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(w[32:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(w[40:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(w[48:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(w[56:]), carry)
		b = b[64:]
	}
	for len(b) >= 8 {
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(b), carry)
		b = b[8:]
	}
	var last [8]byte
	copy(last[:], b)
	acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(last[:]), carry)
	acc, carry = bits.Add64(acc, carry, 0)
	acc += carry
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	var native [4]byte
	binary.NativeEndian.PutUint32(native[:], uint32(acc))
	return fold(uint32(binary.BigEndian.Uint16(native[:]))+uint32(binary.BigEndian.Uint16(native[2:]))) + initial
}

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

package userspace

import (
	"encoding/binary"
	"net/netip"
)

// IP protocol numbers that the datapath looks into.
const (
	protoICMP   = 1
	protoIPv4   = 4
	protoTCP    = 6
	protoUDP    = 17
	protoIPv6   = 41
	protoICMPv6 = 58
)

// flow is what selectors are compared with. Comparable.
type flow struct {
	src, dst     netip.Addr
	sport, dport uint16 // for ICMP both hold type and code (RFC 4301 4.4.1.1); zero where a fragment hides them
	protocol     uint8
	later        bool // a fragment without the transport header
}

// slot is where a flow lies in a cache of n entries, a power of two.
func (f *flow) slot(n int) int {
	h := uint32(f.sport)<<16 | uint32(f.dport)
	s, d := f.src.As16(), f.dst.As16()
	h ^= binary.BigEndian.Uint32(s[12:])*31 ^ binary.BigEndian.Uint32(d[12:])
	h *= 0x9e3779b1
	return int(h>>16) & (n - 1)
}

// packet is an IP packet with the offsets that were found in it.
type packet struct {
	b         []byte // exactly the IP packet
	transport int    // offset of the transport header; zero for a later fragment
	protocol  uint8
	df        bool
	fragment  bool // first or later
}

func (p *packet) v6() bool { return p.b[0]>>4 == 6 }

// parse reads the headers of an IP packet. What follows the IP packet (padding for traffic flow confidentiality, RFC 4303 2.7) is cut off.
func parse(b []byte) (packet, flow, bool) {
	if len(b) < 20 {
		return packet{}, flow{}, false
	}
	switch b[0] >> 4 {
	case 4:
		return parse4(b)
	case 6:
		return parse6(b)
	}
	return packet{}, flow{}, false
}

func parse4(b []byte) (p packet, f flow, ok bool) {
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < 20 || total < header || total > len(b) {
		return p, f, false
	}
	flags := binary.BigEndian.Uint16(b[6:])
	p = packet{b: b[:total], transport: header, protocol: b[9], df: flags&0x4000 != 0, fragment: flags&0x3fff != 0}
	f = flow{src: netip.AddrFrom4([4]byte(b[12:])), dst: netip.AddrFrom4([4]byte(b[16:])), protocol: b[9]}
	if flags&0x1fff != 0 {
		p.transport, f.later = 0, true
		return p, f, true
	}
	return p, f, f.ports(p.b[header:])
}

func parse6(b []byte) (p packet, f flow, ok bool) {
	if len(b) < 40 {
		return p, f, false
	}
	total := 40 + int(binary.BigEndian.Uint16(b[4:]))
	if total > len(b) {
		return p, f, false
	}
	p = packet{b: b[:total], df: true}
	f = flow{src: netip.AddrFrom16([16]byte(b[8:])), dst: netip.AddrFrom16([16]byte(b[24:]))}
	next, off := b[6], 40
	for {
		switch next {
		case 0, 43, 60: // hop by hop, routing, destination options
			if off+8 > total {
				return p, f, false
			}
			next, off = b[off], off+8+int(b[off+1])*8
		case 44: // fragment
			if off+8 > total {
				return p, f, false
			}
			p.fragment = true
			later := binary.BigEndian.Uint16(b[off+2:])&0xfff8 != 0
			next, off = b[off], off+8
			if later {
				p.protocol, f.protocol, f.later = next, next, true
				return p, f, true
			}
		default:
			if off > total {
				return p, f, false
			}
			p.transport, p.protocol, f.protocol = off, next, next
			return p, f, f.ports(p.b[off:])
		}
	}
}

// ports reads ports, or ICMP type and code. False: the transport header is cut short.
func (f *flow) ports(t []byte) bool {
	switch f.protocol {
	case protoTCP, protoUDP, 132, 136: // SCTP, UDP-Lite
		if len(t) < 8 {
			return false
		}
		f.sport, f.dport = binary.BigEndian.Uint16(t), binary.BigEndian.Uint16(t[2:])
	case protoICMP, protoICMPv6:
		if len(t) < 4 {
			return false
		}
		f.sport = binary.BigEndian.Uint16(t)
		f.dport = f.sport
	}
	return true
}

// tcpHeader returns the TCP header with its options, or nil if p holds none that is whole.
func (p *packet) tcpHeader() []byte {
	if p.protocol != protoTCP || p.transport == 0 || p.fragment || len(p.b) < p.transport+20 {
		return nil
	}
	n := int(p.b[p.transport+12]>>4) * 4
	if n < 20 || len(p.b) < p.transport+n {
		return nil
	}
	return p.b[p.transport : p.transport+n]
}

// TCP flags.
const (
	tcpFIN = 1 << iota
	tcpSYN
	tcpRST
	tcpPSH
	tcpACK
	tcpURG
	tcpECE
	tcpCWR
)

// clampMSS lowers the MSS option of a SYN to what an inner MTU leaves, and mends the checksum. It is right for partial checksums too: they cover
// the pseudo-header alone, and are completed after it (mend false).
func (p *packet) clampMSS(mtu int, mend bool) {
	h := p.tcpHeader()
	if h == nil || h[13]&tcpSYN == 0 {
		return
	}
	limit := mtu - 40
	if p.v6() {
		limit = mtu - 60
	}
	for o := 20; o+4 <= len(h); {
		switch h[o] {
		case 0: // end of options
			return
		case 1: // no operation
			o++
			continue
		case 2:
			if h[o+1] != 4 || limit < 1 || int(binary.BigEndian.Uint16(h[o+2:])) <= limit {
				return
			}
			setMSS(h, o+2, uint16(limit), mend)
			return
		}
		if h[o+1] < 2 {
			return
		}
		o += int(h[o+1])
	}
}

// setMSS writes two octets that may lie at an odd offset, where they straddle two words of the checksum.
func setMSS(h []byte, at int, value uint16, mend bool) {
	if !mend {
		binary.BigEndian.PutUint16(h[at:], value)
		return
	}
	if at%2 == 0 {
		replace16(h[at:], h[16:], value)
		return
	}
	replace16(h[at-1:], h[16:], uint16(h[at-1])<<8|value>>8)
	replace16(h[at+1:], h[16:], value<<8|uint16(h[at+2]))
}

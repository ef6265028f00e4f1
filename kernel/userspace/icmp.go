package userspace

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

func addrPort(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// icmpSender tells senders behind the TUN why their packets do not pass. The errors seem to come from the packets' destination: an address of
// ours would be refused as a martian on the TUN, and an address outside the protected networks by reverse path filters.
type icmpSender struct {
	q     queue
	since time.Time
	sent  int
	buf   [vnetLen + 40 + 8 + 1232]byte
	iov   [1]unix.Iovec
}

// icmpPerSecond bounds the errors of one queue (RFC 1812 4.3.2.8, RFC 4443 2.4 f).
const icmpPerSecond = 100

// tooBig sends fragmentation needed (RFC 1191 4) or packet too big (RFC 4443 3.2).
func (s *icmpSender) tooBig(p *packet, mtu int) {
	if p.v6() {
		s.send6(p, 2, 0, uint32(mtu))
		return
	}
	s.send4(p, 3, 4, uint32(mtu))
}

// prohibited sends communication administratively prohibited (RFC 1812 5.2.7.1, RFC 4443 3.1).
func (s *icmpSender) prohibited(p *packet) {
	if p.v6() {
		s.send6(p, 1, 1, 0)
		return
	}
	s.send4(p, 3, 13, 0)
}

// allowed keeps to RFC 1122 3.2.2 and RFC 4443 2.4 e: no error about an error, about a later fragment, or to or from a group.
func (s *icmpSender) allowed(p *packet) bool {
	src, dst := p.b[12:16], p.b[16:20]
	multicast := byte(224)
	if p.v6() {
		src, dst, multicast = p.b[8:24], p.b[24:40], 255
	}
	if p.transport == 0 || src[0] >= multicast || dst[0] >= multicast {
		return false
	}
	t := p.b[p.transport:]
	switch {
	case p.protocol == protoICMP && (len(t) == 0 || t[0] != 8 && t[0] != 0 && t[0] != 13 && t[0] != 14):
		return false
	case p.protocol == protoICMPv6 && (len(t) == 0 || t[0] < 128):
		return false
	}
	now := time.Now()
	if now.Sub(s.since) > time.Second {
		s.since, s.sent = now, 0
	}
	s.sent++
	return s.sent <= icmpPerSecond
}

// send4 quotes as much of the packet as fits 576 octets (RFC 1812 4.3.2.3).
func (s *icmpSender) send4(p *packet, typ, code byte, rest uint32) {
	if !s.allowed(p) {
		return
	}
	quote := p.b[:min(len(p.b), 576-28)]
	b := s.buf[vnetLen : vnetLen+28+len(quote)]
	clear(s.buf[:vnetLen+28])
	b[0], b[1], b[8], b[9] = 0x45, 0xc0, 64, protoICMP // precedence 6 (RFC 1812 4.3.2.5)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], p.b[16:20])
	copy(b[16:], p.b[12:16])
	putIPv4Checksum(b[:20])
	icmp := b[20:]
	icmp[0], icmp[1] = typ, code
	binary.BigEndian.PutUint32(icmp[4:], rest)
	copy(icmp[8:], quote)
	binary.BigEndian.PutUint16(icmp[2:], checksum(icmp, 0))
	s.write(len(b))
}

// send6 quotes as much of the packet as fits 1280 octets (RFC 4443 2.4 c).
func (s *icmpSender) send6(p *packet, typ, code byte, rest uint32) {
	if !s.allowed(p) {
		return
	}
	quote := p.b[:min(len(p.b), 1280-48)]
	b := s.buf[vnetLen : vnetLen+48+len(quote)]
	clear(s.buf[:vnetLen+48])
	b[0], b[6], b[7] = 0x60, protoICMPv6, 64
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	copy(b[8:], p.b[24:40])
	copy(b[24:], p.b[8:24])
	icmp := b[40:]
	icmp[0], icmp[1] = typ, code
	binary.BigEndian.PutUint32(icmp[4:], rest)
	copy(icmp[8:], quote)
	binary.BigEndian.PutUint16(icmp[2:], checksum(icmp, pseudo(b, protoICMPv6, len(icmp))))
	s.write(len(b))
}

func (s *icmpSender) write(n int) {
	s.iov[0].Base = &s.buf[0]
	s.iov[0].SetLen(vnetLen + n)
	_ = s.q.write(s.iov[:]) // an error message that is lost is like one that the network lost
}

// fragment4 cuts an IPv4 packet without DF into fragments of at most mtu octets (RFC 791 3.2) and calls yield for each; the slice it is given is
// used again for the next. It rewrites b.
func fragment4(b []byte, mtu int, yield func([]byte)) {
	header := int(b[0]&15) * 4
	step := (mtu - header) &^ 7
	if step <= 0 {
		return
	}
	first := binary.BigEndian.Uint16(b[6:])
	payload := b[header:]
	fragment := make([]byte, mtu)
	copy(fragment, b[:header])
	for off := 0; off < len(payload); off += step {
		n := min(step, len(payload)-off)
		field := first&0x1fff + uint16(off/8)
		if off+n < len(payload) || first&0x2000 != 0 {
			field |= 0x2000
		}
		f := fragment[:header+n]
		binary.BigEndian.PutUint16(f[2:], uint16(len(f)))
		binary.BigEndian.PutUint16(f[6:], field)
		copy(f[header:], payload[off:off+n])
		putIPv4Checksum(f[:header])
		yield(f)
		if off == 0 {
			dropUncopiedOptions(fragment[:header])
		}
	}
}

// dropUncopiedOptions overwrites with no-operations the options that only the first fragment keeps (RFC 791 3.1).
func dropUncopiedOptions(header []byte) {
	for o := 20; o < len(header); {
		n := 1
		switch {
		case header[o] == 0:
			return
		case header[o] != 1:
			if o+1 >= len(header) || header[o+1] < 2 || o+int(header[o+1]) > len(header) {
				return
			}
			n = int(header[o+1])
		}
		if header[o]&0x80 == 0 {
			for i := range n {
				header[o+i] = 1
			}
		}
		o += n
	}
}

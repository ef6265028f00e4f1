package userspace

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ts"
)

// Transport mode (RFC 4303 3.1.1): ESP carries what follows the IP header, and the IP header of the sealed packet stands for that of the packet inside. Ours
// is made by the socket that sends, and gone when the socket has received. So the receiver makes the header again from what the SA says, with the TTL
// and all else that the original said replaced by this host's defaults, and what has to stand before ESP (IPv4 options, hop-by-hop options, routing
// headers) cannot be carried. ESP takes whole datagrams only (RFC 4303 3.3.4): what the kernel has fragmented is put together first.

// transportMode is what a pair in transport mode needs beside its keys. Constant.
type transportMode struct {
	header    []byte // of the packets inbound: without lengths, and with protocol zero
	headerLen int
	// change is what the checksum of an inbound packet's transport header lacks, because a NAT has changed addresses that it covers (RFC 3948 3.1.2).
	change     uint32
	translated bool
}

const (
	rebuiltTTL = 64 // what hosts use by default (RFC 1340): the original is not known

	protoHopByHop    = 0
	protoRouting     = 43
	protoFragment    = 44
	protoDestOptions = 60
	protoDCCP        = 33
	protoUDPLite     = 136
)

// newTransportMode checks that the selectors of a pair hold one address each (RFC 7296 2.23.1).
func newTransportMode(sa *kernel.SAPair) (*transportMode, error) {
	local, okLocal := singleAddr(sa.Local)
	remote, okRemote := singleAddr(sa.Remote)
	if !okLocal || !okRemote || local.BitLen() != remote.BitLen() {
		return nil, fmt.Errorf("transport mode is between two single addresses, not between %s and %s", sa.Local, sa.Remote)
	}
	m := &transportMode{}
	if local.Is4() {
		m.headerLen = headerIPv4
		m.header = append(m.header, 0x45, 0, 0, 0, 0, 0, 0x40, 0, rebuiltTTL, 0, 0, 0) // DF: it is whole, and its identification means nothing (RFC 6864 4)
	} else {
		m.headerLen = headerIPv6
		m.header = append(m.header, 0x60, 0, 0, 0, 0, 0, 0, rebuiltTTL)
	}
	addrs := append(remote.AsSlice(), local.AsSlice()...)
	m.header = append(m.header, addrs...)
	theirs := append(original(sa.OriginalRemote, remote), original(sa.OriginalLocal, local)...)
	m.change = fold(sum(addrs, 0) + uint32(^uint16(fold(sum(theirs, 0)))))
	m.translated = string(theirs) != string(addrs)
	return m, nil
}

func original(a, seen netip.Addr) []byte {
	if a.IsValid() && a.BitLen() == seen.BitLen() {
		return a.AsSlice()
	}
	return seen.AsSlice()
}

// singleAddr returns the one address that all selectors of a set hold.
func singleAddr(set ts.Set) (netip.Addr, bool) {
	for _, s := range set {
		if s.Start != s.End || s.Start != set[0].Start {
			return netip.Addr{}, false
		}
	}
	if len(set) == 0 {
		return netip.Addr{}, false
	}
	return set[0].Start, true
}

// behindIP returns what ESP carries of a whole packet in transport mode, and its protocol. False: something has to stand before ESP that cannot.
func behindIP(b []byte) (plain []byte, next uint8, ok bool) {
	if b[0]>>4 == 4 {
		n := int(b[0]&15) * 4
		return b[n:], b[9], n == headerIPv4 || onlyPadding(b[headerIPv4:n])
	}
	return b[headerIPv6:], b[6], endToEnd(b[headerIPv6:], b[6])
}

// onlyPadding reports whether the options of an IPv4 header say nothing.
func onlyPadding(options []byte) bool {
	for _, o := range options {
		switch o {
		case 0:
			return true
		case 1:
		default:
			return false
		}
	}
	return true
}

// endToEnd reports whether all extension headers of an IPv6 packet may stand behind ESP. Destination options may; that they do is what RFC 4303 3.1.1 recommends.
func endToEnd(b []byte, next uint8) bool {
	for next == protoDestOptions && len(b) >= 8 {
		n := 8 + int(b[1])*8
		next = b[0]
		b = b[min(n, len(b)):]
	}
	return next != protoHopByHop && next != protoRouting && next != protoFragment && next != protoDestOptions
}

// rebuild makes the IP packet of what was opened, in dst, whose length it has to fit. False: it is no whole datagram.
func (m *transportMode) rebuild(dst, plain []byte, next uint8) bool {
	b := dst[copy(dst, m.header):]
	copy(b, plain)
	if m.headerLen == headerIPv4 {
		binary.BigEndian.PutUint16(dst[2:], uint16(len(dst)))
		dst[9] = next
		putIPv4Checksum(dst[:headerIPv4])
		return true
	}
	binary.BigEndian.PutUint16(dst[4:], uint16(len(plain)))
	dst[6] = next
	return endToEnd(plain, next)
}

// mend sets the transport checksum of an inbound packet right. UDP without a checksum stays without (RFC 768).
func (m *transportMode) mend(p *packet) {
	at, ok := checksumAt(p.protocol)
	t := p.b[p.transport:]
	if !ok || len(t) < at+2 {
		return
	}
	check := binary.BigEndian.Uint16(t[at:])
	if p.protocol == protoUDP && check == 0 {
		return
	}
	check = ^uint16(fold(uint32(^check) + m.change)) // RFC 1624 3
	if check == 0 && (p.protocol == protoUDP || p.protocol == protoUDPLite) {
		check = 0xffff
	}
	binary.BigEndian.PutUint16(t[at:], check)
}

// checksumAt is where a transport header has a checksum that covers the addresses.
func checksumAt(protocol uint8) (int, bool) {
	switch protocol {
	case protoTCP:
		return 16, true
	case protoUDP, protoUDPLite, protoDCCP:
		return 6, true
	case protoICMPv6:
		return 2, true
	}
	return 0, false
}

// hostPair are the addresses between which there is an SA in transport mode, so that fragments are put together there.
type hostPair struct{ local, remote netip.Addr }

// joins reports whether fragments of a flow are to be put together.
func (d *Datapath) joins(f *flow) bool {
	m := d.transports.Load()
	return m != nil && (*m)[hostPair{f.src, f.dst}] > 0
}

// countTransport adds to the number of SAs in transport mode between a pair's addresses. The control goroutine's.
func (c *controller) countTransport(p *pair, n int) {
	if p.transport == nil {
		return
	}
	next := map[hostPair]int{}
	if m := c.d.transports.Load(); m != nil {
		maps.Copy(next, *m)
	}
	k := hostPair{p.sa.Local[0].Start, p.sa.Remote[0].Start}
	if next[k] += n; next[k] == 0 {
		delete(next, k)
	}
	c.d.transports.Store(&next)
}

// rebuilt makes the IP packet of what was opened. Its memory is the receiver's, until the groups are flushed for want of room here, or at the end.
func (r *receiver) rebuilt(d *Datapath, q queue, m *transportMode, plain []byte, next uint8) (p packet, f flow, ok bool) {
	n := m.headerLen + len(plain)
	if n > 65535 {
		return p, f, false
	}
	b := r.room(d, q, n)
	if !m.rebuild(b, plain, next) {
		return p, f, false
	}
	if p, f, ok = parse(b); !ok {
		return p, f, false
	}
	if m.translated {
		m.mend(&p)
	}
	r.used += n
	return p, f, true
}

// arenaLen holds what one read from a socket can bring, and the headers.
const arenaLen = 128 << 10

package userspace

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Bounds of what waits for its other fragments. Those for transport mode come from this host's own IP layer, one right after the other; what is not whole soon has
// lost a fragment in a full queue of the TUN.
const (
	maxDatagrams  = 64
	maxFragmented = 4 << 20     // octets in all
	fragmentLife  = time.Second // in transport mode
	spareBuffers  = 4
)

// reassembly puts datagrams together from their fragments (RFC 791 3.2, RFC 8200 4.5). Safe for concurrent use: the queues of the TUN share one,
// since nothing says that the fragments of a datagram come through the same.
type reassembly struct {
	life time.Duration

	mu     sync.Mutex // guards all below
	list   []*datagram
	octets int
	spare  []*datagram
}

// datagram is one that has not come whole yet.
type datagram struct {
	src, dst netip.Addr
	id       uint32
	protocol uint8 // IPv4: part of the key. IPv6: what follows the fragment header of the first
	born     time.Time
	head     []byte // what stands before the fragments' contents: of the first one, without the fragment header
	link     int    // IPv6: where head says which protocol follows
	body     []byte
	have     []span // what of body is there, in order, not touching
	total    int    // length of body; -1: not known yet
	pieces   int
}

type span struct{ from, to int }

// fragment is one, taken apart.
type fragment struct {
	src, dst netip.Addr
	id       uint32
	protocol uint8
	head     []byte
	link     int
	at       int
	more     bool
	body     []byte
}

// parseFragment takes a fragment apart; parse has found its lengths right. False: what it says cannot be.
func parseFragment(b []byte) (fragment, bool) {
	var g fragment
	if b[0]>>4 == 4 {
		header, field := int(b[0]&15)*4, binary.BigEndian.Uint16(b[6:])
		g = fragment{
			src: netip.AddrFrom4([4]byte(b[12:])), dst: netip.AddrFrom4([4]byte(b[16:])), id: uint32(binary.BigEndian.Uint16(b[4:])), protocol: b[9],
			head: b[:header], at: int(field&0x1fff) * 8, more: field&0x2000 != 0, body: b[header:],
		}
	} else {
		next, link, off := b[6], 6, headerIPv6
		for next != protoFragment {
			next, link, off = b[off], off, off+8+int(b[off+1])*8
		}
		field := binary.BigEndian.Uint16(b[off+2:])
		g = fragment{
			src: netip.AddrFrom16([16]byte(b[8:])), dst: netip.AddrFrom16([16]byte(b[24:])), id: binary.BigEndian.Uint32(b[off+4:]), protocol: b[off],
			head: b[:off], link: link, at: int(field &^ 7), more: field&1 != 0, body: b[off+8:],
		}
	}
	if len(g.body) == 0 || g.more && len(g.body)%8 != 0 || len(g.head)+g.at+len(g.body) > 65535 {
		return g, false
	}
	return g, true
}

// add takes a fragment; b is the whole packet. Once its datagram is whole it is written to dst, which holds 65535 octets, and returned. dropped is the number of
// fragments that are given up, this one or older ones.
func (r *reassembly) add(b, dst []byte, now time.Time) (whole []byte, dropped int) {
	g, ok := parseFragment(b)
	if !ok {
		return nil, 1
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	dropped = r.expire(now)
	d := r.find(&g)
	if d == nil {
		for len(r.list) >= maxDatagrams {
			dropped += r.forget(r.list[0])
		}
		d = r.begin(&g, now)
	}
	before := cap(d.body)
	d.pieces++
	fits := d.take(&g)
	r.octets += cap(d.body) - before
	if !fits {
		return nil, dropped + r.forget(d)
	}
	if d.total >= 0 && len(d.have) == 1 && d.have[0] == (span{0, d.total}) {
		whole = d.whole(dst)
		r.forget(d)
		return whole, dropped
	}
	for r.octets > maxFragmented {
		dropped += r.forget(r.list[0])
	}
	return nil, dropped
}

// find looks for the datagram of a fragment. With IPv6 the protocol is not part of the key (RFC 8200 4.5).
func (r *reassembly) find(g *fragment) *datagram {
	for _, d := range r.list {
		if d.id == g.id && d.src == g.src && d.dst == g.dst && (g.src.Is6() || d.protocol == g.protocol) {
			return d
		}
	}
	return nil
}

func (r *reassembly) begin(g *fragment, now time.Time) *datagram {
	var d *datagram
	if n := len(r.spare); n > 0 {
		d, r.spare = r.spare[n-1], r.spare[:n-1]
		r.octets += cap(d.body)
	} else {
		d = new(datagram)
	}
	*d = datagram{src: g.src, dst: g.dst, id: g.id, protocol: g.protocol, born: now, head: d.head[:0], body: d.body[:0], have: d.have[:0], total: -1}
	r.list = append(r.list, d)
	return d
}

// forget takes a datagram out and returns the number of its fragments.
func (r *reassembly) forget(d *datagram) int {
	r.list = slices.DeleteFunc(r.list, func(o *datagram) bool { return o == d })
	r.octets -= cap(d.body)
	if len(r.spare) < spareBuffers {
		r.spare = append(r.spare, d)
	}
	return d.pieces
}

// expire gives up what has waited for too long.
func (r *reassembly) expire(now time.Time) (dropped int) {
	for len(r.list) > 0 && now.Sub(r.list[0].born) > r.life {
		dropped += r.forget(r.list[0])
	}
	return dropped
}

// stale is expire for callers without the lock.
func (r *reassembly) stale(now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.expire(now)
}

// take puts a fragment where it belongs. False: it contradicts the others, or overlaps them, and the datagram has to be given up (RFC 5722 4). The same
// fragment once more changes nothing.
func (d *datagram) take(g *fragment) bool {
	s := span{g.at, g.at + len(g.body)}
	if !g.more {
		if d.total >= 0 && d.total != s.to || len(d.have) > 0 && d.have[len(d.have)-1].to > s.to {
			return false
		}
		d.total = s.to
	} else if d.total >= 0 && s.to > d.total {
		return false
	}
	i, _ := slices.BinarySearchFunc(d.have, s.from, func(h span, from int) int { return h.to - from })
	switch { // have[i] is the first that ends at or after s.from
	case i < len(d.have) && d.have[i].from <= s.from && d.have[i].to >= s.to:
		return string(d.body[s.from:s.to]) == string(g.body)
	case i < len(d.have) && d.have[i].to == s.from:
		if i+1 < len(d.have) && d.have[i+1].from < s.to {
			return false
		}
		d.have[i].to = s.to
		if i+1 < len(d.have) && d.have[i+1].from == s.to {
			d.have[i].to = d.have[i+1].to
			d.have = slices.Delete(d.have, i+1, i+2)
		}
	case i < len(d.have) && d.have[i].from < s.to:
		return false
	case i < len(d.have) && d.have[i].from == s.to:
		d.have[i].from = s.from
	default:
		d.have = slices.Insert(d.have, i, s)
	}
	if s.to > len(d.body) {
		d.body = slices.Grow(d.body, s.to-len(d.body))[:s.to]
	}
	copy(d.body[s.from:], g.body)
	if s.from == 0 {
		d.head, d.link, d.protocol = append(d.head[:0], g.head...), g.link, g.protocol
	}
	return len(d.head)+len(d.body) <= 65535 // the first may have a longer header than those that were measured alone
}

// whole writes the datagram to dst, as if it had never been fragmented.
func (d *datagram) whole(dst []byte) []byte {
	b := dst[:copy(dst, d.head)+d.total]
	copy(b[len(d.head):], d.body)
	if b[0]>>4 == 4 {
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		b[6], b[7] = 0, 0
		putIPv4Checksum(b[:len(d.head)])
		return b
	}
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-headerIPv6))
	b[d.link] = d.protocol
	return b
}

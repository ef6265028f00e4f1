package userspace

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/esp"
	"github.com/ikegod/ikegod/pkg/path"
)

// pair is the two SAs of a Child SA in use.
type pair struct {
	// Constant.
	sa  kernel.SAPair // its keys are cleared once the ciphers are made
	out *esp.Outbound
	in  *esp.Inbound
	// transport is nil in tunnel mode.
	transport *transportMode

	// Atomic.
	end                  atomic.Pointer[endpoint]
	heard                atomic.Pointer[path.Path] // where authentic packets came from last, if not from end
	movedAt              atomic.Int64              // when it was told last that they come from elsewhere, in Unix nanoseconds
	hard                 atomic.Bool               // HardExpire was sent
	inPackets, inBytes   atomic.Uint64
	outPackets, outBytes atomic.Uint64
	lastIn, lastOut      atomic.Int64 // Unix seconds
}

// endpoint is where a pair sends. Immutable.
type endpoint struct {
	path path.Path
	mtu  int // largest inner packet
}

// newPair makes the ciphers. soft is called once when the sequence numbers near their end.
func newPair(sa kernel.SAPair, soft func()) (*pair, error) {
	p := &pair{sa: sa}
	var err error
	if sa.Transport {
		if p.transport, err = newTransportMode(&sa); err != nil {
			return nil, err
		}
	}
	if p.out, err = esp.NewOutbound(params(sa.Out, soft)); err != nil {
		return nil, fmt.Errorf("outbound: %w", err)
	}
	if p.in, err = esp.NewInbound(params(sa.In, nil)); err != nil {
		return nil, fmt.Errorf("inbound: %w", err)
	}
	p.sa.In.EncrKey, p.sa.In.IntegKey, p.sa.Out.EncrKey, p.sa.Out.IntegKey = nil, nil, nil, nil
	return p, nil
}

func params(sa kernel.SA, soft func()) esp.Params {
	return esp.Params{
		SPI: uint32(sa.SPI), Suite: sa.Suite, EncrKey: sa.EncrKey, IntegKey: sa.IntegKey, ReplayWindow: sa.ReplayWindow, OnSoft: soft,
	}
}

// Octets that each carrier puts around an ESP packet, for the MTU.
const (
	headerIPv4 = 20
	headerIPv6 = 40
	headerUDP  = 8
	headerTCP  = 20 + 12 + 2 // with the timestamp option and the length of RFC 9329 3
	// largestESP keeps a sealed packet inside one UDP datagram and inside the 16-bit length of a stream's frame.
	largestESP = 65507
	// smallestMTU is what IPv4 hosts must be able to take (RFC 791 3.2): below it something else is wrong.
	smallestMTU  = 576
	smallestMTU6 = 1280 // RFC 8200 5
)

// innerMTU is the largest inner packet whose sealed form fits a link's MTU; in transport mode its own IP header is not sealed. On a stream a sealed packet may
// span segments, but then a single lost segment costs two packets, and a move to UDP would find packets in flight too large.
func (p *pair) innerMTU(to path.Path, link int) int {
	room := link - headerIPv4
	if to.Remote.Addr().Is6() {
		room = link - headerIPv6
	}
	switch to.Kind {
	case path.UDP:
		room -= headerUDP
	case path.TCP:
		room -= headerTCP
	case path.ESP: // nothing but the IP header
	}
	mtu := p.out.MaxPlain(min(room, largestESP))
	if p.transport == nil {
		return max(smallestMTU, mtu)
	}
	if p.transport.headerLen == headerIPv6 {
		return max(smallestMTU6, mtu+headerIPv6) // the host is right to send as much without asking
	}
	return max(smallestMTU, mtu+headerIPv4)
}

// limit is the largest packet like p that is carried whole. Every link carries 1280 octets of IPv6 (RFC 8200 5), and no host goes below that; where the carrier's
// path is narrower, it is the sealed packet that is fragmented (RFC 2473 7.1).
func (e *endpoint) limit(p *packet) int {
	if p.v6() {
		return max(e.mtu, leastIPv6)
	}
	return e.mtu
}

const leastIPv6 = 1280

func (p *pair) usage() kernel.Usage {
	return kernel.Usage{
		SPI: p.sa.In.SPI, Datapath: "userspace",
		InPackets: p.inPackets.Load(), InBytes: p.inBytes.Load(), LastIn: moment(p.lastIn.Load()),
		OutPackets: p.outPackets.Load(), OutBytes: p.outBytes.Load(), LastOut: moment(p.lastOut.Load()),
	}
}

func moment(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

// countOut and countIn add a run of packets.
func (p *pair) countOut(packets, octets int) {
	p.outPackets.Add(uint64(packets))
	p.outBytes.Add(uint64(octets))
	p.lastOut.Store(time.Now().Unix())
}

func (p *pair) countIn(packets, octets int) {
	p.inPackets.Add(uint64(packets))
	p.inBytes.Add(uint64(octets))
	p.lastIn.Store(time.Now().Unix())
}

// spiTable finds inbound SAs by SPI. Readers take no lock; one writer copies one of many small maps for each change.
type spiTable [256]atomic.Pointer[map[kernel.SPI]*pair]

func (t *spiTable) shard(spi kernel.SPI) *atomic.Pointer[map[kernel.SPI]*pair] {
	return &t[(uint32(spi)*0x9e3779b1)>>24]
}

func (t *spiTable) get(spi kernel.SPI) *pair {
	if m := t.shard(spi).Load(); m != nil {
		return (*m)[spi]
	}
	return nil
}

func (t *spiTable) set(spi kernel.SPI, p *pair) {
	shard := t.shard(spi)
	next := map[kernel.SPI]*pair{}
	if m := shard.Load(); m != nil {
		maps.Copy(next, *m)
	}
	if p == nil {
		delete(next, spi)
	} else {
		next[spi] = p
	}
	shard.Store(&next)
}

// attach puts a pair before the older ones of its policy, or behind them if it is to stand by; detach takes it away.
func (r *route) attach(p *pair) {
	list := []*pair{p}
	if old := r.pairs.Load(); old != nil && p.sa.Standby {
		list = append(slices.Clone(*old), p)
	} else if old != nil {
		list = append(list, *old...)
	}
	r.pairs.Store(&list)
}

func (r *route) detach(p *pair) {
	old := r.pairs.Load()
	if old == nil {
		return
	}
	list := slices.DeleteFunc(slices.Clone(*old), func(o *pair) bool { return o == p })
	r.pairs.Store(&list)
}

package userspace

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/esp"
	"github.com/ikegod/ikegod/pkg/path"
)

const (
	frameLen    = vnetLen + 65535 // the largest frame that a TUN hands over
	batchLen    = 65535           // what one SendESP takes at most
	maxDatagram = 65507           // the largest UDP payload, which holds all segments of one UDP_SEGMENT send
	maxSegments = 64              // UDP_MAX_SEGMENTS
	streamLen   = 2               // the length before each frame of a stream (RFC 9329 3)
	// frameBudget bounds how many frames are read before what they became is sent, whatever room there is left: a few small packets never wait
	// for more than the handling of as many others.
	frameBudget = 64
	cacheSlots  = 64
)

// worker carries the packets of one TUN queue out: it reads what there is, seals it into one buffer, and sends that. One goroutine, run to
// completion; nothing in here is shared.
type worker struct {
	d       *Datapath
	q       queue
	in      []byte
	batch   batch
	scratch esp.Scratch
	cache   [cacheSlots]decision
	spare   []byte // a segment that has to be cut further, or sealed without its IP header
	whole   []byte // a datagram that came in fragments
	icmp    icmpSender

	pressure  Pressure // nil: nothing to wait for
	lastPath  path.Path
	otherPath time.Time // when a batch for another path was sent last
	stalled   path.Path // a stream that had no room for as long as we wait
	impatient bool      // what has no SA is dropped at once
}

// decision remembers what became of a flow, as long as policies and SAs stay as they were.
type decision struct {
	flow  flow
	epoch uint64
	why   Drop // if pair is nil
	route *route
	pair  *pair
}

// batch is sealed packets for one path on their way to one SendESP.
type batch struct {
	buf     []byte
	n       int
	count   int
	segment int  // length of the first sealed packet
	short   bool // a shorter one has been added: on UDP it must be the last
	path    path.Path
}

func newWorker(d *Datapath, q queue) *worker {
	w := &worker{d: d, q: q, in: make([]byte, frameLen), batch: batch{buf: make([]byte, batchLen)}, icmp: icmpSender{q: q}}
	w.pressure, _ = d.sender.(Pressure)
	return w
}

// run reads until the queue is interrupted.
func (w *worker) run() {
	for {
		n, err := w.q.read(w.in)
		for budget := frameBudget; err == nil && n > 0 && budget > 0; budget-- {
			w.frame(w.in[:n])
			n, err = w.q.tryRead(w.in)
		}
		if n > 0 && err == nil { // read, but over budget
			w.frame(w.in[:n])
		}
		w.flush()
		if err != nil {
			if !w.d.closed.Load() {
				w.d.cfg.Notice(fmt.Sprintf("interface %s cannot be read any more (%v): nothing is carried out; was it removed? restart ikegod", w.d.cfg.Name, err))
			}
			return
		}
	}
}

// frame handles one frame from the TUN.
func (w *worker) frame(b []byte) {
	if len(b) <= vnetLen {
		w.d.drops.add(DropMalformed, 1)
		return
	}
	h := readVnet(b)
	p, f, ok := parse(b[vnetLen:])
	if !ok {
		w.d.drops.add(DropMalformed, 1)
		return
	}
	e := w.decide(&f)
	if p.fragment && w.wantsWhole(e, &f) {
		if p, f, ok = w.join(&p); !ok {
			return
		}
		h, e = vnetHeader{}, w.decide(&f) // the kernel completes checksums before it fragments
	}
	if e.pair == nil {
		if &p.b[0] != &b[vnetLen] { // it came in fragments
			b = append(make([]byte, vnetLen, vnetLen+len(p.b)), p.b...)
		}
		w.refuse(e, &p, &f, b)
		return
	}
	end := e.pair.end.Load()
	p.clampMSS(end.mtu, !h.partialChecksum())
	if h.gsoType&^unix.VIRTIO_NET_HDR_GSO_ECN != unix.VIRTIO_NET_HDR_GSO_NONE {
		h.gsoType &^= unix.VIRTIO_NET_HDR_GSO_ECN
		w.superPacket(h, &p, e.pair, end)
		return
	}
	if h.partialChecksum() && !h.completeChecksum(p.b) {
		w.d.drops.add(DropMalformed, 1)
		return
	}
	if len(p.b) > end.limit(&p) {
		w.tooBig(&p, e.pair, end)
		return
	}
	if w.seal(e.pair, end, p.b) {
		e.pair.countOut(1, len(p.b))
	}
}

// decide finds policy and SA of a flow.
func (w *worker) decide(f *flow) *decision {
	e := &w.cache[f.slot(cacheSlots)]
	epoch := w.d.epoch.Load()
	if e.epoch == epoch && e.flow == *f {
		return e
	}
	*e = decision{flow: *f, epoch: epoch}
	e.route = w.d.policies.lookup(f)
	if e.route == nil {
		switch {
		case f.dst.IsLinkLocalMulticast():
			e.why = DropLinkLocal
		case f.later:
			e.why = DropFragment
		default:
			e.why = DropNoPolicy
		}
		return e
	}
	switch e.route.policy.Action {
	case kernel.Protect, kernel.Trap:
		if e.pair = e.route.newest(f); e.pair != nil {
			return e
		}
		e.why = DropHeld
		if e.route.policy.Action == kernel.Trap {
			e.why = DropTrapped
		}
	case kernel.Hold:
		e.why = DropHeld
	default:
		e.why = DropByPolicy
	}
	if f.later && e.why == DropHeld {
		e.why = DropFragment
	}
	return e
}

// refuse keeps a packet that has no SA for a while, or drops it, and tells whom its policy says.
func (w *worker) refuse(e *decision, p *packet, f *flow, b []byte) {
	if e.route != nil && mayWait(e.route.policy.Action) && (e.why == DropHeld || e.why == DropTrapped) && !w.impatient {
		if w.d.wait(e, b) {
			w.frame(b) // an SA, or another policy, has come in this moment
			return
		}
	} else {
		w.d.drops.add(e.why, 1)
	}
	if e.route == nil {
		return
	}
	if e.route.policy.Action == kernel.Trap {
		w.d.acquire(e.route, f)
	}
	if e.route.policy.Action == kernel.Reject {
		w.icmp.prohibited(p)
	}
}

// wantsWhole reports whether a fragment has to wait for the others: its SA is in transport mode, or could be if its ports were to be seen.
func (w *worker) wantsWhole(e *decision, f *flow) bool {
	if e.pair != nil {
		return e.pair.transport != nil
	}
	return w.d.joins(f)
}

// join puts a fragment to the others. Once all are there it returns the datagram, which may be fragmented again.
func (w *worker) join(g *packet) (p packet, f flow, ok bool) {
	if w.whole == nil {
		w.whole = make([]byte, frameLen)
	}
	b, dropped := w.d.fragments.add(g.b, w.whole, time.Now())
	w.d.drops.add(DropReassembly, dropped)
	if b == nil {
		return p, f, false
	}
	if p, f, ok = parse(b); !ok {
		w.d.drops.add(DropMalformed, 1)
	}
	p.df = false
	return p, f, ok
}

// superPacket cuts what the kernel hands over as one packet and seals each segment.
func (w *worker) superPacket(h vnetHeader, p *packet, to *pair, end *endpoint) {
	s, ok := newSegmenter(h, p)
	if !ok {
		w.d.drops.add(DropMalformed, 1)
		return
	}
	if s.nextLen() > end.limit(p) {
		w.superTooBig(&s, p, to, end)
		return
	}
	packets, octets := 0, 0
	for s.more() {
		n := s.nextLen()
		if to.transport != nil {
			segment := w.segment(n)
			s.next(segment)
			if !w.seal(to, end, segment) {
				return
			}
		} else {
			dst := w.room(to, end, n)
			plain := dst[to.out.PayloadOffset():][:n]
			s.next(plain)
			if !w.sealIn(to, dst, plain, nextHeader(plain)) {
				return
			}
		}
		packets++
		octets += n
	}
	to.countOut(packets, octets)
}

// superTooBig handles segments that were made for a larger MTU, after the SA has moved: ICMP tells the sender (once for all of them); without
// DF each is fragmented.
func (w *worker) superTooBig(s *segmenter, p *packet, to *pair, end *endpoint) {
	for s.more() {
		segment := w.segment(s.nextLen())
		s.next(segment)
		part := *p
		part.b = segment
		w.tooBig(&part, to, end)
		if p.df {
			return
		}
	}
}

// segment is room for one.
func (w *worker) segment(n int) []byte {
	if cap(w.spare) < frameLen {
		w.spare = make([]byte, frameLen)
	}
	return w.spare[:n]
}

// tooBig answers a packet larger than the tunnel carries with ICMP if it must not be fragmented (RFC 4301 8.2.1), else it fragments it. In transport mode
// it is sealed whole, and the sealed packet fragmented, which is the socket's part (RFC 4303 3.3.4).
func (w *worker) tooBig(p *packet, to *pair, end *endpoint) {
	whole := to.transport != nil && to.out.SealedLen(len(p.b)-to.transport.headerLen) <= largestESP
	if p.df || !whole && (p.v6() || to.transport != nil) {
		w.d.drops.add(DropTooBig, 1)
		if p.df {
			w.icmp.tooBig(p, end.limit(p))
		}
		return
	}
	if whole {
		if w.seal(to, end, p.b) {
			to.countOut(1, len(p.b))
		}
		w.batch.short = true // nothing goes with it
		return
	}
	fragment4(p.b, end.mtu, func(fragment []byte) {
		if w.seal(to, end, fragment) {
			to.countOut(1, len(fragment))
		}
	})
}

// seal copies a packet behind the batch and seals it there, in transport mode without its IP header.
func (w *worker) seal(to *pair, end *endpoint, b []byte) bool {
	plain, next := b, nextHeader(b)
	if to.transport != nil {
		var ok bool
		if plain, next, ok = behindIP(b); !ok {
			w.d.drops.add(DropOptions, 1)
			if p, _, ok := parse(b); ok {
				w.icmp.prohibited(&p)
			}
			return false
		}
	}
	return w.sealIn(to, w.room(to, end, len(plain)), plain, next)
}

// room makes room for the sealed form of n octets towards end, sending what is in the way.
func (w *worker) room(to *pair, end *endpoint, n int) []byte {
	b := &w.batch
	sealed := to.out.SealedLen(n)
	if b.n > 0 && !b.fits(end, sealed) {
		w.flush()
	}
	if b.n == 0 {
		b.path, b.segment, b.short = end.path, sealed, n > end.mtu // what the kernel has to fragment goes alone
	}
	at := b.n
	if end.path.Kind.Stream() {
		binary.BigEndian.PutUint16(b.buf[at:], uint16(sealed+streamLen))
		at += streamLen
	}
	return b.buf[at : at+sealed]
}

// fits reports whether a sealed packet may join the batch.
func (b *batch) fits(end *endpoint, sealed int) bool {
	if b.path != end.path {
		return false
	}
	if end.path.Kind.Stream() {
		return b.n+streamLen+sealed <= batchLen
	}
	return !b.short && sealed <= b.segment && b.n+sealed <= maxDatagram && b.count < maxSegments
}

// sealIn seals plain into dst, which room returned, and counts it into the batch.
func (w *worker) sealIn(to *pair, dst, plain []byte, next uint8) bool {
	n, err := to.out.Seal(&w.scratch, dst, next, plain)
	if err != nil {
		w.d.drops.add(DropExhausted, 1)
		w.d.exhausted(to)
		return false
	}
	b := &w.batch
	if b.path.Kind.Stream() {
		n += streamLen
	} else if n < b.segment {
		b.short = true
	}
	b.n += n
	b.count++
	return true
}

// nextHeader is what an inner packet is to ESP in tunnel mode (RFC 4303 2.6).
func nextHeader(ip []byte) uint8 {
	if ip[0]>>4 == 6 {
		return protoIPv6
	}
	return protoIPv4
}

// flush sends the batch.
func (w *worker) flush() {
	b := &w.batch
	if b.n == 0 {
		return
	}
	if w.pressure != nil {
		w.hold(b.path)
	}
	if err := w.d.sender.SendESP(b.path, b.buf[:b.n], b.segment); err != nil {
		w.d.drops.add(DropSend, b.count)
	}
	b.n, b.count = 0, 0
}

// When a stream's queue is full, the worker waits, so that packets stay with the kernel and their senders are held back, as a slow cable would do it.
// It waits only while no other path has sent for a while: one slow peer must not hold up the others, and then its packets are dropped.
const (
	holdStep  = 100 * time.Microsecond
	holdMost  = 20 * time.Millisecond
	aloneTime = 100 * time.Millisecond
)

// hold waits for room on a stream, and remembers which paths are in use.
func (w *worker) hold(p path.Path) {
	if w.lastPath != p {
		if !w.lastPath.IsZero() {
			w.otherPath = time.Now()
		}
		w.lastPath = p
	}
	if !p.Kind.Stream() {
		return
	}
	if w.pressure.RoomESP(p) {
		w.stalled = path.Path{}
		return
	}
	if w.stalled == p || time.Since(w.otherPath) < aloneTime {
		return
	}
	for begin := time.Now(); time.Since(begin) < holdMost && !w.d.closed.Load(); time.Sleep(holdStep) {
		if w.pressure.RoomESP(p) {
			return
		}
	}
	w.stalled = p // until it has room again
}

// acquire reports a packet that waits for an SA, at most once a second for each policy.
func (d *Datapath) acquire(r *route, f *flow) {
	now, last := time.Now().UnixNano(), r.acquire.Load()
	if within(now, last, time.Second) || !r.acquire.CompareAndSwap(last, now) {
		return
	}
	d.events(kernel.Acquire{Policy: r.policy.ID, Src: addrPort(f.src, f.sport), Dst: addrPort(f.dst, f.dport), Protocol: f.protocol})
}

// exhausted reports, once, that a pair carries nothing any more.
func (d *Datapath) exhausted(p *pair) {
	if p.hard.CompareAndSwap(false, true) {
		d.events(kernel.HardExpire{SPI: p.sa.In.SPI})
	}
}

package userspace

import (
	"errors"
	"time"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/esp"
	"github.com/ikegod/ikegod/pkg/path"
)

// receiver is the working memory for one InputESP call. Packets are opened where they lie, in the buffers of the transport, and gathered into
// super-packets for the TUN without a copy.
type receiver struct {
	scratch esp.Scratch
	groups  groups
	checked [cacheSlots]checkedFlow
	arena   []byte // for packets that are made again: transport mode, and what came in fragments
	used    int

	// The run of packets of one pair that has not been counted yet.
	pair            *pair
	packets, octets int
}

// checkedFlow remembers that a flow is inside a pair's selectors, which never change.
type checkedFlow struct {
	flow flow
	pair *pair
}

// InputESP takes the ESP packets of one read from a socket, SPI first, on the reader's goroutine. It opens them in place: the buffers' contents are
// undefined afterwards. Safe for concurrent use.
func (d *Datapath) InputESP(p path.Path, packets [][]byte) {
	if d.closed.Load() {
		return
	}
	r := d.receivers.Get().(*receiver)
	for _, b := range packets {
		d.open(r, &p, b)
	}
	r.count(nil)
	d.drops.add(DropTUN, r.groups.flush(d.queueFor(p)))
	r.used = 0
	d.receivers.Put(r)
}

// queueFor spreads paths over the queues.
func (d *Datapath) queueFor(p path.Path) queue {
	if len(d.queues) == 1 {
		return d.queues[0]
	}
	return d.queues[(int(p.Remote.Port())+int(p.Generation))%len(d.queues)]
}

// open handles one ESP packet.
func (d *Datapath) open(r *receiver, from *path.Path, b []byte) {
	spi, ok := esp.SPI(b)
	if !ok {
		d.drops.add(DropShort, 1)
		return
	}
	p := r.pair
	if p == nil || uint32(p.sa.In.SPI) != spi {
		if p = d.spis.get(kernel.SPI(spi)); p == nil {
			d.drops.add(DropUnknownSPI, 1)
			return
		}
		r.count(p)
	}
	opened, err := p.in.Open(&r.scratch, b)
	if err != nil {
		d.drops.add(dropOf(err), 1)
		return
	}
	if opened.Newest && *p.heard.Load() != *from {
		d.moved(p, from)
	}
	if opened.NextHeader == esp.NextHeaderDummy {
		d.drops.add(DropDummy, 1)
		return
	}
	inner, f, ok := r.inner(d, p, &opened, from)
	if !ok {
		d.drops.add(DropInner, 1)
		return
	}
	if why, ok := r.check(p, &f); !ok {
		d.drops.add(why, 1)
		return
	}
	r.packets++
	r.octets += len(inner.b)
	if d.mixes(&inner, &f) {
		if inner, f, ok = r.join(d, d.queueFor(*from), &inner); !ok {
			return
		}
	}
	inner.clampMSS(p.end.Load().mtu, true)
	if !r.groups.add(&inner, &f, d.uso) {
		d.drops.add(DropTUN, r.groups.flush(d.queueFor(*from)))
		r.groups.add(&inner, &f, d.uso)
	}
}

// inner is the IP packet that was in an ESP packet.
func (r *receiver) inner(d *Datapath, p *pair, o *esp.Opened, from *path.Path) (packet, flow, bool) {
	if p.transport != nil {
		return r.rebuilt(d, d.queueFor(*from), p.transport, o.Plain, o.NextHeader)
	}
	inner, f, ok := parse(o.Plain)
	return inner, f, ok && nextHeader(inner.b) == o.NextHeader
}

// check compares an inner packet with the SA's selectors (RFC 4301 5.2 step 4).
func (r *receiver) check(p *pair, f *flow) (Drop, bool) {
	e := &r.checked[f.slot(cacheSlots)]
	if e.pair == p && e.flow == *f {
		return 0, true
	}
	if !contains(p.sa.Remote, f.src, f, f.sport) || !contains(p.sa.Local, f.dst, f, f.dport) {
		if f.later {
			return DropFragment, false
		}
		return DropSelector, false
	}
	*e = checkedFlow{flow: *f, pair: p}
	return 0, true
}

// count adds the run of packets to its pair and begins one for the next.
func (r *receiver) count(next *pair) {
	if r.packets > 0 {
		r.pair.countIn(r.packets, r.octets)
	}
	r.pair, r.packets, r.octets = next, 0, 0
}

func dropOf(err error) Drop {
	switch {
	case errors.Is(err, esp.ErrReplay):
		return DropReplay
	case errors.Is(err, esp.ErrIntegrity):
		return DropIntegrity
	case errors.Is(err, esp.ErrPadding):
		return DropPadding
	}
	return DropShort
}

// movedEvery is how often a pair may report another path: somebody on the way who lets each packet come from elsewhere must not cause an event for each.
const movedEvery = 100 * time.Millisecond

// within reports whether now is less than d after then, both in Unix nanoseconds. A clock that was set back makes nobody wait.
func within(now, then int64, d time.Duration) bool { return now >= then && now-then < int64(d) }

// moved reports, once for each new path, that authentic packets come from elsewhere. Only the newest packet counts: an old one that somebody held
// back and sends from his own address moves nothing. What comes too soon after another move is told with a later packet.
func (d *Datapath) moved(p *pair, from *path.Path) {
	seen, last, at := p.heard.Load(), p.movedAt.Load(), time.Now().UnixNano()
	if within(at, last, movedEvery) || !p.movedAt.CompareAndSwap(last, at) {
		return
	}
	now := *from
	if *seen != now && p.heard.CompareAndSwap(seen, &now) {
		d.events(kernel.PeerMoved{SPI: p.sa.In.SPI, Path: now})
	}
}

package userspace

import (
	"net/netip"
	"sync"
	"time"

	"github.com/ikegod/ikegod/kernel"
)

// Between a peer and the address at which it knows us the guard (kernel/hostnet) lets fragments behind the first in from the network, since sealed packets may be
// fragmented on the way. Nothing of these two hosts may come out of a tunnel in fragments then: the kernel would put what somebody on the way has forged in
// the place of one that is still to come. So what was sealed in fragments is put together here.

// arrivalLife is how long a fragment out of a tunnel waits for the others. They come from a network, and not from this host's IP layer.
const arrivalLife = 30 * time.Second

// ways are the hosts between which sealed packets travel, with the number of policies that name them. Safe for concurrent use; asked for fragments alone.
type ways struct {
	mu sync.Mutex
	m  map[hostPair]int
}

// count adds to the number of policies that name a peer and us.
func (w *ways) count(p *kernel.Policy, n int) {
	if !p.LocalAddr.IsValid() || !p.RemoteAddr.IsValid() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.m == nil {
		w.m = map[hostPair]int{}
	}
	k := hostPair{p.LocalAddr, p.RemoteAddr}
	if w.m[k] += n; w.m[k] == 0 {
		delete(w.m, k)
	}
}

func (w *ways) has(local, remote netip.Addr) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.m[hostPair{local, remote}] > 0
}

// mixes reports whether a packet out of a tunnel is a fragment that the kernel would put together with what the guard lets in. IPv4 tells fragments of different
// protocols apart; in IPv6 the first one says which protocol all of them have (RFC 8200 4.5).
func (d *Datapath) mixes(p *packet, f *flow) bool {
	return p.fragment && (p.v6() || p.protocol == protoUDP) && d.ways.has(f.dst, f.src)
}

// join puts a fragment to the others. Once all are there it returns the datagram, in the receiver's memory.
func (r *receiver) join(d *Datapath, q queue, g *packet) (p packet, f flow, ok bool) {
	b, dropped := d.arrived.add(g.b, r.room(d, q, 65535), time.Now())
	d.drops.add(DropReassembly, dropped)
	if b == nil {
		return p, f, false
	}
	r.used += len(b)
	if p, f, ok = parse(b); !ok {
		d.drops.add(DropInner, 1)
	}
	return p, f, ok
}

// room is memory for n octets, which the caller adds to used. Where there is none left, what was gathered is written first.
func (r *receiver) room(d *Datapath, q queue, n int) []byte {
	if r.arena == nil {
		r.arena = make([]byte, arenaLen)
	}
	if r.used+n > len(r.arena) {
		d.drops.add(DropTUN, r.groups.flush(q))
		r.used = 0
	}
	return r.arena[r.used:][:n:n]
}

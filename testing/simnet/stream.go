package simnet

import (
	"net/netip"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

// Limits of a real TCP, and of transport's streams.
const (
	retransmitAfter = 200 * time.Millisecond // the first stall; doubled
	synAfter        = time.Second            // the same for the first packet
	maxStalls       = 7
	silentFor       = 20 * time.Second // a stream that nobody owns is closed
)

// end is one host's end of a stream: it keeps the order of messages, and the messages that the engine could not take yet.
type end struct {
	host  *Host
	path  path.Path
	peer  *end
	owned bool // guarded by host.mu

	// Guarded by host.mu.
	inbox   [][]byte
	pumping bool
	again   bool  // Resume came while pumping
	closing bool  // this side has closed it
	lost    error // set: no more messages; the engine hears it after the inbox is empty
	told    bool

	last time.Time // guarded by net.mu: when what this end sent last arrives
}

// connect opens a stream after the round trips that it takes.
func (n *Network) connect(from *Host, remote netip.AddrPort, answer chan<- dialed) {
	from.mu.Lock()
	from.nextPort++
	local := netip.AddrPortFrom(from.addr, from.nextPort)
	from.mu.Unlock()

	n.mu.Lock()
	defer n.mu.Unlock()
	to := n.hosts[remote.Addr()]
	r := n.link(from.addr, remote.Addr(), "tcp")
	wait := n.delay(r) + n.delay(r)
	for i, stall := 0, synAfter; i < maxStalls && r.Float64() < n.faults.Loss; i++ {
		wait += stall
		stall *= 2
	}
	p := path.Path{Local: local, Remote: remote, Kind: path.TCP}
	if to == nil || n.faults.BlockTCP {
		n.note(Entry{From: from.name, To: nameOf(to), Path: p, Text: "SYN", Fate: "lost"})
		return
	}
	n.note(Entry{From: from.name, To: to.name, Path: p, Text: "SYN", Fate: "delivered"})
	n.at(time.Now().Add(wait), func() { n.connected(from, to, p, answer) })
}

func (n *Network) connected(from, to *Host, p path.Path, answer chan<- dialed) {
	if !to.opens(p.Remote.Port(), true) {
		answer <- dialed{err: errRefused}
		return
	}
	n.mu.Lock()
	n.generations += 2
	p.Generation = n.generations
	n.mu.Unlock()
	here := &end{host: from, path: p}
	there := &end{host: to, path: path.Path{Local: p.Remote, Remote: p.Local, Kind: path.TCP, Generation: p.Generation + 1}}
	here.peer, there.peer = there, here
	here.owned = true // whoever has dialed it looks after it
	for _, e := range []*end{here, there} {
		e.host.mu.Lock()
		e.host.ends[e.path.Generation] = e
		e.host.mu.Unlock()
	}
	n.mu.Lock()
	n.at(time.Now().Add(silentFor), there.closeIfStray)
	n.mu.Unlock()
	to.current().Accepted(there.path)
	answer <- dialed{path: p}
}

func (e *end) closeIfStray() {
	e.host.mu.Lock()
	owned := e.owned
	e.host.mu.Unlock()
	if !owned {
		e.host.net.cut(e, errSilent, errEOF)
	}
}

// segment carries one message in order: late, never lost, unless the stream is cut.
func (n *Network) segment(e *end, data []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.link(e.path.Local.Addr(), e.path.Remote.Addr(), "tcp")
	cut := r.Float64() < n.faults.Cut
	wait, fate := n.delay(r), "delivered"
	for i, stall := 0, retransmitAfter; i < maxStalls && r.Float64() < n.faults.Loss; i++ {
		wait, fate = wait+stall, "stalled"
		stall *= 2
	}
	at := time.Now().Add(wait)
	if !at.After(e.last) {
		at = e.last.Add(time.Nanosecond)
	}
	switch {
	case n.faults.BlockTCP:
		fate = "lost" // the firewall went up later; TCP will notice, long after IKE
	case cut:
		fate = "cut"
		at = n.at(at, func() { n.cut(e, errReset, errReset) })
	default:
		at = n.at(at, func() { e.peer.arrive(data) })
	}
	e.last = at
	n.note(Entry{From: e.host.name, To: e.peer.host.name, Path: e.path, Data: data, Fate: fate, Arrives: at})
}

func (e *end) arrive(data []byte) {
	e.host.mu.Lock()
	if e.lost == nil && !e.closing {
		e.inbox = append(e.inbox, data)
	}
	e.host.mu.Unlock()
	e.pump()
}

// pump offers messages to the engine until it refuses one; Resume pumps again.
func (e *end) pump() {
	h := e.host
	h.mu.Lock()
	if h.handler == nil {
		h.mu.Unlock()
		return // the host has crashed
	}
	if e.pumping {
		e.again = true
		h.mu.Unlock()
		return
	}
	e.pumping = true
	for len(e.inbox) > 0 {
		data, handler := e.inbox[0], h.handler
		h.mu.Unlock()
		taken := handler.IKE(transport.Datagram{Path: e.path, Data: append([]byte(nil), data...), At: time.Now()})
		h.mu.Lock()
		if taken {
			e.inbox = e.inbox[1:]
		} else if !e.again {
			break
		}
		e.again = false
	}
	e.pumping = false
	tell := e.lost != nil && !e.told && len(e.inbox) == 0
	if tell {
		e.told = true
		delete(h.ends, e.path.Generation)
	}
	handler, why := h.handler, e.lost
	h.mu.Unlock()
	if tell {
		handler.Lost(e.path, why)
	}
}

// finish closes from one end: what it has sent arrives first.
func (n *Network) finish(e *end) {
	e.host.mu.Lock()
	closed := e.closing || e.lost != nil
	e.closing = true
	e.host.mu.Unlock()
	if closed {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at(time.Now(), func() { e.end(transport.ErrClosed) })
	at := time.Now().Add(n.delay(n.link(e.path.Local.Addr(), e.path.Remote.Addr(), "tcp")))
	if !at.After(e.last) {
		at = e.last.Add(time.Nanosecond)
	}
	e.last = n.at(at, func() { e.peer.end(errEOF) })
	n.note(Entry{From: e.host.name, To: e.peer.host.name, Path: e.path, Text: "FIN", Fate: "delivered", Arrives: e.last})
}

// cut ends one end now and the other a little later.
func (n *Network) cut(e *end, here, there error) {
	n.mu.Lock()
	n.note(Entry{From: e.host.name, To: e.peer.host.name, Path: e.path, Text: "cut", Fate: "cut"})
	n.at(time.Now().Add(time.Millisecond), func() { e.peer.end(there) })
	n.mu.Unlock()
	e.end(here)
}

// end tells the engine once that the stream is gone. What had arrived before still comes first.
func (e *end) end(why error) {
	h := e.host
	h.mu.Lock()
	if e.lost == nil {
		e.lost = why
	}
	h.mu.Unlock()
	e.pump()
}

func (e *end) open() bool {
	e.host.mu.Lock()
	defer e.host.mu.Unlock()
	return e.lost == nil && !e.closing
}

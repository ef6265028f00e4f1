// Package simnet is a virtual network for whole engines: hosts that implement transport.Mux, lossy links between them, and a record of what went over
// them. It runs in a testing/synctest bubble, where time is virtual. One seed gives one run, octet for octet.
package simnet

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

// Faults is what the network does to packets. On a stream nothing is lost, duplicated or reordered: a lost segment is a stall, and a stall may end
// as a cut.
type Faults struct {
	Loss      float64       // of a datagram; of a segment: it stalls the stream for a retransmission timeout, doubled each time
	Duplicate float64       // of a datagram
	Delay     time.Duration // one way, at least
	Jitter    time.Duration // more delay, at most: datagrams overtake each other
	Cut       float64       // a stream is reset with this message
	BlockUDP  bool          // a firewall drops all UDP
	BlockTCP  bool          // and all TCP
}

// Network joins hosts. Safe for concurrent use.
type Network struct {
	seed  uint64
	start time.Time

	mu          sync.Mutex // guards all below
	faults      Faults
	hosts       map[netip.Addr]*Host
	links       map[linkKey]*rand.Rand
	instants    map[time.Time]bool // taken: no two things happen at one instant, so that no race decides a run
	generations uint64
	record      []Entry
	digest      hash.Hash
}

// linkKey is one direction of one carrier between two hosts. Each draws from its own generator, so that what one does leaves the others as they were.
type linkKey struct {
	from, to netip.Addr
	use      string
}

// New makes a network. Call it inside the bubble.
func New(seed uint64, f Faults) *Network {
	return &Network{
		seed: seed, start: time.Now(), faults: f, hosts: map[netip.Addr]*Host{}, links: map[linkKey]*rand.Rand{}, instants: map[time.Time]bool{},
		digest: sha256.New(),
	}
}

// SetFaults changes the weather from now on.
func (n *Network) SetFaults(f Faults) {
	n.mu.Lock()
	n.faults = f
	n.mu.Unlock()
}

// Host adds a host with one address.
func (n *Network) Host(name string, addr netip.Addr) *Host {
	h := &Host{net: n, name: name, addr: addr, ends: map[uint64]*end{}, opened: map[uint16]bool{}, busy: map[uint16]bool{}}
	n.mu.Lock()
	n.hosts[addr] = h
	n.mu.Unlock()
	return h
}

// crash takes a host off the network: its streams end, what is under way to it goes nowhere.
func (n *Network) crash(h *Host) {
	h.mu.Lock()
	h.handler = nil
	h.mu.Unlock()
	for _, e := range h.all() {
		n.mu.Lock()
		n.at(time.Now().Add(time.Millisecond), func() { e.peer.end(errReset) })
		n.mu.Unlock()
	}
}

// link is the generator of one direction. Called with mu held.
func (n *Network) link(from, to netip.Addr, use string) *rand.Rand {
	k := linkKey{from, to, use}
	r := n.links[k]
	if r == nil {
		h := fnv.New64a()
		h.Write(from.AsSlice())
		h.Write(to.AsSlice())
		h.Write([]byte(use))
		r = rand.New(rand.NewPCG(n.seed, h.Sum64()))
		n.links[k] = r
	}
	return r
}

// delay draws one way's delay. Called with mu held.
func (n *Network) delay(r *rand.Rand) time.Duration {
	return n.faults.Delay + time.Duration(r.Int64N(int64(n.faults.Jitter)+1))
}

// at calls f once at the given time or a few nanoseconds later, at an instant of its own, and returns that instant. Called with mu held.
func (n *Network) at(when time.Time, f func()) time.Time {
	for n.instants[when] || !when.After(time.Now()) {
		when = when.Add(time.Nanosecond)
	}
	n.instants[when] = true
	time.AfterFunc(time.Until(when), func() {
		n.mu.Lock()
		delete(n.instants, when)
		n.mu.Unlock()
		f()
	})
	return when
}

// datagram carries one UDP datagram, or does not.
func (n *Network) datagram(from *Host, p path.Path, data []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	to := n.hosts[p.Remote.Addr()]
	r := n.link(p.Local.Addr(), p.Remote.Addr(), "udp")
	// Draw everything in any case: a change of the faults then leaves later draws as they were.
	lost, twice := r.Float64() < n.faults.Loss, r.Float64() < n.faults.Duplicate
	first, second := n.delay(r), n.delay(r)
	if lost || n.faults.BlockUDP || to == nil {
		n.note(Entry{From: from.name, To: nameOf(to), Path: p, Data: data, Fate: "lost"})
		return
	}
	arrived := path.Path{Local: p.Remote, Remote: p.Local, Kind: path.UDP}
	deliver := func() {
		to.receive(transport.Datagram{Path: arrived, Data: append([]byte(nil), data...), At: time.Now()})
	}
	fate := "delivered"
	at := n.at(time.Now().Add(first), deliver)
	if twice {
		fate = "delivered twice"
		n.at(time.Now().Add(second), deliver)
	}
	n.note(Entry{From: from.name, To: to.name, Path: p, Data: data, Fate: fate, Arrives: at})
}

func nameOf(h *Host) string {
	if h == nil {
		return "nowhere"
	}
	return h.name
}

// note records what happened. Called with mu held.
func (n *Network) note(e Entry) {
	e.At = time.Now()
	n.record = append(n.record, e)
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(e.At.Sub(n.start)))
	n.digest.Write(b[:])
	for _, s := range []string{e.From, e.To, e.Path.Kind.String(), e.Fate, e.Text} {
		n.digest.Write([]byte(s))
		n.digest.Write([]byte{0})
	}
	n.digest.Write(e.Data)
}

// Note records a remark of a host, such as an event of its engine.
func (n *Network) Note(host, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note(Entry{From: host, To: host, Text: text})
}

// Digest is equal for equal runs: every message, every fate and every note with its time.
func (n *Network) Digest() [32]byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	return [32]byte(n.digest.Sum(nil))
}

// Errors that an operator would read.
var (
	errBusy    = errors.New("address already in use")
	errRefused = errors.New("connection refused")
	errReset   = errors.New("connection reset by peer")
	errEOF     = errors.New("the peer closed the connection")
	errSilent  = errors.New("no message came in time")
)

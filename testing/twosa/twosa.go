// Package twosa drives two IKE SA machines by hand, in virtual time, one delivered message a line. It plays the small part of their owner that they
// need: jobs, SPIs, installations, paths.
package twosa

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/ikegod/ikegod/ike/auth"
	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/wire"
)

// World is two hosts, the time, and what is between them.
type World struct {
	Now        time.Time
	West, East *Host
	// Net, if set, sees every packet on its way: it may change it (a NAT) or take it away.
	Net func(Packet) (Packet, bool)

	generation uint64
}

// Packet is a message between the hosts. Path is the sender's.
type Packet struct {
	Path path.Path
	Data []byte
	Last bool
}

// Header reads the packet's IKE header.
func (p Packet) Header() wire.Header {
	h, err := wire.ParseHeader(p.Data)
	if err != nil {
		panic(err) // a machine sent it
	}
	return h
}

// Host is one end: a machine and what belongs to it.
type Host struct {
	Name       string
	Addr       netip.Addr
	Conn       *policy.Oriented   // to initiate
	Candidates []*policy.Oriented // to answer
	Secrets    *auth.Store
	M          *machine.Machine
	HalfOpen   time.Duration
	PlainESP   bool      // what the owner's datapath can do
	Entropy    io.Reader // nil: from the seed

	// Hold, if set, keeps an effect that asks for completion (Job, ReserveSPI, Install) in Held until Complete.
	Hold func(machine.Effect) bool
	Held []machine.Effect
	// FailSPI, FailInstall and FailJob, if set, are what the owner answers.
	FailSPI, FailInstall, FailJob error
	// Tell goes with FailSPI and FailInstall.
	Tell iana.Notify
	// Lacks is what h's datapath does not have.
	Lacks suite.Lacking
	// Ladder, if set, answers NeedPath.
	Ladder func(machine.NeedPath) machine.Input

	Out        []Packet // sent and not delivered
	Sent       []Packet // all that was ever sent
	Events     []event.Event
	Drops      [event.NumDrops]int
	Installed  map[uint32]machine.Install // by inbound SPI
	Reserved   map[uint32]machine.ChildID
	Moves      []machine.Move
	NeedPaths  []machine.NeedPath
	KeepAlives []machine.KeepAlive
	Proved     []machine.Authenticated
	Ended      *event.Close
	Closed     *event.Close

	forged  uint64
	secret  []byte // the shared secret of the IKE SA's last key exchange
	world   *World
	random  *rand.ChaCha8
	nextSPI uint64
	nextESP uint32
	inputs  []machine.Input
}

// New makes a world of two hosts with the addresses of the test bench. seed decides every random octet.
func New(seed uint64) *World {
	w := &World{Now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	w.West = newHost(w, "west", WestAddr, seed, 1)
	w.East = newHost(w, "east", EastAddr, seed, 2)
	return w
}

func newHost(w *World, name string, a netip.Addr, seed uint64, n byte) *Host {
	key := [32]byte{n, byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24), byte(seed >> 32), byte(seed >> 40), byte(seed >> 48), byte(seed >> 56)}
	return &Host{
		Name: name, Addr: a, world: w, random: rand.NewChaCha8(key), nextSPI: uint64(n) << 56, nextESP: uint32(n) << 28,
		Installed: map[uint32]machine.Install{}, Reserved: map[uint32]machine.ChildID{},
	}
}

// Peer is the other host.
func (h *Host) Peer() *Host {
	if h == h.world.West {
		return h.world.East
	}
	return h.world.West
}

// UDP is the path from h to its peer on UDP port 500.
func (h *Host) UDP() path.Path {
	return path.Path{Local: netip.AddrPortFrom(h.Addr, iana.PortIKE), Remote: netip.AddrPortFrom(h.Peer().Addr, iana.PortIKE), Kind: path.UDP}
}

// TCP is a new stream from h to its peer's port 4500.
func (h *Host) TCP() path.Path {
	h.world.generation++
	return path.Path{
		Local: netip.AddrPortFrom(h.Addr, uint16(40000+h.world.generation)), Remote: netip.AddrPortFrom(h.Peer().Addr, iana.PortIKENATT),
		Kind: path.TCP, Generation: h.world.generation,
	}
}

// SPI is a new IKE SPI of h.
func (h *Host) SPI() wire.SPI {
	h.nextSPI++
	return wire.SPI(h.nextSPI)
}

// config is what the owner gives a machine.
func (h *Host) config() machine.Config {
	c := machine.Config{SPI: h.SPI(), Rand: h.random, HalfOpen: h.HalfOpen, PlainESP: h.PlainESP, Lacks: h.Lacks, Candidates: h.candidates}
	if h.Entropy != nil {
		c.Rand = h.Entropy
	}
	return c
}

// candidates are the connections that h has for its peer now: those to answer with, or the one that it initiates.
func (h *Host) candidates(path.Path) []*policy.Oriented {
	if len(h.Candidates) == 0 {
		return []*policy.Oriented{h.Conn}
	}
	return h.Candidates
}

// Initiate makes h's machine and starts it on p.
func (h *Host) Initiate(p path.Path) {
	h.M = machine.NewInitiator(h.config(), h.Conn, []int{0})
	h.Step(machine.Start{Path: p})
}

// Step gives the machine an input and carries out what follows, completions included.
func (h *Host) Step(in machine.Input) {
	h.inputs = append(h.inputs, in)
	for len(h.inputs) > 0 {
		in := h.inputs[0]
		h.inputs = h.inputs[1:]
		for _, e := range h.M.Step(h.world.Now, in) {
			h.carryOut(e)
		}
	}
}

// carryOut does what one effect asks for.
func (h *Host) carryOut(e machine.Effect) {
	if h.Hold != nil && completes(e) && h.Hold(e) {
		h.Held = append(h.Held, e)
		return
	}
	switch e := e.(type) {
	case machine.Send:
		p := Packet{Path: e.Path, Data: bytes.Clone(e.Data), Last: e.Last}
		h.Out, h.Sent = append(h.Out, p), append(h.Sent, p)
	case machine.Job, machine.ReserveSPI, machine.Install:
		h.inputs = append(h.inputs, h.complete(e))
	case machine.Move:
		h.Moves = append(h.Moves, e)
	case machine.Remove:
		delete(h.Installed, e.SPIIn)
		delete(h.Reserved, e.SPIIn)
	case machine.NeedPath:
		h.NeedPaths = append(h.NeedPaths, e)
		if h.Ladder != nil {
			h.inputs = append(h.inputs, h.Ladder(e))
		}
	case machine.Authenticated:
		h.Proved = append(h.Proved, e)
	case machine.KeepAlive:
		h.KeepAlives = append(h.KeepAlives, e)
	case machine.Emit:
		h.Events = append(h.Events, e.Event)
		h.Drops[e.Drop]++
	case machine.Ended:
		h.Ended = &e.Close
	case machine.Close:
		h.Closed = &e.Close
	}
}

// completes reports whether an effect is answered by an input.
func completes(e machine.Effect) bool {
	switch e.(type) {
	case machine.Job, machine.ReserveSPI, machine.Install:
		return true
	}
	return false
}

// Complete answers the effects in Held, in their order.
func (h *Host) Complete() {
	held := h.Held
	h.Held = nil
	for _, e := range held {
		h.Step(h.complete(e))
	}
}

// complete does what the owner does for an effect and returns the input that says so.
func (h *Host) complete(e machine.Effect) machine.Input {
	switch e := e.(type) {
	case machine.Job:
		return h.work(e)
	case machine.ReserveSPI:
		if h.FailSPI != nil {
			return machine.SPIReserved{Child: e.Child, Err: h.FailSPI, Notify: h.Tell}
		}
		h.nextESP++
		h.Reserved[h.nextESP] = e.Child
		return machine.SPIReserved{Child: e.Child, SPI: h.nextESP}
	case machine.Install:
		if h.FailInstall != nil {
			return machine.InstallDone{Child: e.Child, Err: h.FailInstall, Notify: h.Tell}
		}
		delete(h.Reserved, e.SPIIn)
		h.Installed[e.SPIIn] = e
		return machine.InstallDone{Child: e.Child}
	}
	return nil
}

// work does a job.
func (h *Host) work(j machine.Job) machine.JobDone {
	done := machine.JobDone{ID: j.ID}
	switch {
	case h.FailJob != nil:
		done.Err = h.FailJob
	case j.Answer != nil:
		done.Data, done.Pending, done.Err = j.Answer.Do()
	case j.Finish != nil, j.Pending != nil:
		done.Data, done.Err = h.keyExchange(j)
	case j.Sign != nil, j.Verify != nil:
		done.Data, done.Err = h.Secrets.Do(j)
	default:
		done.Err = errors.New("empty job")
	}
	return done
}

// keyExchange computes a shared secret and remembers it for Forge.
func (h *Host) keyExchange(j machine.Job) (secret []byte, err error) {
	if j.Finish != nil {
		secret, err = j.Finish.Exchange.Finish(j.Finish.Reply)
	} else {
		secret, err = j.Pending.Secret()
	}
	if h.M.Snapshot().Established.IsZero() {
		h.secret = bytes.Clone(secret) // of the IKE SA, not of a child
	}
	return secret, err
}

// Deliver takes the oldest packet that h has sent to its peer.
func (h *Host) Deliver() {
	p := h.Out[0]
	h.Out = h.Out[1:]
	h.Inject(p)
}

// Lose takes away the oldest packet that h has sent.
func (h *Host) Lose() { h.Out = h.Out[1:] }

// Inject brings a packet of h's, or one made to look like it, to its peer. A peer without a living machine makes a responder for an IKE_SA_INIT
// request, as the engine's doorman does.
func (h *Host) Inject(p Packet) {
	if h.world.Net != nil {
		var ok bool
		if p, ok = h.world.Net(p); !ok {
			return
		}
	}
	peer := h.Peer()
	arrived := reversed(p.Path)
	hd, err := wire.ParseHeader(p.Data)
	initial := err == nil && hd.Exchange == iana.IKE_SA_INIT && !hd.Response() && hd.ResponderSPI == 0
	if initial && len(peer.Candidates) > 0 && peer.fresh(hd) {
		peer.M = machine.NewResponder(peer.config(), peer.Candidates, arrived)
		peer.Closed, peer.Ended = nil, nil
	}
	if peer.M == nil {
		return
	}
	peer.Step(machine.Datagram{Path: arrived, Data: bytes.Clone(p.Data)})
}

// reversed is a path as its other end sees it. Both ends of a stream have the same generation here.
func reversed(p path.Path) path.Path {
	p.Local, p.Remote = p.Remote, p.Local
	return p
}

// fresh reports whether an IKE_SA_INIT request is for a new machine: there is none, or it is over, or it is another initiator's.
func (h *Host) fresh(hd wire.Header) bool {
	if h.M == nil || h.Closed != nil {
		return true
	}
	s := h.M.Snapshot()
	return !s.Initiator && s.SPIi != hd.InitiatorSPI
}

// Settle delivers whatever is under way until nothing is.
func (w *World) Settle() {
	for len(w.West.Out)+len(w.East.Out) > 0 {
		for len(w.West.Out) > 0 {
			w.West.Deliver()
		}
		for len(w.East.Out) > 0 {
			w.East.Deliver()
		}
	}
}

// Run lets d pass: deadlines come when they are due, and what is sent is delivered at once.
func (w *World) Run(d time.Duration) {
	end := w.Now.Add(d)
	w.Settle()
	for {
		next, due := w.next()
		if len(due) == 0 || next.After(end) {
			w.Now = end
			return
		}
		w.Now = next
		for _, h := range due {
			h.Step(machine.Tick{})
		}
		w.Settle()
	}
}

// next finds the earliest deadline and whose it is.
func (w *World) next() (first time.Time, due []*Host) {
	for _, h := range []*Host{w.West, w.East} {
		if h.M == nil || h.M.Deadline().IsZero() {
			continue
		}
		switch t := h.M.Deadline(); {
		case len(due) == 0 || t.Before(first):
			first, due = t, []*Host{h}
		case t.Equal(first):
			due = append(due, h)
		}
	}
	if len(due) > 0 && first.Before(w.Now) {
		first = w.Now
	}
	return first, due
}

// Last is the newest event of a kind.
func (h *Host) Last(k event.Kind) (event.Event, bool) {
	for _, e := range slices.Backward(h.Events) {
		if e.Kind == k {
			return e, true
		}
	}
	return event.Event{}, false
}

// Lines are the texts that the default log level shows.
func (h *Host) Lines() []string {
	var lines []string
	for _, e := range h.Events {
		if e.Level >= event.Info {
			lines = append(lines, fmt.Sprintf("%s: %q: %s", h.Name, e.Conn, e.Text))
		}
	}
	return lines
}

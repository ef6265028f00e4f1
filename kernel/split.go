package kernel

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/ts"
)

// Split is the Datapath of a host whose kernel carries plain ESP and ESP in UDP, and whose userspace datapath carries ESP in TCP, or what asks for it on sockets of
// its own. Each pair goes to the half of its Endpoints; its keys never leave it (the same key in two places would use nonces twice).
//
// A policy whose pairs are all the kernel's is the kernel's alone. Every other is with both halves. The userspace half leads its traffic to the TUN, and drops or rejects it there while there is no SA. The kernel half
// requires ESP of what comes in, and lets what goes out pass to the TUN, unless the newest pair is its own: then its policy takes the packets before they get
// there. Both halves accept what comes for any of their pairs, so that a Child SA is replaced by one of the other half without a gap.
//
// Packets that wait for an SA do so in the kernel, if it has them wait at all: it sends them itself when the SA is its own, and when it is not lets them go on to the TUN, to
// which they are routed already. What waits in the userspace half could not go back.
//
// The kernel's policies would drop what the userspace half has decrypted, since it has come by no SA of the kernel: a mark that such packets have (hostnet gives it)
// lets them pass.
//
// Requests are carried out one after the other on one goroutine.
type Split struct {
	events func(Event)
	opened Mark
	// Constant after Join.
	halves [2]Datapath
	tcp    bool // the kernel carries ESP in TCP
	notes  []string
	done   chan struct{} // closed when run has ended

	mu      sync.Mutex // guards what follows; not held while a half is called
	wake    sync.Cond
	pending []func()
	answers map[Request]chan Done
	last    Request
	owners  map[SPI]half // of installed pairs
	stopped bool

	// The goroutine's.
	reserved map[SPI]half
	policies map[PolicyID]*splitPolicy
	pairs    map[SPI]*splitPair
}

var _ Datapath = (*Split)(nil)

// half is one of the two datapaths.
type half uint8

const (
	inKernel half = iota
	inUserspace
)

// halfOf says which half carries ESP on a path: the one that was asked for, or else the kernel where it can.
func (s *Split) halfOf(e Endpoints) half {
	if e.Backend == BackendUserspace || e.Backend == BackendAuto && e.Path.Kind.Stream() && !s.tcp {
		return inUserspace
	}
	return inKernel
}

// cannot says why the half that was asked for cannot have ESP on a path; empty: it can. All of a UDP socket's ESP goes to the kernel if any of it does, since a socket
// with UDP_ENCAP hands over none that it does not know: the sockets of everybody are the kernel's, those of a port that a connection has for itself are its own.
func (s *Split) cannot(e Endpoints) string {
	port := e.Path.Local.Port()
	switch {
	case e.Backend == BackendXFRM && e.Path.Kind.Stream() && !s.tcp:
		return "this kernel has no ESP in TCP, and backend=xfrm asks for the kernel; let the peer use UDP, or remove backend=xfrm"
	case e.Backend != BackendUserspace || e.Path.Kind.Stream():
		return ""
	case e.Path.Kind != path.UDP:
		return "plain ESP is the kernel's here, and backend=userspace asks for the userspace datapath; remove encapsulation=no, or backend=userspace"
	case port == 500 || port == 4500:
		return "ESP on UDP port 4500 is the kernel's here, and backend=userspace asks for the userspace datapath; give the connection a port of its own with ikeport= of this " +
			"host's end, or let the peer use TCP"
	}
	return ""
}

type splitPolicy struct {
	policy Policy
	sprung bool         // as it is with XFRM: a trap that has caught packets, or what has followed it
	out    bool         // the kernel's policy takes outbound packets: there is an SA of its own, or they wait for one
	pairs  []*splitPair // the one that outbound packets use comes first
}

type splitPair struct {
	spi    SPI
	half   half
	policy PolicyID
}

var errSplitClosed = errors.New("the datapath is closed")

// NewSplit makes a Split without halves: they are made with its Event, and given to Join. opened is the mark of packets that the userspace half has decrypted. events
// must not block; it is called on several goroutines.
func NewSplit(events func(Event), opened Mark) *Split {
	s := &Split{
		events: events, opened: opened, done: make(chan struct{}), answers: map[Request]chan Done{}, owners: map[SPI]half{}, reserved: map[SPI]half{},
		policies: map[PolicyID]*splitPolicy{}, pairs: map[SPI]*splitPair{},
	}
	s.wake.L = &s.mu
	return s
}

// Event takes the events of both halves.
func (s *Split) Event(e Event) {
	d, ok := e.(Done)
	if !ok {
		s.events(e)
		return
	}
	s.mu.Lock()
	answer := s.answers[d.Request]
	delete(s.answers, d.Request)
	s.mu.Unlock()
	if answer != nil {
		answer <- d // it has room
	}
}

// Join gives the halves, and starts, unless the kernel refuses what lets decrypted packets pass. It is called once, before any request. The halves stay the caller's
// with an error.
func (s *Split) Join(kernel, userspace Datapath) error {
	s.halves, s.tcp = [2]Datapath{kernel, userspace}, kernel.Features().TCP
	for _, everything := range []ts.Selector{ts.FromPrefix(netip.MustParsePrefix("0.0.0.0/0")), ts.FromPrefix(netip.MustParsePrefix("::/0"))} {
		six := everything.Start.Is6()
		p := Policy{ID: "userspace IPv4", Local: ts.Set{everything}, Remote: ts.Set{everything}, Action: Pass, InboundOnly: true, MarkIn: s.opened, Priority: strongest}
		if six {
			p.ID = "userspace IPv6" // no name of a connection has a space
		}
		err := s.ask(inKernel, func(dp Datapath, r Request) { dp.Route(r, p) }).Err
		switch {
		case err != nil && six: // there is no IPv6 here, or it goes without ESP in TCP
			s.notes = append(s.notes, fmt.Sprintf("IPv6 packets that come by ESP in TCP are dropped: %v", err))
		case err != nil:
			return err
		}
	}
	go s.run()
	return nil
}

// strongest is the priority of the policy that lets packets pass which the userspace half has decrypted.
const strongest = 1

func (s *Split) run() {
	defer close(s.done)
	for {
		s.mu.Lock()
		for len(s.pending) == 0 && !s.stopped {
			s.wake.Wait()
		}
		batch := s.pending
		s.pending = nil
		s.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for _, do := range batch {
			do()
		}
	}
}

// request queues do, whose result completes r.
func (s *Split) request(r Request, spi SPI, do func(*Done)) {
	s.mu.Lock()
	stopped := s.stopped
	if !stopped {
		s.pending = append(s.pending, func() {
			d := Done{Request: r, SPI: spi}
			do(&d)
			s.events(d)
		})
	}
	s.mu.Unlock()
	if stopped {
		s.events(Done{Request: r, SPI: spi, Err: errSplitClosed})
		return
	}
	s.wake.Signal()
}

// ask makes a request of a half and waits for its answer.
func (s *Split) ask(h half, do func(Datapath, Request)) Done {
	answer := make(chan Done, 1)
	s.mu.Lock()
	s.last++
	r := s.last
	s.answers[r] = answer
	s.mu.Unlock()
	do(s.halves[h], r)
	return <-answer
}

// Features implements Datapath.
func (s *Split) Features() Features {
	k, u := s.halves[inKernel].Features(), s.halves[inUserspace].Features()
	return Features{
		Name: ShapeSplit.String(), UDP: k.UDP, TCP: k.TCP || u.TCP, PlainESP: k.PlainESP, Transport: k.Transport && u.Transport, ESN: k.ESN && u.ESN, Waits: k.Waits || u.Waits,
		Lacks: k.Lacks, // all of it, for a pair may change from one half to the other
		Notes: slices.Concat(k.Notes, u.Notes, s.notes),
	}
}

// Route implements Datapath.
func (s *Split) Route(r Request, p Policy) {
	s.request(r, 0, func(d *Done) { d.Err = s.route(p) })
}

func (s *Split) route(p Policy) error {
	st, next := s.policies[p.ID], &splitPolicy{policy: p}
	if st != nil {
		next.pairs = st.pairs
	}
	next.sprung = p.Action == Trap || st != nil && st.sprung && p.Action != Pass && p.Action != Reject
	next.out = s.takes(next)
	if !s.kernelOnly(&p) {
		// First, so that no packet finds neither.
		if err := s.ask(inUserspace, func(dp Datapath, r Request) { dp.Route(r, p) }).Err; err != nil {
			return err
		}
	}
	err := s.routeKernel(next)
	switch {
	case err == nil:
		s.policies[p.ID] = next
		if s.kernelOnly(&p) && st != nil && !s.kernelOnly(&st.policy) {
			return s.ask(inUserspace, func(dp Datapath, r Request) { dp.Unroute(r, p.ID) }).Err
		}
		return nil
	case s.kernelOnly(&p):
	case st == nil || s.kernelOnly(&st.policy):
		err = errors.Join(err, s.ask(inUserspace, func(dp Datapath, r Request) { dp.Unroute(r, p.ID) }).Err)
	default:
		err = errors.Join(err, s.ask(inUserspace, func(dp Datapath, r Request) { dp.Route(r, st.policy) }).Err)
	}
	return err
}

// kernelOnly reports whether a policy is the kernel's alone: the userspace half cannot keep it, or never has a pair of it. What is to pass is with both all the same: a
// wider policy of the userspace half would lead it to the TUN.
func (s *Split) kernelOnly(p *Policy) bool {
	return p.OnlyXFRM() != "" || p.Action != Pass && (p.Backend == BackendXFRM || p.Backend == BackendAuto && s.tcp)
}

// takes reports whether the kernel's policy takes outbound packets.
func (s *Split) takes(st *splitPolicy) bool {
	p := &st.policy
	if len(st.pairs) > 0 {
		return st.pairs[0].half == inKernel
	}
	if p.Backend == BackendUserspace || !s.halves[inKernel].Features().Waits {
		return false
	}
	known := p.LocalAddr.IsValid() && p.RemoteAddr.IsValid() // between other hosts only what a trap takes waits in the kernel
	switch p.Action {
	case Trap:
		return true
	case Protect, Hold:
		return known
	case Drop: // of what comes behind the packets that a trap has taken
		return known && st.sprung
	case Pass, Reject:
	}
	return false
}

// routeKernel puts a policy into the kernel, which takes outbound packets or lets them pass to the TUN.
func (s *Split) routeKernel(st *splitPolicy) error {
	p := st.policy
	if p.Action != Pass && !s.kernelOnly(&p) {
		// What comes in has to be from an SA whatever the action. What goes out and does not wait in the kernel is the userspace half's to hold, drop or reject.
		p.Led, p.InboundOnly = true, !st.out
		if p.InboundOnly || len(st.pairs) > 0 {
			p.Action = Protect
		}
		p.SourceIP, p.MTU = netip.Addr{}, 0 // the routes to the TUN have them
	}
	return s.ask(inKernel, func(dp Datapath, r Request) { dp.Route(r, p) }).Err
}

// lead leads outbound packets to the half of the pair that comes first, or to where they wait.
func (s *Split) lead(st *splitPolicy) error {
	next := *st
	if next.out = s.takes(st); next.out == st.out {
		return nil
	}
	if err := s.routeKernel(&next); err != nil {
		return err
	}
	st.out = next.out
	return nil
}

// Unroute implements Datapath.
func (s *Split) Unroute(r Request, id PolicyID) {
	s.request(r, 0, func(d *Done) { d.Err = s.unroute(id) })
}

func (s *Split) unroute(id PolicyID) error {
	st := s.policies[id]
	if st == nil {
		return nil
	}
	delete(s.policies, id)
	err := s.ask(inKernel, func(dp Datapath, r Request) { dp.Unroute(r, id) }).Err
	if s.kernelOnly(&st.policy) {
		return err
	}
	return errors.Join(err, s.ask(inUserspace, func(dp Datapath, r Request) { dp.Unroute(r, id) }).Err)
}

// ReserveSPI implements Datapath.
func (s *Split) ReserveSPI(r Request, e Endpoints) {
	s.request(r, 0, func(d *Done) {
		h := s.halfOf(e)
		got := s.ask(h, func(dp Datapath, r Request) { dp.ReserveSPI(r, e) })
		if d.SPI, d.Err = got.SPI, got.Err; d.Err == nil {
			s.reserved[d.SPI] = h
		}
	})
}

// Install implements Datapath.
func (s *Split) Install(r Request, sa SAPair) {
	s.request(r, sa.In.SPI, func(d *Done) { d.Err = s.install(sa) })
}

func (s *Split) install(sa SAPair) error {
	st, spi := s.policies[sa.Policy], sa.In.SPI
	p := &splitPair{spi: spi, half: s.halfOf(sa.Endpoints), policy: sa.Policy}
	only := cmp.Or(sa.OnlyXFRM(), "backend=xfrm of its policy")
	if st != nil {
		only = cmp.Or(st.policy.OnlyXFRM(), only)
	}
	switch {
	case st == nil:
		return fmt.Errorf("install SA %#x: policy %q is not routed", uint32(spi), sa.Policy)
	case s.pairs[spi] != nil:
		return fmt.Errorf("install SA %#x: the SPI is in use", uint32(spi))
	case s.cannot(sa.Endpoints) != "":
		return fmt.Errorf("install SA %#x: %s", uint32(spi), s.cannot(sa.Endpoints))
	case p.half == inUserspace && sa.Endpoints.Backend == BackendUserspace && (s.kernelOnly(&st.policy) || sa.OnlyXFRM() != ""):
		return fmt.Errorf("install SA %#x: %s needs the kernel's IPsec; leave it out, or backend=userspace", uint32(spi), only)
	case p.half == inUserspace && (s.kernelOnly(&st.policy) || sa.OnlyXFRM() != ""):
		return fmt.Errorf("install SA %#x: %s needs the kernel's IPsec, and this kernel has no ESP in TCP; leave it out, or set enable-tcp=no", uint32(spi), only)
	}
	if err := s.ask(p.half, func(dp Datapath, r Request) { dp.Install(r, sa) }).Err; err != nil {
		return err
	}
	before := st.pairs
	if sa.Standby {
		st.pairs = append(slices.Clone(before), p)
	} else {
		st.pairs = append([]*splitPair{p}, before...)
	}
	if err := s.lead(st); err != nil { // outbound last: the peer may answer what goes out
		st.pairs = before
		return errors.Join(err, s.removeFrom(p.half, []SPI{spi}))
	}
	if h, ok := s.reserved[spi]; ok && h != p.half {
		_ = s.removeFrom(h, []SPI{spi}) // a reservation that stays costs nothing but the number
	}
	delete(s.reserved, spi)
	s.pairs[spi] = p
	s.mu.Lock()
	s.owners[spi] = p.half
	s.mu.Unlock()
	return nil
}

// Move implements Datapath. Only the half that has the keys can go on with them.
func (s *Split) Move(r Request, spi SPI, e Endpoints) {
	s.request(r, spi, func(d *Done) {
		p := s.pairs[spi]
		switch {
		case p == nil:
			d.Err = fmt.Errorf("move SA %#x to %s: no such SA", uint32(spi), e.Path)
		case p.half != s.halfOf(e):
			d.Err = fmt.Errorf("move SA %#x to %s: the %s datapath has its keys and carries no ESP there: %w", uint32(spi), e.Path, s.halves[p.half].Features().Name, ErrCarrier)
		case s.cannot(e) != "":
			d.Err = fmt.Errorf("move SA %#x to %s: %s", uint32(spi), e.Path, s.cannot(e))
		default:
			d.Err = s.ask(p.half, func(dp Datapath, r Request) { dp.Move(r, spi, e) }).Err
		}
	})
}

// Remove implements Datapath.
func (s *Split) Remove(r Request, spis ...SPI) {
	s.request(r, 0, func(d *Done) { d.Err = s.remove(spis) })
}

func (s *Split) remove(spis []SPI) error {
	var lists [2][]SPI
	var errs []error
	for _, spi := range spis {
		if h, ok := s.reserved[spi]; ok {
			delete(s.reserved, spi)
			lists[h] = append(lists[h], spi)
		}
		p := s.pairs[spi]
		if p == nil {
			continue
		}
		lists[p.half] = append(lists[p.half], spi)
		delete(s.pairs, spi)
		s.mu.Lock()
		delete(s.owners, spi)
		s.mu.Unlock()
		if st := s.policies[p.policy]; st != nil {
			st.pairs = slices.DeleteFunc(slices.Clone(st.pairs), func(o *splitPair) bool { return o == p })
			errs = append(errs, s.lead(st)) // before the pair goes, so that what stands by takes over without a gap
		}
	}
	for h, list := range lists {
		errs = append(errs, s.removeFrom(half(h), list))
	}
	return errors.Join(errs...)
}

func (s *Split) removeFrom(h half, list []SPI) error {
	if len(list) == 0 {
		return nil
	}
	return s.ask(h, func(dp Datapath, r Request) { dp.Remove(r, list...) }).Err
}

// Usage implements Datapath.
func (s *Split) Usage(spis ...SPI) []Usage {
	var lists [2][]SPI
	var places [2][]int
	s.mu.Lock()
	for i, spi := range spis {
		if h, ok := s.owners[spi]; ok {
			lists[h], places[h] = append(lists[h], spi), append(places[h], i)
		}
	}
	s.mu.Unlock()
	out := make([]Usage, len(spis))
	for h, list := range lists {
		if len(list) == 0 {
			continue
		}
		for i, u := range s.halves[h].Usage(list...) {
			out[places[h][i]] = u
		}
	}
	return out
}

// Close implements Datapath. Requests under way complete first.
func (s *Split) Close() error {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return nil
	}
	s.stopped = true
	s.mu.Unlock()
	s.wake.Signal()
	<-s.done
	return errors.Join(s.halves[inKernel].Close(), s.halves[inUserspace].Close())
}

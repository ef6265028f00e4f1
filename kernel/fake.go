package kernel

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// Fake is a Datapath that carries no packets: it keeps books. Unit tests and simulation use it to see what IKE asked for, to delay or refuse
// requests, and to find out whether a rule of the contract was broken. Safe for concurrent use. It starts no goroutine and asks no clock, so a
// run with the same requests and the same source of SPIs is the same run.
type Fake struct {
	features Features
	manual   bool
	rand     io.Reader

	mu         sync.Mutex // guards all below; never held while an event is delivered
	events     func(Event)
	next       SPI // without rand
	reserved   map[SPI]bool
	pairs      map[SPI]SAPair
	policies   map[PolicyID]Policy
	order      []PolicyID
	usage      map[SPI]Usage
	keys       map[[32]byte]SPI // outbound keys ever installed
	used       map[SPI]bool     // inbound SPIs ever installed
	refuse     map[FakeOp][]error
	pending    []Done
	violations []string
	calls      []string
	closed     bool
}

var _ Datapath = (*Fake)(nil)

// FakeOp names a request of Datapath, for Fake.Refuse.
type FakeOp string

// The requests of Datapath.
const (
	OpRoute      FakeOp = "Route"
	OpUnroute    FakeOp = "Unroute"
	OpReserveSPI FakeOp = "ReserveSPI"
	OpInstall    FakeOp = "Install"
	OpMove       FakeOp = "Move"
	OpRemove     FakeOp = "Remove"
)

// FakeOptions say how a Fake behaves. The zero value answers every request at once, with SPIs that count up from 0x1000.
type FakeOptions struct {
	// Events takes the events. It may be set later by SetEvents.
	Events func(Event)
	// Rand is the source of SPIs, four octets each; the same octets give the same SPIs. nil counts up.
	Rand io.Reader
	// Manual keeps completions back until Complete or CompleteNext is called.
	Manual bool
	// Features is what Features returns; the zero value stands for the userspace datapath's.
	Features Features
}

// NewFake makes a Fake.
func NewFake(o FakeOptions) *Fake {
	if o.Features.Name == "" {
		o.Features = Features{Name: "fake", UDP: true, TCP: true, Transport: true, ESN: true, MoveCarrier: true}
	}
	return &Fake{
		features: o.Features, manual: o.Manual, rand: o.Rand, events: o.Events, next: 0x1000,
		reserved: map[SPI]bool{}, pairs: map[SPI]SAPair{}, policies: map[PolicyID]Policy{}, usage: map[SPI]Usage{},
		keys: map[[32]byte]SPI{}, used: map[SPI]bool{}, refuse: map[FakeOp][]error{},
	}
}

// SetEvents sets the function that takes the events, for callers that need the Fake before they have it.
func (f *Fake) SetEvents(events func(Event)) {
	f.mu.Lock()
	f.events = events
	f.mu.Unlock()
}

// Features implements Datapath.
func (f *Fake) Features() Features { return f.features }

// Route implements Datapath.
func (f *Fake) Route(r Request, p Policy) {
	f.request(r, OpRoute, string(p.ID), func(*Done) {
		if len(p.Local) == 0 || len(p.Remote) == 0 {
			f.violate("Route %s: a policy without selectors", p.ID)
		}
		if _, ok := f.policies[p.ID]; !ok {
			f.order = append(f.order, p.ID)
		}
		f.policies[p.ID] = p
	})
}

// Unroute implements Datapath.
func (f *Fake) Unroute(r Request, id PolicyID) {
	f.request(r, OpUnroute, string(id), func(*Done) {
		for spi, p := range f.pairs {
			if p.Policy == id {
				f.violate("Unroute %s: the SA pair %#x still uses it", id, uint32(spi))
			}
		}
		delete(f.policies, id)
		f.order = slices.DeleteFunc(f.order, func(o PolicyID) bool { return o == id })
	})
}

// ReserveSPI implements Datapath.
func (f *Fake) ReserveSPI(r Request, _ Endpoints) {
	f.request(r, OpReserveSPI, "", func(d *Done) {
		for {
			spi, err := f.drawSPI()
			if err != nil {
				d.Err = fmt.Errorf("no SPI: %w", err)
				return
			}
			if _, ok := f.pairs[spi]; !ok && spi >= 256 && !f.reserved[spi] {
				f.reserved[spi] = true
				d.SPI = spi
				return
			}
		}
	})
}

func (f *Fake) drawSPI() (SPI, error) {
	if f.rand == nil {
		f.next++
		return f.next - 1, nil
	}
	var b [4]byte
	if _, err := io.ReadFull(f.rand, b[:]); err != nil {
		return 0, err
	}
	return SPI(binary.BigEndian.Uint32(b[:])), nil
}

// Install implements Datapath.
func (f *Fake) Install(r Request, p SAPair) {
	f.request(r, OpInstall, fmt.Sprintf("%s in=%#x out=%#x %s", p.Policy, uint32(p.In.SPI), uint32(p.Out.SPI), p.Endpoints.Path), func(d *Done) {
		d.SPI = p.In.SPI
		f.checkInstall(p)
		if _, ok := f.policies[p.Policy]; !ok {
			d.Err = fmt.Errorf("install: policy %q is not routed; route it first", p.Policy)
			return
		}
		if _, ok := f.pairs[p.In.SPI]; ok {
			d.Err = fmt.Errorf("install: inbound SPI %#x is installed already", uint32(p.In.SPI))
			return
		}
		delete(f.reserved, p.In.SPI)
		f.used[p.In.SPI] = true
		f.keys[fakeKeyID(p.Out)] = p.In.SPI
		f.pairs[p.In.SPI] = p
	})
}

// checkInstall notes what the contract forbids.
func (f *Fake) checkInstall(p SAPair) {
	spi := uint32(p.In.SPI)
	switch {
	case p.In.SPI < 256 || p.Out.SPI < 256:
		f.violate("Install: SPI in=%#x out=%#x is below 256 (RFC 4303 2.1)", spi, uint32(p.Out.SPI))
	case len(p.In.EncrKey) == 0 || len(p.Out.EncrKey) == 0:
		f.violate("Install %#x: a key is missing", spi)
	case len(p.Local) == 0 || len(p.Remote) == 0:
		f.violate("Install %#x: selectors are missing", spi)
	case p.Endpoints.Path.IsZero():
		f.violate("Install %#x: the path is missing", spi)
	}
	if !f.reserved[p.In.SPI] {
		f.violate("Install %#x: the inbound SPI was not reserved", spi)
	}
	if f.used[p.In.SPI] {
		f.violate("Install %#x: the inbound SPI was installed before", spi)
	}
	if first, ok := f.keys[fakeKeyID(p.Out)]; ok {
		f.violate("Install %#x: its outbound key was installed before with %#x; nonces would repeat", spi, uint32(first))
	}
	if string(p.In.EncrKey) == string(p.Out.EncrKey) {
		f.violate("Install %#x: both directions have one key", spi)
	}
}

func fakeKeyID(s SA) [32]byte { return sha256.Sum256(slices.Concat(s.EncrKey, s.IntegKey)) }

// Move implements Datapath.
func (f *Fake) Move(r Request, spi SPI, e Endpoints) {
	f.request(r, OpMove, fmt.Sprintf("%#x %s", uint32(spi), e.Path), func(d *Done) {
		d.SPI = spi
		p, ok := f.pairs[spi]
		if !ok {
			d.Err = fmt.Errorf("move: no SA with inbound SPI %#x", uint32(spi))
			return
		}
		if p.Endpoints.Path.Kind != e.Path.Kind && !f.features.MoveCarrier {
			d.Err = fmt.Errorf("move: SPI %#x from %s to %s: %w", uint32(spi), p.Endpoints.Path.Kind, e.Path.Kind, ErrCarrier)
			return
		}
		p.Endpoints = e
		f.pairs[spi] = p
	})
}

// Remove implements Datapath.
func (f *Fake) Remove(r Request, spis ...SPI) {
	f.request(r, OpRemove, fmt.Sprintf("%#x", spis), func(*Done) {
		for _, spi := range spis {
			delete(f.pairs, spi)
			delete(f.reserved, spi)
			delete(f.usage, spi)
		}
	})
}

// Usage implements Datapath. It returns what SetUsage has set.
func (f *Fake) Usage(spis ...SPI) []Usage {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Usage, len(spis))
	for i, spi := range spis {
		if _, ok := f.pairs[spi]; ok {
			out[i] = f.usage[spi]
			out[i].SPI, out[i].Datapath = spi, f.features.Name
		}
	}
	return out
}

// Close implements Datapath.
func (f *Fake) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.pending = nil
	clear(f.pairs)
	clear(f.policies)
	clear(f.reserved)
	f.order = nil
	return nil
}

// request logs a request, refuses it if told to, runs it, and completes it now or later.
func (f *Fake) request(r Request, op FakeOp, what string, do func(*Done)) {
	f.mu.Lock()
	f.calls = append(f.calls, string(op)+" "+what)
	d := Done{Request: r}
	switch q := f.refuse[op]; {
	case f.closed:
		d.Err = errFakeClosed
	case len(q) > 0:
		d.Err, f.refuse[op] = q[0], q[1:]
	default:
		do(&d)
	}
	if f.manual {
		f.pending = append(f.pending, d)
		f.mu.Unlock()
		return
	}
	events := f.events
	f.mu.Unlock()
	if events != nil {
		events(d)
	}
}

var errFakeClosed = errors.New("the datapath is closed")

func (f *Fake) violate(format string, args ...any) {
	f.violations = append(f.violations, fmt.Sprintf(format, args...))
}

// Refuse makes the next request of this kind that has no refusal yet complete with err, and change nothing.
func (f *Fake) Refuse(op FakeOp, err error) {
	f.mu.Lock()
	f.refuse[op] = append(f.refuse[op], err)
	f.mu.Unlock()
}

// CompleteNext delivers the oldest completion that was kept back and reports whether there was one.
func (f *Fake) CompleteNext() bool {
	f.mu.Lock()
	if len(f.pending) == 0 {
		f.mu.Unlock()
		return false
	}
	d, events := f.pending[0], f.events
	f.pending = f.pending[1:]
	f.mu.Unlock()
	if events != nil {
		events(d)
	}
	return true
}

// Complete delivers all completions that were kept back, and those that follow from them, and returns their number.
func (f *Fake) Complete() int {
	n := 0
	for f.CompleteNext() {
		n++
	}
	return n
}

// Emit delivers an event of the test's own making: Acquire, SoftExpire, HardExpire, PeerMoved.
func (f *Fake) Emit(e Event) {
	f.mu.Lock()
	events := f.events
	f.mu.Unlock()
	if events != nil {
		events(e)
	}
}

// SetUsage sets the counters that Usage returns for u.SPI.
func (f *Fake) SetUsage(u Usage) {
	f.mu.Lock()
	f.usage[u.SPI] = u
	f.mu.Unlock()
}

// Policies returns the routed policies in the order in which they came.
func (f *Fake) Policies() []Policy {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Policy, 0, len(f.order))
	for _, id := range f.order {
		out = append(out, f.policies[id])
	}
	return out
}

// Pairs returns the installed SA pairs by inbound SPI, in ascending order.
func (f *Fake) Pairs() []SAPair {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]SAPair, 0, len(f.pairs))
	for _, p := range f.pairs {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b SAPair) int { return cmp.Compare(a.In.SPI, b.In.SPI) })
	return out
}

// Reserved returns the SPIs that are reserved and neither installed nor removed, in ascending order. What is left here after everything
// ended is a leak.
func (f *Fake) Reserved() []SPI {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]SPI, 0, len(f.reserved))
	for spi := range f.reserved {
		out = append(out, spi)
	}
	slices.Sort(out)
	return out
}

// Violations lists the rules of the contract that were broken, oldest first. A test ends by checking that there are none.
func (f *Fake) Violations() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.violations)
}

// Calls lists the requests in the order in which they came, one line each, without keys.
func (f *Fake) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// MatchedPair reports whether b's outbound half is a's inbound half and the other way round: SPIs, suites and keys. Two ends of one Child SA
// agree when it does.
func MatchedPair(a, b SAPair) bool {
	same := func(x, y SA) bool {
		return x.SPI == y.SPI && x.Suite == y.Suite && string(x.EncrKey) == string(y.EncrKey) && string(x.IntegKey) == string(y.IntegKey)
	}
	return same(a.Out, b.In) && same(b.Out, a.In) && a.Local.Equal(b.Remote) && a.Remote.Equal(b.Local)
}

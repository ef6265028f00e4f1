package simnet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ikegod/ikegod/ike/auth"
	"github.com/ikegod/ikegod/ike/engine"
	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/testing/subnets"
)

// Addresses of the test bench.
var (
	WestAddr = netip.MustParseAddr("192.1.2.45")
	EastAddr = netip.MustParseAddr("192.1.2.23")
)

// World is two whole daemons without sockets and kernel: west and east.
type World struct {
	Net        *Network
	West, East *Node
	Shards     int // of each engine; with more than one a seed does not reproduce a run

	restarts int
}

// Node is one of the daemons.
type Node struct {
	Name     string
	Host     *Host
	Engine   *engine.Engine
	Datapath *kernel.Fake
	Updown   *Scripts

	journal *journal
	stop    func()
}

// journal is what a node says at the default log level.
type journal struct {
	mu     sync.Mutex
	events []event.Event
}

// Said is what the node's log shows at the default level, in order.
func (n *Node) Said() []event.Event {
	n.journal.mu.Lock()
	defer n.journal.mu.Unlock()
	return slices.Clone(n.journal.events)
}

func (j *journal) add(ev event.Event) {
	if ev.Level >= event.Info {
		j.mu.Lock()
		j.events = append(j.events, ev)
		j.mu.Unlock()
	}
}

// NewWorld makes and starts both. Call it inside the bubble.
func NewWorld(seed uint64, f Faults) (*World, error) { return newWorld(seed, f, 1) }

func newWorld(seed uint64, f Faults, shards int) (*World, error) {
	w := &World{Net: New(seed, f), Shards: shards}
	var err error
	if w.West, err = w.node("west", WestAddr, seed*2+1); err != nil {
		return nil, err
	}
	if w.East, err = w.node("east", EastAddr, seed*2+2); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *World) node(name string, addr netip.Addr, seed uint64) (*Node, error) {
	n := &Node{Name: name, Host: w.Net.Host(name, addr), journal: &journal{}, Updown: &Scripts{}}
	n.Datapath = kernel.NewFake(kernel.FakeOptions{Rand: generator(seed, "spi")})
	e, err := engine.New(engine.Options{
		Mux: n.Host, Datapath: n.Datapath, Local: localAddr(addr), Shards: w.Shards, Rand: generator(seed, "ike"),
		Secrets: secrets(), Updown: n.Updown,
		Events: func(ev event.Event) {
			n.journal.add(ev)
			if ev.Level > event.Debug || ev.Kind != event.KindNote {
				w.Net.Note(name, fmt.Sprintf("[%s] %s", ev.Kind, ev.Text))
			}
		},
	})
	if err != nil {
		return nil, err
	}
	n.Engine = e
	n.Datapath.SetEvents(w.Net.slowly(name, e.KernelEvent))
	n.Host.Start(e, iana.PortIKENATT)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = e.Run(ctx) })
	n.stop = func() { cancel(); running.Wait() }
	return n, nil
}

// Close ends both daemons at once, as a crash would.
func (w *World) Close() {
	w.West.stop()
	w.East.stop()
}

// slowly delivers a datapath's events a little later, in order: between a request and its completion other things happen.
func (n *Network) slowly(name string, deliver func(kernel.Event)) func(kernel.Event) {
	r := generatorOf(n.seed, name+" kernel")
	var last time.Time // guarded by n.mu
	return func(ev kernel.Event) {
		n.mu.Lock()
		defer n.mu.Unlock()
		at := time.Now().Add(time.Duration(50+r.Int64N(2000)) * time.Microsecond)
		if !at.After(last) {
			at = last.Add(time.Nanosecond)
		}
		last = n.at(at, func() { deliver(ev) })
	}
}

func generatorOf(seed uint64, use string) *rand.Rand { return rand.New(generator(seed, use)) }

// generator is a stream of octets of its own for each use.
func generator(seed uint64, use string) *rand.ChaCha8 {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	copy(key[8:], use)
	return rand.NewChaCha8(key)
}

// secrets is what both have: one for everybody.
func secrets() *auth.Store {
	return auth.NewStore([]auth.Secret{{Key: []byte("a secret for both of them"), Position: "ipsec.secrets:1"}})
}

// localAddr is a host with one address.
type localAddr netip.Addr

func (l localAddr) IsLocal(a netip.Addr) bool { return netip.Addr(l) == a }

func (l localAddr) DefaultSource(netip.Addr) (netip.Addr, error) { return netip.Addr(l), nil }

// Connection is the connection of the tests: west and east, pre-shared key, a subnet behind each, liveness checks.
func Connection(tcp policy.TCPMode) *policy.Connection {
	left, right := subnet("192.0.1.0/24"), subnet("192.0.2.0/24")
	return &policy.Connection{
		Name: "west-east", Position: "ipsec.conf:4", Auto: policy.AutoAdd,
		Left:        policy.End{Host: policy.Host{Addr: WestAddr}, ID: id("@west"), Auth: iana.AuthSharedKey, Subnets: left},
		Right:       policy.End{Host: policy.Host{Addr: EastAddr}, ID: id("@east"), Auth: iana.AuthSharedKey, Subnets: right},
		IKE:         must(suite.ParseIKE("aes_gcm256-sha2_256-dh31")),
		Children:    []policy.Child{{Name: "west-east", ESP: must(suite.ParseESP("aes_gcm256", []iana.SN{iana.SN_ESN, iana.SN_32})), Left: left, Right: right, ReplayWindow: 128}},
		TCP:         policy.TCP{Mode: tcp, RemotePort: iana.PortIKENATT},
		Retransmit:  policy.Retransmit{Interval: 500 * time.Millisecond, Timeout: 30 * time.Second},
		Liveness:    10 * time.Second,
		Negotiation: policy.ShuntHold,
	}
}

// Set is a configuration with one connection.
func Set(c *policy.Connection) *policy.Set {
	return &policy.Set{Setup: policy.Setup{ListenUDP: true, ListenTCP: []uint16{iana.PortIKENATT}, UniqueIDs: true}, Connections: []*policy.Connection{c}}
}

func id(s string) ident.Pattern { return ident.Pattern{ID: must(ident.Parse(s))} }

func subnet(s string) ts.Set { return subnets.Of(s) }

// must is for constants of this package only.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Apply loads one connection on both, one after the other: what happens on two hosts at one instant has no order.
func (w *World) Apply(c *policy.Connection) error {
	for _, n := range []*Node{w.West, w.East} {
		if err := n.Engine.Apply(context.Background(), Set(c)); err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// Snapshots are the IKE SAs of a node, over ones left out.
func (n *Node) Snapshots() []machine.Snapshot {
	var out []machine.Snapshot
	n.Engine.Status(func(s machine.Snapshot, _ []kernel.Usage) bool {
		out = append(out, s)
		return true
	})
	return out
}

// Disagreement says how the two ends differ, and what either datapath keeps that no IKE SA knows. Empty: they agree.
func (w *World) Disagreement() string {
	west, east := w.West.Snapshots(), w.East.Snapshots()
	var problems []error
	report := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if len(west) != len(east) {
		report("west has %d IKE SAs, east has %d", len(west), len(east))
	}
	type spis struct{ i, r uint64 }
	have := map[spis]machine.Snapshot{}
	for _, s := range east {
		have[spis{uint64(s.SPIi), uint64(s.SPIr)}] = s
	}
	for _, s := range west {
		o, ok := have[spis{uint64(s.SPIi), uint64(s.SPIr)}]
		switch {
		case !ok:
			report("west's IKE SA %016x_%016x (%s) is unknown to east", uint64(s.SPIi), uint64(s.SPIr), s.State)
		case s.State != "established" || o.State != "established":
			report("IKE SA %016x is %s on west, %s on east", uint64(s.SPIi), s.State, o.State)
		case s.Suite != o.Suite:
			report("IKE SA %016x has suite %v on west, %v on east", uint64(s.SPIi), s.Suite, o.Suite)
		}
	}
	for _, n := range []*Node{w.West, w.East} {
		known := map[uint32]bool{}
		for _, s := range n.Snapshots() {
			for _, c := range s.Children {
				known[c.SPIIn] = true
			}
		}
		for _, p := range n.Datapath.Pairs() {
			if !known[uint32(p.In.SPI)] {
				report("%s: the datapath has SA pair %#08x that no IKE SA knows", n.Name, uint32(p.In.SPI))
			}
		}
		if got := len(n.Datapath.Pairs()); got != len(known) {
			report("%s: %d SA pairs in the datapath, %d Child SAs", n.Name, got, len(known))
		}
		for _, spi := range n.Datapath.Reserved() {
			report("%s: SPI %#08x is reserved for nothing", n.Name, uint32(spi))
		}
		for _, v := range n.Datapath.Violations() {
			report("%s: datapath: %s", n.Name, v)
		}
	}
	problems = append(problems, w.unmatched()...)
	if err := errors.Join(problems...); err != nil {
		return err.Error()
	}
	return ""
}

// unmatched finds SA pairs of one datapath whose other half the other does not have.
func (w *World) unmatched() []error {
	var problems []error
	for _, dir := range []struct{ a, b *Node }{{w.West, w.East}, {w.East, w.West}} {
		for _, p := range dir.a.Datapath.Pairs() {
			matched := false
			for _, q := range dir.b.Datapath.Pairs() {
				matched = matched || kernel.MatchedPair(p, q)
			}
			if !matched {
				problems = append(problems, fmt.Errorf("%s: SA pair in=%#08x out=%#08x has no counterpart on %s", dir.a.Name, uint32(p.In.SPI), uint32(p.Out.SPI), dir.b.Name))
			}
		}
	}
	return problems
}

// Leftovers says what a datapath still holds after everything ended. Empty: nothing.
func (n *Node) Leftovers() string {
	d := n.Datapath
	if len(d.Pairs())+len(d.Policies())+len(d.Reserved()) == 0 && len(d.Violations()) == 0 {
		return ""
	}
	return fmt.Sprintf("%s: %d SA pairs, policies %v, reserved SPIs %v, violations %v", n.Name, len(d.Pairs()), d.Policies(), d.Reserved(), d.Violations())
}

// Restart ends a node as a crash would, and starts it again with an empty memory and datapath.
func (w *World) Restart(n *Node, c *policy.Connection) error {
	n.stop()
	w.Net.crash(n.Host)
	w.restarts++
	fresh, err := w.node(n.Name, n.Host.addr, uint64(1000+w.restarts))
	if err != nil {
		return err
	}
	*n = *fresh
	return n.Engine.Apply(context.Background(), Set(c))
}

// CutStreams resets all streams.
func (w *World) CutStreams() {
	for _, e := range w.West.Host.all() {
		w.Net.cut(e, errReset, errReset)
	}
}

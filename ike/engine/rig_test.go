package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/pkg/wire"
	"github.com/ikegod/ikegod/transport"
)

var (
	us   = netip.MustParseAddr("192.1.2.23")
	them = netip.MustParseAddr("192.1.2.45")
)

// rig is an engine of one shard whose machines are scripts, with a transport and a datapath that keep books. It runs in a bubble.
type rig struct {
	e   *Engine
	s   *shard
	mux *books
	dp  *kernel.Fake

	mu     sync.Mutex // guards all below
	events []event.Event
	made   []*script
}

// script is a machine that does what a test says.
type script struct {
	cfg        machine.Config
	initiator  bool
	candidates []*policy.Oriented
	inputs     []machine.Input
	do         func(m *script, in machine.Input) []machine.Effect
	deadline   time.Time
	natRemote  bool
}

func (m *script) Step(_ time.Time, in machine.Input) []machine.Effect {
	m.inputs = append(m.inputs, in)
	if m.do == nil {
		return nil
	}
	return m.do(m, in)
}
func (m *script) Deadline() time.Time { return m.deadline }
func (m *script) Snapshot() machine.Snapshot {
	return machine.Snapshot{SPIr: m.cfg.SPI, NATRemote: m.natRemote}
}

// inRig runs f in a bubble; do is what every machine does (nil: nothing).
func inRig(t *testing.T, setup policy.Setup, do func(*script, machine.Input) []machine.Effect, f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{mux: &books{}, dp: kernel.NewFake(kernel.FakeOptions{})}
		var err error
		r.e, err = New(Options{Mux: r.mux, Datapath: r.dp, Local: oneAddr{}, Shards: 1, Events: r.event})
		if err != nil {
			t.Fatal(err)
		}
		r.s = r.e.shards[0]
		r.dp.SetEvents(r.e.KernelEvent)
		r.e.make = makers{
			initiator: func(c machine.Config, _ *policy.Oriented, _ []int) stepper { return r.newScript(c, true, nil, do) },
			responder: func(c machine.Config, o []*policy.Oriented, _ path.Path) stepper { return r.newScript(c, false, o, do) },
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = r.e.Run(ctx) })
		defer func() { cancel(); running.Wait() }()
		if err := r.e.Apply(ctx, &policy.Set{Setup: setup, Connections: []*policy.Connection{connection("west-east")}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		f(t, r)
	})
}

func (r *rig) newScript(c machine.Config, initiator bool, o []*policy.Oriented, do func(*script, machine.Input) []machine.Effect) *script {
	m := &script{cfg: c, initiator: initiator, candidates: o, do: do}
	r.mu.Lock()
	r.made = append(r.made, m)
	r.mu.Unlock()
	return m
}

func (r *rig) event(ev event.Event) {
	r.mu.Lock()
	r.events = append(r.events, ev)
	r.mu.Unlock()
}

// machines are those made so far; the bubble is at rest.
func (r *rig) machines() []*script {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*script(nil), r.made...)
}

// told returns the events of one kind.
func (r *rig) told(k event.Kind) []event.Event {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []event.Event
	for _, ev := range r.events {
		if ev.Kind == k {
			out = append(out, ev)
		}
	}
	return out
}

// drops returns the count of one reason.
func (r *rig) drops(why event.Drop) uint64 {
	synctest.Wait()
	return r.e.Stats().Drops[why]
}

// inShard runs f in the shard and waits.
func (r *rig) inShard(f func()) {
	r.s.box.post(f)
	synctest.Wait()
}

// books is a transport.Mux that keeps books.
type books struct {
	mu      sync.Mutex // guards all below
	sent    []transport.Datagram
	closed  []path.Path
	owned   []path.Path
	resumed []path.Path
	alive   map[path.Path]time.Duration
	dials   int
	dial    func() (path.Path, error)
}

func (b *books) Send(p path.Path, parts ...[]byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var data []byte
	for _, part := range parts {
		data = append(data, part...)
	}
	b.sent = append(b.sent, transport.Datagram{Path: p, Data: data})
	return nil
}
func (b *books) SendESP(path.Path, []byte, int) error { return transport.ErrNoPath }
func (b *books) Dial(context.Context, netip.Addr, netip.AddrPort) (path.Path, error) {
	b.mu.Lock()
	b.dials++
	dial := b.dial
	b.mu.Unlock()
	if dial == nil {
		return path.Path{}, errors.New("connection refused")
	}
	return dial()
}

func (b *books) UDPPath(local netip.Addr, port uint16, remote netip.AddrPort) (path.Path, error) {
	return path.Path{Local: netip.AddrPortFrom(local, port), Remote: remote}, nil
}

func (b *books) CloseStream(p path.Path) {
	b.mu.Lock()
	b.closed = append(b.closed, p)
	b.mu.Unlock()
}

func (b *books) Own(p path.Path) {
	b.mu.Lock()
	b.owned = append(b.owned, p)
	b.mu.Unlock()
}

func (b *books) Resume(p path.Path) {
	b.mu.Lock()
	b.resumed = append(b.resumed, p)
	b.mu.Unlock()
}

func (b *books) KeepAlive(p path.Path, d time.Duration) {
	b.mu.Lock()
	if b.alive == nil {
		b.alive = map[path.Path]time.Duration{}
	}
	b.alive[p] = d
	b.mu.Unlock()
}

// replies returns what was sent, parsed.
func (b *books) replies(t *testing.T) []wire.Message {
	t.Helper()
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []wire.Message
	for _, d := range b.sent {
		m, err := wire.Parse(d.Data)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

type oneAddr struct{}

func (oneAddr) IsLocal(a netip.Addr) bool                    { return a == us }
func (oneAddr) DefaultSource(netip.Addr) (netip.Addr, error) { return us, nil }

// connection is a connection between us and them.
func connection(name string) *policy.Connection {
	left, right := ts.Set{ts.FromPrefix(netip.MustParsePrefix("192.0.1.0/24"))}, ts.Set{ts.FromPrefix(netip.MustParsePrefix("192.0.2.0/24"))}
	return &policy.Connection{
		Name: name, Auto: policy.AutoAdd, Position: "ipsec.conf:1",
		Left:     policy.End{Host: policy.Host{Addr: them}, ID: ident.Pattern{ID: ident.FromAddr(them)}, Subnets: left},
		Right:    policy.End{Host: policy.Host{Addr: us}, ID: ident.Pattern{ID: ident.FromAddr(us)}, Subnets: right},
		Children: []policy.Child{{Name: name, Left: left, Right: right}},
	}
}

// udp is the path of a stranger's datagram.
func udp(from string) path.Path {
	return path.Path{Local: netip.AddrPortFrom(us, 500), Remote: netip.MustParseAddrPort(from)}
}

func tcp(from string, generation uint64) path.Path {
	return path.Path{Local: netip.AddrPortFrom(us, 4500), Remote: netip.MustParseAddrPort(from), Kind: path.TCP, Generation: generation}
}

// header is the octets of a header with the given fields and no payload.
func header(h wire.Header) []byte {
	if h.MajorVersion == 0 {
		h.MajorVersion = 2
	}
	h.Length = wire.HeaderLen
	return h.AppendTo(nil)
}

// initRequest is an IKE_SA_INIT request with a nonce, and a cookie if there is one.
func initRequest(spi wire.SPI, cookie []byte) []byte {
	ni := make([]byte, 32)
	binary.BigEndian.PutUint64(ni, uint64(spi))
	m := wire.Message{Header: wire.Header{InitiatorSPI: spi, MajorVersion: 2, Exchange: iana.IKE_SA_INIT, Flags: wire.FlagInitiator}}
	if cookie != nil {
		m.Payloads = append(m.Payloads, wire.Item{Payload: wire.Notify{Notify: iana.COOKIE, Data: cookie}})
	}
	m.Payloads = append(m.Payloads, wire.Item{Payload: wire.Nonce{Data: ni}})
	return m.AppendTo(nil)
}

func notifyOf(t *testing.T, m wire.Message) wire.Notify {
	t.Helper()
	n, ok := wire.Get[wire.Notify](m.Payloads)
	if !ok {
		t.Fatalf("no notify in %+v", m)
	}
	return n
}

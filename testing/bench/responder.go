package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/ike/auth"
	"github.com/ikegod/ikegod/ike/engine"
	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/pkg/wire"
	"github.com/ikegod/ikegod/transport"
)

var gateway = netip.MustParseAddr("192.1.2.23")

// bed is an engine as responder, and initiators that are driven by hand so that their work is not measured.
type bed struct {
	engine  *engine.Engine
	secrets *auth.Store
	peer    policy.Connection // the initiators' side of the connection, but for the address
	replies chan transport.Datagram
	thread  atomic.Int64 // of the responder's only shard
	stop    func()
	serial  uint32
}

func newBed() (*bed, error) {
	b := &bed{replies: make(chan transport.Datagram, 4096)}
	b.secrets = auth.NewStore([]auth.Secret{{Key: []byte("a secret for everybody who is measured"), Position: "ipsec.secrets:1"}})
	d := &nowhere{}
	e, err := engine.New(engine.Options{Mux: b, Datapath: d, Secrets: b.secrets, Local: here{}, Shards: 1, Events: b.event})
	if err != nil {
		return nil, err
	}
	d.events = e.KernelEvent
	b.engine = e
	responder, initiator, err := connections()
	if err != nil {
		return nil, err
	}
	b.peer = initiator
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = e.Run(ctx) })
	b.stop = func() { cancel(); running.Wait() }
	return b, e.Apply(ctx, &policy.Set{Setup: policy.Setup{ListenUDP: true, UniqueIDs: true}, Connections: []*policy.Connection{responder}})
}

// event runs on the shard's goroutine: it stays on its thread from the first event on, so that the thread's CPU time is the responder's.
func (b *bed) event(event.Event) {
	if b.thread.Load() == 0 {
		runtime.LockOSThread()
		b.thread.Store(int64(unix.Gettid()))
	}
}

// cpu is the CPU time of the responder's thread.
func (b *bed) cpu() (time.Duration, error) {
	const perThread, sched = 4, 2 // the clock of a thread: clock_getcpuclockid(3)
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^b.thread.Load()<<3|perThread|sched), &ts); err != nil {
		return 0, fmt.Errorf("the CPU clock of thread %d: %w", b.thread.Load(), err)
	}
	return time.Duration(ts.Nano()), nil
}

// connections are the template of the responder, and what the initiators' connections are made of.
func connections() (*policy.Connection, policy.Connection, error) {
	ike, err1 := suite.ParseIKE("aes_gcm128-sha2_256-dh31")
	esp, err2 := suite.ParseESP("aes_gcm128", []iana.SN{iana.SN_ESN})
	east, err3 := ident.Parse("@east")
	left, err4 := ts.Parse("10.0.0.0/8")
	right, err5 := ts.Parse("192.0.2.0/24")
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, policy.Connection{}, err
	}
	c := policy.Connection{
		Name: "bench", IKE: ike, Auto: policy.AutoAdd, Narrowing: true,
		Left:       policy.End{Host: policy.Host{Kind: policy.HostAny}, ID: ident.Pattern{Any: true}, Auth: iana.AuthSharedKey, Subnets: ts.Set{left}},
		Right:      policy.End{Host: policy.Host{Addr: gateway}, ID: ident.Pattern{ID: east}, Auth: iana.AuthSharedKey, Subnets: ts.Set{right}},
		Children:   []policy.Child{{Name: "bench", ESP: esp, Left: ts.Set{left}, Right: ts.Set{right}, ReplayWindow: 128}},
		Retransmit: policy.Retransmit{Interval: 500 * time.Millisecond, Timeout: 30 * time.Second},
	}
	return &c, c, nil
}

// oriented is the connection as the initiator at addr has it: it is known by its address, and protects that alone.
func (b *bed) oriented(addr netip.Addr) *policy.Oriented {
	c := b.peer
	c.Left.Host, c.Left.ID = policy.Host{Addr: addr}, ident.Pattern{}
	mine := ts.Set{ts.FromPrefix(netip.PrefixFrom(addr, 32))}
	child := c.Children[0]
	child.Left, c.Left.Subnets = mine, mine
	c.Children = []policy.Child{child}
	return &policy.Oriented{Connection: &c, Local: &c.Left, Remote: &c.Right, LocalAddr: addr, RemoteAddr: gateway, LeftIsLocal: true}
}

// initiator is one peer.
type initiator struct {
	b  *bed
	m  *machine.Machine
	up bool
	in []machine.Input
}

// run establishes n IKE SAs with a Child SA each, at most inFlight at a time.
func (b *bed) run(n int) error {
	live := map[netip.Addr]*initiator{}
	started, established := 0, 0
	timeout := time.After(time.Minute)
	for established < n {
		for started < n && len(live) < inFlight {
			addr, i, err := b.start()
			if err != nil {
				return err
			}
			live[addr] = i
			started++
		}
		select {
		case d := <-b.replies:
			i := live[d.Path.Local.Addr()]
			if i == nil {
				continue
			}
			if err := i.step(machine.Datagram{Path: d.Path, Data: d.Data}); err != nil {
				return err
			}
			if i.up {
				delete(live, d.Path.Local.Addr())
				established++
			}
		case <-timeout:
			return fmt.Errorf("%d of %d IKE SAs after a minute: %+v", established, n, b.engine.Stats())
		}
	}
	return nil
}

func (b *bed) start() (netip.Addr, *initiator, error) {
	b.serial++
	addr := netip.AddrFrom4([4]byte{10, byte(b.serial >> 16), byte(b.serial >> 8), byte(b.serial)})
	var spi [8]byte
	if _, err := rand.Read(spi[:]); err != nil {
		return addr, nil, err
	}
	i := &initiator{b: b}
	i.m = machine.NewInitiator(machine.Config{SPI: wire.SPI(binary.BigEndian.Uint64(spi[:])), Rand: rand.Reader}, b.oriented(addr), []int{0})
	p := path.Path{Local: netip.AddrPortFrom(addr, iana.PortIKE), Remote: netip.AddrPortFrom(gateway, iana.PortIKE), Kind: path.UDP}
	return addr, i, i.step(machine.Start{Path: p})
}

// step does what an engine would do for an initiator.
func (i *initiator) step(in machine.Input) error {
	i.in = append(i.in, in)
	for len(i.in) > 0 {
		next := i.in[0]
		i.in = i.in[1:]
		for _, ef := range i.m.Step(time.Now(), next) {
			if err := i.exec(ef); err != nil {
				return err
			}
		}
	}
	return nil
}

func (i *initiator) exec(ef machine.Effect) error {
	switch ef := ef.(type) {
	case machine.Send:
		p := path.Path{Local: ef.Path.Remote, Remote: ef.Path.Local, Kind: path.UDP}
		for !i.b.engine.IKE(transport.Datagram{Path: p, Data: ef.Data, At: time.Now()}) {
			runtime.Gosched()
		}
	case machine.Job:
		var data []byte
		var err error
		if ef.Finish != nil {
			data, err = ef.Finish.Exchange.Finish(ef.Finish.Reply)
		} else {
			data, err = i.b.secrets.Do(ef)
		}
		i.in = append(i.in, machine.JobDone{ID: ef.ID, Data: data, Err: err})
	case machine.ReserveSPI:
		i.b.serial++
		i.in = append(i.in, machine.SPIReserved{Child: ef.Child, SPI: 0x1000 + i.b.serial})
	case machine.Install:
		i.in = append(i.in, machine.InstallDone{Child: ef.Child})
		i.up = true
	case machine.Close:
		return fmt.Errorf("an initiator failed: %v", ef.Close.Error())
	}
	return nil
}

// Send implements transport.Mux: the responder's replies.
func (b *bed) Send(p path.Path, parts ...[]byte) error {
	var data []byte
	for _, part := range parts {
		data = append(data, part...)
	}
	b.replies <- transport.Datagram{Path: path.Path{Local: p.Remote, Remote: p.Local, Kind: p.Kind}, Data: data}
	return nil
}

func (b *bed) SendESP(path.Path, []byte, int) error { return transport.ErrNoPath }
func (b *bed) Dial(context.Context, netip.Addr, netip.AddrPort) (path.Path, error) {
	return path.Path{}, transport.ErrNoPath
}

func (b *bed) UDPPath(netip.Addr, uint16, netip.AddrPort) (path.Path, error) {
	return path.Path{}, transport.ErrNoPath
}
func (b *bed) CloseStream(path.Path)              {}
func (b *bed) Own(path.Path)                      {}
func (b *bed) Resume(path.Path)                   {}
func (b *bed) KeepAlive(path.Path, time.Duration) {}

// here is a host with the gateway's address.
type here struct{}

func (here) IsLocal(a netip.Addr) bool                          { return a == gateway }
func (here) DefaultSource(netip.Addr) (netip.Addr, error)       { return gateway, nil }
func (here) AddrInside(netip.Prefix) (a netip.Addr, found bool) { return }

// nowhere is a datapath that keeps nothing: what is measured is IKE.
type nowhere struct {
	events func(kernel.Event)
	spi    atomic.Uint32
}

func (n *nowhere) done(r kernel.Request, spi kernel.SPI) { n.events(kernel.Done{Request: r, SPI: spi}) }

func (n *nowhere) Features() kernel.Features {
	return kernel.Features{Name: "nowhere", UDP: true, ESN: true}
}
func (n *nowhere) Route(r kernel.Request, _ kernel.Policy)     { n.done(r, 0) }
func (n *nowhere) Unroute(r kernel.Request, _ kernel.PolicyID) { n.done(r, 0) }
func (n *nowhere) ReserveSPI(r kernel.Request, _ kernel.Endpoints) {
	n.done(r, kernel.SPI(0x1000+n.spi.Add(1)))
}
func (n *nowhere) Install(r kernel.Request, p kernel.SAPair)               { n.done(r, p.In.SPI) }
func (n *nowhere) Move(r kernel.Request, s kernel.SPI, _ kernel.Endpoints) { n.done(r, s) }
func (n *nowhere) Remove(r kernel.Request, _ ...kernel.SPI)                { n.done(r, 0) }
func (n *nowhere) Usage(s ...kernel.SPI) []kernel.Usage                    { return make([]kernel.Usage, len(s)) }
func (n *nowhere) Close() error                                            { return nil }

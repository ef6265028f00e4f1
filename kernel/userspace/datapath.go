// Package userspace is the datapath that carries ESP itself: packets from a TUN are sealed and sent over UDP, TCP or raw sockets, packets from the
// sockets are opened and written to the TUN.
//
// One goroutine for each queue of the TUN carries packets out, and the goroutines that read sockets carry packets in; each runs to completion.
// They share policies and SAs with one control goroutine, which replaces immutable values behind atomic pointers, so that no packet waits for a lock.
package userspace

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
)

// Sender sends sealed packets; transport.Mux does. On UDP and plain ESP buf holds packets of segmentSize octets each, the last may be shorter; on a stream it
// holds whole frames, each with its length. It must not keep buf, nor block on a peer.
type Sender interface {
	SendESP(p path.Path, buf []byte, segmentSize int) error
}

// Pressure may be implemented by a Sender whose paths have queues: RoomESP reports whether the path's has room. Where there is none, the datapath
// leaves packets with the kernel for a while, which holds back their senders, instead of having them dropped.
type Pressure interface {
	RoomESP(p path.Path) bool
}

// Host is what the datapath needs from the machine around it: kernel/hostnet does it. Only the control goroutine calls it, where nothing else is said.
type Host interface {
	// Route leads the policy's traffic to the TUN, or keeps it away from it; mtu zero sets none. It replaces what it did for the same ID.
	Route(p kernel.Policy, mtu int) error
	// Unroute takes that away. An unknown ID is no error.
	Unroute(id kernel.PolicyID) error
	// PathMTU is the MTU towards a peer; zero if it is not known.
	PathMTU(local, remote netip.Addr) int
	// ClearDropped is the number of packets from the network that were dropped because they claim in clear what a policy protects. Any goroutine.
	ClearDropped() (uint64, error)
	// Sweep takes away what an earlier daemon left, which held traffic back until the policies of this one were in place. Any goroutine.
	Sweep() error
	// Notes says what this machine lacks, one sentence each.
	Notes() []string
	// Close takes all away.
	Close() error
}

// Config of a Datapath.
type Config struct {
	// Name of the TUN; empty: "ikegod0".
	Name string
	// Queues of the TUN, each with a goroutine of its own; zero: 1. More than one lets several outbound flows use several cores.
	Queues int
	// NewHost makes the Host once the TUN is there, given its name. nil: no routes, the caller makes them.
	NewHost func(tun string) (Host, error)
	// SPIs come from this range, so that several datapaths of one machine share the space; zero: 0xc0000000 to 0xffffffff.
	MinSPI, MaxSPI kernel.SPI
	// PlainESP says that the Sender carries plain ESP (IP protocol 50) too.
	PlainESP bool
	// Notes are for the operator, beside those of the Host: what is missing and what it means, a sentence each.
	Notes []string
	// Rand is the source of SPIs; nil: crypto/rand.
	Rand io.Reader
	// Notice takes what an operator must know at once, a sentence each. It must not block. May be nil.
	Notice func(text string)
	// LinkMTU is assumed where the Host does not know the path's; zero: 1500.
	LinkMTU int
}

// Datapath implements kernel.Datapath over a TUN.
type Datapath struct {
	// Constant after New.
	cfg      Config
	sender   Sender
	events   func(kernel.Event)
	host     Host
	queues   []queue
	uso      bool
	features kernel.Features

	// Read without locks, written by the control goroutine.
	policies policies
	spis     spiTable
	epoch    atomic.Uint64 // changes with policies and SAs: what was remembered before is void
	// Between these hosts there are SAs in transport mode. nil: none.
	transports atomic.Pointer[map[hostPair]int]

	fragments reassembly // from this host, for SAs in transport mode
	arrived   reassembly // out of tunnels
	ways      ways
	waiting   waiting
	receivers sync.Pool
	drops     drops
	closed    atomic.Bool
	workers   sync.WaitGroup

	control controller
}

var _ kernel.Datapath = (*Datapath)(nil)

// New opens the TUN and starts carrying. events must not block; it is called on several goroutines.
func New(cfg Config, sender Sender, events func(kernel.Event)) (*Datapath, error) {
	if cfg.Name == "" {
		cfg.Name = "ikegod0"
	}
	cfg.Queues = min(max(cfg.Queues, 1), maxQueues)
	queues, uso, err := openTUN(cfg.Name, cfg.Queues)
	if err != nil {
		return nil, fmt.Errorf("userspace datapath: %w", err)
	}
	d := newDatapath(cfg, sender, events, queues, uso)
	if cfg.NewHost != nil {
		if d.host, err = cfg.NewHost(cfg.Name); err != nil {
			err = fmt.Errorf("userspace datapath: %w", err)
			return nil, errors.Join(err, closeQueues(queues))
		}
		d.features.Notes = append(d.features.Notes, d.host.Notes()...)
	}
	d.start()
	return d, nil
}

// newDatapath makes a Datapath around queues that are open already.
func newDatapath(cfg Config, sender Sender, events func(kernel.Event), queues []queue, uso bool) *Datapath {
	if cfg.MinSPI < 256 { // 1 to 255 are reserved (RFC 4303 2.1)
		cfg.MinSPI = 0xc0000000
	}
	if cfg.MaxSPI < cfg.MinSPI {
		cfg.MaxSPI = 0xffffffff
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.LinkMTU == 0 {
		cfg.LinkMTU = 1500
	}
	if cfg.Notice == nil {
		cfg.Notice = func(string) {}
	}
	if events == nil {
		events = func(kernel.Event) {}
	}
	d := &Datapath{
		cfg: cfg, sender: sender, events: events, queues: queues, uso: uso,
		features: kernel.Features{
			Name: "userspace", UDP: true, TCP: true, PlainESP: cfg.PlainESP, Transport: true, ESN: true, MoveCarrier: true, Waits: true, Notes: slices.Clone(cfg.Notes),
		},
	}
	d.receivers.New = func() any { return new(receiver) }
	d.fragments.life, d.arrived.life = fragmentLife, arrivalLife
	d.policies.init()
	d.waiting.init()
	d.epoch.Store(1)
	d.control.init(d)
	return d
}

func (d *Datapath) start() {
	for _, q := range d.queues {
		w := newWorker(d, q)
		d.workers.Go(w.run)
	}
	go d.control.run()
}

// Features implements kernel.Datapath.
func (d *Datapath) Features() kernel.Features { return d.features }

// Usage implements kernel.Datapath.
func (d *Datapath) Usage(spis ...kernel.SPI) []kernel.Usage {
	out := make([]kernel.Usage, len(spis))
	for i, spi := range spis {
		if p := d.spis.get(spi); p != nil {
			out[i] = p.usage()
		}
	}
	return out
}

// Sweep takes away what an earlier process left behind, once the policies that were loaded are in place.
func (d *Datapath) Sweep() error {
	if d.host == nil {
		return nil
	}
	return d.host.Sweep()
}

// Close implements kernel.Datapath. Requests under way complete with an error first.
func (d *Datapath) Close() error {
	if d.closed.Swap(true) {
		return nil
	}
	d.control.stop()
	for _, q := range d.queues {
		q.interrupt()
	}
	d.workers.Wait()
	var err error
	if d.host != nil {
		err = d.host.Close()
	}
	return errors.Join(err, closeQueues(d.queues))
}

func closeQueues(queues []queue) error {
	var errs []error
	for _, q := range queues {
		errs = append(errs, q.close())
	}
	return errors.Join(errs...)
}

package userspace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
)

// controller carries out requests one after the other on its own goroutine: they complete in the order in which they were made, and no caller
// waits for the kernel. The queue holds what IKE has asked for and not yet heard of, which the number of its SAs bounds.
type controller struct {
	d    *Datapath
	done chan struct{} // closed when run has ended

	mu      sync.Mutex // guards pending and stopped
	wake    sync.Cond
	pending []func()
	stopped bool

	// The control goroutine's.
	reserved map[kernel.SPI]bool
	pairs    map[kernel.SPI]*pair
	mtus     map[kernel.PolicyID]int // as routed
	sender   *worker                 // of what has waited; nil until something has
}

var errClosed = errors.New("the datapath is closed")

func (c *controller) init(d *Datapath) {
	c.d, c.done = d, make(chan struct{})
	c.wake.L = &c.mu
	c.reserved, c.pairs, c.mtus = map[kernel.SPI]bool{}, map[kernel.SPI]*pair{}, map[kernel.PolicyID]int{}
}

// run carries out requests until stop, and those that were made before it.
func (c *controller) run() {
	defer close(c.done)
	for {
		c.mu.Lock()
		for len(c.pending) == 0 && !c.stopped {
			c.wake.Wait()
		}
		batch := c.pending
		c.pending = nil
		c.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for _, do := range batch {
			do()
		}
	}
}

func (c *controller) stop() {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	c.wake.Signal()
	<-c.done
}

// request queues do, whose result completes r.
func (c *controller) request(r kernel.Request, spi kernel.SPI, do func(*kernel.Done)) {
	c.mu.Lock()
	stopped := c.stopped
	if !stopped {
		c.pending = append(c.pending, func() {
			done := kernel.Done{Request: r, SPI: spi}
			if c.d.closed.Load() {
				done.Err = errClosed
			} else {
				do(&done)
			}
			c.d.events(done)
		})
	}
	c.mu.Unlock()
	if stopped {
		c.d.events(kernel.Done{Request: r, SPI: spi, Err: errClosed})
		return
	}
	c.wake.Signal()
}

// Route implements kernel.Datapath.
func (d *Datapath) Route(r kernel.Request, p kernel.Policy) {
	d.control.request(r, 0, func(done *kernel.Done) { done.Err = d.control.route(p) })
}

// Unroute implements kernel.Datapath.
func (d *Datapath) Unroute(r kernel.Request, id kernel.PolicyID) {
	d.control.request(r, 0, func(done *kernel.Done) { done.Err = d.control.unroute(id) })
}

// ReserveSPI implements kernel.Datapath.
func (d *Datapath) ReserveSPI(r kernel.Request, _ kernel.Endpoints) {
	d.control.request(r, 0, func(done *kernel.Done) { done.SPI, done.Err = d.control.reserve() })
}

// Install implements kernel.Datapath.
func (d *Datapath) Install(r kernel.Request, sa kernel.SAPair) {
	d.control.request(r, sa.In.SPI, func(done *kernel.Done) { done.Err = d.control.install(sa) })
}

// Move implements kernel.Datapath.
func (d *Datapath) Move(r kernel.Request, spi kernel.SPI, e kernel.Endpoints) {
	d.control.request(r, spi, func(done *kernel.Done) { done.Err = d.control.move(spi, e) })
}

// Remove implements kernel.Datapath.
func (d *Datapath) Remove(r kernel.Request, spis ...kernel.SPI) {
	d.control.request(r, 0, func(*kernel.Done) { d.control.remove(spis) })
}

// needsKernel is said of a keyword that the userspace datapath cannot do.
const needsKernel = "needs the kernel's IPsec: start ikegod with --backend xfrm (ikectl doctor says whether this kernel has it), or remove it from the connection"

func (c *controller) route(p kernel.Policy) error {
	if len(p.Local) == 0 || len(p.Remote) == 0 {
		return fmt.Errorf("route %s: selectors are missing", p.ID)
	}
	if word := p.OnlyXFRM(); word != "" {
		return fmt.Errorf("route %s: %s %s", p.ID, word, needsKernel)
	}
	mtu, old := p.MTU, c.d.policies.byID[p.ID]
	if old != nil && mtu == 0 {
		mtu = c.mtus[p.ID]
	}
	c.d.ways.count(&p, 1) // before the guard knows it
	// Host first: if it fails nothing has changed. A packet that comes before the policy is in the table finds none, and is dropped.
	if c.d.host != nil {
		if err := c.d.host.Route(p, mtu); err != nil {
			c.d.ways.count(&p, -1)
			return fmt.Errorf("route %s: %w", p.ID, err)
		}
	}
	if old != nil {
		c.d.ways.count(&old.policy, -1)
	}
	c.d.policies.put(p)
	c.mtus[p.ID] = mtu
	c.d.epoch.Add(1)
	if p.Action == kernel.Pass || p.Action == kernel.Reject { // Drop is what negotiationshunt= says to others until there is an SA
		c.d.giveUp(p.ID)
	}
	return nil
}

func (c *controller) unroute(id kernel.PolicyID) error {
	var err error
	if c.d.host != nil {
		err = c.d.host.Unroute(id) // while the policy is still there to catch what comes
	}
	if old := c.d.policies.byID[id]; old != nil {
		c.d.ways.count(&old.policy, -1)
	}
	c.d.policies.drop(id)
	delete(c.mtus, id)
	c.d.epoch.Add(1)
	c.d.giveUp(id)
	if err != nil {
		return fmt.Errorf("unroute %s: %w", id, err)
	}
	return nil
}

func (c *controller) reserve() (kernel.SPI, error) {
	span := uint64(c.d.cfg.MaxSPI-c.d.cfg.MinSPI) + 1
	if uint64(len(c.reserved)+len(c.pairs))*2 >= span {
		return 0, fmt.Errorf("reserve SPI: more than half of the %d SPIs of this datapath are in use", span)
	}
	for {
		var b [8]byte
		if _, err := io.ReadFull(c.d.cfg.Rand, b[:]); err != nil {
			return 0, fmt.Errorf("reserve SPI: %w", err)
		}
		spi := c.d.cfg.MinSPI + kernel.SPI(binary.BigEndian.Uint64(b[:])%span)
		if !c.reserved[spi] && c.pairs[spi] == nil {
			c.reserved[spi] = true
			return spi, nil
		}
	}
}

func (c *controller) install(sa kernel.SAPair) error {
	in := sa.In.SPI
	r := c.d.policies.byID[sa.Policy]
	switch {
	case r == nil:
		return fmt.Errorf("install SA %#x: policy %q is not routed", uint32(in), sa.Policy)
	case in < 256 || sa.Out.SPI < 256:
		return fmt.Errorf("install SA %#x: SPIs below 256 are reserved (RFC 4303 2.1), found in %#x and out %#x", uint32(in), uint32(in), uint32(sa.Out.SPI))
	case c.pairs[in] != nil:
		return fmt.Errorf("install SA %#x: the SPI is in use", uint32(in))
	case len(sa.Local) == 0 || len(sa.Remote) == 0:
		return fmt.Errorf("install SA %#x: selectors are missing", uint32(in))
	}
	if word := sa.OnlyXFRM(); word != "" {
		return fmt.Errorf("install SA %#x: %s %s", uint32(in), word, needsKernel)
	}
	if err := c.carries(sa.Endpoints.Path); err != nil {
		return fmt.Errorf("install SA %#x: %w", uint32(in), err)
	}
	p, err := newPair(sa, func() { c.d.events(kernel.SoftExpire{SPI: in}) })
	if err != nil {
		return fmt.Errorf("install SA %#x: %w", uint32(in), err)
	}
	c.point(p, r, sa.Endpoints.Path)
	if err := c.routeMTU(r, p); err != nil {
		return fmt.Errorf("install SA %#x: %w", uint32(in), err)
	}
	delete(c.reserved, in)
	c.pairs[in] = p
	c.countTransport(p, 1)
	c.d.spis.set(in, p) // inbound first: the peer may answer what goes out
	r.attach(p)
	c.d.epoch.Add(1)
	c.release(sa.Policy)
	return nil
}

// carries says why nothing can be sent on a path's carrier.
func (c *controller) carries(p path.Path) error {
	if p.Kind == path.ESP && !c.d.cfg.PlainESP {
		return fmt.Errorf("the way to %s is plain ESP, which this daemon has no sockets for; set encapsulation=yes", p.Peer())
	}
	return nil
}

// point sets where a pair sends.
func (c *controller) point(p *pair, r *route, to path.Path) {
	link := 0
	if c.d.host != nil {
		link = c.d.host.PathMTU(to.Local.Addr(), to.Remote.Addr())
	}
	if link == 0 {
		link = c.d.cfg.LinkMTU
	}
	mtu := p.innerMTU(to, link)
	if r != nil && r.policy.MTU > 0 {
		mtu = min(r.policy.MTU, p.out.MaxPlain(largestESP))
	}
	p.heard.Store(&to)
	p.end.Store(&endpoint{path: to, mtu: mtu})
}

// routeMTU tells the kernel the MTU of a policy's newest pair.
func (c *controller) routeMTU(r *route, p *pair) error {
	mtu := p.end.Load().mtu
	if c.d.host == nil || c.mtus[r.policy.ID] == mtu {
		return nil
	}
	if err := c.d.host.Route(r.policy, mtu); err != nil {
		return err
	}
	c.mtus[r.policy.ID] = mtu
	return nil
}

func (c *controller) move(spi kernel.SPI, e kernel.Endpoints) error {
	p := c.pairs[spi]
	if p == nil {
		return fmt.Errorf("move SA %#x to %s: no such SA", uint32(spi), e.Path)
	}
	if err := c.carries(e.Path); err != nil {
		return fmt.Errorf("move SA %#x: %w", uint32(spi), err)
	}
	r := c.d.policies.byID[p.sa.Policy]
	c.point(p, r, e.Path)
	if r == nil {
		return nil
	}
	if pairs := r.pairs.Load(); pairs == nil || len(*pairs) == 0 || (*pairs)[0] != p {
		return nil
	}
	return c.routeMTU(r, p)
}

func (c *controller) remove(spis []kernel.SPI) {
	for _, spi := range spis {
		delete(c.reserved, spi)
		p := c.pairs[spi]
		if p == nil {
			continue
		}
		if r := c.d.policies.byID[p.sa.Policy]; r != nil {
			r.detach(p) // outbound first
		}
		c.d.spis.set(spi, nil)
		c.countTransport(p, -1)
		delete(c.pairs, spi)
	}
	c.d.epoch.Add(1)
}

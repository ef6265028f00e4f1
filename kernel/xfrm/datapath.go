// Package xfrm is the datapath in the Linux kernel: SAs and policies of XFRM, by netlink.
//
// One worker goroutine owns all that the daemon knows about the kernel and makes the requests, so that they complete in the order in which they were made; a
// second one listens to the kernel's messages and hands them to the worker.
package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/xfrm/message"
	"github.com/ikegod/ikegod/pkg/suite"
)

// Config of a Datapath. The network namespace is that of the thread which calls New.
type Config struct {
	// RunDir is the daemon's run directory. A small file in it holds the numbers that this daemon's SAs and policies have, so that the next one finds what
	// a crash left behind. Empty: nothing is kept and nothing found.
	RunDir string
	// UDP, TCP and ESP are the carriers that may be used: those that the kernel has, and whose sockets are prepared for it (UDP_ENCAP, espintcp).
	UDP, TCP, ESP bool
	// SPIs come from this range, so that several datapaths of one machine share the space; zero: 0x10000000 to 0xbfffffff.
	MinSPI, MaxSPI kernel.SPI
	// OutputMark is put on the packets that SAs make; zero: the ID of the policy's Interface, if it has one.
	OutputMark kernel.Mark
	// Mark is that of the daemon's own sockets: what leads packets to a TUN, also of an earlier daemon, is not the way to a peer.
	Mark uint32
	// Lacks is the algorithms that the kernel does not have.
	Lacks suite.Lacking
	// Notes are for the operator: what is missing and what it means, a sentence each.
	Notes []string
	// Notice takes what an operator must know at once, a sentence each. It must not block. May be nil.
	Notice func(text string)
	// Left takes what an earlier daemon had left in the kernel and what has become of it, a sentence each. It must not block. May be nil.
	Left func(text string)
}

// Datapath implements kernel.Datapath on NETLINK_XFRM.
type Datapath struct {
	// Constant after New.
	cfg      Config
	events   func(kernel.Event)
	features kernel.Features
	conn     *conn     // the worker's
	counters *conn     // for Usage, which does not wait for the worker
	news     *listener // the kernel's messages
	larval   *larvalDrop
	requests *requests
	// directed: the kernel knows the direction of an SA (from 6.10 on), and then wants no window on an outbound one.
	directed bool

	mu    sync.Mutex // guards usage
	usage map[kernel.SPI]counted

	reqids sync.Map // kernel.PolicyID -> uint32, for Reqid

	renewing atomic.Bool // a renewal of the source routes is queued

	worker worker
}

// worker is what the worker goroutine owns.
type worker struct {
	d     *Datapath
	share *share
	// restoring: a timer is set to look for policies that others have removed.
	restoring bool
	swept     bool // the policies of this daemon have taken the place of those that an earlier one has left
	spd       *spd
	links     *links
	sources   *sources
	routes    map[kernel.PolicyID]*route
	byReqid   map[uint32]*route
	reserved  map[kernel.SPI]message.SAID
	pairs     map[kernel.SPI]*pair
	outbound  map[outID]*pair // installed outbound SAs

	restored, unrestored, stripped seldom // what others have done was told
}

// outID tells outbound SAs apart, as the kernel does.
type outID struct {
	dst netip.Addr
	spi uint32
}

var _ kernel.Datapath = (*Datapath)(nil)

// firstSPI to lastSPI is where SPIs come from, unless Config says something else.
const firstSPI, lastSPI = 0x10000000, 0xbfffffff

// New opens the sockets, removes the SAs that an earlier daemon with this RunDir has left behind, and starts. The policies of that one hold traffic back until Sweep. events must not block; it is called on several goroutines.
func New(cfg Config, events func(kernel.Event)) (*Datapath, error) {
	if cfg.MinSPI < 256 { // 1 to 255 are reserved (RFC 4303 2.1)
		cfg.MinSPI = firstSPI
	}
	if cfg.MaxSPI < cfg.MinSPI {
		cfg.MaxSPI = lastSPI
	}
	if cfg.Notice == nil {
		cfg.Notice = func(string) {}
	}
	if cfg.Left == nil {
		cfg.Left = func(string) {}
	}
	d := &Datapath{
		cfg: cfg, events: withTypes(events), requests: newRequests(events), usage: map[kernel.SPI]counted{},
		features: kernel.Features{
			Name: "xfrm", UDP: cfg.UDP, TCP: cfg.TCP, PlainESP: cfg.ESP, Transport: true, ESN: true, Lacks: cfg.Lacks, Notes: slices.Clone(cfg.Notes),
		},
	}
	if err := d.open(); err != nil {
		err = errors.Join(err, d.larval.close())
		d.closeSockets()
		return nil, fmt.Errorf("xfrm datapath: %w", err)
	}
	go d.requests.run()
	go d.news.run()
	return d, nil
}

func (d *Datapath) open() (err error) {
	if d.conn, err = dial(); err != nil {
		return err
	}
	if d.counters, err = dial(); err != nil {
		return err
	}
	s, left, err := claimShare(d.conn, d.cfg.RunDir, d.cfg.Notice)
	if err != nil {
		return err
	}
	d.worker.share = s
	removed, err := left.removeSAs(d.conn)
	if err != nil {
		return err
	}
	links, err := openLinks(d.cfg.RunDir)
	if err != nil {
		return err
	}
	d.worker = worker{
		d: d, share: s, spd: newSPD(d.conn, s), links: links, sources: newSources(links.handle, s, d.cfg.Mark), routes: map[kernel.PolicyID]*route{}, byReqid: map[uint32]*route{},
		reserved: map[kernel.SPI]message.SAID{}, pairs: map[kernel.SPI]*pair{}, outbound: map[outID]*pair{},
	}
	d.worker.spd.adopt(left.policies)
	if err := d.worker.sources.adopt(); err != nil {
		return fmt.Errorf("look for routes that an earlier daemon has left: %w", err)
	}
	for _, text := range []string{left.found(removed), links.found()} {
		if text != "" {
			d.cfg.Left(text)
		}
	}
	if d.directed, err = knowsDirection(d.conn, s.firstReqid()); err != nil {
		return err
	}
	if d.news, err = listen(d); err != nil {
		return err
	}
	return d.letWait(s)
}

// letWait lets packets wait for their SA. Where that cannot be had it says so, and goes on.
func (d *Datapath) letWait(s *share) (err error) {
	if d.larval, err = keepLarval(s.larvalDrop); err != nil {
		d.features.Notes = append(d.features.Notes, err.Error())
	}
	d.features.Waits = err == nil
	if s.larvalDrop == d.larval.was || d.cfg.RunDir == "" {
		return nil
	}
	s.larvalDrop = d.larval.was
	return s.write(d.cfg.RunDir)
}

func (d *Datapath) closeSockets() {
	for _, c := range []*conn{d.conn, d.counters} {
		if c != nil {
			c.close()
		}
	}
	if d.worker.links != nil {
		d.worker.links.handle.Close()
	}
	if d.worker.share != nil {
		d.worker.share.unclaim()
	}
}

// Features implements kernel.Datapath.
func (d *Datapath) Features() kernel.Features { return d.features }

// Route implements kernel.Datapath.
func (d *Datapath) Route(r kernel.Request, p kernel.Policy) {
	d.requests.request(r, 0, func(done *kernel.Done) { done.Err = d.worker.route(p) })
}

// Unroute implements kernel.Datapath.
func (d *Datapath) Unroute(r kernel.Request, id kernel.PolicyID) {
	d.requests.request(r, 0, func(done *kernel.Done) { done.Err = d.worker.unroute(id) })
}

// ReserveSPI implements kernel.Datapath.
func (d *Datapath) ReserveSPI(r kernel.Request, e kernel.Endpoints) {
	d.requests.request(r, 0, func(done *kernel.Done) { done.SPI, done.Err = d.worker.reserve(e) })
}

// Install implements kernel.Datapath.
func (d *Datapath) Install(r kernel.Request, sa kernel.SAPair) {
	d.requests.request(r, sa.In.SPI, func(done *kernel.Done) { done.Err = d.worker.install(sa) })
}

// Move implements kernel.Datapath.
func (d *Datapath) Move(r kernel.Request, spi kernel.SPI, e kernel.Endpoints) {
	d.requests.request(r, spi, func(done *kernel.Done) { done.Err = d.worker.move(spi, e) })
}

// Remove implements kernel.Datapath.
func (d *Datapath) Remove(r kernel.Request, spis ...kernel.SPI) {
	d.requests.request(r, 0, func(done *kernel.Done) { done.Err = d.worker.remove(spis) })
}

// Close implements kernel.Datapath. Requests under way complete with an error first.
func (d *Datapath) Close() error {
	if !d.requests.close() {
		return nil
	}
	d.news.close()
	kept := d.worker.keepsLeft()
	err := errors.Join(d.worker.close(), d.larval.close())
	if d.cfg.RunDir != "" && err == nil && !kept {
		err = forgetShare(d.cfg.RunDir)
	}
	d.closeSockets()
	return err
}

// keepsLeft reports whether what an earlier daemon has left is to stay.
func (w *worker) keepsLeft() bool {
	return !w.swept && (w.spd.hasLeft() || w.sources.hasLeft() || w.links.hasLeft())
}

// close takes all away, but for what an earlier daemon has left if this one has not taken over: outbound SAs first, so that nothing is sealed that no policy asks for.
func (w *worker) close() error {
	var errs []error
	for _, p := range w.pairs {
		errs = append(errs, w.deletePair(p))
	}
	for spi, id := range w.reserved {
		errs = append(errs, w.deleteSA(id, spi))
	}
	return errors.Join(append(errs, w.spd.close(!w.swept), w.forgetKeyless(func(uint32) bool { return true }), w.links.close(!w.swept), w.sources.close(!w.swept))...)
}

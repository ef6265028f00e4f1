// Package udp carries IKE and ESP over UDP: ports 500 and 4500, the non-ESP marker, replies from the address asked, batches, NAT keepalives.
package udp

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
	"github.com/ikegod/ikegod/transport/socket"
)

// The well-known ports (RFC 7296 2, 2.23).
const (
	IKEPort  = 500
	NATTPort = 4500
)

// Port is one local port. On a port with Marker, messages of IKE follow four zero octets and everything else is ESP (RFC 3948 2.2, 2.3); without, it
// carries IKE only. Number 0 lets the system choose one, for tests.
type Port struct {
	Number uint16
	Marker bool
	Ours   bool // its ESP is read here although Config.Encap leaves that of others to the kernel
}

// Config says where to listen. Its zero value is ports 500 and 4500 of every address.
type Config struct {
	Addrs   []netip.Addr                // empty: every address
	Ports   []Port                      // empty: 500, and 4500 with marker
	Prepare func(syscall.RawConn) error // called before bind, to set SO_MARK and the like; may be nil
	Encap   func(syscall.RawConn) error // called before bind for ports with Marker: leaves their ESP to the kernel; nil: ESP is read here
	Meter   *transport.Meter            // nil: a private one
	Notices *transport.Notices
}

// Transport is the UDP sockets. Its methods are safe for concurrent use.
type Transport struct {
	// sockets is replaced, never changed: senders read it without a lock. Who replaces it holds opening.
	sockets atomic.Pointer[[]*bound]
	opening sync.Mutex
	started bool // guarded by opening
	// constant after Listen
	addrs   []netip.Addr
	prepare func(syscall.RawConn) error
	encap   func(syscall.RawConn) error
	meter   *transport.Meter
	notices *transport.Notices
	alive   *keepAlives
	// constant after Start
	handler     transport.Handler
	unreachable transport.UnreachableHandler // nil: the handler does not want to know
	esp         transport.ESPHandler

	closed atomic.Bool
	done   chan struct{} // closed with closed
	wg     sync.WaitGroup
}

// Listen binds the sockets. IPv4 is required, IPv6 is used where the system has it. Nothing is read before Start.
func Listen(c Config) (*Transport, error) {
	t := &Transport{addrs: c.Addrs, prepare: c.Prepare, encap: c.Encap, meter: c.Meter, notices: c.Notices, done: make(chan struct{})}
	if t.meter == nil {
		t.meter = new(transport.Meter)
	}
	t.sockets.Store(new([]*bound))
	ports := c.Ports
	if len(ports) == 0 {
		ports = []Port{{Number: IKEPort}, {Number: NATTPort, Marker: true}}
	}
	for _, port := range ports {
		list, err := t.openAll(port, "another IKE daemon (such as pluto or charon) holds it; stop it, or set listen-udp=no")
		if err != nil {
			t.closeSockets()
			return nil, err
		}
		t.add(list)
	}
	t.alive = newKeepAlives(t)
	return t, nil
}

// Start begins to read. h and esp get what arrives; esp may be nil as long as there is no datapath: ESP is then dropped and counted.
func (t *Transport) Start(h transport.Handler, esp transport.ESPHandler) {
	t.handler, t.esp = h, esp
	t.unreachable, _ = h.(transport.UnreachableHandler)
	t.opening.Lock()
	defer t.opening.Unlock()
	t.started = true
	for _, s := range *t.sockets.Load() {
		t.wg.Go(func() { newReader(t, s).run() })
	}
}

// openAll binds a port on every address; busy is what to do when it is taken.
func (t *Transport) openAll(p Port, busy string) (list []*bound, err error) {
	err = transport.OpenEach(t.addrs, p.Number, func(a netip.Addr, n uint16) (uint16, error) {
		s, err := t.open(a, Port{n, p.Marker, p.Ours}, busy)
		if err != nil {
			return 0, err
		}
		list = append(list, s)
		return s.port, nil
	})
	if err != nil {
		for _, s := range list {
			s.conn.Close()
		}
		return nil, err
	}
	return list, nil
}

func (t *Transport) add(list []*bound) {
	all := slices.Concat(*t.sockets.Load(), list)
	t.sockets.Store(&all)
}

// Open listens on a further port with marker, and reads from it once Start was called. One that is open already stays as it is. ours is Port.Ours.
func (t *Transport) Open(port uint16, ours bool) error {
	t.opening.Lock()
	defer t.opening.Unlock()
	if t.closed.Load() {
		return fmt.Errorf("UDP/%d: the transport is shut down", port)
	}
	if slices.ContainsFunc(*t.sockets.Load(), func(s *bound) bool { return s.port == port }) {
		return nil
	}
	list, err := t.openAll(Port{port, true, ours}, "another program holds it; stop it, or choose another port")
	if err != nil {
		return err
	}
	t.add(list)
	if t.started {
		for _, s := range list {
			t.wg.Go(func() { newReader(t, s).run() })
		}
	}
	return nil
}

// Shut closes a port that Open has opened.
func (t *Transport) Shut(port uint16) {
	t.opening.Lock()
	defer t.opening.Unlock()
	rest := make([]*bound, 0, len(*t.sockets.Load()))
	for _, s := range *t.sockets.Load() {
		if s.port != port {
			rest = append(rest, s)
			continue
		}
		defer s.conn.Close()
	}
	t.sockets.Store(&rest)
}

// Close ends the readers and the keepalive timer, and waits for them.
func (t *Transport) Close() error {
	if t.closed.Swap(true) {
		return nil
	}
	close(t.done)
	t.alive.close()
	t.opening.Lock()
	t.closeSockets()
	t.opening.Unlock()
	t.wg.Wait()
	return nil
}

func (t *Transport) closeSockets() {
	for _, s := range *t.sockets.Load() {
		s.conn.Close()
	}
}

// pause waits for d or the end of the transport.
func (t *Transport) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.done:
	}
}

// Ports returns the local ports as bound: those without the marker first.
func (t *Transport) Ports() []Port {
	var plain, marked []Port
	for _, s := range *t.sockets.Load() {
		p := Port{s.port, s.marker, s.ours}
		switch {
		case slices.Contains(plain, p) || slices.Contains(marked, p):
		case p.Marker:
			marked = append(marked, p)
		default:
			plain = append(plain, p)
		}
	}
	return append(plain, marked...)
}

// Path makes the path to a peer from a local port of ours. An invalid local is replaced by the address that the system would send from.
func (t *Transport) Path(local netip.Addr, localPort uint16, remote netip.AddrPort) (path.Path, error) {
	remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	local = local.Unmap()
	if !remote.IsValid() || remote.Port() == 0 {
		return path.Path{}, fmt.Errorf("no UDP path to %q: an address and a port of the peer are needed", remote)
	}
	if !local.IsValid() || local.IsUnspecified() {
		var err error
		if local, err = t.source(remote); err != nil {
			return path.Path{}, err
		}
	}
	p := path.Path{Local: netip.AddrPortFrom(local, localPort), Remote: remote, Kind: path.UDP}
	if local.Is4() != remote.Addr().Is4() {
		return path.Path{}, fmt.Errorf("no UDP path from %s to %s: one address is IPv4 and the other IPv6", local, remote)
	}
	if t.socket(p) == nil {
		return path.Path{}, fmt.Errorf("no UDP path from %s to %s: no socket listens on that address and port (see listen= and listen-udp=): %w",
			p.Local, remote, transport.ErrNoPath)
	}
	return p, nil
}

// source asks the routing table for the address that packets to remote leave from. It must look with the marks of our own sockets.
func (t *Transport) source(remote netip.AddrPort) (netip.Addr, error) {
	for _, s := range *t.sockets.Load() { // listen= has decided it
		if !s.wildcard && s.local.Is4() == remote.Addr().Is4() {
			return s.local, nil
		}
	}
	d := net.Dialer{Control: socket.Control(t.prepare)}
	c, err := d.Dial("udp", remote.String())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("no address to send from to %s: %w; check the routing table", remote, transport.RootCause(err))
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone(""), nil
}

// socket finds the socket that a path sends from, or nil.
func (t *Transport) socket(p path.Path) *bound {
	local, is4 := p.Local.Addr(), p.Remote.Addr().Is4()
	for _, s := range *t.sockets.Load() {
		if s.port == p.Local.Port() && s.is4 == local.Is4() && s.is4 == is4 && (s.wildcard || s.local == local) {
			return s
		}
	}
	return nil
}

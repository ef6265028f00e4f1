// Package mux joins UDP, TCP and plain ESP into one transport.Mux: it finds the socket or the stream of a path, and knows every stream there is.
package mux

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
	"github.com/ikegod/ikegod/transport/rawesp"
	"github.com/ikegod/ikegod/transport/stream"
	"github.com/ikegod/ikegod/transport/tcp"
	"github.com/ikegod/ikegod/transport/udp"
)

// strangersMemory is what messages of streams that nobody owns may take together, beyond 2 KiB of each.
const strangersMemory = 4 << 20

// Options say what to listen on. Dialing is possible without listening.
type Options struct {
	ListenUDP bool                        // listen-udp=
	UDPPorts  []udp.Port                  // empty: 500 and 4500
	PlainESP  bool                        // IP protocol 50 too; New does without it where the system refuses it, see Mux.PlainESP
	ListenTCP []uint16                    // listen-tcp=; empty: no TCP listener
	Addrs     []netip.Addr                // listen=; empty: every address
	Prepare   func(syscall.RawConn) error // called for every socket before bind, connect or listen (SO_MARK and the like); may be nil

	// Where the kernel carries ESP. EncapUDP is called before bind for the UDP sockets with marker, whose ESP stays in the kernel then; AttachTCP hands over an
	// established connection when AttachESP asks for it. nil: ESP is read here, and goes to the ESPHandler.
	EncapUDP, AttachTCP func(syscall.RawConn) error

	TCPLimits    tcp.Limits
	StreamLimits stream.Limits
	Queue        stream.Queue

	// Notice is told about drops, refused connections and streams cut before they were accepted: at most one of a kind in transport.NoticeInterval, each
	// a line that stands by itself. It must not block. May be nil.
	Notice func(why transport.Drop, p path.Path, text string)
}

// Mux implements transport.Mux. Safe for concurrent use.
type Mux struct {
	// constant after New
	opts    Options
	udp     *udp.Transport    // nil: UDP is not listened on
	esp50   *rawesp.Transport // nil: there is no plain ESP, and noESP50 says why
	noESP50 error
	tcp     *tcp.Listener
	dialer  tcp.Dialer
	memory  *stream.Memory
	meter   *transport.Meter
	notices *transport.Notices
	// constant after Start
	handler transport.Handler
	esp     transport.ESPHandler

	mu      sync.RWMutex // guards what follows
	streams map[uint64]*entry
	closed  bool
	wg      sync.WaitGroup // one per stream; Add under mu while not closed
}

// entry is one stream, by the generation of its path.
type entry struct {
	conn   *stream.Conn
	ticket *tcp.Ticket
	told   bool // the handler knows of it; owned by the stream's goroutine, and by Dial before that runs
}

var (
	_ transport.Mux        = (*Mux)(nil)
	_ transport.Attacher   = (*Mux)(nil)
	_ transport.PortOpener = (*Mux)(nil)
)

// New binds the sockets, so that an error is known at once. Nothing is read or accepted before Start.
func New(o Options) (*Mux, error) {
	m := &Mux{
		opts: o, meter: new(transport.Meter), notices: transport.NewNotices(o.Notice),
		memory: stream.NewMemory(strangersMemory), streams: make(map[uint64]*entry),
	}
	m.dialer = tcp.Dialer{Prepare: o.Prepare, Meter: m.meter}
	var err error
	if o.ListenUDP {
		m.udp, err = udp.Listen(udp.Config{Addrs: o.Addrs, Ports: o.UDPPorts, Prepare: o.Prepare, Encap: o.EncapUDP, Meter: m.meter, Notices: m.notices})
		if err != nil {
			return nil, err
		}
	}
	m.openPlainESP()
	m.tcp, err = tcp.Listen(tcp.Config{Addrs: o.Addrs, Ports: o.ListenTCP, Limits: o.TCPLimits, Prepare: o.Prepare, Meter: m.meter, Notices: m.notices})
	if err != nil {
		m.closeSockets()
		return nil, err
	}
	return m, nil
}

// errNoPlainESP is why there is no plain ESP when nobody asked for it.
var errNoPlainESP = errors.New("plain ESP is not listened on")

// openPlainESP opens the raw sockets where they are asked for. It comes with UDP, on which its IKE travels. That it fails is no error: ESP goes in UDP then.
func (m *Mux) openPlainESP() {
	m.noESP50 = errNoPlainESP
	if m.opts.PlainESP && m.opts.ListenUDP {
		m.esp50, m.noESP50 = rawesp.Listen(rawesp.Config{Addrs: m.opts.Addrs, Prepare: m.opts.Prepare, Meter: m.meter, Notices: m.notices})
	}
}

// PlainESP is nil if plain ESP can be sent and received, or says why not.
func (m *Mux) PlainESP() error { return m.noESP50 }

func (m *Mux) closeSockets() {
	if m.udp != nil {
		m.udp.Close()
	}
	if m.esp50 != nil {
		m.esp50.Close()
	}
}

// Start begins to read and accept. esp may be nil: ESP is then dropped and counted. Call it once, before anything is sent.
func (m *Mux) Start(h transport.Handler, esp transport.ESPHandler) {
	m.handler, m.esp = h, esp
	if m.udp != nil {
		m.udp.Start(h, esp)
	}
	if m.esp50 != nil {
		m.esp50.Start(esp)
	}
	m.tcp.Serve(func(c *tcp.Conn) {
		if err := m.add(c, false); err != nil {
			c.Ticket.Release()
			c.Close()
		}
	})
}

// Close closes every socket and stream and waits for their goroutines: at most about Queue.Flush, in which the streams' queues are written.
func (m *Mux) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	open := make([]*entry, 0, len(m.streams))
	for _, e := range m.streams {
		open = append(open, e)
	}
	m.mu.Unlock()
	m.tcp.Close()
	for _, e := range open {
		e.conn.Close()
	}
	m.wg.Wait()
	m.closeSockets()
	return nil
}

// Counters returns what was carried and dropped since New.
func (m *Mux) Counters() transport.Counters { return m.meter.Snapshot() }

// UDPPorts returns the bound UDP ports, those without marker first; empty when UDP is not listened on.
func (m *Mux) UDPPorts() []udp.Port {
	if m.udp == nil {
		return nil
	}
	return m.udp.Ports()
}

// TCPPorts returns the bound TCP ports.
func (m *Mux) TCPPorts() []uint16 { return m.tcp.Ports() }

// OpenPort implements transport.PortOpener.
func (m *Mux) OpenPort(port uint16, ours bool) error {
	if m.udp != nil {
		if err := m.udp.Open(port, ours); err != nil {
			return err
		}
	}
	if len(m.opts.ListenTCP) == 0 {
		return nil
	}
	err := m.tcp.Open(port)
	if err != nil && m.udp != nil {
		m.udp.Shut(port)
	}
	return err
}

// ClosePort implements transport.PortOpener. A port of listen-tcp= stays.
func (m *Mux) ClosePort(port uint16) {
	if m.udp != nil {
		m.udp.Shut(port)
	}
	if !slices.Contains(m.opts.ListenTCP, port) {
		m.tcp.Shut(port)
	}
}

// Dial implements transport.Mux.
func (m *Mux) Dial(ctx context.Context, local netip.Addr, remote netip.AddrPort) (path.Path, error) {
	if !local.IsValid() {
		for _, a := range m.opts.Addrs { // listen= holds for what we open, too
			if a.Unmap().Is4() == remote.Addr().Unmap().Is4() {
				local = a
				break
			}
		}
	}
	c, err := m.dialer.Dial(ctx, local, remote)
	if err != nil {
		return path.Path{}, err
	}
	if err = m.add(c, true); err != nil {
		c.Close()
		return path.Path{}, err
	}
	return c.Path, nil
}

// add makes a stream of a connection and runs it.
func (m *Mux) add(c *tcp.Conn, originator bool) error {
	e := &entry{ticket: c.Ticket, told: originator}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return fmt.Errorf("%w: the transport is shut down", transport.ErrNoPath)
	}
	e.conn = stream.New(c.TCPConn, stream.Config{
		Path: c.Path, Originator: originator, Attach: m.opts.AttachTCP, Limits: m.opts.StreamLimits, Memory: m.memory, Queue: m.opts.Queue,
		IKE: m.handler.IKE, ESP: m.esp, Meter: m.meter, Notices: m.notices,
		Accepted: func() {
			e.told = true
			m.handler.Accepted(c.Path)
		},
		Spoke: e.ticket.Spoke,
	})
	e.ticket.OnCut(e.conn.Cut)
	m.streams[c.Path.Generation] = e
	m.meter.Streams.Add(1)
	m.meter.Unowned.Add(1)
	m.wg.Go(func() { m.run(e) })
	return nil
}

func (m *Mux) run(e *entry) {
	p := e.conn.Path()
	err := e.conn.Run()
	m.mu.Lock()
	delete(m.streams, p.Generation)
	m.mu.Unlock()
	m.meter.Streams.Add(-1)
	stranger := e.conn.Own() // nobody owned it
	if stranger {
		m.meter.Unowned.Add(-1)
	}
	e.ticket.Release()
	if stranger && e.ticket != nil {
		m.tell(p, err)
	}
	if e.told {
		m.handler.Lost(p, err)
	}
}

// tell says why a stranger's stream was cut: no IKE SA will report it.
func (m *Mux) tell(p path.Path, err error) {
	f, ok := errors.AsType[*stream.Fault](err)
	if ok && m.notices.Due(f.Why) {
		m.notices.Tell(f.Why, p, "closed a TCP connection from %s to port %d before an IKE SA was authenticated on it: %v", p.Peer(), p.Local.Port(), f)
	}
}

// stream finds the stream of a path, or nil.
func (m *Mux) stream(p path.Path) *entry {
	m.mu.RLock()
	e := m.streams[p.Generation]
	m.mu.RUnlock()
	if e == nil || e.conn.Path() != p {
		return nil
	}
	return e
}

// Send implements transport.Mux.
func (m *Mux) Send(p path.Path, parts ...[]byte) error {
	switch {
	case p.Kind.Stream():
		if e := m.stream(p); e != nil {
			return e.conn.SendIKE(parts...)
		}
	case p.Kind == path.UDP && m.udp != nil:
		return m.udp.Send(p, parts...)
	}
	return fmt.Errorf("%s: %w", p, transport.ErrNoPath)
}

// SendESP implements transport.Mux. It allocates nothing.
func (m *Mux) SendESP(p path.Path, buf []byte, segmentSize int) error {
	switch {
	case p.Kind.Stream():
		if e := m.stream(p); e != nil {
			return e.conn.SendESP(buf)
		}
	case p.Kind == path.ESP && m.esp50 != nil:
		return m.esp50.SendESP(p, buf, segmentSize)
	case p.Kind == path.UDP && m.udp != nil:
		return m.udp.SendESP(p, buf, segmentSize)
	}
	return transport.ErrNoPath
}

// RoomESP reports whether SendESP has room in the path's queue; datagrams have none, and what is not there says so when asked to send. The datapath asks before
// it sends on a stream, so that a single fast stream is held back at its source instead of losing packets here.
func (m *Mux) RoomESP(p path.Path) bool {
	if p.Kind.Stream() {
		if e := m.stream(p); e != nil {
			return e.conn.RoomESP()
		}
	}
	return true
}

// UDPPath implements transport.Mux.
func (m *Mux) UDPPath(local netip.Addr, localPort uint16, remote netip.AddrPort) (path.Path, error) {
	if m.udp == nil {
		return path.Path{}, fmt.Errorf("no UDP path to %s: UDP is not listened on; set listen-udp=yes: %w", remote, transport.ErrNoPath)
	}
	return m.udp.Path(local, localPort, remote)
}

// CloseStream implements transport.Mux.
func (m *Mux) CloseStream(p path.Path) {
	if e := m.stream(p); e != nil {
		e.conn.Close()
	}
}

// Own implements transport.Mux.
func (m *Mux) Own(p path.Path) {
	if e := m.stream(p); e != nil && e.conn.Own() {
		e.ticket.Own()
		m.meter.Unowned.Add(-1)
	}
}

// AttachESP implements transport.Attacher.
func (m *Mux) AttachESP(p path.Path, done func(error)) {
	if m.opts.AttachTCP == nil || !p.Kind.Stream() {
		done(nil)
		return
	}
	if e := m.stream(p); e != nil {
		e.conn.Attach(done)
		return
	}
	done(fmt.Errorf("%s: %w", p, transport.ErrNoPath))
}

// KeepESP implements transport.Attacher.
func (m *Mux) KeepESP(p path.Path) {
	if e := m.stream(p); e != nil {
		e.conn.Keep()
	}
}

// Resume implements transport.Mux.
func (m *Mux) Resume(p path.Path) {
	if e := m.stream(p); e != nil {
		e.conn.Resume()
	}
}

// KeepAlive implements transport.Mux. Streams need none (RFC 9329 6.6), and plain ESP goes through no NAT.
func (m *Mux) KeepAlive(p path.Path, interval time.Duration) {
	if m.udp != nil && p.Kind == path.UDP {
		m.udp.KeepAlive(p, interval)
	}
}

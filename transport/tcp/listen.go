package tcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

// Config says where to listen and how much to take.
type Config struct {
	Ports   []uint16     // empty: nowhere. 0 lets the system choose, for tests
	Addrs   []netip.Addr // empty: every address
	Limits  Limits
	Prepare func(syscall.RawConn) error // called before bind; accepted connections inherit; may be nil
	Meter   *transport.Meter            // nil: a private one
	Notices *transport.Notices
}

// Listener accepts connections on any number of ports.
type Listener struct {
	cfg       Config
	admission *admission
	done      chan struct{}
	once      sync.Once
	wg        sync.WaitGroup

	mu        sync.Mutex // guards what follows
	listeners []*net.TCPListener
	deliver   func(*Conn) // nil before Serve
	closed    bool
}

// Listen binds the ports. IPv6 is used where the system has it. Nothing is accepted before Serve.
func Listen(c Config) (*Listener, error) {
	if c.Meter == nil {
		c.Meter = new(transport.Meter)
	}
	l := &Listener{cfg: c, admission: newAdmission(c.Limits), done: make(chan struct{})}
	for _, port := range c.Ports {
		list, err := l.openAll(port, " with listen-tcp=")
		if err != nil {
			l.closeListeners()
			return nil, err
		}
		l.listeners = append(l.listeners, list...)
	}
	return l, nil
}

// openAll binds a port on every address; cure is where another may be chosen.
func (l *Listener) openAll(port uint16, cure string) (list []*net.TCPListener, err error) {
	err = transport.OpenEach(l.cfg.Addrs, port, func(a netip.Addr, port uint16) (uint16, error) {
		ln, err := l.open(a, port, cure)
		if err != nil {
			return 0, err
		}
		list = append(list, ln)
		return portOf(ln), nil
	})
	if err != nil {
		for _, ln := range list {
			ln.Close()
		}
		return nil, err
	}
	return list, nil
}

// Open listens on a further port, and accepts there once Serve was called. One that is open already stays as it is.
func (l *Listener) Open(port uint16) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fmt.Errorf("TCP/%d: the transport is shut down", port)
	}
	if slices.ContainsFunc(l.listeners, func(ln *net.TCPListener) bool { return portOf(ln) == port }) {
		return nil
	}
	list, err := l.openAll(port, "")
	if err != nil {
		return err
	}
	l.listeners = append(l.listeners, list...)
	if l.deliver != nil {
		l.serve(list)
	}
	return nil
}

// Shut closes a port that Open has opened. Connections live on.
func (l *Listener) Shut(port uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listeners = slices.DeleteFunc(l.listeners, func(ln *net.TCPListener) bool {
		if portOf(ln) != port {
			return false
		}
		ln.Close()
		return true
	})
}

func portOf(ln *net.TCPListener) uint16 { return addrPort(ln.Addr()).Port() }

func (l *Listener) open(a netip.Addr, port uint16, cure string) (*net.TCPListener, error) {
	lc := net.ListenConfig{Control: control(l.cfg.Prepare), KeepAliveConfig: keepAlive}
	lc.SetMultipathTCP(false) // an upper layer protocol such as espintcp attaches to plain TCP only
	ln, err := lc.Listen(context.Background(), network(a), netip.AddrPortFrom(a, port).String())
	if err != nil {
		return nil, transport.ListenError(path.TCP, a, port, err, "another program holds it; stop it, or choose another port"+cure)
	}
	return ln.(*net.TCPListener), nil
}

// Ports returns the ports as bound.
func (l *Listener) Ports() []uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ports []uint16
	seen := make(map[uint16]bool)
	for _, ln := range l.listeners {
		if p := portOf(ln); !seen[p] {
			seen[p] = true
			ports = append(ports, p)
		}
	}
	return ports
}

// Serve begins to accept and returns. deliver gets every admitted connection, on the accepting goroutine; it must not block, and releases the Ticket
// when the connection has ended.
func (l *Listener) Serve(deliver func(*Conn)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deliver = deliver
	l.serve(l.listeners)
}

// serve accepts on listeners. Called with mu held.
func (l *Listener) serve(list []*net.TCPListener) {
	for _, ln := range list {
		l.wg.Go(func() { l.accept(ln, l.deliver) })
	}
}

func (l *Listener) accept(ln *net.TCPListener, deliver func(*Conn)) {
	for delay := time.Duration(0); ; {
		c, err := ln.AcceptTCP()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of file descriptors or memory: go on, not too fast.
			l.failed(ln, err)
			delay = min(max(5*time.Millisecond, 2*delay), time.Second)
			if !l.pause(delay) {
				return
			}
			continue
		}
		delay = 0
		t, why, ok := l.admission.admit(addrPort(c.RemoteAddr()).Addr())
		if !ok {
			l.refuse(c, why)
			continue
		}
		l.cfg.Meter.Accepted.Add(1)
		deliver(newConn(c, t))
	}
}

// failed tells that accepting is held up: peers see connections that stand and say nothing.
func (l *Listener) failed(ln net.Listener, err error) {
	l.cfg.Meter.Drop(transport.DropAccept, 1)
	if !l.cfg.Notices.Due(transport.DropAccept) {
		return
	}
	hint := ""
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		hint = "; raise the limit of open files (LimitNOFILE= of the service, or fs.file-max)"
	}
	l.cfg.Notices.Tell(transport.DropAccept, path.Path{}, "cannot accept TCP connections to port %d: %v%s", addrPort(ln.Addr()).Port(), transport.RootCause(err), hint)
}

// refuse closes with a reset, which leaves nothing behind on this side.
func (l *Listener) refuse(c *net.TCPConn, why transport.Drop) {
	l.cfg.Meter.Drop(why, 1)
	if l.cfg.Notices.Due(why) {
		p := path.Path{Local: addrPort(c.LocalAddr()), Remote: addrPort(c.RemoteAddr()), Kind: path.TCP}
		l.cfg.Notices.Tell(why, p, "refused a TCP connection from %s: %s", p.Peer(), l.admission.limits.reached(why))
	}
	_ = c.SetLinger(0)
	c.Close()
}

func (l *Listener) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.done:
		return false
	}
}

// Close ends the listening and waits for the accepting goroutines. Connections live on.
func (l *Listener) Close() {
	l.once.Do(func() {
		close(l.done)
		l.closeListeners()
	})
	l.wg.Wait()
}

func (l *Listener) closeListeners() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, ln := range l.listeners {
		ln.Close()
	}
}

package tcp

import (
	"context"
	"errors"
	"net"
	"net/netip"
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
	listeners []*net.TCPListener
	admission *admission
	done      chan struct{}
	once      sync.Once
	wg        sync.WaitGroup
}

// Listen binds the ports. IPv6 is used where the system has it. Nothing is accepted before Serve.
func Listen(c Config) (*Listener, error) {
	if c.Meter == nil {
		c.Meter = new(transport.Meter)
	}
	l := &Listener{cfg: c, admission: newAdmission(c.Limits), done: make(chan struct{})}
	for _, port := range c.Ports {
		if err := transport.OpenEach(c.Addrs, port, l.open); err != nil {
			l.closeListeners()
			return nil, err
		}
	}
	return l, nil
}

func (l *Listener) open(a netip.Addr, port uint16) (uint16, error) {
	lc := net.ListenConfig{Control: control(l.cfg.Prepare), KeepAliveConfig: keepAlive}
	lc.SetMultipathTCP(false) // an upper layer protocol such as espintcp attaches to plain TCP only
	ln, err := lc.Listen(context.Background(), network(a), netip.AddrPortFrom(a, port).String())
	if err != nil {
		return 0, transport.ListenError(path.TCP, a, port, err, "another program holds it; stop it, or choose another port with listen-tcp=")
	}
	l.listeners = append(l.listeners, ln.(*net.TCPListener))
	return addrPort(ln.Addr()).Port(), nil
}

// Ports returns the ports as bound.
func (l *Listener) Ports() []uint16 {
	var ports []uint16
	seen := make(map[uint16]bool)
	for _, ln := range l.listeners {
		if p := addrPort(ln.Addr()).Port(); !seen[p] {
			seen[p] = true
			ports = append(ports, p)
		}
	}
	return ports
}

// Serve begins to accept and returns. deliver gets every admitted connection, on the accepting goroutine; it must not block, and releases the Ticket
// when the connection has ended.
func (l *Listener) Serve(deliver func(*Conn)) {
	for _, ln := range l.listeners {
		l.wg.Go(func() { l.accept(ln, deliver) })
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
	for _, ln := range l.listeners {
		ln.Close()
	}
}

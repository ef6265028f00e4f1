package tcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/ikegod/ikegod/transport"
)

// connectTimeout bounds a Dial whose context has no deadline: the system's own is over two minutes.
const connectTimeout = 30 * time.Second

// Dialer opens connections.
type Dialer struct {
	Prepare func(syscall.RawConn) error // called before connect; may be nil
	Meter   *transport.Meter            // nil: not counted
}

// Dial connects from local (invalid: the system chooses) to remote. It blocks until the connection stands, fails, or ctx ends. The error is in an
// operator's words and wraps the system's.
func (d *Dialer) Dial(ctx context.Context, local netip.Addr, remote netip.AddrPort) (*Conn, error) {
	remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	nd := net.Dialer{Timeout: connectTimeout, Control: control(d.Prepare), KeepAliveConfig: keepAlive, FallbackDelay: -1}
	nd.SetMultipathTCP(false)
	if local = local.Unmap(); local.IsValid() && !local.IsUnspecified() {
		if local.Is4() != remote.Addr().Is4() {
			return nil, fmt.Errorf("connecting to TCP/%d of %s from %s: one address is IPv4 and the other IPv6", remote.Port(), remote.Addr(), local)
		}
		nd.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	}
	start, limit := time.Now(), connectTimeout
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, end.Sub(start).Round(10*time.Millisecond))
	}
	c, err := nd.DialContext(ctx, network(remote.Addr()), remote.String())
	if err != nil {
		return nil, connectError(ctx, err, local, remote, limit, time.Since(start))
	}
	if d.Meter != nil {
		d.Meter.Dialed.Add(1)
	}
	return newConn(c.(*net.TCPConn), nil), nil
}

// dialError says in an operator's words why there is no connection. cause is the system's or the context's error, for errors.Is; where it says something to an
// operator it is in the text.
type dialError struct {
	text  string
	cause error
}

func (e *dialError) Error() string { return e.text }
func (e *dialError) Unwrap() error { return e.cause }

func connectError(ctx context.Context, err error, local netip.Addr, remote netip.AddrPort, limit, took time.Duration) error {
	where := fmt.Sprintf("TCP/%d of %s", remote.Port(), remote.Addr())
	const silence = "the packets are dropped on the way, or the host is down; check firewalls and tcp-remoteport="
	if errors.Is(ctx.Err(), context.Canceled) {
		return &dialError{fmt.Sprintf("connecting to %s was given up after %v", where, took.Round(time.Millisecond)), context.Canceled}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return &dialError{fmt.Sprintf("no answer from %s within %v: %s", where, limit, silence), context.DeadlineExceeded}
	}
	cause := transport.RootCause(err)
	switch {
	case errors.Is(cause, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nothing listens on %s; set listen-tcp=yes there, or check a firewall", cause, where)
	case errors.Is(cause, syscall.ECONNRESET):
		return fmt.Errorf("%w: %s accepted and reset at once; it has too many connections from here, or a middlebox forbids it", cause, where)
	case errors.Is(cause, syscall.ETIMEDOUT):
		return &dialError{fmt.Sprintf("no answer from %s: %s", where, silence), cause}
	case errors.Is(cause, syscall.EHOSTUNREACH), errors.Is(cause, syscall.ENETUNREACH):
		return fmt.Errorf("%w: no way to %s; check the routing table, and firewalls that reject", cause, where)
	case errors.Is(cause, syscall.EADDRNOTAVAIL) && local.IsValid():
		return fmt.Errorf("%w: no interface has the address %s to connect from to %s; check left= or right=", cause, local, where)
	case errors.Is(cause, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: no free local port to connect from to %s; too many connections are open or in TIME-WAIT", cause, where)
	case errors.Is(cause, syscall.EPERM), errors.Is(cause, syscall.EACCES):
		return fmt.Errorf("%w: a firewall on this host forbids connecting to %s", cause, where)
	}
	return fmt.Errorf("connecting to %s: %w", where, cause)
}

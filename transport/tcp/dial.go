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
	start := time.Now()
	c, err := nd.DialContext(ctx, network(remote.Addr()), remote.String())
	if err != nil {
		return nil, connectError(ctx, err, local, remote, time.Since(start))
	}
	if d.Meter != nil {
		d.Meter.Dialed.Add(1)
	}
	return newConn(c.(*net.TCPConn), nil), nil
}

// silence is a deadline that passed, in an operator's words alone.
type silence string

// Error implements error.
func (s silence) Error() string { return string(s) }

// Unwrap makes it context.DeadlineExceeded.
func (silence) Unwrap() error { return context.DeadlineExceeded }

func connectError(ctx context.Context, err error, local netip.Addr, remote netip.AddrPort, took time.Duration) error {
	port, host := remote.Port(), remote.Addr()
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("connecting to TCP/%d of %s: %w", port, host, context.Canceled)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return silence(fmt.Sprintf("no answer from TCP/%d of %s within %v: the packets are dropped on the way, or the host is down; check firewalls and tcp-remoteport=",
			port, host, took.Round(10*time.Millisecond)))
	}
	cause := rootCause(err)
	switch {
	case errors.Is(cause, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nothing listens on TCP/%d of %s; set listen-tcp=yes there, or check a firewall", cause, port, host)
	case errors.Is(cause, syscall.ECONNRESET):
		return fmt.Errorf("%w: TCP/%d of %s accepted and reset at once; it has too many connections from here, or a middlebox forbids it", cause, port, host)
	case errors.Is(cause, syscall.ETIMEDOUT):
		return fmt.Errorf("%w: no answer from TCP/%d of %s; the packets are dropped on the way, or the host is down; check firewalls and tcp-remoteport=",
			cause, port, host)
	case errors.Is(cause, syscall.EHOSTUNREACH), errors.Is(cause, syscall.ENETUNREACH):
		return fmt.Errorf("%w: no way to TCP/%d of %s; check the routing table, and firewalls that reject", cause, port, host)
	case errors.Is(cause, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: no interface has the address %s to connect from to TCP/%d of %s; check left= or right=", cause, local, port, host)
	case errors.Is(cause, syscall.EPERM), errors.Is(cause, syscall.EACCES):
		return fmt.Errorf("%w: a firewall on this host forbids connecting to TCP/%d of %s", cause, port, host)
	}
	return fmt.Errorf("connecting to TCP/%d of %s: %w", port, host, cause)
}

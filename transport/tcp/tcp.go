// Package tcp listens on TCP ports and dials, and yields connections for streams: bounded in number, prepared, and with errors in an operator's words.
package tcp

import (
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/pkg/path"
)

// Port is the port of IKE over TCP (RFC 9329 2).
const Port = 4500

// notSentLowat bounds what the kernel holds of a stream that it has not sent yet: whatever waits longer waits in the stream's own queue, where IKE overtakes
// ESP and old ESP is dropped.
const notSentLowat = 128 << 10

// generation numbers the connections of this process (path.Path.Generation).
var generation atomic.Uint64

// Conn is a connected TCP connection.
type Conn struct {
	*net.TCPConn
	Path   path.Path
	Ticket *Ticket // nil for a connection of our own
}

func newConn(c *net.TCPConn, t *Ticket) *Conn {
	return &Conn{TCPConn: c, Ticket: t, Path: path.Path{
		Local: addrPort(c.LocalAddr()), Remote: addrPort(c.RemoteAddr()), Kind: path.TCP, Generation: generation.Add(1),
	}}
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// keepAlive notices a peer that has vanished without a word, within two minutes. It does nothing while octets wait to be acknowledged; then the system gives up
// by itself, after about a quarter of an hour (net.ipv4.tcp_retries2). It never replaces IKE's own liveness check (RFC 9329 6.7).
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 4}

// control prepares a socket before bind, listen or connect.
func control(prepare func(syscall.RawConn) error) func(string, string, syscall.RawConn) error {
	return func(network, _ string, c syscall.RawConn) error {
		if err := c.Control(func(fd uintptr) {
			if network == "tcp6" {
				// A flow label that Linux makes from the ports would change with every connection (RFC 9329 6.1: it must stay the same).
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_AUTOFLOWLABEL, 0)
			}
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSentLowat)
		}); err != nil {
			return err
		}
		if prepare == nil {
			return nil
		}
		return prepare(c)
	}
}

func network(a netip.Addr) string {
	if a.Unmap().Is4() {
		return "tcp4"
	}
	return "tcp6"
}

package udp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

// socketBuffer is asked for in both directions: about 10 ms of 3 Gbit/s, so that a reader that was away for one scheduling slice loses nothing.
const socketBuffer = 4 << 20

// socket is one bound UDP socket.
type socket struct {
	conn     *net.UDPConn
	raw      syscall.RawConn
	local    netip.Addr // the wildcard, or the address of listen=
	port     uint16
	wildcard bool
	is4      bool
	marker   bool
	gro      bool        // reads may hold several datagrams
	gso      atomic.Bool // writes may; cleared when the system refuses
	senders  sync.Pool   // of *sender
}

// open binds one socket and returns its port.
func (t *Transport) open(local netip.Addr, port Port) (uint16, error) {
	network := "udp6"
	if local.Is4() {
		network = "udp4"
	}
	lc := net.ListenConfig{Control: control(t.prepare)}
	pc, err := lc.ListenPacket(context.Background(), network, netip.AddrPortFrom(local, port.Number).String())
	if err != nil {
		return 0, transport.ListenError(path.UDP, local, port.Number, err, "another IKE daemon (such as pluto or charon) holds it; stop it, or set listen-udp=no")
	}
	s := &socket{
		conn: pc.(*net.UDPConn), local: local, wildcard: local.IsUnspecified(), is4: local.Is4(), marker: port.Marker,
	}
	s.port = s.conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	if s.raw, err = s.conn.SyscallConn(); err == nil {
		var opt error
		if err = s.raw.Control(func(fd uintptr) { opt = s.setOptions(int(fd)) }); err == nil {
			err = opt
		}
	}
	if err != nil {
		s.conn.Close()
		return 0, fmt.Errorf("preparing the socket for UDP/%d: %w", port.Number, err)
	}
	s.senders.New = func() any { return newSender(t, s) }
	t.sockets = append(t.sockets, s)
	return s.port, nil
}

// setOptions asks for what is needed (packet info) and for what is good to have.
func (s *socket) setOptions(fd int) error {
	if s.is4 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1); err != nil {
			return fmt.Errorf("IP_PKTINFO: %w", err)
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1)
	} else {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1); err != nil {
			return fmt.Errorf("IPV6_RECVPKTINFO: %w", err)
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
	}
	// The FORCE variants go beyond net.core.rmem_max and need CAP_NET_ADMIN.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketBuffer)
	}
	if !s.marker {
		return nil // port 500 carries single messages: batches would only cost
	}
	s.gro = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) == nil
	_, err := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
	s.gso.Store(err == nil)
	return nil
}

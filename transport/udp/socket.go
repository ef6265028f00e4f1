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
	"github.com/ikegod/ikegod/transport/socket"
)

// bound is one bound UDP socket.
type bound struct {
	conn     *net.UDPConn
	raw      syscall.RawConn
	local    netip.Addr // the wildcard, or the address of listen=
	port     uint16
	wildcard bool
	is4      bool
	marker   bool
	ours     bool        // Port.Ours
	gro      bool        // reads may hold several datagrams
	gso      atomic.Bool // writes may; cleared when the system refuses
	senders  sync.Pool   // of *sender
}

// open binds one socket.
func (t *Transport) open(local netip.Addr, port Port, busy string) (*bound, error) {
	network := "udp6"
	if local.Is4() {
		network = "udp4"
	}
	lc := net.ListenConfig{Control: socket.Control(t.prepare, t.encapOf(port))}
	pc, err := lc.ListenPacket(context.Background(), network, netip.AddrPortFrom(local, port.Number).String())
	if err != nil {
		return nil, transport.ListenError(path.UDP, local, port.Number, err, busy)
	}
	s := &bound{
		conn: pc.(*net.UDPConn), local: local, wildcard: local.IsUnspecified(), is4: local.Is4(), marker: port.Marker, ours: port.Ours,
	}
	s.port = s.conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	if s.raw, err = s.conn.SyscallConn(); err == nil {
		var opt error
		if err = s.raw.Control(func(fd uintptr) { opt = s.setOptions(int(fd), t.encap == nil || port.Ours) }); err == nil {
			err = opt
		}
	}
	if err != nil {
		s.conn.Close()
		return nil, fmt.Errorf("preparing the socket for UDP/%d: %w", port.Number, err)
	}
	s.senders.New = func() any { return newSender(t, s) }
	return s, nil
}

// encapOf is the hand-over of a port's ESP, or nil.
func (t *Transport) encapOf(p Port) func(syscall.RawConn) error {
	if p.Marker && !p.Ours {
		return t.encap
	}
	return nil
}

// setOptions adds what is for UDP alone. Batches are for ESP that is read here: where the kernel keeps it, what is left for us are single messages, and there are
// kernels that take a batch which they have joined for one packet of ESP, and drop it.
func (s *bound) setOptions(fd int, batches bool) error {
	if err := socket.SetOptions(fd, s.is4); err != nil {
		return err
	}
	if !s.marker || !batches {
		return nil // port 500 carries single messages: batches would only cost
	}
	s.gro = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) == nil
	_, err := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
	s.gso.Store(err == nil)
	return nil
}

package udp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

// errorsPerTurn bounds the work that a flood of ICMP errors makes between two reads.
const errorsPerTurn = 64

// readErrors empties a socket's error queue: ICMP errors that came for datagrams of ours. Anybody on the path can forge them, so they are
// counted and told, and change nothing. Each of them fails the next read or the next send, whichever comes first, so both sides call this: errors that stay in
// the queue take room from the receive buffer.
func (t *Transport) readErrors(s *socket) {
	_ = s.raw.Control(func(fd uintptr) {
		var payload [64]byte
		var oob [256]byte
		for range errorsPerTurn {
			_, n, _, to, err := unix.Recvmsg(int(fd), payload[:], oob[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
			if err != nil {
				return
			}
			t.icmpError(s, oob[:n], to)
		}
	})
}

func (t *Transport) icmpError(s *socket, oob []byte, to unix.Sockaddr) {
	local := s.local
	var cause syscall.Errno
	for len(oob) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		oob = rest
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			local = netip.AddrFrom4([4]byte(data[8:12])) // ipi_addr: where the ICMP message was sent to, which is where the datagram came from
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			local = netip.AddrFrom16([16]byte(data[:16])).Unmap()
		}
		isErr := h.Level == unix.IPPROTO_IP && h.Type == unix.IP_RECVERR || h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_RECVERR
		if isErr && len(data) >= 16 { // struct sock_extended_err begins with the errno
			cause = syscall.Errno(binary.NativeEndian.Uint32(data))
		}
	}
	var remote netip.AddrPort
	switch a := to.(type) {
	case *unix.SockaddrInet4:
		remote = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		remote = netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	if cause == 0 || !remote.IsValid() {
		return
	}
	p := path.Path{Local: netip.AddrPortFrom(local, s.port), Remote: remote, Kind: path.UDP}
	t.meter.Drop(transport.DropUnreachable, 1)
	if t.notices.Due(transport.DropUnreachable) {
		t.notices.Tell(transport.DropUnreachable, p, "%s: %s", p.Peer(), icmpText(cause))
	}
	if t.unreachable != nil {
		t.unreachable.Unreachable(p, fmt.Errorf("%s (%w)", icmpText(cause), cause))
	}
}

func icmpText(cause syscall.Errno) string {
	switch cause {
	case syscall.ECONNREFUSED:
		return "ICMP says that nothing listens on this port; is an IKE daemon running there?"
	case syscall.EMSGSIZE:
		return "ICMP says that a datagram was too large for a link on the way"
	case syscall.EHOSTUNREACH, syscall.ENETUNREACH:
		return "ICMP says that there is no way to this host; check routes and firewalls"
	case syscall.EACCES, syscall.EPERM:
		return "ICMP says that a firewall forbids it"
	}
	return "ICMP error: " + cause.Error()
}

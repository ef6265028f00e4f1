package udp

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

// errorsPerTurn bounds the work that a flood of ICMP errors makes between two reads.
const errorsPerTurn = 64

// readErrors empties the socket's error queue: ICMP errors that came for datagrams of ours. Anybody on the path can forge them, so they are
// counted and told, and change nothing.
func (r *reader) readErrors() {
	_ = r.s.raw.Control(func(fd uintptr) {
		var payload [64]byte
		var oob [256]byte
		for range errorsPerTurn {
			_, n, _, to, err := unix.Recvmsg(int(fd), payload[:], oob[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
			if err != nil {
				return
			}
			r.icmpError(oob[:n], to)
		}
	})
}

func (r *reader) icmpError(oob []byte, to unix.Sockaddr) {
	local := r.s.local
	var cause syscall.Errno
	for len(oob) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		oob = rest
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
	p := path.Path{Local: netip.AddrPortFrom(local, r.s.port), Remote: remote, Kind: path.UDP}
	r.t.meter.Drop(transport.DropUnreachable, 1)
	if r.t.notices.Due(transport.DropUnreachable) {
		r.t.notices.Tell(transport.DropUnreachable, p, "%s: %s", p.Peer(), icmpText(cause, remote))
	}
	if r.t.unreachable != nil {
		r.t.unreachable.Unreachable(p, cause)
	}
}

func icmpText(cause syscall.Errno, remote netip.AddrPort) string {
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

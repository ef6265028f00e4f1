package socket

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// errorsPerTurn bounds the work that a flood of ICMP errors makes between two reads.
const errorsPerTurn = 64

// ReadErrors empties a socket's error queue: ICMP errors that came for datagrams of ours, each told with the addresses of the datagram and its cause. Anybody on
// the path can forge them. Each of them fails the next read or the next send, whichever comes first, so both sides call this: errors that stay in the queue take
// room from the receive buffer. bound is the local address where the system does not say it.
func ReadErrors(c syscall.RawConn, bound netip.Addr, tell func(local netip.Addr, remote netip.AddrPort, cause syscall.Errno)) {
	_ = c.Control(func(fd uintptr) {
		var payload [64]byte
		var oob [256]byte
		for range errorsPerTurn {
			_, n, _, to, err := unix.Recvmsg(int(fd), payload[:], oob[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
			if err != nil {
				return
			}
			local, cause := icmpError(oob[:n])
			if !local.IsValid() {
				local = bound
			}
			if remote := addrPort(to); cause != 0 && remote.IsValid() {
				tell(local, remote, cause)
			}
		}
	})
}

// icmpError reads the address that a datagram came from, and what became of it.
func icmpError(oob []byte) (local netip.Addr, cause syscall.Errno) {
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
	return local, cause
}

func addrPort(a unix.Sockaddr) netip.AddrPort {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// Pending reports whether a send's error can be one that ICMP has left on the socket.
func Pending(err error) bool {
	switch Errno(err) {
	case syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EMSGSIZE, syscall.EPROTO, syscall.EACCES, syscall.ENOPROTOOPT:
		return true
	}
	return false
}

// ICMPText says in an operator's words what an ICMP error means.
func ICMPText(cause syscall.Errno) string {
	switch cause {
	case syscall.ECONNREFUSED:
		return "ICMP says that nothing listens on this port; is an IKE daemon running there?"
	case syscall.ENOPROTOOPT:
		return "ICMP says that the host takes no plain ESP (IP protocol 50); is the tunnel still up there? encapsulation=yes puts ESP into UDP"
	case syscall.EMSGSIZE:
		return "ICMP says that a datagram was too large for a link on the way"
	case syscall.EHOSTUNREACH, syscall.ENETUNREACH:
		return "ICMP says that there is no way to this host; check routes and firewalls"
	case syscall.EACCES, syscall.EPERM:
		return "ICMP says that a firewall forbids it"
	}
	return "ICMP error: " + cause.Error()
}

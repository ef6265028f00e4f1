// Package socket is what the sockets of datagrams, those of UDP and of plain ESP, have in common: options, the local address of each datagram, what errors of
// the system mean, and the ICMP errors that come back.
package socket

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/transport"
)

// buffer is asked for in both directions: about 10 ms of 3 Gbit/s, so that a reader that was away for one scheduling slice loses nothing.
const buffer = 4 << 20

// InfoSpace is enough for the control data that PutInfo writes.
const InfoSpace = 64

// Control makes a net.ListenConfig or net.Dialer Control that calls each Prepare that is not nil, up to the first error.
func Control(prepare ...func(syscall.RawConn) error) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		for _, f := range prepare {
			if f == nil {
				continue
			}
			if err := f(c); err != nil {
				return err
			}
		}
		return nil
	}
}

// SetOptions asks for what is needed, the local address of what arrives, and for what is good to have: ICMP errors and large buffers.
func SetOptions(fd int, is4 bool) error {
	if is4 {
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
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, buffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, buffer)
	}
	return nil
}

// PutInfo writes the packet info that lets a datagram leave from local, the address that the peer talks to (RFC 7296 2.11), and returns its length: zero for
// the wildcard, which leaves the choice to the system. oob is zero and has room for InfoSpace octets.
func PutInfo(oob []byte, local netip.Addr) int {
	if local.IsUnspecified() {
		return 0
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	data := oob[unix.CmsgLen(0):]
	if local.Is4() {
		h.Level, h.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
		h.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
		a := local.As4()
		copy(data[4:8], a[:]) // ipi_spec_dst
		return unix.CmsgSpace(unix.SizeofInet4Pktinfo)
	}
	h.Level, h.Type = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO
	h.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
	a := local.As16()
	copy(data[:16], a[:])
	return unix.CmsgSpace(unix.SizeofInet6Pktinfo)
}

// Info reads the local address that a datagram was sent to from one control message; false: it is another.
func Info(h unix.Cmsghdr, data []byte) (netip.Addr, bool) {
	switch {
	case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		// ipi_spec_dst, not ipi_addr: the same for unicast, and an address of ours for broadcast.
		return netip.AddrFrom4([4]byte(data[4:8])), true
	case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		return netip.AddrFrom16([16]byte(data[:16])), true
	}
	return netip.Addr{}, false
}

// Zone is the index of the interface that a link-local address names; zero if it names none.
func Zone(a netip.Addr) (uint32, error) {
	if a.Zone() == "" {
		return 0, nil
	}
	i, err := net.InterfaceByName(a.Zone())
	if err != nil {
		return 0, fmt.Errorf("sending to %s: %w", a, err)
	}
	return uint32(i.Index), nil
}

// sendErrors say what the system's error numbers mean for a send. They are made once, since a blocked ESP path fails for every batch.
var sendErrors = []error{
	fmt.Errorf("%w: a firewall on this host forbids it", syscall.EPERM),
	fmt.Errorf("%w for the local address: is it still an address of this host?", syscall.EINVAL),
	fmt.Errorf("%w: check the routing table, and firewalls that reject", syscall.ENETUNREACH),
	fmt.Errorf("%w: check the routing table, and firewalls that reject", syscall.EHOSTUNREACH),
}

// SendFailed sorts the error of a send.
func SendFailed(err error) (transport.Drop, error) {
	switch Errno(err) {
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
		return transport.DropSendBuffer, transport.ErrQueueFull
	case unix.EMSGSIZE:
		return transport.DropSendTooLarge, transport.ErrTooLarge
	}
	if errors.Is(err, net.ErrClosed) {
		return transport.DropSendFailed, transport.ErrNoPath
	}
	for _, known := range sendErrors {
		if errors.Is(err, errors.Unwrap(known)) {
			return transport.DropSendFailed, known
		}
	}
	return transport.DropSendFailed, err
}

// Errno is the system's error number inside err, or 0.
func Errno(err error) syscall.Errno {
	e, _ := errors.AsType[syscall.Errno](err)
	return e
}

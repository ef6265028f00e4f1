// Package socket prepares sockets of IKE for the kernel's IPsec: IKE goes past every policy, and ESP that arrives on a socket stays in the kernel.
//
// Each function is a hand-over: the daemon gives it to the transport, so that neither imports the other. All are safe for concurrent use and do not block,
// but for EspInTCP where it makes the kernel load a module.
package socket

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Values of linux/xfrm.h that nobody exports.
const (
	policyIn    = 0
	policyOut   = 1
	policyAllow = 0
)

// ulp is the name of ESP in TCP among the kernel's upper layer protocols (CONFIG_INET_ESPINTCP).
const ulp = "espintcp"

// receiveBuffer of an attached connection, in octets. The kernel drops IKE messages that find no room in it, instead of closing the window, and counts for each of
// them the whole packet that it came in.
const receiveBuffer = 8 << 20

// Chain joins hand-overs; the first error ends it.
func Chain(all ...func(syscall.RawConn) error) func(syscall.RawConn) error {
	return func(c syscall.RawConn) error {
		for _, f := range all {
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

// Bypass lets what the socket sends and receives go past IPsec policies, both ways: a policy for all traffic with the peer, such as that of transport mode,
// must not ask for an SA that IKE has yet to negotiate (RFC 4301 4.4.1: key management is bypassed). Call it before connect or listen, so that SYN and SYN-ACK
// are covered; connections that a listener accepts inherit it.
func Bypass(c syscall.RawConn) error {
	return control(c, func(fd int) error {
		family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err != nil {
			return fmt.Errorf("SO_DOMAIN: %w", err)
		}
		// A socket takes the option of its own family alone; an IPv6 socket has one policy for what it does in IPv4 too.
		level, option, name := unix.IPPROTO_IP, unix.IP_XFRM_POLICY, "IP_XFRM_POLICY"
		if family == unix.AF_INET6 {
			level, option, name = unix.IPPROTO_IPV6, unix.IPV6_XFRM_POLICY, "IPV6_XFRM_POLICY"
		}
		for _, dir := range []uint8{policyIn, policyOut} {
			p := nl.XfrmUserpolicyInfo{Dir: dir, Action: policyAllow}
			p.Sel.Family = uint16(family)
			if err := unix.SetsockoptString(fd, level, option, string(p.Serialize())); err != nil {
				return words("letting IKE past IPsec policies ("+name+")", err, map[error]string{
					unix.ENOPROTOOPT: "this kernel has no IPsec (CONFIG_XFRM)",
					unix.EINVAL:      "this kernel has no IPsec, or its XFRM module is not loaded: modprobe xfrm_user",
					unix.EOPNOTSUPP:  "the socket is neither IPv4 nor IPv6",
				})
			}
		}
		return nil
	})
}

// EncapUDP keeps ESP that arrives on a UDP socket in the kernel (RFC 3948); datagrams with the non-ESP marker go on to whoever reads the socket, marker
// included, and NAT keepalives end in the kernel. For sockets of IPv6 the kernel knows it since Linux 5.8.
//
// UDP_GRO belongs off on such a socket: kernels before a check of 2024 (Linux 6.9, and stable ones after it) take a batch of ESP packets that they have joined for one
// packet, and drop it; and IKE comes one by one. What a sender's UDP_SEGMENT or the kernel itself has joined is cut again without it.
func EncapUDP(c syscall.RawConn) error {
	return control(c, func(fd int) error {
		err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_ENCAP, unix.UDP_ENCAP_ESPINUDP)
		return words("leaving ESP in UDP to the kernel (UDP_ENCAP)", err, map[error]string{
			unix.ENOPROTOOPT: "this kernel has no IPsec (CONFIG_XFRM), or none in UDP over IPv6 (before Linux 5.8)",
		})
	})
}

// EspInTCP gives an established TCP connection to the kernel (RFC 9329 in Linux): it takes the frames apart, keeps ESP, and hands each IKE message over by one
// read, without length, with marker; what is written is one message each, to which it adds the length. Whoever calls it has read and written whole frames up to
// now. There is no way back.
func EspInTCP(c syscall.RawConn) error {
	if err := Bypass(c); err != nil {
		return err
	}
	return control(c, func(fd int) error {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil { // it goes beyond net.core.rmem_max
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
		}
		err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_ULP, ulp)
		return words(`giving the TCP connection to the kernel (TCP_ULP "espintcp")`, err, map[error]string{
			unix.ENOENT: "this kernel cannot carry ESP in TCP: it is built without CONFIG_INET_ESPINTCP, its module is forbidden, " +
				"or CAP_NET_ADMIN is missing to load it; use the userspace datapath (backend=userspace)",
			unix.EEXIST:      "the connection has an upper layer protocol already",
			unix.EBUSY:       "another part of the kernel holds the connection, such as a BPF sockmap",
			unix.ENOTCONN:    "the connection does not stand any more",
			unix.ENOPROTOOPT: "this kernel has no upper layer protocols for TCP (before Linux 4.13)",
			unix.EOPNOTSUPP:  "the connection is not plain TCP",
		})
	})
}

func control(c syscall.RawConn, f func(fd int) error) error {
	var failed error
	if err := c.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// words says in an operator's words what the kernel refused. It wraps the system's error.
func words(what string, err error, known map[error]string) error {
	if err == nil {
		return nil
	}
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return fmt.Errorf("%s: %w", what, err)
	}
	why := known[errno]
	switch {
	case why != "":
	case errno == unix.EPERM || errno == unix.EACCES:
		why = "CAP_NET_ADMIN is needed"
	case errno == unix.ENOMEM || errno == unix.ENOBUFS:
		why = "the kernel is out of memory"
	default:
		return fmt.Errorf("%s: %w", what, errno)
	}
	return fmt.Errorf("%s: %w: %s", what, errno, why)
}

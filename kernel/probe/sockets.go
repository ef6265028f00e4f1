package probe

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// udpEncap asks a UDP socket to hand ESP to the kernel.
func udpEncap() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_ENCAP, unix.UDP_ENCAP_ESPINUDP); err != nil {
		return fmt.Errorf("UDP_ENCAP: %w", err)
	}
	return nil
}

// tcpULP asks a connection of this host with itself to hand ESP to the kernel.
func (t *trial) tcpULP() (err error) {
	if t.own {
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("lo: %w", err)
		}
	}
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	open := func() (int, error) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			fds = append(fds, fd)
			err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, new(unix.NsecToTimeval(netlinkTimeout.Nanoseconds()))) // connect's, too
		}
		return fd, err
	}
	listener, err := open()
	if err != nil {
		return err
	}
	here := [4]byte{127, 0, 0, 1}
	if err := errors.Join(unix.Bind(listener, &unix.SockaddrInet4{Addr: here}), unix.Listen(listener, 1)); err != nil {
		return fmt.Errorf("listen on 127.0.0.1: %w", err)
	}
	to, err := unix.Getsockname(listener)
	if err != nil {
		return err
	}
	client, err := open()
	if err != nil {
		return err
	}
	if err := unix.Connect(client, to); err != nil {
		return fmt.Errorf("connect to 127.0.0.1: %w", err)
	}
	if err := unix.SetsockoptString(client, unix.IPPROTO_TCP, unix.TCP_ULP, "espintcp"); err != nil {
		return fmt.Errorf("TCP_ULP espintcp: %w", err)
	}
	return nil
}

// tryTUN opens the device, and in a namespace of our own makes an interface.
func (t *trial) tryTUN() {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.tell(TUN, fmt.Errorf("/dev/net/tun: %w", err))
		return
	}
	defer unix.Close(fd)
	if !t.own {
		_, err := unix.IoctlGetInt(fd, unix.TUNGETFEATURES)
		t.tell(TUN, err)
		return
	}
	ifr, err := unix.NewIfreq("ikeprobe%d")
	if err == nil {
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	t.tell(TUN, err)
}

package xfrm

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// What the kernel holds of a share tells that somebody has it, but a daemon that has just started holds nothing. So each also claims its share by an abstract Unix
// socket, of which there is one by its name in a network namespace, and which ends with its process, however that ends. Anybody may bind such a name: it is only
// believed of root and of the daemon's own user, so that nobody else can keep a daemon from starting, or from what it has left.
type holder uint8

const (
	nobody   holder = iota // and now it is this daemon's
	daemon                 // somebody who may be one
	stranger               // somebody who is none, or of whom that cannot be told
)

// claim takes the share for this daemon, or finds out who has it.
func (s *share) claim() (holder, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0) // in the namespace of this thread
	if err != nil {
		return stranger, fmt.Errorf("claim numbers for the kernel: %w", err)
	}
	name := &unix.SockaddrUnix{Name: fmt.Sprintf("@ikegod/xfrm/%d", s.number)}
	switch err = unix.Bind(fd, name); {
	case err == nil:
		if err = unix.Listen(fd, 16); err == nil { // who asks finds out whose it is
			err = s.hold(os.NewFile(uintptr(fd), name.Name))
		} else {
			_ = unix.Close(fd)
		}
		if err == nil {
			return nobody, nil
		}
		return stranger, fmt.Errorf("claim numbers for the kernel: %w", err)
	case !errors.Is(err, unix.EADDRINUSE):
		_ = unix.Close(fd)
		return stranger, fmt.Errorf("claim numbers for the kernel: %w", err)
	}
	defer unix.Close(fd)
	for range claimTries { // its daemon may be about to listen, or be asked by many
		if err = unix.Connect(fd, name); !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EAGAIN) {
			break
		}
		time.Sleep(claimPause)
	}
	if err != nil {
		return stranger, nil
	}
	if c, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil && (c.Uid == 0 || int(c.Uid) == os.Geteuid()) {
		return daemon, nil
	}
	return stranger, nil
}

// How often, and after which pauses, one is asked who has a name but does not answer.
const (
	claimTries = 5
	claimPause = 20 * time.Millisecond
)

// hold keeps the socket, and takes away those who have asked, so that others can.
func (s *share) hold(socket *os.File) error {
	l, err := net.FileListener(socket)
	if err = errors.Join(err, socket.Close()); err != nil {
		return err
	}
	s.claimed = l
	go func() {
		for {
			c, err := l.Accept()
			switch {
			case errors.Is(err, net.ErrClosed):
				return
			case err != nil: // out of descriptors, which passes
				time.Sleep(time.Second)
			default:
				_ = c.Close()
			}
		}
	}()
	return nil
}

// unclaim gives the share to others.
func (s *share) unclaim() {
	if s.claimed != nil {
		_ = s.claimed.Close()
		s.claimed = nil
	}
}

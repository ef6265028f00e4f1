package xfrm

import (
	"errors"
	"fmt"
	"os"

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
		err = unix.Listen(fd, 16) // who asks finds out whose it is
		s.claimed = os.NewFile(uintptr(fd), name.Name)
		if err == nil {
			return nobody, nil
		}
		s.unclaim()
		return stranger, fmt.Errorf("claim numbers for the kernel: %w", err)
	case !errors.Is(err, unix.EADDRINUSE):
		_ = unix.Close(fd)
		return stranger, fmt.Errorf("claim numbers for the kernel: %w", err)
	}
	defer unix.Close(fd)
	if unix.Connect(fd, name) != nil {
		return stranger, nil
	}
	if c, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil && (c.Uid == 0 || int(c.Uid) == os.Geteuid()) {
		return daemon, nil
	}
	return stranger, nil
}

// unclaim gives the share to others.
func (s *share) unclaim() {
	if s.claimed != nil {
		_ = s.claimed.Close()
		s.claimed = nil
	}
}

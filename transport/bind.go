package transport

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/ikegod/ikegod/pkg/path"
)

// OpenEach calls open for every address to listen on, which returns the port as bound. No addresses means the wildcard of IPv4, and that of IPv6 with the
// same port where the system has IPv6. It stops at the first error.
func OpenEach(addrs []netip.Addr, port uint16, open func(netip.Addr, uint16) (uint16, error)) error {
	for _, a := range addrs {
		if _, err := open(a.Unmap(), port); err != nil {
			return err
		}
	}
	if len(addrs) > 0 {
		return nil
	}
	bound, err := open(netip.IPv4Unspecified(), port)
	if err != nil {
		return err
	}
	_, err = open(netip.IPv6Unspecified(), bound)
	if errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EPROTONOSUPPORT) {
		return nil
	}
	return err
}

// ListenError says in an operator's words why a socket could not be bound, and what to do; busy is what to do when the port is taken. It wraps the
// system's error.
func ListenError(k path.Kind, a netip.Addr, port uint16, err error, busy string) error {
	cause := RootCause(err)
	where := fmt.Sprintf("listening on %s/%d of %s", k, port, a)
	switch {
	case errors.Is(cause, syscall.EADDRINUSE):
		return fmt.Errorf("%s: %w: %s", where, cause, busy)
	case errors.Is(cause, syscall.EACCES):
		return fmt.Errorf("%s: %w: ports below 1024 need root or CAP_NET_BIND_SERVICE", where, cause)
	case errors.Is(cause, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s: %w: no interface has this address; check listen=", where, cause)
	}
	return fmt.Errorf("%s: %w", where, cause)
}

// RootCause is the system's own error inside the wrapping of package net, which names addresses a second time, or else err.
func RootCause(err error) error {
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e
	}
	return err
}

package netns

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Do runs f on a thread inside the host's namespace. Sockets that f opens stay in that namespace. f must not start goroutines that open others.
// Close of the lab waits for it; after that it fails.
func (h *Host) Do(f func() error) error {
	if !h.lab.enter() {
		return fmt.Errorf("entering %s: its lab is closed", h.NS)
	}
	defer h.lab.inside.Done()
	result := make(chan error, 1)
	go func() { result <- inside(h.NS, f) }()
	return <-result
}

func inside(ns string, f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	there, err := os.Open("/run/netns/" + ns)
	if err != nil {
		return err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering %s: %w", ns, err)
	}
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return fmt.Errorf("leaving %s: %w", ns, back) // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}

// Listen opens a TCP listener on the host.
func (h *Host) Listen(address string) (l net.Listener, err error) {
	err = h.Do(func() error {
		l, err = net.Listen("tcp", address)
		return err
	})
	return l, err
}

// Dial opens a connection from the host; network is one of TCP or UDP, local an address or empty.
func (h *Host) Dial(ctx context.Context, network, local, remote string) (c net.Conn, err error) {
	d := net.Dialer{FallbackDelay: -1} // one goroutine: the one on the thread
	switch {
	case local == "":
	case strings.HasPrefix(network, "udp"):
		d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(local)}
	default:
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(local)}
	}
	err = h.Do(func() error {
		c, err = d.DialContext(ctx, network, remote)
		return err
	})
	return c, err
}

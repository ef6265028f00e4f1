package ctl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"
)

// Listen makes the control socket in rundir with mode 0600, in the place of one that an ended daemon left behind. The caller holds the lock of
// rundir, so nobody else listens there. Clients are checked by SO_PEERCRED: root and the daemon's own user may ask.
func Listen(rundir string) (net.Listener, error) {
	name := filepath.Join(rundir, SocketName)
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	// The mode must be right before anybody can connect: bind creates the file with 0777 less the umask.
	old := syscall.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", name, err)
	}
	return &listener{UnixListener: l, allow: func(uid uint32) bool { return uid == 0 || int(uid) == os.Geteuid() }}, nil
}

// listener turns away clients that may not ask and clients beyond the limit, with an answer that says so.
type listener struct {
	*net.UnixListener
	allow   func(uid uint32) bool
	clients atomic.Int32

	turnedAway atomic.Int32 // being told so now
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if refusal := l.refuse(c); refusal != nil {
			l.turnAway(c, refusal)
			continue
		}
		l.clients.Add(1)
		return &client{Conn: c, gone: func() { l.clients.Add(-1) }}, nil
	}
}

func (l *listener) refuse(c *net.UnixConn) *Error {
	uid, err := peerUID(c)
	switch {
	case err != nil:
		return &Error{Code: CodeDenied, Message: "the kernel does not say who asks: " + err.Error()}
	case !l.allow(uid):
		return &Error{Code: CodeDenied, Message: fmt.Sprintf("user %d may not control ikegod: ask as root or as user %d", uid, os.Geteuid())}
	case l.clients.Load() >= maxClients:
		return &Error{Code: CodeBusy, Message: fmt.Sprintf("%d clients already: try again when some have gone", maxClients)}
	}
	return nil
}

// turnAway answers a client's request with a refusal. It waits for the request, since clients take an answer that comes before it for noise; only a few
// clients at a time are waited for, and no longer than those that may ask.
func (l *listener) turnAway(c net.Conn, e *Error) {
	if l.turnedAway.Add(1) > maxTurnedAway {
		l.turnedAway.Add(-1)
		_ = c.Close()
		return
	}
	go func() {
		defer l.turnedAway.Add(-1)
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(headerTimeout))
		if _, err := c.Read(make([]byte, maxHeader)); err != nil {
			return
		}
		body, err := json.Marshal(Result{Error: e})
		if err != nil {
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
			e.httpStatus(), e.Code, len(body), body)
	}()
}

func peerUID(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *syscall.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return cred.Uid, nil
}

// client counts itself out once.
type client struct {
	net.Conn
	closed atomic.Bool
	gone   func()
}

// Close implements net.Conn.
func (c *client) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		c.gone()
	}
	return c.Conn.Close()
}

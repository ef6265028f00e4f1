package uml_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	xm "github.com/ikegod/ikegod/kernel/xfrm/message"
	"github.com/ikegod/ikegod/testing/netns"
)

// A daemon whose kernel refuses what the test says. No limit makes the kernel run out of memory for one request, so each message that the daemon sends by netlink is
// shown to the test first, by seccomp's notifications: it lets it pass, or has the system call fail with an error.

// refusing is what stands between a daemon and its kernel.
type refusing struct {
	mu     sync.Mutex
	refuse func(xm.Type) error // nil, or what it returns: the message passes
	count  int                 // messages that were refused
}

// set changes what is refused; nil: nothing.
func (r *refusing) set(refuse func(xm.Type) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse, r.count = refuse, 0
}

func (r *refusing) refused() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// refusable starts a gateway's daemon that way.
func (g *kernelGateway) refusable(t *testing.T) *refusing {
	t.Helper()
	bin, err := netns.Bin()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "socket"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	start := fmt.Sprintf("#!/bin/sh\n%s=%s %s=%s exec %s \"$@\"\n", refusedProgram, filepath.Join(bin, "ikegod"), refusedSocket, filepath.Join(dir, "socket"), self)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "ikegod"), []byte(start), 0o700), os.Symlink(filepath.Join(bin, "ikectl"), filepath.Join(dir, "ikectl"))); err != nil {
		t.Fatal(err)
	}
	r, accepted := &refusing{}, make(chan error, 1)
	go func() {
		fd, err := received(listener)
		accepted <- err
		if err == nil {
			r.run(fd)
		}
	}()
	t.Setenv("TEST_BIN", dir)
	g.start(t)
	if err := <-accepted; err != nil {
		t.Fatal(err)
	}
	t.Setenv("TEST_BIN", bin) // the other daemon starts as always
	return r
}

// received is the descriptor that comes by a socket.
func received(l *net.UnixListener) (int, error) {
	c, err := l.AcceptUnix()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := c.ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return 0, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return 0, fmt.Errorf("%d descriptors came: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return 0, err
	}
	return fds[0], nil
}

// notification and verdict are struct seccomp_notif and seccomp_notif_resp.
type (
	notification struct {
		id         uint64
		pid, flags uint32
		nr         int32
		arch       uint32
		ip         uint64
		args       [6]uint64
	}
	verdict struct {
		id    uint64
		value int64
		error int32
		flags uint32
	}
)

// run answers until the daemon has ended.
func (r *refusing) run(fd int) {
	defer unix.Close(fd)
	for {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		switch _, err := unix.Poll(p, -1); {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil, p[0].Revents&unix.POLLIN == 0:
			return
		}
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno != 0 {
			continue // the call was interrupted, and comes again
		}
		v := verdict{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		if errno := r.judge(&n); errno != 0 {
			v.error, v.flags = -int32(errno), 0
		}
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&v)))
	}
}

// judge reads the type of a message in the memory of the daemon.
func (r *refusing) judge(n *notification) unix.Errno {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse == nil || !ofXFRM(n) {
		return 0
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", n.pid))
	if err != nil {
		return 0
	}
	defer mem.Close()
	var b [unix.SizeofNlMsghdr]byte
	if _, err := mem.ReadAt(b[:], int64(n.args[1])); err != nil {
		return 0
	}
	var errno unix.Errno
	if errors.As(r.refuse(xm.Type(binary.NativeEndian.Uint16(b[4:]))), &errno) {
		r.count++
	}
	return errno
}

// ofXFRM looks which of the kernel's parts the socket is for: each has its own numbers for its messages.
func ofXFRM(n *notification) bool {
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", n.pid, int32(n.args[0])))
	if err != nil {
		return false
	}
	inode := strings.TrimSuffix(strings.TrimPrefix(link, "socket:["), "]")
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/netlink", n.pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(list)) {
		if f := strings.Fields(line); len(f) > 2 && f[len(f)-1] == inode {
			return f[1] == strconv.Itoa(unix.NETLINK_XFRM)
		}
	}
	return false
}

const (
	refusedProgram = "REFUSED_PROGRAM"
	refusedSocket  = "REFUSED_SOCKET"
)

// This program is also what starts the daemon: it sets the filter, sends the descriptor to the test, and becomes the daemon.
func init() {
	program := os.Getenv(refusedProgram)
	if program == "" {
		return
	}
	runtime.LockOSThread() // the filter is this thread's
	fmt.Fprintln(os.Stderr, "start with a filter:", becomeRefused(program, os.Getenv(refusedSocket)))
	os.Exit(1)
}

func becomeRefused(program, socket string) error {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	file, err := c.File()
	if err != nil {
		return err
	}
	const nr, addrLen = 0, 16 + 5*8 // in struct seccomp_data
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: nr},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_SENDTO, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: addrLen},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SizeofSockaddrNetlink, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER,
		uintptr(unsafe.Pointer(&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	if err := unix.Sendmsg(int(file.Fd()), []byte{0}, unix.UnixRights(int(fd)), nil, 0); err != nil {
		return err
	}
	return unix.Exec(program, append([]string{program}, os.Args[1:]...), os.Environ())
}

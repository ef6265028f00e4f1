package userspace

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// queue is one queue of a TUN. Frames are IP packets behind a virtio-net header of vnetLen octets.
type queue interface {
	// read waits for a frame. tryRead does not wait: zero means that there is none.
	read(b []byte) (int, error)
	tryRead(b []byte) (int, error)
	// write writes one frame from its parts. Safe for concurrent use.
	write(parts []unix.Iovec) error
	// interrupt ends read, now and for ever. close comes after it, once nobody reads any more: a descriptor that is closed under a reader could
	// be somebody else's by the time it reads.
	interrupt()
	close() error
}

// tunQueue is a queue of a kernel TUN. Reading and writing are single system calls on the descriptor: the kernel's super-packets are read as they
// are and sealed segment by segment, and what was opened is gathered into super-packets by writev without a copy.
type tunQueue struct {
	file *os.File // for waiting in the runtime's poller
	raw  syscall.RawConn
	fd   int

	wait func(fd uintptr) bool // read's; made once
	buf  []byte
	n    int
	err  error

	gate   sync.RWMutex // writers against close
	closed bool
}

// tunOffloads are what the kernel may leave to us: checksums and segmentation of TCP. UDP segmentation came with Linux 6.2.
const (
	tunOffloads    = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	tunOffloadsUDP = unix.TUN_F_USO4 | unix.TUN_F_USO6
)

const maxQueues = 16

// openTUN makes a TUN with that many queues. uso says whether super-packets of UDP may be written to it.
func openTUN(name string, queues int) (out []queue, uso bool, err error) {
	defer func() {
		if err != nil {
			for _, q := range out {
				q.close()
			}
			out = nil
		}
	}()
	flags := unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR
	if queues > 1 {
		flags |= unix.IFF_MULTI_QUEUE
	}
	uso = true
	for i := range queues {
		exclusive := 0
		if i == 0 {
			exclusive = unix.IFF_TUN_EXCL // never join a TUN that another process has
		}
		q, udp, err := openQueue(name, flags|exclusive)
		if err != nil {
			return out, false, err
		}
		out = append(out, q)
		uso = uso && udp
	}
	return out, uso, nil
}

func openQueue(name string, flags int) (*tunQueue, bool, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, false, fmt.Errorf("open /dev/net/tun: %w; is the tun module loaded, and do we have CAP_NET_ADMIN?", err)
	}
	uso := false
	err = func() error {
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return fmt.Errorf("interface name %q: %w", name, err)
		}
		ifr.SetUint16(uint16(flags))
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("interface %s exists already; another daemon runs in this network namespace, or choose another name", name)
		} else if err != nil {
			return fmt.Errorf("make TUN %s: %w", name, err)
		}
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tunOffloads); err != nil {
			return fmt.Errorf("TUN %s: offloads: %w", name, err)
		}
		uso = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tunOffloads|tunOffloadsUDP) == nil
		return nil
	}()
	if err != nil {
		unix.Close(fd)
		return nil, false, err
	}
	q := &tunQueue{file: os.NewFile(uintptr(fd), "/dev/net/tun"), fd: fd}
	if q.raw, err = q.file.SyscallConn(); err != nil {
		q.file.Close()
		return nil, false, err
	}
	q.wait = func(fd uintptr) bool {
		q.n, q.err = retry(func() (int, error) { return unix.Read(int(fd), q.buf) })
		return !errors.Is(q.err, unix.EAGAIN)
	}
	return q, uso, nil
}

func retry(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

func (q *tunQueue) read(b []byte) (int, error) {
	q.buf = b
	if err := q.raw.Read(q.wait); err != nil {
		return 0, err
	}
	return q.n, q.err
}

func (q *tunQueue) tryRead(b []byte) (int, error) {
	for {
		n, err := unix.Read(q.fd, b)
		switch err {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return 0, nil
		}
		return max(n, 0), err
	}
}

func (q *tunQueue) write(parts []unix.Iovec) error {
	q.gate.RLock()
	defer q.gate.RUnlock()
	if q.closed {
		return os.ErrClosed
	}
	for {
		_, _, e := unix.Syscall(unix.SYS_WRITEV, uintptr(q.fd), uintptr(unsafe.Pointer(unsafe.SliceData(parts))), uintptr(len(parts)))
		switch e {
		case 0:
			return nil
		case unix.EINTR:
			continue
		}
		return e
	}
}

func (q *tunQueue) interrupt() { _ = q.file.SetReadDeadline(time.Unix(1, 0)) }

func (q *tunQueue) close() error {
	q.gate.Lock()
	defer q.gate.Unlock()
	q.closed = true
	return q.file.Close()
}

package rawesp

import (
	"errors"
	"net"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
	"github.com/ikegod/ikegod/transport/socket"
)

const (
	// readBatch packets are taken with one system call, as many as fit into one super-packet of the datapath.
	readBatch = 64
	// readBuffer holds the largest IP packet.
	readBuffer = 65536
	// readStride puts the buffers of a batch apart by more than a power of two, so that the heads of packets do not share the same lines of the cache.
	readStride = readBuffer + 1600
	readInfo   = 128
	// The smallest ESP packet: SPI and sequence number (RFC 4303 2); the rest is judged by the datapath.
	espHeaderLen = 8
	headerIPv4   = 20
)

// reader reads one socket on its own goroutine. Its buffers live as long as the socket: garbage allocates nothing.
type reader struct {
	t        *Transport
	s        *bound
	call     func(fd uintptr) bool // bound once
	messages [readBatch]message
	iov      [readBatch]unix.Iovec
	from     [readBatch]unix.RawSockaddrInet6 // holds a RawSockaddrInet4 too
	info     [readBatch][readInfo]byte
	buf      []byte
	n        int
	errno    unix.Errno

	packets [][]byte // of one path
	octets  int      // in packets
	path    path.Path
}

func newReader(t *Transport, s *bound) *reader {
	r := &reader{t: t, s: s, buf: setAside(readBatch * readStride), packets: make([][]byte, 0, readBatch)}
	for i := range r.messages {
		r.iov[i].Base = &r.buf[i*readStride]
		r.iov[i].SetLen(readBuffer)
		h := &r.messages[i].header
		h.Name = (*byte)(unsafe.Pointer(&r.from[i]))
		h.Iov, h.Control = &r.iov[i], &r.info[i][0]
		h.SetIovlen(1)
	}
	r.call = func(fd uintptr) bool {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.messages[0])), readBatch, unix.MSG_DONTWAIT, 0, 0)
		r.n, r.errno = int(n), errno
		return errno != unix.EAGAIN && errno != unix.EINTR
	}
	return r
}

// setAside takes memory for the packets of a batch from the system and not from the heap: only the pages that packets have filled are ever resident, and
// the collector does not let the heap grow by twice as much as is set aside.
func setAside(octets int) []byte {
	b, err := unix.Mmap(-1, 0, octets, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return make([]byte, octets)
	}
	return b
}

// close gives the memory back. Whoever got packets is done with them: InputESP has returned.
func (r *reader) close() {
	_ = unix.Munmap(r.buf) // EINVAL for what came from the heap after all
	r.buf = nil
}

func (r *reader) run() {
	defer r.close()
	for failures := 0; ; {
		for i := range r.messages { // recvmmsg writes the lengths that it found
			h := &r.messages[i].header
			h.Namelen, h.Flags = uint32(unsafe.Sizeof(r.from[i])), 0
			h.SetControllen(readInfo)
		}
		if err := r.s.raw.Read(r.call); err != nil {
			if errors.Is(err, net.ErrClosed) || r.t.closed.Load() {
				return
			}
			r.errno = socket.Errno(err)
		}
		if r.errno != 0 {
			// The error of an earlier packet (IP_RECVERR). It concerns one peer and never the socket.
			r.t.readErrors(r.s)
			if failures++; failures >= 16 && !r.t.closed.Load() {
				time.Sleep(errorPause)
			}
			continue
		}
		failures = 0
		r.t.meter.Read(path.ESP)
		for i := range r.n {
			r.take(i)
		}
		r.flush()
	}
}

// take adds a packet to those of its path; another path comes after what there is of the last one.
func (r *reader) take(i int) {
	m := &r.messages[i]
	if m.header.Flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		r.t.meter.Drop(transport.DropTruncated, 1)
		return
	}
	b := r.buf[i*readStride:][:m.n:m.n]
	if r.s.is4 { // the IP header comes first
		if len(b) < headerIPv4 {
			r.t.meter.Drop(transport.DropShort, 1)
			return
		}
		b = b[min(len(b), max(headerIPv4, int(b[0]&15)*4)):]
	}
	if len(b) < espHeaderLen {
		r.t.meter.Drop(transport.DropShort, 1)
		return
	}
	if p := r.pathOf(i); p != r.path {
		r.flush()
		r.path = p
	}
	r.packets = append(r.packets, b)
	r.octets += len(b)
}

// pathOf is the path that a packet came on.
func (r *reader) pathOf(i int) path.Path {
	var remote netip.Addr
	if r.s.is4 {
		remote = netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(&r.from[i])).Addr)
	} else {
		remote = netip.AddrFrom16(r.from[i].Addr)
	}
	return path.Path{Local: netip.AddrPortFrom(r.local(i), 0), Remote: netip.AddrPortFrom(remote, 0), Kind: path.ESP}
}

// local is the address of ours that a packet was sent to.
func (r *reader) local(i int) netip.Addr {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&r.info[i][0]))
	n := int(r.messages[i].header.Controllen)
	if n < unix.SizeofCmsghdr || int(h.Len) > n || int(h.Len) < unix.CmsgLen(0) {
		return r.s.local
	}
	if a, ok := socket.Info(*h, r.info[i][unix.CmsgLen(0):h.Len]); ok { // the only control data that was asked for
		return a
	}
	return r.s.local
}

func (r *reader) flush() {
	if len(r.packets) == 0 {
		return
	}
	if r.t.esp == nil {
		r.t.meter.Drop(transport.DropNoDatapath, len(r.packets))
	} else {
		r.t.meter.ESPIn(path.ESP, len(r.packets), r.octets)
		r.t.esp.InputESP(r.path, r.packets)
	}
	r.packets, r.octets = r.packets[:0], 0
}

package rawesp

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
	"github.com/ikegod/ikegod/transport/socket"
)

// writeBatch packets go with one system call: as many as the datapath gathers.
const writeBatch = 64

// sender is what sendmmsg needs, kept in a pool so that sending allocates nothing.
type sender struct {
	t        *Transport
	s        *bound
	call     func(fd uintptr) // bound once
	messages [writeBatch]message
	iov      [writeBatch]unix.Iovec
	to       unix.RawSockaddrInet6 // holds a RawSockaddrInet4 too
	oob      [socket.InfoSpace]byte
	first, n int // of messages, to send
	sent     int
	errno    unix.Errno
}

func newSender(t *Transport, s *bound) *sender {
	m := &sender{t: t, s: s}
	for i := range m.messages {
		m.messages[i].header.Iov = &m.iov[i]
		m.messages[i].header.SetIovlen(1)
	}
	m.call = func(fd uintptr) {
		sent, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&m.messages[m.first])), uintptr(m.n-m.first),
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		m.sent, m.errno = int(sent), errno
		if errno != 0 {
			m.sent = 0
		}
	}
	return m
}

// SendESP sends sealed packets of segmentSize octets each (the last may be shorter), up to writeBatch of them with one system call. It never blocks: what the
// socket buffer has no room for is dropped and counted, and ErrQueueFull returned.
func (t *Transport) SendESP(p path.Path, buf []byte, segmentSize int) error {
	s := t.socket(p)
	if s == nil || p.Kind != path.ESP {
		return transport.ErrNoPath
	}
	if segmentSize <= 0 || segmentSize > len(buf) {
		segmentSize = len(buf)
	}
	m := s.senders.Get().(*sender)
	defer s.senders.Put(m)
	if err := m.address(p); err != nil {
		return err
	}
	var failure error
	sent, octets := 0, 0
	for len(buf) > 0 {
		n := min(len(buf), segmentSize*writeBatch)
		m.cut(buf[:n], segmentSize)
		done, why, err := m.send()
		for i := range done {
			octets += int(m.messages[i].n)
		}
		sent += done
		if err != nil {
			failure = err
			t.meter.Drop(why, m.n-done)
			if why == transport.DropSendBuffer { // the rest finds no room either
				t.meter.Drop(why, (len(buf)-n+segmentSize-1)/segmentSize)
				break
			}
		}
		buf = buf[n:]
	}
	clear(m.iov[:]) // the buffer is its owner's again
	if sent > 0 {
		t.meter.ESPOut(path.ESP, sent, octets)
	}
	return failure
}

// address sets where the packets go and which address they leave from.
func (m *sender) address(p path.Path) error {
	clear(m.oob[:])
	info, length := socket.PutInfo(m.oob[:], p.Local.Addr()), uint32(unix.SizeofSockaddrInet6)
	m.to = unix.RawSockaddrInet6{}
	if m.s.is4 {
		to := (*unix.RawSockaddrInet4)(unsafe.Pointer(&m.to))
		to.Family, to.Addr = unix.AF_INET, p.Remote.Addr().As4()
		length = unix.SizeofSockaddrInet4
	} else {
		zone, err := socket.Zone(p.Remote.Addr())
		if err != nil {
			return err
		}
		m.to.Family, m.to.Addr, m.to.Scope_id = unix.AF_INET6, p.Remote.Addr().As16(), zone
	}
	for i := range m.messages {
		h := &m.messages[i].header
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&m.to)), length
		h.Control = nil
		if info > 0 {
			h.Control = &m.oob[0]
		}
		h.SetControllen(info)
	}
	return nil
}

// cut makes a message of each segment of b.
func (m *sender) cut(b []byte, segment int) {
	m.n = 0
	for len(b) > 0 {
		n := min(segment, len(b))
		m.iov[m.n].Base = &b[0]
		m.iov[m.n].SetLen(n)
		m.n++
		b = b[n:]
	}
}

// send sends the messages, and returns how many of them before an error.
func (m *sender) send() (done int, why transport.Drop, err error) {
	retried := false
	for m.first = 0; m.first < m.n; {
		if err = m.once(); err == nil {
			m.first += m.sent
			continue
		}
		// IP_RECVERR: it may be the error of an earlier packet, to another peer.
		if socket.Pending(err) && !retried {
			retried = true
			m.t.readErrors(m.s)
			continue
		}
		why, err = socket.SendFailed(err)
		return m.first, why, err
	}
	return m.n, 0, nil
}

func (m *sender) once() error {
	if err := m.s.raw.Control(m.call); err != nil {
		return err
	}
	if m.errno != 0 {
		return m.errno
	}
	m.t.meter.Write(path.ESP)
	return nil
}

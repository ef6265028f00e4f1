package udp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
	"github.com/ikegod/ikegod/transport/socket"
)

const (
	gsoSegments = 64    // UDP_MAX_SEGMENTS of every kernel that has UDP_SEGMENT
	gsoOctets   = 65507 // the largest UDP payload over IPv4, and below that of IPv6
)

// marker precedes IKE on a port that carries ESP too (RFC 3948 2.2).
var marker [4]byte

// Send sends one IKE message, parts concatenated. It never blocks: a full socket buffer drops the message, IKE will repeat it.
func (t *Transport) Send(p path.Path, parts ...[]byte) error {
	s := t.socket(p)
	if s == nil {
		return fmt.Errorf("%s: %w", p, transport.ErrNoPath)
	}
	m := s.senders.Get().(*sender)
	defer s.senders.Put(m)
	m.ike = m.ike[:0]
	// The other end expects the marker where its own port is 4500, whatever ours is (RFC 7296 2.23).
	if s.marker || p.Remote.Port() == NATTPort {
		m.ike = append(m.ike, marker[:]...)
	}
	n := 0
	for _, b := range parts {
		m.ike = append(m.ike, b...)
		n += len(b)
	}
	if err := m.address(p); err != nil {
		return err
	}
	if err := m.send(m.ike, 0); err != nil {
		why, err := socket.SendFailed(err)
		t.meter.Drop(why, 1)
		return fmt.Errorf("%s: sending %d octets of IKE: %w", p, n, err)
	}
	t.meter.IKEOut(path.UDP, n)
	t.alive.sent(p)
	return nil
}

// SendESP sends sealed packets of segmentSize octets each (the last may be shorter) with as few system calls as the system allows.
// It never blocks: what the socket buffer has no room for is dropped and counted, and ErrQueueFull returned.
func (t *Transport) SendESP(p path.Path, buf []byte, segmentSize int) error {
	s := t.socket(p)
	if s == nil || !s.marker {
		return transport.ErrNoPath
	}
	if len(buf) == 0 {
		return nil
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
		n := min(len(buf), segmentSize)
		if s.gso.Load() {
			n = min(len(buf), segmentSize*max(1, min(gsoSegments, gsoOctets/segmentSize)))
		}
		packets := (n + segmentSize - 1) / segmentSize
		if done, err := m.sendSegments(buf[:n], segmentSize); err != nil {
			var why transport.Drop
			why, failure = socket.SendFailed(err)
			t.meter.Drop(why, packets-done)
			sent += done
			octets += done * segmentSize
			if why == transport.DropSendBuffer { // the rest finds no room either
				t.meter.Drop(why, (len(buf)-n+segmentSize-1)/segmentSize)
				break
			}
		} else {
			sent += packets
			octets += n
		}
		buf = buf[n:]
	}
	if sent > 0 {
		t.meter.ESPOut(path.UDP, sent, octets)
		t.alive.sent(p)
	}
	return failure
}

// sender is what one sendmsg needs, kept in a pool so that sending allocates nothing.
type sender struct {
	t      *Transport
	s      *bound
	call   func(fd uintptr) // bound once
	to     unix.Sockaddr    // &to4 or &to6
	to4    unix.SockaddrInet4
	to6    unix.SockaddrInet6
	oob    [socket.InfoSpace]byte // packet info, then the segment size
	info   int                    // octets of packet info in oob
	oobLen int
	data   []byte
	err    error
	ike    []byte
}

func newSender(t *Transport, s *bound) *sender {
	m := &sender{t: t, s: s}
	m.call = func(fd uintptr) {
		_, m.err = unix.SendmsgN(int(fd), m.data, m.oob[:m.oobLen], m.to, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	}
	return m
}

// address sets where the datagram goes and which address it leaves from: the one that the peer talks to (RFC 7296 2.11).
func (m *sender) address(p path.Path) error {
	remote := p.Remote.Addr()
	clear(m.oob[:])
	m.info = socket.PutInfo(m.oob[:], p.Local.Addr())
	if m.s.is4 {
		m.to4.Port, m.to4.Addr = int(p.Remote.Port()), remote.As4()
		m.to = &m.to4
		return nil
	}
	zone, err := socket.Zone(remote)
	if err != nil {
		return err
	}
	m.to6.Port, m.to6.Addr, m.to6.ZoneId = int(p.Remote.Port()), remote.As16(), zone
	m.to = &m.to6
	return nil
}

// sendSegments sends b in one call, or one by one where the system cannot. It returns the packets sent before an error.
func (m *sender) sendSegments(b []byte, segment int) (int, error) {
	if len(b) <= segment {
		return 0, m.send(b, 0)
	}
	err := m.send(b, segment)
	if err == nil {
		return 0, nil
	}
	switch socket.Errno(err) {
	case unix.EIO: // the interface cannot compute checksums: it will not learn it
		m.s.gso.Store(false)
	case unix.EINVAL, unix.EMSGSIZE: // segments larger than this path's MTU: single datagrams may be fragmented
	default:
		return 0, err
	}
	sent := 0
	for ; len(b) > 0; sent++ {
		n := min(segment, len(b))
		if err := m.send(b[:n], 0); err != nil {
			return sent, err
		}
		b = b[n:]
	}
	return sent, nil
}

// send makes the system call; a segment of zero sends b as one datagram.
func (m *sender) send(b []byte, segment int) error {
	m.oobLen = m.info
	if segment > 0 {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&m.oob[m.info]))
		h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
		h.SetLen(unix.CmsgLen(2))
		binary.NativeEndian.PutUint16(m.oob[m.info+unix.CmsgLen(0):], uint16(segment))
		m.oobLen += unix.CmsgSpace(2)
	}
	err := m.once(b)
	// IP_RECVERR: it may be the error of an earlier datagram, to another peer. For a batch, "too large" is an answer of its own.
	if socket.Pending(err) && (segment == 0 || !errors.Is(err, unix.EMSGSIZE)) {
		m.t.readErrors(m.s)
		err = m.once(b)
	}
	m.data = nil
	return err
}

func (m *sender) once(b []byte) error {
	m.data = b
	if err := m.s.raw.Control(m.call); err != nil {
		return err
	}
	if m.err == nil {
		return nil
	}
	return m.err
}

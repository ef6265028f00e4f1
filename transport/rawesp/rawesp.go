// Package rawesp carries plain ESP, IP protocol 50 (RFC 4303), on raw sockets: in batches, and from the address that the peer talks to. IKE never travels on it.
//
// A raw socket gets a copy of every packet of its protocol that this host takes in, those of other daemons and of the kernel's own IPsec too: the datapath counts
// what has an SPI that it does not know. The kernel adds the IP header, which is why there is none in anything here.
package rawesp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
	"github.com/ikegod/ikegod/transport/socket"
)

// Config says where to listen. Its zero value is every address.
type Config struct {
	Addrs   []netip.Addr                // empty: every address
	Prepare func(syscall.RawConn) error // called before bind, to set SO_MARK and the like; may be nil
	Meter   *transport.Meter            // nil: a private one
	Notices *transport.Notices
}

// Transport is the raw sockets. Its methods are safe for concurrent use.
type Transport struct {
	// constant after Listen
	sockets []*bound
	prepare func(syscall.RawConn) error
	meter   *transport.Meter
	notices *transport.Notices
	// constant after Start
	esp transport.ESPHandler

	closed atomic.Bool
	wg     sync.WaitGroup
}

// bound is one socket.
type bound struct {
	conn     *net.IPConn
	raw      syscall.RawConn
	local    netip.Addr // the wildcard, or the address of listen=
	wildcard bool
	is4      bool
	senders  sync.Pool // of *sender
}

// Listen opens the sockets. IPv4 is required, IPv6 is used where the system has it. Nothing is read before Start.
func Listen(c Config) (*Transport, error) {
	t := &Transport{prepare: c.Prepare, meter: c.Meter, notices: c.Notices}
	if t.meter == nil {
		t.meter = new(transport.Meter)
	}
	err := transport.OpenEach(c.Addrs, 0, func(a netip.Addr, _ uint16) (uint16, error) { return 0, t.open(a) })
	if err != nil {
		t.closeSockets()
		return nil, err
	}
	return t, nil
}

// open makes one socket.
func (t *Transport) open(local netip.Addr) error {
	network := "ip6:50"
	if local.Is4() {
		network = "ip4:50"
	}
	lc := net.ListenConfig{Control: socket.Control(t.prepare)}
	pc, err := lc.ListenPacket(context.Background(), network, local.String())
	if err != nil {
		return listenError(local, err)
	}
	s := &bound{conn: pc.(*net.IPConn), local: local, wildcard: local.IsUnspecified(), is4: local.Is4()}
	if s.raw, err = s.conn.SyscallConn(); err == nil {
		var opt error
		if err = s.raw.Control(func(fd uintptr) { opt = socket.SetOptions(int(fd), s.is4) }); err == nil {
			err = opt
		}
	}
	if err != nil {
		s.conn.Close()
		return fmt.Errorf("preparing the socket for plain ESP: %w", err)
	}
	s.senders.New = func() any { return newSender(t, s) }
	t.sockets = append(t.sockets, s)
	return nil
}

// listenError says why there is no plain ESP, and what to do.
func listenError(a netip.Addr, err error) error {
	if cause := transport.RootCause(err); errors.Is(cause, syscall.EPERM) || errors.Is(cause, syscall.EACCES) {
		return fmt.Errorf("opening a raw socket for plain ESP (IP protocol 50): %w: give ikegod CAP_NET_RAW", cause)
	}
	return transport.ListenError(path.ESP, a, 0, err, "")
}

// Start begins to read. esp may be nil as long as there is no datapath: what arrives is then dropped and counted.
func (t *Transport) Start(esp transport.ESPHandler) {
	t.esp = esp
	for _, s := range t.sockets {
		t.wg.Go(func() { newReader(t, s).run() })
	}
}

// Close ends the readers and waits for them.
func (t *Transport) Close() error {
	if t.closed.Swap(true) {
		return nil
	}
	t.closeSockets()
	t.wg.Wait()
	return nil
}

func (t *Transport) closeSockets() {
	for _, s := range t.sockets {
		s.conn.Close()
	}
}

// socket finds the socket that a path sends from, or nil.
func (t *Transport) socket(p path.Path) *bound {
	local, is4 := p.Local.Addr(), p.Remote.Addr().Is4()
	for _, s := range t.sockets {
		if s.is4 == local.Is4() && s.is4 == is4 && (s.wildcard || s.local == local) {
			return s
		}
	}
	return nil
}

// readErrors counts and tells the ICMP errors that came for a socket's packets. They change nothing.
func (t *Transport) readErrors(s *bound) {
	socket.ReadErrors(s.raw, s.local, func(local netip.Addr, remote netip.AddrPort, cause syscall.Errno) {
		p := path.Path{Local: netip.AddrPortFrom(local, 0), Remote: remote, Kind: path.ESP}
		t.meter.Drop(transport.DropUnreachable, 1)
		if t.notices.Due(transport.DropUnreachable) {
			t.notices.Tell(transport.DropUnreachable, p, "%s: %s", p.Peer(), socket.ICMPText(cause))
		}
	})
}

// message is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type message struct {
	header unix.Msghdr
	n      uint32 // octets received or sent
}

// errorPause is how long a reader rests when errors do not end: no error is worth a whole core.
const errorPause = time.Millisecond

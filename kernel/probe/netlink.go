package probe

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel/xfrm/message"
)

const (
	reqid          = 0x494b6501      // in no range of anybody's
	netlinkTimeout = 3 * time.Second // of one request
)

// algorithms are the algorithms of an SA, with keys that serve for nothing.
type algorithms struct{ aead, cipher, mac message.Algorithm }

func aead(name string, octets int) algorithms {
	return algorithms{aead: message.Algorithm{Name: name, Key: key(octets), Bits: 128}}
}

// cbcWith is AES-CBC with an integrity algorithm.
func cbcWith(mac string, octets, bits int) algorithms {
	return algorithms{cipher: message.Algorithm{Name: message.CBC, Key: key(32)}, mac: message.Algorithm{Name: mac, Key: key(octets), Bits: bits}}
}

func key(octets int) []byte {
	k := make([]byte, octets)
	_, _ = rand.Read(k) // it never fails
	return k
}

// needs are what an attempt at each feature needs: key lengths are with the salt of an AEAD. AES-CBC is tried with the integrity algorithm that is most common.
func needs(f Feature) algorithms {
	switch f {
	case AESGCM:
		return aead(message.GCM, 32+4)
	case AESCCM:
		return aead(message.CCM, 32+3)
	case ChaCha20:
		return aead(message.ChaCha20, 32+4)
	case SHA2_384:
		return cbcWith(message.HMACSHA384, 48, 192)
	case SHA2_512:
		return cbcWith(message.HMACSHA512, 64, 256)
	case SHA1:
		return cbcWith(message.HMACSHA1, 20, 96)
	default:
		return cbcWith(message.HMACSHA256, 32, 128)
	}
}

// sa is one that is tried.
type sa struct {
	algs      algorithms
	encap     message.EncapType
	v6, esn   bool
	direction message.SADirection
}

// conn speaks NETLINK_XFRM.
type conn struct {
	socket *nl.NetlinkSocket
	seq    nl.SocketHandle
	keep   bool // SAs need not be removed, they go with their namespace
}

// dialXFRM opens a socket in the namespace of this thread.
func dialXFRM(own bool) (*conn, error) {
	s, err := nl.GetNetlinkSocketAt(-1, -1, unix.NETLINK_XFRM)
	if err != nil {
		return nil, err
	}
	timeout := unix.NsecToTimeval(netlinkTimeout.Nanoseconds())
	if err := s.SetReceiveTimeout(&timeout); err != nil {
		s.Close()
		return nil, err
	}
	_ = s.SetExtAck(true) // kernels before 4.12 have no text
	return &conn{socket: s, seq: nl.SocketHandle{Socket: s}, keep: own}, nil
}

func (c *conn) close() { c.socket.Close() }

func (c *conn) do(kind message.Type, flags int, m interface{ Append([]byte) []byte }) ([][]byte, error) {
	r := nl.NewNetlinkRequest(int(kind), flags)
	r.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_XFRM: &c.seq}
	r.AddRawData(m.Append(nil))
	answers, err := r.Execute(unix.NETLINK_XFRM, 0)
	if errors.Is(err, unix.EAGAIN) {
		err = os.ErrDeadlineExceeded
	}
	return answers, err
}

// none asks for an SA that is not there: whoever says so can be configured.
func (c *conn) none() error {
	s := sa{}.message(0x100)
	_, err := c.do(message.GETSA, unix.NLM_F_ACK, &message.GetSA{ID: s.ID()})
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// spare finds algorithms that ESP works with.
func (c *conn) spare(v6 bool) (algorithms, error) {
	var first error
	for f := AESGCM; f <= SHA1; f++ {
		err := c.try(sa{algs: needs(f), v6: v6})
		switch {
		case err == nil:
			return needs(f), nil
		case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EPERM):
			return algorithms{}, err // it is ESP itself that is missing, or we that are not welcome
		case first == nil:
			first = err
		}
	}
	return algorithms{}, first
}

// try adds an SA, and removes it where others would see it.
func (c *conn) try(s sa) error {
	m := s.message(randomSPI())
	err := c.add(m)
	if err == nil {
		err = c.remove(m)
	}
	return err
}

func (s sa) addrs() (from, to netip.Addr) {
	if s.v6 {
		return from6, to6
	}
	return from4, to4
}

func randomSPI() uint32 { return 0x01000000 | binary.BigEndian.Uint32(key(4))>>8 }

func (s sa) message(spi uint32) *message.SA {
	m := &message.SA{SPI: spi, Reqid: reqid, Mode: message.Tunnel, AEAD: s.algs.aead, Cipher: s.algs.cipher, MAC: s.algs.mac, Direction: s.direction}
	m.Src, m.Dst = s.addrs()
	if s.encap != message.NoEncap {
		m.Encap = message.Encap{Type: s.encap, SrcPort: 4500, DstPort: 4500}
	}
	if s.esn {
		m.Flags, m.Replay = message.FlagESN, message.Replay{Window: 64, Extended: true}
	}
	return m
}

func (c *conn) add(m *message.SA) error {
	_, err := c.do(message.NEWSA, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, &message.NewSA{SA: *m})
	return err
}

func (c *conn) remove(m *message.SA) error {
	if c.keep {
		return nil
	}
	_, err := c.do(message.DELSA, unix.NLM_F_ACK, &message.DelSA{ID: m.ID()})
	return err
}

// direction adds an SA with a direction and asks whether the kernel has kept it: older ones pass over what they do not know.
func (c *conn) direction(spare algorithms) (known bool, err error) {
	m := sa{algs: spare, direction: message.Inbound}.message(randomSPI())
	if err := c.add(m); err != nil {
		return false, err
	}
	answers, err := c.do(message.GETSA, 0, &message.GetSA{ID: m.ID()})
	if err := errors.Join(err, c.remove(m)); err != nil {
		return false, err
	}
	for _, b := range answers {
		got, err := message.ParseSA(b)
		if err != nil {
			return false, err
		}
		known = known || got.Direction == message.Inbound
	}
	return known, nil
}

// migrate asks for new addresses of a policy that is not there: a kernel that can do it says that it finds none.
func (c *conn) migrate() error {
	_, err := c.do(message.MIGRATE, unix.NLM_F_ACK, &message.Migrate{
		Selector:  message.Selector{Src: netip.PrefixFrom(from4, 32), Dst: netip.PrefixFrom(to4, 32)},
		Direction: message.In, OldSrc: from4, OldDst: to4, NewSrc: from4.Prev(), NewDst: to4,
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// addXFRMInterface makes an xfrm interface in the namespace of this thread, and it goes with it.
func addXFRMInterface() error {
	const loopback = 1
	return withLinks(func(h *netlink.Handle) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex = "ikeprobe0", loopback
		return h.LinkAdd(&netlink.Xfrmi{LinkAttrs: attrs, Ifid: 1})
	})
}

// loopbackUp lets the namespace of this thread talk to itself.
func loopbackUp() error {
	return withLinks(func(h *netlink.Handle) error {
		lo, err := h.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("lo: %w", err)
		}
		return h.LinkSetUp(lo)
	})
}

func withLinks(do func(*netlink.Handle) error) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.SetSocketTimeout(netlinkTimeout); err != nil {
		return err
	}
	return do(h)
}

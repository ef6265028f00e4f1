package probe

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Messages and attributes of linux/xfrm.h that vishvananda/netlink has no names for.
const (
	msgMigrate     = 0x21
	attrMigrate    = 17
	attrDirection  = 33
	encapUDP       = 2 // UDP_ENCAP_ESPINUDP
	encapTCP       = 7 // TCP_ENCAP_ESPINTCP
	directionIn    = 1
	policyIn       = 0
	reqid          = 0x494b6501      // in no range of anybody's
	netlinkTimeout = 3 * time.Second // of one request
)

// algorithm is one as the kernel's crypto API calls it.
type algorithm struct {
	attr     uint16 // XFRMA_ALG_*
	name     string
	keyBits  int // with the salt of an AEAD
	truncate int // bits of the ICV; zero: it has none
}

func aead(name string, keyBits int) []algorithm {
	return []algorithm{{nl.XFRMA_ALG_AEAD, name, keyBits, 128}}
}

func cbcWith(auth string, keyBits, truncate int) []algorithm {
	return []algorithm{{nl.XFRMA_ALG_CRYPT, "cbc(aes)", 256, 0}, {nl.XFRMA_ALG_AUTH_TRUNC, auth, keyBits, truncate}}
}

// algorithms are what an attempt at each feature needs. AES-CBC is tried with the integrity algorithm that is most common.
var algorithms = map[Feature][]algorithm{
	AESGCM:   aead("rfc4106(gcm(aes))", 256+32),
	AESCCM:   aead("rfc4309(ccm(aes))", 256+24),
	ChaCha20: aead("rfc7539esp(chacha20,poly1305)", 256+32),
	AESCBC:   cbcWith("hmac(sha256)", 256, 128),
	SHA2_256: cbcWith("hmac(sha256)", 256, 128),
	SHA2_384: cbcWith("hmac(sha384)", 384, 192),
	SHA2_512: cbcWith("hmac(sha512)", 512, 256),
	SHA1:     cbcWith("hmac(sha1)", 160, 96),
}

// sa is one that is tried.
type sa struct {
	algs      []algorithm
	encap     uint16
	v6, esn   bool
	direction bool
}

// conn speaks NETLINK_XFRM.
type conn struct {
	c    *netlink.Conn
	keep bool // SAs need not be removed, they go with their namespace
}

func dialXFRM(ns int) (*conn, error) {
	c, err := dial(unix.NETLINK_XFRM, ns)
	return &conn{c, ns != 0}, err
}

func dial(protocol, ns int) (*netlink.Conn, error) {
	c, err := netlink.Dial(protocol, &netlink.Config{NetNS: ns})
	if err != nil {
		return nil, err
	}
	_ = c.SetOption(netlink.ExtendedAcknowledge, true) // kernels before 4.12 have no text
	return c, nil
}

func (c *conn) close() { _ = c.c.Close() } // nothing is left to lose

func (c *conn) do(kind netlink.HeaderType, flags netlink.HeaderFlags, data []byte) ([]netlink.Message, error) {
	if err := c.c.SetDeadline(time.Now().Add(netlinkTimeout)); err != nil {
		return nil, err
	}
	msgs, err := c.c.Execute(netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request | flags}, Data: data})
	return msgs, plain(err)
}

// plain is the kernel's error with its own text, without that of the library.
func plain(err error) error {
	op, ok := errors.AsType[*netlink.OpError](err)
	switch {
	case !ok:
		return err
	case op.Message != "":
		return fmt.Errorf("%w: %s", op.Err, op.Message)
	}
	return op.Err
}

// none asks for an SA that is not there: whoever says so can be configured.
func (c *conn) none() error {
	id := sa{}.id(0x100)
	_, err := c.do(nl.XFRM_MSG_GETSA, netlink.Acknowledge, id.Serialize())
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// spare finds algorithms that ESP works with.
func (c *conn) spare(v6 bool) ([]algorithm, error) {
	var first error
	for f := AESGCM; f <= SHA1; f++ {
		err := c.try(sa{algs: algorithms[f], v6: v6})
		switch {
		case err == nil:
			return algorithms[f], nil
		case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EPERM):
			return nil, err // it is ESP itself that is missing, or we that are not welcome
		case first == nil:
			first = err
		}
	}
	return nil, first
}

// try adds an SA, and removes it where others would see it.
func (c *conn) try(s sa) error {
	spi, err := c.add(s)
	if err == nil {
		err = c.remove(s, spi)
	}
	return err
}

func (s sa) addrs() (from, to netip.Addr) {
	if s.v6 {
		return from6, to6
	}
	return from4, to4
}

func (s sa) family() uint16 {
	if s.v6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func (s sa) id(spi uint32) *nl.XfrmUsersaId {
	_, to := s.addrs()
	id := &nl.XfrmUsersaId{Spi: nl.Swap32(spi), Family: s.family(), Proto: unix.IPPROTO_ESP}
	id.Daddr.FromIP(to.AsSlice())
	return id
}

func (c *conn) add(s sa) (spi uint32, err error) {
	var random [4]byte
	_, _ = rand.Read(random[:]) // it never fails
	spi = 0x01000000 | binary.BigEndian.Uint32(random[:])>>8
	from, to := s.addrs()
	info := &nl.XfrmUsersaInfo{Reqid: reqid, Family: s.family(), Mode: 1}
	info.Id.Daddr.FromIP(to.AsSlice())
	info.Id.Spi, info.Id.Proto = nl.Swap32(spi), unix.IPPROTO_ESP
	info.Saddr.FromIP(from.AsSlice())
	const forever = ^uint64(0)
	info.Lft = nl.XfrmLifetimeCfg{SoftByteLimit: forever, HardByteLimit: forever, SoftPacketLimit: forever, HardPacketLimit: forever}
	attrs := netlink.NewAttributeEncoder()
	for _, a := range s.algs {
		attrs.Bytes(a.attr, a.encode())
	}
	if s.encap != 0 {
		b := make([]byte, nl.SizeofXfrmEncapTmpl)
		binary.NativeEndian.PutUint16(b, s.encap)
		binary.BigEndian.PutUint16(b[2:], 4500)
		binary.BigEndian.PutUint16(b[4:], 4500)
		attrs.Bytes(nl.XFRMA_ENCAP, b)
	}
	if s.esn {
		info.Flags = nl.XFRM_STATE_ESN
		b := make([]byte, nl.SizeofXfrmReplayStateEsn+16)
		binary.NativeEndian.PutUint32(b, 4)       // words of the bitmap
		binary.NativeEndian.PutUint32(b[20:], 64) // window
		attrs.Bytes(nl.XFRMA_REPLAY_ESN_VAL, b)
	}
	if s.direction {
		attrs.Uint8(attrDirection, directionIn)
	}
	b, err := attrs.Encode()
	if err != nil {
		return 0, err
	}
	_, err = c.do(nl.XFRM_MSG_NEWSA, netlink.Create|netlink.Excl|netlink.Acknowledge, append(info.Serialize(), b...))
	return spi, err
}

// encode is the algorithm's attribute, with a key that serves for nothing.
func (a algorithm) encode() []byte {
	b := make([]byte, 64, nl.SizeofXfrmAlgoAEAD+64)
	copy(b, a.name)
	b = binary.NativeEndian.AppendUint32(b, uint32(a.keyBits))
	if a.truncate != 0 {
		b = binary.NativeEndian.AppendUint32(b, uint32(a.truncate))
	}
	key := make([]byte, a.keyBits/8)
	_, _ = rand.Read(key) // it never fails
	return append(b, key...)
}

func (c *conn) remove(s sa, spi uint32) error {
	if c.keep {
		return nil
	}
	_, err := c.do(nl.XFRM_MSG_DELSA, netlink.Acknowledge, s.id(spi).Serialize())
	return err
}

// direction adds an SA with a direction and asks whether the kernel has kept it: older ones pass over what they do not know.
func (c *conn) direction(spare []algorithm) (known bool, err error) {
	s := sa{algs: spare, direction: true}
	spi, err := c.add(s)
	if err != nil {
		return false, err
	}
	msgs, err := c.do(nl.XFRM_MSG_GETSA, 0, s.id(spi).Serialize())
	if err := errors.Join(err, c.remove(s, spi)); err != nil {
		return false, err
	}
	for _, m := range msgs {
		if len(m.Data) < nl.SizeofXfrmUsersaInfo {
			continue
		}
		attrs, err := netlink.NewAttributeDecoder(m.Data[nl.SizeofXfrmUsersaInfo:])
		if err != nil {
			return false, err
		}
		for attrs.Next() {
			known = known || attrs.Type() == attrDirection
		}
	}
	return known, nil
}

// migrate asks for new addresses of a policy that is not there: a kernel that can do it says that it finds none.
func (c *conn) migrate() error {
	const sizeID, sizeMigrate = 64, 76
	id := make([]byte, sizeID)
	sel := &nl.XfrmSelector{Family: unix.AF_INET, PrefixlenD: 32, PrefixlenS: 32}
	sel.Daddr.FromIP(to4.AsSlice())
	sel.Saddr.FromIP(from4.AsSlice())
	copy(id, sel.Serialize())
	id[60] = policyIn
	m := make([]byte, sizeMigrate)
	copy(m, to4.AsSlice())
	copy(m[16:], from4.AsSlice())
	copy(m[32:], to4.AsSlice())
	copy(m[48:], from4.Prev().AsSlice())
	m[64], m[65] = unix.IPPROTO_ESP, 1
	binary.NativeEndian.PutUint16(m[72:], unix.AF_INET)
	binary.NativeEndian.PutUint16(m[74:], unix.AF_INET)
	attrs := netlink.NewAttributeEncoder()
	attrs.Bytes(attrMigrate, m)
	b, err := attrs.Encode()
	if err != nil {
		return err
	}
	_, err = c.do(msgMigrate, netlink.Acknowledge, append(id, b...))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// addXFRMInterface makes an xfrm interface in a namespace that goes with it.
func addXFRMInterface(ns int) error {
	c, err := dial(unix.NETLINK_ROUTE, ns)
	if err != nil {
		return err
	}
	defer c.Close()
	const loopback, attrLink, attrIfID = 1, 1, 2
	attrs := netlink.NewAttributeEncoder()
	attrs.String(unix.IFLA_IFNAME, "ikeprobe0")
	attrs.Nested(unix.IFLA_LINKINFO, func(info *netlink.AttributeEncoder) error {
		info.String(nl.IFLA_INFO_KIND, "xfrm")
		info.Nested(nl.IFLA_INFO_DATA, func(data *netlink.AttributeEncoder) error {
			data.Uint32(attrLink, loopback)
			data.Uint32(attrIfID, 1)
			return nil
		})
		return nil
	})
	b, err := attrs.Encode()
	if err != nil {
		return err
	}
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_NEWLINK, Flags: netlink.Request | netlink.Create | netlink.Excl | netlink.Acknowledge},
		Data:   append(make([]byte, unix.SizeofIfInfomsg), b...),
	})
	return plain(err)
}

// loopbackUp lets a namespace talk to itself.
func loopbackUp(ns int) error {
	c, err := dial(unix.NETLINK_ROUTE, ns)
	if err != nil {
		return err
	}
	defer c.Close()
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], 1)
	binary.NativeEndian.PutUint32(b[8:], unix.IFF_UP)
	binary.NativeEndian.PutUint32(b[12:], unix.IFF_UP)
	_, err = c.Execute(netlink.Message{Header: netlink.Header{Type: unix.RTM_NEWLINK, Flags: netlink.Request | netlink.Acknowledge}, Data: b})
	return plain(err)
}

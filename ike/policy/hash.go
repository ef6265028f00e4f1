package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/ts"
)

// Hash is equal for connections that mean the same. Positions do not count. It is stable within one release of ikegod: it is for comparing the
// connections of two loads, not for storage.
func (c *Connection) Hash() [32]byte {
	var e encoding
	e.connection(c)
	return sha256.Sum256(e)
}

// encoding is a canonical encoding: every field in a fixed order, numbers with fixed width, strings and lists after their length.
type encoding []byte

func (e *encoding) number(v uint64) { *e = binary.BigEndian.AppendUint64(*e, v) }

func (e *encoding) flag(b bool) {
	var v uint64
	if b {
		v = 1
	}
	e.number(v)
}

func (e *encoding) text(s string) {
	e.number(uint64(len(s)))
	*e = append(*e, s...)
}

func (e *encoding) addr(a netip.Addr) {
	b, err := a.MarshalBinary() // 0, 4 or 16 octets and the zone; it has no failure
	if err != nil {
		b = []byte(a.String())
	}
	e.text(string(b))
}

func (e *encoding) connection(c *Connection) {
	e.text(c.Name)
	e.end(&c.Left)
	e.end(&c.Right)
	e.number(uint64(c.Auto))
	e.proposals(c.IKE)
	e.number(uint64(len(c.Children)))
	for i := range c.Children {
		e.child(&c.Children[i])
	}
	e.number(uint64(c.TCP.Mode))
	e.number(uint64(c.TCP.RemotePort))
	e.number(uint64(c.Retransmit.Interval))
	e.number(uint64(c.Retransmit.Timeout))
	e.number(uint64(c.Liveness))
	e.number(uint64(c.Lifetimes.IKE))
	e.number(uint64(c.Lifetimes.Child))
	e.number(uint64(c.Encapsulation))
	e.flag(c.Narrowing)
	e.flag(c.NATKeepAlive)
	e.number(uint64(c.Failure))
	e.number(uint64(c.Negotiation))
	e.number(uint64(c.Backend))
	e.number(uint64(c.Shunt))
}

func (e *encoding) end(x *End) {
	e.number(uint64(x.Host.Kind))
	e.addr(x.Host.Addr)
	e.text(x.Host.Name)
	e.number(uint64(x.Host.Family))
	e.number(uint64(x.IKEPort))
	e.pattern(x.ID)
	e.number(uint64(x.Auth))
	e.selectors(x.Subnets)
	e.addr(x.SourceIP)
	e.text(x.InterfaceIP.String())
	e.text(x.Updown)
	e.number(uint64(x.Protocol))
	e.number(uint64(x.StartPort))
	e.number(uint64(x.EndPort))
}

func (e *encoding) child(c *Child) {
	e.text(c.Name)
	e.proposals(c.ESP)
	e.flag(c.PFS)
	e.flag(c.PFSOptional)
	e.selectors(c.Left)
	e.selectors(c.Right)
	e.number(uint64(c.ReplayWindow))
	e.number(uint64(c.MTU))
	e.flag(c.Transport)
	e.kernel(&c.Kernel)
}

func (e *encoding) kernel(k *Kernel) {
	for _, v := range []uint32{k.Priority, k.MarkIn.Value, k.MarkIn.Mask, k.MarkOut.Value, k.MarkOut.Mask, k.InterfaceID} {
		e.number(uint64(v))
	}
	e.text(k.Interface)
	e.number(k.MaxBytes)
	e.number(k.MaxPackets)
	e.flag(k.DecapDSCP)
	e.flag(k.NoEncapDSCP)
	e.flag(k.NoPMTUDisc)
}

func (e *encoding) pattern(p ident.Pattern) {
	e.flag(p.Any)
	e.number(uint64(p.ID.Type))
	e.text(p.ID.Data)
}

func (e *encoding) selectors(s ts.Set) {
	e.number(uint64(len(s)))
	for _, x := range s {
		e.addr(x.Start)
		e.addr(x.End)
		e.number(uint64(x.Protocol))
		e.number(uint64(x.StartPort))
		e.number(uint64(x.EndPort))
	}
}

func (e *encoding) proposals(ps suite.Proposals) {
	e.number(uint64(len(ps)))
	for _, p := range ps {
		e.number(uint64(len(p.Encr)))
		for _, x := range p.Encr {
			e.number(uint64(x.ID))
			e.number(uint64(x.KeyBits))
		}
		numbers(e, p.PRF)
		numbers(e, p.Integ)
		numbers(e, p.KE)
		numbers(e, p.SN)
	}
}

func numbers[T ~uint8 | ~uint16](e *encoding, list []T) {
	e.number(uint64(len(list)))
	for _, v := range list {
		e.number(uint64(v))
	}
}

// Equal reports whether two setups say the same, wherever they say it.
func (s Setup) Equal(o Setup) bool {
	return slices.Equal(s.ListenTCP, o.ListenTCP) && s.Listen == o.Listen && s.ListenUDP == o.ListenUDP && s.KeepAlive == o.KeepAlive &&
		s.UniqueIDs == o.UniqueIDs && s.MaxHalfOpen == o.MaxHalfOpen && s.CookieThreshold == o.CookieThreshold && s.CookieMode == o.CookieMode &&
		s.SecretsFile == o.SecretsFile
}

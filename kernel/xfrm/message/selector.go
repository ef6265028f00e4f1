package message

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Ports is a port and the bits of it that count. For ICMP the source port is the type and the destination port the code. The zero Ports is any.
type Ports struct{ Port, Mask uint16 }

// Selector says which packets are meant (struct xfrm_selector). Both prefixes are of one family; the zero Selector is any packet, of any family.
type Selector struct {
	Src, Dst           netip.Prefix
	Protocol           uint8 // zero: any
	SrcPorts, DstPorts Ports
}

const sizeSelector = 56

func (s Selector) put(b []byte) {
	putAddr(b, s.Dst.Addr())
	putAddr(b[16:], s.Src.Addr())
	be.PutUint16(b[32:], s.DstPorts.Port)
	be.PutUint16(b[34:], s.DstPorts.Mask)
	be.PutUint16(b[36:], s.SrcPorts.Port)
	be.PutUint16(b[38:], s.SrcPorts.Mask)
	native.PutUint16(b[40:], family(s.Dst.Addr()))
	if s.Dst.IsValid() && s.Src.IsValid() {
		b[42], b[43] = uint8(s.Dst.Bits()), uint8(s.Src.Bits())
	}
	b[44] = s.Protocol
}

func parseSelector(b []byte) Selector {
	f := native.Uint16(b[40:])
	s := Selector{
		Protocol: b[44],
		DstPorts: Ports{be.Uint16(b[32:]), be.Uint16(b[34:])}, SrcPorts: Ports{be.Uint16(b[36:]), be.Uint16(b[38:])},
	}
	if f != unix.AF_UNSPEC {
		s.Dst, s.Src = netip.PrefixFrom(addr(b, f), int(b[42])), netip.PrefixFrom(addr(b[16:], f), int(b[43]))
	}
	return s
}

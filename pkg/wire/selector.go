package wire

import (
	"encoding/binary"
	"net/netip"

	"github.com/ikegod/ikegod/pkg/iana"
)

// TS is a Traffic Selector payload (RFC 7296 3.13); Payload says whether it is TSi or TSr.
type TS struct {
	Payload   iana.Payload
	Selectors []Selector
}

// Selector is one traffic selector (RFC 7296 3.13.1). Start and End are valid for the two address range types, in the family that the type
// says; a selector of any other type keeps its octets after the first four (type, protocol or RESERVED, length) in Raw.
type Selector struct {
	TSType     iana.TSType
	IPProtocol uint8
	StartPort  uint16
	EndPort    uint16
	Start, End netip.Addr
	Raw        []byte
}

// addrLen is the size of an address of that selector type in octets, zero for a type that is not an address range.
func addrLen(t iana.TSType) int {
	switch t {
	case iana.TS_IPV4_ADDR_RANGE:
		return 4
	case iana.TS_IPV6_ADDR_RANGE:
		return 16
	}
	return 0
}

func parseTS(t iana.Payload, c *cursor) TS {
	p := TS{Payload: t}
	count := int(c.u8("Number of TSs"))
	c.reserved(3)
	for i := 0; i < count && c.err == nil; i++ {
		p.Selectors = append(p.Selectors, parseSelector(c))
	}
	if count == 0 {
		c.fail(c.off, "no selector")
	}
	c.end("the last selector")
	return p
}

func parseSelector(c *cursor) Selector {
	start := c.off
	s := Selector{TSType: iana.TSType(c.u8("a selector")), IPProtocol: c.u8("IP Protocol ID")}
	length := int(c.u16("Selector Length"))
	n := addrLen(s.TSType)
	switch {
	case c.err != nil:
	case length < 4:
		c.fail(start+2, "Selector Length %d is shorter than its own header", length)
	case n == 0:
		s.Raw = c.bytes(length-4, "a selector")
	case length != selectorLen+2*n:
		c.fail(start+2, "Selector Length %d, a %v has %d", length, s.TSType, selectorLen+2*n)
	default:
		s.StartPort = c.u16("Start Port")
		s.EndPort = c.u16("End Port")
		s.Start, _ = netip.AddrFromSlice(c.bytes(n, "Starting Address"))
		s.End, _ = netip.AddrFromSlice(c.bytes(n, "Ending Address"))
	}
	return s
}

// Type implements Payload.
func (p TS) Type() iana.Payload { return p.Payload }

// Len implements Payload.
func (p TS) Len() int {
	n := 4
	for _, s := range p.Selectors {
		n += s.len()
	}
	return n
}

func (s Selector) len() int {
	if n := addrLen(s.TSType); n != 0 {
		return selectorLen + 2*n
	}
	return 4 + len(s.Raw)
}

// AppendTo implements Payload.
func (p TS) AppendTo(b []byte) []byte {
	b = append(b, byte(len(p.Selectors)), 0, 0, 0)
	for _, s := range p.Selectors {
		b = append(b, byte(s.TSType), s.IPProtocol)
		b = binary.BigEndian.AppendUint16(b, uint16(s.len()))
		n := addrLen(s.TSType)
		if n == 0 {
			b = append(b, s.Raw...)
			continue
		}
		b = binary.BigEndian.AppendUint16(b, s.StartPort)
		b = binary.BigEndian.AppendUint16(b, s.EndPort)
		b = appendAddr(b, s.Start, n)
		b = appendAddr(b, s.End, n)
	}
	return b
}

// appendAddr appends an address in n octets; one of another family becomes the zero address, which matches no traffic.
func appendAddr(b []byte, a netip.Addr, n int) []byte {
	switch {
	case n == 4 && a.Is4():
		v := a.As4()
		return append(b, v[:]...)
	case n == 16 && a.Is6():
		v := a.As16()
		return append(b, v[:]...)
	}
	return append(b, make([]byte, n)...)
}

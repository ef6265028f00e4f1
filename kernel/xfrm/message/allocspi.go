package message

import "net/netip"

// AllocSPI asks for an SA without keys whose SPI is free (ALLOCSPI); the answer is for ParseSA. The kernel keeps it for net.core.xfrm_acq_expires seconds, 30
// if nobody changed that.
type AllocSPI struct {
	Src, Dst  netip.Addr // of the inbound packets: Dst is this host
	Reqid     uint32
	Mode      Mode
	Min, Max  uint32
	Mark      Mark
	IfID      uint32
	Direction SADirection
	Seq       uint32 // of an acquire, whose SA without keys gets the SPI
}

const sizeAllocSPI = sizeSA + 8

// Append appends the body.
func (m *AllocSPI) Append(b []byte) []byte {
	b, part := grow(b, sizeAllocSPI)
	sa := SA{Src: m.Src, Dst: m.Dst, Reqid: m.Reqid, Mode: m.Mode, Seq: m.Seq}
	sa.put(part)
	clear(part[:sizeSelector]) // the kernel makes it from the addresses
	clear(part[96 : 96+sizeLimits])
	native.PutUint32(part[sizeSA:], m.Min)
	native.PutUint32(part[sizeSA+4:], m.Max)
	b = m.Mark.appendTo(b)
	if m.IfID != 0 {
		b = appendUint32Attr(b, attrIfID, m.IfID)
	}
	if m.Direction != NoDirection {
		b = appendAttr(b, attrDirection, []byte{uint8(m.Direction)})
	}
	return b
}

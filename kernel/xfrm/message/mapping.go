package message

import "net/netip"

// Mapping says that authentic ESP in UDP or TCP for an inbound SA came from another address or port than its own (MAPPING).
type Mapping struct {
	ID       SAID
	Reqid    uint32
	Old, New netip.AddrPort
}

const sizeMapping = 64

// ParseMapping reads MAPPING.
func ParseMapping(b []byte) (*Mapping, error) {
	if len(b) < sizeMapping {
		return nil, errShort
	}
	id, f := parseSAID(b), native.Uint16(b[20:])
	return &Mapping{
		ID: id, Reqid: native.Uint32(b[24:]),
		Old: netip.AddrPortFrom(addr(b[28:], f), be.Uint16(b[60:])), New: netip.AddrPortFrom(addr(b[44:], f), be.Uint16(b[62:])),
	}, nil
}

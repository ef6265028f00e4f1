package wire

import (
	"encoding/binary"

	"github.com/ikegod/ikegod/pkg/iana"
)

// CP is a Configuration payload (RFC 7296 3.15).
type CP struct {
	CFGType    iana.CFGType
	Attributes []CFGAttribute
}

// CFGAttribute is one attribute of a Configuration payload (RFC 7296 3.15.1).
type CFGAttribute struct {
	Type iana.CFGAttr
	Data []byte
}

// cfgReserved is the R bit in front of an attribute's type: ignored on receipt (RFC 7296 3.15.1).
const cfgReserved = 0x8000

func parseCP(c *cursor) CP {
	p := CP{CFGType: iana.CFGType(c.u8("CFG Type"))}
	c.reserved(3)
	for !c.done() {
		if len(p.Attributes) == MaxCFGAttributes {
			c.fail(c.off, "more than %d attributes", MaxCFGAttributes)
			break
		}
		a := CFGAttribute{Type: iana.CFGAttr(c.u16("an attribute") &^ cfgReserved)}
		a.Data = c.bytes(int(c.u16("an attribute's length")), "an attribute's value")
		p.Attributes = append(p.Attributes, a)
	}
	return p
}

// Type implements Payload.
func (CP) Type() iana.Payload { return iana.PayloadCP }

// Len implements Payload.
func (p CP) Len() int {
	n := 4
	for _, a := range p.Attributes {
		n += attributeLen + len(a.Data)
	}
	return n
}

// AppendTo implements Payload.
func (p CP) AppendTo(b []byte) []byte {
	b = append(b, byte(p.CFGType), 0, 0, 0)
	for _, a := range p.Attributes {
		b = binary.BigEndian.AppendUint16(b, uint16(a.Type)&^cfgReserved)
		b = binary.BigEndian.AppendUint16(b, uint16(len(a.Data)))
		b = append(b, a.Data...)
	}
	return b
}

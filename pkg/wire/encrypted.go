package wire

import (
	"encoding/binary"

	"github.com/ikegod/ikegod/pkg/iana"
)

// SK is an Encrypted payload (RFC 7296 3.14), still sealed: IV, ciphertext and ICV. Next is the type of the first payload inside.
type SK struct {
	Next iana.Payload
	Data []byte
}

// Type implements Payload.
func (SK) Type() iana.Payload { return iana.PayloadSK }

// Len implements Payload.
func (p SK) Len() int { return len(p.Data) }

// AppendTo implements Payload.
func (p SK) AppendTo(b []byte) []byte { return append(b, p.Data...) }

// SKF is an Encrypted Fragment payload (RFC 7383 2.5), still sealed. Next is set in the first fragment only.
type SKF struct {
	Next          iana.Payload
	Number, Total uint16
	Data          []byte
}

// parseSKF makes the tests of RFC 7383 2.6 that need no other fragment.
func parseSKF(inner iana.Payload, c *cursor) SKF {
	at := c.off
	p := SKF{Next: inner, Number: c.u16("Fragment Number"), Total: c.u16("Total Fragments")}
	if p.Number == 0 || p.Number > p.Total {
		c.fail(at, "fragment %d of %d (RFC 7383 2.6)", p.Number, p.Total)
	}
	p.Data = c.rest()
	return p
}

// Type implements Payload.
func (SKF) Type() iana.Payload { return iana.PayloadSKF }

// Len implements Payload.
func (p SKF) Len() int { return 4 + len(p.Data) }

// AppendTo implements Payload.
func (p SKF) AppendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, p.Number)
	b = binary.BigEndian.AppendUint16(b, p.Total)
	return append(b, p.Data...)
}

// AppendSKHeader appends the IKE header and the generic header of an SK payload whose body (IV to ICV) will have bodyLen octets;
// what it appends is the associated data of RFC 5282 5.1.
func AppendSKHeader(b []byte, h Header, next iana.Payload, bodyLen int) []byte {
	return appendSealedHeader(b, h, iana.PayloadSK, next, bodyLen)
}

// AppendSKFHeader is AppendSKHeader for a fragment (RFC 7383 2.5), fragment number and total included; bodyLen does not count them.
func AppendSKFHeader(b []byte, h Header, next iana.Payload, number, total uint16, bodyLen int) []byte {
	b = appendSealedHeader(b, h, iana.PayloadSKF, next, 4+bodyLen)
	b = binary.BigEndian.AppendUint16(b, number)
	return binary.BigEndian.AppendUint16(b, total)
}

func appendSealedHeader(b []byte, h Header, t, next iana.Payload, bodyLen int) []byte {
	h.NextPayload = t
	h.Length = uint32(HeaderLen + genericLen + bodyLen)
	b = h.AppendTo(b)
	b = append(b, byte(next), 0)
	return binary.BigEndian.AppendUint16(b, uint16(genericLen+bodyLen))
}

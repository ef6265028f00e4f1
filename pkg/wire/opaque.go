package wire

import (
	"encoding/binary"

	"github.com/ikegod/ikegod/pkg/iana"
)

// VendorID is a Vendor ID payload (RFC 7296 3.12).
type VendorID struct{ Data []byte }

// Type implements Payload.
func (VendorID) Type() iana.Payload { return iana.PayloadVendorID }

// Len implements Payload.
func (p VendorID) Len() int { return len(p.Data) }

// AppendTo implements Payload.
func (p VendorID) AppendTo(b []byte) []byte { return append(b, p.Data...) }

// EAP is an EAP payload (RFC 7296 3.16) with its message as it came: code, identifier, length and what follows.
type EAP struct{ Data []byte }

// parseEAP checks that the message fills the payload (RFC 7296 3.16: its length is four less than the Payload Length).
func parseEAP(c *cursor) EAP {
	at := c.off
	p := EAP{Data: c.rest()}
	if len(p.Data) < 4 {
		c.fail(at, "an EAP message of %d octets, the shortest has 4", len(p.Data))
	} else if n := int(binary.BigEndian.Uint16(p.Data[2:])); n != len(p.Data) {
		c.fail(at+2, "Length of the EAP message says %d octets, the payload holds %d", n, len(p.Data))
	}
	return p
}

// Type implements Payload.
func (EAP) Type() iana.Payload { return iana.PayloadEAP }

// Len implements Payload.
func (p EAP) Len() int { return len(p.Data) }

// AppendTo implements Payload.
func (p EAP) AppendTo(b []byte) []byte { return append(b, p.Data...) }

// Unknown is a payload of a type that this package does not know.
type Unknown struct {
	PayloadType iana.Payload
	Data        []byte
}

// Type implements Payload.
func (p Unknown) Type() iana.Payload { return p.PayloadType }

// Len implements Payload.
func (p Unknown) Len() int { return len(p.Data) }

// AppendTo implements Payload.
func (p Unknown) AppendTo(b []byte) []byte { return append(b, p.Data...) }

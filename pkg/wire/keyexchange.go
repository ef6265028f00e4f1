package wire

import (
	"encoding/binary"

	"github.com/ikegod/ikegod/pkg/iana"
)

// KE is a Key Exchange payload (RFC 7296 3.4).
type KE struct {
	Method iana.KE
	Data   []byte
}

func parseKE(c *cursor) KE {
	p := KE{Method: iana.KE(c.u16("the key exchange method"))}
	c.reserved(2)
	p.Data = c.rest()
	return p
}

// Type implements Payload.
func (KE) Type() iana.Payload { return iana.PayloadKE }

// Len implements Payload.
func (p KE) Len() int { return 4 + len(p.Data) }

// AppendTo implements Payload.
func (p KE) AppendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(p.Method))
	b = append(b, 0, 0)
	return append(b, p.Data...)
}

// Nonce is a Nonce payload of 16 to 256 octets (RFC 7296 3.9).
type Nonce struct{ Data []byte }

func parseNonce(c *cursor) Nonce {
	if n := c.left(); n < MinNonce || n > MaxNonce {
		c.fail(c.off, "a nonce of %d octets, allowed are %d to %d (RFC 7296 3.9)", n, MinNonce, MaxNonce)
	}
	return Nonce{Data: c.rest()}
}

// Type implements Payload.
func (Nonce) Type() iana.Payload { return iana.PayloadNonce }

// Len implements Payload.
func (p Nonce) Len() int { return len(p.Data) }

// AppendTo implements Payload.
func (p Nonce) AppendTo(b []byte) []byte { return append(b, p.Data...) }

// Package wire turns IKEv2 messages into bytes and back (RFC 7296 section 3, RFC 7383 2.5). It holds no keys and no policy:
// what it does not know it keeps, so that parse and append are inverse; what is too long, too many or too deep it refuses with a
// SyntaxError that names the payload and the offset.
//
// Parsed values alias the input. Whoever keeps one past the life of the packet clones it.
package wire

import "github.com/ikegod/ikegod/pkg/iana"

// SPI is an IKE SPI (RFC 7296 3.1), zero when not known.
type SPI uint64

// Flags is the flags octet of the header (RFC 7296 3.1).
type Flags uint8

// Flags of the header; the other bits are reserved and kept as received.
const (
	FlagInitiator Flags = 0x08 // I: sent by the original initiator of the IKE SA
	FlagVersion   Flags = 0x10 // V: the sender can speak a higher major version
	FlagResponse  Flags = 0x20 // R: this is a response
)

// HeaderLen is the size of the IKE header in octets.
const HeaderLen = 28

// Header is the IKE header (RFC 7296 3.1). AppendTo of a message fills NextPayload and Length itself.
type Header struct {
	InitiatorSPI SPI
	ResponderSPI SPI
	NextPayload  iana.Payload
	MajorVersion uint8
	MinorVersion uint8
	Exchange     iana.Exchange
	Flags        Flags
	MessageID    uint32
	Length       uint32
}

// Response reports whether the R flag is set.
func (h Header) Response() bool { return h.Flags&FlagResponse != 0 }

// FromInitiator reports whether the I flag is set.
func (h Header) FromInitiator() bool { return h.Flags&FlagInitiator != 0 }

// Payload is the body of one payload, without its generic header. The concrete types are the value types of this package.
type Payload interface {
	Type() iana.Payload
	// Len is the exact size of the body in octets.
	Len() int
	// AppendTo appends the body.
	AppendTo(b []byte) []byte
}

// Item is a payload in a chain, with the Critical bit of its generic header (RFC 7296 3.2).
type Item struct {
	Payload
	Critical bool
}

// Message is an IKE message: a header and a chain of payloads. An SK or SKF payload is always the last, and its content is opaque here.
type Message struct {
	Header   Header
	Payloads []Item
}

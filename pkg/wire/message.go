// Package wire turns IKEv2 messages into bytes and back (RFC 7296 section 3, RFC 7383 2.5). It holds no keys and no policy:
// what it does not know it keeps, so that parse and append are inverse; what is too long, too many or too deep it refuses with a
// SyntaxError that names the payload and the offset.
//
// Parsed values alias the input. Whoever keeps one past the life of the packet clones it.
package wire

import "github.com/ikegod/ikegod/pkg/iana"

// Payload is the body of one payload, without its generic header. The concrete types are the value types of this package.
type Payload interface {
	Type() iana.Payload
	// Len is the exact size of the body in octets.
	Len() int
	// AppendTo appends the body. The caller keeps every count and length within its field; the caps of this package are narrower than the fields.
	AppendTo(b []byte) []byte
}

// Item is a payload in a chain, with the Critical bit of its generic header (RFC 7296 3.2). On a payload of a known type the bit is
// ignored (RFC 7296 2.5); on an Unknown it makes the caller refuse the message with UNSUPPORTED_CRITICAL_PAYLOAD.
type Item struct {
	Payload
	Critical bool
}

// Message is an IKE message: a header and a chain of payloads. An SK or SKF payload is always the last, and its content is opaque here;
// its Data is the end of the message, so that it starts at len(message)-len(Data).
type Message struct {
	Header   Header
	Payloads []Item
}

// Parse reads a whole message; an SK or SKF payload stays sealed. Of a message with another major version than 2 only the header is
// read, since its payloads may be anything (RFC 7296 2.5). The error is a *SyntaxError; with it the message is whatever could be read
// up to the fault, and its header is zero if that was at fault.
func Parse(b []byte) (Message, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return Message{}, err
	}
	if h.MajorVersion != 2 {
		return Message{Header: h}, nil
	}
	items, err := parseChain(h.NextPayload, b[HeaderLen:], HeaderLen, true)
	return Message{Header: h, Payloads: items}, err
}

// AppendTo appends the message, with NextPayload and Length computed; m itself does not change.
func (m *Message) AppendTo(b []byte) []byte {
	h := m.Header
	h.NextPayload = First(m.Payloads)
	h.Length = uint32(HeaderLen + ChainLen(m.Payloads))
	return AppendChain(h.AppendTo(b), m.Payloads)
}

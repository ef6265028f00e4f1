package wire

import (
	"errors"
	"fmt"

	"github.com/ikegod/ikegod/pkg/iana"
)

// SyntaxError says that a message breaks the format: which payload, at which octet of the message, and how. The peer is told
// INVALID_SYNTAX where RFC 7296 2.21 asks for it.
type SyntaxError struct {
	Payload iana.Payload
	Off     int
	Reason  string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("payload %v at octet %d: %s", e.Payload, e.Off, e.Reason)
}

var errSkeleton = errors.New("wire: not written yet")

// ParseHeader reads the fixed header without allocation and checks that Length equals len(b).
func ParseHeader(b []byte) (Header, error) { return Header{}, errSkeleton }

// Parse reads a whole message; an SK or SKF payload stays sealed.
func Parse(b []byte) (Message, error) { return Message{}, errSkeleton }

// ParseChain reads a chain of payloads, as found inside an opened SK payload. base is added to offsets in errors.
func ParseChain(first iana.Payload, b []byte, base int) ([]Item, error) { return nil, errSkeleton }

// AppendTo appends the message, filling NextPayload and Length.
func (m *Message) AppendTo(b []byte) []byte { return b }

// AppendTo appends the header as it is.
func (h Header) AppendTo(b []byte) []byte { return b }

// AppendChain appends payloads with their generic headers.
func AppendChain(b []byte, items []Item) []byte { return b }

// ChainLen is the size of AppendChain's output in octets.
func ChainLen(items []Item) int { return 0 }

// First is the type of the first payload, or PayloadNone.
func First(items []Item) iana.Payload { return iana.PayloadNone }

// AppendSKHeader appends the IKE header and the generic header of an SK payload whose body (IV to ICV) will have bodyLen octets;
// what it appends is the associated data of RFC 5282 5.1.
func AppendSKHeader(b []byte, h Header, next iana.Payload, bodyLen int) []byte { return b }

// AppendSKFHeader is AppendSKHeader for a fragment (RFC 7383 2.5), fragment number and total included.
func AppendSKFHeader(b []byte, h Header, next iana.Payload, number, total uint16, bodyLen int) []byte {
	return b
}

// Get returns the first payload of the concrete type T.
func Get[T Payload](items []Item) (T, bool) {
	for _, it := range items {
		if p, ok := it.Payload.(T); ok {
			return p, true
		}
	}
	var zero T
	return zero, false
}

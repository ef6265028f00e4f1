package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/ikegod/ikegod/pkg/iana"
)

// SyntaxError says that a message breaks the format: which payload, at which octet of the message, and how. The peer is told
// INVALID_SYNTAX where RFC 7296 2.21 asks for it. Payload is PayloadNone when the fault is in the IKE header.
type SyntaxError struct {
	Payload iana.Payload
	Off     int
	Reason  string
}

func (e *SyntaxError) Error() string {
	if e.Payload == iana.PayloadNone {
		return fmt.Sprintf("IKE header at octet %d: %s", e.Off, e.Reason)
	}
	return fmt.Sprintf("payload %v at octet %d: %s", e.Payload, e.Off, e.Reason)
}

// cursor reads a stretch of a message. Its error is sticky: after the first fault every getter returns zero and done reports true, so
// that a parser can read like the figure in the RFC and look at err once. A fault in a sub-cursor is a fault of the whole.
type cursor struct {
	payload iana.Payload
	b       []byte
	off     int // next octet of b
	base    int // where b starts in the message
	parent  *cursor
	err     error
}

// fail records a fault at an offset of b. The first one stays.
func (c *cursor) fail(off int, format string, args ...any) {
	if c.err != nil {
		return
	}
	c.err = &SyntaxError{Payload: c.payload, Off: c.base + off, Reason: fmt.Sprintf(format, args...)}
	for p := c.parent; p != nil && p.err == nil; p = p.parent {
		p.err = c.err
	}
}

// left is the number of octets not yet read.
func (c *cursor) left() int { return len(c.b) - c.off }

// done reports whether there is nothing more to read, or no sense in it.
func (c *cursor) done() bool { return c.err != nil || c.left() == 0 }

// bytes takes n octets, aliasing the message; nil when n is zero, so that equal values are deeply equal. The capacity ends with the
// slice: an append to it never writes into the message.
func (c *cursor) bytes(n int, what string) []byte {
	if c.err != nil {
		return nil
	}
	if n > c.left() {
		c.fail(c.off, "%s needs %s, left are %d", what, octets(n), c.left())
		return nil
	}
	if n == 0 {
		return nil
	}
	s := c.b[c.off : c.off+n : c.off+n]
	c.off += n
	return s
}

// rest takes all that is left.
func (c *cursor) rest() []byte { return c.bytes(c.left(), "") }

func (c *cursor) u8(what string) uint8 {
	if s := c.bytes(1, what); s != nil {
		return s[0]
	}
	return 0
}

func (c *cursor) u16(what string) uint16 {
	if s := c.bytes(2, what); s != nil {
		return binary.BigEndian.Uint16(s)
	}
	return 0
}

// reserved skips n octets that are ignored on receipt (RFC 7296 2.5).
func (c *cursor) reserved(n int) { c.bytes(n, "RESERVED") }

// sub takes n octets as a cursor of its own.
func (c *cursor) sub(n int, what string) *cursor {
	s := &cursor{payload: c.payload, base: c.base + c.off, parent: c}
	s.b = c.bytes(n, what)
	s.err = c.err
	return s
}

// end fails when something is left over.
func (c *cursor) end(what string) {
	if c.err == nil && c.left() != 0 {
		c.fail(c.off, "%s left over after %s", octets(c.left()), what)
	}
}

// octets counts in words.
func octets(n int) string {
	if n == 1 {
		return "1 octet"
	}
	return fmt.Sprintf("%d octets", n)
}

package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/ikegod/ikegod/pkg/iana"
)

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

// ParseHeader reads the fixed header and checks that Length equals len(b). It reads the header of any major version, for the caller to
// answer with INVALID_MAJOR_VERSION (RFC 7296 2.5). It does not allocate unless it fails; the error is a *SyntaxError.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderLen {
		return Header{}, headerError(0, "%d octets are too short for an IKE header of %d", len(b), HeaderLen)
	}
	if len(b) > MaxMessage {
		return Header{}, headerError(0, "%d octets are more than the longest message of %d", len(b), MaxMessage)
	}
	h := Header{
		InitiatorSPI: SPI(binary.BigEndian.Uint64(b)),
		ResponderSPI: SPI(binary.BigEndian.Uint64(b[8:])),
		NextPayload:  iana.Payload(b[16]),
		MajorVersion: b[17] >> 4,
		MinorVersion: b[17] & 0x0f,
		Exchange:     iana.Exchange(b[18]),
		Flags:        Flags(b[19]),
		MessageID:    binary.BigEndian.Uint32(b[20:]),
		Length:       binary.BigEndian.Uint32(b[24:]),
	}
	if uint64(h.Length) != uint64(len(b)) {
		return Header{}, headerError(24, "Length says %d octets, %d were received", h.Length, len(b))
	}
	return h, nil
}

// headerError is apart from ParseHeader so that boxing its arguments costs the good path nothing.
func headerError(off int, format string, args ...any) error {
	return &SyntaxError{Payload: iana.PayloadNone, Off: off, Reason: fmt.Sprintf(format, args...)}
}

// AppendTo appends the header as it is.
func (h Header) AppendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(h.InitiatorSPI))
	b = binary.BigEndian.AppendUint64(b, uint64(h.ResponderSPI))
	b = append(b, byte(h.NextPayload), h.MajorVersion<<4|h.MinorVersion&0x0f, byte(h.Exchange), byte(h.Flags))
	b = binary.BigEndian.AppendUint32(b, h.MessageID)
	return binary.BigEndian.AppendUint32(b, h.Length)
}

package wire

import (
	"encoding/binary"

	"github.com/ikegod/ikegod/pkg/iana"
)

// Notify is a Notify payload (RFC 7296 3.10).
type Notify struct {
	Protocol iana.Protocol
	SPI      []byte
	Notify   iana.Notify
	Data     []byte
}

func parseNotify(c *cursor) Notify {
	p := Notify{Protocol: iana.Protocol(c.u8("Protocol ID"))}
	spiSize := int(c.u8("SPI Size"))
	p.Notify = iana.Notify(c.u16("Notify Message Type"))
	p.SPI = c.bytes(spiSize, "the SPI of a notify")
	p.Data = c.rest()
	return p
}

// Type implements Payload.
func (Notify) Type() iana.Payload { return iana.PayloadNotify }

// Len implements Payload.
func (p Notify) Len() int { return 4 + len(p.SPI) + len(p.Data) }

// AppendTo implements Payload.
func (p Notify) AppendTo(b []byte) []byte {
	b = append(b, byte(p.Protocol), byte(len(p.SPI)))
	b = binary.BigEndian.AppendUint16(b, uint16(p.Notify))
	b = append(b, p.SPI...)
	return append(b, p.Data...)
}

// Delete is a Delete payload (RFC 7296 3.11). SPISize is 0 for IKE and 4 for ESP and AH; SPIs holds the SPIs of that size.
type Delete struct {
	Protocol iana.Protocol
	SPISize  uint8
	SPIs     [][]byte
}

func parseDelete(c *cursor) Delete {
	p := Delete{Protocol: iana.Protocol(c.u8("Protocol ID")), SPISize: c.u8("SPI Size")}
	at := c.off
	count := int(c.u16("Num of SPIs"))
	switch size := int(p.SPISize); {
	case c.err != nil:
	case count > MaxDeleteSPIs:
		c.fail(at, "more than %d SPIs", MaxDeleteSPIs)
	case size == 0 && count != 0:
		c.fail(at, "%d SPIs of no size", count)
	case size*count != c.left():
		c.fail(at, "%d SPIs of %d octets do not make %d octets", count, size, c.left())
	case count > 0:
		p.SPIs = make([][]byte, 0, count)
		for range count {
			p.SPIs = append(p.SPIs, c.bytes(size, "an SPI"))
		}
	}
	return p
}

// Type implements Payload.
func (Delete) Type() iana.Payload { return iana.PayloadDelete }

// Len implements Payload.
func (p Delete) Len() int {
	n := 4
	for _, spi := range p.SPIs {
		n += len(spi)
	}
	return n
}

// AppendTo implements Payload.
func (p Delete) AppendTo(b []byte) []byte {
	b = append(b, byte(p.Protocol), p.SPISize)
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.SPIs)))
	for _, spi := range p.SPIs {
		b = append(b, spi...)
	}
	return b
}

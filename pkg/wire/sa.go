package wire

import (
	"encoding/binary"

	"github.com/ikegod/ikegod/pkg/iana"
)

// SA is a Security Association payload (RFC 7296 3.3). Proposals, transform types, transforms and attributes that nobody here knows are
// kept; that they are refused is for pkg/suite to say (RFC 7296 3.3.6).
type SA struct{ Proposals []Proposal }

// Proposal is one proposal of an SA payload (RFC 7296 3.3.1). Numbers count from 1. SPI is empty in IKE_SA_INIT, 8 octets for a
// rekeyed IKE SA, 4 octets for ESP and AH.
type Proposal struct {
	Number     uint8
	Protocol   iana.Protocol
	SPI        []byte
	Transforms []Transform
}

// Transform is one transform of a proposal (RFC 7296 3.3.2).
type Transform struct {
	Type       iana.TransformType
	ID         uint16
	Attributes []Attribute
}

// KeyLength returns the Key Length attribute in bits, or zero when there is none.
func (t Transform) KeyLength() uint16 {
	for _, a := range t.Attributes {
		if a.Type == iana.AttrKeyLength && a.Short {
			return a.Value
		}
	}
	return 0
}

// Attribute is a transform attribute (RFC 7296 3.3.5). Short is the AF bit: with it the value is Value, without it Data.
type Attribute struct {
	Type  uint16
	Short bool
	Value uint16
	Data  []byte
}

// Values of the Last Substruc octets (RFC 7296 3.3.1, 3.3.2).
const (
	lastSubstruc   = 0
	moreProposals  = 2
	moreTransforms = 3
)

// attributeFormat is the AF bit: the value is in the place of the length (RFC 7296 3.3.5).
const attributeFormat = 0x8000

func parseSA(c *cursor) SA {
	var p SA
	total := 0
	for more := true; more && c.err == nil; {
		if len(p.Proposals) == MaxProposals {
			c.fail(c.off, "more than %d proposals", MaxProposals)
			break
		}
		start := c.off
		last := c.u8("a proposal")
		if last != lastSubstruc && last != moreProposals {
			c.fail(start, "Last Substruc of a proposal is %d, neither 0 nor 2", last)
		}
		more = last == moreProposals
		proposal := parseProposal(c, start)
		total += len(proposal.Transforms)
		if total > MaxSATransforms {
			c.fail(start, "more than %d transforms in all proposals", MaxSATransforms)
		}
		p.Proposals = append(p.Proposals, proposal)
	}
	c.end("the last proposal")
	return p
}

// parseProposal reads a proposal that began at start, after its Last Substruc octet.
func parseProposal(c *cursor, start int) Proposal {
	c.reserved(1)
	length := int(c.u16("Proposal Length"))
	if c.err == nil && length < proposalLen {
		c.fail(start+2, "Proposal Length %d is shorter than a proposal without transforms", length)
	}
	c = c.sub(length-4, "a proposal")
	p := Proposal{Number: c.u8("Proposal Num"), Protocol: iana.Protocol(c.u8("Protocol ID"))}
	spiSize := int(c.u8("SPI Size"))
	count := int(c.u8("Num Transforms"))
	p.SPI = c.bytes(spiSize, "the SPI of a proposal")
	if count == 0 {
		c.fail(c.off, "a proposal without transforms")
	}
	if count*transformLen > c.left() {
		c.fail(c.off, "%d transforms do not fit into %d octets", count, c.left())
	}
	if c.err != nil {
		return p
	}
	p.Transforms = make([]Transform, 0, count)
	for i := range count {
		p.Transforms = append(p.Transforms, parseTransform(c, i == count-1))
	}
	c.end("the last transform")
	return p
}

func parseTransform(c *cursor, last bool) Transform {
	start := c.off
	substruc := c.u8("a transform")
	want := uint8(moreTransforms)
	if last {
		want = lastSubstruc
	}
	if substruc != want {
		c.fail(start, "Last Substruc of a transform is %d, expected %d after counting", substruc, want)
	}
	c.reserved(1)
	length := int(c.u16("Transform Length"))
	if c.err == nil && length < transformLen {
		c.fail(start+2, "Transform Length %d is shorter than a transform without attributes", length)
	}
	c = c.sub(length-4, "a transform")
	t := Transform{Type: iana.TransformType(c.u8("Transform Type"))}
	c.reserved(1)
	t.ID = c.u16("Transform ID")
	for !c.done() {
		if len(t.Attributes) == MaxAttributes {
			c.fail(c.off, "more than %d attributes of a transform", MaxAttributes)
			break
		}
		t.Attributes = append(t.Attributes, parseAttribute(c))
	}
	return t
}

func parseAttribute(c *cursor) Attribute {
	format := c.u16("an attribute")
	value := c.u16("an attribute's value or length")
	a := Attribute{Type: format &^ attributeFormat, Short: format&attributeFormat != 0}
	if a.Short {
		a.Value = value
	} else {
		a.Data = c.bytes(int(value), "an attribute's value")
	}
	return a
}

// Type implements Payload.
func (SA) Type() iana.Payload { return iana.PayloadSA }

// Len implements Payload.
func (p SA) Len() int {
	n := 0
	for _, proposal := range p.Proposals {
		n += proposal.len()
	}
	return n
}

func (p Proposal) len() int {
	n := proposalLen + len(p.SPI)
	for _, t := range p.Transforms {
		n += t.len()
	}
	return n
}

func (t Transform) len() int {
	n := transformLen
	for _, a := range t.Attributes {
		n += attributeLen
		if !a.Short {
			n += len(a.Data)
		}
	}
	return n
}

// AppendTo implements Payload.
func (p SA) AppendTo(b []byte) []byte {
	for i, proposal := range p.Proposals {
		more := byte(moreProposals)
		if i == len(p.Proposals)-1 {
			more = lastSubstruc
		}
		b = append(b, more, 0)
		b = proposal.appendTo(b)
	}
	return b
}

func (p Proposal) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(p.len()))
	b = append(b, p.Number, byte(p.Protocol), byte(len(p.SPI)), byte(len(p.Transforms)))
	b = append(b, p.SPI...)
	for i, t := range p.Transforms {
		more := byte(moreTransforms)
		if i == len(p.Transforms)-1 {
			more = lastSubstruc
		}
		b = append(b, more, 0)
		b = t.appendTo(b)
	}
	return b
}

func (t Transform) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(t.len()))
	b = append(b, byte(t.Type), 0)
	b = binary.BigEndian.AppendUint16(b, t.ID)
	for _, a := range t.Attributes {
		if a.Short {
			b = binary.BigEndian.AppendUint16(b, a.Type|attributeFormat)
			b = binary.BigEndian.AppendUint16(b, a.Value)
			continue
		}
		b = binary.BigEndian.AppendUint16(b, a.Type&^attributeFormat)
		b = binary.BigEndian.AppendUint16(b, uint16(len(a.Data)))
		b = append(b, a.Data...)
	}
	return b
}

package wire

import (
	"net/netip"

	"github.com/ikegod/ikegod/pkg/iana"
)

// SA is a Security Association payload (RFC 7296 3.3).
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

// KE is a Key Exchange payload (RFC 7296 3.4).
type KE struct {
	Method iana.KE
	Data   []byte
}

// ID is an Identification payload (RFC 7296 3.5); Payload says whether it is IDi or IDr.
type ID struct {
	Payload iana.Payload
	IDType  iana.IDType
	Data    []byte
}

// Cert is a Certificate payload (RFC 7296 3.6).
type Cert struct {
	Encoding iana.CertEncoding
	Data     []byte
}

// CertReq is a Certificate Request payload (RFC 7296 3.7).
type CertReq struct {
	Encoding iana.CertEncoding
	Data     []byte
}

// Auth is an Authentication payload (RFC 7296 3.8).
type Auth struct {
	Method iana.AuthMethod
	Data   []byte
}

// Nonce is a Nonce payload of 16 to 256 octets (RFC 7296 3.9).
type Nonce struct{ Data []byte }

// Notify is a Notify payload (RFC 7296 3.10).
type Notify struct {
	Protocol iana.Protocol
	SPI      []byte
	Notify   iana.Notify
	Data     []byte
}

// Delete is a Delete payload (RFC 7296 3.11). SPISize is 0 for IKE and 4 for ESP and AH; SPIs holds the SPIs of that size.
type Delete struct {
	Protocol iana.Protocol
	SPISize  uint8
	SPIs     [][]byte
}

// VendorID is a Vendor ID payload (RFC 7296 3.12).
type VendorID struct{ Data []byte }

// TS is a Traffic Selector payload (RFC 7296 3.13); Payload says whether it is TSi or TSr.
type TS struct {
	Payload   iana.Payload
	Selectors []Selector
}

// Selector is one traffic selector (RFC 7296 3.13.1). Start and End are valid for the two address range types; a selector of any
// other type keeps its octets after the generic part in Raw.
type Selector struct {
	TSType     iana.TSType
	IPProtocol uint8
	StartPort  uint16
	EndPort    uint16
	Start, End netip.Addr
	Raw        []byte
}

// SK is an Encrypted payload (RFC 7296 3.14), still sealed: IV, ciphertext and ICV. Next is the type of the first payload inside.
type SK struct {
	Next iana.Payload
	Data []byte
}

// SKF is an Encrypted Fragment payload (RFC 7383 2.5), still sealed. Next is set in the first fragment only.
type SKF struct {
	Next          iana.Payload
	Number, Total uint16
	Data          []byte
}

// CP is a Configuration payload (RFC 7296 3.15).
type CP struct {
	CFGType    iana.CFGType
	Attributes []CFGAttribute
}

// CFGAttribute is one attribute of a Configuration payload.
type CFGAttribute struct {
	Type iana.CFGAttr
	Data []byte
}

// EAP is an EAP payload (RFC 7296 3.16) with its message as it came.
type EAP struct{ Data []byte }

// Unknown is a payload of a type that this package does not know.
type Unknown struct {
	PayloadType iana.Payload
	Data        []byte
}

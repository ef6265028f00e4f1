package message

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Flags of an SA.
const (
	FlagNoECN      = 1
	FlagDecapDSCP  = 2
	FlagNoPMTUDisc = 4
	FlagAFUnspec   = 32 // a tunnel carries both families
	FlagESN        = 128
)

// ExtraDontEncapDSCP is a flag of SA.Extra.
const ExtraDontEncapDSCP = 1

// SADirection of an SA, which kernels from 6.10 on know (XFRMA_SA_DIR); older ones ignore it.
type SADirection uint8

// Directions of an SA.
const (
	NoDirection SADirection = iota
	Inbound
	Outbound
)

// EncapType is how ESP is encapsulated.
type EncapType uint16

// Encapsulations. ESPinTCP is TCP_ENCAP_ESPINTCP, which libraries have no name for.
const (
	NoEncap  EncapType = 0
	ESPinUDP EncapType = 2
	ESPinTCP EncapType = 7
)

// Encap is struct xfrm_encap_tmpl: the ports as they are in packets of this direction. The zero Encap is plain ESP.
type Encap struct {
	Type             EncapType
	SrcPort, DstPort uint16
}

func (e Encap) appendTo(b []byte) []byte {
	if e.Type == NoEncap {
		return b
	}
	v := make([]byte, 24) // with the original address, which the kernel does not use
	native.PutUint16(v, uint16(e.Type))
	be.PutUint16(v[2:], e.SrcPort)
	be.PutUint16(v[4:], e.DstPort)
	return appendAttr(b, attrEncap, v)
}

func parseEncap(v []byte) Encap {
	if len(v) < 6 {
		return Encap{}
	}
	return Encap{EncapType(native.Uint16(v)), be.Uint16(v[2:]), be.Uint16(v[4:])}
}

// SA is struct xfrm_usersa_info with its attributes.
type SA struct {
	Src, Dst   netip.Addr
	SPI        uint32
	Reqid      uint32
	Mode       Mode
	Flags      uint8
	Extra      uint32
	Selector   Selector // zero: any packet
	Limits     Limits
	AEAD       Algorithm // or Cipher and MAC
	Cipher     Algorithm
	MAC        Algorithm
	Encap      Encap
	Replay     Replay
	Mark       Mark // packets that the SA is for
	OutputMark Mark // of the packets that it makes
	IfID       uint32
	Direction  SADirection

	// What the kernel reports; not sent, but for Current where it is not zero.
	Current         Current
	LastUsed        uint64 // Unix seconds
	ReplayFailed    uint32
	IntegrityFailed uint32
	Seq             uint32 // of the acquire that this SA answers
}

const sizeSA = 224

// put writes the struct.
func (s *SA) put(b []byte) {
	s.Selector.put(b)
	if !s.Selector.Dst.IsValid() && s.Mode == Transport {
		native.PutUint16(b[40:], family(s.Dst)) // any packet of this family
	}
	putAddr(b[56:], s.Dst)
	be.PutUint32(b[72:], s.SPI)
	b[76] = ESP
	putAddr(b[80:], s.Src)
	s.Limits.put(b[96:])
	native.PutUint32(b[204:], s.Seq)
	native.PutUint32(b[208:], s.Reqid)
	native.PutUint16(b[212:], family(s.Dst))
	b[214] = uint8(s.Mode)
	if !s.Replay.Extended {
		b[215] = uint8(s.Replay.Window)
	}
	b[216] = s.Flags
}

// appendTo appends struct and attributes, in the order in which iproute2 sends them.
func (s *SA) appendTo(b []byte) []byte {
	b, info := grow(b, sizeSA)
	s.put(info)
	if s.AEAD.Name != "" {
		b = appendAttr(b, attrAlgAEAD, s.AEAD.value(true))
	}
	if s.MAC.Name != "" {
		b = appendAttr(b, attrAlgAuthTrunc, s.MAC.value(true))
	}
	if s.Cipher.Name != "" {
		b = appendAttr(b, attrAlgCrypt, s.Cipher.value(false))
	}
	b = s.Encap.appendTo(b)
	b = s.Replay.appendTo(b)
	if s.Extra != 0 {
		b = appendUint32Attr(b, attrExtraFlags, s.Extra)
	}
	b = s.Mark.appendTo(b)
	if s.IfID != 0 {
		b = appendUint32Attr(b, attrIfID, s.IfID)
	}
	if s.OutputMark.Mask != 0 || s.OutputMark.Value != 0 {
		b = appendUint32Attr(b, attrOutputMark, s.OutputMark.Value)
		b = appendUint32Attr(b, attrOutputMarkMask, s.OutputMark.Mask)
	}
	if s.Direction != NoDirection {
		b = appendAttr(b, attrDirection, []byte{uint8(s.Direction)})
	}
	if s.Current != (Current{}) {
		v := make([]byte, sizeCurrent)
		s.Current.put(v)
		b = appendAttr(b, attrLifetime, v)
	}
	return b
}

// ParseSA reads NEWSA, as the kernel answers GETSA and ALLOCSPI.
func ParseSA(b []byte) (*SA, error) {
	if len(b) < sizeSA {
		return nil, errShort
	}
	f := native.Uint16(b[212:])
	s := &SA{
		Selector: parseSelector(b), Dst: addr(b[56:], f), SPI: be.Uint32(b[72:]), Src: addr(b[80:], f),
		Limits: parseLimits(b[96:]), Current: parseCurrent(b[160:]), ReplayFailed: native.Uint32(b[196:]), IntegrityFailed: native.Uint32(b[200:]),
		Seq: native.Uint32(b[204:]), Reqid: native.Uint32(b[208:]), Mode: Mode(b[214]), Replay: Replay{Window: uint32(b[215])}, Flags: b[216],
	}
	if s.Selector == (Selector{Src: netip.PrefixFrom(addr(make([]byte, 16), f), 0), Dst: netip.PrefixFrom(addr(make([]byte, 16), f), 0)}) {
		s.Selector = Selector{}
	}
	if b[76] != ESP {
		s.SPI = 0 // somebody's AH or IPComp
	}
	return s, attributes(b[sizeSA:], s.attribute)
}

func (s *SA) attribute(kind uint16, v []byte) {
	switch kind {
	case attrAlgAEAD:
		s.AEAD = parseAlgorithm(v, true)
	case attrAlgAuthTrunc:
		s.MAC = parseAlgorithm(v, true)
	case attrAlgCrypt:
		s.Cipher = parseAlgorithm(v, false)
	case attrEncap:
		s.Encap = parseEncap(v)
	case attrExtraFlags:
		s.Extra = parseUint32(v)
	case attrMark:
		s.Mark = parseMark(v)
	case attrReplay:
		s.Replay.parseReplay(v)
	case attrReplayESN:
		s.Replay.parseESN(v)
	case attrIfID:
		s.IfID = parseUint32(v)
	case attrOutputMark:
		s.OutputMark.Value = parseUint32(v)
	case attrOutputMarkMask:
		s.OutputMark.Mask = parseUint32(v)
	case attrDirection:
		if len(v) > 0 {
			s.Direction = SADirection(v[0])
		}
	case attrLastUsed:
		if len(v) >= 8 {
			s.LastUsed = native.Uint64(v)
		}
	}
}

// SAID names an SA (struct xfrm_usersa_id). The kernel finds it by Dst, SPI and Mark.
type SAID struct {
	Src, Dst netip.Addr
	SPI      uint32
	Mark     Mark
}

// ID names s.
func (s *SA) ID() SAID { return SAID{s.Src, s.Dst, s.SPI, s.Mark} }

const sizeSAID = 24

func (id SAID) put(b []byte) {
	putAddr(b, id.Dst)
	be.PutUint32(b[16:], id.SPI)
	native.PutUint16(b[20:], family(id.Dst))
	b[22] = ESP
}

func (id SAID) appendTo(b []byte) []byte {
	b, part := grow(b, sizeSAID)
	id.put(part)
	if id.Src.IsValid() {
		v := make([]byte, 16)
		putAddr(v, id.Src)
		b = appendAttr(b, attrSrcAddr, v)
	}
	return id.Mark.appendTo(b)
}

func parseSAID(b []byte) SAID {
	f := native.Uint16(b[20:])
	if b[22] != ESP && f == unix.AF_UNSPEC {
		return SAID{}
	}
	return SAID{Dst: addr(b, f), SPI: be.Uint32(b[16:])}
}

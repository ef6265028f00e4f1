package message

// The attributes (enum xfrm_attr_type_t).
const (
	attrAlgCrypt       = 2
	attrEncap          = 4
	attrTemplates      = 5
	attrPolicy         = 7
	attrLifetime       = 9
	attrReplay         = 10
	attrSrcAddr        = 13
	attrLastUsed       = 15
	attrMigrate        = 17
	attrAlgAEAD        = 18
	attrAlgAuthTrunc   = 20
	attrMark           = 21
	attrReplayESN      = 23
	attrExtraFlags     = 24
	attrOutputMark     = 29
	attrOutputMarkMask = 30
	attrIfID           = 31
	attrDirection      = 33
)

const attrHeader = 4

// appendAttr appends an attribute with its padding.
func appendAttr(b []byte, kind uint16, value []byte) []byte {
	b = native.AppendUint16(b, uint16(attrHeader+len(value)))
	b = native.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func appendUint32Attr(b []byte, kind uint16, v uint32) []byte {
	return appendAttr(b, kind, native.AppendUint32(nil, v))
}

// attributes calls f for each attribute of b. The kernel pads each to four octets; what is cut short ends the walk with an error.
func attributes(b []byte, f func(kind uint16, value []byte)) error {
	for len(b) >= attrHeader {
		n := int(native.Uint16(b))
		if n < attrHeader || n > len(b) {
			return errShort
		}
		f(native.Uint16(b[2:])&0x3fff, b[attrHeader:n]) // without NLA_F_NESTED and NLA_F_NET_BYTEORDER
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil
}

// Mark is a mark and the bits of it that count (struct xfrm_mark).
type Mark struct{ Value, Mask uint32 }

func (m Mark) appendTo(b []byte) []byte {
	if m == (Mark{}) {
		return b
	}
	return appendAttr(b, attrMark, native.AppendUint32(native.AppendUint32(nil, m.Value), m.Mask))
}

func parseMark(v []byte) Mark {
	if len(v) < 8 {
		return Mark{}
	}
	return Mark{native.Uint32(v), native.Uint32(v[4:])}
}

func parseUint32(v []byte) uint32 {
	if len(v) < 4 {
		return 0
	}
	return native.Uint32(v)
}

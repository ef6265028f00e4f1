package message

import "net/netip"

// Acquire says that a packet wants an SA that is not there (ACQUIRE). The kernel keeps an SA without keys and SPI for it, and asks again only when that is
// gone.
type Acquire struct {
	Src, Dst netip.Addr // what the SA would be between
	Packet   Selector   // of the packet itself
	Policy   Policy     // that it hit, without its template
	Template *Template
	Seq      uint32 // names the SA without keys
	Mark     Mark
	IfID     uint32
}

const sizeAcquire = 280

// ParseAcquire reads ACQUIRE.
func ParseAcquire(b []byte) (*Acquire, error) {
	if len(b) < sizeAcquire {
		return nil, errShort
	}
	m := &Acquire{Packet: parseSelector(b[40:]), Policy: *parsePolicyInfo(b[96:]), Seq: native.Uint32(b[276:])}
	err := attributes(b[sizeAcquire:], func(kind uint16, v []byte) {
		switch kind {
		case attrTemplates:
			m.Template = parseTemplates(v)
		case attrMark:
			m.Mark = parseMark(v)
		case attrIfID:
			m.IfID = parseUint32(v)
		}
	})
	f := family(m.Packet.Dst.Addr())
	if m.Template != nil && m.Template.Dst.IsValid() {
		f = family(m.Template.Dst)
	}
	m.Dst, m.Src = addr(b, f), addr(b[24:], f)
	return m, err
}

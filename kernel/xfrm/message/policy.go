package message

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Action of a policy.
type Action uint8

// Actions. A policy that allows with a template wants packets to have an SA that fits it.
const (
	Allow Action = 0
	Block Action = 1
)

// Template is what an SA of a policy must be (struct xfrm_user_tmpl). Without addresses it fits those of the packet.
type Template struct {
	Src, Dst netip.Addr
	Reqid    uint32
	Mode     Mode
}

const sizeTemplate = 64

func (t Template) value(packets uint16) []byte {
	v := make([]byte, sizeTemplate)
	putAddr(v, t.Dst)
	v[20] = ESP
	f := family(t.Dst)
	if f == unix.AF_UNSPEC {
		f = packets
	}
	native.PutUint16(v[24:], f)
	putAddr(v[28:], t.Src)
	native.PutUint32(v[44:], t.Reqid)
	v[48] = uint8(t.Mode)
	for i := range 12 { // any algorithm
		v[52+i] = 0xff
	}
	return v
}

// parseTemplates reads the first template; IPComp, the only reason for more, is not of this daemon.
func parseTemplates(v []byte) *Template {
	if len(v) < sizeTemplate || v[20] != ESP {
		return nil
	}
	t := &Template{Reqid: native.Uint32(v[44:]), Mode: Mode(v[48])}
	f := native.Uint16(v[24:])
	if a := addr(v, f); a.IsValid() && !a.IsUnspecified() {
		t.Dst, t.Src = a, addr(v[28:], f)
	}
	return t
}

// Policy is struct xfrm_userpolicy_info with its attributes.
type Policy struct {
	Selector  Selector
	Direction Direction
	Action    Action
	Priority  uint32 // smaller is stronger
	Index     uint32 // names the policy too, the direction in its lowest three bits; zero: the kernel chooses one
	Template  *Template
	Mark      Mark
	IfID      uint32
}

const sizePolicy = 168

func (p *Policy) appendTo(b []byte) []byte {
	b, info := grow(b, sizePolicy)
	p.Selector.put(info)
	Limits{}.put(info[56:])
	native.PutUint32(info[152:], p.Priority)
	native.PutUint32(info[156:], p.Index)
	info[160], info[161] = uint8(p.Direction), uint8(p.Action)
	if p.Template != nil {
		b = appendAttr(b, attrTemplates, p.Template.value(family(p.Selector.Dst.Addr())))
	}
	b = p.Mark.appendTo(b)
	if p.IfID != 0 {
		b = appendUint32Attr(b, attrIfID, p.IfID)
	}
	return b
}

// parsePolicyInfo reads the struct alone.
func parsePolicyInfo(b []byte) *Policy {
	return &Policy{
		Selector: parseSelector(b), Priority: native.Uint32(b[152:]), Index: native.Uint32(b[156:]), Direction: Direction(b[160]), Action: Action(b[161]),
	}
}

// ParsePolicy reads NEWPOLICY, as the kernel answers GETPOLICY. The policies of sockets have directions above Forward.
func ParsePolicy(b []byte) (*Policy, error) {
	if len(b) < sizePolicy {
		return nil, errShort
	}
	p := parsePolicyInfo(b)
	return p, attributes(b[sizePolicy:], p.attribute)
}

func (p *Policy) attribute(kind uint16, v []byte) {
	switch kind {
	case attrTemplates:
		p.Template = parseTemplates(v)
	case attrMark:
		p.Mark = parseMark(v)
	case attrIfID:
		p.IfID = parseUint32(v)
	}
}

package message

import "net/netip"

// Migrate moves a policy in tunnel mode and one SA of it to other addresses (MIGRATE): the template of the policy with the old ones, and the first SA that
// the kernel finds with them and the reqid. The SA keeps its sequence numbers.
type Migrate struct {
	Selector       Selector
	Direction      Direction
	IfID           uint32
	OldSrc, OldDst netip.Addr
	NewSrc, NewDst netip.Addr
	Reqid          uint32
	Encap          Encap // of the SA from now on
}

const sizeMigrate = 76

// Append appends the body.
func (m *Migrate) Append(b []byte) []byte {
	b = PolicyID{Selector: m.Selector, Direction: m.Direction}.appendTo(b)
	v := make([]byte, sizeMigrate)
	putAddr(v, m.OldDst)
	putAddr(v[16:], m.OldSrc)
	putAddr(v[32:], m.NewDst)
	putAddr(v[48:], m.NewSrc)
	v[64], v[65] = ESP, uint8(Tunnel)
	native.PutUint32(v[68:], m.Reqid)
	native.PutUint16(v[72:], family(m.OldDst))
	native.PutUint16(v[74:], family(m.NewDst))
	b = appendAttr(b, attrMigrate, v)
	b = m.Encap.appendTo(b)
	if m.IfID != 0 {
		b = appendUint32Attr(b, attrIfID, m.IfID)
	}
	return b
}

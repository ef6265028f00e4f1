package message

// PolicyID names a policy (struct xfrm_userpolicy_id): by its Index, or with Index zero by its Selector; in either case with Direction, Mark and IfID.
type PolicyID struct {
	Selector  Selector
	Index     uint32
	Direction Direction
	Mark      Mark
	IfID      uint32
}

const sizePolicyID = 64

func (id PolicyID) appendTo(b []byte) []byte {
	b, part := grow(b, sizePolicyID)
	if id.Index == 0 {
		id.Selector.put(part)
	}
	native.PutUint32(part[56:], id.Index)
	part[60] = uint8(id.Direction)
	b = id.Mark.appendTo(b)
	if id.IfID != 0 {
		b = appendUint32Attr(b, attrIfID, id.IfID)
	}
	return b
}

// DelPolicy removes a policy (DELPOLICY).
type DelPolicy struct{ ID PolicyID }

// Append appends the body.
func (m *DelPolicy) Append(b []byte) []byte { return m.ID.appendTo(b) }

// ParseDelPolicy reads DELPOLICY, as the kernel tells that somebody has removed a policy: there the policy is an attribute.
func ParseDelPolicy(b []byte) (*Policy, error) {
	if len(b) < sizePolicyID {
		return nil, errShort
	}
	var info, rest Policy
	err := attributes(b[sizePolicyID:], func(kind uint16, v []byte) {
		if kind == attrPolicy && len(v) >= sizePolicy {
			info = *parsePolicyInfo(v)
			return
		}
		rest.attribute(kind, v)
	})
	info.Template, info.Mark, info.IfID = rest.Template, rest.Mark, rest.IfID
	return &info, err
}

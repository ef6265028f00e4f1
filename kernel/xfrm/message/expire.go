package message

// Expire says that an SA has come to a limit (EXPIRE): Hard, and it is gone, or soft, and it goes on.
type Expire struct {
	SA   SA // the struct without attributes but its mark
	Hard bool
}

const sizeExpire = sizeSA + 8

// ParseExpire reads EXPIRE.
func ParseExpire(b []byte) (*Expire, error) {
	if len(b) < sizeExpire {
		return nil, errShort
	}
	sa, err := ParseSA(b[:sizeSA])
	if err != nil {
		return nil, err
	}
	m := &Expire{SA: *sa, Hard: b[sizeSA] != 0}
	return m, attributes(b[sizeExpire:], m.SA.attribute)
}

package message

// PolExpire says that a policy has come to a limit (POLEXPIRE): Hard, and it is gone.
type PolExpire struct {
	Policy Policy
	Hard   bool
}

const sizePolExpire = sizePolicy + 8

// ParsePolExpire reads POLEXPIRE.
func ParsePolExpire(b []byte) (*PolExpire, error) {
	if len(b) < sizePolExpire {
		return nil, errShort
	}
	m := &PolExpire{Policy: *parsePolicyInfo(b), Hard: b[sizePolicy] != 0}
	return m, attributes(b[sizePolExpire:], m.Policy.attribute)
}

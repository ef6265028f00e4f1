package message

// NewPolicy adds a policy (NEWPOLICY, refused if one with its selector is there) or replaces it (UPDPOLICY).
type NewPolicy struct{ Policy Policy }

// Append appends the body.
func (m *NewPolicy) Append(b []byte) []byte { return m.Policy.appendTo(b) }

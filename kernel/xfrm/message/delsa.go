package message

// DelSA removes an SA (DELSA).
type DelSA struct{ ID SAID }

// Append appends the body.
func (m *DelSA) Append(b []byte) []byte { return m.ID.appendTo(b) }

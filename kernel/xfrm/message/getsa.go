package message

// GetSA asks for an SA (GETSA); the answer is for ParseSA. As a dump, with an empty body, GETSA asks for all.
type GetSA struct{ ID SAID }

// Append appends the body.
func (m *GetSA) Append(b []byte) []byte { return m.ID.appendTo(b) }

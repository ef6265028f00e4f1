package message

// GetPolicy asks for a policy (GETPOLICY); the answer is for ParsePolicy. As a dump, with an empty body, GETPOLICY asks for all.
type GetPolicy struct{ ID PolicyID }

// Append appends the body.
func (m *GetPolicy) Append(b []byte) []byte { return m.ID.appendTo(b) }

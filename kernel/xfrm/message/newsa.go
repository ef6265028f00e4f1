package message

// NewSA adds an SA (NEWSA), or completes or changes the one with its ID (UPDSA). Of an SA in use UPDSA changes only limits and the ports of its
// encapsulation; one that ALLOCSPI has made it replaces.
type NewSA struct{ SA SA }

// Append appends the body.
func (m *NewSA) Append(b []byte) []byte { return m.SA.appendTo(b) }

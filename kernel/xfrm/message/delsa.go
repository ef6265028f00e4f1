package message

// DelSA removes an SA (DELSA).
type DelSA struct{ ID SAID }

// Append appends the body.
func (m *DelSA) Append(b []byte) []byte { return m.ID.appendTo(b) }

// ParseDelSA reads DELSA, as the kernel tells that somebody has removed an SA: its Dst and SPI.
func ParseDelSA(b []byte) (SAID, error) {
	if len(b) < sizeSAID {
		return SAID{}, errShort
	}
	return parseSAID(b), nil
}

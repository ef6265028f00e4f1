package message

import "net/netip"

// AE is the moving part of an SA: sequence numbers, window, and what it has carried (struct xfrm_aevent_id with its attributes).
type AE struct {
	ID      SAID
	Src     netip.Addr
	Reqid   uint32
	Replay  Replay
	Current Current
}

const (
	sizeAE = sizeSAID + 24
	// What GETAE is to answer: the replay state and the lifetime.
	aeReplay, aeLifetime = 2, 4
)

func (m *AE) put(b []byte) {
	m.ID.put(b)
	putAddr(b[24:], m.Src)
	native.PutUint32(b[40:], aeReplay|aeLifetime)
	native.PutUint32(b[44:], m.Reqid)
}

// GetAE asks for the moving part of an SA (GETAE); the answer is for ParseAE.
type GetAE struct{ ID SAID }

// Append appends the body.
func (m *GetAE) Append(b []byte) []byte {
	b, part := grow(b, sizeAE)
	(&AE{ID: m.ID}).put(part)
	return m.ID.Mark.appendTo(b)
}

// NewAE sets the moving part of an SA (NEWAE, which the kernel takes with NLM_F_REPLACE only). The window must have the size that the SA has.
type NewAE struct{ AE AE }

// Append appends the body.
func (m *NewAE) Append(b []byte) []byte {
	b, part := grow(b, sizeAE)
	m.AE.put(part)
	b = m.AE.ID.Mark.appendTo(b)
	b = m.AE.Replay.appendTo(b)
	v := make([]byte, sizeCurrent)
	m.AE.Current.put(v)
	return appendAttr(b, attrLifetime, v)
}

// ParseAE reads NEWAE.
func ParseAE(b []byte) (*AE, error) {
	if len(b) < sizeAE {
		return nil, errShort
	}
	m := &AE{ID: parseSAID(b), Src: addr(b[24:], native.Uint16(b[20:])), Reqid: native.Uint32(b[44:])}
	return m, attributes(b[sizeAE:], func(kind uint16, v []byte) {
		switch kind {
		case attrReplay:
			m.Replay.parseReplay(v)
		case attrReplayESN:
			m.Replay.parseESN(v)
		case attrMark:
			m.ID.Mark = parseMark(v)
		case attrLifetime:
			if len(v) >= sizeCurrent {
				m.Current = parseCurrent(v)
			}
		}
	})
}

package suite

import (
	"slices"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// Choice is a chosen proposal: the suite, the number and SPI of the proposal it was chosen from, and the payload that says so.
type Choice struct {
	Suite  Suite
	Number uint8
	SPI    []byte
	Reply  wire.SA // exactly one proposal with one transform of each type, SPI empty: the caller puts its own in
}

// Choose is the responder's choice (RFC 7296 2.7, 3.3): the first of the initiator's proposals that p allows, and in it p's order of preference.
// preferKE, when not KE_NONE, is the method of the KE payload that came along: it wins over p's order if p allows it, which saves a round
// trip. The error is a *Mismatch.
//
// Of what the initiator sent, a proposal with a transform type that is not known for the protocol is passed over, and so is a transform with
// an unknown number or attribute (RFC 7296 3.3.6). So is a proposal with an additional key exchange (RFC 9370), which is not implemented, unless
// NONE is among its alternatives; NONE is then what the reply says. We deviate in two points where peers are known to: an ESP proposal without the
// mandatory ESN transform means no ESN, and without withKE key exchange transforms are not looked at.
func (p Proposals) Choose(offer wire.SA, protocol iana.Protocol, withKE bool, preferKE iana.KE) (Choice, error) {
	for i := range offer.Proposals {
		o := &offer.Proposals[i]
		sorted, fault := sortTransforms(o, protocol)
		if fault != "" {
			continue
		}
		var found *Choice
		for j := range p {
			c, ok := p[j].match(&sorted, protocol, withKE, preferKE)
			if !ok {
				continue
			}
			if found == nil || c.Suite.KE == preferKE {
				found = &c
			}
			if preferKE == iana.KE_NONE || found.Suite.KE == preferKE {
				break
			}
		}
		if found != nil {
			found.Number, found.SPI = o.Number, slices.Clone(o.SPI)
			found.Reply.Proposals[0].Number = o.Number
			return *found, nil
		}
	}
	return Choice{}, p.explain(offer, protocol, withKE)
}

// Accept checks the responder's reply against p as offered: exactly one proposal, which is a subset of one of ours and has exactly one
// transform of each type (RFC 7296 3.3.6). The error is a *Mismatch.
func (p Proposals) Accept(reply wire.SA, protocol iana.Protocol, withKE bool) (Choice, error) {
	if len(reply.Proposals) != 1 {
		return Choice{}, p.refuse(reply, protocol, withKE, "the answer must hold exactly one proposal")
	}
	a := &reply.Proposals[0]
	if a.Number < 1 || int(a.Number) > len(p) {
		return Choice{}, p.refuse(reply, protocol, withKE, "the answer has a proposal number that was not offered")
	}
	sorted, fault := sortTransforms(a, protocol)
	if fault != "" {
		return Choice{}, p.refuse(reply, protocol, withKE, fault)
	}
	if i := slices.IndexFunc(sorted.add[:], func(ts []wire.Transform) bool { return len(ts) > 0 }); i >= 0 {
		return Choice{}, p.refuse(reply, protocol, withKE, "the answer has "+typeName(iana.TransformAddKE1+iana.TransformType(i))+", but none was offered")
	}
	if t, twice := sorted.repeated(); twice {
		return Choice{}, p.refuse(reply, protocol, withKE, "the answer has several transforms for "+t)
	}
	if !withKE && slices.ContainsFunc(sorted.ke, func(t wire.Transform) bool { return t.ID != uint16(iana.KE_NONE) }) {
		return Choice{}, p.refuse(reply, protocol, withKE, "the answer has a key exchange, but none was offered")
	}
	ours := p[a.Number-1]
	if c, ok := ours.match(&sorted, protocol, withKE, iana.KE_NONE); ok {
		c.Number, c.SPI = a.Number, slices.Clone(a.SPI)
		c.Reply.Proposals[0].Number = a.Number
		return c, nil
	}
	typ, first := Proposals{ours}.firstDifference(reply, protocol, withKE)
	m := p.refuse(reply, protocol, withKE, first)
	m.Type = typ
	return Choice{}, m
}

// sorted is the transforms of one wire proposal by type, acceptable or not.
type sorted struct {
	encr, prf, integ, ke, sn []wire.Transform
	add                      [maxAddKE][]wire.Transform // ADDKE1 first
}

// maxAddKE is how many additional key exchanges a proposal can have (RFC 9370 2.2.1).
const maxAddKE = int(iana.TransformAddKE7 - iana.TransformAddKE1 + 1)

// sortTransforms sorts a proposal's transforms. fault says why the whole proposal is unacceptable: another protocol, an SPI of the wrong
// size, or a transform type that the protocol does not have here (RFC 7296 3.3.6).
func sortTransforms(o *wire.Proposal, protocol iana.Protocol) (s sorted, fault string) {
	if o.Protocol != protocol {
		return s, "protocol: offered " + protocolName(o.Protocol) + ", expected " + protocolName(protocol)
	}
	if !validSPISize(protocol, len(o.SPI)) {
		return s, "a proposal for " + protocolName(protocol) + " has an SPI of the wrong size"
	}
	for _, t := range o.Transforms {
		into := s.of(t.Type)
		if into == nil || (protocol == iana.ProtoIKE && t.Type == iana.TransformSN) || (protocol == iana.ProtoESP && t.Type == iana.TransformPRF) {
			return s, "a proposal has transforms of " + typeName(t.Type) + ", which is not supported for " + protocolName(protocol)
		}
		*into = append(*into, t)
	}
	return s, ""
}

// of is where transforms of a type go; nil for an unknown type.
func (s *sorted) of(t iana.TransformType) *[]wire.Transform {
	switch t {
	case iana.TransformEncr:
		return &s.encr
	case iana.TransformPRF:
		return &s.prf
	case iana.TransformInteg:
		return &s.integ
	case iana.TransformKE:
		return &s.ke
	case iana.TransformSN:
		return &s.sn
	}
	if isAddKE(t) {
		return &s.add[t-iana.TransformAddKE1]
	}
	return nil
}

// isAddKE reports whether t is an additional key exchange (RFC 9370).
func isAddKE(t iana.TransformType) bool {
	return t >= iana.TransformAddKE1 && t <= iana.TransformAddKE7
}

// repeated reports a type with more than one transform, in words.
func (s *sorted) repeated() (string, bool) {
	for _, t := range []iana.TransformType{iana.TransformEncr, iana.TransformPRF, iana.TransformInteg, iana.TransformKE, iana.TransformSN} {
		if len(*s.of(t)) > 1 {
			return typeName(t), true
		}
	}
	return "", false
}

// validSPISize follows RFC 7296 3.3.1; whether an IKE proposal must have an SPI the caller knows.
func validSPISize(protocol iana.Protocol, n int) bool {
	if protocol == iana.ProtoIKE {
		return n == 0 || n == 8
	}
	return n == 4
}

// match chooses from one sorted proposal what p allows, in p's order of preference.
func (p *Proposal) match(o *sorted, protocol iana.Protocol, withKE bool, preferKE iana.KE) (Choice, bool) {
	m := matcher{offered: o, preferKE: preferKE}
	if !m.cipher(p) {
		return Choice{}, false
	}
	if protocol == iana.ProtoIKE {
		if !m.prf(p) || (withKE && !m.ke(p.KE, false)) {
			return Choice{}, false
		}
	} else if !m.childKE(p, withKE) || !m.sn(p) {
		return Choice{}, false
	}
	if !m.noAddKE() {
		return Choice{}, false
	}
	reply := wire.SA{Proposals: []wire.Proposal{{Protocol: protocol, Transforms: m.reply}}}
	return Choice{Suite: m.suite, Reply: reply}, true
}

// matcher collects one choice, type by type in the order of the reply.
type matcher struct {
	offered  *sorted
	preferKE iana.KE
	suite    Suite
	reply    []wire.Transform
}

// take adds the first of the offered transforms that fits to the reply, with its attributes as they came (RFC 7296 3.3.6).
func (m *matcher) take(offered []wire.Transform, fits func(wire.Transform) bool) bool {
	i := slices.IndexFunc(offered, fits)
	if i < 0 {
		return false
	}
	t := offered[i]
	t.Attributes = slices.Clone(t.Attributes)
	m.reply = append(m.reply, t)
	return true
}

// takeID is take for a number.
func (m *matcher) takeID(offered []wire.Transform, id uint16) bool { return m.take(offered, plain(id)) }

// plain tests for a transform with this number and without attributes: only encryption has any (RFC 7296 3.3.5), and one with an attribute that
// is not understood is unacceptable (3.3.6).
func plain(id uint16) func(wire.Transform) bool {
	return func(t wire.Transform) bool { return t.ID == id && len(t.Attributes) == 0 }
}

// cipher chooses encryption and integrity together.
func (m *matcher) cipher(p *Proposal) bool {
	for _, e := range p.Encr {
		if !slices.ContainsFunc(m.offered.encr, e.is) || (Suite{Encr: e}).encr() == nil {
			continue
		}
		integ, ok := m.offered.integFor(e, p.Integ)
		if !ok {
			continue
		}
		m.suite.Encr, m.suite.Integ = e, integ
		return m.take(m.offered.encr, e.is)
	}
	return false
}

// is reports whether a transform is this algorithm with this key length. The Key Length attribute must be there where there is a choice
// of lengths, must not be where there is none, and nothing else may be (RFC 7296 3.3.5, 3.3.6).
func (e Encr) is(t wire.Transform) bool {
	if t.ID != uint16(e.ID) {
		return false
	}
	if e.KeyBits == 0 {
		return len(t.Attributes) == 0
	}
	return len(t.Attributes) == 1 && t.KeyLength() == e.KeyBits
}

// integFor is the integrity algorithm that goes with e: none for an AEAD, provided that none or only NONE is offered (RFC 7296 3.3), and
// otherwise the first of ours that is offered.
func (o *sorted) integFor(e Encr, ours []iana.Integ) (iana.Integ, bool) {
	if e.AEAD() {
		for _, t := range o.integ {
			if !plain(uint16(iana.AUTH_NONE))(t) {
				return 0, false
			}
		}
		return iana.AUTH_NONE, true
	}
	for _, id := range ours {
		if (Suite{Integ: id}).integ() != nil && slices.ContainsFunc(o.integ, plain(uint16(id))) {
			return id, true
		}
	}
	return 0, false
}

func (m *matcher) prf(p *Proposal) bool {
	for _, id := range p.PRF {
		if prfRow(id) != nil && m.takeID(m.offered.prf, uint16(id)) {
			m.suite.PRF = id
			m.integ()
			return true
		}
	}
	return false
}

// integ puts the chosen integrity algorithm into the reply; NONE only if the initiator spelled it out.
func (m *matcher) integ() { m.takeID(m.offered.integ, uint16(m.suite.Integ)) }

// ke chooses the key exchange. optional says that none at all is what an absent transform type means.
func (m *matcher) ke(ours []iana.KE, optional bool) bool {
	allowed := func(id iana.KE) bool {
		if id == iana.KE_NONE {
			return optional && (len(m.offered.ke) == 0 || m.takeID(m.offered.ke, uint16(id)))
		}
		return methods[id] != nil && m.takeID(m.offered.ke, uint16(id))
	}
	if m.preferKE != iana.KE_NONE && slices.Contains(ours, m.preferKE) && allowed(m.preferKE) {
		m.suite.KE = m.preferKE
		return true
	}
	for _, id := range ours {
		if allowed(id) {
			m.suite.KE = id
			return true
		}
	}
	return false
}

// childKE is the key exchange of ESP, where no transform means NONE (RFC 7296 3.3.2, 3.3.3).
func (m *matcher) childKE(p *Proposal, withKE bool) bool {
	m.integ()
	if !withKE {
		m.takeID(m.offered.ke, uint16(iana.KE_NONE))
		return true
	}
	ours := p.KE
	if len(ours) == 0 {
		ours = []iana.KE{iana.KE_NONE}
	}
	return m.ke(ours, true)
}

// noAddKE takes NONE for each additional key exchange that is offered (RFC 9370 2.2.1): none of them is implemented.
func (m *matcher) noAddKE() bool {
	for _, offered := range m.offered.add {
		if len(offered) > 0 && !m.takeID(offered, uint16(iana.KE_NONE)) {
			return false
		}
	}
	return true
}

// sn chooses the sequence numbers. Its absence means 32 bits.
func (m *matcher) sn(p *Proposal) bool {
	for _, id := range p.SN {
		if m.takeID(m.offered.sn, uint16(id)) || (id == iana.SN_32 && len(m.offered.sn) == 0) {
			m.suite.SN = id
			return true
		}
	}
	return false
}

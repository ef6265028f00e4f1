package suite

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// Mismatch says why no proposal was chosen: what was offered, what is allowed, and the first difference. Its Error is one line for an operator.
type Mismatch struct {
	Offered, Allowed string
	First            string             // e.g. "key exchange: offered MODP1024, allowed DH19 or CURVE25519"
	Type             iana.TransformType // the type that First is about; zero: none in particular
	// Answered is set on the initiator: what the responder's reply says. Offered is then our own offer, and Allowed is empty.
	Answered string
}

// Error is one line. What a peer sent is printed from numbers only, so that it cannot forge lines.
func (m *Mismatch) Error() string {
	if m.Answered != "" {
		return fmt.Sprintf("the peer chose a proposal that was not offered: %s; offered %s; answered %s", m.First, m.Offered, m.Answered)
	}
	return fmt.Sprintf("%s; in all, offered %s; allowed %s", m.First, m.Offered, m.Allowed)
}

// maxDescribed is how many transforms of an offer a message prints: a hostile one may have thousands.
const maxDescribed = 100

// explain makes the responder's Mismatch.
func (p Proposals) explain(offer wire.SA, protocol iana.Protocol, withKE bool) *Mismatch {
	typ, first := p.firstDifference(offer, protocol, withKE)
	return &Mismatch{Offered: describe(offer, protocol), Allowed: p.describe(protocol, withKE), Type: typ, First: first}
}

// refuse makes the initiator's Mismatch.
func (p Proposals) refuse(reply wire.SA, protocol iana.Protocol, withKE bool, why string) *Mismatch {
	return &Mismatch{Offered: p.describe(protocol, withKE), Answered: describe(reply, protocol), First: why}
}

func (p Proposals) describe(protocol iana.Protocol, withKE bool) string {
	return describe(p.Offer(protocol, nil, withKE), protocol)
}

// describe prints an SA payload in the syntax of ike= and esp=. A proposal for another protocol than the expected one is marked.
func describe(sa wire.SA, protocol iana.Protocol) string {
	if len(sa.Proposals) == 0 {
		return "nothing"
	}
	var b strings.Builder
	left := maxDescribed
	for i := range sa.Proposals {
		o := &sa.Proposals[i]
		if i > 0 {
			b.WriteString(",")
		}
		if o.Protocol != protocol {
			b.WriteString(protocolName(o.Protocol) + ":")
		}
		var last iana.TransformType
		for j, t := range o.Transforms {
			if left--; left < 0 {
				b.WriteString(" and more")
				return b.String()
			}
			switch {
			case j == 0:
			case t.Type == last:
				b.WriteString("+")
			case t.Type == iana.TransformSN:
				b.WriteString(";SN=")
			default:
				b.WriteString("-")
			}
			b.WriteString(transformName(t))
			last = t.Type
		}
	}
	return b.String()
}

// firstDifference finds the pair of an offered proposal and an allowed one that agree in most types, and says in words where they differ first.
func (p Proposals) firstDifference(offer wire.SA, protocol iana.Protocol, withKE bool) (typ iana.TransformType, why string) {
	if len(offer.Proposals) == 0 {
		return 0, "the offer holds no proposal"
	}
	if len(p) == 0 {
		return 0, "nothing is allowed"
	}
	best := -1
	for i := range offer.Proposals {
		s, fault := sortTransforms(&offer.Proposals[i], protocol)
		if fault != "" {
			if best < 0 {
				best, why = 0, fault
			}
			continue
		}
		for j := range p {
			if agreed, t, first := p[j].compare(&s, protocol, withKE); agreed > best {
				best, typ, why = agreed, t, first
			}
		}
	}
	return typ, why
}

// compare counts the types in which an offered proposal and p agree, one more than that for being of the right form, and names the first in
// which they do not.
func (p *Proposal) compare(o *sorted, protocol iana.Protocol, withKE bool) (agreed int, typ iana.TransformType, first string) {
	allowed := &sorted{}
	for _, t := range p.transforms(protocol, withKE) {
		into := allowed.of(t.Type)
		*into = append(*into, t)
	}
	agreed = 1
	check := func(t iana.TransformType, ok bool) {
		if ok {
			agreed++
		} else if first == "" {
			typ, first = t, typeName(t)+": offered "+alternatives(*o.of(t))+", allowed "+alternatives(*allowed.of(t))
		}
	}
	encr, integ := p.compareCipher(o)
	check(iana.TransformEncr, encr)
	check(iana.TransformInteg, integ)
	if protocol == iana.ProtoIKE {
		check(iana.TransformPRF, (&matcher{offered: o}).prf(p))
		check(iana.TransformKE, !withKE || (&matcher{offered: o}).ke(p.KE, false))
	} else {
		check(iana.TransformKE, (&matcher{offered: o}).childKE(p, withKE))
		check(iana.TransformSN, (&matcher{offered: o}).sn(p))
	}
	if add := o.addKE(); add != "" {
		agreed-- // less near than a proposal without it
		if first == "" {
			first = add
		}
	}
	return agreed, typ, first
}

// addKE names the first additional key exchange that is offered without NONE, in words; empty if there is none.
func (s *sorted) addKE() string {
	for i, offered := range s.add {
		if len(offered) > 0 && !slices.ContainsFunc(offered, plain(uint16(iana.KE_NONE))) {
			return typeName(iana.TransformAddKE1+iana.TransformType(i)) + ": offered " + alternatives(offered) +
				", allowed NONE: additional key exchanges (RFC 9370) are not implemented in this version of ikegod"
		}
	}
	return ""
}

// compareCipher reports whether some encryption algorithm is common, and whether integrity fits one that is. Without a common one, integrity
// is compared by itself.
func (p *Proposal) compareCipher(o *sorted) (encr, integ bool) {
	for _, e := range p.Encr {
		if slices.ContainsFunc(o.encr, e.is) {
			_, ok := o.integFor(e, p.Integ)
			encr, integ = true, integ || ok
		}
	}
	if encr {
		return true, integ
	}
	for _, id := range p.Integ {
		integ = integ || slices.ContainsFunc(o.integ, plain(uint16(id)))
	}
	return false, integ || len(p.Integ)+len(o.integ) == 0
}

// alternatives lists transforms of one type as "A, B or C".
func alternatives(ts []wire.Transform) string {
	if len(ts) == 0 {
		return "none"
	}
	var names []string
	for _, t := range ts[:min(len(ts), maxDescribed)] {
		names = append(names, transformName(t))
	}
	return orList(names)
}

func orList(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

func transformName(t wire.Transform) string {
	name := ""
	switch t.Type {
	case iana.TransformEncr:
		name = encrName(t.ID, 0)
	case iana.TransformPRF:
		name = prfName(t.ID)
	case iana.TransformInteg:
		name = integName(t.ID)
	case iana.TransformKE:
		name = keName(t.ID)
	case iana.TransformSN:
		name = snName(t.ID)
	default:
		if isAddKE(t.Type) {
			name = fmt.Sprintf("ADDKE%d_%s", t.Type-iana.TransformAddKE1+1, keName(t.ID))
			break
		}
		name = fmt.Sprintf("TYPE_%d_%d", t.Type, t.ID)
	}
	for _, a := range t.Attributes {
		if a.Type == iana.AttrKeyLength && a.Short {
			name += fmt.Sprintf("_%d", a.Value)
		} else {
			name += fmt.Sprintf("(attribute %d)", a.Type)
		}
	}
	return name
}

func typeName(t iana.TransformType) string {
	switch t {
	case iana.TransformEncr:
		return "encryption"
	case iana.TransformPRF:
		return "PRF"
	case iana.TransformInteg:
		return "integrity"
	case iana.TransformKE:
		return "key exchange"
	case iana.TransformSN:
		return "sequence numbers (esn=)"
	}
	if isAddKE(t) {
		return fmt.Sprintf("additional key exchange %d", t-iana.TransformAddKE1+1)
	}
	return fmt.Sprintf("transform type %d", t)
}

func protocolName(p iana.Protocol) string {
	switch p {
	case iana.ProtoIKE:
		return "IKE"
	case iana.ProtoAH:
		return "AH"
	case iana.ProtoESP:
		return "ESP"
	}
	return fmt.Sprintf("PROTOCOL_%d", p)
}

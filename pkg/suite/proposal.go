package suite

import (
	"slices"
	"strings"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// Proposal is one alternative of a policy: for each kind of transform the allowed values in order of preference. For ESP PRF is empty;
// KE may be empty (no PFS) and SN lists the sequence number kinds. An AEAD proposal has no Integ (RFC 7296 3.3: AEAD and others are
// never mixed in one proposal; the parser splits them).
type Proposal struct {
	Encr  []Encr
	PRF   []iana.PRF
	Integ []iana.Integ
	KE    []iana.KE
	SN    []iana.SN
}

// Proposals is a policy's list in order of preference.
type Proposals []Proposal

// maxProposals is how many proposals an SA payload can number (RFC 7296 3.3.1).
const maxProposals = 255

// String prints proposals in the syntax that ParseIKE and ParseESP read.
func (p Proposals) String() string {
	parts := make([]string, len(p))
	for i := range p {
		parts[i] = p[i].String()
	}
	return strings.Join(parts, ",")
}

// String prints one alternative, e.g. AES_GCM_16_256+AES_GCM_16_128-HMAC_SHA2_512-DH19. What esn= says follows as ;SN=.
func (p Proposal) String() string {
	var b strings.Builder
	b.WriteString(list(p.Encr, Encr.String))
	for _, part := range []string{
		list(p.PRF, func(id iana.PRF) string { return prfName(uint16(id)) }),
		list(p.Integ, func(id iana.Integ) string { return integName(uint16(id)) }),
	} {
		if part != "" {
			b.WriteString("-" + part)
		}
	}
	// NONE alone or first would read as an integrity algorithm.
	if ke := list(p.KE, func(id iana.KE) string { return keName(uint16(id)) }); ke != "" {
		if p.KE[0] == iana.KE_NONE {
			b.WriteString(";KE=" + ke)
		} else {
			b.WriteString("-" + ke)
		}
	}
	if sn := list(p.SN, func(id iana.SN) string { return snName(uint16(id)) }); sn != "" {
		b.WriteString(";SN=" + sn)
	}
	return b.String()
}

func list[T any](items []T, name func(T) string) string {
	names := make([]string, len(items))
	for i, it := range items {
		names[i] = name(it)
	}
	return strings.Join(names, "+")
}

// Offer makes the SA payload that offers p. spi is put into every proposal (nil in IKE_SA_INIT). withKE false leaves the key exchange
// out (the Child SA of IKE_AUTH, RFC 7296 1.2). The number of a proposal is its place in p, counted from 1.
func (p Proposals) Offer(protocol iana.Protocol, spi []byte, withKE bool) wire.SA {
	p = p[:min(len(p), maxProposals)]
	sa := wire.SA{Proposals: make([]wire.Proposal, len(p))}
	for i := range p {
		sa.Proposals[i] = wire.Proposal{
			Number:     uint8(i + 1),
			Protocol:   protocol,
			SPI:        slices.Clone(spi),
			Transforms: p[i].transforms(protocol, withKE),
		}
	}
	return sa
}

// transforms lists the transforms of one proposal, by type. NONE is offered only beside something else: alone it means the same as no
// transform of that type, which is what RFC 7296 3.3 recommends.
func (p Proposal) transforms(protocol iana.Protocol, withKE bool) []wire.Transform {
	var t []wire.Transform
	for _, e := range p.Encr {
		t = append(t, e.transform())
	}
	for _, id := range p.PRF {
		t = append(t, wire.Transform{Type: iana.TransformPRF, ID: uint16(id)})
	}
	for _, id := range p.Integ {
		if id != iana.AUTH_NONE {
			t = append(t, wire.Transform{Type: iana.TransformInteg, ID: uint16(id)})
		}
	}
	if withKE && slices.ContainsFunc(p.KE, func(id iana.KE) bool { return id != iana.KE_NONE }) {
		for _, id := range p.KE {
			t = append(t, wire.Transform{Type: iana.TransformKE, ID: uint16(id)})
		}
	}
	if protocol == iana.ProtoIKE {
		return t
	}
	for _, id := range p.SN {
		t = append(t, wire.Transform{Type: iana.TransformSN, ID: uint16(id)})
	}
	return t
}

// transform is the transform of an encryption algorithm. Key Length is present exactly where there is a choice (RFC 7296 3.3.5).
func (e Encr) transform() wire.Transform {
	t := wire.Transform{Type: iana.TransformEncr, ID: uint16(e.ID)}
	if e.KeyBits != 0 {
		t.Attributes = []wire.Attribute{{Type: iana.AttrKeyLength, Short: true, Value: e.KeyBits}}
	}
	return t
}

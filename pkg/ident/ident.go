// Package ident is about IKE identities: parse, print, compare and match (RFC 7296 3.5).
package ident

import (
	"net/netip"
	"strings"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// ID is an identity. Comparable octet by octet; Same compares as identities. The zero ID means "not given".
type ID struct {
	Type iana.IDType
	Data string // the octets of the payload
}

// FromAddr makes ID_IPV4_ADDR or ID_IPV6_ADDR; the zero ID of an invalid address.
func FromAddr(a netip.Addr) ID {
	switch a = a.Unmap(); {
	case a.Is4():
		return ID{Type: iana.ID_IPV4_ADDR, Data: string(a.AsSlice())}
	case a.Is6():
		return ID{Type: iana.ID_IPV6_ADDR, Data: string(a.AsSlice())}
	}
	return ID{}
}

// FromWire reads an identification payload; a type that is not known is kept as it is. The octets are copied.
func FromWire(p wire.ID) ID { return ID{Type: p.IDType, Data: string(p.Data)} }

// Payload makes the IDi or IDr payload.
func (id ID) Payload(kind iana.Payload) wire.ID {
	return wire.ID{Payload: kind, IDType: id.Type, Data: []byte(id.Data)}
}

// Body is the octets that are signed: type, three reserved octets, data (RFC 7296 2.15). For an identity received they are those of the
// payload only if its RESERVED octets were zero, as they must be.
func (id ID) Body() []byte { return id.Payload(iana.PayloadIDi).AppendTo(nil) }

// IsZero reports whether the identity was not given.
func (id ID) IsZero() bool { return id == ID{} }

// Addr is the address of an ID_IPV4_ADDR or ID_IPV6_ADDR of the right length.
func (id ID) Addr() (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice([]byte(id.Data))
	if ok && (id.Type == iana.ID_IPV4_ADDR && a.Is4() || id.Type == iana.ID_IPV6_ADDR && a.Is6()) {
		return a, true
	}
	return netip.Addr{}, false
}

// Canonical is equal (==) for two identities that are the same, so that it can be a map's key: the letters of an FQDN, and of the domain of
// an ID_RFC822_ADDR, become lower case, an FQDN loses the dot of the root, and the strings of a DN lose case, type and needless blanks. Everything else stays.
func (id ID) Canonical() ID {
	switch id.Type {
	case iana.ID_FQDN:
		id.Data = strings.TrimSuffix(lower(id.Data), ".")
	case iana.ID_DER_ASN1_DN:
		id.Data = canonicalDN(id.Data)
	case iana.ID_RFC822_ADDR:
		if at := strings.LastIndexByte(id.Data, '@'); at >= 0 {
			id.Data = id.Data[:at] + lower(id.Data[at:])
		}
	}
	return id
}

// lower is for ASCII only, octet by octet: an internationalised name is in its xn-- form (RFC 7296 3.5), and what is not ASCII must not become
// equal to something else.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// Same reports whether both are the same identity: of one type, FQDNs compared without case, DNs attribute by attribute, all else octet by octet.
func (id ID) Same(o ID) bool {
	return id == o || id.Type == o.Type && id.Canonical() == o.Canonical()
}

// Pattern is what a connection allows as its peer's identity: exactly one, any, or the many that a DN with the value "*" stands for.
type Pattern struct {
	Any bool
	ID  ID
}

// Match reports whether id fits, types strictly: FQDNs compared without case, DNs as libreswan does, which lets RDNs stand in another order and "*" fit any value of
// its attribute. An identity that was not given fits nothing.
func (p Pattern) Match(id ID) bool {
	switch {
	case id.IsZero():
		return false
	case p.Any || p.ID == id:
		return true
	case p.ID.Type == iana.ID_DER_ASN1_DN && id.Type == iana.ID_DER_ASN1_DN:
		return matchDN(p.ID.Data, id.Data)
	}
	return p.ID.Same(id)
}

// One is the identity that alone fits; ok is false when others fit too, or none was given.
func (p Pattern) One() (id ID, ok bool) {
	if p.Any || p.ID.IsZero() || p.ID.Type == iana.ID_DER_ASN1_DN && hasWildcard(p.ID.Data) {
		return ID{}, false
	}
	return p.ID, true
}

// String prints the pattern; "%any" for any.
func (p Pattern) String() string {
	if p.Any {
		return anyWord
	}
	return p.ID.String()
}

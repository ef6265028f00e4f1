// Package ident is about IKE identities: parse, print, compare and match (RFC 7296 3.5).
package ident

import (
	"errors"
	"net/netip"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

var errSkeleton = errors.New("ident: not written yet")

// ID is an identity. Comparable. The zero ID means "not given".
type ID struct {
	Type iana.IDType
	Data string // the octets of the payload
}

// Parse reads an id as ipsec.conf writes it: an address, "@fqdn", "user@domain", "@#hex", "@[key id]", a DN with '='. %fromcert is refused here.
func Parse(s string) (ID, error) { return ID{}, errSkeleton }

// FromAddr makes ID_IPV4_ADDR or ID_IPV6_ADDR.
func FromAddr(a netip.Addr) ID { return ID{} }

// FromWire reads an identification payload; a type that is not known is kept as it is.
func FromWire(p wire.ID) ID { return ID{Type: p.IDType, Data: string(p.Data)} }

// Payload makes the IDi or IDr payload.
func (id ID) Payload(kind iana.Payload) wire.ID {
	return wire.ID{Payload: kind, IDType: id.Type, Data: []byte(id.Data)}
}

// Body is the octets that are signed: type, three reserved octets, data (RFC 7296 2.15).
func (id ID) Body() []byte { return nil }

// IsZero reports whether the identity was not given.
func (id ID) IsZero() bool { return id == ID{} }

// String prints the identity as ipsec.conf writes it, e.g. "@west" or "192.1.2.45". What a peer sent is escaped so that it cannot forge log lines.
func (id ID) String() string { return "" }

// Pattern is what a connection allows as its peer's identity: exactly one, or any.
type Pattern struct {
	Any bool
	ID  ID
}

// Match reports whether id fits, comparing FQDNs without case, types strictly.
func (p Pattern) Match(id ID) bool { return false }

// String prints the pattern; "%any" for any.
func (p Pattern) String() string { return "" }

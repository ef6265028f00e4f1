// Package path names the way a message travels: two addresses with ports, and the carrier between them.
package path

import (
	"fmt"
	"net/netip"
)

// Kind is the carrier of a Path.
type Kind uint8

// The carriers. UDP with port 4500 at either end carries the non-ESP marker (RFC 7296 2.23, RFC 3948 2.2);
// TCP is the stream of RFC 9329.
const (
	UDP Kind = iota
	TCP
)

// String returns "UDP" or "TCP".
func (k Kind) String() string {
	switch k {
	case UDP:
		return "UDP"
	case TCP:
		return "TCP"
	}
	return fmt.Sprintf("carrier(%d)", uint8(k))
}

// Stream reports whether the carrier delivers reliably and in order: no retransmission on it (RFC 9329 6.2), no float to
// port 4500, no IKE fragmentation.
func (k Kind) Stream() bool { return k == TCP }

// Path is a comparable value. Local is the address the peer talks to (never the wildcard). Generation is zero for UDP and
// different for every TCP connection of one process, so that a message from an old connection can be told from one of the new.
type Path struct {
	Local, Remote netip.AddrPort
	Kind          Kind
	Generation    uint64
}

// String prints the path as an operator reads it: "192.1.2.45:500 -> 192.1.2.23:500 UDP".
func (p Path) String() string { return fmt.Sprintf("%s -> %s %s", p.Local, p.Remote, p.Kind) }

// Peer prints the remote end in the field's usual form, "192.1.2.23:UDP/4500".
func (p Path) Peer() string {
	a := p.Remote.Addr().String()
	if p.Remote.Addr().Is6() {
		a = "[" + a + "]"
	}
	return fmt.Sprintf("%s:%s/%d", a, p.Kind, p.Remote.Port())
}

// IsZero reports whether the path is unset.
func (p Path) IsZero() bool { return p == Path{} }

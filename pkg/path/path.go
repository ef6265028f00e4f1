// Package path names the way a message travels: two addresses with ports, and the carrier between them.
package path

import (
	"fmt"
	"net/netip"
)

// Kind is the carrier of a Path.
type Kind uint8

// The carriers. UDP with port 4500 at either end carries the non-ESP marker (RFC 7296 2.23, RFC 3948 2.2);
// TCP is the stream of RFC 9329; ESP is IP protocol 50 itself (RFC 4303), which has no ports and never carries IKE.
const (
	UDP Kind = iota
	TCP
	ESP
)

// NumKinds is the number of carriers.
const NumKinds = int(ESP) + 1

// String returns "UDP", "TCP" or "ESP".
func (k Kind) String() string {
	switch k {
	case UDP:
		return "UDP"
	case TCP:
		return "TCP"
	case ESP:
		return "ESP"
	}
	return fmt.Sprintf("carrier(%d)", uint8(k))
}

// Encapsulation names how ESP travels by the carrier, as libreswan prints it: "ESPinUDP", "ESPinTCP", or "ESP" alone.
func (k Kind) Encapsulation() string {
	if k == ESP {
		return "ESP"
	}
	return "ESPin" + k.String()
}

// Stream reports whether the carrier delivers reliably and in order: no retransmission on it (RFC 9329 6.2), no float to
// port 4500, no IKE fragmentation.
func (k Kind) Stream() bool { return k == TCP }

// Path is a comparable value. Local is the address the peer talks to (never the wildcard). The ports of plain ESP are zero. Generation is zero but for TCP, where
// it is different for every connection of one process, so that a message from an old connection can be told from one of the new.
type Path struct {
	Local, Remote netip.AddrPort
	Kind          Kind
	Generation    uint64
}

// PlainESP is the path of plain ESP between the addresses of p.
func (p Path) PlainESP() Path {
	return Path{Local: netip.AddrPortFrom(p.Local.Addr(), 0), Remote: netip.AddrPortFrom(p.Remote.Addr(), 0), Kind: ESP}
}

// String prints the path as an operator reads it: "192.1.2.45:500 -> 192.1.2.23:500 UDP", "192.1.2.45 -> 192.1.2.23 ESP".
func (p Path) String() string {
	if p.Kind == ESP {
		return fmt.Sprintf("%s -> %s %s", p.Local.Addr(), p.Remote.Addr(), p.Kind)
	}
	return fmt.Sprintf("%s -> %s %s", p.Local, p.Remote, p.Kind)
}

// Peer prints the remote end in the field's usual form, "192.1.2.23:UDP/4500", "192.1.2.23:ESP".
func (p Path) Peer() string {
	a := p.Remote.Addr().String()
	if p.Remote.Addr().Is6() {
		a = "[" + a + "]"
	}
	if p.Kind == ESP {
		return a + ":" + p.Kind.String()
	}
	return fmt.Sprintf("%s:%s/%d", a, p.Kind, p.Remote.Port())
}

// IsZero reports whether the path is unset.
func (p Path) IsZero() bool { return p == Path{} }

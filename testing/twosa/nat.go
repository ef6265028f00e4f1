package twosa

import (
	"net/netip"

	"github.com/ikegod/ikegod/pkg/path"
)

// NAT is a box between the hosts that hides one address behind another, as Net of a World. Each inside address and port gets its own outside port.
type NAT struct {
	Inside, Outside netip.Addr
	First           uint16 // outside port of the first mapping
	ports           map[netip.AddrPort]uint16
}

// Translate changes the source of what goes out and the destination of what comes back. What comes to an unknown mapping is lost.
func (n *NAT) Translate(p Packet) (Packet, bool) {
	if n.ports == nil {
		n.ports = map[netip.AddrPort]uint16{}
	}
	if p.Path.Local.Addr() == n.Inside {
		port, ok := n.ports[p.Path.Local]
		if !ok {
			port = n.First + uint16(len(n.ports))
			n.ports[p.Path.Local] = port
		}
		p.Path.Local = netip.AddrPortFrom(n.Outside, port)
		return p, true
	}
	if p.Path.Remote.Addr() != n.Outside {
		return p, true
	}
	for in, port := range n.ports {
		if port == p.Path.Remote.Port() {
			p.Path.Remote = in
			return p, true
		}
	}
	return p, false
}

// Rebind forgets all mappings, as a NAT box does when it restarts.
func (n *NAT) Rebind() {
	n.First += uint16(len(n.ports))
	n.ports = nil
}

// Only lets packets of one carrier through.
func Only(k path.Kind) func(Packet) (Packet, bool) {
	return func(p Packet) (Packet, bool) { return p, p.Path.Kind == k }
}

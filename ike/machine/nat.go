package machine

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // RFC 7296 2.23 fixes SHA-1; nothing is protected by it
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
)

// natHash is the content of a NAT_DETECTION notification (RFC 7296 2.23): the SPIs as they stand in the header, address and port.
func natHash(h wire.Header, a netip.AddrPort) []byte {
	b := make([]byte, 0, 34)
	b = binary.BigEndian.AppendUint64(b, uint64(h.InitiatorSPI))
	b = binary.BigEndian.AppendUint64(b, uint64(h.ResponderSPI))
	b = append(b, a.Addr().Unmap().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, a.Port())
	s := sha1.Sum(b) //nolint:gosec // see above
	return s[:]
}

// natPayloads makes our NAT_DETECTION notifications for a message on p. With forced the source hash is wrong on purpose: the peer then takes us for a host
// behind a NAT and puts ESP into UDP. On a stream the hashes are right, they change nothing there (RFC 9329 6.5).
func natPayloads(h wire.Header, p path.Path, forced bool) []wire.Item {
	src := natHash(h, p.Local)
	if forced {
		for i := range src {
			src[i] ^= 0xff
		}
	}
	return []wire.Item{
		{Payload: wire.Notify{Notify: iana.NAT_DETECTION_SOURCE_IP, Data: src}},
		{Payload: wire.Notify{Notify: iana.NAT_DETECTION_DESTINATION_IP, Data: natHash(h, p.Remote)}},
	}
}

// forces reports whether we ask for ESP in UDP on p although there may be no NAT: with encapsulation=yes, on a port of one's own, or without plain ESP here. A
// responder does not know yet which connection it will be, so one that wants it is enough: ESP in UDP serves the others, too. Who has a port does not meet on 500.
func (m *Machine) forces(p path.Path, conns ...*policy.Oriented) bool {
	wanted := func(c *policy.Oriented) bool {
		return c.Encapsulation == policy.EncapYes || c.InUDP() && p.Local.Port() != iana.PortIKE
	}
	return p.Kind == path.UDP && (!m.cfg.PlainESP || slices.ContainsFunc(conns, wanted))
}

// detectNAT compares the peer's NAT_DETECTION notifications with the addresses of the packet. A destination that does not match means that we are behind
// a NAT; a source that matches none of those listed means that the peer is, or says so.
func (m *Machine) detectNAT(msg *message) {
	var source, destination, sourceOK, destinationOK bool
	for _, it := range msg.items {
		n, ok := it.Payload.(wire.Notify)
		if !ok {
			continue
		}
		switch n.Notify {
		case iana.NAT_DETECTION_SOURCE_IP:
			source = true
			sourceOK = sourceOK || bytes.Equal(n.Data, natHash(msg.h, msg.path.Remote))
		case iana.NAT_DETECTION_DESTINATION_IP:
			destination = true
			destinationOK = destinationOK || bytes.Equal(n.Data, natHash(msg.h, msg.path.Local))
		}
	}
	m.hs.natd = source && destination
	m.natLocal = destination && !destinationOK
	m.natRemote = source && !sourceOK
}

// floated is the path from IKE_AUTH on: over UDP both ports go from 500 to 4500 (RFC 7296 2.23). Other ports, which have the marker, stay.
func floated(p path.Path) path.Path {
	if p.Kind != path.UDP || p.Remote.Port() != iana.PortIKE {
		return p
	}
	p.Remote = netip.AddrPortFrom(p.Remote.Addr(), iana.PortIKENATT)
	if p.Local.Port() == iana.PortIKE {
		p.Local = netip.AddrPortFrom(p.Local.Addr(), iana.PortIKENATT)
	}
	return p
}

// inUDP reports whether the ends agree on ESP in UDP: there is a NAT, or one of them has asked for it.
func (m *Machine) inUDP() bool { return m.natLocal || m.natRemote || m.forced }

// espPath is where ESP of a connection travels (RFC 7296 2.23): on the stream if there is one; beside IKE where ESP goes in UDP, unless encapsulation=no or a
// peer that stays on port 500, where UDP carries none; else as plain ESP between the same addresses.
func (m *Machine) espPath(c *policy.Oriented) path.Path {
	switch {
	case m.path.Kind.Stream(), m.inUDP() && c.Encapsulation != policy.EncapNo && natt(m.path):
		return m.path
	}
	return m.path.PlainESP()
}

// natt reports whether UDP on p carries ESP: on every port of ours but 500, and from there to a peer's 4500.
func natt(p path.Path) bool {
	return p.Local.Port() != iana.PortIKE || p.Remote.Port() == iana.PortIKENATT
}

// noCarrier says why ESP of a connection cannot travel; empty: it can.
func (m *Machine) noCarrier(c *policy.Oriented) string {
	var here string // why not as plain ESP
	switch {
	case m.espPath(c).Kind != path.ESP || m.cfg.PlainESP && c.Encapsulation != policy.EncapYes:
		return ""
	case c.Encapsulation == policy.EncapNo:
		return m.noPlainESP(c)
	case m.cfg.PlainESP:
		here = where(c, "encapsulation") + " forbids"
	default:
		here = "this daemon cannot do (ikectl status says why)"
	}
	if m.hs == nil && !m.inUDP() {
		return fmt.Sprintf("the IKE SA with %s was made without ESP in UDP, and plain ESP is what %s; take it down and up again", m.path.Peer(), here)
	}
	if m.inUDP() {
		return fmt.Sprintf("%s stays on port 500 and wants ESP without UDP, which %s; set encapsulation=yes there", m.path.Peer(), here)
	}
	return fmt.Sprintf("%s does not support NAT traversal (no NAT_DETECTION notifications) and wants ESP without UDP, which %s; "+
		"set enable-tcp=yes there if it can do TCP", m.path.Peer(), here)
}

// whyForced says why we asked for encapsulation.
func (m *Machine) whyForced() string {
	if m.cfg.PlainESP {
		return m.conn.WhyInUDP()
	}
	return "this daemon has no plain ESP (ikectl status says why)"
}

// noPlainESP says why encapsulation=no cannot be kept over UDP.
func (m *Machine) noPlainESP(c *policy.Oriented) string {
	return fmt.Sprintf("encapsulation=no (%s) needs plain ESP, which this daemon cannot do (ikectl status says why); remove it, or set enable-tcp=yes",
		where(c, "encapsulation"))
}

// natIgnored says what encapsulation=no leaves out; empty: nothing.
func (m *Machine) natIgnored(c *policy.Oriented) string {
	if m.path.Kind.Stream() || c.Encapsulation != policy.EncapNo || !m.inUDP() {
		return ""
	}
	return fmt.Sprintf("there is a NAT on the way to %s, or it asks for encapsulation; with encapsulation=no (%s) ESP goes without UDP all the same, which few NATs "+
		"let pass: if nothing comes through set encapsulation=auto", m.path.Peer(), where(c, "encapsulation"))
}

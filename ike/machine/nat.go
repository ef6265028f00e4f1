package machine

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // RFC 7296 2.23 fixes SHA-1; nothing is protected by it
	"encoding/binary"
	"net/netip"

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

// natPayloads makes our NAT_DETECTION notifications for a message on p. Over UDP the source hash is wrong on purpose: the peer then takes us for a host
// behind a NAT and puts ESP into UDP, which is what encapsulation=yes asks for and what a datapath without plain ESP needs. On a stream the hashes
// are right, they change nothing there (RFC 9329 6.5).
func natPayloads(h wire.Header, p path.Path) []wire.Item {
	src := natHash(h, p.Local)
	if !p.Kind.Stream() {
		for i := range src {
			src[i] ^= 0xff
		}
	}
	return []wire.Item{
		{Payload: wire.Notify{Notify: iana.NAT_DETECTION_SOURCE_IP, Data: src}},
		{Payload: wire.Notify{Notify: iana.NAT_DETECTION_DESTINATION_IP, Data: natHash(h, p.Remote)}},
	}
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

// floated is the path from IKE_AUTH on: over UDP both ports go from 500 to 4500 (RFC 7296 2.23).
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

// carriesESP reports whether ESP can go along p: never in UDP on port 500 (RFC 7296 2.23), and there is no plain ESP yet.
func carriesESP(p path.Path) bool {
	return p.Kind.Stream() || p.Local.Port() == iana.PortIKENATT || p.Remote.Port() == iana.PortIKENATT
}

package machine

import (
	"fmt"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// onRekeyRequest makes a successor for a Child SA (RFC 7296 1.3.3, 2.8). The peer deletes the old one; until then both are there.
func (m *Machine) onRekeyRequest(msg *message, n wire.Notify) {
	var old *child
	if n.Protocol == iana.ProtoESP {
		old = m.childBySPIOut(spiOf(n.SPI))
	}
	switch {
	case old == nil:
		m.refuseCreate(msg, &childRefusal{
			reason: event.ReasonProtocol, notify: iana.CHILD_SA_NOT_FOUND, protocol: n.Protocol, spi: n.SPI, // RFC 7296 2.25: as the request named it
			text: fmt.Sprintf("the peer wants to rekey the Child SA %x, which is not here", n.SPI),
		})
	case old.state != childInstalled:
		m.refuseCreate(msg, &childRefusal{
			reason: event.ReasonOperator, notify: iana.TEMPORARY_FAILURE, text: fmt.Sprintf("Child SA %q is being deleted", old.name()), // RFC 7296 2.25.1
		})
	default:
		m.create(msg, []target{{old.conn, old.index}})
	}
}

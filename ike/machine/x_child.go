package machine

import (
	"fmt"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// onCreateChildRequest refuses CREATE_CHILD_SA, which RFC 7296 1.3 allows: "An implementation MAY refuse all CREATE_CHILD_SA requests within an IKE SA".
// NO_ADDITIONAL_SAS is the answer that peers know how to go on from, also when they wanted to rekey the IKE SA: they make a new one.
func (m *Machine) onCreateChildRequest(msg *message) {
	n := wire.Notify{Notify: iana.NO_ADDITIONAL_SAS}
	what := "a new Child SA"
	rekey, isRekey := wire.GetNotify(msg.items, iana.REKEY_SA)
	_, hasTS := wire.GetType[wire.TS](msg.items, iana.PayloadTSi)
	switch {
	case isRekey:
		what = "rekeying a Child SA"
		if m.childBySPIOut(spiOf(rekey.SPI)) == nil {
			// RFC 7296 2.25: the notification names the SA as the request did.
			n = wire.Notify{Notify: iana.CHILD_SA_NOT_FOUND, Protocol: rekey.Protocol, SPI: rekey.SPI}
		}
	case !hasTS:
		what = "rekeying the IKE SA"
	}
	if m.state == deleting {
		n = wire.Notify{Notify: iana.TEMPORARY_FAILURE} // RFC 7296 2.25.2
	}
	m.answer(msg, []wire.Item{{Payload: n}})
	m.emit(event.Event{Level: event.Info, Text: fmt.Sprintf("refused %s to %s: not supported yet; sent %v", what, m.path.Peer(), n.Notify)})
}

// answer replies to the request in work.
func (m *Machine) answer(msg *message, items []wire.Item) {
	m.put(m.seal(m.header(msg.h.Exchange, msg.h.MessageID, true), items), false)
}

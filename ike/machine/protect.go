package machine

import (
	"errors"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// header makes the header of a message of ours.
func (m *Machine) header(x iana.Exchange, id uint32, response bool) wire.Header {
	h := wire.Header{InitiatorSPI: m.spii, ResponderSPI: m.spir, MajorVersion: 2, Exchange: x, MessageID: id}
	if m.initiator {
		h.Flags |= wire.FlagInitiator
	}
	if response {
		h.Flags |= wire.FlagResponse
	}
	return h
}

// clear builds an unprotected message.
func (m *Machine) clear(h wire.Header, items []wire.Item) []byte {
	msg := wire.Message{Header: h, Payloads: items}
	return msg.AppendTo(nil)
}

// seal builds a message whose payloads are in an SK payload (RFC 7296 3.14). When the random source fails it ends the IKE SA and returns nil.
func (m *Machine) seal(h wire.Header, items []wire.Item) []byte {
	plain := wire.AppendChain(make([]byte, 0, wire.ChainLen(items)), items)
	body := len(plain) + m.suite.SKOverhead(len(plain))
	msg := wire.AppendSKHeader(make([]byte, 0, wire.HeaderLen+4+body), h, wire.First(items), body)
	encr, integ := m.keys.Ei, m.keys.Ai
	if !m.initiator {
		encr, integ = m.keys.Er, m.keys.Ar
	}
	m.sealed++
	sealed, err := m.suite.SealSK(msg, encr, integ, plain, m.sealed, m.cfg.Rand)
	if err != nil {
		m.finish(event.Close{Reason: event.ReasonInternal, Detail: "a message could not be sealed: " + err.Error()})
		return nil
	}
	return sealed
}

var (
	errUnprotected = errors.New("not protected")
	errFragment    = errors.New("fragment, although fragmentation was not negotiated")
)

// sealedPayload finds the SK payload of a message; it is the last one (RFC 7296 3.14).
func sealedPayload(raw []byte) (wire.SK, error) {
	outer, err := wire.Parse(raw)
	if err != nil {
		return wire.SK{}, err
	}
	if len(outer.Payloads) == 0 {
		return wire.SK{}, errUnprotected
	}
	switch p := outer.Payloads[len(outer.Payloads)-1].Payload.(type) {
	case wire.SK:
		return p, nil
	case wire.SKF:
		return wire.SK{}, errFragment
	}
	return wire.SK{}, errUnprotected
}

// open checks a protected message with the peer's keys and returns its plaintext. What fails is suite.ErrIntegrity, and raw is unchanged.
func (m *Machine) open(raw []byte, sk wire.SK) ([]byte, error) {
	encr, integ := m.keys.Er, m.keys.Ar
	if !m.initiator {
		encr, integ = m.keys.Ei, m.keys.Ai
	}
	return m.suite.OpenSK(raw, len(raw)-len(sk.Data), encr, integ)
}

package twosa

import (
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/wire"
)

// Forge seals payloads into a message from h with the keys of the IKE SA that its peer has, so that a test can say what no machine would. The keys are
// derived here from what went over the wire and the shared secret.
func (h *Host) Forge(x iana.Exchange, id uint32, response bool, items ...wire.Item) Packet {
	return h.ForgeRaw(x, id, response, wire.First(items), wire.AppendChain(nil, items))
}

// ForgeRaw is Forge for octets that need not be payloads; first is the type that the SK payload gives them.
func (h *Host) ForgeRaw(x iana.Exchange, id uint32, response bool, first iana.Payload, plain []byte) Packet {
	s := h.Peer().M.Snapshot()
	k := h.keys(s.Suite, s.SPIi, s.SPIr)
	hd := wire.Header{InitiatorSPI: s.SPIi, ResponderSPI: s.SPIr, MajorVersion: 2, Exchange: x, MessageID: id}
	encr, integ := k.Er, k.Ar
	if !s.Initiator {
		hd.Flags, encr, integ = wire.FlagInitiator, k.Ei, k.Ai
	}
	if response {
		hd.Flags |= wire.FlagResponse
	}
	msg := wire.AppendSKHeader(nil, hd, first, len(plain)+s.Suite.SKOverhead(len(plain)))
	h.forged++
	msg, err := s.Suite.SealSK(msg, encr, integ, plain, 1<<40+h.forged, h.random)
	if err != nil {
		panic(err)
	}
	return Packet{Path: reversed(s.Path), Data: msg}
}

// keys derives the keys of an IKE SA from the nonces that were sent.
func (h *Host) keys(s suite.Suite, spii, spir wire.SPI) suite.IKEKeys {
	var ni, nr []byte
	for _, from := range []*Host{h, h.Peer()} {
		for _, p := range from.Sent {
			hd := p.Header()
			if hd.Exchange != iana.IKE_SA_INIT || hd.InitiatorSPI != spii {
				continue
			}
			msg, err := wire.Parse(p.Data)
			if err != nil {
				panic(err)
			}
			n, ok := wire.Get[wire.Nonce](msg.Payloads)
			switch {
			case !ok:
			case hd.Response() && hd.ResponderSPI == spir:
				nr = n.Data
			case !hd.Response():
				ni = n.Data
			}
		}
	}
	secret := h.secret
	if len(h.Peer().secret) > 0 {
		secret = h.Peer().secret
	}
	return s.DeriveIKE(secret, ni, nr, spii, spir)
}

// Notify is a Notify payload.
func Notify(n iana.Notify, data ...byte) wire.Item {
	return wire.Item{Payload: wire.Notify{Notify: n, Data: data}}
}

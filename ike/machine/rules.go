package machine

import (
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// rule says what may arrive: which exchange in which states, what it has to contain, and what then happens. A message that fits no rule is dropped
// and counted; one that fits a rule but lacks a payload is malformed (INVALID_SYNTAX).
type rule struct {
	exchange  iana.Exchange
	response  bool
	initiator bool // we are the original initiator of the IKE SA
	responder bool // we are its responder
	in        states
	clear     bool // not protected by an SK payload
	must      payloads
	may       payloads // others are ignored (RFC 7296 2.5)
	many      payloads // may appear more than once
	story     string
	do        func(*Machine, *message)
}

// The exchanges of RFC 7296 section 1, row by row. For responses the complete form comes before the refusal: the first row whose payloads are all there
// is taken.
var rules []rule

func init() {
	const (
		sa, ke, nonce = payloads(1 << (iana.PayloadSA - 33)), payloads(1 << (iana.PayloadKE - 33)), payloads(1 << (iana.PayloadNonce - 33))
		idi, idr      = payloads(1 << (iana.PayloadIDi - 33)), payloads(1 << (iana.PayloadIDr - 33))
		auth          = payloads(1 << (iana.PayloadAUTH - 33))
		tsi, tsr      = payloads(1 << (iana.PayloadTSi - 33)), payloads(1 << (iana.PayloadTSr - 33))
		notify        = payloads(1 << (iana.PayloadNotify - 33))
		vendor        = payloads(1 << (iana.PayloadVendorID - 33))
		del           = payloads(1 << (iana.PayloadDelete - 33))
		cert, certreq = payloads(1 << (iana.PayloadCERT - 33)), payloads(1 << (iana.PayloadCERTREQ - 33))
		cp            = payloads(1 << (iana.PayloadCP - 33))
		free          = notify | vendor // may be in every message, any number of times
	)
	rules = []rule{
		{
			exchange: iana.IKE_SA_INIT, responder: true, in: in(idle), clear: true,
			must: sa | ke | nonce, may: free, many: free,
			story: "answer IKE_SA_INIT: choose a proposal, send our public value and nonce", do: (*Machine).onInitRequest,
		},
		{
			exchange: iana.IKE_SA_INIT, response: true, initiator: true, in: in(initSent), clear: true,
			must: sa | ke | nonce, may: free | certreq, many: free | certreq,
			story: "accept IKE_SA_INIT response: compute keys, start IKE_AUTH", do: (*Machine).onInitResponse,
		},
		{
			exchange: iana.IKE_SA_INIT, response: true, initiator: true, in: in(initSent), clear: true,
			must: notify, may: free, many: free,
			story: "COOKIE, INVALID_KE_PAYLOAD or a refusal: repeat, or remember it as a hint", do: (*Machine).onInitRefusal,
		},
		{
			exchange: iana.IKE_AUTH, responder: true, in: in(halfOpen),
			must: idi | sa | tsi | tsr, may: free | idr | auth | cert | certreq | cp, many: free | cert | certreq,
			story: "authenticate the initiator, choose the connection, install the first Child SA", do: (*Machine).onAuthRequest,
		},
		{
			exchange: iana.IKE_AUTH, response: true, initiator: true, in: in(authSent),
			must: idr | auth, may: free | sa | tsi | tsr | cert | cp, many: free | cert,
			story: "authenticate the responder, install the first Child SA", do: (*Machine).onAuthResponse,
		},
		{
			exchange: iana.IKE_AUTH, response: true, initiator: true, in: in(authSent),
			must: notify, may: free, many: free,
			story: "the responder refuses the IKE SA", do: (*Machine).onAuthRefusal,
		},
		{
			exchange: iana.CREATE_CHILD_SA, initiator: true, responder: true, in: in(established, deleting),
			must: sa | nonce, may: free | ke | tsi | tsr | cp, many: free,
			story: "choose, make and install a further Child SA, or say why not", do: (*Machine).onCreateChildRequest,
		},
		{
			exchange: iana.CREATE_CHILD_SA, response: true, initiator: true, responder: true, in: in(established, deleting),
			must: sa | nonce | tsi | tsr, may: free | ke | cp, many: free,
			story: "accept and install the Child SA that was asked for", do: (*Machine).onCreateChildResponse,
		},
		{
			exchange: iana.CREATE_CHILD_SA, response: true, initiator: true, responder: true, in: in(established, deleting),
			must: notify, may: free, many: free,
			story: "the peer makes no Child SA: ask otherwise, later, or not again", do: (*Machine).onCreateChildRefusal,
		},
		{
			exchange: iana.INFORMATIONAL, initiator: true, responder: true, in: in(established, deleting),
			may: free | del | cp, many: free | del,
			story: "delete, liveness or notification: act and answer", do: (*Machine).onInfoRequest,
		},
		{
			exchange: iana.INFORMATIONAL, response: true, initiator: true, responder: true, in: in(established, deleting),
			may: free | del | cp, many: free | del,
			story: "answer to our INFORMATIONAL: close what was to be closed", do: (*Machine).onInfoResponse,
		},
	}
}

// states is a set of states.
type states uint16

func in(list ...state) states {
	var s states
	for _, st := range list {
		s |= 1 << st
	}
	return s
}

// payloads is a set of payload types, 33 to 53.
type payloads uint32

func setOf(t iana.Payload) payloads {
	if t < iana.PayloadSA || t > iana.PayloadSKF {
		return 0
	}
	return 1 << (t - iana.PayloadSA)
}

// applies reports whether a rule is about such a message here and now, whatever the message contains.
func (r *rule) applies(m *Machine, h wire.Header) bool {
	return r.exchange == h.Exchange && r.response == h.Response() && r.in&(1<<m.state) != 0 && (m.initiator && r.initiator || !m.initiator && r.responder)
}

// expected finds the first rule about such a message; nil when it may not arrive now.
func (m *Machine) expected(h wire.Header) *rule {
	for i := range rules {
		if rules[i].applies(m, h) {
			return &rules[i]
		}
	}
	return nil
}

// ruleFor finds the rule whose payloads a message has. missing names a payload that the first rule about it asks for when none fits, or one that
// appears twice and may not.
func (m *Machine) ruleFor(msg *message) (r *rule, missing, twice iana.Payload) {
	var have, more payloads
	for _, it := range msg.items {
		s := setOf(it.Type())
		more |= have & s
		have |= s
	}
	for i := range rules {
		r := &rules[i]
		if !r.applies(m, msg.h) {
			continue
		}
		if r.must&^have == 0 {
			if t := more & (r.must | r.may) &^ r.many; t != 0 {
				return nil, 0, first(t)
			}
			return r, 0, 0
		}
		if missing == 0 {
			missing = first(r.must &^ have)
		}
	}
	return nil, missing, 0
}

// first is the lowest payload type of a set.
func first(p payloads) iana.Payload {
	for t := iana.PayloadSA; t <= iana.PayloadSKF; t++ {
		if p&setOf(t) != 0 {
			return t
		}
	}
	return 0
}

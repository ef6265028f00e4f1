package machine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/wire"
)

// onInitRequest answers IKE_SA_INIT with a proposal that one of the candidates allows (RFC 7296 1.2). Who the peer is will only be known in IKE_AUTH. The
// costly half of the key exchange waits until then.
func (m *Machine) onInitRequest(msg *message) {
	sa, _ := wire.Get[wire.SA](msg.items)
	ke, _ := wire.Get[wire.KE](msg.items)
	nonce, _ := wire.Get[wire.Nonce](msg.items)
	m.path = msg.path
	choice, err := m.chooseIKE(sa, ke.Method)
	if err != nil {
		m.refuseInit(msg, iana.NO_PROPOSAL_CHOSEN, nil, event.ReasonNoProposal, err.Error())
		return
	}
	if choice.Suite.KE != ke.Method {
		// The initiator repeats the request with this method (RFC 7296 1.2), and that is a new machine.
		m.refuseInit(msg, iana.INVALID_KE_PAYLOAD, binary.BigEndian.AppendUint16(nil, uint16(choice.Suite.KE)), event.ReasonReplaced,
			fmt.Sprintf("asked %s to repeat IKE_SA_INIT with key exchange %s instead of %s", msg.path.Peer(), keName(choice.Suite.KE), keName(ke.Method)))
		return
	}
	octets := make([]byte, nonceLen+answerOctets)
	if _, err := io.ReadFull(m.cfg.Rand, octets); err != nil {
		m.finish(event.Close{Reason: event.ReasonInternal, Detail: "no random octets for a nonce and a key: " + err.Error()})
		return
	}
	m.spii, m.suite, m.hs.chosen = msg.h.InitiatorSPI, choice.Suite, choice.Reply
	m.hs.ni, m.hs.nr, m.hs.msg1, m.hs.asked = nonce.Data, octets[:nonceLen:nonceLen], msg.raw, msg
	m.take(msg)
	m.onHalfOpen()
	job := &AnswerJob{Method: ke.Method, Public: ke.Data, octets: octets[nonceLen:]}
	if suite.Slow(ke.Method) {
		m.hs.keJob = m.job(Job{Answer: job})
		return
	}
	done := JobDone{}
	done.Data, done.Pending, done.Err = job.Do()
	m.onKeyAnswer(done)
}

// answerOctets of randomness are enough for a private key of any method, with room for tries that are out of range.
const answerOctets = 256

// Do makes the public value and what the secret will be computed from. Any goroutine may call it, once.
func (j *AnswerJob) Do() ([]byte, *suite.Pending, error) {
	defer clear(j.octets)
	return suite.Answer(j.Method, bytes.NewReader(j.octets), j.Public)
}

// onKeyAnswer goes on with our public value.
func (m *Machine) onKeyAnswer(in JobDone) {
	msg, method := m.hs.asked, m.suite.KE
	m.hs.asked = nil
	if m.state != idle {
		return
	}
	if in.Err != nil {
		m.refuseInit(msg, iana.INVALID_SYNTAX, nil, event.ReasonSyntax, fmt.Sprintf("public value for %s in IKE_SA_INIT: %v", keName(method), in.Err))
		return
	}
	m.hs.pending = in.Pending
	m.detectNAT(msg)
	m.answerInit(m.hs.chosen, wire.KE{Method: method, Data: in.Data})
}

// answerInit sends the IKE_SA_INIT response.
func (m *Machine) answerInit(sa wire.SA, ke wire.KE) {
	h := m.header(iana.IKE_SA_INIT, 0, true)
	items := []wire.Item{{Payload: sa}, {Payload: ke}, {Payload: wire.Nonce{Data: m.hs.nr}}}
	if m.hs.natd {
		m.forced = m.forces(m.in.path, m.hs.candidates...)
		items = append(items, natPayloads(h, m.in.path, m.forced)...)
	}
	m.hs.msg2 = m.clear(h, items)
	m.state = halfOpen
	m.put(m.hs.msg2, false)
	m.emit(event.Event{Level: event.Info, Text: fmt.Sprintf("processed IKE_SA_INIT request from %s, sent IKE_SA_INIT response %s", m.path.Peer(), m.suiteText())})
}

// chooseIKE lets the candidates choose in their order: the best match of addresses first. The error names what each allows. Thousands of templates with
// the same ike= are asked once: strangers decide how often this runs.
func (m *Machine) chooseIKE(offer wire.SA, sent iana.KE) (suite.Choice, error) {
	var why []string
	var asked []suite.Proposals
	for _, c := range m.hs.candidates {
		if slices.ContainsFunc(asked, func(p suite.Proposals) bool { return sameProposals(p, c.IKE) }) {
			continue
		}
		asked = append(asked, c.IKE)
		choice, err := c.IKE.Choose(offer, iana.ProtoIKE, true, sent)
		if err == nil {
			return choice, nil
		}
		why = append(why, fmt.Sprintf("%q (%s): %v", c.Name, where(c, "ike"), err))
	}
	if len(why) == 0 {
		return suite.Choice{}, fmt.Errorf("no connection for %s", m.path.Peer())
	}
	return suite.Choice{}, fmt.Errorf("no IKE proposal of %s is allowed: %s", m.path.Peer(), few(why))
}

func sameProposals(a, b suite.Proposals) bool {
	return slices.EqualFunc(a, b, func(x, y suite.Proposal) bool {
		return slices.Equal(x.Encr, y.Encr) && slices.Equal(x.PRF, y.PRF) && slices.Equal(x.Integ, y.Integ) && slices.Equal(x.KE, y.KE) && slices.Equal(x.SN, y.SN)
	})
}

// refuseInit answers an IKE_SA_INIT request without making an IKE SA: the responder's SPI stays zero (RFC 7296 2.6), and the machine goes.
func (m *Machine) refuseInit(msg *message, n iana.Notify, data []byte, r event.Reason, text string) {
	m.path, m.spii = msg.path, msg.h.InitiatorSPI
	h := m.header(iana.IKE_SA_INIT, 0, true)
	h.ResponderSPI = 0
	m.do(Send{Path: msg.path, Data: m.clear(h, []wire.Item{{Payload: wire.Notify{Notify: n, Data: data}}})})
	m.finish(event.Close{Reason: r, Notify: n, Detail: fmt.Sprintf("%s; sent %v to %s", text, n, msg.path.Peer())})
}

// computeSecret starts the costly half of the key exchange: a message came that may be IKE_AUTH. It waits.
func (m *Machine) computeSecret(in Datagram) {
	m.hs.keJob = m.job(Job{Pending: m.hs.pending})
	m.hold(in)
}

func (m *Machine) responderSecret(in JobDone) {
	if m.state != halfOpen {
		return
	}
	m.hs.pending = nil
	if in.Err != nil {
		m.finish(event.Close{Reason: event.ReasonProtocol, Remote: true, Detail: fmt.Sprintf("public value of %s cannot be used: %v", m.path.Peer(), in.Err)})
		return
	}
	m.keys = m.suite.DeriveIKE(in.Data, m.hs.ni, m.hs.nr, m.spii, m.spir)
}

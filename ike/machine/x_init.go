package machine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/wire"
)

// nonceLen octets are enough for every PRF that can be negotiated: half of the key of HMAC-SHA2-512 (RFC 7296 2.10).
const nonceLen = 32

// maxRetries bounds how often one IKE_SA_INIT request is repeated for COOKIE and INVALID_KE_PAYLOAD, which anybody can forge (RFC 7296 2.6).
const maxRetries = 6

// onStart begins on the first path.
func (m *Machine) onStart(in Start) {
	if !m.initiator || m.state != idle {
		return
	}
	m.path, m.hs.packet = in.Path, in.Packet
	m.emit(event.Event{Level: event.Info, Text: fmt.Sprintf("initiating IKEv2 connection to %s using %s", m.path.Remote.Addr(), m.path.Kind)})
	m.begin()
}

// begin makes an IKE_SA_INIT request afresh for the present path and SPI: another nonce, another key (RFC 9329 5.1).
func (m *Machine) begin() {
	m.hs.forget()
	m.spir, m.suite, m.keys, m.sealed = 0, suite.Suite{}, suite.IKEKeys{}, 0
	m.natLocal, m.natRemote, m.forced = false, false, m.forces(m.path, m.conn)
	m.in, m.out, m.held = inbound{}, outbound{}, nil
	if len(m.conn.IKE) == 0 || len(m.conn.IKE[0].KE) == 0 || len(m.conn.Children) == 0 {
		m.finish(event.Close{Reason: event.ReasonInternal, Detail: "the connection has no proposal with a key exchange, or no Child SA"})
		return
	}
	if m.conn.Encapsulation == policy.EncapNo && !m.cfg.PlainESP && !m.path.Kind.Stream() {
		m.needPath(event.Close{Reason: event.ReasonPathFailed, Detail: m.noPlainESP(m.conn)})
		return
	}
	first := target{m.conn, m.firstWanted()}
	if esp, lacking := m.carried(first); len(esp) == 0 {
		m.finish(event.Close{Reason: event.ReasonNoProposal, Detail: noneCarried(first, lacking)})
		return
	}
	m.hs.ni = make([]byte, nonceLen)
	if _, err := io.ReadFull(m.cfg.Rand, m.hs.ni); err != nil {
		m.finish(event.Close{Reason: event.ReasonInternal, Detail: "no random octets for a nonce: " + err.Error()})
		return
	}
	if m.offerKey(m.conn.IKE[0].KE[0]) {
		m.sendInit()
	}
}

// offerKey makes our half of the key exchange.
func (m *Machine) offerKey(method iana.KE) bool {
	x, err := suite.NewExchange(method, m.cfg.Rand)
	if err != nil {
		m.finish(event.Close{Reason: event.ReasonInternal, Detail: fmt.Sprintf("cannot make a key for %v: %v", method, err)})
		return false
	}
	m.hs.exchange = x
	return true
}

// sendInit sends the IKE_SA_INIT request, with the cookie first if there is one (RFC 7296 2.6). Its Message ID stays zero however often it is repeated.
func (m *Machine) sendInit() {
	h := m.header(iana.IKE_SA_INIT, 0, false)
	var items []wire.Item
	if m.hs.cookie != nil {
		items = append(items, wire.Item{Payload: wire.Notify{Notify: iana.COOKIE, Data: m.hs.cookie}})
	}
	items = append(items,
		wire.Item{Payload: m.conn.IKE.Offer(iana.ProtoIKE, nil, true)},
		wire.Item{Payload: wire.KE{Method: m.hs.exchange.Method, Data: m.hs.exchange.Public}},
		wire.Item{Payload: wire.Nonce{Data: m.hs.ni}})
	items = append(items, natPayloads(h, m.path, m.forced)...)
	m.hs.msg1 = m.clear(h, items)
	m.state = initSent
	m.request(iana.IKE_SA_INIT, task{}, m.hs.msg1)
	m.emit(event.Event{Level: event.Info, Text: "sent IKE_SA_INIT request to " + m.path.Peer()})
}

// onInitRefusal handles an answer that makes no IKE SA. It is not authenticated: over UDP what asks for no correction is only a hint, and a good answer
// is waited for (RFC 7296 2.21.1); over a stream nothing else will come (RFC 9329 6.4).
func (m *Machine) onInitRefusal(msg *message) {
	if n, ok := wire.GetNotify(msg.items, iana.COOKIE); ok {
		m.onCookie(msg, n)
		return
	}
	n, ok := errorNotify(msg.items)
	if !ok {
		m.noAnswer(msg, "no SA payload, and no error either")
		return
	}
	if n.Notify == iana.INVALID_KE_PAYLOAD && m.onInvalidKE(msg, n) {
		return
	}
	m.initHint(msg, m.refusedReason(n))
}

// onCookie repeats the request with the responder's cookie, and keeps it for further repetitions (RFC 7296 2.6, 2.6.1).
func (m *Machine) onCookie(msg *message, n wire.Notify) {
	if len(n.Data) == 0 || len(n.Data) > 64 {
		m.noAnswer(msg, fmt.Sprintf("a cookie of %d octets, allowed are 1 to 64 (RFC 7296 2.6)", len(n.Data)))
		return
	}
	if bytes.Equal(n.Data, m.hs.cookie) {
		m.drop(msg.path, event.DropDuplicate)
		return
	}
	if m.hs.retries >= maxRetries {
		m.initHint(msg, event.Close{
			Reason: event.ReasonProtocol, Notify: iana.COOKIE, Remote: true,
			Detail: fmt.Sprintf("%s asked for another cookie %d times and never took one", m.path.Peer(), maxRetries),
		})
		return
	}
	m.hs.retries++
	m.hs.cookie = bytes.Clone(n.Data)
	m.emit(event.Event{Level: event.Info, Text: fmt.Sprintf("%s asks for a cookie, as one does with many half-open IKE SAs or with ddos-mode=busy; repeating IKE_SA_INIT with it", m.path.Peer())})
	m.sendInit()
}

// onInvalidKE repeats the request with the key exchange that the responder wants, if we offered it; all proposals are offered again (RFC 7296 1.2). It
// reports whether the message was dealt with.
func (m *Machine) onInvalidKE(msg *message, n wire.Notify) bool {
	if len(n.Data) != 2 {
		m.noAnswer(msg, fmt.Sprintf("INVALID_KE_PAYLOAD with %d octets, expected 2 (RFC 7296 1.2)", len(n.Data)))
		return true
	}
	method := iana.KE(binary.BigEndian.Uint16(n.Data))
	if method == m.hs.exchange.Method {
		m.drop(msg.path, event.DropDuplicate) // the answer to a request before the last
		return true
	}
	offered := slices.ContainsFunc(m.conn.IKE, func(p suite.Proposal) bool { return slices.Contains(p.KE, method) })
	if !offered || m.hs.retries >= maxRetries {
		return false
	}
	m.hs.retries++
	m.emit(event.Event{Level: event.Info, Text: fmt.Sprintf("%s wants key exchange %s instead of %s; repeating IKE_SA_INIT with it", m.path.Peer(), keName(method),
		keName(m.hs.exchange.Method))})
	if m.offerKey(method) {
		m.sendInit()
	}
	return true
}

// initHint is for an IKE_SA_INIT response that cannot be used.
func (m *Machine) initHint(msg *message, c event.Close) {
	if m.path.Kind.Stream() {
		m.emit(event.Event{Level: event.Warn, Text: c.Detail})
		m.needPath(c)
		return
	}
	m.drop(msg.path, event.DropIgnoredError)
	if m.hs.last == nil || m.hs.last.Notify != c.Notify || m.hs.last.Reason != c.Reason {
		m.emit(event.Event{Level: event.Warn, Text: c.Detail + "; anybody can forge this over UDP, so a better answer is waited for"})
	}
	m.hs.last = &c
	m.onHint()
}

// onInitResponse takes the responder's choice. The shared secret is computed as a job.
func (m *Machine) onInitResponse(msg *message) {
	sa, _ := wire.Get[wire.SA](msg.items)
	ke, _ := wire.Get[wire.KE](msg.items)
	nonce, _ := wire.Get[wire.Nonce](msg.items)
	choice, err := m.conn.IKE.Accept(sa, iana.ProtoIKE, true)
	if err != nil {
		m.initHint(msg, event.Close{
			Reason: event.ReasonNoProposal, Remote: true,
			Detail: fmt.Sprintf("IKE_SA_INIT response from %s: %v (%s)", m.path.Peer(), err, m.where("ike")),
		})
		return
	}
	if fault := m.initResponseFault(msg, choice, ke); fault != "" {
		m.initHint(msg, event.Close{
			Reason: event.ReasonProtocol, Remote: true,
			Detail: fmt.Sprintf("IKE_SA_INIT response from %s cannot be used: %s", m.path.Peer(), fault),
		})
		return
	}
	m.detectNAT(msg)
	if !m.hs.natd && m.forced {
		m.initHint(msg, event.Close{
			Reason: event.ReasonProtocol, Remote: true,
			Detail: fmt.Sprintf("%s does not support NAT traversal (no NAT_DETECTION notifications): ESP in UDP is not possible, and %s; "+
				"set enable-tcp=yes if it can do TCP", m.path.Peer(), m.whyForced()),
		})
		return
	}
	m.spir, m.suite = msg.h.ResponderSPI, choice.Suite
	m.hs.nr, m.hs.msg2 = nonce.Data, msg.raw
	m.out.busy, m.state = true, keying
	m.clock.retransmit = 0
	m.hs.keJob = m.job(Job{Finish: &FinishJob{Exchange: m.hs.exchange, Reply: ke.Data}})
}

// initResponseFault says why a response whose proposal is good cannot be used all the same.
func (m *Machine) initResponseFault(msg *message, choice suite.Choice, ke wire.KE) string {
	switch {
	case msg.h.ResponderSPI == 0:
		return "its responder SPI is zero"
	case choice.Suite.KE != m.hs.exchange.Method:
		return fmt.Sprintf("it chose key exchange %s although we sent a public value for %s", keName(choice.Suite.KE), keName(m.hs.exchange.Method))
	case ke.Method != m.hs.exchange.Method:
		return fmt.Sprintf("its KE payload is for %s, ours was for %s", keName(ke.Method), keName(m.hs.exchange.Method))
	}
	return ""
}

// onSecret goes on with the shared secret.
func (m *Machine) onSecret(in JobDone) {
	if m.initiator {
		m.initiatorSecret(in)
	} else {
		m.responderSecret(in)
	}
	clear(in.Data)
}

func (m *Machine) initiatorSecret(in JobDone) {
	if m.state != keying {
		return
	}
	if in.Err != nil {
		// A public value that is no good: over UDP somebody else may have sent it.
		m.state, m.spir, m.hs.msg2 = initSent, 0, nil
		m.resume()
		m.initHint(&message{path: m.path}, event.Close{
			Reason: event.ReasonProtocol, Remote: true,
			Detail: fmt.Sprintf("public value of %s cannot be used: %v", m.path.Peer(), in.Err),
		})
		return
	}
	m.keys = m.suite.DeriveIKE(in.Data, m.hs.ni, m.hs.nr, m.spii, m.spir)
	m.hs.last = nil // whatever was hinted at before, the responder does want to talk
	m.emit(event.Event{Level: event.Info, Text: fmt.Sprintf("processed IKE_SA_INIT response from %s %s, initiating IKE_AUTH", m.path.Peer(), m.suiteText())})
	m.prepareAuth()
}

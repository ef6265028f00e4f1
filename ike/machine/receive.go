package machine

import (
	"errors"
	"fmt"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
)

// message is a received message on its way to a handler.
type message struct {
	h     wire.Header
	path  path.Path
	raw   []byte // as received; the inside of an SK payload is overwritten once it is opened
	sum   digest
	items []wire.Item // the payloads; of a protected message those inside
	outer []wire.Item // of a protected message: what came before SK
}

// onDatagram takes a message through header, window, protection, syntax and rules to its handler. Until it is opened nothing changes.
func (m *Machine) onDatagram(in Datagram) {
	h, err := wire.ParseHeader(in.Data)
	if err != nil {
		m.drop(in.Path, shortOrLength(in.Data))
		return
	}
	if d := m.headerFault(h); d != event.DropNone {
		m.drop(in.Path, d)
		return
	}
	if h.Response() {
		if m.out.request == nil || h.MessageID != m.out.next || h.Exchange != m.out.exchange {
			m.drop(in.Path, event.DropUnexpected)
			return
		}
	} else if h.MessageID != m.in.next {
		if h.MessageID+1 == m.in.next {
			m.repeated(h, in)
		} else {
			m.drop(in.Path, event.DropStaleMessageID)
		}
		return
	}
	if m.mustWait(h, in) {
		return
	}
	switch r := m.expected(h); {
	case r == nil:
		m.drop(in.Path, event.DropUnexpected)
	case r.clear:
		m.receiveClear(h, in)
	default:
		m.receiveProtected(h, in)
	}
}

// headerFault checks what the header alone tells: the version, who sends, and the SPIs (RFC 7296 2.6, 3.1).
func (m *Machine) headerFault(h wire.Header) event.Drop {
	switch {
	case h.MajorVersion != 2:
		return event.DropMajorVersion
	case h.FromInitiator() == m.initiator:
		return event.DropUnexpected
	case m.initiator && h.InitiatorSPI != m.spii:
		return event.DropUnknownSPI
	case m.initiator && m.spir != 0 && h.ResponderSPI != m.spir:
		return event.DropUnknownSPI
	case !m.initiator && m.spii != 0 && h.InitiatorSPI != m.spii:
		return event.DropUnknownSPI
	}
	if !m.initiator {
		// An IKE_SA_INIT request does not know our SPI yet; everything else does.
		initial := h.Exchange == iana.IKE_SA_INIT && !h.Response() && h.MessageID == 0
		if initial && (h.ResponderSPI != 0 || h.InitiatorSPI == 0) {
			return event.DropNotInitiator
		}
		if !initial && h.ResponderSPI != m.spir {
			return event.DropUnknownSPI
		}
	}
	return event.DropNone
}

// mustWait holds back what cannot be worked on yet. It reports whether the message was dealt with.
func (m *Machine) mustWait(h wire.Header, in Datagram) bool {
	switch {
	case !h.Response() && m.in.busy && digestOf(in.Data) == m.in.work:
		if in.Path.Kind.Stream() {
			m.in.path = in.Path // its originator is back on a new stream (RFC 9329 6.2)
		}
		m.drop(in.Path, event.DropDuplicate) // its first copy is in work
	case h.Response() && m.out.busy:
		m.drop(in.Path, event.DropDuplicate)
	case m.state == halfOpen && m.hs.keJob != 0 && h.Exchange == iana.IKE_AUTH, m.state == authSent && m.out.busy, !h.Response() && m.in.busy:
		m.hold(in)
	default:
		return false
	}
	return true
}

// maxInit octets are the most that an IKE_SA_INIT message may have: it is kept until IKE_AUTH, and strangers send it. Everything that we or others offer,
// with a large key exchange and many Vendor IDs, stays below the 3000 octets of RFC 7296 2.
const maxInit = 8192

// receiveClear is for IKE_SA_INIT: nothing of it is authenticated.
func (m *Machine) receiveClear(h wire.Header, in Datagram) {
	if len(in.Data) > maxInit {
		m.drop(in.Path, event.DropTooLarge)
		return
	}
	parsed, err := wire.Parse(in.Data)
	msg := &message{h: h, path: in.Path, raw: in.Data, sum: digestOf(in.Data), items: parsed.Payloads}
	if err != nil {
		m.malformedInit(msg, err)
		return
	}
	if t, ok := unknownCritical(msg.items); ok {
		if h.Response() {
			m.noAnswer(msg, criticalText(t)) // no response may carry one (RFC 7296 2.5)
		} else {
			m.refuseInit(msg, iana.UNSUPPORTED_CRITICAL_PAYLOAD, []byte{byte(t)}, event.ReasonSyntax, criticalText(t))
		}
		return
	}
	r, missing, twice := m.ruleFor(msg)
	if r == nil {
		m.malformedInit(msg, payloadFault(missing, twice))
		return
	}
	m.follow(r, msg)
}

// follow does what a rule says, and tells its story to whoever debugs.
func (m *Machine) follow(r *rule, msg *message) {
	m.emit(event.Event{Level: event.Debug, Path: msg.path, Text: r.story})
	r.do(m, msg)
}

// malformedInit answers a request that cannot be read; a response that cannot be read is no answer.
func (m *Machine) malformedInit(msg *message, err error) {
	if msg.h.Response() {
		m.noAnswer(msg, err.Error())
		return
	}
	m.refuseInit(msg, iana.INVALID_SYNTAX, nil, event.ReasonSyntax, "IKE_SA_INIT request is malformed: "+err.Error())
}

// noAnswer drops an IKE_SA_INIT response that makes no sense: anybody can have sent it. Who waits is told once, since it is not silence either.
func (m *Machine) noAnswer(msg *message, fault string) {
	m.drop(msg.path, event.DropSyntax)
	if m.hs.junk != "" {
		return
	}
	m.hs.junk = fmt.Sprintf("an IKE_SA_INIT response from %s cannot be read: %s", msg.path.Peer(), fault)
	m.emit(event.Event{Level: event.Warn, Path: msg.path, Text: m.hs.junk + "; anybody can forge this, so another answer is waited for"})
}

// receiveProtected opens a message and hands it on. A message that does not open changes nothing.
func (m *Machine) receiveProtected(h wire.Header, in Datagram) {
	sk, err := sealedPayload(in.Data)
	switch {
	case errors.Is(err, errFragment):
		m.drop(in.Path, event.DropFragment)
		return
	case errors.Is(err, errUnprotected):
		m.onUnprotected(h, in)
		return
	case err != nil:
		m.drop(in.Path, event.DropSyntax)
		return
	}
	if m.state == halfOpen && m.hs.pending != nil {
		m.computeSecret(in)
		return
	}
	outer, _ := wire.Parse(in.Data)
	msg := &message{h: h, path: in.Path, raw: in.Data, sum: digestOf(in.Data), outer: outer.Payloads[:len(outer.Payloads)-1]}
	plain, err := m.open(in.Data, sk)
	if err != nil {
		m.drop(in.Path, event.DropIntegrity)
		return
	}
	m.onAuthentic(msg)
	msg.items, err = wire.ParseChain(sk.Next, plain, wire.HeaderLen)
	m.handle(msg, err)
}

// handle runs the handler of an authentic message, or answers that it is malformed (RFC 7296 2.21.3).
func (m *Machine) handle(msg *message, err error) {
	if !msg.h.Response() {
		m.take(msg)
	}
	for _, items := range [][]wire.Item{msg.outer, msg.items} {
		if t, ok := unknownCritical(items); ok {
			m.refuseProtected(msg, iana.UNSUPPORTED_CRITICAL_PAYLOAD, []byte{byte(t)}, criticalText(t))
			return
		}
	}
	if err != nil {
		m.refuseProtected(msg, iana.INVALID_SYNTAX, nil, err.Error())
		return
	}
	r, missing, twice := m.ruleFor(msg)
	if r == nil {
		m.refuseProtected(msg, iana.INVALID_SYNTAX, nil, payloadFault(missing, twice).Error())
		return
	}
	m.follow(r, msg)
}

// refuseProtected rejects an authentic message in its entirety (RFC 7296 2.21.2, 2.21.3). INVALID_SYNTAX ends the IKE SA at both ends; so does any
// fault in IKE_AUTH. A response that is wrong is not answered: the IKE SA is deleted instead, in IKE_AUTH by the notification itself.
func (m *Machine) refuseProtected(msg *message, n iana.Notify, data []byte, text string) {
	kind := "request"
	if msg.h.Response() {
		kind = "response"
	}
	c := event.Close{
		Reason: event.ReasonSyntax, Notify: n,
		Detail: fmt.Sprintf("%v %s from %s is malformed: %s; %v was sent", msg.h.Exchange, kind, msg.path.Peer(), text, n),
	}
	switch {
	case !msg.h.Response():
		fatal := n == iana.INVALID_SYNTAX || m.state != established && m.state != deleting
		reply := m.seal(m.header(msg.h.Exchange, msg.h.MessageID, true), []wire.Item{{Payload: wire.Notify{Notify: n, Data: data}}})
		m.put(reply, fatal)
		if fatal {
			m.finishReplied(c)
		} else {
			m.tellRefusal(event.Event{Level: event.Warn, Text: c.Detail})
		}
	case m.state == authSent:
		m.answered()
		m.abort(c, n, data)
	case m.state == deleting:
		m.closeNow()
	default:
		c.Detail = fmt.Sprintf("%v response from %s is malformed: %s; the IKE SA is deleted", msg.h.Exchange, msg.path.Peer(), text)
		m.answered()
		m.closeWith(c, timing(m.conn).Timeout)
	}
}

// onUnprotected is for what should be protected and is not: never acted on; an error notification is remembered as a hint (RFC 7296 2.21.4).
func (m *Machine) onUnprotected(h wire.Header, in Datagram) {
	if parsed, err := wire.Parse(in.Data); err == nil && h.Response() {
		if n, ok := errorNotify(parsed.Payloads); ok {
			if m.hs != nil {
				m.hs.hint = n.Notify
			}
			m.drop(in.Path, event.DropIgnoredError)
			return
		}
	}
	m.drop(in.Path, event.DropUnprotected)
}

// unknownCritical finds a payload that we do not know and must not skip (RFC 7296 2.5).
func unknownCritical(items []wire.Item) (iana.Payload, bool) {
	for _, it := range items {
		if u, ok := it.Payload.(wire.Unknown); ok && it.Critical {
			return u.PayloadType, true
		}
	}
	return 0, false
}

// errorNotify finds the first notification of an error.
func errorNotify(items []wire.Item) (wire.Notify, bool) {
	for _, it := range items {
		if n, ok := it.Payload.(wire.Notify); ok && n.Notify.Error() {
			return n, true
		}
	}
	return wire.Notify{}, false
}

func criticalText(t iana.Payload) string {
	return fmt.Sprintf("payload type %d is critical and not supported here", t)
}

func payloadFault(missing, twice iana.Payload) error {
	if twice != 0 {
		return fmt.Errorf("more than one %v payload", twice)
	}
	return fmt.Errorf("no %v payload", missing)
}

// shortOrLength says why a header was refused.
func shortOrLength(b []byte) event.Drop {
	if len(b) < wire.HeaderLen {
		return event.DropShort
	}
	return event.DropLength
}

// drop counts a message that is not acted on. Its event is cheap: strangers decide how many there are.
func (m *Machine) drop(p path.Path, d event.Drop) {
	m.do(Emit{event.Event{At: m.time(), Level: event.Debug, Kind: event.KindDrop, SA: m.spi(), Conn: m.connName(), Path: p, Text: d.String(), Drop: d}})
}

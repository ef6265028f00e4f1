package machine

import (
	"fmt"
	"slices"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/wire"
)

// initiatorOctets and responderOctets are what AUTH signs (RFC 7296 2.15): the whole first message of the signer, the other's nonce, and the signer's
// identity under its SK_p.
func (m *Machine) initiatorOctets(idi ident.ID) []byte {
	return slices.Concat(m.hs.msg1, m.hs.nr, suite.Prf(m.suite.PRF, m.keys.Pi, idi.Body()))
}

func (m *Machine) responderOctets(idr ident.ID) []byte {
	return slices.Concat(m.hs.msg2, m.hs.ni, suite.Prf(m.suite.PRF, m.keys.Pr, idr.Body()))
}

// authJob makes the common part of signing and verifying.
func (m *Machine) authJob(conn *policy.Oriented, method iana.AuthMethod, octets, data []byte) *AuthJob {
	return &AuthJob{Conn: conn, Method: method, Local: m.localID, Remote: m.remoteID, PRF: m.suite.PRF, Octets: octets, Data: data}
}

// prepareAuth starts what IKE_AUTH needs: our AUTH data and an inbound SPI for the first child. The path floats to port 4500 (RFC 7296 2.23).
func (m *Machine) prepareAuth() {
	m.localID = m.conn.LocalID()
	m.remoteID, _ = m.conn.RemoteID().One()
	m.hs.signed = m.authJob(m.conn, m.conn.Local.Auth, m.initiatorOctets(m.localID), nil)
	m.hs.signJob = m.job(Job{Sign: m.hs.signed})
	m.hs.child = m.newChild(m.conn, m.firstWanted())
	m.hs.child.asker, m.hs.child.offer = true, &offer{packet: m.hs.packet}
}

// firstWanted is the child of the connection that IKE_AUTH asks for.
func (m *Machine) firstWanted() int {
	if len(m.hs.wanted) > 0 && m.hs.wanted[0] < len(m.conn.Children) {
		return m.hs.wanted[0]
	}
	return 0
}

// onSigned takes our AUTH data.
func (m *Machine) onSigned(in JobDone) {
	if in.Err != nil {
		c := event.Close{
			Reason: event.ReasonAuthFailed, Notify: iana.AUTHENTICATION_FAILED,
			Detail: fmt.Sprintf("cannot authenticate ourselves to %s as %v (%s), the peer being %s (%s): %v", m.path.Peer(), m.localID, m.whereEnd(true, "id"),
				m.expectedPeer(), m.whereEnd(false, "id"), in.Err),
		}
		if m.initiator {
			m.finish(c) // nothing of IKE_AUTH was sent
		} else {
			m.refuseAuth(c)
		}
		return
	}
	m.hs.auth = in.Data
	if m.initiator {
		m.sendAuth()
	} else {
		m.answerAuth()
	}
}

// sendAuth sends the IKE_AUTH request once its parts are there.
func (m *Machine) sendAuth() {
	c := m.hs.child
	if m.state != keying || m.hs.auth == nil || c == nil || c.state != childReserved {
		return
	}
	m.answered() // IKE_SA_INIT
	items := []wire.Item{{Payload: m.localID.Payload(iana.PayloadIDi)}}
	if idr, ok := m.conn.Remote.ID.One(); ok {
		items = append(items, wire.Item{Payload: idr.Payload(iana.PayloadIDr)})
	}
	items = append(items, wire.Item{Payload: wire.Auth{Method: m.conn.Local.Auth, Data: m.hs.auth}})
	items = append(items, m.childAsk(c)...)
	tsi, tsr := m.selectors(c.conn, c.index)
	m.state = authSent
	if m.inUDP() {
		m.path = floated(m.path)
	}
	m.request(iana.IKE_AUTH, task{}, m.seal(m.header(iana.IKE_AUTH, m.out.next, false), items))
	m.emit(event.Event{Level: event.Info, Text: fmt.Sprintf("sent IKE_AUTH request to %s with %s and %s; Child SA {ESP <%#08x} %s%s",
		m.path.Peer(), authName(m.conn.Local.Auth), idText(m.localID), c.spiIn, tunnel(tsi, tsr), c.offer.forPacket())})
}

// onAuthRefusal ends the attempt: the responder does not want the IKE SA. The message is protected, so it comes from whoever answered IKE_SA_INIT
// (RFC 7296 1.2).
func (m *Machine) onAuthRefusal(msg *message) {
	n, ok := errorNotify(msg.items)
	if !ok {
		m.refuseProtected(msg, iana.INVALID_SYNTAX, nil, payloadFault(iana.PayloadAUTH, 0).Error())
		return
	}
	m.finish(m.authRejected(n))
}

// onAuthResponse checks that the responder is who the connection asks for.
func (m *Machine) onAuthResponse(msg *message) {
	id, _ := wire.GetType[wire.ID](msg.items, iana.PayloadIDr)
	auth, _ := wire.Get[wire.Auth](msg.items)
	m.hs.peer = peerAuth{auth: auth, items: msg.items}
	idr := ident.FromWire(id)
	if want := m.conn.RemoteID(); !want.Match(idr) {
		m.rejectResponder(m.wrongResponderID(idr, want))
		return
	}
	if auth.Method != m.conn.Remote.Auth {
		m.rejectResponder(fmt.Sprintf("responder %s as %v authenticates with %v, the connection asks for %v (%s)",
			m.path.Peer(), idr, auth.Method, m.conn.Remote.Auth, m.whereEnd(false, "auth", "authby")))
		return
	}
	m.remoteID = idr
	m.out.busy = true
	m.clock.retransmit = 0
	m.emit(event.Event{Level: event.Info, Text: fmt.Sprintf("processing IKE_AUTH response from %s containing SK{%s}", m.path.Peer(), names(msg.items))})
	m.hs.verifyJob = m.job(Job{Verify: m.authJob(m.conn, auth.Method, m.responderOctets(idr), auth.Data)})
}

// rejectResponder tells the responder that it is not accepted (RFC 7296 2.21.2). It may take itself for established.
func (m *Machine) rejectResponder(text string) {
	m.answered()
	m.abort(event.Close{Reason: event.ReasonAuthFailed, Notify: iana.AUTHENTICATION_FAILED, Detail: text}, iana.AUTHENTICATION_FAILED, nil)
}

// onVerified goes on with a peer that has, or has not, proved its identity.
func (m *Machine) onVerified(in JobDone) {
	switch {
	case m.initiator && m.state == authSent && in.Err != nil:
		m.rejectResponder(m.authFailed("responder", in.Err))
	case m.initiator && m.state == authSent:
		m.answered()
		m.tellAuthenticated()
		m.establish("initiator")
		m.firstChildAnswer()
		m.hs = nil
		m.afterEstablished()
	case !m.initiator && m.state == halfOpen && in.Err != nil:
		m.refuseAuth(event.Close{Reason: event.ReasonAuthFailed, Notify: iana.AUTHENTICATION_FAILED, Detail: m.authFailed("initiator", in.Err)})
	case !m.initiator && m.state == halfOpen:
		m.firstChildChoose()
	}
}

// establish is the moment both ends have proved their identity.
func (m *Machine) establish(role string) {
	m.state = established
	m.onEstablished()
	m.startKeepAlive()
	m.emit(event.Event{Level: event.Info, Kind: event.KindIKEUp, Text: fmt.Sprintf("%s established IKE SA; authenticated peer using authby=%s and %s",
		role, authBy(m.conn.Remote.Auth), idText(m.remoteID))})
}

// afterEstablished carries out what was wished for during the negotiation.
func (m *Machine) afterEstablished() {
	switch {
	case m.state != established:
	case m.closing != nil:
		m.closeWith(*m.closing, m.lingerLeft())
	case m.pathLost:
		m.suspend(m.lostReason(nil))
	}
}

func (m *Machine) tellAuthenticated() {
	_, initial := wire.GetNotify(m.hs.peer.items, iana.INITIAL_CONTACT)
	m.do(Authenticated{Conn: m.conn, Local: m.localID, Remote: m.remoteID, Path: m.path, InitialContact: initial})
	m.emit(event.Event{Level: event.Debug, Kind: event.KindAuthenticated, Text: fmt.Sprintf("peer %s proved to be %v", m.path.Peer(), m.remoteID)})
}

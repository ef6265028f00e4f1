package machine

import (
	"fmt"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/wire"
)

// onAuthRequest chooses the connection by the identities and starts to verify the initiator. Nothing is told to it before.
func (m *Machine) onAuthRequest(msg *message) {
	id, _ := wire.GetType[wire.ID](msg.items, iana.PayloadIDi)
	auth, hasAuth := wire.Get[wire.Auth](msg.items)
	idi := ident.FromWire(id)
	idr := ident.ID{}
	if p, ok := wire.GetType[wire.ID](msg.items, iana.PayloadIDr); ok {
		idr = ident.FromWire(p)
	}
	m.emit(event.Event{Level: event.Info, Text: fmt.Sprintf("processing IKE_AUTH request from %s containing SK{%s}", m.path.Peer(), names(msg.items))})
	fail := event.Close{Reason: event.ReasonAuthFailed, Notify: iana.AUTHENTICATION_FAILED, Remote: true}
	if !hasAuth {
		fail.Detail = fmt.Sprintf("peer %s as %v asks for EAP (no AUTH payload), which no connection allows", m.path.Peer(), idi)
		m.refuseAuth(fail)
		return
	}
	conn, err := m.chooseConn(idi, idr, auth.Method)
	if err != nil {
		fail.Reason, fail.Detail = event.ReasonNoConnection, err.Error()
		m.refuseAuth(fail)
		return
	}
	m.conn, m.localID, m.remoteID = conn, conn.LocalID(), idi
	m.hs.peer = peerAuth{auth: auth, items: msg.items}
	m.hs.verifyJob = m.job(Job{Verify: m.authJob(conn, auth.Method, m.initiatorOctets(idi), auth.Data)})
}

// chooseConn finds the first candidate that the identities and the negotiated IKE SA satisfy. The error names each candidate and why it was refused.
func (m *Machine) chooseConn(idi, idr ident.ID, method iana.AuthMethod) (*policy.Oriented, error) {
	var why []string
	for _, c := range m.hs.candidates {
		reason := m.candidateFault(c, idi, idr, method)
		if reason == "" {
			return c, nil
		}
		why = append(why, fmt.Sprintf("%q: %s", c.Name, reason))
	}
	asked := ""
	if !idr.IsZero() {
		asked = fmt.Sprintf(", asking for %v,", idr)
	}
	return nil, fmt.Errorf("peer %s as %v%s fits no connection: %s", m.path.Peer(), idi, asked, few(why))
}

// candidateFault says why a connection cannot serve these identities; empty when it can.
func (m *Machine) candidateFault(c *policy.Oriented, idi, idr ident.ID, method iana.AuthMethod) string {
	if why := c.RefusesPeer(idi, idr, method); why != "" {
		return why
	}
	if _, err := c.IKE.Choose(m.negotiated(), iana.ProtoIKE, true, m.suite.KE); err != nil {
		return fmt.Sprintf("its ike= does not allow the negotiated %s (%s)", m.suiteText(), where(c, "ike"))
	}
	return ""
}

// refuseAuth answers IKE_AUTH with an error that ends the IKE SA (RFC 7296 2.21.2).
func (m *Machine) refuseAuth(c event.Close) {
	items := []wire.Item{{Payload: wire.Notify{Notify: c.Notify}}}
	m.put(m.seal(m.header(iana.IKE_AUTH, m.in.next, true), items), true)
	c.Detail += fmt.Sprintf("; sent %v", c.Notify)
	m.finishReplied(c)
}

// answerAuth sends the IKE_AUTH response once its parts are there: our AUTH data, and a child that is installed or refused.
func (m *Machine) answerAuth() {
	c := m.hs.child
	if m.state != halfOpen || m.hs.auth == nil || c == nil && m.hs.refusal == nil || c != nil && c.state != childInstalled {
		return
	}
	items := []wire.Item{
		{Payload: m.localID.Payload(iana.PayloadIDr)},
		{Payload: wire.Auth{Method: m.conn.Local.Auth, Data: m.hs.auth}},
	}
	items = append(items, m.firstChildPayloads()...)
	reply := m.seal(m.header(iana.IKE_AUTH, m.in.next, true), items)
	if reply == nil {
		return
	}
	m.put(reply, false)
	m.establish("responder")
	m.tellFirstChild()
	m.hs = nil
	m.afterEstablished()
}

package machine

import (
	"fmt"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/wire"
)

// firstChildChoose is the responder's side of the Child SA in IKE_AUTH: choose, then reserve and install before the reply, so that a refused installation
// becomes a notification. A failure leaves the IKE SA alone (RFC 7296 1.2).
//
// Connections that differ in their subnets alone could each have taken this peer. The IKE SA belongs to the one whose child was asked for: under another's name
// it would replace that one's IKE SA, and what the datapath has of the child would be nobody's in the end.
func (m *Machine) firstChildChoose() {
	ch, refusal := m.chooseChild(requestOf(m.hs.peer.items, false), targets(m.sharing(m.hs.candidates)))
	if ch != nil {
		m.conn = ch.conn
	}
	m.tellAuthenticated()
	m.hs.signJob = m.job(Job{Sign: m.authJob(m.conn, m.conn.Local.Auth, m.responderOctets(m.localID), nil)})
	if refusal != nil {
		m.hs.refusal = refusal
		return
	}
	m.hs.child = m.answerWith(ch, m.hs.ni, m.hs.nr)
	m.readChildNotifies(m.hs.child, m.hs.peer.items)
}

// sharing lists, of the connections between these two hosts, those whose children this IKE SA may carry: the one that it belongs to, and others with the same
// identities, authentication and ike=.
func (m *Machine) sharing(conns []*policy.Oriented) []*policy.Oriented {
	list := make([]*policy.Oriented, 0, 1)
	for _, c := range conns {
		switch {
		case c.Connection == m.conn.Connection:
			list = append([]*policy.Oriented{c}, list...)
		case c.LocalID() == m.localID && c.Local.Auth == m.conn.Local.Auth && m.candidateFault(c, m.remoteID, ident.ID{}, m.conn.Remote.Auth) == "":
			list = append(list, c)
		}
	}
	return list
}

// negotiated is the IKE SA's suite as a proposal, to be held against the ike= of other connections.
func (m *Machine) negotiated() wire.SA {
	p := suite.Proposal{Encr: []suite.Encr{m.suite.Encr}, PRF: []iana.PRF{m.suite.PRF}, KE: []iana.KE{m.suite.KE}}
	if m.suite.Integ != iana.AUTH_NONE {
		p.Integ = []iana.Integ{m.suite.Integ}
	}
	return suite.Proposals{p}.Offer(iana.ProtoIKE, nil, true)
}

// onFirstChildSPI goes on with the first child's SPI.
func (m *Machine) onFirstChildSPI(c *child, err error) {
	switch {
	case m.initiator && err != nil:
		m.finish(event.Close{Reason: event.ReasonInstallFailed, Detail: fmt.Sprintf("no SPI for Child SA %q: %v", c.name(), err)})
	case m.initiator:
		m.sendAuth()
	case err != nil:
		m.refuseFirstChild(c, "no SPI", err)
	default:
		m.install(c)
	}
}

// refuseFirstChild turns what our datapath refused into a notification for the initiator.
func (m *Machine) refuseFirstChild(c *child, what string, err error) {
	m.hs.refusal = m.datapathRefusal(c, what, err)
	m.hs.child = nil
	m.removeChild(c)
	m.answerAuth()
}

// datapathRefusal is what our datapath refused. In IKE_AUTH nothing is temporary: the IKE SA that the peer could ask again on is only just being made (RFC 7296
// 2.25), and a peer that does not expect TEMPORARY_FAILURE there might give it up.
func (m *Machine) datapathRefusal(c *child, what string, err error) *childRefusal {
	n := c.offer.refused
	if n == 0 || n == iana.TEMPORARY_FAILURE && m.hs != nil && m.hs.child == c {
		n = iana.NO_ADDITIONAL_SAS
	}
	return &childRefusal{conn: c.conn, reason: event.ReasonInstallFailed, notify: n, text: fmt.Sprintf("%s for Child SA %q: %v", what, c.name(), err)}
}

// onFirstChildInstalled lets the responder answer IKE_AUTH.
func (m *Machine) onFirstChildInstalled(c *child, err error) {
	if err != nil {
		m.refuseFirstChild(c, "installation failed", err)
		return
	}
	m.answerAuth()
}

// firstChildPayloads is the Child SA's part of the IKE_AUTH response: what was chosen, or why nothing was.
func (m *Machine) firstChildPayloads() []wire.Item {
	if r := m.hs.refusal; r != nil {
		return []wire.Item{{Payload: wire.Notify{Notify: r.notify}}}
	}
	return m.childReply(m.hs.child)
}

// tellFirstChild reports the responder's first child after the reply.
func (m *Machine) tellFirstChild() {
	if r := m.hs.refusal; r != nil {
		m.tellRefused(r)
		return
	}
	m.hs.child.offer = nil
	m.tellChildUp(m.hs.child)
}

// tellRefused reports a Child SA that we have refused, under the connection that it was for as far as that is known.
func (m *Machine) tellRefused(r *childRefusal) {
	ev := event.Event{
		Level: event.Warn, Kind: event.KindChildFailed, Text: fmt.Sprintf("refused Child SA: %s; sent %v, the IKE SA stays", r.text, r.notify),
		Close: &event.Close{Reason: r.reason, Notify: r.notify, Remote: true, Detail: r.text},
	}
	if r.conn != nil {
		ev.Conn = r.conn.Name
	}
	m.tellRefusal(ev)
}

// firstChildAnswer is the initiator's side: accept what the responder chose, and install it.
func (m *Machine) firstChildAnswer() {
	c, items := m.hs.child, m.hs.peer.items
	if _, ok := wire.Get[wire.SA](items); !ok {
		m.removeChild(c)
		n, ok := errorNotify(items)
		if !ok {
			n.Notify = iana.INVALID_SYNTAX
		}
		if n.Notify == iana.TS_UNACCEPTABLE && m.askWithoutPacket(c, m.refusedTS()) {
			return
		}
		m.childFailed(c, m.childRejected(c, n, ok, iana.IKE_AUTH))
		return
	}
	if m.acceptChild(c, items) {
		c.offer.ni, c.offer.nr = m.hs.ni, m.hs.nr
		m.install(c)
	}
}

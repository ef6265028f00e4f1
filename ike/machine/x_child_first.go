package machine

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/pkg/wire"
)

// selectors is what a child of a connection protects, seen from this host. A template's peer is whoever came.
func (m *Machine) selectors(c *policy.Oriented, i int) (local, remote ts.Set) {
	if !c.RemoteAddr.IsValid() {
		c = c.Instance(m.path.Remote.Addr())
	}
	return c.LocalTS(i), c.RemoteTS(i)
}

// firstChildChoose is the responder's side of the Child SA in IKE_AUTH: choose, then reserve and install before the reply, so that a refused installation
// becomes a notification. A failure leaves the IKE SA alone (RFC 7296 1.2).
//
// Connections that differ in their subnets alone could each have taken this peer. The IKE SA belongs to the one whose child was asked for: under another's name
// it would replace that one's IKE SA, and what the datapath has of the child would be nobody's in the end.
func (m *Machine) firstChildChoose() {
	offer, refusal := m.chooseChild()
	if offer != nil {
		m.conn = offer.conn
	}
	m.tellAuthenticated()
	m.hs.signJob = m.job(Job{Sign: m.authJob(m.conn, m.conn.Local.Auth, m.responderOctets(m.localID), nil)})
	if refusal != nil {
		m.hs.refusal = refusal
		return
	}
	c := m.newChild(offer.conn, offer.index)
	c.suite, c.local, c.remote, c.spiOut = offer.choice.Suite, offer.local, offer.remote, spiOf(offer.choice.SPI)
	m.hs.child, m.hs.childReply = c, offer.choice.Reply
}

// childOffer is the Child SA that the responder is ready to make.
type childOffer struct {
	conn          *policy.Oriented
	index         int
	local, remote ts.Set
	choice        suite.Choice
}

// chooseChild looks for a child whose selectors and esp= allow the request: of the chosen connection first, then of others that may share the IKE SA.
func (m *Machine) chooseChild() (*childOffer, *childRefusal) {
	items := m.hs.peer.items
	sa, _ := wire.Get[wire.SA](items)
	tsi, _ := wire.GetType[wire.TS](items, iana.PayloadTSi)
	tsr, _ := wire.GetType[wire.TS](items, iana.PayloadTSr)
	theirs, ours := ts.FromWire(tsi), ts.FromWire(tsr)
	if !carriesESP(m.path) {
		return nil, &childRefusal{event.ReasonProtocol, iana.NO_PROPOSAL_CHOSEN, fmt.Sprintf(
			"%s stays on port 500 and wants ESP without UDP, which this datapath cannot do; set encapsulation=yes there", m.path.Peer())}
	}
	var noTS []string
	part := false // narrowing would help
	var noESP *childRefusal
	for _, conn := range m.sharing() {
		for i := range conn.Children {
			local, remote := m.selectors(conn, i)
			l, r := ts.Narrow(ours, local, conn.Narrowing), ts.Narrow(theirs, remote, conn.Narrowing)
			if len(l) == 0 || len(r) == 0 {
				fault, overlap := selectorFault(conn, local, remote, ours, theirs)
				noTS = append(noTS, fmt.Sprintf("%q allows %s: %s", conn.Children[i].Name, tunnel(local, remote), fault))
				part = part || overlap && !conn.Narrowing
				continue
			}
			choice, err := conn.Children[i].ESP.Choose(sa, iana.ProtoESP, false, iana.KE_NONE)
			switch {
			case err != nil && noESP == nil:
				noESP = &childRefusal{
					event.ReasonNoProposal, iana.NO_PROPOSAL_CHOSEN,
					fmt.Sprintf("no ESP proposal of the peer is allowed by %q (%s): %v", conn.Children[i].Name, whereESP(conn, err), err),
				}
			case err == nil && spiOf(choice.SPI) == 0:
				noESP = &childRefusal{event.ReasonProtocol, iana.NO_PROPOSAL_CHOSEN, "the peer's ESP proposal has the SPI zero"}
			case err == nil:
				return &childOffer{conn, i, l, r, choice}, nil
			}
		}
	}
	if noESP != nil {
		return nil, noESP
	}
	narrow := ""
	if part {
		narrow = "; narrowing=yes here would allow the common part"
	}
	return nil, &childRefusal{
		event.ReasonTSUnacceptable, iana.TS_UNACCEPTABLE,
		fmt.Sprintf("the peer wants %s, but %s%s", tunnel(ours, theirs), few(noTS), narrow),
	}
}

// sharing lists the connections whose children this IKE SA may carry: the chosen one, and candidates with the same identities, authentication and ike=.
func (m *Machine) sharing() []*policy.Oriented {
	list := []*policy.Oriented{m.conn}
	for _, c := range m.hs.candidates {
		if c != m.conn && c.LocalID() == m.localID && c.Local.Auth == m.conn.Local.Auth &&
			m.candidateFault(c, m.remoteID, m.localID, m.conn.Remote.Auth) == "" {
			list = append(list, c)
		}
	}
	return list
}

// onChildSPI goes on with the first child's SPI.
func (m *Machine) onChildSPI(c *child, err error) {
	if m.hs == nil || c != m.hs.child {
		return
	}
	switch {
	case m.initiator && err != nil:
		m.finish(event.Close{Reason: event.ReasonInstallFailed, Detail: fmt.Sprintf("no SPI for Child SA %q: %v", c.name(), err)})
	case m.initiator:
		m.sendAuth()
	case err != nil:
		m.refuseFirstChild(c, "no SPI", err)
	default:
		m.install(c, m.hs.ni, m.hs.nr)
	}
}

// refuseFirstChild turns what our datapath refused into a notification for the initiator.
func (m *Machine) refuseFirstChild(c *child, what string, err error) {
	m.hs.refusal = &childRefusal{event.ReasonInstallFailed, iana.NO_ADDITIONAL_SAS, fmt.Sprintf("%s for Child SA %q: %v", what, c.name(), err)}
	m.hs.child = nil
	m.removeChild(c)
	m.answerAuth()
}

// onChildInstalled goes on with an installed child, or one that could not be installed.
func (m *Machine) onChildInstalled(c *child, err error) {
	switch {
	case m.hs != nil && c == m.hs.child && err != nil:
		m.refuseFirstChild(c, "installation failed", err)
	case m.hs != nil && c == m.hs.child:
		m.answerAuth()
	case err != nil:
		m.emit(event.Event{
			Level: event.Error, Kind: event.KindChildFailed, Conn: c.conn.Name, Child: c.name(),
			Text:  fmt.Sprintf("Child SA %q could not be installed: %v; deleting it at the peer, the IKE SA stays", c.name(), err),
			Close: &event.Close{Reason: event.ReasonInstallFailed, Detail: err.Error()},
		})
		m.deleteChild(c)
	default:
		m.tellChildUp(c)
	}
}

// firstChildPayloads is the Child SA's part of the IKE_AUTH response: what was chosen, or why nothing was.
func (m *Machine) firstChildPayloads() []wire.Item {
	if r := m.hs.refusal; r != nil {
		return []wire.Item{{Payload: wire.Notify{Notify: r.notify}}}
	}
	c := m.hs.child
	sa := m.hs.childReply
	sa.Proposals[0].SPI = binary.BigEndian.AppendUint32(nil, c.spiIn)
	return []wire.Item{
		{Payload: sa},
		{Payload: wire.TS{Payload: iana.PayloadTSi, Selectors: c.remote.ToWire()}},
		{Payload: wire.TS{Payload: iana.PayloadTSr, Selectors: c.local.ToWire()}},
	}
}

// tellFirstChild reports the responder's first child after the reply.
func (m *Machine) tellFirstChild() {
	if r := m.hs.refusal; r != nil {
		m.emit(event.Event{
			Level: event.Warn, Kind: event.KindChildFailed, Text: fmt.Sprintf("refused Child SA: %s; sent %v, the IKE SA stays", r.text, r.notify),
			Close: &event.Close{Reason: r.reason, Notify: r.notify, Detail: r.text},
		})
		return
	}
	m.tellChildUp(m.hs.child)
}

// firstChildAnswer is the initiator's side: accept what the responder chose, and install it.
func (m *Machine) firstChildAnswer() {
	c, items := m.hs.child, m.hs.peer.items
	sa, okSA := wire.Get[wire.SA](items)
	tsi, okTSi := wire.GetType[wire.TS](items, iana.PayloadTSi)
	tsr, okTSr := wire.GetType[wire.TS](items, iana.PayloadTSr)
	if !okSA {
		m.removeChild(c)
		n, ok := errorNotify(items)
		if !ok {
			n.Notify = iana.INVALID_SYNTAX
		}
		m.childFailed(c, m.childRejected(c, n, ok))
		return
	}
	choice, err := c.conn.Children[c.index].ESP.Accept(sa, iana.ProtoESP, false)
	local, remote := m.selectors(c.conn, c.index)
	l, r := ts.FromWire(tsi), ts.FromWire(tsr)
	switch {
	case err != nil:
		m.rejectChild(c, event.ReasonNoProposal, fmt.Sprintf("%s: %v", whereESP(c.conn, err), err))
	case spiOf(choice.SPI) == 0:
		m.rejectChild(c, event.ReasonProtocol, "the peer's SPI is zero")
	case !okTSi || !okTSr || len(l) == 0 || len(r) == 0:
		m.rejectChild(c, event.ReasonTSUnacceptable, "the peer sent no traffic selectors that we understand")
	case !local.Contains(l) || !remote.Contains(r):
		fault, _ := selectorFault(c.conn, local, remote, l, r)
		m.rejectChild(c, event.ReasonTSUnacceptable, fmt.Sprintf("asked for %s, the peer answered with the wider %s: %s", tunnel(local, remote), tunnel(l, r), fault))
	case !c.conn.Narrowing && (!local.Equal(l) || !remote.Equal(r)):
		fault, _ := selectorFault(c.conn, l, r, local, remote)
		m.rejectChild(c, event.ReasonTSUnacceptable, fmt.Sprintf("asked for %s, the peer narrowed it to %s: %s; narrowing=yes (%s) would accept that",
			tunnel(local, remote), tunnel(l, r), fault, where(c.conn, "narrowing")))
	default:
		c.suite, c.local, c.remote, c.spiOut = choice.Suite, l, r, spiOf(choice.SPI)
		m.install(c, m.hs.ni, m.hs.nr)
	}
}

// rejectChild deletes a child that the peer has made and we do not accept.
func (m *Machine) rejectChild(c *child, r event.Reason, text string) {
	m.childFailed(c, event.Close{Reason: r, Detail: fmt.Sprintf("Child SA %q: %s; deleting it at the peer, the IKE SA stays", c.name(), text)})
	m.deleteChild(c)
}

func (m *Machine) childFailed(c *child, why event.Close) {
	m.emit(event.Event{Level: event.Warn, Kind: event.KindChildFailed, Conn: c.conn.Name, Child: c.name(), Text: why.Detail, Close: &why})
}

// childBySPIOut finds a child by the SPI that the peer chose: the one in its Delete payloads.
func (m *Machine) childBySPIOut(spi uint32) *child {
	i := slices.IndexFunc(m.children, func(c *child) bool { return c.spiOut == spi })
	if spi == 0 || i < 0 {
		return nil
	}
	return m.children[i]
}

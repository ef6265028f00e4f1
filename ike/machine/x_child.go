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

// CREATE_CHILD_SA for Child SAs (RFC 7296 1.3.1). As in IKE_AUTH the answerer installs before it replies, so that a refused installation becomes a
// notification. A failure never ends the IKE SA.

// onOpenChild asks the peer for one more Child SA.
func (m *Machine) onOpenChild(in OpenChild) {
	if in.Index < 0 || in.Index >= len(in.Conn.Children) {
		return
	}
	if m.state != established {
		why := event.Close{Reason: event.ReasonPathFailed, Detail: fmt.Sprintf("the IKE SA with %s is %v", m.path.Peer(), m.state)}
		m.emit(event.Event{Level: event.Info, Kind: event.KindChildFailed, Conn: in.Conn.Name, Child: in.Conn.Children[in.Index].Name, Text: why.Detail, Close: &why})
		return
	}
	if esp, lacking := m.carried(target{in.Conn, in.Index}); len(esp) == 0 {
		why := event.Close{Reason: event.ReasonNoProposal, Detail: noneCarried(target{in.Conn, in.Index}, lacking)}
		m.emit(event.Event{Level: event.Warn, Kind: event.KindChildFailed, Conn: in.Conn.Name, Child: in.Conn.Children[in.Index].Name, Text: why.Detail, Close: &why})
		return
	}
	m.openChild(in.Conn, in.Index).offer.packet = in.Packet
}

func (m *Machine) openChild(conn *policy.Oriented, index int) *child {
	c := m.newChild(conn, index)
	c.asker, c.offer = true, &offer{}
	return c
}

// createPayloads makes a CREATE_CHILD_SA request with a new nonce and, with pfs=yes, a new public value; ok is false when nothing is to be sent.
func (m *Machine) createPayloads(c *child) (items []wire.Item, ok bool) {
	o := c.offer
	if o == nil || c.state != childReserved {
		return nil, false
	}
	if c.unwanted {
		m.removeChild(c)
		m.tellChildClosed(c, event.Close{Reason: event.ReasonOperator, Detail: fmt.Sprintf("Child SA %q is not wanted any more", c.name())})
		return nil, false
	}
	rekey, ok := m.rekeyNotify(c)
	if !ok {
		return nil, false
	}
	o.ni = make([]byte, nonceLen)
	_, err := io.ReadFull(m.cfg.Rand, o.ni)
	if method := m.firstKE(c); err == nil && method != iana.KE_NONE {
		o.exchange, err = suite.NewExchange(method, m.cfg.Rand)
	}
	if err != nil {
		m.removeChild(c)
		m.childFailed(c, event.Close{Reason: event.ReasonInternal, Detail: fmt.Sprintf("Child SA %q: no nonce or key could be made: %v", c.name(), err)})
		return nil, false
	}
	between, pfs := []wire.Item{{Payload: wire.Nonce{Data: o.ni}}}, ""
	if o.exchange != nil {
		between = append(between, wire.Item{Payload: wire.KE{Method: o.exchange.Method, Data: o.exchange.Public}})
		pfs = " with " + keName(o.exchange.Method)
	}
	asks := append(rekey, m.childAsk(c, between...)...)
	m.emit(event.Event{
		Level: event.Info, Conn: c.conn.Name, Child: c.name(),
		Text: fmt.Sprintf("sending CREATE_CHILD_SA request to %s for Child SA {ESP <%#08x} %s%s%s", m.path.Peer(), c.spiIn, tunnel(o.local, o.remote), o.forPacket(), pfs),
	})
	return asks, true
}

// firstKE is the key exchange that a request of ours brings a public value for: the connection's first, or the one that the peer has asked for.
func (m *Machine) firstKE(c *child) iana.KE {
	if c.offer.method != iana.KE_NONE {
		return c.offer.method
	}
	for _, p := range m.withKE(target{c.conn, c.index}, true) {
		for _, k := range p.KE {
			if k != iana.KE_NONE {
				return k
			}
		}
	}
	return iana.KE_NONE
}

// onCreateChildResponse takes what the peer has chosen. Its SAs are there already.
func (m *Machine) onCreateChildResponse(msg *message) {
	c := m.child(m.answered().child)
	if c == nil || c.offer == nil {
		return // its IKE SA is going down
	}
	nonce, _ := wire.Get[wire.Nonce](msg.items)
	ke, _ := wire.Get[wire.KE](msg.items)
	if !m.acceptChild(c, msg.items) {
		return
	}
	if slices.Contains(c.offer.gone, c.spiOut) {
		m.removeChild(c)
		m.childFailed(c, event.Close{
			Reason: event.ReasonPeerDeleted, Remote: true,
			Detail: fmt.Sprintf("Child SA %q was deleted by peer %s before its answer to our request came", c.name(), m.path.Peer()),
		})
		return
	}
	c.offer.nr = bytes.Clone(nonce.Data)
	if c.suite.KE != iana.KE_NONE {
		c.offer.job = m.job(Job{Finish: &FinishJob{Exchange: c.offer.exchange, Reply: bytes.Clone(ke.Data)}})
		return
	}
	m.install(c)
}

// onCreateChildRefusal goes on without a Child SA, or with another request for it.
func (m *Machine) onCreateChildRefusal(msg *message) {
	c := m.child(m.answered().child)
	n, told := errorNotify(msg.items)
	switch {
	case n.Notify == iana.INVALID_SYNTAX && m.state == established:
		m.finish(m.peerError(n)) // fatal at both ends (RFC 7296 2.21.3)
		return
	case c == nil || c.offer == nil:
		return
	case !told:
		n.Notify = iana.INVALID_SYNTAX
	case n.Notify == iana.INVALID_KE_PAYLOAD && m.otherKE(c, n):
		return
	case n.Notify == iana.CHILD_SA_NOT_FOUND && c.offer.rekeys != 0:
		m.rekeyNotFound(c)
		return
	case n.Notify == iana.TEMPORARY_FAILURE && c.offer.retries < maxRetries:
		c.offer.retries++
		m.onTemporaryFailure()
		m.again = append(m.again, c.id)
		m.emit(event.Event{
			Level: event.Info, Conn: c.conn.Name, Child: c.name(),
			Text: fmt.Sprintf("peer %s cannot make Child SA %q now (TEMPORARY_FAILURE); asking again in %v", m.path.Peer(), c.name(), temporaryFor),
		})
		return
	}
	m.removeChild(c)
	if n.Notify == iana.TS_UNACCEPTABLE && m.askWithoutPacket(c, m.refusedTS()) {
		return
	}
	m.childFailed(c, m.childRejected(c, n, told, iana.CREATE_CHILD_SA))
}

// otherKE repeats a request with the key exchange that the peer wants, if we offered it (RFC 7296 1.3).
func (m *Machine) otherKE(c *child, n wire.Notify) bool {
	if len(n.Data) != 2 || c.offer.exchange == nil || c.offer.retries >= maxRetries {
		return false
	}
	method := iana.KE(binary.BigEndian.Uint16(n.Data))
	offered := slices.ContainsFunc(m.withKE(target{c.conn, c.index}, true), func(p suite.Proposal) bool { return slices.Contains(p.KE, method) })
	if !offered || method == iana.KE_NONE || method == c.offer.exchange.Method {
		return false
	}
	m.emit(event.Event{
		Level: event.Info, Conn: c.conn.Name, Child: c.name(),
		Text: fmt.Sprintf("%s wants key exchange %s instead of %s for Child SA %q; asking again with it", m.path.Peer(), keName(method), keName(c.offer.exchange.Method),
			c.name()),
	})
	c.offer.method, c.offer.exchange = method, nil
	c.offer.retries++
	m.enqueue(task{kind: taskCreateChild, child: c.id})
	return true
}

// askAgain repeats the requests that the peer could not work on.
func (m *Machine) askAgain() {
	for _, id := range m.again {
		m.enqueue(task{kind: taskCreateChild, child: id})
	}
	m.again = nil
}

// onCreateChildRequest makes the Child SA that the peer asks for. Rekeying the IKE SA is refused, which RFC 7296 1.3 allows: NO_ADDITIONAL_SAS is the answer
// that peers know how to go on from, with a new IKE SA.
func (m *Machine) onCreateChildRequest(msg *message) {
	_, hasTSi := wire.GetType[wire.TS](msg.items, iana.PayloadTSi)
	_, hasTSr := wire.GetType[wire.TS](msg.items, iana.PayloadTSr)
	rekey, isRekey := wire.GetNotify(msg.items, iana.REKEY_SA)
	switch {
	case m.state == deleting:
		m.refuseCreate(msg, &childRefusal{reason: event.ReasonOperator, notify: iana.TEMPORARY_FAILURE, text: "this IKE SA is being deleted"}) // RFC 7296 2.25.2
	case isRekey:
		m.onRekeyRequest(msg, rekey)
	case !hasTSi || !hasTSr:
		m.answer(msg, []wire.Item{{Payload: wire.Notify{Notify: iana.NO_ADDITIONAL_SAS}}})
		m.tellRefusal(event.Event{Level: event.Info, Text: fmt.Sprintf("refused rekeying the IKE SA to %s: not supported yet; sent NO_ADDITIONAL_SAS", m.path.Peer())})
	default:
		conns := []*policy.Oriented{m.conn}
		if m.cfg.Candidates != nil {
			conns = m.sharing(m.cfg.Candidates(m.path))
		}
		m.create(msg, targets(conns), nil)
	}
}

// maxSame bounds the Child SAs that a peer may ask for of one child of a connection. Rekeying needs three at a time; a peer that narrows makes one for each of
// its networks.
const maxSame = 64

func (m *Machine) sameChildren(conn *policy.Oriented, index int) int {
	n := 0
	for _, c := range m.children {
		if c.conn.Connection == conn.Connection && c.index == index {
			n++
		}
	}
	return n
}

// create chooses what to answer, and starts it. old is the child that is to be replaced, nil if none.
func (m *Machine) create(msg *message, among []target, old *child) *child {
	ch, refusal := m.chooseChild(requestOf(msg.items, true), among)
	if refusal == nil && old != nil {
		refusal = m.noSuccessor(old, ch)
	}
	if refusal != nil {
		m.refuseCreate(msg, refusal)
		return nil
	}
	if why := m.conn.Apart(ch.conn); why != "" {
		m.refuseCreate(msg, &childRefusal{
			conn: ch.conn, reason: event.ReasonProtocol, notify: iana.NO_ADDITIONAL_SAS,
			text: fmt.Sprintf("%q has an IKE SA of its own, since %s", ch.conn.Name, why),
		})
		return nil
	}
	if n := m.sameChildren(ch.conn, ch.index); n >= maxSame {
		m.refuseCreate(msg, &childRefusal{
			conn: ch.conn, reason: event.ReasonProtocol, notify: iana.NO_ADDITIONAL_SAS,
			text: fmt.Sprintf("the peer has %d Child SAs of %q already, which is all that one IKE SA may have", n, ch.conn.Children[ch.index].Name),
		})
		return nil
	}
	nonce, _ := wire.Get[wire.Nonce](msg.items)
	octets := make([]byte, nonceLen+answerOctets)
	if _, err := io.ReadFull(m.cfg.Rand, octets); err != nil {
		m.finish(event.Close{Reason: event.ReasonInternal, Detail: "no random octets for a nonce and a key: " + err.Error()})
		return nil
	}
	c := m.answerWith(ch, bytes.Clone(nonce.Data), octets[:nonceLen:nonceLen])
	m.readChildNotifies(c, msg.items)
	if ke, _ := wire.Get[wire.KE](msg.items); c.suite.KE != iana.KE_NONE {
		c.offer.answer = &AnswerJob{Method: ke.Method, Public: bytes.Clone(ke.Data), octets: octets[nonceLen:]}
	}
	m.emit(event.Event{
		Level: event.Info, Conn: c.conn.Name, Child: c.name(),
		Text: fmt.Sprintf("processing CREATE_CHILD_SA request from %s containing SK{%s} for %s", m.path.Peer(), names(msg.items), tunnel(c.local, c.remote)),
	})
	return c
}

// answerKE makes our half of the key exchange, if there is one, before the installation.
func (m *Machine) answerKE(c *child) {
	if c.offer.answer == nil {
		m.install(c)
		return
	}
	c.offer.job = m.job(Job{Answer: c.offer.answer})
}

// onChildJob goes on with a part of a child's key exchange.
func (m *Machine) onChildJob(c *child, in JobDone) {
	o := c.offer
	o.job = 0
	switch {
	case in.Err != nil && c.asker:
		m.rejectChild(c, event.ReasonProtocol, fmt.Sprintf("public value of %s cannot be used: %v", m.path.Peer(), in.Err))
	case in.Err != nil:
		m.removeChild(c)
		m.refuseProtected(&message{h: wire.Header{Exchange: iana.CREATE_CHILD_SA, MessageID: m.in.next}, path: m.in.path}, iana.INVALID_SYNTAX, nil,
			fmt.Sprintf("public value for %s: %v", keName(c.suite.KE), in.Err)) // RFC 6989 5
	case o.answer != nil:
		o.public, o.answer = in.Data, nil
		o.job = m.job(Job{Pending: in.Pending})
	default:
		o.secret = in.Data
		m.install(c)
	}
}

// answerCreated replies to the request in work with the child that is now installed.
func (m *Machine) answerCreated(c *child) {
	between := []wire.Item{{Payload: wire.Nonce{Data: c.offer.nr}}}
	if c.offer.public != nil {
		between = append(between, wire.Item{Payload: wire.KE{Method: c.suite.KE, Data: c.offer.public}})
	}
	reply := m.seal(m.header(iana.CREATE_CHILD_SA, m.in.next, true), m.childReply(c, between...))
	if reply == nil {
		return
	}
	c.offer = nil
	m.put(reply, false)
	m.tellChildUp(c)
}

// refuseCreate answers a request with the reason why there is no Child SA.
func (m *Machine) refuseCreate(msg *message, r *childRefusal) {
	m.answer(msg, []wire.Item{{Payload: wire.Notify{Notify: r.notify, Data: r.data, Protocol: r.protocol, SPI: r.spi}}})
	m.tellRefused(r)
}

// refuseCreated is refuseCreate for a child that our datapath refused.
func (m *Machine) refuseCreated(c *child, what string, err error) {
	m.removeChild(c)
	m.refuseInWork(m.datapathRefusal(c, what, err))
	m.abandon(c)
}

// refuseInWork refuses the CREATE_CHILD_SA request in work.
func (m *Machine) refuseInWork(r *childRefusal) {
	m.refuseCreate(&message{h: wire.Header{Exchange: iana.CREATE_CHILD_SA, MessageID: m.in.next}, path: m.in.path}, r)
}

// answer replies to the request in work.
func (m *Machine) answer(msg *message, items []wire.Item) {
	m.put(m.seal(m.header(msg.h.Exchange, msg.h.MessageID, true), items), false)
}

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

// offer is what a Child SA needs while it is negotiated, in IKE_AUTH or in CREATE_CHILD_SA, and not once it is installed. The asker sends the request, the
// answerer chooses: either end of the IKE SA may be either.
type offer struct {
	ni, nr []byte // the nonces of the exchange, the asker's first

	method   iana.KE         // asker: what the next public value is for; KE_NONE: the first of the connection's
	exchange *suite.Exchange // asker: our half of the key exchange; nil: no PFS, as always in IKE_AUTH (RFC 7296 1.2)
	answer   *AnswerJob      // answerer: our half is still to be made
	public   []byte          // answerer: our public value
	secret   []byte          // of the key exchange, until the keys are derived
	job      JobID
	retries  int // asker: requests repeated for INVALID_KE_PAYLOAD or TEMPORARY_FAILURE

	reply   wire.SA     // answerer: the proposal chosen
	refused iana.Notify // answerer: for what our datapath has refused; zero: NO_ADDITIONAL_SAS

	local, remote ts.Set    // asker: the selectors that were asked for
	packet        ts.Packet // asker: what it is needed for, whose selectors stand before these

	rekeys   ChildID  // asker: the child that it is to replace, zero if none
	crossing rekeying // asker: what the peer makes in the same place
	lost     bool     // asker: it was to replace one that the peer did not have
	gone     []uint32 // asker: SPIs unknown to us that the peer has deleted since the request: its answer, still on the way, may be for one of them
}

// maxGone bounds what a peer may make us remember: it cannot have made more Child SAs than one for our request, and may name it more than once.
const maxGone = 8

// request is what a message asks for in its SA, KE and TS payloads, seen from the answerer.
type request struct {
	sa           wire.SA
	ke           wire.KE // Method KE_NONE: none came
	ours, theirs ts.Set
	create       bool // in CREATE_CHILD_SA, where a key exchange is possible
	transport    bool // USE_TRANSPORT_MODE
}

func requestOf(items []wire.Item, create bool) request {
	r := request{create: create, transport: asksTransport(items)}
	r.sa, _ = wire.Get[wire.SA](items)
	r.ke, _ = wire.Get[wire.KE](items)
	tsi, _ := wire.GetType[wire.TS](items, iana.PayloadTSi)
	tsr, _ := wire.GetType[wire.TS](items, iana.PayloadTSr)
	r.theirs, r.ours = ts.FromWire(tsi), ts.FromWire(tsr)
	return r
}

// selectors is what a child of a connection protects, seen from this host. A template's peer is whoever came.
func (m *Machine) selectors(c *policy.Oriented, i int) (local, remote ts.Set) {
	if !c.RemoteAddr.IsValid() {
		c = c.Instance(m.path.Remote.Addr())
	}
	return c.LocalTS(i), c.RemoteTS(i)
}

// chosen is the Child SA that the answerer is ready to make.
type chosen struct {
	conn          *policy.Oriented
	index         int
	local, remote ts.Set
	mode          mode
	choice        suite.Choice
	aside         string // how it differs from what was asked for; empty: it does not
}

// target is a child of a connection that a request may be for.
type target struct {
	conn  *policy.Oriented
	index int
}

// targets lists every child of some connections.
func targets(conns []*policy.Oriented) []target {
	var list []target
	for _, c := range conns {
		for i := range c.Children {
			list = append(list, target{c, i})
		}
	}
	return list
}

// chooseChild finds the first child whose selectors, esp= and pfs= allow what is asked for.
func (m *Machine) chooseChild(r request, among []target) (*chosen, *childRefusal) {
	var noTS []string
	var noESP *childRefusal
	var meant *policy.Oriented // what is asked for is in part what it allows
	part := false              // narrowing would help
	among = m.firstChoices(r, among)
	if r.transport { // a connection that allows it comes before one that does not (RFC 7296 2.23.1)
		among = transportFirst(among)
	}
	for _, t := range among {
		local, remote := m.selectors(t.conn, t.index)
		ours, theirs, md, refusal := m.chooseMode(r, t)
		if refusal != nil {
			if noESP == nil && len(ts.Narrow(r.ours, local, true)) > 0 && len(ts.Narrow(r.theirs, remote, true)) > 0 {
				noESP = refusal
			} else {
				noTS = append(noTS, refusal.text) // it is for other traffic: the mode is not what keeps the peer from it
			}
			continue
		}
		l, rm := ts.Narrow(ours, local, t.conn.Narrowing), ts.Narrow(theirs, remote, t.conn.Narrowing)
		if md.transport && len(l) > 0 && len(rm) > 0 {
			if fault := m.notHosts(t.conn, l, rm); fault != "" {
				noTS = append(noTS, fmt.Sprintf("%q: %s", t.conn.Children[t.index].Name, fault))
				continue
			}
		}
		if len(l) == 0 || len(rm) == 0 {
			fault, overlap := selectorFault(t.conn, local, remote, ours, theirs)
			noTS = append(noTS, fmt.Sprintf("%q allows %s: %s", t.conn.Children[t.index].Name, tunnel(local, remote), fault))
			part = part || overlap && !t.conn.Narrowing
			if overlap && meant == nil {
				meant = t.conn
			}
			continue
		}
		choice, refusal := m.chooseESP(r, t)
		if refusal == nil {
			return m.sayLess(&chosen{t.conn, t.index, l, rm, md, choice, ""}, r.transport, ours, theirs), nil
		}
		if noESP == nil {
			noESP = refusal
		}
	}
	if noESP != nil {
		return nil, noESP
	}
	narrow := ""
	if part {
		narrow = "; narrowing=yes here would allow the common part"
	}
	if len(noTS) == 0 {
		noTS, narrow = []string{"no connection that is loaded may use this IKE SA"}, ""
	}
	if r.transport && !slices.ContainsFunc(among, target.wantsTransport) {
		narrow += "; it asked for transport mode, and no connection for it is type=transport here"
	}
	return nil, &childRefusal{
		conn: meant, reason: event.ReasonTSUnacceptable, notify: iana.TS_UNACCEPTABLE,
		text: fmt.Sprintf("the peer wants %s, but %s%s", tunnel(r.ours, r.theirs), few(noTS), narrow),
	}
}

// chooseESP chooses among the peer's proposals for one child. A key exchange that needs another public value than the one that came is asked for with
// INVALID_KE_PAYLOAD (RFC 7296 1.3).
func (m *Machine) chooseESP(r request, t target) (suite.Choice, *childRefusal) {
	if why := m.noCarrier(t.conn); why != "" {
		return suite.Choice{}, &childRefusal{conn: t.conn, reason: event.ReasonProtocol, notify: iana.NO_PROPOSAL_CHOSEN, text: why}
	}
	name := t.conn.Children[t.index].Name
	esp, lacking := m.carried(t)
	if len(esp) == 0 {
		return suite.Choice{}, &childRefusal{conn: t.conn, reason: event.ReasonNoProposal, notify: iana.NO_PROPOSAL_CHOSEN, text: noneCarried(t, lacking)}
	}
	if r.create {
		esp = m.withKE(t, false)
	}
	choice, err := esp.Choose(r.sa, iana.ProtoESP, r.create, r.ke.Method)
	switch {
	case err != nil:
		return choice, &childRefusal{
			conn: t.conn, reason: event.ReasonNoProposal, notify: iana.NO_PROPOSAL_CHOSEN,
			text: fmt.Sprintf("no ESP proposal of the peer is allowed by %q (%s): %v%s", name, WhereESP(t.conn, err), err, butFor(lacking)),
		}
	case spiOf(choice.SPI) == 0:
		return choice, &childRefusal{conn: t.conn, reason: event.ReasonProtocol, notify: iana.NO_PROPOSAL_CHOSEN, text: "the peer's ESP proposal has the SPI zero"}
	case choice.Suite.KE != iana.KE_NONE && choice.Suite.KE != r.ke.Method:
		return choice, &childRefusal{
			conn: t.conn, reason: event.ReasonReplaced, notify: iana.INVALID_KE_PAYLOAD, data: binary.BigEndian.AppendUint16(nil, uint16(choice.Suite.KE)),
			text: fmt.Sprintf("%q wants the key exchange %s (%s), the peer's request has none for it", name, keName(choice.Suite.KE), where(t.conn, "pfs")),
		}
	}
	return choice, nil
}

// carried is esp= without what the datapath lacks, which lacking names.
func (m *Machine) carried(t target) (esp suite.Proposals, lacking string) {
	return t.conn.Children[t.index].ESP.Without(m.cfg.Lacks)
}

// noneCarried is for an esp= of which the datapath has nothing.
func noneCarried(t target, lacking string) string {
	return fmt.Sprintf("nothing that %q allows (esp=%v, %s) can be had on this host: %s", t.conn.Children[t.index].Name, t.conn.Children[t.index].ESP, where(t.conn, "esp"), lacking)
}

// butFor names what esp= would allow if this host had it.
func butFor(lacking string) string {
	if lacking == "" {
		return ""
	}
	return "; esp= allows more, which cannot be had on this host: " + lacking
}

// asks is the proposals of a request of ours, and whether they are with a key exchange.
func (m *Machine) asks(c *child) (esp suite.Proposals, withKE bool) {
	if c.offer.exchange != nil {
		return m.withKE(target{c.conn, c.index}, true), true
	}
	esp, _ = m.carried(target{c.conn, c.index})
	return esp, false
}

// withKE is esp= with the key exchanges that CREATE_CHILD_SA may use: those that esp= lists, or that of the IKE SA. With pfs=no none is offered, but a
// peer that wants one gets it. Where neither pfs= nor esp= says so, a key exchange is preferred, but a peer whose proposals have none can be rekeyed with.
func (m *Machine) withKE(t target, asking bool) suite.Proposals {
	child := &t.conn.Children[t.index]
	esp, _ := m.carried(t)
	list := make(suite.Proposals, len(esp))
	for i, p := range esp {
		written := len(p.KE) > 0
		if !written {
			p.KE = []iana.KE{m.suite.KE}
		}
		switch {
		case child.PFS && child.PFSOptional && !written:
			p.KE = append(p.KE, iana.KE_NONE)
		case child.PFS:
		case asking:
			p.KE = nil
		default:
			p.KE = append([]iana.KE{iana.KE_NONE}, slices.DeleteFunc(slices.Clone(p.KE), func(k iana.KE) bool { return k == iana.KE_NONE })...)
		}
		list[i] = p
	}
	return list
}

// answerWith makes the child that was chosen and asks for its SPI.
func (m *Machine) answerWith(ch *chosen, ni, nr []byte) *child {
	c := m.newChild(ch.conn, ch.index)
	c.suite, c.local, c.remote, c.spiOut = ch.choice.Suite, ch.local, ch.remote, spiOf(ch.choice.SPI)
	c.mode, c.aside, c.offer = ch.mode, ch.aside, &offer{ni: ni, nr: nr, reply: ch.choice.Reply}
	return c
}

// childAsk is the Child SA's part of a request: notifications, proposals and selectors. Nonce and KE payloads, which only CREATE_CHILD_SA has, stand between
// the last two.
func (m *Machine) childAsk(c *child, between ...wire.Item) []wire.Item {
	esp, withKE := m.asks(c)
	c.offer.local, c.offer.remote = m.asksFor(c)
	local, remote := m.withPacket(c, c.offer.local, c.offer.remote)
	items := append(m.childNotifies(target{c.conn, c.index}.wantsTransport()), wire.Item{Payload: esp.Offer(iana.ProtoESP, binary.BigEndian.AppendUint32(nil, c.spiIn), withKE)})
	items = append(items, between...)
	return append(items,
		wire.Item{Payload: wire.TS{Payload: iana.PayloadTSi, Selectors: local.ToWire()}},
		wire.Item{Payload: wire.TS{Payload: iana.PayloadTSr, Selectors: remote.ToWire()}})
}

// childReply is the Child SA's part of a response: what was chosen.
func (m *Machine) childReply(c *child, between ...wire.Item) []wire.Item {
	sa := c.offer.reply
	sa.Proposals[0].SPI = binary.BigEndian.AppendUint32(nil, c.spiIn)
	items := append(m.childNotifies(c.mode.transport), wire.Item{Payload: sa})
	items = append(items, between...)
	return append(items,
		wire.Item{Payload: wire.TS{Payload: iana.PayloadTSi, Selectors: c.remote.ToWire()}},
		wire.Item{Payload: wire.TS{Payload: iana.PayloadTSr, Selectors: c.local.ToWire()}})
}

// childNotifies makes the notifications that stand beside the SA payload of a child, in a request and in a response (RFC 7296 1.3.1).
func (m *Machine) childNotifies(transport bool) []wire.Item {
	if !transport {
		return nil
	}
	return []wire.Item{{Payload: wire.Notify{Notify: iana.USE_TRANSPORT_MODE}}}
}

// readChildNotifies takes the notifications that came beside the SA payload of a child: of the request when we answer, of the response when we asked.
func (m *Machine) readChildNotifies(*child, []wire.Item) {}

// acceptChild takes what the answerer has chosen for a child of ours. It reports whether the child goes on; otherwise it is deleted at the peer, which
// has made it.
func (m *Machine) acceptChild(c *child, items []wire.Item) bool {
	sa, _ := wire.Get[wire.SA](items)
	tsi, okTSi := wire.GetType[wire.TS](items, iana.PayloadTSi)
	tsr, okTSr := wire.GetType[wire.TS](items, iana.PayloadTSr)
	ke, _ := wire.Get[wire.KE](items)
	esp, withKE := m.asks(c)
	choice, err := esp.Accept(sa, iana.ProtoESP, withKE)
	local, remote := c.offer.local, c.offer.remote
	l, r, noMode := m.acceptMode(c, items, ts.FromWire(tsi), ts.FromWire(tsr))
	l, r = c.offer.withoutPacket(l, r)
	reject := func(r event.Reason, format string, args ...any) bool {
		text := fmt.Sprintf(format, args...)
		if r == event.ReasonTSUnacceptable && m.askWithoutPacket(c, text+"; deleting it at the peer") {
			m.deleteChild(c)
			return false
		}
		m.rejectChild(c, r, text)
		return false
	}
	switch {
	case err != nil:
		return reject(event.ReasonNoProposal, "%s: %v", WhereESP(c.conn, err), err)
	case spiOf(choice.SPI) == 0:
		return reject(event.ReasonProtocol, "the peer's SPI is zero")
	case choice.Suite.KE != iana.KE_NONE && (choice.Suite.KE != c.offer.exchange.Method || ke.Method != choice.Suite.KE):
		return reject(event.ReasonProtocol, "the peer chose key exchange %s, our public value is for %s and its own for %s", keName(choice.Suite.KE),
			keName(c.offer.exchange.Method), keName(ke.Method))
	case noMode != "":
		return reject(event.ReasonNoProposal, "%s", noMode)
	case !okTSi || !okTSr || len(l) == 0 || len(r) == 0:
		return reject(event.ReasonTSUnacceptable, "the peer sent no traffic selectors that we understand")
	case !local.Contains(l) || !remote.Contains(r):
		fault, _ := selectorFault(c.conn, local, remote, l, r)
		return reject(event.ReasonTSUnacceptable, "asked for %s, the peer answered with the wider %s: %s", tunnel(local, remote), tunnel(l, r), fault)
	case !c.conn.Narrowing && (!local.Equal(l) || !remote.Equal(r)):
		fault, _ := selectorFault(c.conn, l, r, local, remote)
		return reject(event.ReasonTSUnacceptable, "asked for %s, the peer narrowed it to %s: %s; narrowing=yes (%s) would accept that",
			tunnel(local, remote), tunnel(l, r), fault, where(c.conn, "narrowing"))
	case c.offer.onlyPacket(l, r):
		return reject(event.ReasonTSUnacceptable, "asked for %s, the peer narrowed it to the packet's %s", tunnel(local, remote), tunnel(l, r))
	}
	if old := m.child(c.offer.rekeys); old != nil {
		if less := m.lessThan(old, l, r); less != "" {
			return reject(event.ReasonTSUnacceptable, "the peer answered with %s", less)
		}
	}
	c.suite, c.local, c.remote, c.spiOut = choice.Suite, l, r, spiOf(choice.SPI)
	m.readChildNotifies(c, items)
	return true
}

// rejectChild deletes a child that the peer has made and we do not accept.
func (m *Machine) rejectChild(c *child, r event.Reason, text string) {
	m.childFailed(c, event.Close{Reason: r, Detail: fmt.Sprintf("Child SA %q: %s; deleting it at the peer, the IKE SA stays", c.name(), text)})
	m.deleteChild(c)
}

func (m *Machine) childFailed(c *child, why event.Close) {
	m.emit(event.Event{Level: event.Warn, Kind: event.KindChildFailed, Conn: c.conn.Name, Child: c.name(), Text: why.Detail, Close: &why, Request: c.request})
	m.abandon(c)
}

// onChildSPI goes on with a child's SPI, or without.
func (m *Machine) onChildSPI(c *child, err error) {
	switch {
	case m.hs != nil && c == m.hs.child:
		m.onFirstChildSPI(c, err)
	case c.offer == nil:
	case c.asker && err != nil:
		m.removeChild(c)
		m.childFailed(c, event.Close{Reason: event.ReasonInstallFailed, Detail: fmt.Sprintf("no SPI for Child SA %q: %v", c.name(), err)})
	case c.asker:
		m.enqueue(task{kind: taskCreateChild, child: c.id})
	case err != nil:
		m.refuseCreated(c, "no SPI", err)
	default:
		m.answerKE(c)
	}
}

// onChildInstalled goes on with an installed child, or one that could not be installed.
func (m *Machine) onChildInstalled(c *child, err error) {
	switch {
	case m.hs != nil && c == m.hs.child && !c.asker:
		m.onFirstChildInstalled(c, err)
	case !c.asker && err != nil:
		m.refuseCreated(c, "installation failed", err)
	case !c.asker:
		m.answerCreated(c)
	case err != nil:
		m.emit(event.Event{
			Level: event.Error, Kind: event.KindChildFailed, Conn: c.conn.Name, Child: c.name(),
			Text:  fmt.Sprintf("Child SA %q could not be installed: %v; deleting it at the peer, the IKE SA stays", c.name(), err),
			Close: &event.Close{Reason: event.ReasonInstallFailed, Detail: err.Error()}, Request: c.request,
		})
		m.abandon(c)
		m.deleteChild(c)
	default:
		o := c.offer
		c.offer = nil
		m.tellChildUp(c)
		if o.lost {
			m.tellRekeyed(c, c.request)
		}
		m.succeed(c, o)
	}
}

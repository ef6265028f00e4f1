package engine

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
	"github.com/ikegod/ikegod/transport"
)

// door limits what strangers make us say: replies without state, and lines in the log.
type door struct {
	mu      sync.Mutex // guards all below
	replies bucket
	reports voice // about strangers
	openers voice // of half-open IKE SAs
}

// voice limits a kind of lines, and counts those that were not told since the last one that was.
type voice struct {
	bucket bucket
	held   int
}

func (v *voice) may(at, interval time.Duration, burst int) (held int, ok bool) {
	if !v.bucket.allow(at, interval, burst) {
		v.held++
		return 0, false
	}
	held, v.held = v.held, 0
	return held, true
}

const (
	replyInterval  = 5 * time.Millisecond // 200 stateless error replies a second
	replyBurst     = 200
	reportInterval = time.Second
	reportBurst    = 20
	openerInterval = 5 * time.Millisecond // 200 events a second of IKE SAs whose peer has not proved anything
	openerBurst    = 2000
)

func (o *door) mayReply(at time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.replies.allow(at, replyInterval, replyBurst)
}

// mayReport also returns how many reports were suppressed since the last one.
func (o *door) mayReport(at time.Duration) (suppressed int, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.reports.may(at, reportInterval, reportBurst)
}

// mayTell is mayReport for the events of half-open responders: honest peers open them too, and their story should be in the log, but it has to end somewhere.
func (o *door) mayTell(at time.Duration) (unheard int, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.openers.may(at, openerInterval, openerBurst)
}

// report tells about a stranger, at a limited rate: what strangers send must not fill a log. The text is made only if it is told.
func (e *Engine) report(s *shard, ev event.Event, text func() string) {
	suppressed, ok := e.door.mayReport(time.Since(e.epoch))
	if !ok {
		return
	}
	ev.Text = text()
	if suppressed > 0 {
		ev.Text += suppressedText(suppressed)
	}
	e.emit(s, ev)
}

// dropped counts a message that went no further than us, and reports it. It allocates nothing when the report is suppressed.
func (e *Engine) dropped(s *shard, why event.Drop, d transport.Datagram, detail string) {
	e.counters.drop(why)
	e.report(s, event.Event{At: d.At, Level: dropLevel(why), Kind: event.KindDrop, Path: d.Path, Drop: why}, func() string {
		if detail == "" {
			detail = dropTexts[why]
		}
		return fmt.Sprintf("dropped an IKE message of %d octets from %s to %s (%s): %s", len(d.Data), d.Path.Peer(), d.Path.Local, why, detail)
	})
}

func dropLevel(why event.Drop) event.Level {
	switch why {
	case event.DropHalfOpen, event.DropMailbox, event.DropRate:
		return event.Warn
	case event.DropClosed, event.DropNoConnection:
		return event.Debug // what matters about these is told elsewhere
	default:
		return event.Info
	}
}

var dropTexts = [event.NumDrops]string{
	event.DropShort:        "shorter than the IKE header of 28 octets",
	event.DropLength:       "the length in its header is not the length of the packet",
	event.DropUnknownSPI:   "no IKE SA of ours has this SPI; if the peer has an IKE SA that we lost, its liveness checks or its next IKE_SA_INIT end that",
	event.DropNotInitiator: "it has no responder SPI but is not an IKE_SA_INIT request with message ID 0 and an initiator SPI",
	event.DropHalfOpen:     "too many half-open IKE SAs",
	event.DropRate:         "too many IKE_SA_INIT requests from this address",
	event.DropMailbox:      "too many messages wait to be processed",
}

// suspectTexts are about messages for an IKE SA of ours that no honest peer sends on a path that changes nothing.
var suspectTexts = [event.NumDrops]string{
	event.DropIntegrity:   "it does not authenticate with the keys of this IKE SA: it was changed on the way, or somebody else sent it",
	event.DropUnprotected: "it is not encrypted, as all messages after IKE_SA_INIT are; nothing changes by it",
	event.DropFragment:    "it is a fragment (RFC 7383), which was not negotiated",
	event.DropTooLarge:    "it is larger than a message of its kind may be",
}

// suspect raises the drop of such a message to what is logged by default, at the limited rate of all that strangers can cause: while a middlebox damages
// what the peer sends, there is nothing else to see but retransmissions.
func (s *shard) suspect(ev *event.Event) {
	if ev.Drop >= event.NumDrops || suspectTexts[ev.Drop] == "" {
		return
	}
	suppressed, ok := s.e.door.mayReport(time.Since(s.e.epoch))
	if !ok {
		return
	}
	ev.Level, ev.Text = event.Info, fmt.Sprintf("dropped an IKE message from %s (%s): %s", ev.Path.Peer(), ev.Drop, suspectTexts[ev.Drop])
	if suppressed > 0 {
		ev.Text += suppressedText(suppressed)
	}
}

func suppressedText(n int) string {
	return fmt.Sprintf(" (%d more reports about strangers were suppressed before this one)", n)
}

// initialRequest takes an IKE_SA_INIT request without a responder SPI. Cheap before costly, stateless before stateful: repeat, half-open count,
// cookie, rate, connection; only then is there an IKE SA.
func (s *shard) initialRequest(d transport.Datagram) {
	e := s.e
	if d.Path.Kind.Stream() && !e.streams.alive(d.Path) {
		e.dropped(s, event.DropClosed, d, "its connection has ended")
		return
	}
	key := repeatKey(e.seed, d)
	if a := s.repeats[key]; a != nil {
		s.datagram(d, a)
		return
	}
	h, err := wire.ParseHeader(d.Data)
	if err != nil {
		e.dropped(s, event.DropSyntax, d, err.Error())
		return
	}
	candidates, ok := s.admit(d, h)
	if !ok {
		return
	}
	a, rand, err := s.newSA(false, nil, d.Path)
	if err != nil {
		e.emit(s, event.Event{Level: event.Error, Path: d.Path, Text: err.Error()})
		return
	}
	if d.Path.Kind.Stream() && !s.ownStream(a, d.Path) {
		e.dropped(s, event.DropUnexpected, d, "an IKE_SA_INIT on a stream that belongs to another IKE SA; the stream is closed")
		s.e.breakStream(d.Path, errForeign)
		return
	}
	a.m = e.make.responder(e.machineConfig(a.spi, rand), candidates, d.Path)
	s.add(a)
	s.setHalfOpen(a, true)
	a.repeat = key
	s.repeats[key] = a
	s.step(a, machine.Datagram{Path: d.Path, Data: d.Data})
}

// repeatKey recognises a retransmission: the same octets from the same address (RFC 7296 2.1). Zero stands for none.
func repeatKey(seed maphash.Seed, d transport.Datagram) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	ip := d.Path.Remote.Addr().As16()
	h.Write(ip[:])
	h.Write(d.Data)
	return max(h.Sum64(), 1)
}

// admit says which connections may answer a stranger, or has dealt with it.
func (s *shard) admit(d transport.Datagram, h wire.Header) ([]*policy.Oriented, bool) {
	e := s.e
	view := e.view.Load()
	stream := d.Path.Kind.Stream()
	open := e.halfOpen.Load()
	switch {
	case e.closing.Load():
		e.dropped(s, event.DropClosed, d, "we are shutting down")
		return nil, false
	case open >= int64(view.maxHalfOpen()):
		e.dropped(s, event.DropHalfOpen, d, fmt.Sprintf("%d IKE SAs are half-open, and %s allows no more", open, view.setup.Where("max-halfopen-ike")))
		if stream {
			s.e.breakStream(d.Path, errCrowded)
		}
		return nil, false
	case view.wantsCookie(open, stream, e.workers.busy()) && !s.cookie(d, h):
		return nil, false
	case !stream && !s.sources.allow(time.Since(e.epoch), d.Path.Remote.Addr()):
		e.dropped(s, event.DropRate, d, "")
		return nil, false
	}
	candidates := view.candidates(d.Path)
	if len(candidates) == 0 {
		e.missed(view)
		e.dropped(s, event.DropNoConnection, d, "")
		e.notify(d, h, wire.Notify{Notify: iana.NO_PROPOSAL_CHOSEN})
		e.report(s, event.Event{At: d.At, Level: event.Info, Path: d.Path}, func() string { return view.whyNoCandidate(d.Path) })
		return nil, false
	}
	return candidates, true
}

// cookie reports whether a request carries a valid cookie; if not, it has been answered with one, or dropped.
func (s *shard) cookie(d transport.Datagram, h wire.Header) bool {
	m, err := wire.Parse(d.Data)
	if err != nil {
		s.e.dropped(s, event.DropSyntax, d, err.Error())
		return false
	}
	ni, ok := wire.Get[wire.Nonce](m.Payloads)
	if !ok {
		s.e.dropped(s, event.DropSyntax, d, "an IKE_SA_INIT request without nonce")
		return false
	}
	at, addr := time.Since(s.e.epoch), d.Path.Remote.Addr()
	// The cookie comes as the first payload (RFC 7296 2.6). One that does not match is as none.
	if n, ok := m.Payloads[0].Payload.(wire.Notify); ok && n.Notify == iana.COOKIE && s.e.cookies.valid(n.Data, at, h.InitiatorSPI, addr, ni.Data) {
		return true
	}
	s.e.counters.cookies.Add(1)
	s.e.reply(d, h, wire.Notify{Notify: iana.COOKIE, Data: s.e.cookies.make(at, h.InitiatorSPI, addr, ni.Data)})
	return false
}

// notify answers a stranger with an error, at a limited rate on datagrams.
func (e *Engine) notify(d transport.Datagram, h wire.Header, n wire.Notify) {
	if d.Path.Kind.Stream() || e.door.mayReply(time.Since(e.epoch)) {
		e.reply(d, h, n)
	}
}

// reply answers a request without any state. A stream stays open for the corrected request, as long as the transport lets a silent one (RFC 9329 6.3, 6.4).
func (e *Engine) reply(d transport.Datagram, h wire.Header, n wire.Notify) {
	m := wire.Message{
		Header: wire.Header{
			InitiatorSPI: h.InitiatorSPI, ResponderSPI: h.ResponderSPI, MajorVersion: 2, Exchange: h.Exchange,
			Flags: wire.FlagResponse, MessageID: h.MessageID,
		},
		Payloads: []wire.Item{{Payload: n}},
	}
	e.counters.stateless.Add(1)
	if err := e.mux.Send(d.Path, m.AppendTo(nil)); err != nil {
		e.counters.sendErrors.Add(1)
	}
}

// otherVersion deals with a major version that is not 2. A higher one is told ours (RFC 7296 2.5); IKEv1 is not answered.
func (e *Engine) otherVersion(major byte, d transport.Datagram) bool {
	if major > 2 && !looseHeader(d.Data).Response() {
		e.notify(d, looseHeader(d.Data), wire.Notify{Notify: iana.INVALID_MAJOR_VERSION})
	}
	return e.junk(event.DropMajorVersion, d, versionTexts[major&15])
}

// versionTexts is made once: strangers decide how often one is wanted.
var versionTexts = func() (t [16]string) {
	for major := range t {
		t[major] = fmt.Sprintf("its major version is %d, expected 2", major)
	}
	t[1] = "it is IKEv1, expected IKEv2 (major version 2); set keyexchange=ikev2 at the peer"
	return t
}()

// candidates are the connections for a stranger's path, best match first: those between its addresses that are for its port here.
func (v *view) candidates(p path.Path) []*policy.Oriented {
	list := v.between(p)
	if v.owned == nil {
		return list
	}
	var met []*policy.Oriented
	for _, o := range list {
		if v.meets(o, p) {
			met = append(met, o)
		}
	}
	return met
}

// between are the connections for two addresses, best match first: both addresses, then templates.
func (v *view) between(p path.Path) []*policy.Oriented {
	if linkLocal(p) {
		return nil
	}
	exact := v.exact[addrPair{p.Local.Addr(), p.Remote.Addr()}]
	templates := v.templates[p.Local.Addr()]
	if len(templates) == 0 {
		return exact
	}
	return append(slices.Clip(exact), templates...)
}

// linkLocal reports whether one of the two addresses is IPv6 link-local.
func linkLocal(p path.Path) bool {
	ours, theirs := p.Local.Addr(), p.Remote.Addr()
	return ours.Is6() && ours.IsLinkLocalUnicast() || theirs.Is6() && theirs.IsLinkLocalUnicast()
}

// whyNoCandidate tells the operator what was asked for and what is loaded.
func (v *view) whyNoCandidate(p path.Path) string {
	const most = 8
	if linkLocal(p) {
		return fmt.Sprintf("IKE_SA_INIT from %s to %s refused with NO_PROPOSAL_CHOSEN: link-local addresses mean something on one link only, and are not spoken to; "+
			"let the peer use a global or a unique local address", p.Peer(), p.Local)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "IKE_SA_INIT from %s to %s refused with NO_PROPOSAL_CHOSEN: no connection for these addresses%s is loaded; loaded: ", p.Peer(), p.Local, v.andPort(p))
	for i, c := range v.list {
		if i == most {
			fmt.Fprintf(&b, "; and %d more", len(v.list)-most)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%q %s", c.conn.Name, c.wants(v, p))
	}
	if len(v.list) == 0 {
		b.WriteString("none")
	}
	return b.String()
}

// andPort adds to "these addresses" what counts beside them.
func (v *view) andPort(p path.Path) string {
	if len(v.between(p)) == 0 {
		return ""
	}
	return fmt.Sprintf(" and port %d", p.Local.Port())
}

// wants says why a connection is not for a path, with the line to look at.
func (c *control) wants(v *view, p path.Path) string {
	o := c.oriented
	switch {
	case c.conn.IsShunt():
		return c.noIKE()
	case o == nil:
		return "is not oriented: " + c.peek().Why
	case o.LocalAddr.Is4() != p.Remote.Addr().Is4():
		return fmt.Sprintf("is for peers over %s: %s is us", ipVersion(o.LocalAddr), o.WhereHost(true))
	case o.LocalAddr != p.Local.Addr():
		return fmt.Sprintf("is for peers of %s: %s is us", o.LocalAddr, o.WhereHost(true))
	case o.Local.OwnPort() != 0 && !v.meets(o, p):
		return fmt.Sprintf("is for peers that come to port %d here (%s)", o.Local.OwnPort(), o.WhereEnd(true, "ikeport"))
	case !v.meets(o, p):
		return fmt.Sprintf("is not for port %d, which others have for themselves (%s)", p.Local.Port(), o.WhereEnd(true, "ikeport"))
	}
	return fmt.Sprintf("is for the peer %s", o.WhereHost(false))
}

func ipVersion(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

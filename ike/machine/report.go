package machine

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/pkg/wire"
)

// emit tells, with what every event of this machine has in common.
func (m *Machine) emit(e event.Event) {
	e.At, e.SA = m.time(), m.spi()
	if e.Conn == "" {
		e.Conn = m.connName()
	}
	if e.Path.IsZero() {
		e.Path = m.path
	}
	m.do(Emit{e})
}

// time is the present Step's time.
func (m *Machine) time() time.Time { return m.born.Add(time.Duration(m.now)) }

// connName is the connection, as far as it is known: a responder knows it from IKE_AUTH on, or when there is one candidate.
func (m *Machine) connName() string {
	switch {
	case m.conn != nil:
		return m.conn.Name
	case m.hs != nil && len(m.hs.candidates) == 1:
		return m.hs.candidates[0].Name
	}
	return ""
}

// emitEnd tells that the IKE SA is over, and why.
func (m *Machine) emitEnd(c event.Close) {
	level := event.Warn
	switch c.Reason {
	case event.ReasonOperator, event.ReasonShutdown, event.ReasonPeerDeleted, event.ReasonReplaced:
		level = event.Info
	case event.ReasonInternal:
		level = event.Error
	default:
	}
	text := c.Detail
	switch {
	case m.state == deleting:
		level, text = event.Info, fmt.Sprintf("IKE SA is gone (%v)", c.Reason) // why was told when it began
	case text == "":
		text = fmt.Sprintf("deleting IKE SA (%v): %v", m.state, c.Reason)
	}
	m.emit(event.Event{Level: level, Kind: event.KindIKEClosed, Text: text + m.untoldRefusals(), Close: &c})
}

// tellDeleting reports that an exchange begins which ends the IKE SA.
func (m *Machine) tellDeleting(c event.Close, what string) {
	level, text := event.Info, fmt.Sprintf("deleting IKE SA (%v)", c.Reason)
	if c.Detail != "" {
		level, text = event.Warn, c.Detail
	}
	m.emit(event.Event{Level: level, Text: fmt.Sprintf("%s; sending INFORMATIONAL request %s to %s", text, what, m.path.Peer())})
}

// where names the line that sets a keyword of a connection.
func where(c *policy.Oriented, keyword string) string { return c.Where(keyword) }

// whereEnd names the line that sets the first of these keywords for one end, such as leftid=, or for the connection.
func whereEnd(c *policy.Oriented, local bool, keywords ...string) string {
	return c.WhereEnd(local, keywords...)
}

func (m *Machine) where(keyword string) string { return where(m.conn, keyword) }

func (m *Machine) whereEnd(local bool, keywords ...string) string {
	return whereEnd(m.conn, local, keywords...)
}

// suiteText is the negotiated IKE SA as libreswan prints it.
func (m *Machine) suiteText() string { return m.suite.String() }

// keName is a key exchange method with the number that configurations use.
func keName(k iana.KE) string { return fmt.Sprintf("%v (DH%d)", k, uint16(k)) }

// idText prints an identity with its type, "FQDN '@east'".
func idText(id ident.ID) string {
	return fmt.Sprintf("%s '%v'", strings.TrimPrefix(id.Type.String(), "ID_"), id)
}

// authName is what an authentication method is called in "sent IKE_AUTH request ... with".
func authName(a iana.AuthMethod) string {
	if a == iana.AuthSharedKey {
		return "shared-key-mac"
	}
	return a.String()
}

// authBy is the value of authby= for a method.
func authBy(a iana.AuthMethod) string {
	if a == iana.AuthSharedKey {
		return "secret"
	}
	return a.String()
}

// most is how much of a list a line shows: a peer decides how many selectors it sends, and a gateway may have thousands of templates.
const most = 8

// few joins the first of a list.
func few(list []string) string {
	if len(list) > most {
		return fmt.Sprintf("%s; and %d more", strings.Join(list[:most], "; "), len(list)-most)
	}
	return strings.Join(list, "; ")
}

// tunnel prints what a child protects, [192.0.1.0/24===192.0.2.0/24].
func tunnel(local, remote ts.Set) string { return "[" + fewOf(local) + "===" + fewOf(remote) + "]" }

func fewOf(s ts.Set) string {
	if len(s) > most {
		return fmt.Sprintf("%v and %d more", s[:most], len(s)-most)
	}
	return s.String()
}

// names lists payloads as the RFC abbreviates them.
func names(items []wire.Item) string {
	var b strings.Builder
	for i, it := range items {
		if i == 16 {
			b.WriteString(",...")
			break
		}
		if i > 0 {
			b.WriteByte(',')
		}
		switch t := it.Type(); t {
		case iana.PayloadNotify:
			b.WriteByte('N')
		case iana.PayloadDelete:
			b.WriteByte('D')
		case iana.PayloadVendorID:
			b.WriteByte('V')
		default:
			b.WriteString(t.String())
		}
	}
	return b.String()
}

// tellChildUp reports an installed child, and deletes it at once if it is not wanted any more.
func (m *Machine) tellChildUp(c *child) {
	role := "initiator"
	if !c.asker {
		role = "responder"
	}
	if why := m.natIgnored(c.conn); why != "" {
		m.emit(event.Event{Level: event.Warn, Conn: c.conn.Name, Child: c.name(), Text: why})
	}
	carrier := c.path.Kind.Encapsulation()
	if c.suite.SN == iana.SN_ESN {
		carrier += "/ESN"
	}
	natd := ""
	if m.natLocal || m.natRemote {
		natd = fmt.Sprintf(" NATD=%s:%d", m.path.Remote.Addr(), m.path.Remote.Port())
	}
	dpd := "passive"
	if m.conn.Liveness > 0 {
		dpd = "active"
	}
	m.emit(event.Event{Level: event.Info, Kind: event.KindChildUp, Conn: c.conn.Name, Child: c.name(), Text: fmt.Sprintf(
		"%s established Child SA; IPsec %s %s {%s=>0x%08x <0x%08x xfrm=%s%s DPD=%s}%s",
		role, c.mode, tunnel(c.local, c.remote), carrier, c.spiOut, c.spiIn, c.suite.Transform(), natd, dpd, c.aside)})
	c.aside = ""
	if c.unwanted {
		m.deleteChild(c)
	}
}

func (m *Machine) tellChildClosed(c *child, why event.Close) {
	m.emit(event.Event{Level: event.Info, Kind: event.KindChildClosed, Conn: c.conn.Name, Child: c.name(), Text: why.Detail, Close: &why})
	if c.ending {
		m.tellRekeyed(c, c.request)
	}
}

// tellFallback reports the next rung of the ladder.
func (m *Machine) tellFallback(next path.Path) {
	m.emit(event.Event{Level: event.Info, Kind: event.KindFallback, Path: next, Text: fmt.Sprintf("trying %s next, with a new IKE_SA_INIT; %s",
		next.Peer(), m.hs.last.Detail)})
}

// timeoutReason says what was not answered, on which path, and what that usually means.
func (m *Machine) timeoutReason() event.Close {
	t := timing(m.conn).Timeout
	c := event.Close{Reason: event.ReasonTimeout, Remote: true}
	switch {
	case m.hs != nil && m.hs.last != nil:
		c = *m.hs.last // a hint, and nothing better came
		c.Detail += "; no better answer came"
	case m.state == initSent && m.hs.junk != "":
		c.Detail = fmt.Sprintf("%s; no other answer within %v", m.hs.junk, t)
	case m.state == keying:
		c = event.Close{Reason: event.ReasonInternal, Detail: fmt.Sprintf("computing the keys with %s took longer than %v", m.path.Peer(), t)}
	case m.path.Kind.Stream():
		c.Detail = fmt.Sprintf("no answer from %s to our %v request within %v: the peer accepted the connection, but no IKE message comes from it; does an IKE "+
			"daemon with TCP encapsulation (listen-tcp=) listen there?", m.path.Peer(), m.out.exchange, t)
		if m.state == authSent {
			c.Detail = fmt.Sprintf("no answer from %s to our IKE_AUTH request within %v: the peer answered IKE_SA_INIT and then fell silent", m.path.Peer(), t)
		}
	default:
		c.Detail = fmt.Sprintf("no answer from %s to our %v request: %v timeout after %d retransmissions%s", m.path.Peer(), m.out.exchange, t,
			m.out.retransmits, m.silenceAdvice())
	}
	return c
}

// silenceAdvice names the usual causes of silence over UDP.
func (m *Machine) silenceAdvice() string {
	switch {
	case m.state == initSent && m.conn.TCP.Mode == policy.TCPNo:
		return fmt.Sprintf("; UDP may be blocked on the way (enable-tcp=fallback would try TCP then; %s), or the peer does not run IKE, or has no connection for us",
			m.where("enable-tcp"))
	case m.state == initSent:
		return "; UDP may be blocked on the way, or the peer does not run IKE, or has no connection for us"
	case m.state == authSent && m.hs.hint != 0:
		return fmt.Sprintf("; an unprotected %v came, which anybody can forge", m.hs.hint)
	case m.state == authSent && m.path.Remote.Port() == iana.PortIKENATT && m.conn.Local.IKEPort == 0 && m.conn.Remote.IKEPort == 0:
		return "; it answered on port 500, so UDP 4500 may be blocked on the way, or large packets may be lost"
	case m.state == established:
		return "; the peer is gone"
	}
	return ""
}

func (m *Machine) halfOpenText() string {
	blocked := ""
	if !m.path.Kind.Stream() && m.path.Local.Port() == iana.PortIKE {
		blocked = fmt.Sprintf(", or UDP port %d, where that would have come to, is blocked on the way", iana.PortIKENATT)
	}
	return fmt.Sprintf("no IKE_AUTH request that authenticates came from %s within %v of its IKE_SA_INIT: the peer gave up, and its log says why%s", m.path.Peer(), m.cfg.HalfOpen,
		blocked)
}

// lostReason says that a stream has ended.
func (m *Machine) lostReason(err error) event.Close {
	why := ""
	if err != nil {
		why = ": " + err.Error()
	}
	return event.Close{Reason: event.ReasonPathFailed, Detail: fmt.Sprintf("the stream with %s ended%s", m.path.Peer(), why)}
}

func (m *Machine) lostAdvice() string {
	if m.initiator {
		return "; opening another, the SAs stay"
	}
	return "; the SAs stay until the peer opens another"
}

// refusedReason is an IKE_SA_INIT that was answered with an error.
func (m *Machine) refusedReason(n wire.Notify) event.Close {
	c := event.Close{Reason: event.ReasonPeerError, Notify: n.Notify, Remote: true}
	detail := ""
	switch n.Notify {
	case iana.NO_PROPOSAL_CHOSEN:
		c.Reason = event.ReasonNoProposal
		detail = fmt.Sprintf(": we offered ike=%v (%s), and the peer allows none of it, or has no connection for our address; its log says which",
			m.conn.IKE, m.where("ike"))
	case iana.INVALID_KE_PAYLOAD:
		c.Reason = event.ReasonNoProposal
		detail = m.wrongKE(n)
	case iana.INVALID_MAJOR_VERSION:
		detail = ": the peer does not speak IKEv2"
	case iana.INVALID_SYNTAX:
		c.Reason, detail = event.ReasonSyntax, ": the peer could not read our request"
	}
	c.Detail = fmt.Sprintf("%s answered our IKE_SA_INIT request with %v%s", m.path.Peer(), n.Notify, detail)
	return c
}

// wrongKE says what is wrong with the key exchange that the responder asked for.
func (m *Machine) wrongKE(n wire.Notify) string {
	wanted := "another key exchange"
	if len(n.Data) == 2 {
		wanted = keName(iana.KE(binary.BigEndian.Uint16(n.Data)))
	}
	if m.hs.retries >= maxRetries {
		return fmt.Sprintf(": it asked for another key exchange %d times, now for %s, and never took one; we offered ike=%v (%s)", maxRetries, wanted, m.conn.IKE, m.where("ike"))
	}
	return fmt.Sprintf(": it wants %s, which ike=%v (%s) does not offer", wanted, m.conn.IKE, m.where("ike"))
}

// authRejected is an IKE_AUTH that was answered with an error.
func (m *Machine) authRejected(n wire.Notify) event.Close {
	c := event.Close{
		Reason: event.ReasonPeerError, Notify: n.Notify, Remote: true,
		Detail: fmt.Sprintf("IKE SA authentication request rejected by peer %s: %v", m.path.Peer(), n.Notify),
	}
	if n.Notify == iana.AUTHENTICATION_FAILED {
		c.Reason = event.ReasonAuthRejected
		c.Detail += fmt.Sprintf("; we are %v (%s) and asked for %v (%s) with authby=%s%s: the pre-shared keys differ, or the peer has no connection for these "+
			"identities; its log says which", m.localID, m.whereEnd(true, "id"), m.conn.RemoteID(), m.whereEnd(false, "id"), authBy(m.conn.Local.Auth), m.usedSecret())
	}
	return c
}

// authFailed is a peer whose AUTH data did not verify.
func (m *Machine) authFailed(role string, err error) string {
	return fmt.Sprintf("%s %s as %v failed authentication against connection %q (%s): %v", role, m.path.Peer(), m.remoteID, m.conn.Name, m.conn.Position, err)
}

// expectedPeer is the peer's identity, or what it may be while that is not known.
func (m *Machine) expectedPeer() string {
	if m.remoteID.IsZero() {
		return m.conn.RemoteID().String()
	}
	return m.remoteID.String()
}

func (m *Machine) wrongResponderID(got ident.ID, want ident.Pattern) string {
	return fmt.Sprintf("responder %s is %v, but connection %q asks for %v (%s): one of the two has to change", m.path.Peer(), idText(got), m.conn.Name, want,
		m.whereEnd(false, "id"))
}

// childRejected is a Child SA that the responder refused.
func (m *Machine) childRejected(c *child, n wire.Notify, told bool, x iana.Exchange) event.Close {
	local, remote := c.offer.local, c.offer.remote
	r := event.Close{Reason: event.ReasonPeerError, Notify: n.Notify, Remote: true}
	if !told {
		r.Reason, r.Detail = event.ReasonProtocol, fmt.Sprintf("peer %s answered %v without a Child SA and without saying why", m.path.Peer(), x)
		return r
	}
	why := ""
	switch n.Notify {
	case iana.NO_PROPOSAL_CHOSEN:
		r.Reason = event.ReasonNoProposal
		esp, lacking := m.carried(target{c.conn, c.index})
		why = fmt.Sprintf(": we offered esp=%v (%s), and the peer allows none of it: its esp=, esn=, pfs= or type= is another, or its kernel lacks an algorithm; "+
			"its log names the first difference%s", esp, where(c.conn, "esp"), butFor(lacking))
	case iana.NO_ADDITIONAL_SAS:
		why = ": it takes no more of them, or could not put it into its kernel; its log says why"
	case iana.TEMPORARY_FAILURE:
		why = ": it cannot make one now; its log says why"
	case iana.TS_UNACCEPTABLE:
		r.Reason = event.ReasonTSUnacceptable
		why = fmt.Sprintf(": we asked for %s (%s, %s), and the peer's connection has other subnets or protocols, or needs narrowing=yes; its log names the first difference",
			tunnel(local, remote), whereSubnet(c.conn, true), whereSubnet(c.conn, false))
	}
	r.Detail = fmt.Sprintf("peer %s refused Child SA %q with %v%s; the IKE SA stays", m.path.Peer(), c.name(), n.Notify, why)
	return r
}

// peerError is an error notification that ends the IKE SA.
func (m *Machine) peerError(n wire.Notify) event.Close {
	c := event.Close{Reason: event.ReasonPeerError, Notify: n.Notify, Remote: true, Detail: fmt.Sprintf("peer %s ended the IKE SA with %v", m.path.Peer(), n.Notify)}
	if n.Notify == iana.AUTHENTICATION_FAILED {
		c.Reason = event.ReasonAuthRejected
		c.Detail += fmt.Sprintf(": it did not accept us as %v (%s)", m.localID, m.whereEnd(true, "id"))
	}
	return c
}

// usedSecret names the record of ipsec.secrets that our AUTH data was made with.
func (m *Machine) usedSecret() string {
	if m.hs == nil || m.hs.signed == nil || m.hs.signed.Used == "" {
		return ""
	}
	return " and the secret of " + m.hs.signed.Used
}

// lingerLeft is what is left of the time that the owner gave us to end.
func (m *Machine) lingerLeft() time.Duration { return time.Duration(max(m.clock.linger-m.now, 1)) }

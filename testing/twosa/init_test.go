package twosa

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
)

// answerClear makes an unprotected answer to the last message that from's peer sent.
func answerClear(from *Host, items ...wire.Item) Packet {
	to := from.Peer().Sent[len(from.Peer().Sent)-1]
	h := to.Header()
	h.Flags = wire.FlagResponse
	msg := wire.Message{Header: h, Payloads: items}
	return Packet{Path: reversed(to.Path), Data: msg.AppendTo(nil)}
}

// sentPayloads parses the last message that a host sent in clear.
func sentPayloads(t *testing.T, h *Host) []wire.Item {
	t.Helper()
	m, err := wire.Parse(h.Sent[len(h.Sent)-1].Data)
	if err != nil {
		t.Fatal(err)
	}
	return m.Payloads
}

func TestCookie(t *testing.T) {
	for _, stream := range []bool{false, true} {
		w := Pair(1, nil, nil)
		p := w.West.UDP()
		if stream {
			p = w.West.TCP()
		}
		w.West.Initiate(p)
		first := sentPayloads(t, w.West)
		w.West.Lose()
		cookie := bytes.Repeat([]byte{0xc0}, 64)
		w.East.Inject(answerClear(w.East, Notify(iana.COOKIE, cookie...)))
		if got := len(w.West.Out); got != 1 {
			t.Fatalf("%d requests after the cookie", got)
		}
		again := sentPayloads(t, w.West)
		if n, ok := again[0].Payload.(wire.Notify); !ok || n.Notify != iana.COOKIE || !bytes.Equal(n.Data, cookie) {
			t.Errorf("the cookie is not first: %v", again[0])
		}
		if !bytes.Equal(wire.AppendChain(nil, again[1:]), wire.AppendChain(nil, first)) {
			t.Error("other payloads changed with the cookie (RFC 7296 2.6)")
		}
		if w.West.Out[0].Header().MessageID != 0 {
			t.Error("Message ID is not zero")
		}
		// The same cookie again is the same answer again.
		before := w.West.Drops
		w.East.Inject(answerClear(w.East, Notify(iana.COOKIE, cookie...)))
		dropped(t, w.West, before, event.DropDuplicate)
		w.Settle()
		agreed(t, w)
	}
}

func TestCookieSize(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.Initiate(w.West.UDP())
	for _, n := range []int{0, 65} {
		before := w.West.Drops
		unchanged(t, w.West, func() { w.East.Inject(answerClear(w.East, Notify(iana.COOKIE, make([]byte, n)...))) })
		dropped(t, w.West, before, event.DropSyntax)
	}
}

// TestCookieFlood shows that forged cookies cost a bounded number of requests.
func TestCookieFlood(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.Initiate(w.West.UDP())
	for i := range 100 {
		w.East.Inject(answerClear(w.East, Notify(iana.COOKIE, byte(i))))
	}
	if n := len(w.West.Sent); n > 10 {
		t.Errorf("%d requests for 100 forged cookies", n)
	}
	if s := w.West.M.Snapshot().State; s != "IKE_SA_INIT sent" {
		t.Errorf("west is %s", s)
	}
}

func TestInvalidKE(t *testing.T) {
	for _, stream := range []bool{false, true} {
		w := Pair(1, func(c *policy.Connection) { c.IKE = IKE("aes_gcm256-sha2_512-dh31+dh19") },
			func(c *policy.Connection) { c.IKE = IKE("aes_gcm256-sha2_512-dh19") })
		p := w.West.UDP()
		if stream {
			p = w.West.TCP()
		}
		w.West.Initiate(p)
		w.West.Deliver()
		if h := w.East.Out[0].Header(); h.ResponderSPI != 0 {
			t.Errorf("responder SPI is %x in INVALID_KE_PAYLOAD, expected zero (RFC 7296 2.6)", h.ResponderSPI)
		}
		closedFor(t, w.East, event.ReasonReplaced, iana.INVALID_KE_PAYLOAD)
		w.Settle()
		agreed(t, w)
		if ke := w.West.M.Snapshot().Suite.KE; ke != iana.KE_ECP256 {
			t.Errorf("key exchange is %v", ke)
		}
	}
}

// TestCookieThenInvalidKE is the shorter exchange of RFC 7296 2.6.1: the cookie stays in the request that follows INVALID_KE_PAYLOAD.
func TestCookieThenInvalidKE(t *testing.T) {
	w := Pair(1, func(c *policy.Connection) { c.IKE = IKE("aes_gcm256-sha2_512-dh31+dh19") },
		func(c *policy.Connection) { c.IKE = IKE("aes_gcm256-sha2_512-dh19") })
	w.West.Initiate(w.West.UDP())
	w.West.Lose()
	w.East.Inject(answerClear(w.East, Notify(iana.COOKIE, 1, 2, 3)))
	w.West.Deliver()
	w.East.Deliver() // INVALID_KE_PAYLOAD
	items := sentPayloads(t, w.West)
	if n, ok := items[0].Payload.(wire.Notify); !ok || n.Notify != iana.COOKIE {
		t.Error("the cookie is gone from the next request")
	}
	if ke, _ := wire.Get[wire.KE](items); ke.Method != iana.KE_ECP256 {
		t.Errorf("KE is for %v", ke.Method)
	}
	w.Settle()
	agreed(t, w)
}

// TestInvalidKENotOffered shows that a group that was not offered is not taken, whoever asks for it.
func TestInvalidKENotOffered(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.Initiate(w.West.UDP())
	before := w.West.Drops
	unchanged(t, w.West, func() { w.East.Inject(answerClear(w.East, Notify(iana.INVALID_KE_PAYLOAD, 0, byte(iana.KE_MODP1024)))) })
	dropped(t, w.West, before, event.DropIgnoredError)
	before = w.West.Drops
	unchanged(t, w.West, func() { w.East.Inject(answerClear(w.East, Notify(iana.INVALID_KE_PAYLOAD, 0))) })
	dropped(t, w.West, before, event.DropSyntax)
	w.Settle()
	agreed(t, w)
}

// TestErrorIsHintOverUDP: an error over UDP may be forged, so a good answer is still taken; without one it is the reason in the end (RFC 7296 2.21.1).
func TestErrorIsHintOverUDP(t *testing.T) {
	for _, n := range []iana.Notify{iana.NO_PROPOSAL_CHOSEN, iana.INVALID_MAJOR_VERSION, iana.INVALID_SYNTAX, iana.AUTHENTICATION_FAILED} {
		w := Pair(1, nil, nil)
		w.West.Initiate(w.West.UDP())
		before := w.West.Drops
		unchanged(t, w.West, func() { w.East.Inject(answerClear(w.East, Notify(n))) })
		dropped(t, w.West, before, event.DropIgnoredError)
		w.Settle()
		agreed(t, w)
	}
}

func TestErrorIsFinalOverTCP(t *testing.T) {
	for n, r := range map[iana.Notify]event.Reason{
		iana.NO_PROPOSAL_CHOSEN: event.ReasonNoProposal, iana.INVALID_MAJOR_VERSION: event.ReasonPeerError,
		iana.INVALID_SYNTAX: event.ReasonSyntax,
	} {
		w := Pair(1, nil, nil)
		w.West.Initiate(w.West.TCP())
		w.East.Inject(answerClear(w.East, Notify(n)))
		if len(w.West.NeedPaths) != 1 || w.West.NeedPaths[0].Why.Reason != r {
			t.Errorf("%v: %+v", n, w.West.NeedPaths)
		}
		said(t, w.West, "answered our IKE_SA_INIT request with "+n.String())
	}
}

func TestNoIKEProposal(t *testing.T) {
	w := Pair(1, func(c *policy.Connection) { c.IKE = IKE("aes_gcm128-sha2_256-dh31") }, nil)
	w.West.Initiate(w.West.UDP())
	w.Settle()
	closedFor(t, w.East, event.ReasonNoProposal, iana.NO_PROPOSAL_CHOSEN)
	said(t, w.East, "192.1.2.45", "west-east", "offered AES_GCM_16_128", "allowed AES_GCM_16_256", "ipsec.conf:12", "sent NO_PROPOSAL_CHOSEN")
	said(t, w.West, "192.1.2.23", "NO_PROPOSAL_CHOSEN", "ike=", "ipsec.conf:12")
	w.Run(4 * time.Second)
	if len(w.West.NeedPaths) != 0 {
		t.Fatal("gave up at once on an answer that anybody can forge")
	}
	w.Run(2 * time.Second)
	if len(w.West.NeedPaths) != 1 {
		t.Fatalf("still waiting for a better answer after 6 s of a timeout of 30 s: %v", w.West.NeedPaths)
	}
	if why := w.West.NeedPaths[0].Why; why.Reason != event.ReasonNoProposal || why.Notify != iana.NO_PROPOSAL_CHOSEN || !why.Remote {
		t.Errorf("the hint is not the reason: %+v", why)
	}
}

// TestInitCritical: an unknown critical payload in the request is refused by name of its type, in a response it makes the response void (RFC 7296 2.5).
func TestInitCritical(t *testing.T) {
	unknown := wire.Item{Payload: wire.Unknown{PayloadType: 200, Data: []byte{1}}, Critical: true}
	w := Pair(1, nil, nil)
	w.West.Initiate(w.West.UDP())
	p := w.West.Out[0]
	msg, _ := wire.Parse(p.Data)
	msg.Payloads = append(msg.Payloads, unknown)
	w.West.Inject(Packet{Path: p.Path, Data: msg.AppendTo(nil)})
	closedFor(t, w.East, event.ReasonSyntax, iana.UNSUPPORTED_CRITICAL_PAYLOAD)
	n, ok := wire.Get[wire.Notify](sentPayloads(t, w.East))
	if !ok || n.Notify != iana.UNSUPPORTED_CRITICAL_PAYLOAD || !bytes.Equal(n.Data, []byte{200}) {
		t.Errorf("answer is %v", n)
	}
	// Not critical: skipped.
	msg.Payloads[len(msg.Payloads)-1].Critical = false
	w.East.Out = nil
	w.West.Inject(Packet{Path: p.Path, Data: msg.AppendTo(nil)})
	if s := w.East.M.Snapshot().State; s != "half-open" {
		t.Errorf("east is %s", s)
	}
	response, _ := wire.Parse(w.East.Out[0].Data)
	response.Payloads = append(response.Payloads, unknown)
	before := w.West.Drops
	unchanged(t, w.West, func() { w.East.Inject(Packet{Path: w.East.Out[0].Path, Data: response.AppendTo(nil)}) })
	dropped(t, w.West, before, event.DropSyntax)
}

// TestInitResponseUnreadable: a responder whose answers make no sense is not called silent.
func TestInitResponseUnreadable(t *testing.T) {
	for _, stream := range []bool{false, true} {
		w, p, m := answered(t, stream)
		lines := len(w.West.Lines())
		data := m.AppendTo(nil)
		data[wire.HeaderLen+3]++ // the SA payload is longer than what it holds
		for range 5 {
			w.East.Inject(Packet{Path: p.Path, Data: data})
		}
		if n := len(w.West.Lines()) - lines; n != 1 {
			t.Errorf("stream %v: %d lines about five answers", stream, n)
		}
		said(t, w.West, "IKE_SA_INIT response from 192.1.2.23", "cannot be read", "payload SA at octet 68")
		w.Now = w.Now.Add(30 * time.Second)
		w.West.Step(machine.Tick{})
		if len(w.West.NeedPaths) != 1 {
			t.Fatalf("stream %v: %s", stream, w.West.M.Snapshot().State)
		}
		why := w.West.NeedPaths[0].Why
		if why.Reason != event.ReasonTimeout || !strings.Contains(why.Detail, "payload SA at octet 68") || strings.Contains(why.Detail, "silent") || strings.Contains(why.Detail, "blocked") {
			t.Errorf("stream %v: %+v", stream, why)
		}
	}
}

// TestInitMalformed: a request that cannot be read is told so, without an IKE SA.
func TestInitMalformed(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.Initiate(w.West.UDP())
	p := w.West.Out[0]
	msg, _ := wire.Parse(p.Data)
	for name, items := range map[string][]wire.Item{
		"no KE":     {msg.Payloads[0], msg.Payloads[2]},
		"two SA":    {msg.Payloads[0], msg.Payloads[0], msg.Payloads[1], msg.Payloads[2]},
		"short KE":  {msg.Payloads[0], {Payload: wire.KE{Method: iana.KE_CURVE25519, Data: []byte{1}}}, msg.Payloads[2]},
		"zero KE":   {msg.Payloads[0], {Payload: wire.KE{Method: iana.KE_CURVE25519, Data: make([]byte, 31)}}, msg.Payloads[2]},
		"no SA":     {msg.Payloads[1], msg.Payloads[2]},
		"only N":    {Notify(iana.COOKIE, 1)},
		"nothing":   {},
		"short Ni":  {msg.Payloads[0], msg.Payloads[1], {Payload: wire.Nonce{Data: make([]byte, 15)}}},
		"two nonce": {msg.Payloads[0], msg.Payloads[1], msg.Payloads[2], msg.Payloads[2]},
	} {
		t.Run(name, func(t *testing.T) {
			w.East.Closed = &event.Close{}
			m := wire.Message{Header: msg.Header, Payloads: items}
			w.West.Inject(Packet{Path: p.Path, Data: m.AppendTo(nil)})
			closedFor(t, w.East, event.ReasonSyntax, iana.INVALID_SYNTAX)
			n, ok := wire.Get[wire.Notify](sentPayloads(t, w.East))
			if !ok || n.Notify != iana.INVALID_SYNTAX {
				t.Errorf("answer is %v", n)
			}
		})
	}
}

// TestBadPublicValueFromResponder: over UDP a forged answer with a public value of no use does not end the attempt.
func TestBadPublicValueFromResponder(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.Initiate(w.West.UDP())
	w.West.Deliver()
	good := w.East.Out[0]
	msg, _ := wire.Parse(good.Data)
	for i, it := range msg.Payloads {
		if ke, ok := it.Payload.(wire.KE); ok {
			msg.Payloads[i].Payload = wire.KE{Method: ke.Method, Data: make([]byte, len(ke.Data))} // all-zero X25519
		}
	}
	w.East.Inject(Packet{Path: good.Path, Data: msg.AppendTo(nil)})
	if s := w.West.M.Snapshot(); s.State != "IKE_SA_INIT sent" || s.SPIr != 0 {
		t.Fatalf("west is %s with %x", s.State, s.SPIr)
	}
	if w.West.M.Deadline().Sub(w.Now) > time.Second {
		t.Error("the request is not repeated any more")
	}
	w.Settle()
	agreed(t, w)
}

func TestResponseNotOffered(t *testing.T) {
	w := Pair(1, nil, func(c *policy.Connection) { c.IKE = IKE("aes_gcm128-sha2_256-dh31") })
	w.West.Initiate(w.West.UDP())
	// East answers as if it had been offered what it allows.
	msg, _ := wire.Parse(w.West.Out[0].Data)
	msg.Payloads[0].Payload = w.East.Conn.IKE.Offer(iana.ProtoIKE, nil, true)
	w.West.Inject(Packet{Path: w.West.Out[0].Path, Data: msg.AppendTo(nil)})
	before := w.West.Drops
	unchanged(t, w.West, func() { w.East.Deliver() })
	dropped(t, w.West, before, event.DropIgnoredError)
	said(t, w.West, "192.1.2.23", "not offered", "ipsec.conf:12")
}

func TestNATDetection(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.Initiate(w.West.UDP())
	w.Settle()
	for _, h := range []*Host{w.West, w.East} {
		if s := h.M.Snapshot(); s.NATLocal || !s.NATRemote {
			t.Errorf("%s: behind a NAT %v, peer %v; expected only the forced one", h.Name, s.NATLocal, s.NATRemote)
		}
		if len(h.KeepAlives) != 0 {
			t.Errorf("%s sends keepalives without a NAT", h.Name)
		}
	}
}

// TestBehindNAT: west is behind a NAT that changes address and ports. West finds out and sends keepalives; east answers to where the packets come from.
func TestBehindNAT(t *testing.T) {
	w := Pair(1, nil, nil)
	nat := NAT{Inside: WestAddr, Outside: addr("203.0.113.9"), First: 30000}
	w.Net = nat.Translate
	w.West.Initiate(w.West.UDP())
	w.Settle()
	agreed(t, w)
	if s := w.West.M.Snapshot(); !s.NATLocal {
		t.Error("west does not know that it is behind a NAT")
	}
	if s := w.East.M.Snapshot(); s.NATLocal || !s.NATRemote || s.Path.Remote.Addr() != nat.Outside {
		t.Errorf("east: %+v", s)
	}
	if len(w.West.KeepAlives) != 1 || !w.West.KeepAlives[0].On || w.West.KeepAlives[0].Path.Local.Port() != iana.PortIKENATT {
		t.Errorf("west's keepalives: %+v", w.West.KeepAlives)
	}
	if len(w.East.KeepAlives) != 0 {
		t.Error("east sends keepalives and is not behind the NAT")
	}
}

// TestStreamHashesAreRight: on a stream encapsulation is not forced, so a NAT is only seen where there is one (RFC 9329 6.5).
func TestStreamHashesAreRight(t *testing.T) {
	w := upTCP(t)
	for _, h := range []*Host{w.West, w.East} {
		if s := h.M.Snapshot(); s.NATLocal || s.NATRemote {
			t.Errorf("%s sees a NAT: %+v", h.Name, s)
		}
		if k := h.M.Snapshot().Path.Kind; k != path.TCP {
			t.Errorf("%s is on %v", h.Name, k)
		}
	}
}

// TestNoNATTraversal: a responder that knows nothing of NAT traversal cannot have ESP in UDP.
func TestNoNATTraversal(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.Initiate(w.West.UDP())
	w.West.Deliver()
	msg, _ := wire.Parse(w.East.Out[0].Data)
	msg.Payloads = msg.Payloads[:3]
	w.East.Inject(Packet{Path: w.East.Out[0].Path, Data: msg.AppendTo(nil)})
	said(t, w.West, "192.1.2.23", "NAT_DETECTION", "enable-tcp=yes")
}

// TestKeyExchangeMethods runs each method once, and each PRF and cipher.
func TestKeyExchangeMethods(t *testing.T) {
	for _, ike := range []string{
		"aes_gcm128-sha2_256-dh14", "aes_gcm256-sha2_384-dh19", "aes256-sha2_512-dh20", "aes128-sha2_256-dh21",
		"chacha20_poly1305-sha2_512-dh31", "aes_gcm256-sha2_256-dh15", "aes_gcm256-sha2_256-dh16",
		"aes_ccm256-sha2_256-dh32", "aes_ccm128-sha1-dh17", "aes192-sha1-dh18", "aes256-sha1-modp1024", "aes128gcm16-prfsha256-modp1536",
	} {
		t.Run(ike, func(t *testing.T) {
			set := func(c *policy.Connection) { c.IKE = IKE(ike) }
			w := Pair(3, set, set)
			w.West.Initiate(w.West.UDP())
			w.Settle()
			agreed(t, w)
		})
	}
}

// TestNotAnInitialRequest: what makes no IKE SA leaves no machine behind, and a request that is too large to keep is not kept.
func TestNotAnInitialRequest(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.Initiate(w.West.UDP())
	p := w.West.Out[0]
	large, _ := wire.Parse(p.Data)
	large.Payloads = append(large.Payloads, wire.Item{Payload: wire.VendorID{Data: make([]byte, 8192)}})
	for d, change := range map[event.Drop]func([]byte) []byte{
		event.DropTooLarge:     func([]byte) []byte { return large.AppendTo(nil) },
		event.DropUnexpected:   func(b []byte) []byte { b[19] = 0; return b },
		event.DropMajorVersion: func(b []byte) []byte { b[17] = 0x30; return b },
		event.DropNotInitiator: func(b []byte) []byte { clear(b[:8]); return b },
	} {
		w.East.M, w.East.Closed = nil, nil
		before := w.East.Drops
		w.West.Inject(Packet{Path: p.Path, Data: change(bytes.Clone(p.Data))})
		dropped(t, w.East, before, d)
		if w.East.Closed == nil || len(w.East.Out) != 0 {
			t.Errorf("%v: closed %v, answers %v", d, w.East.Closed, w.East.Out)
		}
	}
}

// TestManyCandidates: a thousand templates that allow the same are asked once when the offer does not fit, and one that differs is found behind them.
func TestManyCandidates(t *testing.T) {
	w := Pair(1, func(c *policy.Connection) { c.IKE = IKE("aes_gcm128-sha2_256-dh31") }, nil)
	for range 1000 {
		w.East.Candidates = append(w.East.Candidates, Oriented(Connection(), false))
	}
	w.West.Initiate(w.West.UDP())
	w.West.Deliver()
	closedFor(t, w.East, event.ReasonNoProposal, iana.NO_PROPOSAL_CHOSEN)
	if n := strings.Count(w.East.Closed.Detail, "allowed AES"); n != 2 { // the first difference, and all that is allowed
		t.Errorf("asked more than once: %s", w.East.Closed.Detail)
	}
	last := Connection()
	last.Name, last.IKE = "last", w.West.Conn.IKE
	w.East.Candidates = append(w.East.Candidates, Oriented(last, false))
	w.East.Out = nil
	w.West.Initiate(w.West.UDP())
	w.West.Out = w.West.Out[len(w.West.Out)-1:]
	w.Settle()
	if s := w.East.M.Snapshot(); s.State != "established" || s.Conn != "last" {
		t.Errorf("east: %+v", s)
	}
}

// TestStreamClosedWithTheQuestion: libreswan closes the TCP connection on which it has asked for a cookie or for another key exchange, as a responder that wants
// to stay stateless does (RFC 9329 6.3). The initiator repeats its request, as the same IKE SA, on another connection.
func TestStreamClosedWithTheQuestion(t *testing.T) {
	for name, question := range map[string]wire.Item{
		"cookie":     Notify(iana.COOKIE, 1, 2, 3, 4),
		"invalid KE": Notify(iana.INVALID_KE_PAYLOAD, 0, byte(iana.KE_ECP256)),
	} {
		t.Run(name, func(t *testing.T) {
			begin := func() (w *World, first Packet) {
				w = Pair(1, func(c *policy.Connection) { c.IKE = IKE("aes_gcm256-sha2_512-dh31+dh19") }, func(c *policy.Connection) { c.IKE = IKE("aes_gcm256-sha2_512-dh19") })
				p := w.West.TCP()
				w.West.Initiate(p)
				first = w.West.Out[0]
				w.West.Lose()
				w.East.Inject(answerClear(w.East, question))
				w.West.Lose() // what goes out is not read any more
				w.West.Step(machine.PathLost{Path: p, Err: errors.New("EOF")})
				if n := w.West.NeedPaths; len(n) != 1 || !n[0].Again || n[0].Last != p || len(w.West.Out) != 0 {
					t.Fatalf("%+v", n)
				}
				return w, first
			}
			again := func(w *World) path.Path {
				p := w.West.TCP()
				p.Local = netip.AddrPortFrom(p.Local.Addr(), p.Local.Port()+1)
				w.West.Step(machine.PathReady{Path: p, SPI: w.West.SPI()})
				return p
			}

			w, first := begin()
			p := again(w)
			h := w.West.Out[0].Header()
			if h.InitiatorSPI != first.Header().InitiatorSPI || w.West.Out[0].Path != p {
				t.Errorf("not the same IKE SA on the other connection: %+v", h)
			}
			w.Settle()
			agreed(t, w)

			// One connection for a question: it does not go on for ever.
			w, _ = begin()
			p = again(w)
			w.West.Lose()
			w.West.Step(machine.PathLost{Path: p, Err: errors.New("EOF")})
			if n := w.West.NeedPaths; len(n) != 2 || n[1].Again || n[1].Why.Reason != event.ReasonPathFailed {
				t.Errorf("%+v", n)
			}

			// No other connection: that rung of the ladder has failed, and there may be others.
			w, _ = begin()
			w.West.Step(machine.NoPath{Err: errors.New("connection refused")})
			if n := w.West.NeedPaths; len(n) != 2 || n[1].Again || !containsAll(n[1].Why.Detail, []string{"the stream with", "ended", "connection refused"}) {
				t.Errorf("%+v", n)
			}

			// Nobody wants it any more.
			w, _ = begin()
			w.West.Step(machine.CloseIKE{Reason: event.ReasonOperator})
			if w.West.Closed == nil {
				t.Error("it is not closed")
			}
		})
	}
}

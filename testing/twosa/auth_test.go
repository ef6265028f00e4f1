package twosa

import (
	"errors"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/wire"
)

func TestWrongPSK(t *testing.T) {
	w := Pair(1, nil, nil)
	w.East.Secrets = Store("something else")
	w.West.Initiate(w.West.UDP())
	w.Settle()
	closedFor(t, w.East, event.ReasonAuthFailed, iana.AUTHENTICATION_FAILED)
	closedFor(t, w.West, event.ReasonAuthRejected, iana.AUTHENTICATION_FAILED)
	said(t, w.East, "192.1.2.45", "@west", "failed authentication", `"west-east"`, "pre-shared keys", "differ", "ipsec.secrets:3")
	said(t, w.West, "rejected by peer 192.1.2.23", "AUTHENTICATION_FAILED", "@west", "leftid= of ipsec.conf:6", "@east", "rightid= of ipsec.conf:9")
	if len(w.East.Proved) != 0 {
		t.Error("east takes west for authenticated")
	}
}

// TestResponderWithWrongPSK: the responder accepts the initiator, and the initiator does not accept the responder: it says so (RFC 7296 2.21.2).
func TestResponderWithWrongPSK(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.Initiate(w.West.UDP())
	w.West.Deliver()
	w.East.Deliver()
	w.West.Deliver()
	w.West.Secrets = Store("something else") // east used the right one, west verifies with another
	w.East.Deliver()
	if s := w.West.M.Snapshot().State; s != "deleting" {
		t.Fatalf("west is %s", s)
	}
	if s := w.East.M.Snapshot().State; s != "established" {
		t.Fatalf("east is %s", s)
	}
	w.Settle()
	closedFor(t, w.West, event.ReasonAuthFailed, iana.AUTHENTICATION_FAILED)
	closedFor(t, w.East, event.ReasonAuthRejected, iana.AUTHENTICATION_FAILED)
	said(t, w.West, "responder 192.1.2.23", "@east", "failed authentication", "differ")
	said(t, w.East, "192.1.2.45", "AUTHENTICATION_FAILED", "did not accept us as @east")
	if len(w.West.Proved) != 0 {
		t.Error("west takes east for authenticated")
	}
}

func TestNoSecret(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.Secrets = nil
	w.West.FailJob = nil
	w.West.Hold = func(e machine.Effect) bool { j, ok := e.(machine.Job); return ok && j.Sign != nil }
	w.West.Initiate(w.West.UDP())
	w.Settle()
	w.West.FailJob = errors.New("no secret for @west and @east")
	w.West.Complete()
	closedFor(t, w.West, event.ReasonAuthFailed, iana.AUTHENTICATION_FAILED)
	said(t, w.West, "cannot authenticate ourselves", "no secret for @west and @east")
	if n := len(w.West.Sent); n != 1 {
		t.Errorf("%d messages sent, expected IKE_SA_INIT alone", n)
	}
}

// TestSignFails: a responder that cannot sign says AUTHENTICATION_FAILED.
func TestSignFails(t *testing.T) {
	w := Pair(1, nil, nil)
	w.East.Hold = func(e machine.Effect) bool { j, ok := e.(machine.Job); return ok && j.Sign != nil }
	w.West.Initiate(w.West.UDP())
	w.Settle()
	w.East.FailJob = errors.New("key is gone")
	w.East.Complete()
	w.Settle()
	closedFor(t, w.East, event.ReasonAuthFailed, iana.AUTHENTICATION_FAILED)
	closedFor(t, w.West, event.ReasonAuthRejected, iana.AUTHENTICATION_FAILED)
}

func TestWrongInitiatorID(t *testing.T) {
	w := Pair(1, func(c *policy.Connection) { c.Left.ID = ident.Pattern{ID: ID("@wrong")} }, nil)
	w.West.Initiate(w.West.UDP())
	w.Settle()
	closedFor(t, w.East, event.ReasonNoConnection, iana.AUTHENTICATION_FAILED)
	closedFor(t, w.West, event.ReasonAuthRejected, iana.AUTHENTICATION_FAILED)
	said(t, w.East, "192.1.2.45", "@wrong", "fits no connection", `"west-east"`, "its peer must be @west", "leftid= of ipsec.conf:6")
}

func TestWrongIDrAskedFor(t *testing.T) {
	w := Pair(1, func(c *policy.Connection) { c.Right.ID = ident.Pattern{ID: ID("@other")} }, nil)
	w.West.Initiate(w.West.UDP())
	w.Settle()
	closedFor(t, w.East, event.ReasonNoConnection, iana.AUTHENTICATION_FAILED)
	said(t, w.East, "asking for @other", "we are @east there", "rightid= of ipsec.conf:9")
}

// TestWrongResponderID: the responder uses another identity than the initiator's connection asks for.
func TestWrongResponderID(t *testing.T) {
	w := Pair(1, func(c *policy.Connection) { c.Right.ID = ident.Pattern{} }, nil) // its address, and no IDr sent
	w.West.Initiate(w.West.UDP())
	w.Settle()
	closedFor(t, w.West, event.ReasonAuthFailed, iana.AUTHENTICATION_FAILED)
	closedFor(t, w.East, event.ReasonAuthRejected, iana.AUTHENTICATION_FAILED)
	said(t, w.West, "FQDN '@east'", "asks for 192.1.2.23", "west-east")
}

// TestChooseByIdentity: two connections for the same addresses, told apart by the identities (the second is right), and the log names why not the first.
func TestChooseByIdentity(t *testing.T) {
	w := Pair(1, nil, nil)
	other := Connection()
	other.Name, other.Left.ID = "other", ident.Pattern{ID: ID("@north")}
	w.East.Candidates = []*policy.Oriented{Oriented(other, false), w.East.Conn}
	w.West.Initiate(w.West.UDP())
	w.Settle()
	agreed(t, w)
	if s := w.East.M.Snapshot(); s.Conn != "west-east" || s.Remote != ID("@west") || s.Local != ID("@east") {
		t.Errorf("east chose %s: %v, %v", s.Conn, s.Remote, s.Local)
	}
}

// TestChooseBySuite: the connection with the right identities does not allow what was negotiated for another; that is a refusal that names both.
func TestChooseBySuite(t *testing.T) {
	w := Pair(1, nil, nil)
	strict := Connection()
	strict.Name, strict.IKE, strict.Left.ID = "strict", IKE("aes_gcm128-sha2_256-dh31"), ident.Pattern{ID: ID("@west")}
	loose := Connection()
	loose.Name, loose.Left.ID = "loose", ident.Pattern{ID: ID("@north")}
	w.East.Candidates = []*policy.Oriented{Oriented(strict, false), Oriented(loose, false)}
	w.West.Initiate(w.West.UDP())
	w.Settle()
	closedFor(t, w.East, event.ReasonNoConnection, iana.AUTHENTICATION_FAILED)
	said(t, w.East, `"strict": its ike= does not allow the negotiated`, `"loose": its peer must be @north`)
}

// TestAddressIdentities: without leftid= and rightid= the addresses are the identities.
func TestAddressIdentities(t *testing.T) {
	none := func(c *policy.Connection) { c.Left.ID, c.Right.ID = ident.Pattern{}, ident.Pattern{} }
	w := Pair(1, none, none)
	w.West.Initiate(w.West.UDP())
	w.Settle()
	agreed(t, w)
	if s := w.East.M.Snapshot(); s.Remote != ident.FromAddr(WestAddr) || s.Local != ident.FromAddr(EastAddr) {
		t.Errorf("identities are %v and %v", s.Local, s.Remote)
	}
}

// TestDistinguishedNames: the responder takes a DN in another case for the same, and a pattern for one of many. An initiator that has only a pattern for its peer
// asks for nobody in particular.
func TestDistinguishedNames(t *testing.T) {
	dn := func(left, right string) func(*policy.Connection) {
		return func(c *policy.Connection) {
			c.Left.ID, c.Right.ID = ident.Pattern{ID: ID(left)}, ident.Pattern{ID: ID(right)}
		}
	}
	w := Pair(1, dn("C=CH, O=Example, CN=west", "C=CH, O=*, CN=east"), dn("C=ch, O=*, CN=West", "C=CH, O=Example, CN=east"))
	w.West.Initiate(w.West.UDP())
	w.Settle()
	agreed(t, w)
	said(t, w.West, "authenticated peer using authby=secret and DER_ASN1_DN 'C=CH, O=Example, CN=east'")
	if s := w.East.M.Snapshot(); s.Remote != ID("C=CH, O=Example, CN=west") {
		t.Errorf("the peer is %v", s.Remote)
	}

	w = Pair(1, dn("C=CH, O=Example, CN=north", "CN=east"), dn("C=CH, O=*, CN=west", "CN=east"))
	w.West.Initiate(w.West.UDP())
	w.Settle()
	closedFor(t, w.East, event.ReasonNoConnection, iana.AUTHENTICATION_FAILED)
	said(t, w.East, "C=CH, O=Example, CN=north", "its peer must be C=CH, O=*, CN=west (leftid= of ipsec.conf:6)")
}

// authRequest is what the initiator's IKE_AUTH request has inside.
func authRequest(w *World, auth wire.Item) []wire.Item {
	items := []wire.Item{{Payload: ID("@west").Payload(iana.PayloadIDi)}}
	if auth.Payload != nil {
		items = append(items, auth)
	}
	return append(items,
		wire.Item{Payload: w.West.Conn.Children[0].ESP.Offer(iana.ProtoESP, []byte{1, 2, 3, 4}, false)},
		wire.Item{Payload: wire.TS{Payload: iana.PayloadTSi, Selectors: TS("192.0.1.0/24").ToWire()}},
		wire.Item{Payload: wire.TS{Payload: iana.PayloadTSr, Selectors: TS("192.0.2.0/24").ToWire()}})
}

// keyed brings both ends to where IKE_AUTH is next; the request that west sent is thrown away.
func keyed(t *testing.T) *World {
	t.Helper()
	w := Pair(1, nil, nil)
	w.West.Initiate(w.West.UDP())
	w.West.Deliver()
	w.East.Deliver()
	w.West.Lose()
	return w
}

func TestEAPRefused(t *testing.T) {
	w := keyed(t)
	w.West.Inject(w.West.Forge(iana.IKE_AUTH, 1, false, authRequest(w, wire.Item{})...))
	closedFor(t, w.East, event.ReasonAuthFailed, iana.AUTHENTICATION_FAILED)
	said(t, w.East, "192.1.2.45", "@west", "EAP")
}

func TestOtherAuthMethodRefused(t *testing.T) {
	w := keyed(t)
	auth := wire.Item{Payload: wire.Auth{Method: iana.AuthDigitalSignature, Data: make([]byte, 64)}}
	w.West.Inject(w.West.Forge(iana.IKE_AUTH, 1, false, authRequest(w, auth)...))
	closedFor(t, w.East, event.ReasonNoConnection, iana.AUTHENTICATION_FAILED)
	said(t, w.East, "its peer must authenticate with PSK", iana.AuthDigitalSignature.String())
	w.Settle()
	closedFor(t, w.West, event.ReasonAuthRejected, iana.AUTHENTICATION_FAILED)
}

// TestResponderWithOtherMethod: the initiator takes nothing but what its connection says, AUTH_NULL in particular.
func TestResponderWithOtherMethod(t *testing.T) {
	w := keyed(t)
	w.East.Inject(w.East.Forge(iana.IKE_AUTH, 1, true,
		wire.Item{Payload: ID("@east").Payload(iana.PayloadIDr)}, wire.Item{Payload: wire.Auth{Method: iana.AuthNull, Data: []byte{1}}}))
	if s := w.West.M.Snapshot().State; s != "deleting" {
		t.Errorf("west is %s", s)
	}
	said(t, w.West, "192.1.2.23", "authenticates with "+iana.AuthNull.String(), "asks for PSK")
}

// TestAuthRefusedLost: the answer AUTHENTICATION_FAILED is lost. It is repeated for the repeated request, until the responder forgets.
func TestAuthRefusedLost(t *testing.T) {
	w := Pair(1, nil, nil)
	w.East.Secrets = Store("something else")
	w.West.Initiate(w.West.UDP())
	w.West.Deliver()
	w.East.Deliver()
	w.West.Deliver()
	w.East.Lose()
	if w.East.Closed != nil || w.East.Ended == nil {
		t.Fatal("east does not stay to repeat its answer")
	}
	w.Run(time.Second)
	closedFor(t, w.West, event.ReasonAuthRejected, iana.AUTHENTICATION_FAILED)
	w.Run(time.Minute)
	if w.East.Closed == nil || w.East.M.Deadline() != (time.Time{}) {
		t.Error("east never goes")
	}
}

// TestAuthErrorsFromResponder: a protected error without AUTH ends the attempt whatever it is.
func TestAuthErrorsFromResponder(t *testing.T) {
	for _, n := range []iana.Notify{iana.NO_PROPOSAL_CHOSEN, iana.INVALID_SYNTAX, iana.UNSUPPORTED_CRITICAL_PAYLOAD, 8191} {
		w := keyed(t)
		w.East.Inject(w.East.Forge(iana.IKE_AUTH, 1, true, Notify(n)))
		closedFor(t, w.West, event.ReasonPeerError, n)
		said(t, w.West, "rejected by peer", n.String())
	}
}

// TestUnprotectedAuthError: an error without protection is only a hint, and named when nothing better came.
func TestUnprotectedAuthError(t *testing.T) {
	w := keyed(t)
	before := w.West.Drops
	p := answerClear(w.East, Notify(iana.INVALID_IKE_SPI))
	unchanged(t, w.West, func() { w.East.Inject(p) })
	dropped(t, w.West, before, event.DropIgnoredError)
	w.Net = func(p Packet) (Packet, bool) { return p, false }
	w.Run(time.Minute)
	if len(w.West.NeedPaths) != 1 || !containsAll(w.West.NeedPaths[0].Why.Detail, []string{"INVALID_IKE_SPI", "IKE_AUTH", "forge"}) {
		t.Errorf("%+v", w.West.NeedPaths)
	}
}

// TestKeysFitRFC derives the initiator's AUTH data here, from what went over the wire, and compares.
func TestKeysFitRFC(t *testing.T) {
	w := keyed(t)
	init, answer, request := w.West.Sent[0], w.East.Sent[0], w.West.Sent[1]
	s := w.West.M.Snapshot()
	k := w.West.keys(s.Suite, s.SPIi, s.SPIr)
	msg, _ := wire.Parse(request.Data)
	sk, _ := wire.Get[wire.SK](msg.Payloads)
	plain, err := s.Suite.OpenSK(request.Data, len(request.Data)-len(sk.Data), k.Ei, k.Ai)
	if err != nil {
		t.Fatal(err)
	}
	items, err := wire.ParseChain(sk.Next, plain, 0)
	if err != nil {
		t.Fatal(err)
	}
	auth, _ := wire.Get[wire.Auth](items)
	m2, _ := wire.Parse(answer.Data)
	nr, _ := wire.Get[wire.Nonce](m2.Payloads)
	id := append([]byte{2, 0, 0, 0}, "west"...)
	octets := append(append(append([]byte{}, init.Data...), nr.Data...), suite.Prf(s.Suite.PRF, k.Pi, id)...)
	want := suite.Prf(s.Suite.PRF, suite.Prf(s.Suite.PRF, []byte(Secret), []byte("Key Pad for IKEv2")), octets)
	if string(auth.Data) != string(want) {
		t.Error("AUTH is not what RFC 7296 2.15 says")
	}
}

// TestInitialContact: what either end says in IKE_AUTH reaches the owner of the other, once it has proved who it is (RFC 7296 2.4).
func TestInitialContact(t *testing.T) {
	for _, says := range []bool{false, true} {
		for _, byEast := range []bool{false, true} {
			w := keyed(t)
			from, request := w.West, w.West.Sent[len(w.West.Sent)-1]
			if byEast {
				w.West.Inject(request)
				from = w.East
				w.East.Lose()
			}
			items := inside(t, from, from.Sent[len(from.Sent)-1])
			if says {
				items = append(items, Notify(iana.INITIAL_CONTACT))
			}
			from.Inject(from.Forge(iana.IKE_AUTH, 1, byEast, items...))
			if p := from.Peer().Proved; len(p) != 1 || p[0].InitialContact != says {
				t.Errorf("says %t, by east %t: %+v\n%v", says, byEast, p, from.Peer().Lines())
			}
		}
	}
}

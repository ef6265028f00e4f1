package twosa

import (
	"net/netip"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/wire"
)

// answered brings west to IKE_SA_INIT sent and returns east's genuine answer, parsed.
func answered(t *testing.T, stream bool) (w *World, path Packet, response wire.Message) {
	t.Helper()
	w = Pair(1, func(c *policy.Connection) { c.IKE = IKE("aes_gcm256-sha2_512-dh31+dh19") }, nil)
	p := w.West.UDP()
	if stream {
		p = w.West.TCP()
	}
	w.West.Initiate(p)
	w.West.Deliver()
	good := w.East.Out[0]
	w.East.Lose()
	response, err := wire.Parse(good.Data)
	if err != nil {
		t.Fatal(err)
	}
	return w, good, response
}

// TestUnusableInitResponses: answers that no responder gives. Over UDP each is a hint, over a stream it is the end of the attempt.
func TestUnusableInitResponses(t *testing.T) {
	for name, change := range map[string]func(m *wire.Message){
		"SPI is zero":        func(m *wire.Message) { m.Header.ResponderSPI = 0 },
		"KE payload is for":  func(m *wire.Message) { m.Payloads[1].Payload = wire.KE{Method: iana.KE_ECP256, Data: make([]byte, 64)} },
		"chose key exchange": func(m *wire.Message) { m.Payloads[0].Payload = chosen(iana.KE_ECP256) },
		"public value": func(m *wire.Message) {
			m.Payloads[1].Payload = wire.KE{Method: iana.KE_CURVE25519, Data: make([]byte, 32)}
		},
		"malformed or dropped": func(m *wire.Message) { m.Payloads = []wire.Item{{Payload: wire.VendorID{Data: []byte("x")}}} },
		"only a status":        func(m *wire.Message) { m.Payloads = []wire.Item{Notify(iana.REDIRECT, 1)} },
	} {
		for _, stream := range []bool{false, true} {
			w, p, m := answered(t, stream)
			change(&m)
			before := w.West.Drops
			w.East.Inject(Packet{Path: p.Path, Data: m.AppendTo(nil)})
			silent := name == "malformed or dropped" || name == "only a status" // dropped on any carrier: it is no answer at all
			switch {
			case silent:
				dropped(t, w.West, before, event.DropSyntax)
				said(t, w.West, "IKE_SA_INIT response from 192.1.2.23", "cannot be read", "forge")
			case stream:
				if len(w.West.NeedPaths) != 1 {
					t.Errorf("%s over a stream: %s", name, w.West.M.Snapshot().State)
				}
				said(t, w.West, name)
			default:
				dropped(t, w.West, before, event.DropIgnoredError)
				said(t, w.West, name, "forge")
			}
			if !stream || silent {
				w.East.Inject(p)
				w.Settle()
				agreed(t, w)
			}
		}
	}
}

// chosen is the SA payload of a responder that chose this key exchange.
func chosen(ke iana.KE) wire.SA {
	set := "aes_gcm256-sha2_512-dh31"
	if ke == iana.KE_ECP256 {
		set = "aes_gcm256-sha2_512-dh19"
	}
	return IKE(set).Offer(iana.ProtoIKE, nil, true)
}

// TestTooManyInvalidKE: two who forge one group after the other get a bounded number of requests.
func TestTooManyInvalidKE(t *testing.T) {
	w, _, _ := answered(t, false)
	for i := range 50 {
		ke := []iana.KE{iana.KE_ECP256, iana.KE_CURVE25519}[i%2]
		w.East.Inject(answerClear(w.East, Notify(iana.INVALID_KE_PAYLOAD, 0, byte(ke))))
	}
	if n := len(w.West.Sent); n > 10 {
		t.Errorf("%d requests", n)
	}
}

// TestResponderWithoutCandidates: the engine asked for a responder and has no connection.
func TestResponderWithoutCandidates(t *testing.T) {
	w := Pair(1, nil, nil)
	w.East.Candidates = make([]*policy.Oriented, 0, 1)
	w.West.Initiate(w.West.UDP())
	p := w.West.Out[0]
	w.East.M = machine.NewResponder(w.East.config(), nil, reversed(p.Path))
	w.West.Deliver()
	closedFor(t, w.East, event.ReasonNoProposal, iana.NO_PROPOSAL_CHOSEN)
	said(t, w.East, "no connection for 192.1.2.45")
}

// TestNothingToOffer: a connection without a proposal ends before it begins.
func TestNothingToOffer(t *testing.T) {
	for _, change := range []func(*policy.Connection){func(c *policy.Connection) { c.IKE = nil }, func(c *policy.Connection) { c.Children = nil }} {
		w := Pair(1, change, nil)
		w.West.Initiate(w.West.UDP())
		closedFor(t, w.West, event.ReasonInternal, 0)
	}
}

// TestTemplate: a connection for anybody; its instance protects the host that came.
func TestTemplate(t *testing.T) {
	host := func(c *policy.Connection) { selectors(c, nil, TS("192.0.2.0/24")) }
	w := Pair(1, host, func(c *policy.Connection) { host(c); c.Left.ID = ident.Pattern{Any: true} })
	w.East.Conn.RemoteAddr = netip.Addr{}
	w.West.Initiate(w.West.UDP())
	w.Settle()
	agreed(t, w)
	if c := w.East.M.Snapshot().Children[0]; c.Remote.String() != "192.1.2.45/32" {
		t.Errorf("remote is %v", c.Remote)
	}
}

// TestCloseWishes: CloseIKE at awkward moments.
func TestCloseWishes(t *testing.T) {
	closeIKE := machine.CloseIKE{Reason: event.ReasonOperator, Linger: time.Second}
	atOnce := machine.CloseIKE{Reason: event.ReasonShutdown}
	t.Run("impatient while IKE_AUTH is out", func(t *testing.T) {
		w := keyed(t)
		w.West.Step(atOnce)
		closedFor(t, w.West, event.ReasonShutdown, 0)
	})
	t.Run("IKE_AUTH is never answered", func(t *testing.T) {
		w := Pair(1, func(c *policy.Connection) { c.Retransmit.Timeout = 2 * time.Second }, nil)
		w.West.Initiate(w.West.UDP())
		w.West.Deliver()
		w.East.Deliver()
		w.Net = func(p Packet) (Packet, bool) { return p, false }
		w.West.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: time.Minute})
		w.Run(3 * time.Second)
		closedFor(t, w.West, event.ReasonOperator, 0)
		if len(w.West.NeedPaths) != 0 {
			t.Error("asks for a path that nobody wants")
		}
	})
	t.Run("patience runs out while IKE_AUTH is out", func(t *testing.T) {
		w := keyed(t)
		w.Net = func(p Packet) (Packet, bool) { return p, false }
		w.West.Step(closeIKE)
		w.Run(2 * time.Second)
		closedFor(t, w.West, event.ReasonOperator, 0)
	})
	t.Run("again and less patient", func(t *testing.T) {
		w := up(t)
		w.West.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: time.Hour})
		w.West.Step(closeIKE)
		w.West.Lose()
		w.Net = func(p Packet) (Packet, bool) { return p, false }
		w.Run(2 * time.Second)
		closedFor(t, w.West, event.ReasonOperator, 0)
	})
	t.Run("again and impatient", func(t *testing.T) {
		w := up(t)
		w.West.Step(closeIKE)
		w.West.Step(atOnce)
		closedFor(t, w.West, event.ReasonOperator, 0)
	})
	t.Run("while it only repeats its reply", func(t *testing.T) {
		w := up(t)
		w.West.Step(closeIKE)
		w.West.Deliver()
		if w.East.Closed != nil {
			t.Fatal("closed already")
		}
		w.East.Step(atOnce)
		closedFor(t, w.East, event.ReasonPeerDeleted, 0)
		if w.East.Closed == nil {
			t.Error("still there")
		}
	})
	t.Run("without a path", func(t *testing.T) {
		w := upTCP(t)
		w.West.Step(machine.PathLost{Path: w.West.M.Snapshot().Path})
		w.West.Step(closeIKE)
		closedFor(t, w.West, event.ReasonOperator, 0)
		if len(w.West.Out) != 0 {
			t.Error("sent on a stream that is gone")
		}
	})
	t.Run("while waiting for a path", func(t *testing.T) {
		w := Pair(1, nil, nil)
		w.West.Initiate(w.West.UDP())
		w.Net = func(p Packet) (Packet, bool) { return p, false }
		w.Run(time.Minute)
		w.West.Step(closeIKE)
		closedFor(t, w.West, event.ReasonOperator, 0)
	})
}

// TestStreamLostAtTheEnd: the stream ends while the Delete is under way: there is nothing to wait for.
func TestStreamLostAtTheEnd(t *testing.T) {
	w := upTCP(t)
	w.West.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: time.Minute})
	w.West.Step(machine.PathLost{Path: w.West.M.Snapshot().Path})
	closedFor(t, w.West, event.ReasonOperator, 0)

	w = Pair(1, nil, nil)
	p := w.West.TCP()
	w.West.Initiate(p)
	w.West.Deliver()
	w.East.Step(machine.PathLost{Path: reversed(p)}) // half-open
	closedFor(t, w.East, event.ReasonPathFailed, 0)
}

// TestStatusInsteadOfAuth: a protected answer to IKE_AUTH with nothing in it but a status is malformed.
func TestStatusInsteadOfAuth(t *testing.T) {
	w := keyed(t)
	w.East.Inject(w.East.Forge(iana.IKE_AUTH, 1, true, Notify(iana.INITIAL_CONTACT)))
	w.West.Step(machine.Tick{})
	said(t, w.West, "IKE_AUTH response", "malformed", "no AUTH payload")
}

// TestSPIZeroFromInitiator: an ESP proposal whose SPI is zero (RFC 4303 2.1).
func TestSPIZeroFromInitiator(t *testing.T) {
	w := keyed(t)
	items := inside(t, w.West, w.West.Sent[1])
	for i, it := range items {
		if sa, ok := it.Payload.(wire.SA); ok {
			sa.Proposals[0].SPI = make([]byte, 4)
			items[i].Payload = sa
		}
	}
	p := w.West.Forge(iana.IKE_AUTH, 1, false, items...)
	p.Path = w.West.Sent[1].Path
	w.West.Inject(p)
	said(t, w.East, "refused Child SA", "SPI zero")
	if s := w.East.M.Snapshot(); s.State != "established" || len(s.Children) != 0 {
		t.Errorf("%+v", s)
	}
}

// TestDPDText: the line of a Child SA says whether the peer is asked for signs of life.
func TestDPDText(t *testing.T) {
	w := Pair(1, func(c *policy.Connection) { c.Liveness = time.Minute }, nil)
	w.West.Initiate(w.West.TCP())
	w.Settle()
	said(t, w.West, "established Child SA", "ESPinTCP/ESN=>0x20000001 <0x10000001", "xfrm=AES_GCM_16_256", "DPD=active")
	said(t, w.East, "established Child SA", "DPD=passive")
}

// TestOddPayloadsInAuth: a request full of payloads that are ignored.
func TestOddPayloadsInAuth(t *testing.T) {
	w := keyed(t)
	items := inside(t, w.West, w.West.Sent[1])
	for range 10 {
		items = append(items, wire.Item{Payload: wire.VendorID{Data: []byte("v")}}, Notify(40960), wire.Item{Payload: wire.CertReq{Encoding: 4}},
			wire.Item{Payload: wire.Delete{Protocol: iana.ProtoIKE}})
	}
	p := w.West.Forge(iana.IKE_AUTH, 1, false, items...)
	p.Path = w.West.Sent[1].Path
	w.West.Inject(p)
	said(t, w.East, "containing SK{IDi,IDr,AUTH,SA,TSi,TSr,V,N,CERTREQ,D,", ",...}")
	w.Settle()
	agreed(t, w)
}

// TestPendingChildDeletedOnce: the peer's Delete comes before our own leaves the queue.
func TestPendingChildDeletedOnce(t *testing.T) {
	w := Pair(1, func(c *policy.Connection) { c.Liveness = time.Second }, nil)
	w.West.Initiate(w.West.UDP())
	w.Settle()
	w.Now = w.Now.Add(time.Second)
	w.West.Step(machine.Tick{}) // liveness is outstanding
	w.West.Step(machine.CloseChild{Child: w.West.M.Snapshot().Children[0].ID})
	w.East.Step(machine.CloseChild{Child: w.East.M.Snapshot().Children[0].ID})
	w.Settle()
	for _, h := range []*Host{w.West, w.East} {
		if s := h.M.Snapshot(); s.State != "established" || len(s.Children) != 0 || len(h.Installed) != 0 {
			t.Errorf("%s: %+v", h.Name, s)
		}
	}
}

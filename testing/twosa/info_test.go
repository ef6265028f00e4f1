package twosa

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// inside opens a message that from sent with the IKE SA's keys.
func inside(t *testing.T, from *Host, p Packet) []wire.Item {
	t.Helper()
	s := from.M.Snapshot()
	if s.SPIr == 0 {
		s = from.Peer().M.Snapshot()
	}
	k := from.keys(s.Suite, s.SPIi, s.SPIr)
	encr, integ := k.Er, k.Ar
	if p.Header().FromInitiator() {
		encr, integ = k.Ei, k.Ai
	}
	data := append([]byte{}, p.Data...)
	msg, err := wire.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	sk, ok := wire.Get[wire.SK](msg.Payloads)
	if !ok {
		t.Fatalf("not protected: %v", msg)
	}
	plain, err := s.Suite.OpenSK(data, len(data)-len(sk.Data), encr, integ)
	if err != nil {
		t.Fatal(err)
	}
	items, err := wire.ParseChain(sk.Next, plain, 0)
	if err != nil {
		t.Fatal(err)
	}
	return items
}

// deleted returns the ESP SPIs that a message's Delete payloads name.
func deleted(items []wire.Item) (spis []uint32) {
	for _, it := range items {
		if d, ok := it.Payload.(wire.Delete); ok && d.Protocol == iana.ProtoESP {
			for _, s := range d.SPIs {
				spis = append(spis, binary.BigEndian.Uint32(s))
			}
		}
	}
	return spis
}

func TestDeleteIKE(t *testing.T) {
	for _, stream := range []bool{false, true} {
		for _, west := range []bool{true, false} {
			w := up(t)
			if stream {
				w = upTCP(t)
			}
			from, to := w.West, w.East
			if !west {
				from, to = to, from
			}
			from.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: time.Second})
			if len(from.Installed) != 0 {
				t.Error("the children stay")
			}
			from.Deliver()
			closedFor(t, to, event.ReasonPeerDeleted, 0)
			reply := to.Out[0]
			if items := inside(t, from, reply); len(items) != 0 {
				t.Errorf("the reply to the Delete of an IKE SA holds %v (RFC 7296 1.4.1)", items)
			}
			if stream != reply.Last || stream != (to.Closed != nil) {
				t.Errorf("stream %v: last %v, closed %v", stream, reply.Last, to.Closed != nil)
			}
			to.Deliver()
			closedFor(t, from, event.ReasonOperator, 0)
			if from.Closed == nil {
				t.Error("the deleting end stays after the answer")
			}
			w.Run(time.Minute)
			if to.Closed == nil {
				t.Error("the deleted end never goes")
			}
		}
	}
}

// TestDeleteIKELost: the Delete, or its answer, is lost. The request is repeated, and answered again.
func TestDeleteIKELost(t *testing.T) {
	for _, lost := range []string{"request", "answer"} {
		w := up(t)
		w.West.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: 5 * time.Second})
		if lost == "request" {
			w.West.Lose()
		} else {
			w.West.Deliver()
			w.East.Lose()
		}
		w.Run(time.Second)
		closedFor(t, w.West, event.ReasonOperator, 0)
		closedFor(t, w.East, event.ReasonPeerDeleted, 0)
		if w.West.Closed == nil {
			t.Error("west is not closed")
		}
	}
}

// TestDeleteIKENoAnswer: the owner's patience is the limit.
func TestDeleteIKENoAnswer(t *testing.T) {
	w := up(t)
	w.Net = func(p Packet) (Packet, bool) { return p, false }
	w.West.Step(machine.CloseIKE{Reason: event.ReasonShutdown, Linger: 3 * time.Second})
	start := w.Now
	for w.West.Closed == nil {
		w.Now = w.West.M.Deadline()
		w.West.Step(machine.Tick{})
	}
	if d := w.Now.Sub(start); d != 3*time.Second {
		t.Errorf("waited %v", d)
	}
	closedFor(t, w.West, event.ReasonShutdown, 0)
}

// TestDeleteIKEAtOnce: without patience the Delete is sent and the machine is gone.
func TestDeleteIKEAtOnce(t *testing.T) {
	w := up(t)
	w.West.Step(machine.CloseIKE{Reason: event.ReasonShutdown})
	closedFor(t, w.West, event.ReasonShutdown, 0)
	w.Settle()
	closedFor(t, w.East, event.ReasonPeerDeleted, 0)
	if w.West.Drops[event.DropClosed] != 1 {
		t.Error("the answer to a closed machine is not counted")
	}
}

// TestDeleteIKECrossing: both ends delete at once. Both requests are answered and both are gone (RFC 7296 2.25.2).
func TestDeleteIKECrossing(t *testing.T) {
	w := up(t)
	w.West.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: time.Second})
	w.East.Step(machine.CloseIKE{Reason: event.ReasonShutdown, Linger: time.Second})
	w.Settle()
	closedFor(t, w.West, event.ReasonOperator, 0)
	closedFor(t, w.East, event.ReasonShutdown, 0)
}

// TestCloseIKEEarly: closed in every state before the IKE SA is established.
func TestCloseIKEEarly(t *testing.T) {
	for delivered := range 4 {
		w := Pair(1, nil, nil)
		w.West.Initiate(w.West.UDP())
		for i := range delivered {
			[]*Host{w.West, w.East}[i%2].Deliver()
		}
		if w.East.M != nil && delivered < 3 {
			w.East.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: time.Second})
			closedFor(t, w.East, event.ReasonOperator, 0)
		}
		w.West.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: time.Second})
		w.Run(2 * time.Second)
		closedFor(t, w.West, event.ReasonOperator, 0)
		if delivered == 3 { // east is established; west was to be told, and tells
			closedFor(t, w.East, event.ReasonPeerDeleted, 0)
		}
	}
}

func TestDeleteChild(t *testing.T) {
	for _, west := range []bool{true, false} {
		w := up(t)
		from, to := w.West, w.East
		if !west {
			from, to = to, from
		}
		c := from.M.Snapshot().Children[0]
		from.Step(machine.CloseChild{Child: c.ID})
		from.Step(machine.CloseChild{Child: c.ID}) // once is enough
		if len(from.Out) != 1 {
			t.Fatalf("%d requests", len(from.Out))
		}
		if got := deleted(inside(t, from, from.Out[0])); len(got) != 1 || got[0] != c.SPIIn {
			t.Errorf("Delete names %x, expected our inbound SPI %x", got, c.SPIIn)
		}
		from.Deliver()
		if len(to.Installed) != 0 {
			t.Error("the peer keeps the child")
		}
		if got := deleted(inside(t, from, to.Out[0])); len(got) != 1 || got[0] != c.SPIOut {
			t.Errorf("the reply names %x, expected the other half %x (RFC 7296 1.4.1)", got, c.SPIOut)
		}
		to.Deliver()
		for _, h := range []*Host{w.West, w.East} {
			if s := h.M.Snapshot(); s.State != "established" || len(s.Children) != 0 || len(h.Installed) != 0 {
				t.Errorf("%s: %+v", h.Name, s)
			}
			if e, ok := h.Last(event.KindChildClosed); !ok || e.Child != "west-east" || e.Close == nil {
				t.Errorf("%s: %+v", h.Name, e)
			}
		}
	}
}

// TestDeleteChildCrossing: both ends delete the same child at once. Neither reply names it again (RFC 7296 1.4.1).
func TestDeleteChildCrossing(t *testing.T) {
	w := up(t)
	w.West.Step(machine.CloseChild{Child: w.West.M.Snapshot().Children[0].ID})
	w.East.Step(machine.CloseChild{Child: w.East.M.Snapshot().Children[0].ID})
	w.West.Deliver()
	w.East.Deliver()
	if got := deleted(inside(t, w.East, w.East.Out[0])); got != nil {
		t.Errorf("east's reply names %x", got)
	}
	if got := deleted(inside(t, w.West, w.West.Out[0])); got != nil {
		t.Errorf("west's reply names %x", got)
	}
	w.Settle()
	for _, h := range []*Host{w.West, w.East} {
		if s := h.M.Snapshot(); s.State != "established" || len(s.Children) != 0 || len(h.Installed) != 0 {
			t.Errorf("%s: %+v", h.Name, s)
		}
	}
}

// TestDeleteUnknown: SPIs that are not known, other protocols and empty lists are answered without a Delete payload (RFC 7296 2.25.1).
func TestDeleteUnknown(t *testing.T) {
	w := up(t)
	c := w.East.M.Snapshot().Children[0]
	own := binary.BigEndian.AppendUint32(nil, c.SPIIn)
	id := uint32(2)
	for name, d := range map[string]wire.Delete{
		"unknown SPI": {Protocol: iana.ProtoESP, SPISize: 4, SPIs: [][]byte{{1, 1, 1, 1}}},
		"zero SPI":    {Protocol: iana.ProtoESP, SPISize: 4, SPIs: [][]byte{{0, 0, 0, 0}}},
		"our own SPI": {Protocol: iana.ProtoESP, SPISize: 4, SPIs: [][]byte{own}},
		"AH":          {Protocol: iana.ProtoAH, SPISize: 4, SPIs: [][]byte{own}},
		"none":        {Protocol: iana.ProtoESP, SPISize: 4},
	} {
		w.West.Inject(w.West.Forge(iana.INFORMATIONAL, id, false, wire.Item{Payload: d}))
		id++
		if len(w.East.Out) != 1 || len(inside(t, w.East, w.East.Out[0])) != 0 {
			t.Fatalf("%s: answers %v", name, w.East.Out)
		}
		w.East.Lose()
		if s := w.East.M.Snapshot(); len(s.Children) != 1 || s.State != "established" {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// TestDeleteTwiceInOne: the same SPI twice in one message deletes once.
func TestDeleteTwiceInOne(t *testing.T) {
	w := up(t)
	c := w.East.M.Snapshot().Children[0]
	spi := binary.BigEndian.AppendUint32(nil, c.SPIOut)
	d := wire.Item{Payload: wire.Delete{Protocol: iana.ProtoESP, SPISize: 4, SPIs: [][]byte{spi, spi}}}
	w.West.Inject(w.West.Forge(iana.INFORMATIONAL, 2, false, d, d))
	if got := deleted(inside(t, w.East, w.East.Out[0])); len(got) != 1 || got[0] != c.SPIIn {
		t.Errorf("reply names %x", got)
	}
}

func TestLiveness(t *testing.T) {
	for _, stream := range []bool{false, true} {
		w := Pair(1, func(c *policy.Connection) { c.Liveness = 10 * time.Second }, nil)
		p := w.West.UDP()
		if stream {
			p = w.West.TCP()
		}
		w.West.Initiate(p)
		w.Settle()
		agreed(t, w)
		sent := len(w.West.Sent)
		w.Run(9 * time.Second)
		if len(w.West.Sent) != sent {
			t.Error("asked before it was silent long enough")
		}
		w.West.Step(machine.ESPSeen{At: w.Now})
		w.Run(9 * time.Second)
		if len(w.West.Sent) != sent {
			t.Error("asked although ESP was seen")
		}
		w.Run(2 * time.Second)
		if len(w.West.Sent) != sent+1 {
			t.Fatalf("%d messages", len(w.West.Sent)-sent)
		}
		if items := inside(t, w.West, w.West.Sent[sent]); len(items) != 0 || w.West.Sent[sent].Header().Exchange != iana.INFORMATIONAL {
			t.Errorf("liveness is not an empty INFORMATIONAL: %v", items)
		}
		w.Run(100 * time.Second)
		if n := len(w.West.Sent) - sent; n != 11 {
			t.Errorf("%d probes in 100 s", n)
		}
		agreed(t, w)
		start := w.Now
		w.Net = func(p Packet) (Packet, bool) { return p, false }
		w.Run(time.Minute)
		closedFor(t, w.West, event.ReasonTimeout, 0)
		said(t, w.West, "INFORMATIONAL", "192.1.2.23")
		if d := w.West.Events[len(w.West.Events)-1].At.Sub(start); d > 40*time.Second {
			t.Errorf("dead peer found after %v", d)
		}
	}
}

// TestLivenessOfPeer: the peer's messages count as signs of life, and what does not authenticate does not.
func TestLivenessOfPeer(t *testing.T) {
	w := Pair(1, nil, func(c *policy.Connection) { c.Liveness = 10 * time.Second })
	w.West.Initiate(w.West.UDP())
	w.Settle()
	deadline := w.East.M.Deadline()
	w.Now = w.Now.Add(5 * time.Second)
	bad := w.West.Forge(iana.INFORMATIONAL, 2, false)
	good := append([]byte{}, bad.Data...)
	bad.Data[len(bad.Data)-1] ^= 1
	w.West.Inject(bad)
	if !w.East.M.Deadline().Equal(deadline) {
		t.Error("a forged message counts as a sign of life")
	}
	w.West.Inject(Packet{Path: bad.Path, Data: good})
	if want := deadline.Add(5 * time.Second); !w.East.M.Deadline().Equal(want) {
		t.Errorf("deadline is %v, expected %v", w.East.M.Deadline(), want)
	}
}

// TestOneAtATime: a second request waits for the answer to the first (RFC 7296 2.3).
func TestOneAtATime(t *testing.T) {
	w := Pair(1, func(c *policy.Connection) { c.Liveness = time.Second }, nil)
	w.West.Initiate(w.West.UDP())
	w.Settle()
	w.Now = w.Now.Add(time.Second)
	w.West.Step(machine.Tick{}) // liveness
	w.West.Step(machine.CloseChild{Child: w.West.M.Snapshot().Children[0].ID})
	w.West.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: time.Second})
	if len(w.West.Out) != 1 {
		t.Fatalf("%d requests at once", len(w.West.Out))
	}
	w.Settle()
	closedFor(t, w.West, event.ReasonOperator, 0)
	closedFor(t, w.East, event.ReasonPeerDeleted, 0)
}

// TestCreateChildRefused: what cannot be done is refused such that peers go on (RFC 7296 1.3, 2.25).
func TestCreateChildRefused(t *testing.T) {
	w := up(t)
	sa := wire.Item{Payload: w.West.Conn.Children[0].ESP.Offer(iana.ProtoESP, []byte{9, 9, 9, 9}, true)}
	nonce := wire.Item{Payload: wire.Nonce{Data: make([]byte, 32)}}
	tsi := wire.Item{Payload: wire.TS{Payload: iana.PayloadTSi, Selectors: TS("192.0.1.0/24").ToWire()}}
	tsr := wire.Item{Payload: wire.TS{Payload: iana.PayloadTSr, Selectors: TS("192.0.2.0/24").ToWire()}}
	rekey := func(spi uint32) wire.Item {
		return wire.Item{Payload: wire.Notify{Protocol: iana.ProtoESP, SPI: binary.BigEndian.AppendUint32(nil, spi), Notify: iana.REKEY_SA}}
	}
	ike := wire.Item{Payload: w.West.Conn.IKE.Offer(iana.ProtoIKE, make([]byte, 8), true)}
	id := uint32(2)
	for _, tc := range []struct {
		name  string
		items []wire.Item
		want  iana.Notify
	}{
		{"rekey unknown child", []wire.Item{rekey(77), sa, nonce, tsi, tsr}, iana.CHILD_SA_NOT_FOUND},
		{"rekey IKE", []wire.Item{ike, nonce, {Payload: wire.KE{Method: iana.KE_CURVE25519, Data: make([]byte, 32)}}}, iana.NO_ADDITIONAL_SAS},
	} {
		w.West.Inject(w.West.Forge(iana.CREATE_CHILD_SA, id, false, tc.items...))
		id++
		if len(w.East.Out) != 1 {
			t.Fatalf("%s: %d answers", tc.name, len(w.East.Out))
		}
		n, ok := wire.Get[wire.Notify](inside(t, w.East, w.East.Out[0]))
		if !ok || n.Notify != tc.want {
			t.Errorf("%s: answered %v", tc.name, n)
		}
		if tc.want == iana.CHILD_SA_NOT_FOUND && (binary.BigEndian.Uint32(n.SPI) != 77 || n.Protocol != iana.ProtoESP) {
			t.Errorf("%s: does not name the SPI: %+v", tc.name, n)
		}
		w.East.Lose()
	}
	agreed(t, w)
	w.East.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: time.Second})
	w.East.Out = nil
	w.West.Inject(w.West.Forge(iana.CREATE_CHILD_SA, id, false, sa, nonce, tsi, tsr))
	if n, _ := wire.Get[wire.Notify](inside(t, w.East, w.East.Out[0])); n.Notify != iana.TEMPORARY_FAILURE {
		t.Errorf("while deleting: %v", n)
	}
}

// TestNotifiesAreNoted: notifications in INFORMATIONAL are answered and change nothing.
func TestNotifiesAreNoted(t *testing.T) {
	w := up(t)
	// The first request after IKE_AUTH may end the IKE SA with an error of authentication; later ones may not (RFC 7296 2.21.2).
	w.West.Inject(w.West.Forge(iana.INFORMATIONAL, 2, false, Notify(iana.INVALID_SELECTORS)))
	for i, n := range []iana.Notify{iana.AUTHENTICATION_FAILED, iana.INVALID_SYNTAX, iana.INITIAL_CONTACT, 40000, 9000} {
		w.West.Inject(w.West.Forge(iana.INFORMATIONAL, uint32(3+i), false, Notify(n)))
	}
	if len(w.East.Out) != 6 {
		t.Errorf("%d answers", len(w.East.Out))
	}
	agreed(t, w)
	said(t, w.East, "notifies INVALID_SELECTORS")
}

// TestInvalidSyntaxAnswer: the peer could not read our request: fatal at both ends (RFC 7296 2.21.3).
func TestInvalidSyntaxAnswer(t *testing.T) {
	w := up(t)
	w.West.Step(machine.CloseChild{Child: w.West.M.Snapshot().Children[0].ID})
	w.East.Inject(w.East.Forge(iana.INFORMATIONAL, 2, true, Notify(iana.INVALID_SYNTAX)))
	closedFor(t, w.West, event.ReasonPeerError, iana.INVALID_SYNTAX)
}

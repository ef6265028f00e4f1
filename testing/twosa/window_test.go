package twosa

import (
	"fmt"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// TestRepeatedRequests: each request of the handshake comes twice; the reply is repeated bit for bit and nothing else happens (RFC 7296 2.1).
func TestRepeatedRequests(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.Initiate(w.West.UDP())
	for _, x := range []iana.Exchange{iana.IKE_SA_INIT, iana.IKE_AUTH} {
		request := w.West.Out[0]
		w.West.Deliver()
		reply := w.East.Out[0]
		before := w.East.Drops
		w.West.Inject(request)
		dropped(t, w.East, before, event.DropDuplicate)
		if len(w.East.Out) != 2 || string(w.East.Out[1].Data) != string(reply.Data) {
			t.Fatalf("%v: the reply is not repeated", x)
		}
		w.East.Deliver()
		before = w.West.Drops
		unchanged(t, w.West, func() { w.East.Deliver() }) // the second copy of the reply
		dropped(t, w.West, before, event.DropUnexpected)
	}
	agreed(t, w)
}

// TestInitRepeatedAfterAuth: an IKE_SA_INIT request that comes again after IKE_AUTH is ignored (RFC 7296 2.1).
func TestInitRepeatedAfterAuth(t *testing.T) {
	w := up(t)
	before := w.East.Drops
	unchanged(t, w.East, func() { w.West.Inject(w.West.Sent[0]) })
	dropped(t, w.East, before, event.DropStaleMessageID)
}

// TestInitRepeatedDuringAuth is the same while IKE_AUTH is in work.
func TestInitRepeatedDuringAuth(t *testing.T) {
	w := Pair(1, nil, nil)
	w.East.Hold = func(e machine.Effect) bool { j, ok := e.(machine.Job); return ok && j.Verify != nil }
	w.West.Initiate(w.West.UDP())
	w.Settle()
	before := w.East.Drops
	unchanged(t, w.East, func() { w.West.Inject(w.West.Sent[0]) })
	dropped(t, w.East, before, event.DropDuplicate)
	w.East.Complete()
	w.Settle()
	agreed(t, w)
}

// TestRepeatedWhileBusy: a request that comes again while its first copy is in work is dropped, at each stage of the work.
func TestRepeatedWhileBusy(t *testing.T) {
	w := Pair(1, nil, nil)
	w.East.Hold = func(machine.Effect) bool { return true }
	w.West.Initiate(w.West.UDP())
	w.Settle()
	stages := 0
	for len(w.East.Held) > 0 {
		stages++
		before := w.East.Drops
		unchanged(t, w.East, func() { w.West.Inject(w.West.Sent[1]) })
		dropped(t, w.East, before, event.DropDuplicate)
		w.East.Complete()
	}
	if stages != 4 { // the shared secret; verification; signature and SPI; installation
		t.Errorf("%d stages", stages)
	}
	w.Settle()
	agreed(t, w)
}

// TestGarbageBeforeAuth: a stranger who saw the SPIs sends rubbish as IKE_AUTH first. The real one is found among it, whatever comes while keys are computed.
func TestGarbageBeforeAuth(t *testing.T) {
	w := Pair(1, nil, nil)
	w.East.Hold = func(e machine.Effect) bool { j, ok := e.(machine.Job); return ok && j.Pending != nil }
	w.West.Initiate(w.West.UDP())
	w.West.Deliver()
	w.East.Deliver()
	request := w.West.Out[0]
	rubbish := Packet{Path: request.Path, Data: append([]byte{}, request.Data...)}
	rubbish.Data[len(rubbish.Data)-1] ^= 1
	w.West.Inject(rubbish)
	if n := len(w.East.Held); n != 1 {
		t.Fatalf("%d jobs", n)
	}
	w.West.Deliver()
	before := w.East.Drops
	w.West.Inject(rubbish)
	dropped(t, w.East, before, event.DropDuplicate)
	w.East.Complete()
	w.Settle()
	agreed(t, w)
	if w.East.Drops[event.DropIntegrity] != 1 {
		t.Errorf("%d messages dropped for integrity", w.East.Drops[event.DropIntegrity])
	}
}

// TestHeldIsBounded: what waits while keys are computed has a limit.
func TestHeldIsBounded(t *testing.T) {
	w := Pair(1, nil, nil)
	w.East.Hold = func(e machine.Effect) bool { j, ok := e.(machine.Job); return ok && j.Pending != nil }
	w.West.Initiate(w.West.UDP())
	w.West.Deliver()
	w.East.Deliver()
	request := w.West.Out[0]
	for i := range 100 {
		p := Packet{Path: request.Path, Data: append([]byte{}, request.Data...)}
		p.Data[len(p.Data)-1] ^= byte(i + 1)
		w.West.Inject(p)
	}
	if d := w.East.Drops[event.DropMailbox]; d != 96 {
		t.Errorf("%d of 100 dropped", d)
	}
	w.East.Complete()
	if d := w.East.Drops[event.DropIntegrity]; d != 4 {
		t.Errorf("%d dropped for integrity", d)
	}
	w.Settle() // the genuine request
	agreed(t, w)
}

// TestRequestWhileVerifying: over a stream a request of the responder comes right behind its IKE_AUTH response, while that is being verified. It waits
// (RFC 9329 6.2: it will not come again).
func TestRequestWhileVerifying(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.Hold = func(e machine.Effect) bool { j, ok := e.(machine.Job); return ok && j.Verify != nil }
	w.West.Initiate(w.West.TCP())
	w.West.Deliver()
	w.East.Deliver()
	w.West.Deliver()
	w.East.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: time.Second})
	w.East.Deliver() // IKE_AUTH response
	w.East.Deliver() // INFORMATIONAL with Delete
	if s := w.West.M.Snapshot().State; s != "IKE_AUTH sent" {
		t.Errorf("west is %s", s)
	}
	w.West.Complete()
	closedFor(t, w.West, event.ReasonPeerDeleted, 0)
	if _, ok := w.West.Last(event.KindIKEUp); !ok {
		t.Error("west was never established")
	}
	w.Settle()
	closedFor(t, w.East, event.ReasonOperator, 0)
}

// TestStaleAndFuture: Message IDs outside the window are dropped and counted, well sealed or not (RFC 7296 2.3).
func TestStaleAndFuture(t *testing.T) {
	w := up(t)
	for _, id := range []uint32{0, 1, 3, 4, 1 << 31, 1<<32 - 1} {
		before := w.East.Drops
		unchanged(t, w.East, func() { w.West.Inject(w.West.Forge(iana.INFORMATIONAL, id, false)) })
		dropped(t, w.East, before, event.DropStaleMessageID)
	}
	before := w.East.Drops
	w.West.Inject(w.West.Forge(iana.INFORMATIONAL, 2, false))
	dropped(t, w.East, before, event.DropNone)
}

// TestResponsesNobodyAsked: a response without a request, or to another.
func TestResponsesNobodyAsked(t *testing.T) {
	w := up(t)
	for _, id := range []uint32{0, 1, 2, 7} {
		before := w.East.Drops
		unchanged(t, w.East, func() { w.West.Inject(w.West.Forge(iana.INFORMATIONAL, id, true)) })
		dropped(t, w.East, before, event.DropUnexpected)
	}
	w.East.Step(machine.CloseChild{Child: w.East.M.Snapshot().Children[0].ID}) // request 0 of east
	before := w.East.Drops
	unchanged(t, w.East, func() { w.West.Inject(w.West.Forge(iana.CREATE_CHILD_SA, 0, true)) })
	dropped(t, w.East, before, event.DropUnexpected)
}

// TestReplyForgotten: after several minutes the reply is freed, and the request that comes again then is ignored (RFC 7296 2.1).
func TestReplyForgotten(t *testing.T) {
	w := up(t)
	request := w.West.Sent[1]
	w.West.Inject(request)
	if len(w.East.Out) != 1 {
		t.Fatal("reply not repeated")
	}
	w.East.Lose()
	w.Run(5 * time.Minute)
	unchanged(t, w.East, func() { w.West.Inject(request) })
}

// TestReorderedInformational: the responder's first request overtakes its IKE_AUTH response on the way. It is dropped, and taken when it comes again.
func TestReorderedInformational(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.Initiate(w.West.UDP())
	w.West.Deliver()
	w.East.Deliver()
	w.West.Deliver()
	w.East.Step(machine.CloseChild{Child: w.East.M.Snapshot().Children[0].ID})
	response, request := w.East.Out[0], w.East.Out[1]
	w.East.Out = nil
	before := w.West.Drops
	unchanged(t, w.West, func() { w.East.Inject(request) })
	dropped(t, w.West, before, event.DropUnexpected)
	w.East.Inject(response)
	agreed(t, w)
	w.Run(time.Second)
	if len(w.West.Installed)+len(w.East.Installed) != 0 {
		t.Error("the Child SA is still there")
	}
}

// TestExchangeStateMatrix sends every exchange, as request and response, in clear and sealed, with every Message ID that may be in the window, to either
// end in every state: what is not expected changes nothing (the class of CVE-2019-12312: INFORMATIONAL before IKE_AUTH).
func TestExchangeStateMatrix(t *testing.T) {
	type stage struct {
		name string
		make func(t *testing.T) *World
	}
	stages := []stage{
		{"IKE_SA_INIT sent", func(*testing.T) *World {
			w := Pair(1, nil, nil)
			w.West.Initiate(w.West.UDP())
			return w
		}},
		{"half-open", func(*testing.T) *World {
			w := Pair(1, nil, nil)
			w.West.Initiate(w.West.UDP())
			w.West.Deliver()
			return w
		}},
		{"IKE_AUTH sent", keyed},
		{"established", up},
		{"deleting", func(t *testing.T) *World {
			w := up(t)
			w.West.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: time.Minute})
			return w
		}},
		{"deleted", func(t *testing.T) *World {
			w := up(t)
			w.West.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: time.Minute})
			w.Settle()
			return w
		}},
	}
	exchanges := []iana.Exchange{
		iana.IKE_SA_INIT, iana.IKE_AUTH, iana.CREATE_CHILD_SA, iana.INFORMATIONAL, iana.IKE_SESSION_RESUME, iana.IKE_INTERMEDIATE,
		iana.IKE_FOLLOWUP_KE, 0, 255,
	}
	for _, st := range stages {
		t.Run(st.name, func(t *testing.T) {
			for _, x := range exchanges {
				for id := range uint32(4) {
					for _, response := range []bool{false, true} {
						for _, east := range []bool{false, true} {
							w := st.make(t)
							to := w.West
							if east {
								to = w.East
							}
							if to.M == nil {
								continue
							}
							clearMatrix(t, to, x, id, response)
							sealedMatrix(t, to, x, id, response)
						}
					}
				}
			}
		})
	}
}

// clearMatrix sends an unprotected message that is well formed for its header. Apart from what starts or answers IKE_SA_INIT it must change nothing.
func clearMatrix(t *testing.T, to *Host, x iana.Exchange, id uint32, response bool) {
	t.Helper()
	s := to.M.Snapshot()
	h := wire.Header{InitiatorSPI: s.SPIi, ResponderSPI: s.SPIr, MajorVersion: 2, Exchange: x, MessageID: id}
	if !s.Initiator {
		h.Flags = wire.FlagInitiator
	}
	if response {
		h.Flags |= wire.FlagResponse
	}
	msg := wire.Message{Header: h, Payloads: []wire.Item{Notify(iana.NO_PROPOSAL_CHOSEN), {Payload: wire.Delete{Protocol: iana.ProtoIKE}}}}
	p := Packet{Path: reversed(s.Path), Data: msg.AppendTo(nil)}
	unchanged(t, to, func() { to.Peer().Inject(p) })
	if to.Drops == [event.NumDrops]int{} {
		t.Errorf("%v %d response=%v in clear: not counted as dropped", x, id, response)
	}
}

// sealedMatrix sends a sealed message that asks to delete the IKE SA, before keys are known sealed with rubbish. It may only have an effect where a request
// of that exchange is due.
func sealedMatrix(t *testing.T, to *Host, x iana.Exchange, id uint32, response bool) {
	t.Helper()
	s := to.M.Snapshot()
	if s.SPIr == 0 || s.State == "deleted" {
		return
	}
	if s.State == "half-open" && (x != iana.IKE_AUTH || id != 1 || response) || s.State == "IKE_AUTH sent" && (x != iana.IKE_AUTH || id != 1 || !response) ||
		s.State == "established" && x != iana.INFORMATIONAL && x != iana.CREATE_CHILD_SA || s.State == "ended" || s.State == "closed" {
		if len(to.secret) == 0 && len(to.Peer().secret) == 0 {
			return
		}
		name := fmt.Sprintf("%v %d response=%v in %s", x, id, response, s.State)
		before := to.Drops
		unchanged(t, to, func() {
			to.Peer().Inject(to.Peer().Forge(x, id, response, wire.Item{Payload: wire.Delete{Protocol: iana.ProtoIKE}}))
		})
		if before == to.Drops {
			t.Errorf("%s: not counted as dropped", name)
		}
	}
}

// TestResponseTwiceWhileBusy: a response that comes twice while its first copy is in work.
func TestResponseTwiceWhileBusy(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.Hold = func(e machine.Effect) bool {
		j, ok := e.(machine.Job)
		return ok && (j.Verify != nil || j.Finish != nil)
	}
	w.West.Initiate(w.West.UDP())
	for range 2 {
		w.West.Deliver()
		response := w.East.Out[0]
		w.East.Deliver()
		before := w.West.Drops
		unchanged(t, w.West, func() { w.East.Inject(response) })
		dropped(t, w.West, before, event.DropDuplicate)
		w.West.Complete()
	}
	agreed(t, w)
}

// TestRequestOnNewStreamWhileBusy: the originator is back on a new stream and repeats a request that is still in work: the reply goes there (RFC 9329 6.2).
func TestRequestOnNewStreamWhileBusy(t *testing.T) {
	w := Pair(1, nil, nil)
	w.East.Hold = func(e machine.Effect) bool { j, ok := e.(machine.Job); return ok && j.Verify != nil }
	w.West.Initiate(w.West.TCP())
	w.Settle()
	fresh := w.West.TCP()
	w.West.Inject(Packet{Path: fresh, Data: w.West.Sent[1].Data})
	w.East.Complete()
	if len(w.East.Out) != 1 || w.East.Out[0].Path != reversed(fresh) {
		t.Errorf("the reply went to %v", w.East.Out)
	}
	w.Settle()
	agreed(t, w)
}

package twosa

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/wire"
)

// two gives a connection a second child, which only CREATE_CHILD_SA makes.
func two(c *policy.Connection) {
	second := c.Children[0]
	second.Name, second.Left, second.Right = c.Name+"/2", TS("10.1.0.0/16"), TS("10.2.0.0/16")
	c.Children = append(c.Children, second)
}

// both is one change of a connection and then another.
func both(list ...func(*policy.Connection)) func(*policy.Connection) {
	return func(c *policy.Connection) {
		for _, f := range list {
			f(c)
		}
	}
}

func pfs(c *policy.Connection) {
	for i := range c.Children {
		c.Children[i].PFS = true
	}
}

// optionalPFS is what a connection has that says nothing of PFS.
func optionalPFS(c *policy.Connection) {
	pfs(c)
	for i := range c.Children {
		c.Children[i].PFSOptional = true
	}
}

// groups sets the key exchanges of the second child's esp=.
func groups(list ...iana.KE) func(*policy.Connection) {
	return func(c *policy.Connection) {
		esp := append(suite.Proposals(nil), c.Children[1].ESP...)
		for i := range esp {
			esp[i].KE = list
		}
		c.Children[1].ESP = esp
	}
}

// upTwo makes a world with an IKE SA whose connection has two children, the first of which is up.
func upTwo(t *testing.T, stream bool, west, east func(*policy.Connection)) *World {
	t.Helper()
	w := Pair(11, both(two, west), both(two, east))
	p := w.West.UDP()
	if stream {
		p = w.West.TCP()
	}
	w.West.Initiate(p)
	w.Settle()
	agreedOn(t, w, 1)
	return w
}

func same(*policy.Connection) {}

// open asks h's machine for its second child.
func (h *Host) open() { h.Step(machine.OpenChild{Conn: h.Conn, Index: 1}) }

func TestCreateChild(t *testing.T) {
	for _, stream := range []bool{false, true} {
		for _, byEast := range []bool{false, true} {
			t.Run(fmt.Sprintf("stream=%t,east=%t", stream, byEast), func(t *testing.T) {
				w := upTwo(t, stream, same, same)
				asker := w.West
				if byEast {
					asker = w.East
				}
				asker.open()
				w.Settle()
				agreedOn(t, w, 2)
				for _, h := range []*Host{w.West, w.East} {
					c := h.M.Snapshot().Children[1]
					if c.Index != 1 || c.Suite.KE != iana.KE_NONE {
						t.Errorf("%s: %+v", h.Name, c)
					}
					if e, _ := h.Last(event.KindChildUp); e.Child != "west-east/2" {
						t.Errorf("%s told of %q", h.Name, e.Child)
					}
				}
				said(t, asker, "sending CREATE_CHILD_SA request to 192.1.2.", "10.1.0.0/16", "10.2.0.0/16")
				said(t, asker, "initiator established Child SA")
				said(t, asker.Peer(), "responder established Child SA")
				// Each of the two can go without the other.
				asker.Step(machine.CloseChild{Child: asker.M.Snapshot().Children[0].ID})
				w.Settle()
				agreedOn(t, w, 1)
			})
		}
	}
}

// TestCreateChildPFS: pfs=yes uses the groups of esp=, or that of the IKE SA (RFC 7296 1.3.1, 2.17).
func TestCreateChildPFS(t *testing.T) {
	for _, tc := range []struct {
		name       string
		west, east func(*policy.Connection)
		want       iana.KE
		requests   int
	}{
		{"group of the IKE SA", pfs, pfs, iana.KE_CURVE25519, 1},
		{"group of esp=", both(pfs, groups(iana.KE_ECP256)), both(pfs, groups(iana.KE_ECP256)), iana.KE_ECP256, 1},
		{"slow group", both(pfs, groups(iana.KE_MODP2048)), both(pfs, groups(iana.KE_MODP2048)), iana.KE_MODP2048, 1},
		{"INVALID_KE_PAYLOAD", both(pfs, groups(iana.KE_ECP256, iana.KE_CURVE25519)), both(pfs, groups(iana.KE_CURVE25519)), iana.KE_CURVE25519, 2},
		{"peer wants it, we do not ask", pfs, same, iana.KE_CURVE25519, 1},
		{"preferred, and both can", optionalPFS, optionalPFS, iana.KE_CURVE25519, 1},
		{"preferred, the peer has none", optionalPFS, same, iana.KE_CURVE25519, 1},
		{"preferred, a peer that offers none", same, optionalPFS, iana.KE_NONE, 1},
		{"preferred, the peer wants it", optionalPFS, pfs, iana.KE_CURVE25519, 1},
		{"none at both", same, same, iana.KE_NONE, 1},
		{"optional", both(pfs, groups(iana.KE_CURVE25519, iana.KE_NONE)), groups(iana.KE_ECP384), iana.KE_NONE, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := upTwo(t, false, tc.west, tc.east)
			sent := len(w.West.Sent)
			w.West.open()
			w.Settle()
			agreedOn(t, w, 2)
			if got := w.West.M.Snapshot().Children[1].Suite.KE; got != tc.want {
				t.Errorf("key exchange %v, expected %v", got, tc.want)
			}
			if n := len(w.West.Sent) - sent; n != tc.requests {
				t.Errorf("%d requests, expected %d", n, tc.requests)
			}
			real := inside(t, w.East, w.East.Sent[len(w.East.Sent)-1])
			if _, ok := wire.Get[wire.KE](real); ok != (tc.want != iana.KE_NONE) {
				t.Errorf("KE payload in the response: %t", ok)
			}
		})
	}
}

// unmade checks that the second child is at neither end, that both were told, and that the IKE SA and the first child work.
func unmade(t *testing.T, w *World, n iana.Notify) {
	t.Helper()
	agreedOn(t, w, 1)
	toldUnmade(t, w, n)
}

func toldUnmade(t *testing.T, w *World, n iana.Notify) {
	t.Helper()
	e, ok := w.West.Last(event.KindChildFailed)
	if !ok || e.Close == nil || e.Close.Notify != n || e.Child != "west-east/2" {
		t.Errorf("west was told %+v %+v", e, e.Close)
	}
}

func TestCreateChildFailures(t *testing.T) {
	for _, tc := range []struct {
		name       string
		west, east func(*policy.Connection)
		want       iana.Notify
		words      [2][]string // what west and east say
	}{
		{
			"proposal", func(c *policy.Connection) { c.Children[1].ESP = ESP("aes_gcm128") }, same, iana.NO_PROPOSAL_CHOSEN,
			[2][]string{{"refused Child SA", "west-east/2", "AES_GCM_16_128"}, {"refused Child SA", "allowed AES_GCM_16_256", "NO_PROPOSAL_CHOSEN"}},
		},
		{
			"pfs wanted", same, both(pfs, groups(iana.KE_ECP256)), iana.NO_PROPOSAL_CHOSEN,
			[2][]string{{"refused Child SA", "west-east/2"}, {"refused Child SA", "west-east/2"}},
		},
		{
			"groups", both(pfs, groups(iana.KE_ECP256)), both(pfs, groups(iana.KE_ECP384)), iana.NO_PROPOSAL_CHOSEN,
			[2][]string{{"refused Child SA"}, {"refused Child SA", "DH"}},
		},
		{
			"selectors", func(c *policy.Connection) { c.Children[1].Right = TS("10.3.0.0/16") }, same, iana.TS_UNACCEPTABLE,
			[2][]string{{"refused Child SA", "10.3.0.0/16"}, {"10.3.0.0/16", "10.2.0.0/16", "TS_UNACCEPTABLE"}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := upTwo(t, false, tc.west, tc.east)
			w.West.open()
			w.Settle()
			unmade(t, w, tc.want)
			said(t, w.West, tc.words[0]...)
			said(t, w.East, tc.words[1]...)
		})
	}
}

// TestCreateChildDatapath: what a datapath refuses is a notification when we answer, and a deletion when we ask.
func TestCreateChildDatapath(t *testing.T) {
	for _, tc := range []struct {
		name string
		fail func(*World)
		want iana.Notify
	}{
		{"answerer has no SPI", func(w *World) { w.East.FailSPI = errors.New("no SPI left") }, iana.NO_ADDITIONAL_SAS},
		{"answerer cannot install", func(w *World) { w.East.FailInstall = errors.New("kernel says no") }, iana.NO_ADDITIONAL_SAS},
		{"asker has no SPI", func(w *World) { w.West.FailSPI = errors.New("no SPI left") }, 0},
		{"asker cannot install", func(w *World) { w.West.FailInstall = errors.New("kernel says no") }, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := upTwo(t, false, pfs, pfs)
			tc.fail(w)
			w.West.open()
			w.Settle()
			unmade(t, w, tc.want)
		})
	}
}

// TestCreateChildInstallsFirst: the answerer's reply goes out when its SAs are there; a repetition of the request meanwhile is counted and does nothing.
func TestCreateChildInstallsFirst(t *testing.T) {
	w := upTwo(t, false, pfs, pfs)
	w.East.Hold = func(e machine.Effect) bool { _, ok := e.(machine.Install); return ok }
	w.West.open()
	request := w.West.Out[0]
	w.Settle()
	if len(w.East.Held) != 1 || len(w.West.M.Snapshot().Children) != 2 || len(w.West.Installed) != 1 {
		t.Fatalf("held %d, west %+v", len(w.East.Held), w.West.M.Snapshot())
	}
	before := w.East.Drops
	w.West.Inject(request)
	dropped(t, w.East, before, event.DropDuplicate)
	w.East.Complete()
	w.Settle()
	agreedOn(t, w, 2)
}

// TestCreateChildReplyLost: the repeated request gets the same reply, and makes nothing twice.
func TestCreateChildReplyLost(t *testing.T) {
	w := upTwo(t, false, pfs, pfs)
	w.West.open()
	w.West.Deliver()
	w.East.Lose()
	w.Run(time.Second)
	agreedOn(t, w, 2)
	if w.East.Drops[event.DropDuplicate] == 0 {
		t.Error("no repetition came")
	}
}

// TestDeletedBeforeItsAnswerCame: the answer is lost, and the peer deletes the Child SA again before the request is repeated. Its Delete names an SPI that the
// asker does not know yet; the repeated answer must not bring to life what only one end would have.
func TestDeletedBeforeItsAnswerCame(t *testing.T) {
	for _, method := range []func(*policy.Connection){pfs, same} {
		w := upTwo(t, false, method, method)
		w.West.open()
		w.West.Deliver()
		w.East.Lose()
		var made machine.ChildID
		for _, c := range w.East.M.Snapshot().Children {
			if c.Index == 1 {
				made = c.ID
			}
		}
		w.East.Step(machine.CloseChild{Child: made})
		w.Settle()
		w.Run(5 * time.Second)
		agreedOn(t, w, 1)
		if ev, ok := w.West.Last(event.KindChildFailed); !ok || ev.Close == nil || ev.Close.Reason != event.ReasonPeerDeleted {
			t.Errorf("nobody was told that the Child SA is gone: %+v", ev)
		}
	}
}

// TestCreateChildTimeout: a peer that answers nothing is dead (RFC 7296 2.4), over UDP and over a stream.
func TestCreateChildTimeout(t *testing.T) {
	for _, stream := range []bool{false, true} {
		w := upTwo(t, stream, same, same)
		w.Net = func(p Packet) (Packet, bool) { return p, false }
		w.West.open()
		w.Run(29 * time.Second)
		if w.West.Closed != nil {
			t.Fatal("too early")
		}
		w.Run(2 * time.Second)
		closedFor(t, w.West, event.ReasonTimeout, 0)
	}
}

// TestCreateChildStreamLost: the exchange goes on over the next stream (RFC 9329 6.2).
func TestCreateChildStreamLost(t *testing.T) {
	w := upTwo(t, true, pfs, pfs)
	w.West.Ladder = func(machine.NeedPath) machine.Input {
		return machine.PathReady{Path: w.West.TCP(), SPI: w.West.M.Snapshot().SPIi}
	}
	w.West.open()
	w.West.Lose()
	w.West.Step(machine.PathLost{Path: w.West.M.Snapshot().Path})
	w.Settle()
	agreedOn(t, w, 2)
}

// TestTemporaryFailure: it is asked again, not at once and not for ever (RFC 7296 2.25).
func TestTemporaryFailure(t *testing.T) {
	w := upTwo(t, false, same, same)
	refuse := func() {
		w.West.Lose()
		w.East.Inject(w.East.Forge(iana.CREATE_CHILD_SA, w.West.Sent[len(w.West.Sent)-1].Header().MessageID, true, Notify(iana.TEMPORARY_FAILURE)))
	}
	w.West.open()
	refuse()
	if len(w.West.Out) != 0 {
		t.Fatal("asked again at once")
	}
	for i := 1; ; i++ {
		w.Now = w.West.M.Deadline()
		w.West.Step(machine.Tick{})
		if len(w.West.Out) == 0 {
			break
		}
		refuse()
		if i > 10 {
			t.Fatal("asked for ever")
		}
		if _, failed := w.West.Last(event.KindChildFailed); failed {
			break
		}
	}
	if s := w.West.M.Snapshot(); len(s.Children) != 1 || len(w.West.Reserved) != 0 {
		t.Errorf("%+v", s)
	}
	said(t, w.West, "TEMPORARY_FAILURE", "asking again")
}

// TestChildUnwantedBeforeAsked: a child that is not wanted any more before its request could go out leaves nothing behind.
func TestChildUnwantedBeforeAsked(t *testing.T) {
	w := upTwo(t, false, same, same)
	w.West.Step(machine.OpenChild{Conn: w.West.Conn, Index: 1})
	w.West.Step(machine.OpenChild{Conn: w.West.Conn, Index: 1}) // waits for the window
	w.West.Step(machine.CloseChild{Child: w.West.M.Snapshot().Children[2].ID})
	w.Settle()
	agreedOn(t, w, 2)
}

// TestChildUnwantedWhileAsked: it goes as soon as the peer has made it.
func TestChildUnwantedWhileAsked(t *testing.T) {
	w := upTwo(t, false, pfs, pfs)
	w.West.open()
	w.West.Step(machine.CloseChild{Child: w.West.M.Snapshot().Children[1].ID})
	w.Settle()
	agreedOn(t, w, 1)
}

// TestCreateCrossing: both ends ask at once. Each request is answered; the two are Child SAs of their own.
func TestCreateCrossing(t *testing.T) {
	for _, hold := range []bool{false, true} {
		w := upTwo(t, false, pfs, pfs)
		if hold {
			for _, h := range []*Host{w.West, w.East} {
				h.Hold = func(machine.Effect) bool { return true }
			}
		}
		w.West.open()
		w.East.open()
		for range 10 {
			w.West.Complete()
			w.East.Complete()
			w.Settle()
		}
		agreedOn(t, w, 3)
	}
}

// TestCreateAgainstDeleteChild: one end asks for a child while the other deletes the first one.
func TestCreateAgainstDeleteChild(t *testing.T) {
	w := upTwo(t, false, pfs, pfs)
	w.East.Step(machine.CloseChild{Child: w.East.M.Snapshot().Children[0].ID})
	w.West.open()
	w.Settle()
	agreedOn(t, w, 1)
	if c := w.West.M.Snapshot().Children[0]; c.Index != 1 {
		t.Errorf("%+v", c)
	}
}

// TestCreateAgainstDeleteIKE: the request meets an IKE SA that is going, at each stage; nothing stays (RFC 7296 2.25.2).
func TestCreateAgainstDeleteIKE(t *testing.T) {
	gone := func(t *testing.T, w *World) {
		t.Helper()
		w.Run(time.Minute)
		for _, h := range []*Host{w.West, w.East} {
			if h.Closed == nil || len(h.Installed)+len(h.Reserved) != 0 {
				t.Errorf("%s: %+v, %v, %v", h.Name, h.M.Snapshot(), h.Installed, h.Reserved)
			}
		}
	}
	t.Run("crossing", func(t *testing.T) {
		w := upTwo(t, false, pfs, pfs)
		w.West.open()
		w.East.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: 2 * time.Second})
		gone(t, w)
	})
	t.Run("in work", func(t *testing.T) {
		w := upTwo(t, false, pfs, pfs)
		w.East.Hold = func(e machine.Effect) bool { _, ok := e.(machine.Install); return ok }
		w.West.open()
		w.Settle()
		w.East.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: 2 * time.Second})
		if n, _ := wire.Get[wire.Notify](inside(t, w.East, w.East.Out[0])); n.Notify != iana.TEMPORARY_FAILURE {
			t.Errorf("the request in work is answered with %v", n)
		}
		held := w.East.Held
		w.East.Held = nil
		gone(t, w)
		for _, e := range held {
			w.East.Step(machine.InstallDone{Child: e.(machine.Install).Child})
		}
	})
	t.Run("by the asker", func(t *testing.T) {
		w := upTwo(t, false, pfs, pfs)
		w.West.open()
		w.West.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: 2 * time.Second})
		gone(t, w)
	})
	t.Run("never established", func(t *testing.T) {
		w := upTwo(t, false, pfs, pfs)
		w.West.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: 2 * time.Second})
		w.West.open()
		e, ok := w.West.Last(event.KindChildFailed)
		if !ok || e.Conn != "west-east" {
			t.Errorf("%+v", e)
		}
		gone(t, w)
	})
}

// answerCreate makes east answer west's CREATE_CHILD_SA request with these payloads.
func answerCreate(t *testing.T, west func(*policy.Connection), items ...wire.Item) *World {
	t.Helper()
	w := upTwo(t, false, west, same)
	w.West.open()
	id := w.West.Out[0].Header().MessageID
	w.West.Deliver()
	w.East.Lose()
	w.East.Inject(w.East.Forge(iana.CREATE_CHILD_SA, id, true, items...))
	return w
}

// TestBadCreateAnswers: an answer that cannot be: what the peer has made is deleted there, and the IKE SA stays.
func TestBadCreateAnswers(t *testing.T) {
	sa := func(ke iana.KE, spi ...byte) wire.Item {
		a := ESP("aes_gcm256").Offer(iana.ProtoESP, spi, false)
		a.Proposals[0].Transforms = a.Proposals[0].Transforms[:1]
		if ke != iana.KE_NONE {
			a.Proposals[0].Transforms = append(a.Proposals[0].Transforms, wire.Transform{Type: iana.TransformKE, ID: uint16(ke)})
		}
		a.Proposals[0].Transforms = append(a.Proposals[0].Transforms, wire.Transform{Type: iana.TransformSN, ID: uint16(iana.SN_ESN)})
		return wire.Item{Payload: a}
	}
	nonce := wire.Item{Payload: wire.Nonce{Data: make([]byte, 32)}}
	ke := func(k iana.KE, n int) wire.Item {
		return wire.Item{Payload: wire.KE{Method: k, Data: binary.BigEndian.AppendUint32(make([]byte, n-4), 9)}}
	}
	tsi := wire.Item{Payload: wire.TS{Payload: iana.PayloadTSi, Selectors: TS("10.1.0.0/16").ToWire()}}
	tsr := wire.Item{Payload: wire.TS{Payload: iana.PayloadTSr, Selectors: TS("10.2.0.0/16").ToWire()}}
	wide := wire.Item{Payload: wire.TS{Payload: iana.PayloadTSr, Selectors: TS("0.0.0.0/0").ToWire()}}
	x := iana.KE_CURVE25519
	if s := answerCreate(t, optionalPFS, sa(iana.KE_NONE, 1, 2, 3, 4), nonce, tsi, tsr).West.M.Snapshot(); len(s.Children) != 2 || s.Children[1].Suite.KE != iana.KE_NONE {
		t.Errorf("an answer without a key exchange, which was optional: %+v", s)
	}
	good := answerCreate(t, pfs, sa(x, 1, 2, 3, 4), nonce, ke(x, 32), tsi, tsr)
	if s := good.West.M.Snapshot(); len(s.Children) != 2 || s.Children[1].SPIOut != 0x01020304 || len(good.West.Installed) != 2 {
		t.Fatalf("the good answer is not taken: %+v\n%v", s, good.West.Lines())
	}
	for name, items := range map[string][]wire.Item{
		"wider selectors": {sa(x, 1, 2, 3, 4), nonce, ke(x, 32), tsi, wide},
		"SPI zero":        {sa(x, 0, 0, 0, 0), nonce, ke(x, 32), tsi, tsr},
		"no KE":           {sa(x, 1, 2, 3, 4), nonce, tsi, tsr},
		"KE of another":   {sa(x, 1, 2, 3, 4), nonce, ke(iana.KE_ECP256, 64), tsi, tsr},
		"short KE":        {sa(x, 1, 2, 3, 4), nonce, ke(x, 31), tsi, tsr},
		"no PFS chosen":   {sa(iana.KE_NONE, 1, 2, 3, 4), nonce, tsi, tsr},
		"another group":   {sa(iana.KE_ECP256, 1, 2, 3, 4), nonce, ke(iana.KE_ECP256, 64), tsi, tsr},
	} {
		t.Run(name, func(t *testing.T) {
			w := answerCreate(t, pfs, items...)
			if len(w.West.Out) != 1 || w.West.Out[0].Header().Exchange != iana.INFORMATIONAL {
				t.Fatalf("it is not deleted at the peer: %d messages\n%v", len(w.West.Out), w.West.Lines())
			}
			w.Settle()
			unmade(t, w, 0)
		})
	}
	for name, items := range map[string][]wire.Item{
		"an error":       {Notify(iana.NO_ADDITIONAL_SAS)},
		"a status":       {Notify(iana.ADDITIONAL_TS_POSSIBLE)},
		"INVALID_KE":     {Notify(iana.INVALID_KE_PAYLOAD, 0, 14)},
		"INVALID_KE odd": {Notify(iana.INVALID_KE_PAYLOAD, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			w := answerCreate(t, pfs, items...)
			n := items[0].Payload.(wire.Notify).Notify
			if !n.Error() {
				n = iana.INVALID_SYNTAX
			}
			toldUnmade(t, w, n)
			if s := w.West.M.Snapshot(); s.State != "established" || len(s.Children) != 1 || len(w.West.Installed) != 1 || len(w.West.Reserved)+len(w.West.Out) != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
	t.Run("fatal", func(t *testing.T) {
		w := answerCreate(t, pfs, Notify(iana.INVALID_SYNTAX))
		closedFor(t, w.West, event.ReasonPeerError, iana.INVALID_SYNTAX)
	})
}

// TestCreateChildBadKE: a public value of the wrong size is malformed (RFC 6989 5, RFC 7296 2.21.3).
func TestCreateChildBadKE(t *testing.T) {
	w := upTwo(t, false, pfs, pfs)
	w.West.open()
	real := inside(t, w.West, w.West.Out[0])
	id := w.West.Out[0].Header().MessageID
	w.West.Lose()
	for i, it := range real {
		if ke, ok := it.Payload.(wire.KE); ok {
			real[i].Payload = wire.KE{Method: ke.Method, Data: ke.Data[:31]}
		}
	}
	w.West.Inject(w.West.Forge(iana.CREATE_CHILD_SA, id, false, real...))
	closedFor(t, w.East, event.ReasonSyntax, iana.INVALID_SYNTAX)
}

// TestChildrenAreBounded: a peer cannot have any number of Child SAs; what is there stays, and can be rekeyed once there is room.
func TestChildrenAreBounded(t *testing.T) {
	w := upTwo(t, false, same, same)
	for range 70 {
		w.West.open()
		w.Settle()
	}
	agreedOn(t, w, 65) // the first, and 64 of the second
	said(t, w.East, "64 Child SAs", "west-east/2", "NO_ADDITIONAL_SAS")
	w.West.Step(machine.CloseChild{Child: w.West.M.Snapshot().Children[1].ID})
	w.Settle()
	agreedOn(t, w, 64)
	w.West.Step(machine.RekeyChild{Child: w.West.M.Snapshot().Children[1].ID})
	w.Settle()
	agreedOn(t, w, 64)
	if w.West.count(event.KindChildRekeyed) != 1 {
		t.Error("not rekeyed")
	}
}

// TestChildOfASharingConnection: the peer may ask on this IKE SA for a child of another connection with the same identities, authentication and ike=, and for no
// other's.
func TestChildOfASharingConnection(t *testing.T) {
	other := func(change func(*policy.Connection)) *policy.Connection {
		c := Connection()
		c.Name, c.Children[0].Name = "other", "other"
		selectors(c, TS("10.1.0.0/16"), TS("10.2.0.0/16"))
		change(c)
		return c
	}
	for _, tc := range []struct {
		name   string
		change func(*policy.Connection)
		want   bool
	}{
		{"same", same, true},
		{"another identity of the peer", func(c *policy.Connection) { c.Left.ID.ID = ID("@north") }, false},
		{"another identity of ours", func(c *policy.Connection) { c.Right.ID.ID = ID("@south") }, false},
		{"another ike=", func(c *policy.Connection) { c.IKE = IKE("aes256-sha2_512-dh31") }, false},
		{"another authentication", func(c *policy.Connection) { c.Left.Auth = iana.AuthRSA }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := up(t)
			w.East.Candidates = append(w.East.Candidates, Oriented(other(tc.change), false))
			w.West.Step(machine.OpenChild{Conn: Oriented(other(same), true), Index: 0})
			w.Settle()
			if !tc.want {
				agreedOn(t, w, 1)
				said(t, w.West, "TS_UNACCEPTABLE", `"other"`)
				return
			}
			agreedOn(t, w, 2)
			for _, h := range []*Host{w.West, w.East} {
				if c := h.M.Snapshot().Children[1]; c.Conn != "other" {
					t.Errorf("%s: %+v", h.Name, c)
				}
			}
			// A connection that is not loaded any more gets nothing.
			w.East.Candidates = w.East.Candidates[1:]
			w.West.Step(machine.OpenChild{Conn: w.West.Conn, Index: 0})
			w.Settle()
			agreedOn(t, w, 2)
		})
	}
}

package twosa

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/pkg/wire"
)

// selectors sets what a connection protects.
func selectors(c *policy.Connection, left, right ts.Set) {
	c.Left.Subnets, c.Right.Subnets = left, right
	c.Children[0].Left, c.Children[0].Right = left, right
}

// childless checks that the IKE SA is up at both ends without a child, and that nothing is left behind.
func childless(t *testing.T, w *World, why event.Reason, n iana.Notify) {
	t.Helper()
	for _, h := range []*Host{w.West, w.East} {
		if s := h.M.Snapshot(); s.State != "established" || len(s.Children) != 0 || len(h.Installed)+len(h.Reserved) != 0 {
			t.Errorf("%s: %+v, installed %v, reserved %v", h.Name, s, h.Installed, h.Reserved)
		}
		e, ok := h.Last(event.KindChildFailed)
		if !ok || e.Close == nil {
			t.Errorf("%s did not tell that the child failed", h.Name)
			continue
		}
		if e.Close.Reason != why && h == w.East || e.Close.Notify != n {
			t.Errorf("%s: child failed for %v (%v)", h.Name, e.Close.Reason, e.Close.Notify)
		}
	}
	// The IKE SA works.
	w.West.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: time.Second})
	w.Settle()
	closedFor(t, w.East, event.ReasonPeerDeleted, 0)
}

func TestNoESPProposal(t *testing.T) {
	w := Pair(1, func(c *policy.Connection) { c.Children[0].ESP = ESP("aes_gcm128") }, nil)
	w.West.Initiate(w.West.UDP())
	w.Settle()
	said(t, w.East, "refused Child SA", `"west-east"`, "ipsec.conf:4", "offered AES_GCM_16_128", "allowed AES_GCM_16_256", "NO_PROPOSAL_CHOSEN")
	said(t, w.West, "192.1.2.23", "refused Child SA", "NO_PROPOSAL_CHOSEN", "AES_GCM_16_128", "ipsec.conf:4")
	childless(t, w, event.ReasonNoProposal, iana.NO_PROPOSAL_CHOSEN)
}

func TestTSUnacceptable(t *testing.T) {
	w := Pair(1, func(c *policy.Connection) { selectors(c, TS("192.0.1.0/24"), TS("10.9.0.0/16")) }, nil)
	w.West.Initiate(w.West.UDP())
	w.Settle()
	said(t, w.East, "192.0.1.0/24", "10.9.0.0/16", "192.0.2.0/24", "rightsubnet= of ipsec.conf:10", "TS_UNACCEPTABLE")
	said(t, w.West, "TS_UNACCEPTABLE", "10.9.0.0/16", "leftsubnet= of ipsec.conf:7", "rightsubnet= of ipsec.conf:10")
	childless(t, w, event.ReasonTSUnacceptable, iana.TS_UNACCEPTABLE)
}

// TestNarrowing: with narrowing=yes on both ends the responder takes the part that it allows (RFC 7296 2.9).
func TestNarrowing(t *testing.T) {
	wide := func(c *policy.Connection) { selectors(c, TS("192.0.0.0/16"), TS("0.0.0.0/0")); c.Narrowing = true }
	w := Pair(1, wide, func(c *policy.Connection) { c.Narrowing = true })
	w.West.Initiate(w.West.UDP())
	w.Settle()
	agreed(t, w)
	c := w.West.M.Snapshot().Children[0]
	if !c.Local.Equal(TS("192.0.1.0/24")) || !c.Remote.Equal(TS("192.0.2.0/24")) {
		t.Errorf("narrowed to %v===%v", c.Local, c.Remote)
	}
}

// TestNarrowingNotWanted: the responder narrows and the initiator's connection has narrowing=no: the child goes, the IKE SA stays.
func TestNarrowingNotWanted(t *testing.T) {
	w := Pair(1, func(c *policy.Connection) { selectors(c, TS("192.0.0.0/16"), TS("192.0.2.0/24")) }, func(c *policy.Connection) { c.Narrowing = true })
	w.West.Initiate(w.West.UDP())
	w.Settle()
	said(t, w.West, "narrowed", "192.0.1.0/24", "narrowing=yes")
	if s := w.East.M.Snapshot(); len(s.Children)+len(w.East.Installed)+len(w.West.Installed) != 0 || s.State != "established" {
		t.Errorf("east: %+v", s)
	}
	if _, ok := w.East.Last(event.KindChildClosed); !ok {
		t.Error("east was not told")
	}
}

// TestNarrowingRefused: narrowing=no on the responder refuses what it does not allow as a whole, and says what would help.
func TestNarrowingRefused(t *testing.T) {
	w := Pair(1, func(c *policy.Connection) { selectors(c, TS("192.0.0.0/16"), TS("192.0.2.0/24")) }, nil)
	w.West.Initiate(w.West.UDP())
	w.Settle()
	said(t, w.East, "192.0.0.0/16", "narrowing=yes")
	childless(t, w, event.ReasonTSUnacceptable, iana.TS_UNACCEPTABLE)
}

// TestHostToHost: without subnets the hosts themselves are protected.
func TestHostToHost(t *testing.T) {
	hosts := func(c *policy.Connection) { selectors(c, nil, nil) }
	w := Pair(1, hosts, hosts)
	w.West.Initiate(w.West.UDP())
	w.Settle()
	agreed(t, w)
	if c := w.West.M.Snapshot().Children[0]; c.Local.String() != "192.1.2.45/32" || c.Remote.String() != "192.1.2.23/32" {
		t.Errorf("%v===%v", c.Local, c.Remote)
	}
}

// TestChildOfAnotherConnection: the identities choose one connection, the selectors fit another with the same ends: the IKE SA becomes that one's.
func TestChildOfAnotherConnection(t *testing.T) {
	w := Pair(1, nil, nil)
	other := Connection()
	other.Name, other.Children[0].Name = "other", "other"
	selectors(other, TS("172.16.0.0/12"), TS("172.31.0.0/16"))
	w.East.Candidates = []*policy.Oriented{Oriented(other, false), w.East.Conn}
	w.West.Initiate(w.West.UDP())
	w.Settle()
	agreed(t, w)
	if s := w.East.M.Snapshot(); s.Conn != "west-east" || s.Children[0].Conn != "west-east" {
		t.Errorf("the IKE SA is not the one's whose child was asked for: %+v", s)
	}
}

// TestSecondChildOfConnection: any of a connection's children may be the first one asked for.
func TestSecondChildOfConnection(t *testing.T) {
	w := Pair(1, nil, func(c *policy.Connection) {
		c.Children = []policy.Child{{Name: "west-east/1", ESP: ESP("aes_gcm256"), Left: TS("172.16.0.0/12"), Right: TS("172.31.0.0/16")}, c.Children[0]}
	})
	w.West.Initiate(w.West.UDP())
	w.Settle()
	agreed(t, w)
	if c := w.East.M.Snapshot().Children[0]; c.Index != 1 {
		t.Errorf("%+v", c)
	}
}

func TestESN(t *testing.T) {
	for _, tc := range []struct {
		west, east []iana.SN
		want       iana.SN
	}{
		{[]iana.SN{iana.SN_ESN, iana.SN_32}, []iana.SN{iana.SN_ESN, iana.SN_32}, iana.SN_ESN},
		{[]iana.SN{iana.SN_32}, []iana.SN{iana.SN_ESN, iana.SN_32}, iana.SN_32},
		{[]iana.SN{iana.SN_ESN, iana.SN_32}, []iana.SN{iana.SN_32}, iana.SN_32},
	} {
		set := func(sn []iana.SN) func(*policy.Connection) {
			return func(c *policy.Connection) { c.Children[0].ESP[0].SN = sn }
		}
		w := Pair(1, set(tc.west), set(tc.east))
		w.West.Initiate(w.West.UDP())
		w.Settle()
		agreed(t, w)
		if sn := w.West.M.Snapshot().Children[0].Suite.SN; sn != tc.want {
			t.Errorf("%v, %v: %v", tc.west, tc.east, sn)
		}
	}
}

// TestInstallBeforeReply: the responder answers IKE_AUTH only when its datapath has the SAs.
func TestInstallBeforeReply(t *testing.T) {
	w := Pair(1, nil, nil)
	w.East.Hold = func(e machine.Effect) bool { _, ok := e.(machine.Install); return ok }
	w.West.Initiate(w.West.UDP())
	w.Settle()
	if len(w.East.Sent) != 1 || len(w.East.Held) != 1 {
		t.Fatalf("east sent %d messages, holds %d", len(w.East.Sent), len(w.East.Held))
	}
	if s := w.East.M.Snapshot().State; s != "half-open" {
		t.Errorf("east is %s", s)
	}
	w.East.Complete()
	w.Settle()
	agreed(t, w)
}

// TestCompletionsInAnyOrder: signature, SPI and installation come back in any order.
func TestCompletionsInAnyOrder(t *testing.T) {
	for _, sign := range []bool{true, false} {
		for _, stream := range []bool{true, false} {
			w := Pair(1, nil, nil)
			for _, h := range []*Host{w.West, w.East} {
				h.Hold = func(e machine.Effect) bool {
					j, ok := e.(machine.Job)
					return ok && j.Sign != nil == sign && j.Finish == nil && j.Pending == nil && j.Verify == nil || !ok && !sign
				}
			}
			p := w.West.UDP()
			if stream {
				p = w.West.TCP()
			}
			w.West.Initiate(p)
			for range 6 {
				w.Settle()
				w.West.Complete()
				w.East.Complete()
			}
			agreed(t, w)
		}
	}
}

func TestResponderInstallFails(t *testing.T) {
	w := Pair(1, nil, nil)
	w.East.FailInstall = errors.New("kernel says no")
	w.West.Initiate(w.West.UDP())
	w.Settle()
	said(t, w.East, "installation failed", "west-east", "kernel says no", "NO_ADDITIONAL_SAS")
	said(t, w.West, "NO_ADDITIONAL_SAS")
	childless(t, w, event.ReasonInstallFailed, iana.NO_ADDITIONAL_SAS)
}

func TestResponderNoSPI(t *testing.T) {
	w := Pair(1, nil, nil)
	w.East.FailSPI = errors.New("no SPI left")
	w.West.Initiate(w.West.UDP())
	w.Settle()
	said(t, w.East, "no SPI for", "no SPI left")
	childless(t, w, event.ReasonInstallFailed, iana.NO_ADDITIONAL_SAS)
}

// TestInitiatorInstallFails: the responder has the child already; it is deleted there, and the IKE SA stays.
func TestInitiatorInstallFails(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.FailInstall = errors.New("kernel says no")
	w.West.Initiate(w.West.UDP())
	w.Settle()
	said(t, w.West, "could not be installed", "kernel says no", "the IKE SA stays")
	for _, h := range []*Host{w.West, w.East} {
		if s := h.M.Snapshot(); s.State != "established" || len(s.Children) != 0 || len(h.Installed)+len(h.Reserved) != 0 {
			t.Errorf("%s: %+v", h.Name, s)
		}
	}
}

func TestInitiatorNoSPI(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.FailSPI = errors.New("no SPI left")
	w.West.Initiate(w.West.UDP())
	w.Settle()
	closedFor(t, w.West, event.ReasonInstallFailed, 0)
	said(t, w.West, "no SPI for Child SA", "no SPI left")
}

// TestChildClosedWhileInstalled: the owner's wish comes while the datapath is at work.
func TestChildClosedWhileInstalled(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.Hold = func(e machine.Effect) bool { _, ok := e.(machine.Install); return ok }
	w.West.Initiate(w.West.UDP())
	w.Settle()
	w.West.Step(machine.CloseChild{Child: w.West.M.Snapshot().Children[0].ID})
	if len(w.West.Out) != 0 {
		t.Fatal("deleted before it is there")
	}
	w.West.Complete()
	w.Settle()
	if len(w.West.Installed)+len(w.East.Installed) != 0 {
		t.Error("the child is still there")
	}
}

// TestPeerDeletesWhileInstalling: the peer deletes the child while our datapath is at work; the late completion harms nobody.
func TestPeerDeletesWhileInstalling(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.Hold = func(e machine.Effect) bool { _, ok := e.(machine.Install); return ok }
	w.West.Initiate(w.West.UDP())
	w.Settle()
	w.East.Step(machine.CloseChild{Child: w.East.M.Snapshot().Children[0].ID})
	w.Settle()
	if s := w.West.M.Snapshot(); len(s.Children) != 0 {
		t.Errorf("%+v", s)
	}
	if e, ok := w.West.Last(event.KindChildFailed); !ok || e.Close == nil || e.Close.Reason != event.ReasonPeerDeleted {
		t.Error("whoever waits for the child does not hear that it will not be there")
	}
	w.West.Complete()
	if _, ok := w.West.Last(event.KindChildUp); ok {
		t.Error("a deleted child is up")
	}
}

// childAnswer makes east answer IKE_AUTH with these payloads for the child.
func childAnswer(t *testing.T, items ...wire.Item) *World {
	t.Helper()
	w := Pair(1, nil, nil)
	w.West.Initiate(w.West.UDP())
	w.West.Deliver()
	w.East.Deliver()
	w.West.Deliver()
	real := inside(t, w.East, w.East.Out[0])
	w.East.Lose()
	w.East.Inject(w.East.Forge(iana.IKE_AUTH, 1, true, append(real[:2:2], items...)...))
	return w
}

// TestBadChildAnswers: the responder is who it says, but what it says about the child cannot be: the child is deleted, the IKE SA stays.
func TestBadChildAnswers(t *testing.T) {
	offer := Connection().Children[0].ESP
	sa := func(spi ...byte) wire.Item {
		a := offer.Offer(iana.ProtoESP, spi, false)
		a.Proposals[0].Transforms = append(a.Proposals[0].Transforms[:1], wire.Transform{Type: iana.TransformSN, ID: uint16(iana.SN_ESN)})
		return wire.Item{Payload: a}
	}
	tsi := wire.Item{Payload: wire.TS{Payload: iana.PayloadTSi, Selectors: TS("192.0.1.0/24").ToWire()}}
	tsr := wire.Item{Payload: wire.TS{Payload: iana.PayloadTSr, Selectors: TS("192.0.2.0/24").ToWire()}}
	wide := wire.Item{Payload: wire.TS{Payload: iana.PayloadTSr, Selectors: TS("0.0.0.0/0").ToWire()}}
	other := wire.Item{Payload: ESP("aes128-sha2_256").Offer(iana.ProtoESP, []byte{1, 2, 3, 4}, false)}
	good := childAnswer(t, sa(1, 2, 3, 4), tsi, tsr)
	if s := good.West.M.Snapshot(); len(s.Children) != 1 || s.Children[0].SPIOut != 0x01020304 {
		t.Fatalf("the good answer is not taken: %+v\n%v", s, good.West.Lines())
	}
	for name, items := range map[string][]wire.Item{
		"wider selectors": {sa(1, 2, 3, 4), tsi, wide},
		"no TSr":          {sa(1, 2, 3, 4), tsi},
		"no TSi":          {sa(1, 2, 3, 4), tsr},
		"SPI zero":        {sa(0, 0, 0, 0), tsi, tsr},
		"other suite":     {other, tsi, tsr},
		"empty TSr":       {sa(1, 2, 3, 4), tsi, {Payload: wire.TS{Payload: iana.PayloadTSr}}},
		"nothing":         {},
		"only an error":   {Notify(iana.TS_UNACCEPTABLE)},
		"only a status":   {Notify(iana.ADDITIONAL_TS_POSSIBLE)},
	} {
		t.Run(name, func(t *testing.T) {
			w := childAnswer(t, items...)
			s := w.West.M.Snapshot()
			if name == "empty TSr" && s.State == "deleting" {
				return // a TS payload without selectors is malformed: the whole message is
			}
			if s.State != "established" || len(w.West.Installed) != 0 {
				t.Fatalf("west: %+v\n%v", s, w.West.Lines())
			}
			if _, ok := w.West.Last(event.KindChildFailed); !ok {
				t.Error("not told")
			}
			if _, hasSA := wire.Get[wire.SA](items); hasSA != (len(w.West.Out) == 1) {
				t.Errorf("%d requests to delete it", len(w.West.Out))
			}
		})
	}
}

// TestTransportModeNotEchoed: a request for transport mode gets tunnel mode (RFC 7296 1.3.1).
func TestTransportModeNotEchoed(t *testing.T) {
	w := keyed(t)
	real := inside(t, w.West, w.West.Sent[1])
	p := w.West.Forge(iana.IKE_AUTH, 1, false, append(real, Notify(iana.USE_TRANSPORT_MODE), Notify(iana.ESP_TFC_PADDING_NOT_SUPPORTED),
		Notify(iana.NON_FIRST_FRAGMENTS_ALSO))...)
	p.Path = w.West.Sent[1].Path
	w.West.Inject(p)
	if _, ok := wire.GetNotify(inside(t, w.East, w.East.Out[0]), iana.USE_TRANSPORT_MODE); ok {
		t.Error("transport mode is echoed")
	}
	w.Settle()
	agreed(t, w)
}

// TestLinesStayShort: however many selectors and templates there are, a line of the log does not grow with them.
func TestLinesStayShort(t *testing.T) {
	var many ts.Set
	for i := range 255 {
		many = append(many, TS(fmt.Sprintf("10.%d.0.0/16", i))...)
	}
	w := Pair(1, func(c *policy.Connection) { selectors(c, many, many) }, nil)
	for i := range 200 {
		c := Connection()
		c.Name = fmt.Sprintf("template-%d", i)
		w.East.Candidates = append(w.East.Candidates, Oriented(c, false))
	}
	w.West.Initiate(w.West.UDP())
	w.Settle()
	childless(t, w, event.ReasonTSUnacceptable, iana.TS_UNACCEPTABLE)
	w.West.Conn.Left.ID = ident.Pattern{ID: ID("@nobody")}
	w.East.M, w.East.Closed = nil, nil
	w.West.Initiate(w.West.UDP())
	w.Settle()
	said(t, w.East, "@nobody", "and 193 more")
	for _, l := range append(w.West.Lines(), w.East.Lines()...) {
		if len(l) > 3000 {
			t.Errorf("a line of %d octets: %.200s", len(l), l)
		}
	}
}

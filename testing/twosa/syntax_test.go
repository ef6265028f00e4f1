package twosa

import (
	"bytes"
	"testing"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// malformed is what an authenticated peer may put inside a message that is no chain of payloads, or not a permitted one.
var malformed = map[string]struct {
	first iana.Payload
	plain []byte
}{
	"length too long":      {iana.PayloadNotify, []byte{0, 0, 0, 20, 0, 0, 0x40, 0}},
	"length below header":  {iana.PayloadNotify, []byte{0, 0, 0, 3, 0, 0, 0x40, 0}},
	"trailing octets":      {iana.PayloadVendorID, []byte{0, 0, 0, 5, 1, 2, 3}},
	"chain without end":    {iana.PayloadVendorID, []byte{byte(iana.PayloadVendorID), 0, 0, 4}},
	"SK inside SK":         {iana.PayloadSK, []byte{0, 0, 0, 8, 1, 2, 3, 4}},
	"SKF inside SK":        {iana.PayloadSKF, []byte{0, 0, 0, 12, 0, 1, 0, 1, 1, 2, 3, 4}},
	"delete with bad size": {iana.PayloadDelete, []byte{0, 0, 0, 12, 3, 4, 0, 9, 1, 2, 3, 4}},
	"delete beyond end":    {iana.PayloadDelete, []byte{0, 0, 0, 8, 3, 4, 255, 255}},
	"one octet":            {iana.PayloadNotify, []byte{0}},
	"not announced":        {iana.PayloadNone, []byte{1, 2, 3, 4}},
}

// TestMalformedInside: an authentic request whose inside cannot be read gets INVALID_SYNTAX, and the IKE SA ends at both ends (RFC 7296 2.21.3).
func TestMalformedInside(t *testing.T) {
	for name, m := range malformed {
		t.Run(name, func(t *testing.T) {
			w := up(t)
			w.West.Inject(w.West.ForgeRaw(iana.INFORMATIONAL, 2, false, m.first, m.plain))
			closedFor(t, w.East, event.ReasonSyntax, iana.INVALID_SYNTAX)
			n, ok := wire.Get[wire.Notify](inside(t, w.West, w.East.Out[0]))
			if !ok || n.Notify != iana.INVALID_SYNTAX {
				t.Errorf("answered %v", n)
			}
			said(t, w.East, "INFORMATIONAL request", "192.1.2.45", "malformed", "INVALID_SYNTAX")
		})
		t.Run("IKE_AUTH request "+name, func(t *testing.T) {
			w := keyed(t)
			w.West.Inject(w.West.ForgeRaw(iana.IKE_AUTH, 1, false, m.first, m.plain))
			closedFor(t, w.East, event.ReasonSyntax, iana.INVALID_SYNTAX)
			w.Settle()
			closedFor(t, w.West, event.ReasonPeerError, iana.INVALID_SYNTAX)
		})
		t.Run("IKE_AUTH response "+name, func(t *testing.T) {
			w := Pair(1, nil, nil)
			w.West.Initiate(w.West.UDP())
			w.West.Deliver()
			w.East.Deliver()
			w.West.Deliver()
			w.East.Lose()
			w.East.Inject(w.East.ForgeRaw(iana.IKE_AUTH, 1, true, m.first, m.plain))
			w.Settle()
			closedFor(t, w.West, event.ReasonSyntax, iana.INVALID_SYNTAX)
			closedFor(t, w.East, event.ReasonPeerError, iana.INVALID_SYNTAX) // was told in INFORMATIONAL
		})
		t.Run("INFORMATIONAL response "+name, func(t *testing.T) {
			w := up(t)
			w.West.Step(machine.CloseChild{Child: w.West.M.Snapshot().Children[0].ID})
			w.West.Deliver()
			w.East.Lose()
			w.East.Inject(w.East.ForgeRaw(iana.INFORMATIONAL, 2, true, m.first, m.plain))
			w.Settle()
			closedFor(t, w.West, event.ReasonSyntax, iana.INVALID_SYNTAX)
			closedFor(t, w.East, event.ReasonPeerDeleted, 0)
		})
	}
}

// TestMissingAndTwice: payloads that must be there and are not, or are there twice.
func TestMissingAndTwice(t *testing.T) {
	real := func(w *World) []wire.Item { return inside(t, w.West, w.West.Sent[1]) } // IDi IDr AUTH SA TSi TSr
	for _, drop := range []int{0, 3, 4, 5} {
		w := keyed(t)
		items := real(w)
		w.West.Inject(w.West.Forge(iana.IKE_AUTH, 1, false, append(items[:drop:drop], items[drop+1:]...)...))
		closedFor(t, w.East, event.ReasonSyntax, iana.INVALID_SYNTAX)
		said(t, w.East, "no "+items[drop].Type().String()+" payload")
	}
	for twice := range 6 {
		w := keyed(t)
		items := real(w)
		w.West.Inject(w.West.Forge(iana.IKE_AUTH, 1, false, append(items, items[twice])...))
		closedFor(t, w.East, event.ReasonSyntax, iana.INVALID_SYNTAX)
		said(t, w.East, "more than one "+items[twice].Type().String()+" payload")
	}
	// Order does not matter (RFC 7296 2.5).
	w := keyed(t)
	items := real(w)
	for i, j := 0, len(items)-1; i < j; i, j = i+1, j-1 {
		items[i], items[j] = items[j], items[i]
	}
	p := w.West.Forge(iana.IKE_AUTH, 1, false, items...)
	p.Path = w.West.Sent[1].Path
	w.West.Inject(p)
	w.Settle()
	agreed(t, w)
}

// TestCriticalInside: an unknown critical payload rejects a request by name; one that is not critical is skipped (RFC 7296 2.5).
func TestCriticalInside(t *testing.T) {
	unknown := func(critical bool) wire.Item {
		return wire.Item{Payload: wire.Unknown{PayloadType: 200, Data: []byte{1, 2}}, Critical: critical}
	}
	w := up(t)
	w.West.Inject(w.West.Forge(iana.INFORMATIONAL, 2, false, unknown(false)))
	if items := inside(t, w.East, w.East.Out[0]); len(items) != 0 {
		t.Errorf("answered %v", items)
	}
	w.West.Inject(w.West.Forge(iana.INFORMATIONAL, 3, false, unknown(true)))
	n, ok := wire.Get[wire.Notify](inside(t, w.East, w.East.Out[1]))
	if !ok || n.Notify != iana.UNSUPPORTED_CRITICAL_PAYLOAD || !bytes.Equal(n.Data, []byte{200}) {
		t.Errorf("answered %v", n)
	}
	agreed(t, w)

	w = keyed(t)
	w.West.Inject(w.West.Forge(iana.IKE_AUTH, 1, false, append(inside(t, w.West, w.West.Sent[1]), unknown(true))...))
	closedFor(t, w.East, event.ReasonSyntax, iana.UNSUPPORTED_CRITICAL_PAYLOAD)

	w = keyed(t)
	w.West.Inject(Packet{Path: w.West.Sent[1].Path, Data: w.West.Sent[1].Data})
	w.East.Lose()
	w.East.Inject(w.East.Forge(iana.IKE_AUTH, 1, true, unknown(true)))
	w.Settle()
	closedFor(t, w.West, event.ReasonSyntax, iana.UNSUPPORTED_CRITICAL_PAYLOAD)
	closedFor(t, w.East, event.ReasonPeerError, iana.UNSUPPORTED_CRITICAL_PAYLOAD)

	w = up(t)
	w.West.Step(machine.CloseChild{Child: w.West.M.Snapshot().Children[0].ID})
	w.East.Inject(w.East.Forge(iana.INFORMATIONAL, 2, true, unknown(true)))
	if s := w.West.M.Snapshot().State; s != "deleting" {
		t.Errorf("west is %s", s)
	}
	w.East.Inject(w.East.Forge(iana.INFORMATIONAL, 3, true, unknown(true))) // and again in the answer to the Delete
	closedFor(t, w.West, event.ReasonSyntax, iana.UNSUPPORTED_CRITICAL_PAYLOAD)
}

// TestKnownButOdd: payloads that are known but have no place in an exchange are ignored, whatever their critical bit (RFC 7296 2.5, 3.2).
func TestKnownButOdd(t *testing.T) {
	w := up(t)
	odd := []wire.Item{
		{Payload: wire.KE{Method: 9999, Data: []byte{1}}, Critical: true},
		{Payload: wire.Nonce{Data: make([]byte, 16)}, Critical: true},
		{Payload: wire.EAP{Data: []byte{1, 2, 0, 4}}},
		{Payload: wire.CP{CFGType: iana.CFG_REQUEST}},
		{Payload: wire.VendorID{Data: []byte("who knows")}},
	}
	w.West.Inject(w.West.Forge(iana.INFORMATIONAL, 2, false, odd...))
	if len(w.East.Out) != 1 || len(inside(t, w.East, w.East.Out[0])) != 0 {
		t.Errorf("answers %v", w.East.Out)
	}
	agreed(t, w)
}

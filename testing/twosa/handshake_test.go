package twosa

import (
	"bytes"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

func TestHandshakeUDP(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.Initiate(w.West.UDP())
	w.West.Deliver() // IKE_SA_INIT request
	w.East.Deliver() // IKE_SA_INIT response
	w.West.Deliver() // IKE_AUTH request
	w.East.Deliver() // IKE_AUTH response
	agreed(t, w)
	for _, l := range append(w.West.Lines(), w.East.Lines()...) {
		t.Log(l)
	}
	if p := w.West.M.Snapshot().Path; p.Local.Port() != iana.PortIKENATT || p.Remote.Port() != iana.PortIKENATT {
		t.Errorf("did not float to port 4500: %v", p)
	}
}

func TestHandshakeTCP(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.Initiate(w.West.TCP())
	w.Settle()
	agreed(t, w)
}

// agreed checks that both ends have the same IKE SA with one Child SA, installed with crossed SPIs and the same keys.
func agreed(t *testing.T, w *World) {
	t.Helper()
	agreedOn(t, w, 1)
}

// agreedOn checks that both ends have the same IKE SA and the same n Child SAs, and that nothing is left over.
func agreedOn(t *testing.T, w *World, n int) {
	t.Helper()
	ws, es := w.West.M.Snapshot(), w.East.M.Snapshot()
	if ws.State != "established" || es.State != "established" {
		t.Fatalf("west is %s, east is %s\n%s", ws.State, es.State, strings.Join(append(w.West.Lines(), w.East.Lines()...), "\n"))
	}
	if ws.SPIi != es.SPIi || ws.SPIr != es.SPIr || ws.Suite != es.Suite {
		t.Errorf("IKE SAs differ: %+v, %+v", ws, es)
	}
	if len(ws.Children) != n || len(es.Children) != n || len(w.West.Installed) != n || len(w.East.Installed) != n {
		t.Fatalf("children: %d and %d, installed %d and %d\n%s", len(ws.Children), len(es.Children), len(w.West.Installed), len(w.East.Installed),
			strings.Join(append(w.West.Lines(), w.East.Lines()...), "\n"))
	}
	for _, c := range ws.Children {
		fit(t, w.West.Installed[c.SPIIn], w.East.Installed[c.SPIOut])
	}
	for _, h := range []*Host{w.West, w.East} {
		if _, ok := h.Last(event.KindIKEUp); !ok {
			t.Errorf("%s did not tell that the IKE SA is up", h.Name)
		}
		if _, ok := h.Last(event.KindChildUp); !ok {
			t.Errorf("%s did not tell that the Child SA is up", h.Name)
		}
		if len(h.Proved) != 1 {
			t.Errorf("%s: %d Authenticated effects", h.Name, len(h.Proved))
		}
		if len(h.Reserved) != 0 {
			t.Errorf("%s keeps reserved SPIs: %v", h.Name, h.Reserved)
		}
	}
}

// fit checks that two installations are the two ends of one Child SA.
func fit(t *testing.T, a, b machine.Install) {
	t.Helper()
	if a.SPIIn == 0 || a.SPIIn != b.SPIOut || a.SPIOut != b.SPIIn || a.Suite != b.Suite {
		t.Errorf("Child SAs do not fit: %#x/%#x %v, %#x/%#x %v", a.SPIIn, a.SPIOut, a.Suite, b.SPIIn, b.SPIOut, b.Suite)
	}
	if len(a.In.Encr) == 0 || !bytes.Equal(a.In.Encr, b.Out.Encr) || !bytes.Equal(a.Out.Encr, b.In.Encr) || bytes.Equal(a.In.Encr, a.Out.Encr) {
		t.Error("keys do not fit")
	}
	if !a.Local.Equal(b.Remote) || !a.Remote.Equal(b.Local) {
		t.Errorf("selectors do not fit: %v===%v, %v===%v", a.Local, a.Remote, b.Local, b.Remote)
	}
}

// TestLargeMessages: messages of 1280 octets have to be handled, of 3000 should (RFC 7296 2), and a frame of a stream may hold 65,000.
func TestLargeMessages(t *testing.T) {
	for i, size := range []int{1280, 3000, 65000} {
		w := upTCP(t)
		w.West.Inject(w.West.Forge(iana.INFORMATIONAL, 2, false, wire.Item{Payload: wire.VendorID{Data: make([]byte, size)}}))
		if len(w.East.Out) != 1 {
			t.Errorf("%d: no answer to a message with %d octets of Vendor ID", i, size)
		}
	}
}

// TestNonces: 32 octets are half the key of the largest PRF (RFC 7296 2.10), and no two are the same.
func TestNonces(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(4) {
		w := Pair(seed, nil, nil)
		w.West.Initiate(w.West.UDP())
		w.West.Deliver()
		for _, p := range []Packet{w.West.Sent[0], w.East.Sent[0]} {
			m, err := wire.Parse(p.Data)
			if err != nil {
				t.Fatal(err)
			}
			n, _ := wire.Get[wire.Nonce](m.Payloads)
			if len(n.Data) != 32 || seen[string(n.Data)] {
				t.Errorf("nonce %x", n.Data)
			}
			seen[string(n.Data)] = true
		}
	}
}

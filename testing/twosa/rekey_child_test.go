package twosa

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/pkg/wire"
)

// rekey asks h's machine to replace its first child.
func (h *Host) rekey() { h.Step(machine.RekeyChild{Child: h.M.Snapshot().Children[0].ID}) }

// succeeded checks that one child is there, another than before, with other keys.
func succeeded(t *testing.T, w *World, old machine.ChildSnapshot) {
	t.Helper()
	agreedOn(t, w, 1)
	c := w.West.M.Snapshot().Children[0]
	if c.SPIIn == old.SPIIn || c.SPIOut == old.SPIOut || !c.Local.Equal(old.Local) || !c.Remote.Equal(old.Remote) || c.Index != old.Index {
		t.Errorf("the successor of %+v is %+v", old, c)
	}
}

func (h *Host) count(k event.Kind) int {
	n := 0
	for _, e := range h.Events {
		if e.Kind == k && e.Child != "" { // without a child: a request of the peer that we refused
			n++
		}
	}
	return n
}

// TestRekeyChild: REKEY_SA with the SPI that we receive by, a successor with the same policy, then the old one is deleted by whoever rekeyed it
// (RFC 7296 1.3.3, 2.8). The answerer's outbound packets wait for that.
func TestRekeyChild(t *testing.T) {
	for _, stream := range []bool{false, true} {
		for _, byEast := range []bool{false, true} {
			t.Run(fmt.Sprintf("stream=%t,east=%t", stream, byEast), func(t *testing.T) {
				w := upTwo(t, stream, pfs, pfs)
				asker := w.West
				if byEast {
					asker = w.East
				}
				old, first := w.West.M.Snapshot().Children[0], asker.M.Snapshot().Children[0]
				asker.rekey()
				n, ok := wire.GetNotify(inside(t, asker, asker.Out[0]), iana.REKEY_SA)
				if !ok || n.Protocol != iana.ProtoESP || !bytes.Equal(n.SPI, binary.BigEndian.AppendUint32(nil, first.SPIIn)) || len(n.Data) != 0 {
					t.Errorf("REKEY_SA %+v", n)
				}
				asker.Deliver()
				if len(asker.Peer().Installed) != 2 || len(asker.Installed) != 1 {
					t.Errorf("answerer has %d, asker %d", len(asker.Peer().Installed), len(asker.Installed))
				}
				for spi, in := range asker.Peer().Installed {
					if in.Standby == (spi == first.SPIOut) {
						t.Errorf("standby %t of %#x", in.Standby, spi)
					}
				}
				asker.Peer().Deliver()
				for _, in := range asker.Installed {
					if in.Standby {
						t.Error("the asker's successor stands by")
					}
				}
				if len(asker.Installed) != 2 {
					t.Errorf("the old one is gone before its deletion is answered: %d", len(asker.Installed))
				}
				w.Settle()
				succeeded(t, w, old)
				if asker.count(event.KindChildRekeyed) != 1 || asker.Peer().count(event.KindChildRekeyed) != 0 {
					t.Errorf("told %d and %d times", asker.count(event.KindChildRekeyed), asker.Peer().count(event.KindChildRekeyed))
				}
				if ke := w.West.M.Snapshot().Children[0].Suite.KE; ke != iana.KE_CURVE25519 {
					t.Errorf("rekeyed with %v", ke)
				}
				// And once more, the other way round.
				old = w.West.M.Snapshot().Children[0]
				asker.Peer().rekey()
				w.Settle()
				succeeded(t, w, old)
			})
		}
	}
}

// TestRekeyCrossing: both rekey the same child at once. Three are there for a while; the successor with the lowest nonce is closed by its creator, and the
// creator of the other deletes the old one (RFC 7296 2.8.1). The order of messages does not count.
func TestRekeyCrossing(t *testing.T) {
	orders := map[string]func(w *World){
		"both requests first": func(*World) {},
		"west's answer first": func(w *World) { w.West.Deliver(); w.East.Deliver(); w.East.Deliver() },
		"east's answer first": func(w *World) { w.East.Deliver(); w.West.Deliver(); w.West.Deliver() },
		"west's request late": func(w *World) {
			late := w.West.Out[0]
			w.West.Lose()
			w.Settle()
			w.West.Inject(late)
		},
	}
	winners := map[bool]int{}
	for name, order := range orders {
		for seed := range uint64(12) {
			w := Pair(seed, pfs, pfs)
			w.West.Initiate(w.West.UDP())
			w.Settle()
			old := w.West.M.Snapshot().Children[0]
			w.West.rekey()
			w.East.rekey()
			order(w)
			w.Settle()
			w.Run(time.Minute)
			t.Log(name, seed)
			succeeded(t, w, old)
			for _, h := range []*Host{w.West, w.East} {
				if n := h.count(event.KindChildRekeyed) + h.count(event.KindChildFailed); n != 1 {
					t.Errorf("%s, seed %d: %s told the outcome %d times", name, seed, h.Name, n)
				}
			}
			asked := false
			for _, in := range w.West.Installed {
				asked = in.Standby
			}
			if name == "both requests first" {
				winners[asked]++
			}
			if t.Failed() {
				t.Fatalf("%s, seed %d\n%v\n%v", name, seed, w.West.Lines(), w.East.Lines())
			}
		}
	}
	if winners[true] == 0 || winners[false] == 0 {
		t.Errorf("the nonces decide nothing: %v", winners)
	}
}

// TestRekeyAnswerLost: the repeated request gets the same answer.
func TestRekeyAnswerLost(t *testing.T) {
	w := upTwo(t, false, pfs, pfs)
	old := w.West.M.Snapshot().Children[0]
	w.West.rekey()
	w.West.Deliver()
	w.East.Lose()
	w.Run(time.Second)
	succeeded(t, w, old)
}

// TestRekeyAgainstDelete: one end rekeys what the other deletes, and both orders of arrival (RFC 7296 2.25.1).
func TestRekeyAgainstDelete(t *testing.T) {
	for _, deleteFirst := range []bool{false, true} {
		w := upTwo(t, false, pfs, pfs)
		w.West.rekey()
		w.East.Step(machine.CloseChild{Child: w.East.M.Snapshot().Children[0].ID})
		if deleteFirst {
			w.East.Deliver()
		}
		w.Run(time.Minute)
		for _, h := range []*Host{w.West, w.East} {
			if s := h.M.Snapshot(); s.State != "established" || len(s.Children) != 0 || len(h.Installed)+len(h.Reserved) != 0 {
				t.Errorf("first %t, %s: %+v, installed %d\n%v", deleteFirst, h.Name, s, len(h.Installed), h.Lines())
			}
		}
		if n := w.West.count(event.KindChildRekeyed) + w.West.count(event.KindChildFailed); n != 1 {
			t.Errorf("the outcome was told %d times", n)
		}
	}
}

// TestRekeyLost: the peer does not have the child any more: ours goes, and one is made from scratch (RFC 7296 2.25).
func TestRekeyLost(t *testing.T) {
	w := upTwo(t, false, pfs, pfs)
	old := w.West.M.Snapshot().Children[0]
	w.East.Step(machine.CloseChild{Child: w.East.M.Snapshot().Children[0].ID})
	w.East.Out = nil // the peer's Delete never comes
	w.East.Inject(w.East.Forge(iana.INFORMATIONAL, 0, false))
	w.West.Deliver()
	w.West.rekey()
	refused := w.West.Out[0].Header().MessageID
	w.West.Lose()
	w.East.Inject(w.East.Forge(iana.CREATE_CHILD_SA, refused, true,
		wire.Item{Payload: wire.Notify{Notify: iana.CHILD_SA_NOT_FOUND, Protocol: iana.ProtoESP, SPI: binary.BigEndian.AppendUint32(nil, old.SPIIn)}}))
	if s := w.West.M.Snapshot(); len(s.Children) != 1 || len(w.West.Installed) != 0 || len(w.West.Out) != 1 {
		t.Fatalf("%+v, %d installed, %d messages", s, len(w.West.Installed), len(w.West.Out))
	}
	if _, again := wire.GetNotify(inside(t, w.West, w.West.Out[0]), iana.REKEY_SA); again {
		t.Error("it is asked for as a successor again")
	}
}

// TestRekeyRefused: the old child stays when the successor cannot be made.
func TestRekeyRefused(t *testing.T) {
	for name, fail := range map[string]func(*World){
		"answerer cannot install": func(w *World) { w.East.FailInstall = errors.New("kernel says no") },
		"asker cannot install":    func(w *World) { w.West.FailInstall = errors.New("kernel says no") },
		"asker has no SPI":        func(w *World) { w.West.FailSPI = errors.New("no SPI") },
		"another esp= meanwhile":  func(w *World) { w.East.Conn.Children[0].ESP = ESP("aes_gcm128") },
	} {
		t.Run(name, func(t *testing.T) {
			w := upTwo(t, false, pfs, pfs)
			old := w.West.M.Snapshot().Children[0]
			fail(w)
			w.West.rekey()
			w.Settle()
			agreedOn(t, w, 1)
			if c := w.West.M.Snapshot().Children[0]; c.SPIIn != old.SPIIn {
				t.Errorf("%+v is not the old one", c)
			}
			if w.West.count(event.KindChildFailed) != 1 {
				t.Error("not told")
			}
			// It can be tried again.
			w.West.FailInstall, w.West.FailSPI, w.East.FailInstall = nil, nil, nil
			w.East.Conn.Children[0].ESP = ESP("aes_gcm256")
			w.West.rekey()
			w.Settle()
			succeeded(t, w, old)
		})
	}
}

// TestRekeyNarrower: a successor that protects less than the old child is not taken, and the old one stays (RFC 7296 2.9.2).
func TestRekeyNarrower(t *testing.T) {
	wide := func(c *policy.Connection) { selectors(c, TS("192.0.0.0/16"), TS("0.0.0.0/0")); c.Narrowing = true }
	w := Pair(1, wide, func(c *policy.Connection) { c.Narrowing = true })
	w.West.Initiate(w.West.UDP())
	w.Settle()
	agreed(t, w)
	old := w.West.M.Snapshot().Children[0]
	w.West.rekey()
	request := inside(t, w.West, w.West.Out[0])
	id := w.West.Out[0].Header().MessageID
	w.West.Lose()
	answer := slices.Clone(w.East.Conn.Children[0].ESP[:1])
	answer[0].SN = answer[0].SN[:1]
	w.East.Inject(w.East.Forge(iana.CREATE_CHILD_SA, id, true,
		wire.Item{Payload: answer.Offer(iana.ProtoESP, []byte{1, 2, 3, 4}, false)},
		wire.Item{Payload: wire.Nonce{Data: make([]byte, 32)}},
		wire.Item{Payload: wire.TS{Payload: iana.PayloadTSi, Selectors: TS("192.0.1.0/24").ToWire()}},
		wire.Item{Payload: wire.TS{Payload: iana.PayloadTSr, Selectors: TS("192.0.2.128/25").ToWire()}}))
	if tsr, _ := wire.GetType[wire.TS](request, iana.PayloadTSr); !ts.FromWire(tsr).Equal(TS("192.0.2.0/24")) {
		t.Errorf("asked for %v", tsr)
	}
	if c := w.West.M.Snapshot().Children[0]; c.SPIIn != old.SPIIn {
		t.Errorf("%v===%v was replaced by %v===%v", old.Local, old.Remote, c.Local, c.Remote)
	}
	said(t, w.West, "192.0.2.128/25", "192.0.2.0/24", "RFC 7296 2.9.2")
	if w.West.count(event.KindChildFailed) != 1 || w.West.count(event.KindChildRekeyed) != 0 {
		t.Error("not told that it failed")
	}
}

// TestRekeyAskedNarrower: as the answerer we make no successor that protects less than the old child, whoever would narrow: the peer by what it asks for, or we by
// what we allow now (RFC 7296 2.9.2). One that protects the same or more is made.
func TestRekeyAskedNarrower(t *testing.T) {
	narrowing := func(c *policy.Connection) { c.Narrowing = true }
	for _, tc := range []struct {
		name                 string
		asked, allowed, want string // right side
		refused              bool
	}{
		{"less is asked for", "192.0.2.128/25", "192.0.2.0/24", "192.0.2.0/24", true},
		{"another is asked for", "192.0.3.0/24", "192.0.2.0/23", "192.0.2.0/24", true},
		{"less is allowed", "192.0.2.0/24", "192.0.2.0/25", "192.0.2.0/24", true},
		{"the same", "192.0.2.0/24", "192.0.2.0/24", "192.0.2.0/24", false},
		{"more is asked for", "192.0.0.0/16", "192.0.2.0/24", "192.0.2.0/24", false},
		{"more is asked for and allowed", "192.0.0.0/16", "192.0.2.0/23", "192.0.2.0/23", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := Pair(1, narrowing, narrowing)
			w.West.Initiate(w.West.UDP())
			w.Settle()
			agreed(t, w)
			old := w.West.M.Snapshot().Children[0]
			selectors(w.East.Conn.Connection, TS("192.0.1.0/24"), TS(tc.allowed))
			n := wire.Notify{Notify: iana.REKEY_SA, Protocol: iana.ProtoESP, SPI: binary.BigEndian.AppendUint32(nil, old.SPIIn)}
			w.West.Inject(w.West.Forge(iana.CREATE_CHILD_SA, 2, false, wire.Item{Payload: n},
				wire.Item{Payload: w.West.Conn.Children[0].ESP.Offer(iana.ProtoESP, []byte{1, 2, 3, 4}, false)},
				wire.Item{Payload: wire.Nonce{Data: make([]byte, 32)}},
				wire.Item{Payload: wire.TS{Payload: iana.PayloadTSi, Selectors: TS("192.0.1.0/24").ToWire()}},
				wire.Item{Payload: wire.TS{Payload: iana.PayloadTSr, Selectors: TS(tc.asked).ToWire()}}))
			children := w.East.M.Snapshot().Children
			newest := children[len(children)-1]
			if tc.refused != (len(children) == 1) || !newest.Local.Equal(TS(tc.want)) {
				t.Errorf("%d children, the newest protects %v\n%v", len(children), newest.Local, w.East.Lines())
			}
			if !tc.refused {
				return
			}
			if got, _ := wire.Get[wire.Notify](inside(t, w.East, w.East.Out[0])); got.Notify != iana.TS_UNACCEPTABLE {
				t.Errorf("answered %v", got.Notify)
			}
			said(t, w.East, "192.0.2.0/24", "RFC 7296 2.9.2", "TS_UNACCEPTABLE")
		})
	}
}

// TestRekeyAsksForWhatIsInUse: a child that protects less than its connection allows is rekeyed with what it protects, which the peer has and cannot but allow;
// the connection's selectors could be too wide for it, and a part of them is not accepted without narrowing=yes (RFC 7296 2.9.2: the same or a superset).
func TestRekeyAsksForWhatIsInUse(t *testing.T) {
	for _, wideNarrows := range []bool{false, true} {
		part := func(c *policy.Connection) { selectors(c, TS("192.0.1.0/25"), TS("192.0.2.0/25")) }
		w := Pair(1, part, func(c *policy.Connection) { c.Narrowing = wideNarrows })
		w.West.Initiate(w.West.UDP())
		w.Settle()
		agreed(t, w)
		for _, asker := range []*Host{w.East, w.West, w.East} {
			old := w.West.M.Snapshot().Children[0]
			asker.rekey()
			said(t, asker, "sending CREATE_CHILD_SA request", "192.0.1.0/25", "192.0.2.0/25")
			w.Settle()
			succeeded(t, w, old)
		}
	}
}

// TestRekeyTransportModeMoved: in transport mode the selectors are the two hosts. One that has another address meanwhile, behind its NAT, protects no less by it.
func TestRekeyTransportModeMoved(t *testing.T) {
	for _, byEast := range []bool{false, true} {
		w, moved := natted(t)
		old := w.West.M.Snapshot().Children[0]
		moved()
		asker := w.West
		if byEast {
			asker = w.East
		}
		asker.rekey()
		w.Settle()
		if s := w.West.M.Snapshot().Children; len(s) != 1 || s[0].SPIIn == old.SPIIn || len(w.East.Installed) != 1 {
			t.Errorf("by east %t: not rekeyed\n%v\n%v", byEast, w.West.Lines(), w.East.Lines())
		}
	}
}

// natted is a Child SA in transport mode between west, behind a NAT, and east, which knows west by the NAT's address alone. moved gives the NAT another.
func natted(t *testing.T) (w *World, moved func()) {
	t.Helper()
	hosts := func(c *policy.Connection) { transport(true)(c); c.Liveness = 10 * time.Second }
	w = Pair(3, hosts, hosts)
	w.East.Conn.RemoteAddr = netip.Addr{} // %any
	nat := NAT{Inside: WestAddr, Outside: netip.MustParseAddr("203.0.113.1"), First: 30000}
	w.Net = func(p Packet) (Packet, bool) {
		if to := p.Path.Remote.Addr(); to != nat.Outside && to != EastAddr {
			return p, false // it is nobody's any more
		}
		return nat.Translate(p)
	}
	w.West.Initiate(w.West.UDP())
	w.Settle()
	if n := len(w.East.Installed); n != 1 {
		t.Fatalf("%d children\n%v\n%v", n, w.West.Lines(), w.East.Lines())
	}
	return w, func() {
		nat.Outside = netip.MustParseAddr("203.0.113.9")
		nat.Rebind()
		w.Run(11 * time.Second)
		if got := w.East.M.Snapshot().Path.Remote.Addr(); got != nat.Outside {
			t.Fatalf("east has not followed its peer: %v %v %v", got, w.East.Lines(), w.West.Lines())
		}
	}
}

// TestRekeyTwice: a second wish while the first is under way is refused in words.
func TestRekeyTwice(t *testing.T) {
	w := upTwo(t, false, pfs, pfs)
	old := w.West.M.Snapshot().Children[0]
	w.West.rekey()
	w.West.rekey()
	w.Settle()
	succeeded(t, w, old)
	said(t, w.West, "cannot be rekeyed now")
}

package twosa

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// TestRefusedUnderItsConnection: a further Child SA that is refused is told under the connection that it was for, not under that of the IKE SA.
func TestRefusedUnderItsConnection(t *testing.T) {
	for _, tc := range []struct {
		name       string
		asked      func(*policy.Connection)
		fail       func(*World)
		underOther bool
	}{
		{"proposal", func(c *policy.Connection) { c.Children[0].ESP = ESP("aes_gcm128") }, nil, true},
		{"wider selectors", func(c *policy.Connection) { selectors(c, TS("10.1.0.0/16"), TS("10.0.0.0/8")) }, nil, true},
		{"no SPI", same, func(w *World) { w.East.FailSPI = errors.New("no SPI left") }, true},
		{"installation", same, func(w *World) { w.East.FailInstall = errors.New("kernel says no") }, true},
		{"selectors of nobody", func(c *policy.Connection) { selectors(c, TS("172.16.0.0/16"), TS("172.17.0.0/16")) }, nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := up(t)
			other := func(change func(*policy.Connection)) *policy.Connection {
				c := Connection()
				c.Name, c.Children[0].Name = "other", "other"
				selectors(c, TS("10.1.0.0/16"), TS("10.2.0.0/16"))
				change(c)
				return c
			}
			w.East.Candidates = append(w.East.Candidates, Oriented(other(same), false))
			if tc.fail != nil {
				tc.fail(w)
			}
			w.West.Step(machine.OpenChild{Conn: Oriented(other(tc.asked), true), Index: 0})
			w.Settle()
			want := "west-east"
			if tc.underOther {
				want = "other"
			}
			if ev, _ := w.East.Last(event.KindChildFailed); ev.Conn != want || ev.Child != "" || ev.Level != event.Warn {
				t.Errorf("told under %q: %+v", ev.Conn, ev)
			}
		})
	}
}

// TestRefusalsDoNotFillTheLog: a peer that has authenticated may ask for what it does not get as often as it likes. It is answered, and the log tells how often.
func TestRefusalsDoNotFillTheLog(t *testing.T) {
	const asked = 500
	nonce := wire.Item{Payload: wire.Nonce{Data: make([]byte, 32)}}
	tsi := wire.Item{Payload: wire.TS{Payload: iana.PayloadTSi, Selectors: TS("172.16.0.0/16").ToWire()}}
	tsr := wire.Item{Payload: wire.TS{Payload: iana.PayloadTSr, Selectors: TS("172.17.0.0/16").ToWire()}}
	for name, tc := range map[string]struct {
		exchange iana.Exchange
		items    func(sa wire.Item) []wire.Item
	}{
		"no such selectors": {iana.CREATE_CHILD_SA, func(sa wire.Item) []wire.Item { return []wire.Item{sa, nonce, tsi, tsr} }},
		"rekeying of what is not there": {iana.CREATE_CHILD_SA, func(sa wire.Item) []wire.Item {
			return []wire.Item{{Payload: wire.Notify{Notify: iana.REKEY_SA, Protocol: iana.ProtoESP, SPI: binary.BigEndian.AppendUint32(nil, 99)}}, sa, nonce, tsi, tsr}
		}},
		"rekeying of the IKE SA": {iana.CREATE_CHILD_SA, func(sa wire.Item) []wire.Item {
			return []wire.Item{sa, nonce, {Payload: wire.KE{Method: iana.KE_CURVE25519, Data: make([]byte, 32)}}}
		}},
		"critical payload": {iana.INFORMATIONAL, func(wire.Item) []wire.Item {
			return []wire.Item{{Critical: true, Payload: wire.Unknown{PayloadType: 200}}}
		}},
		"errors": {iana.INFORMATIONAL, func(wire.Item) []wire.Item {
			return []wire.Item{Notify(iana.INVALID_SELECTORS), Notify(iana.INVALID_SELECTORS)}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := up(t)
			sa := wire.Item{Payload: w.West.Conn.Children[0].ESP.Offer(iana.ProtoESP, []byte{1, 2, 3, 4}, false)}
			told := func(from int) (lines []string) {
				for _, e := range w.East.Events[from:] {
					if e.Level >= event.Info {
						lines = append(lines, e.Text)
					}
				}
				return lines
			}
			before, answered := len(w.East.Events), len(w.East.Sent)
			ask := func(i int) { w.West.Inject(w.West.Forge(tc.exchange, uint32(2+i), false, tc.items(sa)...)) }
			for i := range asked {
				ask(i)
			}
			if n := len(told(before)); n == 0 || n > 20 {
				t.Errorf("%d lines for %d requests", n, asked)
			}
			if n := len(w.East.Sent) - answered; n != asked {
				t.Errorf("%d of %d are answered", n, asked)
			}
			w.East.Out = nil
			w.Run(time.Minute)
			before = len(w.East.Events)
			ask(asked)
			if lines := told(before); len(lines) == 0 || !strings.Contains(lines[0], "were not told before this one") {
				t.Errorf("later: %q", lines)
			}
			for i := range asked {
				ask(asked + 1 + i)
			}
			w.West.Inject(w.West.Forge(iana.INFORMATIONAL, uint32(2+2*asked+1), false, wire.Item{Payload: wire.Delete{Protocol: iana.ProtoIKE}}))
			if ev, _ := w.East.Last(event.KindIKEClosed); !strings.Contains(ev.Text, "were not told") {
				t.Errorf("at the end: %q", ev.Text)
			}
		})
	}
}

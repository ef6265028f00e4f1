package twosa

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
)

// times runs a world without delivery and returns when each message of h was sent, relative to the start.
func times(w *World, h *Host, d time.Duration) []time.Duration {
	start, sent := w.Now, len(h.Sent)
	var at []time.Duration
	w.Net = func(p Packet) (Packet, bool) { return p, false }
	for end := w.Now.Add(d); !h.M.Deadline().IsZero() && !h.M.Deadline().After(end); {
		w.Now = h.M.Deadline()
		h.Step(machine.Tick{})
		for ; sent < len(h.Sent); sent++ {
			at = append(at, w.Now.Sub(start))
		}
		w.Settle()
	}
	return at
}

func ms(list ...int) []time.Duration {
	var d []time.Duration
	for _, n := range list {
		d = append(d, time.Duration(n)*time.Millisecond)
	}
	return d
}

// TestRetransmissionTimes: retransmit-interval doubled each time, given up after retransmit-timeout, every copy the same octets (RFC 7296 2.1).
func TestRetransmissionTimes(t *testing.T) {
	for _, tc := range []struct {
		interval, timeout time.Duration
		want              []time.Duration
	}{
		{0, 0, ms(500, 1500, 3500, 7500, 15500)},
		{500 * time.Millisecond, 30 * time.Second, ms(500, 1500, 3500, 7500, 15500)},
		{500 * time.Millisecond, 10 * time.Second, ms(500, 1500, 3500, 7500)},
		{time.Second, 4 * time.Second, ms(1000, 3000)},
		{20 * time.Second, 10 * time.Second, nil},
	} {
		w := Pair(1, func(c *policy.Connection) {
			c.Retransmit = policy.Retransmit{Interval: tc.interval, Timeout: tc.timeout}
		}, nil)
		w.West.Initiate(w.West.UDP())
		start := w.Now
		if got := times(w, w.West, time.Hour); !slices.Equal(got, tc.want) {
			t.Errorf("%v, %v: sent again at %v, expected %v", tc.interval, tc.timeout, got, tc.want)
		}
		timeout := tc.timeout
		if timeout == 0 {
			timeout = 30 * time.Second
		}
		if len(w.West.NeedPaths) != 1 || w.Now.Sub(start) != timeout {
			t.Errorf("%v, %v: gave up after %v, %d NeedPath", tc.interval, tc.timeout, w.Now.Sub(start), len(w.West.NeedPaths))
		}
		for _, p := range w.West.Sent {
			if !bytes.Equal(p.Data, w.West.Sent[0].Data) || p.Path != w.West.Sent[0].Path {
				t.Error("a retransmission differs from the request")
			}
		}
		why := w.West.NeedPaths[0].Why
		if why.Reason != event.ReasonTimeout || !containsAll(why.Detail, []string{"192.1.2.23:UDP/500", "IKE_SA_INIT", timeout.String(), "UDP may be blocked"}) {
			t.Errorf("reason: %+v", why)
		}
	}
}

// TestRetransmissionOfAuth: UDP 500 is open and 4500 is not.
func TestRetransmissionOfAuth(t *testing.T) {
	w := keyed(t)
	if got, want := times(w, w.West, time.Hour), ms(500, 1500, 3500, 7500, 15500); !slices.Equal(got, want) {
		t.Errorf("sent again at %v, expected %v", got, want)
	}
	if len(w.West.NeedPaths) != 1 || !containsAll(w.West.NeedPaths[0].Why.Detail, []string{"IKE_AUTH", "192.1.2.23:UDP/4500", "UDP 4500 may be blocked"}) {
		t.Errorf("%+v", w.West.NeedPaths)
	}
	if len(w.West.Reserved) != 0 {
		t.Error("the SPI of the attempt is still reserved")
	}
}

// TestStreamNeverRepeats: on a stream a request goes out once and has a deadline, in each exchange (RFC 9329 6.2).
func TestStreamNeverRepeats(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.Initiate(w.West.TCP())
	if got := times(w, w.West, time.Hour); got != nil {
		t.Errorf("IKE_SA_INIT sent again at %v", got)
	}
	if len(w.West.NeedPaths) != 1 || !containsAll(w.West.NeedPaths[0].Why.Detail, []string{"TCP/4500", "IKE_SA_INIT", "30s", "no IKE message comes from it"}) {
		t.Errorf("%+v", w.West.NeedPaths)
	}

	w = Pair(1, nil, nil)
	w.West.Initiate(w.West.TCP())
	w.West.Deliver()
	w.East.Deliver()
	if got := times(w, w.West, time.Hour); got != nil {
		t.Errorf("IKE_AUTH sent again at %v", got)
	}
	if len(w.West.NeedPaths) != 1 || !containsAll(w.West.NeedPaths[0].Why.Detail, []string{"TCP/4500", "IKE_AUTH", "30s"}) {
		t.Errorf("%+v", w.West.NeedPaths)
	}

	w = Pair(1, func(c *policy.Connection) { c.Liveness = time.Minute }, nil)
	w.West.Initiate(w.West.TCP())
	w.Settle()
	if got := times(w, w.West, time.Hour); !slices.Equal(got, ms(60000)) {
		t.Errorf("liveness sent at %v", got)
	}
	closedFor(t, w.West, event.ReasonTimeout, 0)
}

func TestHalfOpenTimeout(t *testing.T) {
	for _, limit := range []time.Duration{0, 5 * time.Second} {
		w := Pair(1, nil, nil)
		w.East.HalfOpen = limit
		w.West.Initiate(w.West.UDP())
		w.West.Deliver()
		w.West.M = nil
		start := w.Now
		w.Net = func(p Packet) (Packet, bool) { return p, false }
		for w.East.Closed == nil {
			w.Now = w.East.M.Deadline()
			w.East.Step(machine.Tick{})
		}
		if limit == 0 {
			limit = 30 * time.Second
		}
		if d := w.Now.Sub(start); d != limit {
			t.Errorf("half-open for %v, expected %v", d, limit)
		}
		closedFor(t, w.East, event.ReasonHalfOpenTimeout, 0)
	}
}

// TestFallback: UDP gets no answer, so the next attempt goes over TCP with a new SPI, a new nonce and new NAT detection (RFC 9329 5.1).
func TestFallback(t *testing.T) {
	for _, blocked := range []string{"all UDP", "UDP 4500"} {
		t.Run(blocked, func(t *testing.T) {
			w := Pair(1, nil, nil)
			w.West.Ladder = func(machine.NeedPath) machine.Input { return machine.PathReady{Path: w.West.TCP(), SPI: w.West.SPI()} }
			w.Net = func(p Packet) (Packet, bool) {
				return p, p.Path.Kind == path.TCP || blocked == "UDP 4500" && p.Path.Remote.Port() == iana.PortIKE
			}
			w.West.Initiate(w.West.UDP())
			before := w.West.Sent[0]
			start := w.Now
			w.Run(30 * time.Second)
			agreed(t, w)
			if w.West.M.Snapshot().Path.Kind != path.TCP {
				t.Error("not over TCP")
			}
			if e, ok := w.West.Last(event.KindFallback); !ok || e.At.Sub(start) != 30*time.Second {
				t.Errorf("fallback: %+v", e)
			}
			said(t, w.West, "trying 192.1.2.23:TCP/4500 next", "UDP/")
			if len(w.West.Proved) != 1 {
				t.Errorf("%d Authenticated", len(w.West.Proved))
			}
			var after Packet
			for _, p := range w.West.Sent {
				if p.Path.Kind == path.TCP {
					after = p
					break
				}
			}
			if a, b := before.Header().InitiatorSPI, after.Header().InitiatorSPI; a == b {
				t.Error("the same SPI on the new path")
			}
			a, _ := wire.Parse(before.Data)
			b, _ := wire.Parse(after.Data)
			for i := range a.Payloads { // SA, KE, Nonce, two NAT_DETECTION
				same := bytes.Equal(wire.AppendChain(nil, a.Payloads[i:i+1]), wire.AppendChain(nil, b.Payloads[i:i+1]))
				if isSA := a.Payloads[i].Type() == iana.PayloadSA; same != isSA {
					t.Errorf("%v is the same in both requests: %v", a.Payloads[i].Type(), same)
				}
			}
		})
	}
}

// TestFallbackFails: nothing else works either; the reason names both attempts.
func TestFallbackFails(t *testing.T) {
	w := Pair(1, nil, nil)
	w.Net = func(p Packet) (Packet, bool) { return p, false }
	w.West.Ladder = func(n machine.NeedPath) machine.Input {
		if n.Last.Kind == path.UDP {
			return machine.PathReady{Path: w.West.TCP(), SPI: w.West.SPI()}
		}
		return machine.NoPath{}
	}
	w.West.Initiate(w.West.UDP())
	w.Run(2 * time.Minute)
	closedFor(t, w.West, event.ReasonTimeout, 0)
	said(t, w.West, "UDP/500", "IKE_SA_INIT", "after 5 retransmissions")
	said(t, w.West, "TCP/4500", "no answer", "IKE_SA_INIT")
	if !w.West.M.Deadline().IsZero() {
		t.Error("a closed machine has a deadline")
	}
}

// TestNoPathSaysItOnce: the engine's last attempt is the machine's own, with what ICMP said behind it.
func TestNoPathSaysItOnce(t *testing.T) {
	w := Pair(1, nil, nil)
	w.Net = func(p Packet) (Packet, bool) { return p, false }
	w.West.Ladder = func(n machine.NeedPath) machine.Input {
		return machine.NoPath{Err: errors.New(n.Why.Detail + "; nothing listens there")}
	}
	w.West.Initiate(w.West.UDP())
	w.Run(2 * time.Minute)
	closedFor(t, w.West, event.ReasonTimeout, 0)
	said(t, w.West, "UDP/500", "after 5 retransmissions", "; nothing listens there")
	if all := strings.Join(w.West.Lines(), "\n"); strings.Contains(all, "no further path") || strings.Count(all, "after 5 retransmissions") != 1 {
		t.Errorf("said twice: %s", all)
	}
}

// TestLateCompletions: what was asked for in an attempt that is over comes too late, and is put away.
func TestLateCompletions(t *testing.T) {
	w := Pair(1, nil, nil)
	w.West.Hold = func(e machine.Effect) bool {
		_, spi := e.(machine.ReserveSPI)
		j, job := e.(machine.Job)
		return spi || job && j.Sign != nil
	}
	w.West.Initiate(w.West.UDP())
	w.Settle()
	stale := w.West.Held
	w.West.Held = nil
	w.Net = func(p Packet) (Packet, bool) { return p, p.Path.Kind == path.TCP }
	w.West.Ladder = func(machine.NeedPath) machine.Input { return machine.PathReady{Path: w.West.TCP(), SPI: w.West.SPI()} }
	w.Run(31 * time.Second)
	fresh := w.West.Held
	w.West.Held = stale
	w.West.Complete()
	if len(w.West.Reserved) != 0 {
		t.Errorf("reserved: %v", w.West.Reserved)
	}
	w.West.Held = fresh
	w.West.Complete()
	w.Settle()
	agreed(t, w)
}

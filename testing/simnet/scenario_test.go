package simnet

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/engine"
	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
)

// TestFallback: UDP is dropped; after retransmit-timeout the same `up` goes on over TCP at once, and shows both attempts.
func TestFallback(t *testing.T) {
	udpBlocked := fine
	udpBlocked.BlockUDP = true
	inWorld(t, 1, udpBlocked, Connection(policy.TCPFallback), func(t *testing.T, w *World) {
		began := time.Now()
		seen, err := w.West.up(t)
		if err != nil {
			t.Fatal(err)
		}
		// Three round trips (TCP, IKE_SA_INIT, IKE_AUTH), and the datapath's answers.
		if took := time.Since(began); took < 30*time.Second || took > 30*time.Second+100*time.Millisecond {
			t.Errorf("up took %v, want 30 s and a few round trips of 20 ms", took)
		}
		for _, want := range []string{"using UDP", "UDP/500", "trying 192.1.2.23:TCP/4500", "IKE_SA_INIT request to 192.1.2.23:TCP/4500", "established Child SA"} {
			if !strings.Contains(texts(seen), want) {
				t.Errorf("progress does not mention %q:\n%s", want, texts(seen))
			}
		}
		if !slices.ContainsFunc(seen, func(ev event.Event) bool { return ev.Kind == event.KindFallback }) {
			t.Errorf("no fallback event:\n%s", texts(seen))
		}
		if s := w.West.state(t); s.State != "up" || s.Path.Kind != path.TCP {
			t.Errorf("%+v", s)
		}
		w.agreed(t, 1)
		if s := w.West.Engine.Stats(); s.Fallbacks != 1 {
			t.Errorf("%d fallbacks counted", s.Fallbacks)
		}
	})
}

// TestFallbackAtAuth: UDP 500 is open and goes silent between IKE_SA_INIT and IKE_AUTH.
func TestFallbackAtAuth(t *testing.T) {
	inWorld(t, 1, fine, Connection(policy.TCPFallback), func(t *testing.T, w *World) {
		time.AfterFunc(15*time.Millisecond, func() {
			f := fine
			f.BlockUDP = true
			w.Net.SetFaults(f) // the IKE_SA_INIT response is under way already
		})
		began := time.Now()
		if _, err := w.West.up(t); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 30*time.Second || took > 31*time.Second {
			t.Errorf("up took %v", took)
		}
		time.Sleep(time.Minute)
		w.agreed(t, 1)
	})
}

// TestNothingAnswers: every rung fails; up says what each answered, revival goes on, and heals when the network does.
func TestNothingAnswers(t *testing.T) {
	dead := fine
	dead.BlockUDP, dead.BlockTCP = true, true
	inWorld(t, 1, dead, Connection(policy.TCPFallback), func(t *testing.T, w *World) {
		_, err := w.West.up(t)
		var up *engine.UpError
		if !errors.As(err, &up) || len(up.Attempts) != 2 {
			t.Fatalf("up: %v", err)
		}
		for i, kind := range []path.Kind{path.UDP, path.TCP} {
			if a := up.Attempts[i]; a.Path.Kind != kind || a.Close.Reason == event.ReasonNone || a.Took < 29*time.Second {
				t.Errorf("attempt %d: %+v", i, a)
			}
		}
		t.Log(err)
		if s := w.West.state(t); s.State == "down" || !s.Wanted || s.LastError == "" {
			t.Errorf("no revival: %+v", s)
		}
		time.Sleep(5 * time.Minute)
		w.Net.SetFaults(fine)
		time.Sleep(3 * time.Minute)
		if s := w.West.state(t); s.State != "up" {
			t.Errorf("not revived: %+v", s)
		}
		w.agreed(t, 1)
	})
}

// TestPortClosed: nobody listens on TCP.
func TestPortClosed(t *testing.T) {
	inWorld(t, 1, fine, Connection(policy.TCPYes), func(t *testing.T, w *World) {
		w.East.Host.Start(w.East.Engine, 0)
		_, err := w.West.up(t)
		if err == nil || !strings.Contains(err.Error(), "connection refused") || !strings.Contains(err.Error(), "TCP/4500") {
			t.Errorf("up: %v", err)
		}
		if err := w.West.Engine.Down(t.Context(), connName, nil); err != nil {
			t.Error(err)
		}
		if s := w.West.state(t); s.State != "down" || s.Wanted {
			t.Errorf("%+v", s)
		}
	})
}

// TestCrossing: both ends come up at once. They must agree afterwards, and have a tunnel.
func TestCrossing(t *testing.T) {
	for seed := range uint64(200) {
		f := lossy
		if seed%2 == 0 {
			f = Faults{Delay: 5 * time.Millisecond, Jitter: 100 * time.Millisecond}
		}
		mode := policy.TCPNo
		if seed%4 >= 2 {
			mode = policy.TCPYes
		}
		inWorld(t, seed, f, Connection(mode), func(t *testing.T, w *World) {
			time.AfterFunc(lossTime, func() { w.Net.SetFaults(fine) })
			done := make(chan error, 1)
			go func() {
				time.Sleep(time.Duration(seed) * 777 * time.Microsecond)
				done <- w.East.Engine.Up(context.Background(), connName, nil)
			}()
			_, err := w.West.up(t)
			if err2 := <-done; err != nil && err2 != nil {
				t.Logf("seed %d: both failed: %v; %v", seed, err, err2)
			}
			time.Sleep(lossTime + 2*settleTime)
			w.agreed(t, 1)
			if n := w.West.Engine.Stats().Revivals + w.East.Engine.Stats().Revivals; n > 0 && seed%2 == 0 {
				t.Errorf("%d revivals on a network without faults: an end took its own tunnel down", n)
			}
		})
		if t.Failed() {
			return
		}
	}
}

// TestPeerRestarts: east forgets everything and comes back by its own up; west must not keep what east does not know.
func TestPeerRestarts(t *testing.T) {
	inWorld(t, 1, fine, Connection(policy.TCPNo), func(t *testing.T, w *World) {
		if _, err := w.West.up(t); err != nil {
			t.Fatal(err)
		}
		w.agreed(t, 1)
		if err := w.Restart(w.East, Connection(policy.TCPNo)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.East.up(t); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		w.agreed(t, 1)
	})
}

// TestPeerDies: liveness finds out, traffic is held, and the connection comes back when the peer does.
func TestPeerDies(t *testing.T) {
	c := Connection(policy.TCPNo)
	inWorld(t, 1, fine, c, func(t *testing.T, w *World) {
		if _, err := w.West.up(t); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := w.Restart(w.East, c); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		if a := w.West.actions(); a != "Protect" {
			t.Errorf("before liveness has given up: %s", a)
		}
		time.Sleep(40 * time.Second)
		if s := w.West.state(t); s.State != "up" {
			t.Errorf("not revived: %+v", s)
		}
		w.agreed(t, 1)
	})
}

// actions are the actions of the routed policies.
func (n *Node) actions() string {
	names := map[kernel.Action]string{kernel.Protect: "Protect", kernel.Trap: "Trap", kernel.Hold: "Hold", kernel.Pass: "Pass", kernel.Drop: "Drop", kernel.Reject: "Reject"}
	var out []string
	for _, p := range n.Datapath.Policies() {
		out = append(out, names[p.Action])
	}
	return strings.Join(out, " ")
}

// TestShunts: what traffic meets while there is no SA.
func TestShunts(t *testing.T) {
	c := Connection(policy.TCPNo)
	c.Failure = policy.ShuntReject
	dead := fine
	dead.BlockUDP = true
	inWorld(t, 1, dead, c, func(t *testing.T, w *World) {
		if a := w.West.actions(); a != "" {
			t.Errorf("loaded and not up: %s", a)
		}
		time.AfterFunc(time.Second, func() {
			if a := w.West.actions(); a != "Hold" {
				t.Errorf("while negotiating: %s", a)
			}
		})
		if _, err := w.West.up(t); err == nil {
			t.Fatal("up over a blocked network")
		}
		// The first revival follows at once; the second waits.
		time.Sleep(32 * time.Second)
		if a, s := w.West.actions(), w.West.state(t); a != "Reject" || s.State != "waiting for revival" {
			t.Errorf("after failure: %s, %+v", a, s)
		}
		if err := w.West.Engine.Down(t.Context(), connName, nil); err != nil {
			t.Error(err)
		}
		if a := w.West.actions(); a != "" {
			t.Errorf("after down: %s", a)
		}
	})
}

// TestOnDemand: a packet starts the connection.
func TestOnDemand(t *testing.T) {
	c := Connection(policy.TCPNo)
	c.Auto = policy.AutoOnDemand
	inWorld(t, 1, fine, c, func(t *testing.T, w *World) {
		time.Sleep(time.Second)
		if a := w.West.actions(); a != "Trap" {
			t.Fatalf("loaded: %s", a)
		}
		w.West.Datapath.Emit(kernel.Acquire{Policy: connName})
		time.Sleep(time.Second)
		if a := w.West.actions(); a != "Protect" {
			t.Errorf("after a packet: %s", a)
		}
		w.agreed(t, 1)
		if err := w.West.Engine.Down(t.Context(), connName, nil); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if a := w.West.actions(); a != "Trap" {
			t.Errorf("after down: %s", a)
		}
	})
}

// TestAutoStart: auto=start comes up by itself, and Up on it says so at once.
func TestAutoStart(t *testing.T) {
	c := Connection(policy.TCPNo)
	c.Auto = policy.AutoStart
	inWorld(t, 3, fine, c, func(t *testing.T, w *World) {
		time.Sleep(5 * time.Second)
		if s := w.West.state(t); s.State != "up" || !s.Wanted {
			t.Fatalf("%+v", s)
		}
		began := time.Now()
		seen, err := w.West.up(t)
		if err != nil || time.Since(began) > 0 || !strings.Contains(texts(seen), "is up already") {
			t.Errorf("after %v: %v\n%s", time.Since(began), err, texts(seen))
		}
		if d := w.Disagreement(); d != "" {
			t.Error(d)
		}
	})
}

// TestTwoUps: the second joins the first.
func TestTwoUps(t *testing.T) {
	inWorld(t, 1, fine, Connection(policy.TCPNo), func(t *testing.T, w *World) {
		second := make(chan error, 1)
		time.AfterFunc(5*time.Millisecond, func() { second <- w.West.Engine.Up(context.Background(), connName, nil) })
		if _, err := w.West.up(t); err != nil {
			t.Error(err)
		}
		if err := <-second; err != nil {
			t.Error(err)
		}
		w.agreed(t, 1)
	})
}

// TestTCPCut: the stream of an established IKE SA is reset; the SAs survive on a new one.
func TestTCPCut(t *testing.T) {
	inWorld(t, 1, fine, Connection(policy.TCPYes), func(t *testing.T, w *World) {
		if _, err := w.West.up(t); err != nil {
			t.Fatal(err)
		}
		before := w.West.Snapshots()[0]
		for range 5 {
			w.CutStreams()
			time.Sleep(time.Second)
			back := w.West.Snapshots()[0].Path
			time.Sleep(30 * time.Second)
			w.agreed(t, 1)
			after := w.West.Snapshots()[0]
			if back != after.Path {
				t.Errorf("the new stream did not last: %v, then %v", back, after.Path)
			}
			if before.SPIi != after.SPIi || before.Children[0].SPIIn != after.Children[0].SPIIn || after.PathLost {
				t.Fatalf("before %+v\nafter %+v", before, after)
			}
			for _, n := range []*Node{w.West, w.East} {
				if p := n.Datapath.Pairs()[0].Endpoints.Path; n.Host.end(p) == nil {
					t.Errorf("%s sends ESP on a stream that is gone: %v", n.Name, p)
				}
			}
		}
	})
}

// TestCookies: a responder under load asks for a cookie, over UDP only.
func TestCookies(t *testing.T) {
	for _, mode := range []policy.TCPMode{policy.TCPNo, policy.TCPYes} {
		inWorld(t, 1, fine, Connection(mode), func(t *testing.T, w *World) {
			set := Set(Connection(mode))
			set.Setup.CookieMode = policy.CookieAlways
			if err := w.East.Engine.Apply(t.Context(), set); err != nil {
				t.Fatal(err)
			}
			if _, err := w.West.up(t); err != nil {
				t.Fatal(err)
			}
			want := uint64(1)
			if mode == policy.TCPYes {
				want = 0
			}
			if s := w.East.Engine.Stats(); s.Cookies != want {
				t.Errorf("enable-tcp=%v: %d cookies, want %d", mode, s.Cookies, want)
			}
			w.agreed(t, 1)
		})
	}
}

// TestNoConnection: the responder has none for these addresses; both ends say so.
func TestNoConnection(t *testing.T) {
	for _, mode := range []policy.TCPMode{policy.TCPNo, policy.TCPYes} {
		inWorld(t, 1, fine, Connection(mode), func(t *testing.T, w *World) {
			other := Connection(mode)
			other.Name = "other"
			other.Left.Host.Addr = other.Left.Host.Addr.Next()
			if err := w.East.Engine.Apply(t.Context(), Set(other)); err != nil {
				t.Fatal(err)
			}
			_, err := w.West.up(t)
			if err == nil || !strings.Contains(err.Error(), "NO_PROPOSAL_CHOSEN") {
				t.Errorf("up: %v", err)
			}
			var up *engine.UpError
			if errors.As(err, &up) && len(up.Attempts) != 1 {
				t.Errorf("refused, and tried again: %v", err)
			}
			if log := w.Net.Text(); !strings.Contains(log, "no connection for these addresses is loaded") || !strings.Contains(log, `"other" 192.1.2.23...192.1.2.46`) {
				t.Error("east does not say what it has")
			}
		})
	}
}

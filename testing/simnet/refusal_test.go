package simnet

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/auth"
	"github.com/ikegod/ikegod/ike/engine"
	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/suite"
)

// TestRefusals: east does not want what west wants. `up` says so at once, without another rung; nothing half-made stays behind; and when east has changed its
// mind, revival brings the connection up.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(c *policy.Connection)
		psk    string
		reason event.Reason
		says   string // in the error of up
		log    string // on east
	}{
		{
			name: "no common IKE proposal", reason: event.ReasonNoProposal, says: "NO_PROPOSAL_CHOSEN", log: "AES_CBC",
			change: func(c *policy.Connection) { c.IKE = must(suite.ParseIKE("aes256-sha2_256-dh31")) },
		},
		{
			name: "no common ESP proposal", reason: event.ReasonNoProposal, says: "NO_PROPOSAL_CHOSEN", log: "AES_CBC",
			change: func(c *policy.Connection) {
				c.Children = []policy.Child{c.Children[0]}
				c.Children[0].ESP = must(suite.ParseESP("aes256-sha2_256", []iana.SN{iana.SN_ESN, iana.SN_32}))
			},
		},
		{
			name: "wrong id", reason: event.ReasonAuthRejected, says: "AUTHENTICATION_FAILED", log: "@west",
			change: func(c *policy.Connection) { c.Left.ID = id("@wild-west") },
		},
		{name: "wrong psk", reason: event.ReasonAuthRejected, says: "AUTHENTICATION_FAILED", log: "authentication", psk: "another secret"},
		{
			name: "selectors", reason: event.ReasonTSUnacceptable, says: "TS_UNACCEPTABLE", log: "192.0.2.0/24",
			change: func(c *policy.Connection) {
				c.Right.Subnets = subnet("10.9.9.0/24")
				c.Children = []policy.Child{c.Children[0]}
				c.Children[0].Right = c.Right.Subnets
			},
		},
	} {
		for _, mode := range []policy.TCPMode{policy.TCPFallback, policy.TCPYes} {
			t.Run(c.name+" "+mode.String(), func(t *testing.T) {
				inWorld(t, 1, fine, Connection(mode), func(t *testing.T, w *World) {
					other := Connection(mode)
					if c.change != nil {
						c.change(other)
					}
					if c.psk != "" {
						w.East.Engine.SetSecrets(auth.NewStore([]auth.Secret{{Key: []byte(c.psk), Position: "ipsec.secrets:1"}}))
					}
					if err := w.East.Engine.Apply(t.Context(), Set(other)); err != nil {
						t.Fatal(err)
					}
					_, err := w.West.up(t)
					var up *engine.UpError
					if !errors.As(err, &up) {
						t.Fatalf("up: %v", err)
					}
					if len(up.Attempts) != 1 || up.Attempts[0].Close.Reason != c.reason || !strings.Contains(err.Error(), c.says) {
						t.Errorf("up: %v (%v)", err, up.Attempts[0].Close.Reason)
					}
					if !strings.Contains(w.Net.Text(), c.log) {
						t.Errorf("the log does not name %q", c.log)
					}
					time.Sleep(40 * time.Second)
					if n := len(w.West.Datapath.Pairs()) + len(w.East.Datapath.Pairs()) + len(w.West.Datapath.Reserved()) + len(w.East.Datapath.Reserved()); n != 0 {
						t.Errorf("%d SAs or SPIs in the datapaths", n)
					}
					if s := w.West.state(t); s.State != "waiting for revival" && s.State != "negotiating" || s.LastError == "" {
						t.Errorf("%+v", s)
					}
					w.East.Engine.SetSecrets(secrets())
					if err := w.East.Engine.Apply(t.Context(), Set(Connection(mode))); err != nil {
						t.Fatal(err)
					}
					time.Sleep(2 * time.Minute)
					w.agreed(t, 1)
				})
			})
		}
	}
}

// TestShutdownOfDeafPeer: a peer that does not answer our Delete holds up the end for a bounded time, and nothing stays behind here.
func TestShutdownOfDeafPeer(t *testing.T) {
	for _, mode := range []policy.TCPMode{policy.TCPNo, policy.TCPYes} {
		inWorld(t, 1, fine, Connection(mode), func(t *testing.T, w *World) {
			if _, err := w.West.up(t); err != nil {
				t.Fatal(err)
			}
			deaf := fine
			deaf.BlockUDP, deaf.BlockTCP = true, true
			w.Net.SetFaults(deaf)
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := w.West.Engine.Shutdown(ctx); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 1100*time.Millisecond {
				t.Errorf("the end took %v, 1 s was allowed", took)
			}
			if l := w.West.Leftovers(); l != "" {
				t.Error(l)
			}
			if err := w.West.Engine.Up(t.Context(), connName, nil); err == nil {
				t.Error("up after the end")
			}
		})
	}
}

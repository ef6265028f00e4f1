package engine

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ts"
)

// TestUnresolvedNameHoldsTraffic: what auto= protects without an SA is protected from load on, though nobody knows yet where the peer is, through failed rounds
// and a reload, and until the peer has an address.
func TestUnresolvedNameHoldsTraffic(t *testing.T) {
	for _, tc := range []struct {
		what           string
		auto           policy.Auto
		negotiation    policy.Shunt
		loaded, solved []kernel.Action // nil: there is no policy
	}{
		{"add", policy.AutoAdd, policy.ShuntHold, nil, nil},
		{"start", policy.AutoStart, policy.ShuntHold, []kernel.Action{kernel.Hold}, []kernel.Action{kernel.Hold}},
		{"start, passing", policy.AutoStart, policy.ShuntPass, []kernel.Action{kernel.Pass}, []kernel.Action{kernel.Pass}},
		{"ondemand", policy.AutoOnDemand, policy.ShuntHold, []kernel.Action{kernel.Trap}, []kernel.Action{kernel.Trap}},
	} {
		t.Run(strings.ReplaceAll(tc.what, ", ", "-"), func(t *testing.T) {
			w := &world{local: map[netip.Addr]bool{us: true}, slow: time.Second}
			c := atName("gw.example", tc.auto)
			c.Negotiation, c.Failure = tc.negotiation, policy.ShuntNone
			inWorld(t, w, holds, []*policy.Connection{c}, func(t *testing.T, r *rig) {
				actions := func() (got []kernel.Action) {
					synctest.Wait()
					for _, p := range r.dp.Policies() {
						if p.ID != "named" || !p.Local.Equal(c.Children[0].Right) || !p.Remote.Equal(c.Children[0].Left) {
							t.Errorf("policy %+v", p)
						}
						got = append(got, p.Action)
					}
					return got
				}
				has := func(when string, want []kernel.Action) {
					t.Helper()
					if got := actions(); !slices.Equal(got, want) {
						t.Errorf("%s: policies %v, want %v", when, got, want)
					}
				}
				has("loaded", tc.loaded)
				if err := r.e.Apply(t.Context(), &policy.Set{Setup: policy.Setup{ListenUDP: true}, Connections: []*policy.Connection{c}}); err != nil {
					t.Fatal(err)
				}
				has("loaded again", tc.loaded)
				for range 20 {
					time.Sleep(w.slow / 2)
					has("not found", tc.loaded) // nobody has been asked: that is no failure, for which failureshunt= would be
				}
				if tc.auto == policy.AutoStart && r.connOf("named").LastError == "" {
					t.Error("no round has failed")
				}
				w.set(func() { w.names = map[string][]netip.Addr{"gw.example": {them}} })
				time.Sleep(namesInterval + 2*w.slow)
				if s := r.connOf("named"); s.Oriented == nil {
					t.Errorf("not looked up again: %+v", s)
				}
				has("found", tc.solved)
				if calls := strings.Join(r.dp.Calls(), "\n"); tc.loaded != nil && strings.Contains(calls, "Unroute") {
					t.Errorf("traffic was set free in between:\n%s", calls)
				}
				if err := r.e.Delete(t.Context(), "named"); err != nil {
					t.Error(err)
				}
				has("deleted", nil)
			})
		})
	}
}

// TestPacketForAnUnresolvedName: a packet for a trap looks the name up and starts the connection.
func TestPacketForAnUnresolvedName(t *testing.T) {
	w := &world{local: map[netip.Addr]bool{us: true}}
	inWorld(t, w, holds, []*policy.Connection{atName("gw.example", policy.AutoOnDemand)}, func(t *testing.T, r *rig) {
		w.set(func() { w.names = map[string][]netip.Addr{"gw.example": {them}} })
		r.dp.Emit(kernel.Acquire{Policy: "named", Src: netip.MustParseAddrPort("192.0.2.1:1"), Dst: netip.MustParseAddrPort("192.0.1.1:2"), Protocol: 17})
		r.heard(t, "is needed for a packet")
		if got := r.peers(); !slices.Equal(got, []string{them.String()}) {
			t.Errorf("asked %v", got)
		}
	})
}

// TestUnresolvedPeerItself: without a remote subnet what is protected is the peer itself, and nobody knows yet what that is. That is said, once.
func TestUnresolvedPeerItself(t *testing.T) {
	w := &world{local: map[netip.Addr]bool{us: true}}
	c := atName("gw.example", policy.AutoStart)
	c.Negotiation, c.Children[0].Left = policy.ShuntHold, nil
	inWorld(t, w, holds, []*policy.Connection{c}, func(t *testing.T, r *rig) {
		time.Sleep(3 * namesInterval)
		synctest.Wait()
		if p := r.dp.Policies(); len(p) != 0 {
			t.Errorf("policies %+v", p)
		}
		n := 0
		r.mu.Lock()
		for _, ev := range r.events {
			if strings.Contains(ev.Text, "flows in clear until gw.example has an address") && ev.Level == event.Info {
				n++
			}
		}
		r.mu.Unlock()
		if n != 1 {
			t.Errorf("said %d times", n)
		}
	})
}

// TestPolicyOfAnUnresolvedPeerGoes: what was routed for a peer that came by itself, and of which nobody knows the address otherwise, is gone with its Child SA.
func TestPolicyOfAnUnresolvedPeerGoes(t *testing.T) {
	w := &world{local: map[netip.Addr]bool{us: true}}
	conn := atName("gw.example", policy.AutoAdd)
	conn.Children[0].Left = nil
	inWorld(t, w, holds, []*policy.Connection{conn}, func(t *testing.T, r *rig) {
		c := r.e.view.Load().byName["named"]
		c.home.box.post(func() {
			peer := ts.Set{ts.FromPrefix(netip.PrefixFrom(them, them.BitLen()))}
			pol := kernel.Policy{ID: policyID(c.side, 0, peer), Local: conn.Children[0].Right, Remote: peer}
			c.e.policies.idle(c.home, c, pol, true, nil, nil)
		})
		synctest.Wait()
		if p := r.dp.Policies(); len(p) != 1 {
			t.Fatalf("policies %+v", p)
		}
		c.home.box.post(func() {
			c.instances++
			c.childGone(child{instance: true, told: true, policy: "named"}, 0)
		})
		synctest.Wait()
		if p := r.dp.Policies(); len(p) != 0 {
			t.Errorf("its policy is left: %+v", p)
		}
	})
}

package engine

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ts"
)

// TestReloadHoldsTraffic: while a changed connection goes down and comes up again, what both protect is held all the time, if the new one asks for that from its load on.
// What the new one does not protect any more is let go when it is in place.
func TestReloadHoldsTraffic(t *testing.T) {
	made := func(auto policy.Auto, n policy.Shunt) *policy.Connection {
		c := connection("west-east")
		c.Auto, c.Negotiation, c.Failure = auto, n, policy.ShuntDrop
		return c
	}
	for _, tc := range []struct {
		name   string
		auto   policy.Auto
		n      policy.Shunt
		second bool // the new one has another Child SA in the place of the first
		want   []string
		left   []kernel.PolicyID
	}{
		{"start", policy.AutoStart, policy.ShuntDrop, false, nil, []kernel.PolicyID{"west-east"}},
		{"ondemand", policy.AutoOnDemand, policy.ShuntHold, false, nil, []kernel.PolicyID{"west-east"}},
		{"start, other children", policy.AutoStart, policy.ShuntDrop, true, []string{"Route west-east/2", "Unroute west-east"}, []kernel.PolicyID{"west-east/2"}},
		{"passes while it negotiates", policy.AutoStart, policy.ShuntPass, false, []string{"Unroute west-east", "Route west-east"}, []kernel.PolicyID{"west-east"}},
		{"add", policy.AutoAdd, policy.ShuntHold, false, []string{"Unroute west-east"}, nil},
	} {
		t.Run(strings.ReplaceAll(tc.name, " ", "-"), func(t *testing.T) {
			setup := policy.Setup{ListenUDP: true}
			inRig(t, setup, holds, func(t *testing.T, r *rig) {
				apply := func(c *policy.Connection) {
					t.Helper()
					if err := r.e.Apply(t.Context(), &policy.Set{Setup: setup, Connections: []*policy.Connection{c}}); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				apply(made(policy.AutoStart, policy.ShuntDrop))
				before := len(r.dp.Calls())
				next := made(tc.auto, tc.n)
				next.Children[0].MTU = 1300
				if tc.second {
					other := ts.Set{ts.FromPrefix(netip.MustParsePrefix("192.0.3.0/24"))}
					next.Children[0].Name, next.Children[0].Left = "west-east/2", other
				}
				apply(next)
				did := r.dp.Calls()[before:]
				if tc.want == nil && slices.ContainsFunc(did, func(s string) bool { return strings.HasPrefix(s, "Unroute") }) || len(did) == 0 {
					t.Errorf("did %q", did)
				}
				at := 0
				for _, s := range did {
					if at < len(tc.want) && s == tc.want[at] {
						at++
					}
				}
				if at < len(tc.want) {
					t.Errorf("did %q, want %q in this order", did, tc.want)
				}
				var left []kernel.PolicyID
				for _, p := range r.dp.Policies() {
					left = append(left, p.ID)
				}
				if !slices.Equal(left, tc.left) {
					t.Errorf("policies of %q, want %q", left, tc.left)
				}
				if err := r.e.Delete(t.Context(), "west-east"); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				if list := r.dp.Policies(); len(list) != 0 {
					t.Errorf("after delete: %+v", list)
				}
			})
		})
	}
}

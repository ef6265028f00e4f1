package engine

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ident"
)

func shuntOf(s policy.Shunt, auto policy.Auto) *policy.Connection {
	c := connection("shunt")
	c.Shunt, c.Auto = s, auto
	c.Positions = map[string]string{"type": "ipsec.conf:5"}
	return c
}

// policiesOf are the actions of what the datapath has.
func (r *rig) policiesOf() (got []kernel.Action) {
	synctest.Wait()
	for _, p := range r.dp.Policies() {
		got = append(got, p.Action)
	}
	return got
}

// TestShunt: its policy is there from load on, or from up to down, and no peer is ever asked.
func TestShunt(t *testing.T) {
	for _, tc := range []struct {
		what   string
		shunt  policy.Shunt
		auto   policy.Auto
		loaded bool
		action kernel.Action
	}{
		{"passthrough add", policy.ShuntPass, policy.AutoAdd, false, kernel.Pass},
		{"drop ondemand", policy.ShuntDrop, policy.AutoOnDemand, true, kernel.Drop},
		{"reject start", policy.ShuntReject, policy.AutoStart, true, kernel.Reject},
		{"drop keep", policy.ShuntDrop, policy.AutoKeep, true, kernel.Drop},
	} {
		t.Run(strings.ReplaceAll(tc.what, " ", "-"), func(t *testing.T) {
			w := &world{local: map[netip.Addr]bool{us: true}}
			c := shuntOf(tc.shunt, tc.auto)
			inWorld(t, w, holds, []*policy.Connection{c}, func(t *testing.T, r *rig) {
				placed := func(when string, want bool) {
					t.Helper()
					got, s := r.policiesOf(), r.connOf("shunt")
					if want && (!slices.Equal(got, []kernel.Action{tc.action}) || s.State != "in place" || !s.Wanted) || !want && (len(got) != 0 || s.State == "in place") {
						t.Errorf("%s: policies %v, %s", when, got, s.State)
					}
				}
				if err := r.e.InPlace(t.Context()); err != nil {
					t.Fatal(err)
				}
				placed("loaded", tc.loaded)
				for range 2 {
					if err := r.e.Up(t.Context(), "shunt", nil); err != nil {
						t.Fatal(err)
					}
					placed("up", true)
				}
				r.heard(t, "in place already: "+tc.shunt.String()+" for 192.0.2.0/24 === 192.0.1.0/24")
				if err := r.e.Apply(t.Context(), &policy.Set{Setup: policy.Setup{ListenUDP: true}, Connections: []*policy.Connection{c}}); err != nil {
					t.Fatal(err)
				}
				placed("loaded again", true)
				if err := r.e.Down(t.Context(), "shunt", nil); err != nil {
					t.Fatal(err)
				}
				placed("down", false)
				if err := r.e.Up(t.Context(), "shunt", nil); err != nil {
					t.Fatal(err)
				}
				if err := r.e.Delete(t.Context(), "shunt"); err != nil {
					t.Fatal(err)
				}
				placed("deleted", false)
				if len(r.machines()) != 0 {
					t.Error("an IKE SA was made for a policy without IKE")
				}
			})
		})
	}
}

// TestReloadReplacesShunt: another action takes the place, and a tunnel too.
func TestReloadReplacesShunt(t *testing.T) {
	w := &world{local: map[netip.Addr]bool{us: true}}
	any := shuntOf(policy.ShuntDrop, policy.AutoOnDemand)
	any.Left.Host = policy.Host{Kind: policy.HostAny}
	tunnel := connection("shunt")
	tunnel.Auto = policy.AutoOnDemand
	inWorld(t, w, holds, []*policy.Connection{any}, func(t *testing.T, r *rig) {
		if got := r.policiesOf(); !slices.Equal(got, []kernel.Action{kernel.Drop}) {
			t.Errorf("without an address of the other side: %v", got)
		}
		for _, tc := range []struct {
			c    *policy.Connection
			want kernel.Action
		}{{shuntOf(policy.ShuntReject, policy.AutoOnDemand), kernel.Reject}, {tunnel, kernel.Trap}, {any, kernel.Drop}} {
			if err := r.e.Apply(t.Context(), &policy.Set{Setup: policy.Setup{ListenUDP: true}, Connections: []*policy.Connection{tc.c}}); err != nil {
				t.Fatal(err)
			}
			if got := r.policiesOf(); !slices.Equal(got, []kernel.Action{tc.want}) {
				t.Errorf("replaced: %v, want %v", got, tc.want)
			}
		}
	})
}

// TestNoPeerGetsAShunt: a stranger at its address meets the connections that have IKE, and explain says why.
func TestNoPeerGetsAShunt(t *testing.T) {
	w := &world{local: map[netip.Addr]bool{us: true}}
	tunnel := connection("tunnel")
	inWorld(t, w, holds, []*policy.Connection{shuntOf(policy.ShuntDrop, policy.AutoAdd), tunnel}, func(t *testing.T, r *rig) {
		p := udp(them.String() + ":500")
		for _, o := range r.e.view.Load().candidates(p) {
			if o.Name != "tunnel" {
				t.Errorf("%q is for a peer", o.Name)
			}
		}
		x, err := r.e.Explain("tunnel", netip.Addr{}, ident.ID{})
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(x.Candidates, func(c Candidate) bool { return c.Name == "shunt" })
		if i < 0 || x.Candidates[i].Fits != "" || !strings.Contains(x.Candidates[i].Why, "type=drop (ipsec.conf:5), a policy without IKE") {
			t.Errorf("%+v", x.Candidates)
		}
		x, err = r.e.Explain("shunt", netip.Addr{}, ident.ID{})
		if err != nil || x.Shunt != "drop for 192.0.2.0/24 === 192.0.1.0/24" || len(x.Candidates) != 0 {
			t.Errorf("%+v, %v", x, err)
		}
	})
}

// TestShuntOfAnAddressThatComes: the policy is put in place with the address of this host, though nobody asks for it again.
func TestShuntOfAnAddressThatComes(t *testing.T) {
	w := &world{local: map[netip.Addr]bool{}}
	inWorld(t, w, holds, []*policy.Connection{shuntOf(policy.ShuntDrop, policy.AutoOnDemand)}, func(t *testing.T, r *rig) {
		if got := r.policiesOf(); len(got) != 0 {
			t.Errorf("%v", got)
		}
		w.set(func() { w.local = map[netip.Addr]bool{us: true} })
		r.e.AddressesChanged()
		if got := r.policiesOf(); !slices.Equal(got, []kernel.Action{kernel.Drop}) || r.connOf("shunt").State != "in place" {
			t.Errorf("%v, %+v", got, r.connOf("shunt"))
		}
		w.set(func() { w.local = map[netip.Addr]bool{} })
		r.e.AddressesChanged()
		if got := r.policiesOf(); !slices.Equal(got, []kernel.Action{kernel.Drop}) {
			t.Errorf("what is dropped flows when an address goes: %v", got)
		}
	})
}

package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

// opener is a transport that opens ports, and writes down which.
type opener struct {
	*books
	log   []string
	taken atomic.Bool // another program has them all
}

func (o *opener) OpenPort(port uint16, ours bool) error {
	if o.taken.Load() {
		return errors.New("address already in use")
	}
	o.write(fmt.Sprintf("open %d %v", port, ours))
	return nil
}

func (o *opener) ClosePort(port uint16) { o.write(fmt.Sprintf("close %d", port)) }

func (o *opener) write(text string) {
	if n := len(o.sent); n > 0 {
		text = fmt.Sprintf("after %d sent: %s", n, text)
	}
	o.log = append(o.log, text)
}

// everything is a choice of both datapaths on a kernel that has everything.
func everything(t *testing.T, asker string) kernel.Choice {
	t.Helper()
	ok := kernel.Ability{OK: true}
	c, err := kernel.Choose(kernel.BackendAuto, kernel.Abilities{ESP: ok, UDP: ok, TCP: ok, Algorithms: ok, TUN: ok, Marks: ok}, asker)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// on is a connection with a port of its own on this host.
func on(name string, port uint16, b policy.Backend) *policy.Connection {
	c := connection(name)
	c.Left.IKEPort, c.Right.IKEPort, c.Backend = port, port, b // whichever end is us
	return c
}

// TestPortsOfBackends: one port goes to one datapath, that of the connection which names it; a reload may change that for all of its connections, not for some.
func TestPortsOfBackends(t *testing.T) {
	setup := policy.Setup{ListenUDP: true}
	inRig(t, setup, nil, func(t *testing.T, r *rig) {
		o := &opener{books: r.mux}
		r.e.mux, r.e.choice = o, everything(t, "a")
		apply := func(list ...*policy.Connection) {
			t.Helper()
			o.log = nil
			if err := r.e.Apply(t.Context(), &policy.Set{Setup: setup, Connections: list}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		why := func(name string) string { return r.e.view.Load().byName[name].peek().Why }
		did := func(want ...string) {
			t.Helper()
			if !slices.Equal(o.log, want) {
				t.Errorf("did %q, want %q", o.log, want)
			}
		}
		apply(on("a", 7000, policy.BackendUserspace), on("b", 7000, policy.BackendAuto))
		did("open 7000 true")
		if why("a") != "" || !strings.Contains(why("b"), `is that of connection "a"`) {
			t.Errorf("a: %q, b: %q", why("a"), why("b"))
		}
		apply(on("a", 7000, policy.BackendUserspace), on("b", 7000, policy.BackendUserspace))
		did()
		if why("a")+why("b") != "" {
			t.Errorf("a: %q, b: %q", why("a"), why("b"))
		}
		apply(on("a", 7000, policy.BackendAuto), on("b", 7000, policy.BackendXFRM))
		did("close 7000", "open 7000 false")
		if why("a")+why("b") != "" {
			t.Errorf("a: %q, b: %q", why("a"), why("b"))
		}
		if err := r.e.Add(t.Context(), on("a", 7000, policy.BackendUserspace)); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(why("a"), `is that of connection "b"`) {
			t.Errorf("a: %q", why("a"))
		}
		apply()
		did("close 7000")
	})
}

// TestLastWordsGoOutByTheirPort: a reload that gives a port to another datapath opens it anew when what is up there is down: its Delete still goes out. A connection whose
// port cannot be had then says so, and holds its traffic back.
func TestLastWordsGoOutByTheirPort(t *testing.T) {
	setup := policy.Setup{ListenUDP: true}
	p := path.Path{Local: netip.AddrPortFrom(us, 7000), Remote: netip.MustParseAddrPort("192.1.2.45:500")}
	says := func(m *script, in machine.Input) []machine.Effect {
		if in, ok := in.(machine.CloseIKE); ok {
			return []machine.Effect{machine.Send{Path: p, Data: []byte("delete")}, machine.Close{Close: event.Close{Reason: in.Reason}}}
		}
		return responder(m, in)
	}
	inRig(t, setup, says, func(t *testing.T, r *rig) {
		o := &opener{books: r.mux}
		r.e.mux, r.e.choice = o, everything(t, "own")
		apply := func(b policy.Backend) {
			t.Helper()
			c := on("own", 7000, b)
			c.Auto, c.Failure = policy.AutoOnDemand, policy.ShuntDrop
			if err := r.e.Apply(t.Context(), &policy.Set{Setup: setup, Connections: []*policy.Connection{c}}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		apply(policy.BackendUserspace)
		r.e.IKE(transport.Datagram{Path: p, Data: initRequest(1, nil)})
		synctest.Wait()
		if list := r.dp.Pairs(); len(list) != 1 {
			t.Fatalf("%+v", list)
		}
		apply(policy.BackendXFRM)
		if want := []string{"open 7000 true", "after 1 sent: close 7000", "after 1 sent: open 7000 false"}; !slices.Equal(o.log, want) {
			t.Errorf("did %q, want %q", o.log, want)
		}
		o.taken.Store(true)
		apply(policy.BackendUserspace)
		synctest.Wait()
		if why := r.e.view.Load().byName["own"].peek().Why; !strings.Contains(why, "address already in use") {
			t.Errorf("why: %q", why)
		}
		if list := r.dp.Policies(); len(list) != 1 || list[0].Action == kernel.Pass {
			t.Errorf("%+v", list)
		}
	})
}

// TestBackendIsRefused: what cannot be had is an error of the connection, which names the line and the cure.
func TestBackendIsRefused(t *testing.T) {
	setup := policy.Setup{ListenUDP: true}
	inRig(t, setup, nil, func(t *testing.T, r *rig) {
		c := connection("west-east")
		c.Backend, c.Positions = policy.BackendUserspace, map[string]string{"backend": "ipsec.conf:9"}
		for _, tc := range [][2]string{{"", "restart ikegod"}, {"west-east", "a port of its own with "}} { // in this order: the last choice stays
			want := tc[1]
			synctest.Wait() // the shard may still be at what was refused before
			r.e.choice = everything(t, tc[0])
			if err := r.e.Add(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			err := r.e.Up(t.Context(), c.Name, nil)
			if err == nil || !strings.Contains(err.Error(), "backend= of ipsec.conf:9") || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
		other := *c // the engine reads c
		other.TCP.Mode = policy.TCPYes
		if err := r.e.Add(t.Context(), &other); err != nil {
			t.Fatal(err)
		}
		if why := r.e.view.Load().byName[c.Name].peek().Why; why != "" {
			t.Errorf("over TCP: %q", why)
		}
	})
}

// TestUserspaceKeepsItsStream: a stream of a connection that is userspace's is not handed to the kernel, and the datapath hears whose its SAs are.
func TestUserspaceKeepsItsStream(t *testing.T) {
	p := tcp("192.1.2.45:41000", 1)
	inRig(t, policy.Setup{}, responder, func(t *testing.T, r *rig) {
		c := connection("west-east")
		c.Backend = policy.BackendUserspace
		if err := r.e.Add(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		a := &attacher{books: r.mux}
		a.answer = func(p path.Path, done func(error)) { t.Errorf("%s is to be handed over", p); done(nil) }
		r.e.attach, r.e.keep = a.AttachESP, a.KeepESP
		r.strangerOn(p)
		if in, told := installDone(r.machines()[0]); !told || in.Err != nil {
			t.Fatalf("told %v: %v", told, in.Err)
		}
		if !slices.Equal(a.kept, []path.Path{p}) {
			t.Errorf("kept %v", a.kept)
		}
		if list := r.dp.Pairs(); len(list) != 1 || list[0].Endpoints.Backend != kernel.BackendUserspace {
			t.Errorf("%+v", list)
		}
		if list := r.dp.Policies(); len(list) != 1 || list[0].Backend != kernel.BackendUserspace {
			t.Errorf("%+v", list)
		}
	})
}

// TestRefusedPortHoldsTraffic: the hosts of a connection whose port another program has are known, and what it protects does not leave in clear: it meets the trap, or what
// the connection says for a failure. It comes up when the port is free, by the next attempt, a packet, `up` or a reload, and the traffic is not set free in between.
func TestRefusedPortHoldsTraffic(t *testing.T) {
	for _, tc := range []struct {
		name    string
		auto    policy.Auto
		refused []kernel.Action
		again   func(t *testing.T, r *rig, set *policy.Set)
	}{
		{"start, revival", policy.AutoStart, []kernel.Action{kernel.Drop}, func(*testing.T, *rig, *policy.Set) { time.Sleep(10 * time.Minute) }},
		{"keep, up", policy.AutoKeep, []kernel.Action{kernel.Drop}, func(t *testing.T, r *rig, _ *policy.Set) {
			go func() { _ = r.e.Up(t.Context(), "own", nil) }()
		}},
		{"start, reload", policy.AutoStart, []kernel.Action{kernel.Drop}, func(t *testing.T, r *rig, set *policy.Set) {
			if err := r.e.Apply(t.Context(), set); err != nil {
				t.Error(err)
			}
		}},
		{"ondemand, packet", policy.AutoOnDemand, []kernel.Action{kernel.Trap}, func(_ *testing.T, r *rig, _ *policy.Set) {
			time.Sleep(refusedWait)
			r.packet()
		}},
		{"add, up", policy.AutoAdd, nil, func(t *testing.T, r *rig, _ *policy.Set) { go func() { _ = r.e.Up(t.Context(), "own", nil) }() }},
	} {
		t.Run(strings.ReplaceAll(tc.name, ", ", "-"), func(t *testing.T) {
			setup := policy.Setup{ListenUDP: true}
			inRig(t, setup, holds, func(t *testing.T, r *rig) {
				o := &opener{books: r.mux}
				o.taken.Store(true)
				r.e.mux, r.e.choice = o, everything(t, "")
				c := on("own", 7000, policy.BackendAuto)
				c.Auto, c.Negotiation, c.Failure = tc.auto, policy.ShuntHold, policy.ShuntDrop
				set := &policy.Set{Setup: setup, Connections: []*policy.Connection{c}}
				has := func(when string, want ...kernel.Action) {
					t.Helper()
					synctest.Wait()
					var got []kernel.Action
					for _, p := range r.dp.Policies() {
						got = append(got, p.Action)
					}
					if !slices.Equal(got, want) {
						t.Errorf("%s: policies %v, want %v", when, got, want)
					}
				}
				if err := r.e.Apply(t.Context(), set); err != nil {
					t.Fatal(err)
				}
				has("loaded", tc.refused...)
				if s := r.connOf("own"); !strings.Contains(s.Why, "address already in use") {
					t.Errorf("%+v", s)
				}
				if err := r.e.Apply(t.Context(), set); err != nil {
					t.Fatal(err)
				}
				has("loaded again", tc.refused...)
				if tc.auto == policy.AutoOnDemand {
					for range 20 { // each would be told
						r.packet()
					}
					has("packets", tc.refused...)
					if n := r.said("is needed for a packet"); n != 1 {
						t.Errorf("%d packets were told", n)
					}
				}
				o.taken.Store(false)
				tc.again(t, r, set)
				has("free", kernel.Hold)
				if s := r.connOf("own"); s.Oriented == nil || s.Why != "" || len(r.machines()) != 1 {
					t.Errorf("%d attempts, %+v", len(r.machines()), s)
				}
				if calls := strings.Join(r.dp.Calls(), "\n"); tc.refused != nil && strings.Contains(calls, "Unroute") {
					t.Errorf("traffic was set free in between:\n%s", calls)
				}
				if err := r.e.Delete(t.Context(), "own"); err != nil {
					t.Error(err)
				}
				has("deleted")
				if !slices.Equal(o.log, []string{"open 7000 false", "close 7000"}) {
					t.Errorf("did %q", o.log)
				}
			})
		})
	}
}

// packet is one that meets the trap of the connection "own".
func (r *rig) packet() {
	r.dp.Emit(kernel.Acquire{Policy: "own", Src: netip.MustParseAddrPort("192.0.2.1:1"), Dst: netip.MustParseAddrPort("192.0.1.1:2"), Protocol: 17})
	synctest.Wait()
}

// said is how often something was told.
func (r *rig) said(text string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ev := range r.events {
		if strings.Contains(ev.Text, text) {
			n++
		}
	}
	return n
}

// TestPortOfItself: a connection that waits for its peer's name, and that nobody can meet meanwhile, keeps its port neither open nor from itself.
func TestPortOfItself(t *testing.T) {
	w := &world{local: map[netip.Addr]bool{us: true}, names: map[string][]netip.Addr{"gw.example": {them}}}
	inWorld(t, w, holds, nil, func(t *testing.T, r *rig) {
		o := &opener{books: r.mux}
		r.e.mux, r.e.choice = o, everything(t, "named")
		apply := func(b policy.Backend) {
			t.Helper()
			c := atName("gw.example", policy.AutoAdd)
			c.Left.IKEPort, c.Right.IKEPort, c.Backend, c.Left.ID = 7000, 7000, b, ident.Pattern{Any: true}
			if err := r.e.Apply(t.Context(), &policy.Set{Setup: policy.Setup{ListenUDP: true}, Connections: []*policy.Connection{c}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * namesInterval)
			synctest.Wait()
		}
		apply(policy.BackendAuto)
		w.set(func() { w.names = nil })
		time.Sleep(2 * namesInterval)
		apply(policy.BackendUserspace)
		w.set(func() { w.names = map[string][]netip.Addr{"gw.example": {them}} })
		time.Sleep(2 * namesInterval)
		if s := r.connOf("named"); s.Oriented == nil || s.Why != "" {
			t.Errorf("%+v", s)
		}
		if want := []string{"open 7000 false", "close 7000", "open 7000 true"}; !slices.Equal(o.log, want) {
			t.Errorf("did %q, want %q", o.log, want)
		}
	})
}

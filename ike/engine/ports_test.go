package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
)

// opener is a transport that opens ports, and writes down which.
type opener struct {
	*books
	log []string
}

func (o *opener) OpenPort(port uint16, ours bool) error {
	o.log = append(o.log, fmt.Sprintf("open %d %v", port, ours))
	return nil
}

func (o *opener) ClosePort(port uint16) { o.log = append(o.log, fmt.Sprintf("close %d", port)) }

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

// TestBackendIsRefused: what cannot be had is an error of the connection, which names the line and the cure.
func TestBackendIsRefused(t *testing.T) {
	setup := policy.Setup{ListenUDP: true}
	inRig(t, setup, nil, func(t *testing.T, r *rig) {
		c := connection("west-east")
		c.Backend, c.Positions = policy.BackendUserspace, map[string]string{"backend": "ipsec.conf:9"}
		for _, tc := range [][2]string{{"", "restart ikegod"}, {"west-east", "a port of its own with "}} { // in this order: the last choice stays
			want := tc[1]
			r.e.choice = everything(t, tc[0])
			if err := r.e.Add(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			err := r.e.Up(t.Context(), c.Name, nil)
			if err == nil || !strings.Contains(err.Error(), "backend= of ipsec.conf:9") || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
		c.TCP.Mode = policy.TCPYes
		if err := r.e.Add(t.Context(), c); err != nil {
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

package simnet

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ikegod/ikegod/ike/engine"
	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
)

// fine is a network without faults.
var fine = Faults{Delay: 10 * time.Millisecond, Jitter: time.Millisecond}

// inBubble runs f in a bubble with both daemons, which have nothing loaded, and shows the exchange if it fails.
func inBubble(t *testing.T, seed uint64, f Faults, shards int, do func(t *testing.T, w *World)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, err := newWorld(seed, f, shards)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		defer func() {
			if t.Failed() {
				t.Logf("seed %d\n%s", seed, w.Net.Text())
			}
		}()
		do(t, w)
	})
}

// inLoaded is inBubble with a connection that both have.
func inLoaded(t *testing.T, seed uint64, f Faults, c *policy.Connection, do func(t *testing.T, w *World)) {
	t.Helper()
	inBubble(t, seed, f, 1, func(t *testing.T, w *World) {
		if err := w.Apply(c); err != nil {
			t.Fatal(err)
		}
		do(t, w)
	})
}

// inWorld is inLoaded, and asks in the end that nothing is left in either daemon.
func inWorld(t *testing.T, seed uint64, f Faults, c *policy.Connection, do func(t *testing.T, w *World)) {
	t.Helper()
	inLoaded(t, seed, f, c, func(t *testing.T, w *World) {
		do(t, w)
		w.shutdown(t)
	})
}

// shutdown ends both daemons and asks that nothing is left.
func (w *World) shutdown(t *testing.T) {
	t.Helper()
	for _, n := range []*Node{w.West, w.East} {
		if err := n.Engine.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if l := n.Leftovers(); l != "" {
			t.Error(l)
		}
		if s := n.Engine.Stats(); s.IKESAs != 0 || s.HalfOpen != 0 || s.Established != 0 || s.Children != 0 || s.Panics != 0 {
			t.Errorf("%s after the end: %+v", n.Name, s)
		}
	}
}

const connName = "west-east"

func (n *Node) up(t *testing.T) ([]event.Event, error) {
	t.Helper()
	var seen []event.Event
	err := n.Engine.Up(t.Context(), connName, func(ev event.Event) { seen = append(seen, ev) })
	return seen, err
}

// bring brings connections up, one after the other.
func (n *Node) bring(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := n.Engine.Up(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// end takes connections down, one after the other.
func (n *Node) end(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := n.Engine.Down(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func namesOf(set *policy.Set) (names []string) {
	for _, c := range set.Connections {
		names = append(names, c.Name)
	}
	return names
}

// load gives one end a configuration.
func (n *Node) load(t *testing.T, set *policy.Set) {
	t.Helper()
	if err := n.Engine.Apply(t.Context(), set); err != nil {
		t.Fatal(err)
	}
}

// none asks that there is no IKE SA.
func (w *World) none(t *testing.T) {
	t.Helper()
	if n := len(w.East.Snapshots()) + len(w.West.Snapshots()); n != 0 {
		t.Errorf("%d IKE SAs are left", n)
	}
}

func (n *Node) state(t *testing.T) engine.ConnectionStatus {
	t.Helper()
	all := n.Engine.Connections()
	if len(all) != 1 {
		t.Fatalf("%s has %d connections", n.Name, len(all))
	}
	return all[0]
}

// agreed asks that both ends have the same, and how many Child SAs.
func (w *World) agreed(t *testing.T, children int) {
	t.Helper()
	if d := w.Disagreement(); d != "" {
		t.Error(d)
	}
	if a, b := len(w.West.Datapath.Pairs()), len(w.East.Datapath.Pairs()); a != children || b != children {
		t.Errorf("%d Child SAs on west and %d on east, want %d", a, b, children)
	}
}

func texts(evs []event.Event) string {
	var b strings.Builder
	for _, ev := range evs {
		b.WriteString(ev.Text + "\n")
	}
	return b.String()
}

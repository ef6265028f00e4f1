package simnet

import (
	"slices"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
)

// TestSharedInstanceChangesTemplate: an IKE SA that carries Child SAs of two templates has a number of each, which no peer of that one has had; when the one leaves
// that it goes by, it goes by the other.
func TestSharedInstanceChangesTemplate(t *testing.T) {
	inFamily(t, 1, fine, 1, family(policy.TCPNo, 1, 1), func(t *testing.T, w *World) {
		templates := family(policy.TCPNo, 1, 1)
		for _, c := range templates.Connections {
			c.Left.Host = policy.Host{Kind: policy.HostAny}
		}
		w.East.load(t, templates)
		do := func(what, name string) {
			t.Helper()
			f := w.West.Engine.Up
			if what == "down" {
				f = w.West.Engine.Down
			}
			if err := f(t.Context(), name, nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
		}
		goesBy := func(name string, number int) {
			t.Helper()
			if s := w.East.Snapshots(); len(s) != 1 || s[0].Conn != name || s[0].Instance != number {
				t.Fatalf("want %s[%d], got %+v", name, number, s)
			}
		}
		do("up", "conn-1")
		goesBy("conn-1", 1)
		do("down", "conn-1")
		do("up", "conn-0")
		do("up", "conn-1")
		goesBy("conn-0", 1)
		do("down", "conn-0")
		goesBy("conn-1", 2)
	})
}

// TestDownOfSharedInstance: `down` of one instance deletes the Child SAs of its connection, as `down` of a connection does, whether the IKE SA goes by its name or by
// another's; the IKE SA goes with its last user.
func TestDownOfSharedInstance(t *testing.T) {
	for _, tc := range []struct {
		first, second string
		stays         int // Child SAs
		state         string
	}{{"conn-0", "conn-1", 1, "down,up"}, {"conn-1", "conn-0", 2, "up,down"}} {
		t.Run(tc.first, func(t *testing.T) {
			set := family(policy.TCPNo, 2, 1)
			for _, c := range set.Connections {
				c.Auto = policy.AutoOnDemand // so that west does not revive what east takes down
			}
			inFamily(t, 1, fine, 1, set, func(t *testing.T, w *World) {
				templates := family(policy.TCPNo, 2, 1)
				for _, c := range templates.Connections {
					c.Left.Host = policy.Host{Kind: policy.HostAny}
				}
				w.East.load(t, templates)
				for _, id := range []kernel.PolicyID{"conn-0/1x1", "conn-1/1x1"} {
					w.West.Engine.KernelEvent(kernel.Acquire{Policy: id})
					time.Sleep(time.Second)
				}
				w.one(t, 3)
				w.East.numbered(t, "conn-0", "conn-0", "conn-0", "conn-1")
				w.East.downSoon(t, tc.first+"[1]")
				w.one(t, tc.stays)
				w.East.numbered(t, tc.second, slices.Repeat([]string{tc.second}, tc.stays)...)
				if got := w.East.states(); got != tc.state {
					t.Error(got)
				}
				w.East.downSoon(t, tc.second+"[1]")
				if n := len(w.East.Snapshots()) + len(w.West.Snapshots()); n != 0 {
					t.Errorf("%d IKE SAs have survived their last user", n)
				}
				for _, ev := range w.East.Said() {
					if ev.Kind == event.KindChildClosed && ev.Instance != 1 {
						t.Errorf("the end of a Child SA of %s[1] is told of %s[%d]", ev.Conn, ev.Conn, ev.Instance)
					}
				}
			})
		})
	}
}

// downSoon takes an instance down and gives the peer a second to see it.
func (n *Node) downSoon(t *testing.T, name string) {
	t.Helper()
	n.endSoon(t, name)
	time.Sleep(time.Second)
}

// numbered expects one IKE SA, the first peer of a template, with Child SAs of these templates, to each of which it is the first peer.
func (n *Node) numbered(t *testing.T, goesBy string, children ...string) {
	t.Helper()
	all := n.Snapshots()
	if len(all) != 1 || all[0].Conn != goesBy || all[0].Instance != 1 || len(all[0].Children) != len(children) {
		t.Fatalf("want one IKE SA of %s[1] with %v, got %+v", goesBy, children, all)
	}
	for i, c := range all[0].Children {
		if c.Conn != children[i] || c.Instance != 1 {
			t.Errorf("Child SA %d is one of %s[%d], want %s[1]", i, c.Conn, c.Instance, children[i])
		}
	}
}

package simnet

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ident"
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

// TestOneInstance: rekey-child and explain take one peer of a template by its number, as down does; up says why it does not.
func TestOneInstance(t *testing.T) {
	inFamily(t, 1, fine, 2, family(policy.TCPNo, 2, 1), func(t *testing.T, w *World) {
		templates := family(policy.TCPNo, 2, 1)
		for _, c := range templates.Connections {
			c.Left.Host = policy.Host{Kind: policy.HostAny}
		}
		w.East.load(t, templates)
		w.West.bring(t, "conn-0", "conn-1")
		e := w.East.Engine
		for name, kept := range map[string]int{"conn-0[1]": 1, "conn-1[1]": 2} {
			before, left := w.East.inbound(), 0
			if err := e.RekeyChild(t.Context(), name, nil); err != nil {
				t.Errorf("rekey-child %s: %v", name, err)
			}
			time.Sleep(time.Second)
			for spi := range w.East.inbound() {
				if before[spi] {
					left++
				}
			}
			if left != kept {
				t.Errorf("rekey-child %s: %d of 3 Child SAs stayed, want %d", name, left, kept)
			}
			x, err := e.Explain(name, netip.Addr{}, ident.ID{})
			if err != nil || x.PeerAddr != WestAddr || x.PeerID.String() != "@west" || x.Chosen+"[1]" != name {
				t.Errorf("explain %s: %v, peer %v %v gets %q", name, err, x.PeerAddr, x.PeerID, x.Chosen)
			}
		}
		_, explained := e.Explain("conn-0[7]", netip.Addr{}, ident.ID{})
		for what, err := range map[string]error{"rekey-child": e.RekeyChild(t.Context(), "conn-0[7]", nil), "explain": explained, "down": e.Down(t.Context(), "conn-0[7]", nil)} {
			if err == nil || !strings.Contains(err.Error(), `"conn-0" has no instance 7 now`) {
				t.Errorf("%s of an instance that is not there: %v", what, err)
			}
		}
		if err := e.Up(t.Context(), "conn-0[1]", nil); err == nil || !strings.Contains(err.Error(), `one peer of connection "conn-0"`) {
			t.Errorf("up: %v", err)
		}
	})
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

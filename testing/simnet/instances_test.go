package simnet

import (
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/policy"
)

// TestSharedInstanceChangesTemplate: an IKE SA that carries Child SAs of two templates has a number of the one that it goes by; when that one leaves it, it gets
// a number of the other, which no peer of that one has had.
func TestSharedInstanceChangesTemplate(t *testing.T) {
	inFamily(t, 1, fine, 1, family(policy.TCPNo, 1, 1), func(t *testing.T, w *World) {
		templates := family(policy.TCPNo, 1, 1)
		for _, c := range templates.Connections {
			c.Left.Host = policy.Host{Kind: policy.HostAny}
		}
		if err := w.East.Engine.Apply(t.Context(), templates); err != nil {
			t.Fatal(err)
		}
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

package simnet

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
)

func TestUpDown(t *testing.T) {
	for name, mode := range carriersOf {
		t.Run(name, func(t *testing.T) {
			inLoaded(t, 1, fine, Connection(mode), func(t *testing.T, w *World) {
				ctx := context.Background()
				var lines []event.Event
				began := time.Now()
				if err := w.West.Engine.Up(ctx, "west-east", func(ev event.Event) { lines = append(lines, ev) }); err != nil {
					t.Fatal(err)
				}
				t.Logf("up after %v", time.Since(began))
				for _, ev := range lines {
					t.Log(ev.Level, ev.Kind, ev.Text)
				}
				time.Sleep(time.Minute)
				if d := w.Disagreement(); d != "" {
					t.Fatal(d)
				}
				if strings.Contains(w.Net.Text(), "cut") {
					t.Error("a stream was closed as if nobody owned it")
				}
				if n := len(w.West.Datapath.Pairs()); n != 1 {
					t.Fatalf("%d SA pairs", n)
				}
				if err := w.West.Engine.Down(ctx, "west-east", nil); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				for _, n := range []*Node{w.West, w.East} {
					if l := n.Leftovers(); l != "" {
						t.Error(l)
					}
				}
				time.Sleep(15 * time.Second) // machines that are over repeat their last reply for a while
				for _, n := range []*Node{w.West, w.East} {
					if s := n.Engine.Stats(); s.IKESAs != 0 || s.HalfOpen != 0 || s.Established != 0 || s.Children != 0 {
						t.Errorf("%s: %+v", n.Name, s)
					}
					if s := n.Host.Streams(); s != 0 {
						t.Errorf("%s: %d streams are open", n.Name, s)
					}
				}
			})
		})
	}
}

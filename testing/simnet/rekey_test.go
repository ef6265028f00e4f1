package simnet

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
)

// inbound are the inbound SPIs of a node's datapath.
func (n *Node) inbound() map[uint32]bool {
	m := map[uint32]bool{}
	for _, p := range n.Datapath.Pairs() {
		m[uint32(p.In.SPI)] = true
	}
	return m
}

// TestRekeyChild: all Child SAs of a connection, or one by its name, are replaced; those of another connection on the same IKE SA stay, and nobody goes down.
func TestRekeyChild(t *testing.T) {
	for name, mode := range carriersOf {
		t.Run(name, func(t *testing.T) {
			set := family(mode, 2, 1)
			inFamily(t, 1, fine, 4, set, func(t *testing.T, w *World) {
				for _, c := range set.Connections {
					if err := w.West.Engine.Up(t.Context(), c.Name, nil); err != nil {
						t.Fatal(err)
					}
				}
				for _, tc := range []struct {
					node *Node
					name string
					kept int // of three
				}{{w.West, "conn-0", 1}, {w.East, "conn-0", 1}, {w.West, "conn-0/2x2", 2}, {w.East, "conn-1", 2}} {
					before := tc.node.inbound()
					var seen []event.Event
					if err := tc.node.Engine.RekeyChild(t.Context(), tc.name, func(ev event.Event) { seen = append(seen, ev) }); err != nil {
						t.Errorf("%s, %s: %v", tc.node.Name, tc.name, err)
					}
					time.Sleep(time.Second)
					w.one(t, 3)
					kept := 0
					for spi := range tc.node.inbound() {
						if before[spi] {
							kept++
						}
					}
					if kept != tc.kept {
						t.Errorf("%s, %s: %d of 3 Child SAs stayed, want %d", tc.node.Name, tc.name, kept, tc.kept)
					}
					if !strings.Contains(texts(seen), "is rekeyed") {
						t.Errorf("progress:\n%s", texts(seen))
					}
				}
				if s := w.West.Engine.Stats(); s.Revivals != 0 || w.West.states() != "up,up" || w.East.states() != "up,up" {
					t.Errorf("%s; %s; %+v", w.West.states(), w.East.states(), s)
				}
				if err := w.West.Engine.RekeyChild(t.Context(), "nobody", nil); err == nil {
					t.Error("a name that is not there is rekeyed")
				}
				if err := w.West.Engine.Down(t.Context(), "conn-1", nil); err != nil {
					t.Fatal(err)
				}
				if err := w.West.Engine.RekeyChild(t.Context(), "conn-1", nil); err == nil || !strings.Contains(err.Error(), "no Child SA to rekey") {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// TestRekeySeeds: both ends rekey, again and again, on a bad network; in the end both agree, and each Child SA is there once.
func TestRekeySeeds(t *testing.T) {
	for seed := range max(seeds(t)/10, 1) {
		inFamily(t, uint64(seed), fine, 1, family([]policy.TCPMode{policy.TCPNo, policy.TCPYes}[seed%2], 2), func(t *testing.T, w *World) {
			if err := w.West.Engine.Up(t.Context(), "conn-0", nil); err != nil {
				t.Fatal(err)
			}
			w.Net.SetFaults(lossy)
			var all sync.WaitGroup
			for _, n := range []*Node{w.West, w.East} {
				all.Go(func() {
					for i := range 4 {
						_ = n.Engine.RekeyChild(t.Context(), "conn-0", nil)
						time.Sleep(time.Duration(seed*37%11+i) * 100 * time.Millisecond)
					}
				})
			}
			all.Wait()
			w.Net.SetFaults(fine)
			time.Sleep(2 * settleTime)
			w.agreed(t, 2)
			if w.West.states() != "up" {
				t.Error(w.West.states())
			}
		})
		if t.Failed() {
			t.Logf("seed %d", seed)
			return
		}
	}
}

// TestSoftExpire: a Child SA that comes to a limit of its datapath is rekeyed, once, also if both ends come to it in one moment.
func TestSoftExpire(t *testing.T) {
	for name, both := range map[string]bool{"one-end": false, "both-ends": true} {
		t.Run(name, func(t *testing.T) {
			inFamily(t, 1, fine, 1, family(policy.TCPNo, 1), func(t *testing.T, w *World) {
				if err := w.West.Engine.Up(t.Context(), "conn-0", nil); err != nil {
					t.Fatal(err)
				}
				before := map[*Node]map[uint32]bool{w.West: w.West.inbound(), w.East: w.East.inbound()}
				for n, spis := range before {
					for spi := range spis {
						if both || n == w.West {
							n.Datapath.Emit(kernel.SoftExpire{SPI: kernel.SPI(spi)})
						}
					}
				}
				time.Sleep(time.Minute)
				w.one(t, 1)
				for n, spis := range before {
					for spi := range n.inbound() {
						if spis[spi] {
							t.Errorf("%s: SA %#x is still there", n.Name, spi)
						}
					}
				}
				if s := w.West.Engine.Stats(); s.Revivals != 0 {
					t.Errorf("%d revivals", s.Revivals)
				}
			})
		})
	}
}

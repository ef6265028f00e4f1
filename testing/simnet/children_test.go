package simnet

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
)

// TestSeveralChildren: `up` brings all Child SAs of a connection, the first with the IKE SA, and ends when all are there.
func TestSeveralChildren(t *testing.T) {
	for name, mode := range carriersOf {
		t.Run(name, func(t *testing.T) {
			inFamily(t, 1, fine, 1, family(mode, 4), func(t *testing.T, w *World) {
				began := time.Now()
				var seen []event.Event
				if err := w.West.Engine.Up(t.Context(), "conn-0", func(ev event.Event) { seen = append(seen, ev) }); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > 200*time.Millisecond {
					t.Errorf("up took %v", took)
				}
				w.one(t, 4)
				for _, want := range []string{"10.0.0.0/24===10.100.0.0/24", "10.0.3.0/24===10.100.3.0/24"} {
					if !strings.Contains(texts(seen), "established Child SA; IPsec tunnel ["+want) {
						t.Errorf("progress does not tell of %s:\n%s", want, texts(seen))
					}
				}
				time.Sleep(time.Minute)
				w.one(t, 4)
				w.East.end(t, "conn-0")
				time.Sleep(time.Second)
				// West wants it, and makes all of it again.
				time.Sleep(time.Minute)
				w.one(t, 4)
				w.West.end(t, "conn-0")
				time.Sleep(time.Minute)
				w.agreed(t, 0)
			})
		})
	}
}

// says asks that an error of Up has all these words.
func says(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, want := range words {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("up does not tell of %s: %v", want, err)
		}
	}
}

// TestSomeChildrenFail: `up` names the Child SA that was refused and why; the others stay, and it is asked for again.
func TestSomeChildrenFail(t *testing.T) {
	set := family(policy.TCPNo, 3)
	inFamily(t, 1, fine, 1, set, func(t *testing.T, w *World) {
		less := family(policy.TCPNo, 3)
		less.Connections[0].Children = less.Connections[0].Children[:2]
		w.East.load(t, less)
		err := w.West.Engine.Up(t.Context(), "conn-0", nil)
		says(t, err, "2 of the 3 Child SAs", "conn-0/3x3", "TS_UNACCEPTABLE")
		w.one(t, 2)
		if s := w.West.Engine.Connections()[0]; s.State != "up" || !strings.Contains(s.LastError, "conn-0/3x3") {
			t.Errorf("%+v", s)
		}
		w.East.load(t, set)
		time.Sleep(10 * time.Minute)
		w.one(t, 3)
		if s := w.West.Engine.Connections()[0]; s.LastError != "" {
			t.Errorf("%+v", s)
		}
	})
}

// TestFirstChildFails: the first Child SA is refused, the IKE SA is used for the others all the same.
func TestFirstChildFails(t *testing.T) {
	set := family(policy.TCPNo, 3)
	inFamily(t, 1, fine, 1, set, func(t *testing.T, w *World) {
		less := family(policy.TCPNo, 3)
		less.Connections[0].Children = less.Connections[0].Children[1:]
		w.East.load(t, less)
		err := w.West.Engine.Up(t.Context(), "conn-0", nil)
		says(t, err, "2 of the 3 Child SAs", "conn-0/1x1")
		w.one(t, 2)
	})
}

// TestNoChildAtAll: every Child SA is refused; `up` says why, and tries again.
func TestNoChildAtAll(t *testing.T) {
	set := family(policy.TCPNo, 2)
	inFamily(t, 1, fine, 1, set, func(t *testing.T, w *World) {
		other := family(policy.TCPNo, 2)
		for i := range other.Connections[0].Children {
			other.Connections[0].Children[i].Left = subnet(fmt.Sprintf("172.16.%d.0/24", i))
		}
		w.East.load(t, other)
		err := w.West.Engine.Up(t.Context(), "conn-0", nil)
		if reasons := checkReasons(err); reasons != "" {
			t.Error(reasons)
		}
		says(t, err, "conn-0/1x1", "conn-0/2x2")
		w.East.load(t, set)
		time.Sleep(10 * time.Minute)
		w.one(t, 2)
	})
}

// TestOnDemandOneOfSeveral: of a connection with auto=ondemand one Child SA ends; the next packet for it brings it back, beside the other.
func TestOnDemandOneOfSeveral(t *testing.T) {
	set := family(policy.TCPNo, 2)
	set.Connections[0].Auto = policy.AutoOnDemand
	inFamily(t, 1, fine, 1, set, func(t *testing.T, w *World) {
		w.West.Engine.KernelEvent(kernel.Acquire{Policy: "conn-0/1x1"})
		time.Sleep(time.Second)
		w.one(t, 2)
		for _, p := range w.West.Datapath.Pairs() {
			if p.Policy == "conn-0/2x2" {
				w.West.Engine.KernelEvent(kernel.HardExpire{SPI: p.In.SPI})
			}
		}
		time.Sleep(time.Minute)
		w.one(t, 1)
		w.West.Engine.KernelEvent(kernel.Acquire{Policy: "conn-0/2x2"})
		time.Sleep(time.Second)
		w.one(t, 2)
	})
}

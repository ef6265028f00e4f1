package simnet

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
)

// TestCarrierThatDatapathsCannotFollow: a Child SA whose datapath cannot follow its IKE SA to another path, at one end or at both, is rekeyed there; nobody has to do
// anything.
func TestCarrierThatDatapathsCannotFollow(t *testing.T) {
	for _, ends := range []string{"west", "east", "both"} {
		t.Run(ends, func(t *testing.T) {
			inWorld(t, 1, fine, Connection(policy.TCPYes), func(t *testing.T, w *World) {
				if _, err := w.West.up(t); err != nil {
					t.Fatal(err)
				}
				before := w.West.Snapshots()[0]
				for _, n := range []*Node{w.West, w.East} {
					if ends == "both" || n.Name == ends {
						n.Datapath.Refuse(kernel.OpMove, fmt.Errorf("its keys are with the other datapath: %w", kernel.ErrCarrier))
					}
				}
				w.CutStreams()
				time.Sleep(30 * time.Second)
				w.agreed(t, 1)
				after := w.West.Snapshots()[0]
				if before.SPIi != after.SPIi || before.Children[0].SPIIn == after.Children[0].SPIIn {
					t.Errorf("before %+v\nafter %+v", before, after)
				}
				for _, n := range []*Node{w.West, w.East} {
					if p := n.Datapath.Pairs()[0].Endpoints.Path; n.Host.end(p) == nil {
						t.Errorf("%s sends ESP on a stream that is gone: %v", n.Name, p)
					}
					if n.Engine.Stats().Revivals != 0 {
						t.Errorf("%s had to revive the connection", n.Name)
					}
				}
			})
		})
	}
}

// TestCarrierWithoutSuccessor: where the peer refuses to rekey a Child SA that its datapath cannot take to the new path, or it cannot be installed, it is deleted at both
// ends, and a connection that must remain up is made anew.
func TestCarrierWithoutSuccessor(t *testing.T) {
	for _, refuser := range []string{"west", "east"} {
		t.Run(refuser, func(t *testing.T) {
			inWorld(t, 1, fine, Connection(policy.TCPYes), func(t *testing.T, w *World) {
				if _, err := w.West.up(t); err != nil {
					t.Fatal(err)
				}
				before := w.West.Snapshots()[0]
				w.West.Datapath.Refuse(kernel.OpMove, fmt.Errorf("its keys are with the other datapath: %w", kernel.ErrCarrier))
				for _, n := range []*Node{w.West, w.East} {
					if n.Name == refuser {
						n.Datapath.Refuse(kernel.OpInstall, errors.New("somebody else has a policy for it"))
					}
				}
				w.CutStreams()
				time.Sleep(2 * time.Minute)
				w.agreed(t, 1)
				after := w.West.Snapshots()[0]
				if after.Children[0].SPIIn == before.Children[0].SPIIn {
					t.Errorf("the Child SA is the same: %+v", after)
				}
				if n := w.West.Engine.Stats().Revivals; n == 0 {
					t.Error("the connection was not revived")
				}
			})
		})
	}
}

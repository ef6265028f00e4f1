package simnet

import (
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/policy"
)

// TestTwoConnectionsOfOnePair: two connections that differ in their subnets alone are two tunnels. Each is known at the responder by its own name, so that
// uniqueids=yes does not take one for what a restarted peer has left of the other; and what the datapath has of one goes with that one.
func TestTwoConnectionsOfOnePair(t *testing.T) {
	first, second := Connection(policy.TCPNo), Connection(policy.TCPNo)
	second.Name, second.Children[0].Name = "west-east-2", "west-east-2"
	left, right := subnet("192.0.11.0/24"), subnet("192.0.12.0/24")
	second.Left.Subnets, second.Right.Subnets, second.Children[0].Left, second.Children[0].Right = left, right, left, right
	set := Set(first)
	set.Connections = append(set.Connections, second)
	inWorld(t, 1, fine, first, func(t *testing.T, w *World) {
		for _, n := range []*Node{w.West, w.East} {
			if err := n.Engine.Apply(t.Context(), set); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range set.Connections {
			if err := w.West.Engine.Up(t.Context(), c.Name, nil); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		w.agreed(t, 2)
		for _, n := range []*Node{w.West, w.East} {
			for _, c := range n.Engine.Connections() {
				if c.State != "up" {
					t.Errorf("%s: connection %s is %s", n.Name, c.Name, c.State)
				}
			}
		}
		if s := w.West.Engine.Stats(); s.Revivals != 0 {
			t.Errorf("%d revivals", s.Revivals)
		}
		if err := w.West.Engine.Down(t.Context(), second.Name, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.agreed(t, 1)
		if p := w.East.Datapath.Policies(); len(p) != 1 || p[0].ID != "west-east" {
			t.Errorf("policies of east: %v", p)
		}
	})
}

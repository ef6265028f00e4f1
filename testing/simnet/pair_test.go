package simnet

import (
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/suite"
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
			n.load(t, set)
		}
		w.West.bring(t, namesOf(set)...)
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
		w.West.end(t, second.Name)
		time.Sleep(time.Minute)
		w.agreed(t, 1)
		if p := w.East.Datapath.Policies(); len(p) != 1 || p[0].ID != "west-east" {
			t.Errorf("policies of east: %v", p)
		}
	})
}

// TestPairPartlyThere: the responder has the first of two connections alone. What is asked of it for the second comes on an IKE SA with the same identities, which
// it takes for one of the first, and is refused. That is no restart of the peer: the first stays up. When the second is there, both are.
func TestPairPartlyThere(t *testing.T) {
	first, second := Connection(policy.TCPNo), Connection(policy.TCPNo)
	second.Name, second.Children[0].Name = "west-east-2", "west-east-2"
	left, right := subnet("192.0.11.0/24"), subnet("192.0.12.0/24")
	second.Left.Subnets, second.Right.Subnets, second.Children[0].Left, second.Children[0].Right = left, right, left, right
	var err error
	if first.IKE, err = suite.ParseIKE("aes_gcm256-sha2_256-dh31+dh19"); err != nil {
		t.Fatal(err)
	}
	if second.IKE, err = suite.ParseIKE("aes_gcm256-sha2_256-dh19"); err != nil { // so it does not share the IKE SA of the first
		t.Fatal(err)
	}
	set := Set(first)
	set.Connections = append(set.Connections, second)
	inWorld(t, 1, fine, first, func(t *testing.T, w *World) {
		w.West.load(t, set)
		w.West.bring(t, first.Name)
		if err := w.West.Engine.Up(t.Context(), second.Name, nil); err == nil || !strings.Contains(err.Error(), "TS_UNACCEPTABLE") {
			t.Fatalf("up of a connection that the peer does not have: %v", err)
		}
		before := w.West.Datapath.Pairs()
		time.Sleep(time.Minute)
		if after := w.West.Datapath.Pairs(); len(before) != 1 || len(after) != 1 || after[0].In.SPI != before[0].In.SPI {
			t.Errorf("the Child SA of the first was replaced or lost:\n%v\n%v", before, after)
		}
		w.East.load(t, set)
		time.Sleep(5 * time.Minute)
		for _, n := range []*Node{w.West, w.East} {
			for _, c := range n.Engine.Connections() {
				if c.State != "up" {
					t.Errorf("%s: connection %s is %s", n.Name, c.Name, c.State)
				}
			}
			if s := n.Engine.Stats(); s.Children != 2 {
				t.Errorf("%s has %d Child SAs", n.Name, s.Children)
			}
		}
	})
}

package simnet

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/policy"
)

// deleteTime is longer than an IKE SA lasts that is deleted and whose peer does not answer.
const deleteTime = 3 * time.Second

// endSoon takes a connection down, within deleteTime.
func (n *Node) endSoon(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deleteTime)
	defer cancel()
	if err := n.Engine.Down(ctx, name, nil); err != nil {
		t.Errorf("down %s: %v", name, err)
	}
}

// TestDownOneAfterTheOther: connections that share an IKE SA are taken down while the Delete of the first is not answered; the IKE SA goes all the same.
func TestDownOneAfterTheOther(t *testing.T) {
	set := family(policy.TCPNo, 1, 2)
	inFamily(t, 1, fine, 1, set, func(t *testing.T, w *World) {
		w.West.bring(t, namesOf(set)...)
		var all sync.WaitGroup
		for _, c := range set.Connections {
			all.Go(func() { w.West.endSoon(t, c.Name) })
			time.Sleep(2 * time.Millisecond) // less than a round trip
		}
		all.Wait()
		w.none(t)
	})
}

// TestDownOfEachFromItsEnd: each end takes down the connection that it has brought up, at once. When the second leaves, the first is leaving already; the IKE SA goes.
func TestDownOfEachFromItsEnd(t *testing.T) {
	set := family(policy.TCPNo, 1, 2)
	inFamily(t, 1, fine, 1, set, func(t *testing.T, w *World) {
		ends := []*Node{w.West, w.East}
		for i, n := range ends {
			n.bring(t, set.Connections[i].Name)
		}
		w.one(t, 3)
		var all sync.WaitGroup
		for i, n := range ends {
			all.Go(func() { n.endSoon(t, set.Connections[i].Name) })
		}
		all.Wait()
		time.Sleep(deleteTime)
		w.none(t)
	})
}

// westForgets lets west lose everything, as a crash would, and gives it its configuration again.
func (w *World) westForgets(t *testing.T, set *policy.Set) {
	t.Helper()
	if err := w.Restart(w.West, set.Connections[0]); err != nil {
		t.Fatal(err)
	}
	w.West.load(t, set)
}

// TestSharedPeerRestarts: what a restarted peer has left behind goes, connection by connection, and all come up on the new IKE SA.
func TestSharedPeerRestarts(t *testing.T) {
	set := family(policy.TCPNo, 1, 2)
	inFamily(t, 1, fine, 1, set, func(t *testing.T, w *World) {
		w.West.bring(t, namesOf(set)...)
		w.one(t, 3)
		w.westForgets(t, set)
		for i := range set.Connections { // in the other order
			w.West.bring(t, set.Connections[1-i].Name)
		}
		time.Sleep(3 * time.Minute)
		w.one(t, 3)
	})
}

// TestSharedPeerStartsAnew: a peer that has lost everything brings one of two connections up again. What it had before goes at once, with the Child SAs of both
// (RFC 7296 2.4), and not only when nobody answers there for retransmit-timeout.
func TestSharedPeerStartsAnew(t *testing.T) {
	for _, shards := range []int{1, 4} {
		set := family(policy.TCPNo, 1, 2)
		inFamily(t, 1, fine, shards, set, func(t *testing.T, w *World) {
			w.West.bring(t, namesOf(set)...)
			w.one(t, 3)
			w.westForgets(t, set)
			w.West.bring(t, "conn-0")
			time.Sleep(deleteTime)
			w.one(t, 1)
			if s := w.East.states(); s != "up,down" {
				t.Error(s)
			}
		})
	}
}

// TestSharedIKEDies: the IKE SA of several connections dies; all of them come up again, on one.
func TestSharedIKEDies(t *testing.T) {
	set := family(policy.TCPNo, 2, 1)
	inFamily(t, 1, fine, 1, set, func(t *testing.T, w *World) {
		w.West.bring(t, namesOf(set)...)
		dead := fine
		dead.BlockUDP = true
		w.Net.SetFaults(dead)
		time.Sleep(2 * time.Minute)
		if s := w.West.Engine.Stats(); s.Established != 0 || s.Children != 0 {
			t.Errorf("%+v", s)
		}
		w.Net.SetFaults(fine)
		time.Sleep(5 * time.Minute)
		w.one(t, 3)
		if s := w.West.states(); s != "up,up" {
			t.Error(s)
		}
	})
}

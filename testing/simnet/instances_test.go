package simnet

import (
	"context"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
)

// TestSharedInstanceChangesTemplate: an IKE SA that carries Child SAs of two templates has a number of the one that it goes by; when that one leaves it, it gets
// a number of the other, which no peer of that one has had.
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

// TestDownOfSharedInstance: `down` of one instance deletes the Child SAs of its connection, as `down` of a connection does; the IKE SA goes with its last user.
func TestDownOfSharedInstance(t *testing.T) {
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
		down := func(name string) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if err := w.East.Engine.Down(ctx, name, nil); err != nil {
				t.Fatalf("down %s: %v", name, err)
			}
			time.Sleep(time.Second)
		}
		down("conn-0[1]")
		w.one(t, 1)
		if s := w.East.Snapshots(); len(s) != 1 || s[0].Conn != "conn-1" || s[0].Instance != 1 {
			t.Errorf("%+v", s)
		}
		if got := w.East.states(); got != "down,up" {
			t.Error(got)
		}
		down("conn-1[1]")
		if n := len(w.East.Snapshots()) + len(w.West.Snapshots()); n != 0 {
			t.Errorf("%d IKE SAs have survived their last user", n)
		}
	})
}

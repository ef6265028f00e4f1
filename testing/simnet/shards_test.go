package simnet

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
)

// TestManyShards runs many connections over several shards at once, up from both ends, over both carriers, on a bad network, with status and reloads in
// between. Its use is with -race; whatever the order of things, both ends must agree in the end.
func TestManyShards(t *testing.T) {
	const conns = 40
	inBubble(t, 1, lossy, 4, func(t *testing.T, w *World) {
		set := Set(nil)
		set.Connections = nil
		for i := range conns {
			c := Connection([]policy.TCPMode{policy.TCPNo, policy.TCPYes, policy.TCPFallback}[i%3])
			c.Name = fmt.Sprintf("conn-%d", i)
			c.Left.ID, c.Right.ID = id(fmt.Sprintf("@west-%d", i)), id(fmt.Sprintf("@east-%d", i))
			child := c.Children[0]
			child.Name, child.Left, child.Right = c.Name, subnet(fmt.Sprintf("10.1.%d.0/24", i)), subnet(fmt.Sprintf("10.2.%d.0/24", i))
			c.Children = []policy.Child{child}
			set.Connections = append(set.Connections, c)
		}
		ctx := context.Background()
		for _, n := range []*Node{w.West, w.East} {
			if err := n.Engine.Apply(ctx, set); err != nil {
				t.Fatal(err)
			}
		}
		time.AfterFunc(lossTime, func() { w.Net.SetFaults(fine) })
		var all sync.WaitGroup
		for i, c := range set.Connections {
			ends := []*Node{w.West, w.East}
			switch i % 4 {
			case 0, 1:
				ends = ends[:1]
			case 2:
				ends = ends[1:]
			}
			for _, n := range ends {
				all.Go(func() { _ = n.Engine.Up(ctx, c.Name, nil) }) // a failure is revived
			}
		}
		stop := make(chan struct{})
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(7 * time.Second):
					for _, n := range []*Node{w.West, w.East} {
						n.Engine.Status(func(machine.Snapshot, []kernel.Usage) bool { return true })
						if err := n.Engine.Apply(ctx, set); err != nil {
							t.Error(err)
						}
					}
				}
			}
		})
		time.Sleep(lossTime + 2*settleTime)
		close(stop)
		all.Wait()
		if d := w.Disagreement(); d != "" {
			t.Error(d)
		}
		for _, n := range []*Node{w.West, w.East} {
			if s := n.Engine.Stats(); s.ConnectionsUp != conns || s.Children != conns || s.Panics != 0 {
				t.Errorf("%s: %+v", n.Name, s)
			}
		}
		for i, c := range set.Connections {
			n := []*Node{w.West, w.East}[i%2]
			all.Go(func() {
				if err := n.Engine.Delete(ctx, c.Name); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		w.shutdown(t)
	})
}

package xfrm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/xfrm/message"
	"github.com/ikegod/ikegod/pkg/path"
)

// noRoom has the kernel refuse the next SA that is added.
func (g *gateway) noRoom() {
	g.requests.tell(func() {
		g.conn.refuse = func(kind message.Type) error {
			if kind != message.NEWSA {
				return nil
			}
			g.conn.refuse = nil
			return fmt.Errorf("%v: %w", kind, unix.ENOBUFS)
		}
	})
}

// testTurn: where the kernel has no memory for an outbound SA whose turn has come, nothing is half there and the pair does not stay as one that never sends.
func testTurn(t *testing.T, west, east *gateway) {
	west.start(t, Config{})
	east.start(t, Config{})
	sas := func() int { return strings.Count(west.ip(t, "xfrm state"), "proto esp") }
	t.Run("held", func(t *testing.T) {
		c := tunnel{suite: gcm, carrier: path.ESP, window: 32, held: true}
		w, e := c.install(t, west, east)
		before := west.policies(t)
		to := kernel.Endpoints{Path: c.ends(west, east, c.westPort, c.eastPort), Held: true}
		west.must(func(n kernel.Request) { west.Move(n, w, to) })
		if n := sas(); n != 1 {
			t.Errorf("%d SAs while its stream carries no ESP", n)
		}
		to.Held = false
		west.noRoom()
		if d := west.await(func(n kernel.Request) { west.Move(n, w, to) }); !errors.Is(d.Err, kernel.ErrMemory) {
			t.Errorf("moved: %v", d.Err)
		}
		if diff := cmp.Diff(before, west.policies(t)); diff != "" {
			t.Errorf("the kernel refused the SA, and policies have changed:\n%s", diff)
		}
		west.must(func(n kernel.Request) { west.Move(n, w, to) })
		west.ping(t, west.i4, east.i4, 1)
		west.must(func(n kernel.Request) { west.Remove(n, w) })
		east.must(func(n kernel.Request) { east.Remove(n, e) })
	})
	t.Run("standby", func(t *testing.T) {
		var spis [3][2]kernel.SPI
		var empty []string
		for i := range spis {
			c := tunnel{suite: gcm, carrier: path.ESP, window: 32, standby: true, generation: byte(1 + i)}
			if i == 0 {
				west.route(c.policy(t, west, east, kernel.Protect))
				empty = west.policies(t)
			}
			spis[i][0], spis[i][1] = c.install(t, west, east)
		}
		west.noRoom()
		if d := west.await(func(n kernel.Request) { west.Remove(n, spis[0][0]) }); !errors.Is(d.Err, kernel.ErrMemory) {
			t.Errorf("removed: %v", d.Err)
		}
		west.until("HardExpire", func() bool { return slices.Contains(west.heard, kernel.Event(kernel.HardExpire{SPI: spis[1][0]})) })
		if n := sas(); n != 2 {
			t.Errorf("%d SAs, want the inbound ones of two pairs", n)
		}
		if diff := cmp.Diff(empty, west.policies(t)); diff != "" {
			t.Errorf("policies want an SA that is not there:\n%s", diff)
		}
		east.must(func(n kernel.Request) { east.Remove(n, spis[0][1], spis[1][1]) })
		west.must(func(n kernel.Request) { west.Remove(n, spis[1][0]) }) // as the engine does then
		west.ping(t, west.i4, east.i4, 1)
		if n := sas(); n != 2 {
			t.Errorf("%d SAs of the last pair", n)
		}
		west.must(func(n kernel.Request) { west.Remove(n, spis[2][0]) })
		east.must(func(n kernel.Request) { east.Remove(n, spis[2][1]) })
		if left := west.ip(t, "xfrm state"); left != "" {
			t.Errorf("left: %s", hideKeys(left))
		}
	})
}

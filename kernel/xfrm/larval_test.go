package xfrm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/testing/netns"
)

// testWaits: packets wait for the SA that a trap asks for, or that is negotiated already, and are sent when it is there. One SA without keys stands for all of them.
func testWaits(t *testing.T, west, east *gateway) {
	west.start(t, Config{})
	east.start(t, Config{})
	for i, c := range []tunnel{
		{suite: gcm, carrier: path.ESP, window: 32},
		{suite: gcm, carrier: path.ESP, window: 32, outer6: true},
		{suite: gcm, carrier: path.ESP, window: 32, transport: true},
		{suite: gcm, carrier: path.TCP, window: 32, held: true}, // the last: what a stream says at its end would be one more packet for policies of the two hosts
	} {
		for _, first := range []kernel.Action{kernel.Trap, kernel.Hold} {
			t.Run(fmt.Sprintf("%d-%d", i, first), func(t *testing.T) {
				if c.carrier == path.TCP {
					c.westPort, c.eastPort = stream(t, west, east), 4500
				}
				c.generation, west.heard = byte(8*i+int(first)), nil
				src, dst := west.i4, east.i4
				if c.transport {
					src, dst = west.a4, east.a4
				}
				p := c.policy(t, west, east, first)
				west.route(p)
				pings := make([]*exec.Cmd, 3)
				var outs [3]bytes.Buffer
				for i := range pings {
					pings[i] = exec.Command("ip", "netns", "exec", west.name, "ping", "-n", "-c", "1", "-W", "60", "-I", src.String(), dst.String())
					pings[i].Stdout, pings[i].Stderr = &outs[i], &outs[i]
					if err := pings[i].Start(); err != nil {
						t.Fatal(err)
					}
				}
				if first == kernel.Trap {
					west.until("Acquire", func() bool { return len(west.heard) > 0 })
				} else {
					netns.Until(t, 20*time.Second, "an SA without keys", func() bool { return strings.Count(west.ip(t, "xfrm state"), "proto esp") == 1 })
				}
				if first == kernel.Trap {
					p.Action = kernel.Drop // as negotiationshunt= says to those that come now
				}
				west.route(p)
				w, e := c.install(t, west, east)
				if c.held {
					if n := strings.Count(west.ip(t, "xfrm state"), "spi 0x00000000"); n > 1 {
						t.Errorf("%d SAs without keys", n)
					}
					if u := west.Usage(w)[0]; u.OutPackets != 0 {
						t.Errorf("carried before the stream does: %+v", u)
					}
					west.must(func(n kernel.Request) {
						west.Move(n, w, kernel.Endpoints{Path: c.ends(west, east, c.westPort, c.eastPort)})
					})
				}
				for i, ping := range pings {
					if err := ping.Wait(); err != nil {
						stat, _ := west.exec("grep -v [[:space:]]0$ /proc/net/xfrm_stat")
						theirs, _ := east.exec("grep -v [[:space:]]0$ /proc/net/xfrm_stat")
						t.Errorf("a ping: %v %s\n%s\n%s\neast has carried %+v", err, outs[i].String(), stat, theirs, east.Usage(e))
					}
				}
				if n := strings.Count(west.ip(t, "xfrm state"), "proto esp"); n != 2 {
					t.Errorf("%d SAs:\n%s", n, hideKeys(west.ip(t, "xfrm state")))
				}
				if u := west.Usage(w)[0]; u.OutPackets != 3 || u.InPackets != 3 {
					t.Errorf("carried %+v", u)
				}
				for g, spi := range map[*gateway]kernel.SPI{west: w, east: e} {
					g.must(func(n kernel.Request) { g.Remove(n, spi) })
					g.must(func(n kernel.Request) { g.Unroute(n, p.ID) })
				}
			})
		}
	}
}

// testGivenUp: packets that have waited do not go in clear when others pass.
func testGivenUp(t *testing.T, west, east *gateway) {
	west.start(t, Config{})
	c := tunnel{suite: gcm, carrier: path.ESP, window: 32}
	for _, first := range []kernel.Action{kernel.Trap, kernel.Hold, kernel.Protect} {
		west.route(c.policy(t, west, east, first))
		ping := exec.Command("ip", "netns", "exec", west.name, "ping", "-n", "-c", "1", "-W", "3", "-I", west.i4.String(), east.i4.String())
		if err := ping.Start(); err != nil {
			t.Fatal(err)
		}
		netns.Until(t, 20*time.Second, "an SA without keys", func() bool { return strings.Contains(west.ip(t, "xfrm state"), "proto esp") })
		p := c.policy(t, west, east, kernel.Pass)
		west.route(p)
		west.ping(t, west.i4, east.i4, 1)
		if err := ping.Wait(); err == nil {
			t.Errorf("%d: a packet that has waited was answered in clear", first)
		}
		west.must(func(n kernel.Request) { west.Unroute(n, p.ID) })
	}
}

// What is dropped does not wait; and the setting that lets packets wait is put back, by the next daemon after a crash.
func TestLarvalDrop(t *testing.T) {
	namespace(t)
	now := func() string { return strings.TrimSpace(sh(t, "cat "+larvalFile)) }
	dir := t.TempDir()
	openUnclosed(t, Config{RunDir: dir}).kill()
	second := open(t, Config{RunDir: dir})
	if now() != "0" {
		t.Errorf("while it runs: %s", now())
	}
	if text, err := os.ReadFile(filepath.Join(dir, recordName)); err != nil || !strings.Contains(string(text), `"xfrm_larval_drop": "1"`) {
		t.Errorf("%v %s", err, text)
	}
	if err := second.Close(); err != nil || now() != "1" {
		t.Errorf("after it: %s, %v", now(), err)
	}
	sh(t, "sysctl -q net.core.xfrm_larval_drop=0") // the operator's own
	third := open(t, Config{RunDir: dir})
	if err := third.Close(); err != nil || now() != "0" {
		t.Errorf("after one that has found 0: %s, %v", now(), err)
	}
}

package simnet

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
)

// scripted is the connection with a script on west.
func scripted() *policy.Connection {
	c := Connection(policy.TCPNo)
	c.Left.Updown = "/usr/local/sbin/tunnel"
	return c
}

func (n *Node) asked() string { return strings.Join(n.Updown.Asked(), ", ") }

// TestUpdown: routed while it is negotiated, up with the first Child SA; a rekeying asks for nothing but what the runner knows to be up already, and never for down; down with
// the last. Only the end that is this host has its script run.
func TestUpdown(t *testing.T) {
	for _, initiator := range []string{"west", "east"} {
		t.Run(initiator, func(t *testing.T) {
			inLoaded(t, 1, fine, scripted(), func(t *testing.T, w *World) {
				node, want := w.West, "route west-east, up west-east"
				if initiator == "east" {
					node, want = w.East, "up west-east"
				}
				var seen []event.Event
				if err := node.Engine.Up(t.Context(), "west-east", func(ev event.Event) { seen = append(seen, ev) }); err != nil {
					t.Fatal(err)
				}
				if got := w.West.asked(); got != want {
					t.Errorf("asked for %s, want %s", got, want)
				}
				if node == w.West && !strings.Contains(texts(seen), `connection "west-east": command "up" output: hello`) {
					t.Errorf("progress:\n%s", texts(seen))
				}
				p := w.West.Datapath.Pairs()[0]
				if l := w.West.Updown.Last(); l.SPIIn != p.In.SPI || l.SPIOut != p.Out.SPI || l.LocalID != "@west" || l.RemoteID != "@east" || l.LocalAddr != WestAddr || l.RemoteAddr != EastAddr ||
					!l.Local.Equal(subnet("192.0.1.0/24")) || !l.Remote.Equal(subnet("192.0.2.0/24")) || l.Script != "/usr/local/sbin/tunnel" || l.Instance || l.Added.IsZero() {
					t.Errorf("told %+v", l)
				}
				for _, n := range []*Node{w.West, w.East} {
					if err := n.Engine.RekeyChild(t.Context(), "west-east", nil); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
				}
				if got := strings.ReplaceAll(w.West.asked(), ", up west-east", ""); strings.Contains(got, "down") || strings.Contains(got, "unroute") {
					t.Errorf("a rekeying asks for %s", w.West.asked())
				}
				before := len(w.West.Updown.Asked())
				node.end(t, connName)
				time.Sleep(time.Second)
				if got := strings.Join(w.West.Updown.Asked()[before:], ", "); got != "down in=true out=true west-east, unroute west-east" {
					t.Errorf("down asks for %s", got)
				}
				for _, a := range w.East.Updown.Asked() {
					if strings.HasPrefix(a, "up") || strings.HasPrefix(a, "route") {
						t.Errorf("east has no script, and is asked to %s", a)
					}
				}
			})
		})
	}
}

// TestUpdownOnDemand: a trap is routed, and stays routed when the tunnel is down again; it is unrouted with its connection.
func TestUpdownOnDemand(t *testing.T) {
	c := scripted()
	c.Auto = policy.AutoOnDemand
	inLoaded(t, 1, fine, c, func(t *testing.T, w *World) {
		time.Sleep(time.Second)
		if got := w.West.asked(); got != "route west-east" {
			t.Fatalf("a trap asks for %s", got)
		}
		w.West.bring(t, connName)
		w.West.end(t, connName)
		time.Sleep(time.Second)
		if got := w.West.asked(); strings.Contains(got, "unroute") || !strings.Contains(got, "up west-east, down in=true out=true west-east") {
			t.Errorf("asked for %s", got)
		}
		if err := w.West.Engine.Delete(t.Context(), "west-east"); err != nil {
			t.Fatal(err)
		}
		if got := w.West.asked(); !strings.HasSuffix(got, ", unroute west-east") || strings.Count(got, "unroute") != 1 {
			t.Errorf("asked for %s", got)
		}
	})
}

// TestUpdownFails: a Child SA whose script fails does not come up on either side, the operator reads why, and nothing stays.
func TestUpdownFails(t *testing.T) {
	inLoaded(t, 1, fine, scripted(), func(t *testing.T, w *World) {
		w.West.Updown.Refuse(errors.New(`command "up": exited with status 7`))
		for _, n := range []*Node{w.West, w.East} {
			var seen []event.Event // by whoever calls Up, until done
			done := make(chan error, 1)
			go func() {
				done <- n.Engine.Up(t.Context(), "west-east", func(ev event.Event) { seen = append(seen, ev) })
			}()
			time.Sleep(10 * time.Second)
			if err := n.Engine.Down(t.Context(), "west-east", nil); err != nil {
				t.Error(err)
			}
			if err := <-done; err == nil {
				t.Errorf("%s: up", n.Name)
			}
			if n == w.West && !strings.Contains(texts(seen), "exited with status 7") {
				t.Errorf("west's progress:\n%s", texts(seen))
			}
			time.Sleep(5 * time.Second)
			for _, n := range []*Node{w.West, w.East} {
				if l := n.Leftovers(); l != "" {
					t.Error(l)
				}
			}
		}
		w.West.Updown.Refuse(nil)
		if err := w.West.Engine.Up(t.Context(), "west-east", nil); err != nil {
			t.Error(err)
		}
	})
}

// TestUpdownShutdown: what is up is taken down by its script.
func TestUpdownShutdown(t *testing.T) {
	inLoaded(t, 1, fine, scripted(), func(t *testing.T, w *World) {
		w.West.bring(t, connName)
		if err := w.West.Engine.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if got := w.West.asked(); !strings.HasSuffix(got, "down in=true out=true west-east, unroute west-east") {
			t.Errorf("asked for %s", got)
		}
	})
}

package simnet

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
)

// family makes connections that differ in their subnets alone, each with so many children: they share one IKE SA.
func family(mode policy.TCPMode, children ...int) *policy.Set {
	set := Set(nil)
	set.Connections = nil
	for i, n := range children {
		c := Connection(mode)
		c.Name = fmt.Sprintf("conn-%d", i)
		child := c.Children[0]
		c.Children = nil
		for j := range n {
			child.Name = fmt.Sprintf("conn-%d/%dx%d", i, j+1, j+1)
			child.Left, child.Right = subnet(fmt.Sprintf("10.%d.%d.0/24", i, j)), subnet(fmt.Sprintf("10.%d.%d.0/24", 100+i, j))
			c.Children = append(c.Children, child)
		}
		c.Left.Subnets, c.Right.Subnets = nil, nil
		set.Connections = append(set.Connections, c)
	}
	return set
}

// inFamily runs f in a world where both ends have set.
func inFamily(t *testing.T, seed uint64, f Faults, shards int, set *policy.Set, do func(t *testing.T, w *World)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, err := newWorld(seed, f, shards)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		for _, n := range []*Node{w.West, w.East} {
			if err := n.Engine.Apply(t.Context(), set); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		do(t, w)
		ctx := context.WithoutCancel(t.Context())
		for _, n := range []*Node{w.West, w.East} {
			if err := n.Engine.Shutdown(ctx); err != nil {
				t.Error(err)
			}
			if l := n.Leftovers(); l != "" {
				t.Error(l)
			}
			if s := n.Engine.Stats(); s.IKESAs != 0 || s.Children != 0 || s.HalfOpen != 0 || s.Established != 0 || s.Panics != 0 {
				t.Errorf("%s: %+v", n.Name, s)
			}
		}
		if t.Failed() {
			t.Log("\n" + w.Net.Text())
		}
	})
}

// one checks that there is one IKE SA with so many Child SAs, at both ends.
func (w *World) one(t *testing.T, children int) {
	t.Helper()
	w.agreed(t, children)
	for _, n := range []*Node{w.West, w.East} {
		if s := n.Snapshots(); len(s) != 1 {
			t.Errorf("%s has %d IKE SAs", n.Name, len(s))
		}
		if s := n.Engine.Stats(); s.Established != 1 || s.Children != int64(children) {
			t.Errorf("%s: %+v", n.Name, s)
		}
	}
}

func (n *Node) states() string {
	var words []string
	for _, c := range n.Engine.Connections() {
		words = append(words, c.State)
	}
	return strings.Join(words, ",")
}

var carriersOf = map[string]policy.TCPMode{"udp": policy.TCPNo, "tcp": policy.TCPYes}

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
				if err := w.East.Engine.Down(t.Context(), "conn-0", nil); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				// West wants it, and makes all of it again.
				time.Sleep(time.Minute)
				w.one(t, 4)
				if err := w.West.Engine.Down(t.Context(), "conn-0", nil); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				w.agreed(t, 0)
			})
		})
	}
}

// TestSharing: a second connection between the same hosts and identities uses the IKE SA of the first; each goes alone, and the IKE SA with the last.
func TestSharing(t *testing.T) {
	for name, mode := range carriersOf {
		for _, shards := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s-%d", name, shards), func(t *testing.T) {
				set := family(mode, 1, 2, 1)
				inFamily(t, 1, fine, shards, set, func(t *testing.T, w *World) {
					for i, want := range []int{1, 3, 4} {
						if err := w.West.Engine.Up(t.Context(), fmt.Sprintf("conn-%d", i), nil); err != nil {
							t.Fatal(err)
						}
						time.Sleep(time.Second)
						w.one(t, want)
					}
					for _, n := range []*Node{w.West, w.East} {
						if s := n.states(); s != "up,up,up" {
							t.Errorf("%s: %s", n.Name, s)
						}
					}
					// The first goes, and the IKE SA that was made for it stays.
					if err := w.West.Engine.Down(t.Context(), "conn-0", nil); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Minute)
					w.one(t, 3)
					if a, b := w.West.states(), w.East.states(); a != "down,up,up" || b != "down,up,up" {
						t.Errorf("%s; %s", a, b)
					}
					// Its configuration goes too, at one end; the peer asks for it in vain.
					if err := w.East.Engine.Delete(t.Context(), "conn-0"); err != nil {
						t.Fatal(err)
					}
					if err := w.West.Engine.Up(t.Context(), "conn-0", nil); err == nil || !strings.Contains(err.Error(), "TS_UNACCEPTABLE") {
						t.Errorf("up of what the peer does not have: %v", err)
					}
					if err := w.West.Engine.Down(t.Context(), "conn-0", nil); err != nil {
						t.Fatal(err)
					}
					w.one(t, 3)
					if err := w.West.Engine.Down(t.Context(), "conn-1", nil); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Minute)
					w.one(t, 1)
					if err := w.West.Engine.Down(t.Context(), "conn-2", nil); err != nil {
						t.Fatal(err)
					}
					w.agreed(t, 0)
					if n := len(w.West.Snapshots()) + len(w.East.Snapshots()); n != 0 {
						t.Errorf("%d IKE SAs are left", n)
					}
				})
			})
		}
	}
}

// TestSharingAtOnce: connections that come up at once negotiate one IKE SA: the others wait for it.
func TestSharingAtOnce(t *testing.T) {
	for _, ends := range []string{"west", "both"} {
		for _, shards := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s-%d", ends, shards), func(t *testing.T) {
				set := family(policy.TCPNo, 2, 1, 3, 1)
				inFamily(t, 1, fine, shards, set, func(t *testing.T, w *World) {
					var all sync.WaitGroup
					for _, n := range []*Node{w.West, w.East} {
						if n == w.East && ends == "west" {
							continue
						}
						for _, c := range set.Connections {
							all.Go(func() {
								if err := n.Engine.Up(t.Context(), c.Name, nil); err != nil {
									t.Error(err)
								}
							})
						}
					}
					all.Wait()
					time.Sleep(2 * time.Minute)
					if d := w.Disagreement(); d != "" {
						t.Error(d)
					}
					if ends == "west" {
						w.one(t, 7)
					}
					for _, n := range []*Node{w.West, w.East} {
						if s := n.states(); s != "up,up,up,up" {
							t.Errorf("%s: %s", n.Name, s)
						}
					}
				})
			})
		}
	}
}

// TestSharingLeaderFails: what the one that negotiates hears is what all hear that waited for it; when the network is back all are up, on one IKE SA.
func TestSharingLeaderFails(t *testing.T) {
	dead := fine
	dead.BlockUDP = true
	set := family(policy.TCPNo, 1, 1, 1)
	inFamily(t, 1, dead, 2, set, func(t *testing.T, w *World) {
		var all sync.WaitGroup
		began := time.Now()
		for _, c := range set.Connections {
			all.Go(func() {
				err := w.West.Engine.Up(t.Context(), c.Name, nil)
				if reasons := checkReasons(err); reasons != "" {
					t.Error(reasons)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took > 31*time.Second {
			t.Errorf("it took %v until all had failed", took)
		}
		w.Net.SetFaults(fine)
		time.Sleep(5 * time.Minute)
		w.one(t, 3)
	})
}

// TestSharingLeaderTakenDown: a Down of the one that negotiates leaves the others to go on by themselves.
func TestSharingLeaderTakenDown(t *testing.T) {
	dead := fine
	dead.BlockUDP = true
	set := family(policy.TCPNo, 1, 1, 1)
	inFamily(t, 1, dead, 1, set, func(t *testing.T, w *World) {
		var all sync.WaitGroup
		for i, c := range set.Connections {
			all.Go(func() {
				if err := w.West.Engine.Up(t.Context(), c.Name, nil); (err != nil) != (i == 0) {
					t.Errorf("%s: %v", c.Name, err)
				}
			})
			time.Sleep(time.Second)
		}
		w.Net.SetFaults(fine)
		if err := w.West.Engine.Down(t.Context(), "conn-0", nil); err != nil {
			t.Error(err)
		}
		all.Wait()
		w.one(t, 2)
	})
}

// TestSharedPeerRestarts: what a restarted peer has left behind goes, connection by connection, and all come up on the new IKE SA.
func TestSharedPeerRestarts(t *testing.T) {
	set := family(policy.TCPNo, 1, 2)
	inFamily(t, 1, fine, 1, set, func(t *testing.T, w *World) {
		for _, c := range set.Connections {
			if err := w.West.Engine.Up(t.Context(), c.Name, nil); err != nil {
				t.Fatal(err)
			}
		}
		w.one(t, 3)
		if err := w.Restart(w.West, set.Connections[0]); err != nil {
			t.Fatal(err)
		}
		if err := w.West.Engine.Apply(t.Context(), set); err != nil {
			t.Fatal(err)
		}
		for i := range set.Connections { // in the other order
			if err := w.West.Engine.Up(t.Context(), set.Connections[1-i].Name, nil); err != nil {
				t.Fatal(err)
			}
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
			for _, c := range set.Connections {
				if err := w.West.Engine.Up(t.Context(), c.Name, nil); err != nil {
					t.Fatal(err)
				}
			}
			w.one(t, 3)
			if err := w.Restart(w.West, set.Connections[0]); err != nil {
				t.Fatal(err)
			}
			if err := w.West.Engine.Apply(t.Context(), set); err != nil {
				t.Fatal(err)
			}
			if err := w.West.Engine.Up(t.Context(), "conn-0", nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(deleteTime)
			w.one(t, 1)
			if s := w.East.states(); s != "up,down" {
				t.Error(s)
			}
		})
	}
}

// deleteTime is longer than an IKE SA lasts that is deleted and whose peer does not answer.
const deleteTime = 3 * time.Second

// TestDownOneAfterTheOther: connections that share an IKE SA are taken down while the Delete of the first is not answered; the IKE SA goes all the same.
func TestDownOneAfterTheOther(t *testing.T) {
	set := family(policy.TCPNo, 1, 2)
	inFamily(t, 1, fine, 1, set, func(t *testing.T, w *World) {
		for _, c := range set.Connections {
			if err := w.West.Engine.Up(t.Context(), c.Name, nil); err != nil {
				t.Fatal(err)
			}
		}
		var all sync.WaitGroup
		for _, c := range set.Connections {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), deleteTime)
				defer cancel()
				if err := w.West.Engine.Down(ctx, c.Name, nil); err != nil {
					t.Errorf("down %s: %v", c.Name, err)
				}
			})
			time.Sleep(2 * time.Millisecond) // less than a round trip
		}
		all.Wait()
		if n := len(w.East.Snapshots()) + len(w.West.Snapshots()); n != 0 {
			t.Errorf("%d IKE SAs are left", n)
		}
	})
}

// TestDownOfEachFromItsEnd: each end takes down the connection that it has brought up, at once. When the second leaves, the first is leaving already; the IKE SA goes.
func TestDownOfEachFromItsEnd(t *testing.T) {
	set := family(policy.TCPNo, 1, 2)
	inFamily(t, 1, fine, 1, set, func(t *testing.T, w *World) {
		ends := []*Node{w.West, w.East}
		for i, n := range ends {
			if err := n.Engine.Up(t.Context(), set.Connections[i].Name, nil); err != nil {
				t.Fatal(err)
			}
		}
		w.one(t, 3)
		var all sync.WaitGroup
		for i, n := range ends {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), deleteTime)
				defer cancel()
				if err := n.Engine.Down(ctx, set.Connections[i].Name, nil); err != nil {
					t.Errorf("down %s: %v", set.Connections[i].Name, err)
				}
			})
		}
		all.Wait()
		time.Sleep(deleteTime)
		if n := len(w.East.Snapshots()) + len(w.West.Snapshots()); n != 0 {
			t.Errorf("%d IKE SAs are left", n)
		}
	})
}

// TestSharedIKEDies: the IKE SA of several connections dies; all of them come up again, on one.
func TestSharedIKEDies(t *testing.T) {
	set := family(policy.TCPNo, 2, 1)
	inFamily(t, 1, fine, 1, set, func(t *testing.T, w *World) {
		for _, c := range set.Connections {
			if err := w.West.Engine.Up(t.Context(), c.Name, nil); err != nil {
				t.Fatal(err)
			}
		}
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

// TestSomeChildrenFail: `up` names the Child SA that was refused and why; the others stay, and it is asked for again.
func TestSomeChildrenFail(t *testing.T) {
	set := family(policy.TCPNo, 3)
	inFamily(t, 1, fine, 1, set, func(t *testing.T, w *World) {
		less := family(policy.TCPNo, 3)
		less.Connections[0].Children = less.Connections[0].Children[:2]
		if err := w.East.Engine.Apply(t.Context(), less); err != nil {
			t.Fatal(err)
		}
		err := w.West.Engine.Up(t.Context(), "conn-0", nil)
		if err == nil || !strings.Contains(err.Error(), "2 of the 3 Child SAs") || !strings.Contains(err.Error(), "conn-0/3x3") || !strings.Contains(err.Error(), "TS_UNACCEPTABLE") {
			t.Errorf("up: %v", err)
		}
		w.one(t, 2)
		if s := w.West.Engine.Connections()[0]; s.State != "up" || !strings.Contains(s.LastError, "conn-0/3x3") {
			t.Errorf("%+v", s)
		}
		if err := w.East.Engine.Apply(t.Context(), set); err != nil {
			t.Fatal(err)
		}
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
		if err := w.East.Engine.Apply(t.Context(), less); err != nil {
			t.Fatal(err)
		}
		err := w.West.Engine.Up(t.Context(), "conn-0", nil)
		if err == nil || !strings.Contains(err.Error(), "2 of the 3 Child SAs") || !strings.Contains(err.Error(), "conn-0/1x1") {
			t.Errorf("up: %v", err)
		}
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

// TestNoChildAtAll: every Child SA is refused; `up` says why, and tries again.
func TestNoChildAtAll(t *testing.T) {
	set := family(policy.TCPNo, 2)
	inFamily(t, 1, fine, 1, set, func(t *testing.T, w *World) {
		other := family(policy.TCPNo, 2)
		for i := range other.Connections[0].Children {
			other.Connections[0].Children[i].Left = subnet(fmt.Sprintf("172.16.%d.0/24", i))
		}
		if err := w.East.Engine.Apply(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		err := w.West.Engine.Up(t.Context(), "conn-0", nil)
		if reasons := checkReasons(err); reasons != "" {
			t.Error(reasons)
		}
		for _, want := range []string{"conn-0/1x1", "conn-0/2x2"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("up does not name %s: %v", want, err)
			}
		}
		if err := w.East.Engine.Apply(t.Context(), set); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		w.one(t, 2)
	})
}

// TestSharingManyShards is TestManyShards with all connections on few IKE SAs: up from both ends, on a bad network, with reloads in between. Its use is with -race.
func TestSharingManyShards(t *testing.T) {
	const conns = 12
	set := family(policy.TCPNo, 1, 2, 1, 3, 1, 2, 1, 1, 2, 1, 1, 2)
	for i, c := range set.Connections {
		c.TCP.Mode = []policy.TCPMode{policy.TCPNo, policy.TCPYes}[i%2]
	}
	inFamily(t, 1, lossy, 4, set, func(t *testing.T, w *World) {
		time.AfterFunc(lossTime, func() { w.Net.SetFaults(fine) })
		ctx := t.Context()
		var all sync.WaitGroup
		for i, c := range set.Connections {
			n := []*Node{w.West, w.East}[i/2%2]
			all.Go(func() {
				_ = n.Engine.Up(ctx, c.Name, nil) // a failure is revived
				if i%3 == 0 {
					_ = n.Engine.Down(ctx, c.Name, nil)
					_ = n.Engine.Up(ctx, c.Name, nil)
				}
			})
		}
		for i := range 20 {
			time.Sleep(7 * time.Second)
			// A connection is changed, and changed back.
			changed := family(policy.TCPNo, 1, 2, 1, 3, 1, 2, 1, 1, 2, 1, 1, 2)
			for j, c := range changed.Connections {
				c.TCP.Mode = set.Connections[j].TCP.Mode
			}
			changed.Connections[i%conns].Liveness = 7 * time.Second
			for _, s := range []*policy.Set{changed, set} {
				if err := w.West.Engine.Apply(ctx, s); err != nil {
					t.Error(err)
				}
			}
		}
		all.Wait()
		for _, c := range set.Connections {
			all.Go(func() { _ = w.West.Engine.Up(ctx, c.Name, nil) })
		}
		all.Wait()
		time.Sleep(2 * settleTime)
		if d := w.Disagreement(); d != "" {
			t.Error(d)
		}
		for _, n := range []*Node{w.West, w.East} {
			if s := n.Engine.Stats(); s.ConnectionsUp != conns || s.Panics != 0 {
				t.Errorf("%s: %s, %+v", n.Name, n.states(), s)
			}
		}
	})
}

// TestSharingSeeds: two connections with several Child SAs, on the bad network of TestSeeds, over UDP and TCP.
func TestSharingSeeds(t *testing.T) {
	n := max(seeds(t)/10, 1)
	for name, mode := range carriersOf {
		t.Run(name, func(t *testing.T) {
			for seed := range n {
				ok := t.Run(strconv.Itoa(seed), func(t *testing.T) {
					set := family(mode, 3, 2)
					inFamily(t, uint64(seed), lossy, 1, set, func(t *testing.T, w *World) {
						time.AfterFunc(lossTime, func() { w.Net.SetFaults(fine) })
						var all sync.WaitGroup
						for i, c := range set.Connections {
							n := w.West
							if i == 1 && seed%3 == 0 {
								n = w.East
							}
							all.Go(func() { _ = n.Engine.Up(t.Context(), c.Name, nil) })
							time.Sleep(time.Duration(seed%7) * 100 * time.Millisecond)
						}
						all.Wait()
						time.Sleep(time.Until(w.Net.start.Add(lossTime)) + 2*settleTime)
						if d := w.Disagreement(); d != "" {
							t.Error(d)
						}
						for _, n := range []*Node{w.West, w.East} {
							if s := n.states(); s != "up,up" {
								t.Errorf("%s: %s", n.Name, s)
							}
							if got := len(n.Datapath.Pairs()); got < 5 {
								t.Errorf("%s has %d Child SAs", n.Name, got)
							}
						}
					})
				})
				if !ok {
					return
				}
			}
		})
	}
}

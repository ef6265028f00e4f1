package simnet

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/policy"
)

// TestSharing: a second connection between the same hosts and identities uses the IKE SA of the first; each goes alone, and the IKE SA with the last.
func TestSharing(t *testing.T) {
	for name, mode := range carriersOf {
		for _, shards := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s-%d", name, shards), func(t *testing.T) {
				set := family(mode, 1, 2, 1)
				inFamily(t, 1, fine, shards, set, func(t *testing.T, w *World) {
					for i, want := range []int{1, 3, 4} {
						w.West.bring(t, fmt.Sprintf("conn-%d", i))
						time.Sleep(time.Second)
						w.one(t, want)
					}
					for _, n := range []*Node{w.West, w.East} {
						if s := n.states(); s != "up,up,up" {
							t.Errorf("%s: %s", n.Name, s)
						}
					}
					// The first goes, and the IKE SA that was made for it stays.
					w.West.end(t, "conn-0")
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
					w.West.end(t, "conn-0")
					w.one(t, 3)
					w.West.end(t, "conn-1")
					time.Sleep(time.Minute)
					w.one(t, 1)
					w.West.end(t, "conn-2")
					w.agreed(t, 0)
					w.none(t)
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

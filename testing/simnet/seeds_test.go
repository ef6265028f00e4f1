package simnet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ikegod/ikegod/ike/engine"
	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/policy"
)

// lossy is the network of the seeds: 30 % loss, duplicates, and delays that let datagrams overtake each other. Over TCP loss means stalls, and now and
// then a cut.
var lossy = Faults{Loss: 0.3, Duplicate: 0.1, Delay: 5 * time.Millisecond, Jitter: 300 * time.Millisecond, Cut: 0.005}

// lossTime is how long the bad weather lasts: two exchanges with retransmit-timeout each. A fallback may go on in good weather.
const lossTime = 60 * time.Second

// settleTime is what liveness needs on a good network to find and clear away everything that one side has lost: dpddelay, and retransmit-timeout.
const settleTime = 3 * time.Minute

// seeds is how many seeds to run: SEEDS, or a thousand.
func seeds(t *testing.T) int {
	s := os.Getenv("SEEDS")
	if s == "" {
		return 1000
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("SEEDS=%q is not a number of seeds", s)
	}
	return n
}

// outcome is what one run brought.
type outcome struct {
	up     error // of Engine.Up
	digest [32]byte
	bad    string // what is wrong with it; empty: nothing
	world  *World
}

// run is one seed: up on a bad network, then good weather until liveness has settled. An error of up is an outcome; then the connection is taken down, and
// nothing may be left.
func run(t *testing.T, seed uint64, mode policy.TCPMode) (o outcome) {
	synctest.Test(t, func(t *testing.T) {
		w, err := NewWorld(seed, lossy)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if err := w.Apply(Connection(mode)); err != nil {
			t.Fatal(err)
		}
		weather := time.AfterFunc(lossTime, func() { w.Net.SetFaults(fine) })
		defer weather.Stop()
		ctx := context.Background()
		o.up = w.West.Engine.Up(ctx, "west-east", nil)
		if o.up != nil {
			o.bad = checkReasons(o.up)
			if err := w.West.Engine.Down(ctx, "west-east", nil); err != nil {
				o.bad += "\ndown after a failed up: " + err.Error()
			}
		}
		time.Sleep(time.Until(w.Net.start.Add(lossTime)) + settleTime)
		o.bad += w.check(o.up == nil)
		w.West.Engine.Shutdown(ctx)
		w.East.Engine.Shutdown(ctx)
		o.bad += w.West.Leftovers() + w.East.Leftovers()
		o.digest, o.world = w.Net.Digest(), w
	})
	return o
}

// checkReasons asks of a failed up that each attempt has a reason an operator can read.
func checkReasons(err error) string {
	var up *engine.UpError
	if !errors.As(err, &up) {
		return fmt.Sprintf("up failed without saying what each rung answered: %v", err)
	}
	if len(up.Attempts) == 0 {
		return "up failed without an attempt"
	}
	for _, a := range up.Attempts {
		if a.Close.Reason == event.ReasonNone || a.Close.Error() == "" || a.Path.IsZero() {
			return fmt.Sprintf("an attempt without reason or path: %+v", a)
		}
	}
	return ""
}

// check looks at the world at rest.
func (w *World) check(up bool) string {
	bad := w.Disagreement()
	if n := len(w.West.Datapath.Pairs()); up && n == 0 {
		bad += "\nup succeeded, but the Child SA is gone"
	} else if !up && n+len(w.West.Snapshots()) > 0 {
		bad += "\nup failed and the connection was taken down, but west still has IKE SAs"
	}
	return bad
}

// TestSeeds runs many seeds over UDP, TCP, and UDP with fallback to TCP. SEEDS sets their number, SEED one to look at closely.
func TestSeeds(t *testing.T) {
	first, n := 1, seeds(t)
	if s := os.Getenv("SEED"); s != "" {
		one, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("SEED=%q is not a number", s)
		}
		first, n = one, 1
	}
	for _, carrier := range []struct {
		name string
		mode policy.TCPMode
	}{{"udp", policy.TCPNo}, {"tcp", policy.TCPYes}, {"fallback", policy.TCPFallback}} {
		t.Run(carrier.name, func(t *testing.T) {
			var next, established, failed atomic.Int64
			next.Store(int64(first))
			t.Run("workers", func(t *testing.T) {
				for i := range runtime.GOMAXPROCS(0) {
					t.Run(strconv.Itoa(i), func(t *testing.T) {
						t.Parallel()
						for seed := next.Add(1) - 1; seed < int64(first+n) && !t.Failed(); seed = next.Add(1) - 1 {
							o := run(t, uint64(seed), carrier.mode)
							if o.bad != "" {
								complain(t, carrier.name, seed, o)
							}
							if o.up == nil {
								established.Add(1)
								continue
							}
							failed.Add(1)
						}
					})
				}
			})
			if t.Failed() {
				return
			}
			share := float64(established.Load()) / float64(n)
			t.Logf("%d seeds over %s: %d established (%.1f %%), %d failed with their reason", n, carrier.name, established.Load(), 100*share, failed.Load())
			if n >= 100 && share < 0.95 {
				t.Errorf("%.1f %% established, want 95", 100*share)
			}
		})
	}
}

// complain shows a bad run so that it can be understood and repeated.
func complain(t *testing.T, carrier string, seed int64, o outcome) {
	t.Helper()
	name := fmt.Sprintf("%s/%s-%d", t.ArtifactDir(), carrier, seed)
	for ext, text := range map[string]string{".txt": o.world.Net.Text(), ".mmd": o.world.Net.Mermaid()} {
		if err := os.WriteFile(name+ext, []byte(text), 0o644); err != nil {
			t.Error(err)
		}
	}
	t.Errorf("%s, seed %d: %s\nup: %v\n%s\nAs a diagram: %s.mmd (kept with -artifacts)\nAgain: SEED=%d go test -run TestSeeds/%s ./testing/simnet",
		carrier, seed, o.bad, o.up, o.world.Net.Text(), name, seed, carrier)
}

// TestSameSeedSameRun asks that a seed reproduces a run octet for octet: otherwise a failure could not be looked at twice.
func TestSameSeedSameRun(t *testing.T) {
	for _, mode := range []policy.TCPMode{policy.TCPNo, policy.TCPYes, policy.TCPFallback} {
		for seed := range uint64(10) {
			a, b := run(t, seed, mode), run(t, seed, mode)
			if a.digest != b.digest {
				t.Fatalf("enable-tcp=%v, seed %d: two runs differ\n%s", mode, seed, firstDifference(a.world.Net.Text(), b.world.Net.Text()))
			}
		}
		if a, b := run(t, 1, mode), run(t, 2, mode); a.digest == b.digest {
			t.Errorf("enable-tcp=%v: seeds 1 and 2 give one run", mode)
		}
	}
}

func firstDifference(a, b string) string {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(as), len(bs)) {
		if as[i] != bs[i] {
			return fmt.Sprintf("line %d:\n  %s\n  %s", i+1, as[i], bs[i])
		}
	}
	return fmt.Sprintf("%d and %d lines", len(as), len(bs))
}

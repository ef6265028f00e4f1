package netns_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// TestGarbage sends 20,000 packets of garbage a second to the UDP and TCP ports of east, half each, from many addresses. An honest peer gets in all the
// while, and afterwards the daemon holds no more memory than before, within 10 MB. It takes 5 seconds, in CI and with SOAK=1 30.
func TestGarbage(t *testing.T) {
	const perSecond, allowance = 20000, 10 << 20
	duration := 5 * time.Second
	if os.Getenv("CI") == "true" || os.Getenv("SOAK") != "" {
		duration = 30 * time.Second
	}
	_, w, e := netns.Gateways(t)
	var sources []string
	for i := range 40 {
		a := fmt.Sprintf("192.1.2.%d", 100+i)
		if err := w.Run("ip", "addr", "add", a+"/24", "dev", netns.Outer); err != nil {
			t.Fatal(err)
		}
		sources = append(sources, a)
	}
	west := start(t, w, config(nil, "enable-tcp=fallback"), secrets)
	east := start(t, e, config(nil), secrets, "--metrics-listen", "127.0.0.1:9500")
	cycle := func() time.Duration {
		begin := time.Now()
		up(t, west)
		if out, status := west.Ikectl("down", conn); status != 0 {
			t.Fatalf("down: %d %s", status, out)
		}
		return time.Since(begin)
	}
	for range 3 {
		cycle()
	}
	before, err := east.RSS()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	var sent, streams atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() { floodUDP(ctx, w, sources, perSecond/2, &sent) })
	wg.Go(func() { floodTCP(ctx, w, sources, perSecond/2, &sent, &streams) })
	var peak int64
	var slowest time.Duration
	cycles := 0
	pace(ctx, 5, func() {
		slowest = max(slowest, cycle())
		cycles++
		if rss, err := east.RSS(); err == nil {
			peak = max(peak, rss)
		}
	})
	wg.Wait()
	var after int64
	calm := netns.Poll(20*time.Second, func() bool {
		after, err = east.RSS()
		return err == nil && after < before+allowance
	})
	mb := func(b int64) float64 { return float64(b) / (1 << 20) }
	t.Logf("%d packets of garbage in %s, on UDP and on %d TCP connections; an honest peer came up and went down %d times meanwhile, in %s at the slowest; "+
		"memory before %.1f MB, at most %.1f MB, after %.1f MB", sent.Load(), duration, streams.Load(), cycles, slowest, mb(before), mb(peak), mb(after))
	if !calm {
		t.Errorf("memory grew from %.1f to %.1f MB", mb(before), mb(after))
	}
	if rate := float64(sent.Load()) / duration.Seconds(); rate < perSecond*0.8 {
		t.Errorf("only %.0f packets a second were sent", rate)
	}
	if cycles == 0 || slowest > 5*time.Second {
		t.Errorf("%d honest handshakes, the slowest took %s", cycles, slowest)
	}
	m := metrics(t, e)
	t.Logf("of the memory %.1f MB is heap in use, %.1f MB heap that waits, %.1f MB stacks, in %.0f goroutines", m["go_memstats_heap_inuse_bytes"]/(1<<20),
		(m["go_memstats_heap_idle_bytes"]-m["go_memstats_heap_released_bytes"])/(1<<20), m["go_memstats_stack_inuse_bytes"]/(1<<20), m["go_goroutines"])
	if m["ikegod_drops_total"] == 0 || m["ikegod_transport_drops_total"] == 0 || m["ikegod_internal_errors_total"] != 0 {
		t.Errorf("metrics: %v", m)
	}
	strangers := 0
	for line := range strings.Lines(east.Log()) {
		if !strings.Contains(line, `"conn": "`+conn) {
			strangers++
		}
	}
	if most := 40 + 10*int(duration.Seconds()); strangers > most {
		t.Errorf("strangers wrote %d lines of log in %s, more than %d", strangers, duration, most)
	}
	up(t, west)
	carries(t, west, east)
}

// pace calls f so many times a second, in bursts of a hundredth of it, until ctx ends.
func pace(ctx context.Context, perSecond int, f func()) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	begin, done := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for due := int(time.Since(begin).Seconds() * float64(perSecond)); done < due && ctx.Err() == nil; done++ {
			f()
		}
	}
}

func floodUDP(ctx context.Context, h *netns.Host, sources []string, perSecond int, sent *atomic.Int64) {
	var conns []net.Conn
	for i, s := range sources {
		c, err := h.Dial(ctx, "udp4", s, netns.East+[]string{":500", ":4500"}[i%2])
		if err != nil {
			return
		}
		defer c.Close()
		conns = append(conns, c)
	}
	r := rand.New(rand.NewPCG(1, 2))
	n := 0
	pace(ctx, perSecond, func() {
		n++
		c := conns[n%len(conns)]
		b := garbage(r)
		if n%len(conns)%2 == 1 && r.IntN(2) == 0 {
			b = append([]byte{0, 0, 0, 0}, b...) // the non-ESP marker, so that it counts as IKE on port 4500
		}
		c.Write(b)
		sent.Add(1)
	})
}

// garbage is noise, or something that looks like IKE up to some point.
func garbage(r *rand.Rand) []byte {
	b := make([]byte, r.IntN(600))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	if len(b) < 28 || r.IntN(3) == 0 {
		return b
	}
	b[17] = 0x20 // version 2
	b[18] = byte(34 + r.IntN(5))
	b[19] = []byte{0x08, 0x20, 0x00, 0x28}[r.IntN(4)]
	if r.IntN(2) == 0 { // an IKE_SA_INIT request
		clear(b[8:16])
		b[16], b[18], b[19] = 33, 34, 0x08
		clear(b[20:24])
	}
	if r.IntN(4) > 0 {
		binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
	}
	return b
}

// floodTCP keeps connections open and writes to them: some without the prefix, some with frames of garbage, some with lengths that lie, some octet by
// octet. A connection that is closed is replaced.
func floodTCP(ctx context.Context, h *netns.Host, sources []string, perSecond int, sent, streams *atomic.Int64) {
	const workers = 20
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(3, uint64(i)))
			var c net.Conn
			written := 0
			pace(ctx, perSecond/workers, func() {
				if c == nil {
					var err error
					if c, err = h.Dial(ctx, "tcp4", sources[r.IntN(len(sources))], netns.East+":4500"); err != nil {
						c = nil
						return
					}
					streams.Add(1)
					written = 0
					if r.IntN(4) > 0 {
						io.WriteString(c, "IKETCP")
					}
				}
				c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
				sent.Add(1)
				written++
				if _, err := c.Write(frame(r)); err != nil || written > 200 {
					c.Close()
					c = nil
				}
			})
			if c != nil {
				c.Close()
			}
		})
	}
	wg.Wait()
}

func frame(r *rand.Rand) []byte {
	b := garbage(r)
	switch r.IntN(6) {
	case 0:
		return b // no length at all
	case 1:
		return binary.BigEndian.AppendUint16(nil, uint16(r.Uint32())) // a length, and nothing yet
	case 2:
		return b[:min(1, len(b))]
	}
	if r.IntN(2) == 0 {
		b = append([]byte{0, 0, 0, 0}, b...)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b)+2)), b...)
}

// metrics reads what Prometheus would, each metric summed over its labels.
func metrics(t *testing.T, h *netns.Host) map[string]float64 {
	t.Helper()
	series, err := h.Scrape(t.Context(), "127.0.0.1:9500")
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]float64{}
	for name, v := range series {
		name, _, _ = strings.Cut(name, "{")
		sums[name] += v
	}
	return sums
}

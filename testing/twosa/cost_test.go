package twosa

import (
	"runtime"
	"testing"

	"github.com/ikegod/ikegod/ike/machine"
)

// memoryLimit is what one established IKE SA with one Child SA may keep on the heap of its machine. A gateway has 10 KiB for everything that belongs to an SA
// when 100,000 of them fit in 1 GiB; the machine's part is a fraction.
const memoryLimit = 2500

// TestMemory makes responders and measures what an established one keeps.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED: the memory of an IKE SA; a run with -short does not measure it")
	}
	const n = 500
	w := Pair(1, nil, nil)
	kept := make([]*machine.Machine, 0, n)
	var before, after runtime.MemStats
	for i := range n + 1 {
		if i == 1 {
			kept = kept[:0] // the first one has warmed everything up
			runtime.GC()
			runtime.ReadMemStats(&before)
		}
		w.East.M, w.East.Closed = nil, nil
		w.West.Initiate(w.West.UDP())
		w.Settle()
		if s := w.East.M.Snapshot().State; s != "established" {
			t.Fatalf("east is %s", s)
		}
		kept = append(kept, w.East.M)
		for _, h := range []*Host{w.West, w.East} {
			h.Events, h.Sent, h.Proved = nil, nil, nil
			clear(h.Installed)
		}
	}
	w.West.M, w.East.M = nil, nil
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := int(after.HeapAlloc-before.HeapAlloc) / n
	t.Logf("%d octets per established machine", per)
	if per > memoryLimit {
		t.Errorf("%d octets per established machine, expected at most %d", per, memoryLimit)
	}
	runtime.KeepAlive(kept)
}

// BenchmarkHandshake is both ends of IKE_SA_INIT and IKE_AUTH, with all jobs.
func BenchmarkHandshake(b *testing.B) {
	w := Pair(1, nil, nil)
	b.ReportAllocs()
	for b.Loop() {
		w.East.M, w.East.Closed = nil, nil
		w.West.Initiate(w.West.UDP())
		w.Settle()
		for _, h := range []*Host{w.West, w.East} {
			h.Events, h.Sent, h.Proved = nil, nil, nil
			clear(h.Installed)
		}
	}
}

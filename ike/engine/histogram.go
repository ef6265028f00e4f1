package engine

import (
	"sync/atomic"
	"time"
)

// HistogramBounds are the upper bounds of the buckets of a Histogram: a handshake on a local network takes milliseconds, one that climbs the ladder the
// sum of several time limits.
var HistogramBounds = [...]time.Duration{
	5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute,
}

// Histogram is how often something took how long.
type Histogram struct {
	Counts [len(HistogramBounds) + 1]uint64 // each in its own bucket; the last is what took longer than every bound
	Sum    time.Duration
}

// Total is how often it happened.
func (h Histogram) Total() (n uint64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// durations counts for a Histogram. Safe for concurrent use; the zero value is ready.
type durations struct {
	counts [len(HistogramBounds) + 1]atomic.Uint64
	sum    atomic.Int64
}

func (d *durations) observe(took time.Duration) {
	i := 0
	for i < len(HistogramBounds) && took > HistogramBounds[i] {
		i++
	}
	d.counts[i].Add(1)
	d.sum.Add(int64(max(took, 0)))
}

func (d *durations) read() (h Histogram) {
	for i := range h.Counts {
		h.Counts[i] = d.counts[i].Load()
	}
	h.Sum = time.Duration(d.sum.Load())
	return h
}

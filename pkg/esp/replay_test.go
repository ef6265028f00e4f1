package esp

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// jump puts the window at top, as if that packet had been the last of very many.
func (w *window) jump(top uint64) {
	for back := uint64(len(w.words)-1) << blockBits; ; back -= 1 << blockBits {
		if back <= top {
			word, block := w.word(top - back)
			word.Store(uint64(block) << 32)
		}
		if back == 0 {
			break
		}
	}
	w.top.Store(top)
}

// slowWindow is the definition: every number once, if it is not older than the window.
type slowWindow struct {
	size, top uint64
	seen      map[uint64]bool
}

func (w *slowWindow) accept(seq uint64) bool {
	if seq == 0 || seq+w.size <= w.top || w.seen[seq] {
		return false
	}
	w.seen[seq] = true
	w.top = max(w.top, seq)
	return true
}

func TestWindowAgainstDefinition(t *testing.T) {
	for _, size := range []uint32{1, 2, 31, 32, 33, 64, 100, 128, 1024, MaxReplayWindow} {
		rng := rand.New(rand.NewPCG(1, uint64(size)))
		for _, start := range []uint64{0, 1<<32 - 3000, 1 << 40} {
			var w window
			w.init(size)
			w.jump(start)
			slow := slowWindow{size: uint64(size), top: start, seen: map[uint64]bool{}}
			base := start
			for i := range 20000 {
				seq := base + rng.Uint64N(uint64(size)+40)
				if back := rng.Uint64N(uint64(size)*2 + 40); i%3 == 0 && back <= base {
					seq = base - back
				}
				if rng.Uint64N(50) == 0 {
					base += rng.Uint64N(3 * uint64(size))
				}
				if seq <= start && start > 0 {
					continue // before the test began
				}
				check := w.check(seq)
				before := slow.top
				want := slow.accept(seq)
				newest, got := w.accept(seq)
				if got != want || check != want || newest != (want && seq > before) {
					t.Fatalf("size %d step %d seq %d top %d: check %v accept %v newest %v, want %v", size, i, seq, before, check, got, newest, want)
				}
				base = max(base, slow.top-min(slow.top, uint64(size)/2))
			}
		}
	}
}

func TestWindowOff(t *testing.T) {
	var w window
	w.init(0)
	for _, seq := range []uint64{5, 5, 1, 0} {
		if _, ok := w.accept(seq); !ok || !w.check(seq) {
			t.Errorf("seq %d refused although replay protection is off", seq)
		}
	}
}

// TestWindowTakesOnce lets many goroutines offer the same numbers.
func TestWindowTakesOnce(t *testing.T) {
	var w window
	w.init(256)
	const n = 20000
	counts := make([]atomic.Int32, n+1)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(g)))
			for i := uint64(1); i <= n; i++ {
				seq := i + rng.Uint64N(64)
				if seq > n || !w.check(seq) {
					continue
				}
				if _, ok := w.accept(seq); ok {
					counts[seq].Add(1)
				}
			}
		})
	}
	wg.Wait()
	taken := 0
	for seq := range counts {
		c := counts[seq].Load()
		if c > 1 {
			t.Fatalf("number %d was accepted %d times", seq, c)
		}
		taken += int(c)
	}
	if taken < n/2 {
		t.Errorf("only %d of %d accepted", taken, n)
	}
}

// TestExtend are the cases of RFC 4303 A2.2 with a window of 64.
func TestExtend(t *testing.T) {
	for _, c := range []struct {
		name string
		top  uint64
		low  uint32
		want uint64
		ok   bool
	}{
		{"case A, inside the window", 5<<32 | 1000, 990, 5<<32 | 990, true},
		{"case A, right of the window", 5<<32 | 1000, 70000, 5<<32 | 70000, true},
		{"case A, the window's bottom", 5<<32 | 1000, 937, 5<<32 | 937, true},
		{"case A, left of the window means the next subspace", 5<<32 | 1000, 936, 6<<32 | 936, true},
		{"case A, smallest top", 5<<32 | 63, 0, 5 << 32, true},
		{"case B, the older subspace", 5<<32 | 10, 0xfffffff0, 4<<32 | 0xfffffff0, true},
		{"case B, the window's bottom", 5<<32 | 10, 0xffffffcb, 4<<32 | 0xffffffcb, true},
		{"case B, below the bottom means the newer subspace", 5<<32 | 10, 0xffffffca, 5<<32 | 0xffffffca, true},
		{"case B, inside the window", 5<<32 | 10, 5, 5<<32 | 5, true},
		{"case B, right of the window", 5<<32 | 10, 500, 5<<32 | 500, true},
		{"first packet", 0, 1, 1, true},
		{"before the first packet", 10, 0xfffffff0, 0, false},
		{"the last subspace is full", 0xffffffff<<32 | 1000, 5, 0, false},
	} {
		var w window
		w.init(64)
		w.top.Store(c.top)
		got, next, ok := w.extend(c.low)
		if got != c.want || ok != c.ok || next != (c.want>>32 > c.top>>32) {
			t.Errorf("%s: %#x, %v, %v; want %#x, %v", c.name, got, next, ok, c.want, c.ok)
		}
	}
}

package esp

import (
	"math"
	"sync/atomic"
)

// window is the anti-replay window of RFC 4303 3.4.3 and appendix A, without a lock, for several reader goroutines. Each word holds 32 packets:
// their block number (sequence number / 32, low 32 bits) in the upper half and a bit per packet in the lower. Since the block number is part of
// the word, one compare-and-swap takes a packet, and a word that has gone on to a newer block refuses the older: no packet is accepted twice,
// whatever the order in which goroutines come.
type window struct {
	size  uint64 // packets; zero: no replay protection. Constant
	words []atomic.Uint64
	top   atomic.Uint64 // the highest sequence number accepted
}

const blockBits = 5

// minESNWindow is what extend uses when replay protection is off: without any window, an ESN receiver could not tell a late packet from one
// of the next 2^32.
const minESNWindow = 64

func (w *window) init(size uint32) {
	w.size = uint64(size)
	if size > 0 {
		w.words = make([]atomic.Uint64, (size+31)>>blockBits+1)
	}
}

// extend finds the high-order 32 bits for the low-order ones of a packet (RFC 4303 A2.2). False: it could only be a packet from before the
// first. next says that the packet was taken for one of the next 2^32, because it is left of the window.
func (w *window) extend(low uint32) (seq uint64, next, ok bool) {
	size := uint32(max(w.size, minESNWindow))
	top := w.top.Load()
	high, topLow := uint32(top>>32), uint32(top)
	bottom := topLow - size + 1 // modulo 2^32
	if topLow >= size-1 {       // case A: the window lies in one subspace
		if low < bottom {
			if high == math.MaxUint32 {
				return 0, false, false
			}
			high, next = high+1, true
		}
	} else if low >= bottom { // case B: the window spans two, and this is the older
		if high == 0 {
			return 0, false, false
		}
		high--
	}
	return uint64(high)<<32 | uint64(low), next, true
}

// check reports whether accept would take seq now. It changes nothing, so it may be asked before the packet is authenticated.
func (w *window) check(seq uint64) bool {
	if w.size == 0 {
		return true
	}
	if seq == 0 || seq+w.size <= w.top.Load() {
		return false
	}
	word, block := w.word(seq)
	v := word.Load()
	switch d := int32(uint32(v>>32) - block); {
	case d > 0:
		return false
	case d == 0:
		return v&bit(seq) == 0
	}
	return true
}

// accept takes seq, once: ok is false if it was taken before or is too old. newest says that it is the highest so far.
func (w *window) accept(seq uint64) (newest, ok bool) {
	if w.size > 0 && !w.take(seq) {
		return false, false
	}
	for {
		top := w.top.Load()
		if seq <= top {
			return false, true
		}
		if w.top.CompareAndSwap(top, seq) {
			return true, true
		}
	}
}

func (w *window) take(seq uint64) bool {
	if seq == 0 || seq+w.size <= w.top.Load() {
		return false
	}
	word, block := w.word(seq)
	for {
		v := word.Load()
		d := int32(uint32(v>>32) - block)
		if d > 0 || d == 0 && v&bit(seq) != 0 {
			return false
		}
		next := v | bit(seq)
		if d < 0 {
			next = uint64(block)<<32 | bit(seq)
		}
		if word.CompareAndSwap(v, next) {
			return true
		}
	}
}

func (w *window) word(seq uint64) (*atomic.Uint64, uint32) {
	block := seq >> blockBits
	return &w.words[block%uint64(len(w.words))], uint32(block)
}

func bit(seq uint64) uint64 { return 1 << (seq & (1<<blockBits - 1)) }

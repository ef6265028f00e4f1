package userspace

import (
	"math/rand/v2"
	"testing"
)

func TestChecksumAgainstDefinition(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 600 {
		b := make([]byte, n)
		for round := range 6 {
			for i := range b {
				switch round {
				case 0:
					b[i] = 0
				case 1, 2:
					b[i] = 0xff
				default:
					b[i] = byte(rng.Uint32())
				}
			}
			if round == 2 && n > 0 {
				b[n-1] = 1
			}
			if got, want := checksum(b, 0), slowChecksum(b); got != want {
				t.Fatalf("%d octets, round %d: %#x, want %#x", n, round, got, want)
			}
			initial := rng.Uint32N(1 << 20)
			head := []byte{0, byte(initial >> 16), byte(initial >> 8), byte(initial)}
			if got, want := checksum(b, initial), slowChecksum(append(head, b...)); got != want {
				t.Fatalf("%d octets after %#x: %#x, want %#x", n, initial, got, want)
			}
		}
	}
}

func TestReplace16(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 3))
	for range 1000 {
		b := make([]byte, 20)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		putIPv4Checksum(b)
		replace16(b[4:], b[10:], uint16(rng.Uint32()))
		if slowChecksum(b) != 0 {
			t.Fatalf("wrong after replacing: %x", b)
		}
	}
}

func BenchmarkChecksum(b *testing.B) {
	p := make([]byte, 1400)
	b.SetBytes(1400)
	var s uint16
	for b.Loop() {
		s += checksum(p, 0)
	}
	if s == 1 {
		b.Log(s)
	}
}

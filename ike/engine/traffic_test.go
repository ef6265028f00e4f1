package engine

import (
	"fmt"
	"testing"

	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
)

// TestTrafficByConnection adds up Child SAs that come and go: the sum of a connection never goes back, whatever is read when.
func TestTrafficByConnection(t *testing.T) {
	var sums traffic
	sums.init()
	controls := func(names ...string) (list []*control) {
		for _, n := range names {
			list = append(list, &control{conn: &policy.Connection{Name: n}})
		}
		return list
	}
	in := map[kernel.SPI]uint64{}
	usage := func(spis ...kernel.SPI) []kernel.Usage {
		out := make([]kernel.Usage, len(spis))
		for i, spi := range spis {
			out[i] = kernel.Usage{SPI: spi, InPackets: in[spi], InBytes: 100 * in[spi], OutPackets: 2 * in[spi], OutBytes: 200 * in[spi]}
		}
		return out
	}
	expect := func(when string, want map[string]uint64) {
		t.Helper()
		for range 2 { // reading adds nothing
			list := sums.read(usage)
			if len(list) != len(want) || list[len(list)-1].Conn != OtherConnections {
				t.Fatalf("%s: %+v, want %v", when, list, want)
			}
			for _, got := range list {
				n := want[got.Conn]
				if got != (Traffic{got.Conn, n, 100 * n, 2 * n, 200 * n}) {
					t.Errorf("%s: %+v, want %d packets in", when, got, n)
				}
			}
		}
	}
	sums.load(controls("a", "b", OtherConnections))
	expect("at the start", map[string]uint64{"a": 0, "b": 0, OtherConnections: 0})
	sums.begin(1, "a")
	sums.begin(2, OtherConnections)
	in[1], in[2] = 10, 3
	expect("one Child SA each", map[string]uint64{"a": 10, "b": 0, OtherConnections: 3})
	sums.begin(11, "a") // a rekey: both live for a while
	in[1], in[11] = 12, 5
	expect("two of one connection", map[string]uint64{"a": 17, "b": 0, OtherConnections: 3})
	in[1] = 13
	sums.end(1, usage) // what came since the last reading counts too
	delete(in, 1)
	sums.end(1, usage)
	expect("the older is gone", map[string]uint64{"a": 18, "b": 0, OtherConnections: 3})
	sums.begin(1, "b") // SPIs come again
	in[1] = 1
	expect("an SPI used again", map[string]uint64{"a": 18, "b": 1, OtherConnections: 3})
	delete(in, 1) // the datapath has lost it
	expect("unknown to the datapath", map[string]uint64{"a": 18, "b": 1, OtherConnections: 3})
	sums.load(controls("a"))
	in[11] = 6
	expect("after a reload", map[string]uint64{"a": 19, OtherConnections: 3})
	sums.load(controls("b", "a"))
	expect("loaded again", map[string]uint64{"a": 19, "b": 0, OtherConnections: 3})
}

// TestTrafficLabelsAreBounded loads more connections than have counters of their own.
func TestTrafficLabelsAreBounded(t *testing.T) {
	var sums traffic
	sums.init()
	var list []*control
	for i := range MaxNamed + 5 {
		list = append(list, &control{conn: &policy.Connection{Name: fmt.Sprintf("c%03d", i)}})
	}
	sums.load(list)
	last := list[len(list)-1].conn.Name
	sums.begin(7, last)
	usage := func(spis ...kernel.SPI) []kernel.Usage { return []kernel.Usage{{SPI: spis[0], InPackets: 4}} }
	got := sums.read(usage)
	if len(got) != MaxNamed+1 || got[MaxNamed] != (Traffic{Conn: OtherConnections, InPackets: 4}) || got[MaxNamed-1].Conn != "c099" {
		t.Fatalf("%d counters, the last %+v", len(got), got[len(got)-1])
	}
	sums.load(list[5:]) // places are free now; what the shared counter has counted stays there
	sums.end(7, usage)
	sums.begin(8, last)
	got = sums.read(usage)
	if len(got) != MaxNamed+1 || got[MaxNamed].InPackets != 4 || got[MaxNamed-1] != (Traffic{Conn: last, InPackets: 4}) {
		t.Fatalf("%d counters, %+v", len(got), got[MaxNamed-1:])
	}
}

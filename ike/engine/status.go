package engine

import (
	"slices"

	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/wire"
)

// statusChunk is how many IKE SAs a shard describes at a time, so that it never stalls for long.
const statusChunk = 128

// Status streams a snapshot of every IKE SA, shard by shard, with the counters of its children in their order. It stops when yield returns false.
// yield may be slow: no shard waits for it.
func (e *Engine) Status(yield func(machine.Snapshot, []kernel.Usage) bool) {
	for _, s := range e.shards {
		spis, ok := ask(e, s, func() []wire.SPI { return s.sortedSPIs(everySA) })
		if !ok {
			return
		}
		for chunk := range slices.Chunk(spis, statusChunk) {
			snapshots, ok := ask(e, s, func() []machine.Snapshot { return s.snapshots(chunk) })
			if !ok {
				return
			}
			for _, snap := range snapshots {
				if !yield(snap, e.usage(snap)) {
					return
				}
			}
		}
	}
}

func (e *Engine) usage(snap machine.Snapshot) []kernel.Usage {
	if len(snap.Children) == 0 {
		return nil
	}
	spis := make([]kernel.SPI, len(snap.Children))
	for i, c := range snap.Children {
		spis[i] = kernel.SPI(c.SPIIn)
	}
	return e.dp.Usage(spis...)
}

func (s *shard) snapshots(spis []wire.SPI) []machine.Snapshot {
	out := make([]machine.Snapshot, 0, len(spis))
	for _, spi := range spis {
		if a := s.sas[spi]; a != nil && !a.over {
			snap := a.m.Snapshot()
			if a.control != nil {
				snap.Conn = a.control.conn.Name // the one that it was made for may have left
			}
			snap.Instance = a.instanceOf(snap.Conn)
			for i := range snap.Children {
				snap.Children[i].Instance = a.instanceOf(snap.Children[i].Conn)
			}
			out = append(out, snap)
		}
	}
	return out
}

// sortedSPIs lists the IKE SAs of a kind, always in the same order.
func (s *shard) sortedSPIs(kind func(*sa) bool) []wire.SPI {
	var spis []wire.SPI
	for spi, a := range s.sas {
		if kind(a) {
			spis = append(spis, spi)
		}
	}
	slices.Sort(spis)
	return spis
}

func everySA(*sa) bool { return true }

// ask runs f in a shard and waits for its answer; ok is false when the engine has stopped.
func ask[T any](e *Engine, s *shard, f func() T) (answer T, ok bool) {
	ch := make(chan T, 1)
	if !s.box.post(func() { ch <- f() }) {
		return answer, false
	}
	select {
	case answer = <-ch:
		return answer, true
	case <-e.stopped:
		return answer, false
	}
}

package simnet

import (
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/policy"
)

// TestTransportMode brings an SA between the hosts up on a bad network: loss, repetition and disorder change nothing of what was agreed.
func TestTransportMode(t *testing.T) {
	ups := 0
	for seed := range uint64(40) {
		c := Connection(policy.TCPMode(seed % 3))
		c.Left.Subnets, c.Right.Subnets = nil, nil
		c.Children[0].Left, c.Children[0].Right, c.Children[0].Transport = nil, nil, true
		inWorld(t, seed, lossy, c, func(t *testing.T, w *World) {
			_, err := w.West.up(t)
			w.Net.SetFaults(fine)
			time.Sleep(settleTime)
			if err != nil {
				return // so bad was the network
			}
			ups++
			w.agreed(t, 1)
			for _, n := range []*Node{w.West, w.East} {
				for _, p := range n.Datapath.Pairs() {
					if !p.Transport || p.OriginalLocal != p.Local[0].Start || p.OriginalRemote != p.Remote[0].Start {
						t.Errorf("seed %d, %s: transport mode %v, %v===%v, originals %v and %v", seed, n.Name, p.Transport, p.Local, p.Remote, p.OriginalLocal, p.OriginalRemote)
					}
				}
			}
		})
	}
	if ups < 20 {
		t.Errorf("up on %d of 40 networks: too few to say anything", ups)
	}
}

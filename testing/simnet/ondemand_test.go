package simnet

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
)

// TestOnDemandSeeds: a packet for the second of two Child SAs, on the bad network of TestSeeds, over UDP, TCP, and with a fallback between them. Every second there is
// another packet while there is no SA for it, and whatever is lost, repeated or overtaken, in the end both ends protect the connection's subnets and nothing else.
func TestOnDemandSeeds(t *testing.T) {
	n := max(seeds(t)/10, 1)
	for name, mode := range map[string]policy.TCPMode{"udp": policy.TCPNo, "tcp": policy.TCPYes, "fallback": policy.TCPFallback} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			for seed := range n {
				ok := t.Run(strconv.Itoa(seed), func(t *testing.T) {
					west, east := family(mode, 2), family(mode, 2)
					west.Connections[0].Auto = policy.AutoOnDemand
					east.Connections[0].Narrowing = seed%2 == 1
					inBubble(t, uint64(seed), lossy, 1, func(t *testing.T, w *World) {
						w.West.load(t, west)
						w.East.load(t, east)
						onDemandLossy(t, w)
						if strings.Contains(texts(w.West.Said()), "for the packet [10.0.1.7/32/UDP/5000===10.100.1.9/32/UDP/53]") {
							asked++
						}
						w.shutdown(t)
					})
				})
				if !ok {
					return
				}
			}
			if asked < n*9/10 {
				t.Errorf("only %d of %d runs have asked with the packet", asked, n)
			}
		})
	}
}

func onDemandLossy(t *testing.T, w *World) {
	t.Helper()
	time.AfterFunc(lossTime, func() { w.Net.SetFaults(fine) })
	packet := kernel.Acquire{
		Policy: "conn-0/2x2", Src: netip.MustParseAddrPort("10.0.1.7:5000"), Dst: netip.MustParseAddrPort("10.100.1.9:53"), Protocol: 17,
	}
	for range int((lossTime + 2*settleTime) / time.Second) {
		for _, p := range w.West.Datapath.Policies() {
			if p.ID == packet.Policy && p.Action == kernel.Trap {
				w.West.Datapath.Emit(packet)
			}
		}
		time.Sleep(time.Second)
	}
	if d := w.Disagreement(); d != "" {
		t.Error(d)
	}
	for _, n := range []*Node{w.West, w.East} {
		there := map[kernel.PolicyID]bool{}
		for _, p := range n.Datapath.Pairs() {
			there[p.Policy] = true
			local, remote := p.Local.String(), p.Remote.String()
			if n == w.East {
				local, remote = remote, local
			}
			number := map[kernel.PolicyID]string{"conn-0/1x1": "0", "conn-0/2x2": "1"}[p.Policy]
			if local != "10.0."+number+".0/24" || remote != "10.100."+number+".0/24" {
				t.Errorf("%s: %s protects %s === %s", n.Name, p.Policy, local, remote)
			}
		}
		if !there["conn-0/2x2"] {
			t.Errorf("%s has no Child SA for the packet: %v", n.Name, there)
		}
	}
}

package main

import (
	"strings"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/kernel/userspace"
	"github.com/ikegod/ikegod/pkg/ctl"
	"github.com/ikegod/ikegod/transport"
)

// dropPart is one part of the daemon that drops packets, and the metric that counts them by reason.
type dropPart struct {
	name    string
	metric  *metric
	reasons []dropReason
}

// dropReason is a reason with the sentences of docs/drops.md.
type dropReason struct{ name, meaning, todo string }

// helper is a reason for a drop: what all three parts have in common.
type helper interface {
	String() string
	Help() (meaning, todo string)
}

func reasonOf(d helper) dropReason {
	meaning, todo := d.Help()
	return dropReason{d.String(), meaning, todo}
}

// dropParts are all reasons there are.
var dropParts = func() []dropPart {
	parts := []dropPart{{name: "IKE", metric: mDrops}, {name: "transport", metric: mTransport}, {name: "datapath", metric: mDatapath}}
	for d := event.DropNone + 1; d < event.NumDrops; d++ {
		parts[0].reasons = append(parts[0].reasons, reasonOf(d))
	}
	for d := range transport.NumDrops {
		parts[1].reasons = append(parts[1].reasons, reasonOf(d))
	}
	for d := range userspace.NumDrops {
		parts[2].reasons = append(parts[2].reasons, reasonOf(d))
	}
	return parts
}()

// drops are those that have occurred, with their sentences, in the order of docs/drops.md.
func (s *sample) drops() (out []ctl.Drop) {
	counts := [][]uint64{s.engine.Drops[1:], s.transport.Drops[:], nil}
	for d := range userspace.NumDrops {
		counts[2] = append(counts[2], s.datapath[d])
	}
	for i, part := range dropParts {
		for j, r := range part.reasons {
			if n := counts[i][j]; n > 0 {
				out = append(out, ctl.Drop{Part: part.name, Reason: r.name, Count: n, Meaning: r.meaning, Todo: r.todo, Harmless: strings.HasPrefix(r.todo, "Nothing:")})
			}
		}
	}
	return out
}

package conf

import (
	"fmt"

	"github.com/ikegod/ikegod/ike/policy"
)

// shunt checks type=passthrough, drop and reject, which need selectors and nothing else: no name is looked up for them, and no peer tells its address.
func (b *build) shunt(c *policy.Connection) {
	if !c.IsShunt() || b.failed {
		return
	}
	named := ""
	for _, end := range []struct {
		end  *policy.End
		side side
	}{{&c.Left, left}, {&c.Right, right}} {
		h, e := &end.end.Host, b.get(hostKeyword, end.side)
		if h.Kind != policy.HostAny && h.Kind != policy.HostName {
			continue
		}
		for _, part := range b.parts[end.side] {
			if len(part.set) == 0 {
				b.refuseEntry(e, fmt.Sprintf("type=%s has no IKE that would tell which address %s is, and %ssubnet= is not written: which traffic is meant is not known",
					c.Shunt, printable(e.value), end.side), fmt.Sprintf("write %ssubnet=, or an address for %s=", end.side, e.word))
				return
			}
		}
		if h.Kind == policy.HostName { // its selectors are written: any will do
			named = e.word + "=" + printable(e.value)
			*h = policy.Host{Kind: policy.HostAny, Family: h.Family}
		}
	}
	if named != "" && c.Left.Host.Kind == policy.HostAny && c.Right.Host.Kind == policy.HostAny {
		b.refuseEntry(b.get(hostKeyword, right), fmt.Sprintf("type=%s looks up no names, and so neither end can be this host: %s is a name", c.Shunt, named),
			"write an address of this host, or %defaultroute, for one of them")
	}
}

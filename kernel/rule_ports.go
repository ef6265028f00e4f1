package kernel

import "github.com/ikegod/ikegod/pkg/ts"

// RulePorts are the ports of a selector as a routing rule takes them; zero and zero is any. Linux has no rule for a range from port 0 or to port 65535: the first means
// nothing, and the last is left out.
func RulePorts(s ts.Selector) (first, last uint16) {
	if s.AnyPort() || s.Opaque() {
		return 0, 0
	}
	first, last = max(s.StartPort, 1), min(s.EndPort, 65534)
	if first > last {
		return 0, 0 // of these two alone no rule can be made: it has to take all
	}
	return first, last
}

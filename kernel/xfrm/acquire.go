package xfrm

import (
	"net/netip"

	"github.com/ikegod/ikegod/kernel"
)

// withTypes makes what the kernel says of a packet of ICMP, whose type it has as source port and whose code as destination port, into what selectors have: both
// in either port.
func withTypes(events func(kernel.Event)) func(kernel.Event) {
	return func(ev kernel.Event) {
		if a, ok := ev.(kernel.Acquire); ok && (a.Protocol == protoICMP || a.Protocol == protoICMPv6) {
			both := a.Src.Port()<<8 | a.Dst.Port()&0xff
			a.Src, a.Dst = netip.AddrPortFrom(a.Src.Addr(), both), netip.AddrPortFrom(a.Dst.Addr(), both)
			ev = a
		}
		events(ev)
	}
}

package xfrm

import (
	"fmt"
	"net/netip"

	"github.com/ikegod/ikegod/kernel/xfrm/message"
	"github.com/ikegod/ikegod/pkg/ts"
)

// maxSelectors is how many selectors of XFRM one policy may need.
const maxSelectors = 1024

// Protocols whose selectors have something else than ports: type and code (RFC 7296 3.13.1), or the Mobility Header's type.
const (
	protoICMP   = 1
	protoICMPv6 = 58
	protoMH     = 135
)

// selectors are the outbound selectors for traffic between two sets: XFRM has prefixes and masks where IKE has ranges, so that a range may need several. The
// result holds each selector once.
func selectors(local, remote ts.Set) ([]message.Selector, error) {
	var out []message.Selector
	seen := map[message.Selector]bool{}
	for _, l := range local {
		for _, r := range remote {
			if l.Start.BitLen() != r.Start.BitLen() || l.Protocol != 0 && r.Protocol != 0 && l.Protocol != r.Protocol {
				continue
			}
			protocol := max(l.Protocol, r.Protocol)
			ports := portPairs(protocol, l, r)
			for _, src := range (ts.Set{l}).Prefixes() {
				for _, dst := range (ts.Set{r}).Prefixes() {
					for _, p := range ports {
						s := message.Selector{Src: src, Dst: dst, Protocol: protocol, SrcPorts: p[0], DstPorts: p[1]}
						if !seen[s] {
							seen[s] = true
							out = append(out, s)
						}
						if len(out) > maxSelectors {
							return nil, fmt.Errorf("%s to %s needs more than %d policies in the kernel, because XFRM has prefixes and masks where IKE has ranges; "+
								"write subnets, and port ranges that begin and end at powers of two, %s", local, remote, maxSelectors, elsewhere)
						}
					}
				}
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s and %s have no traffic in common: addresses of one family and the same protocol are needed", local, remote)
	}
	return out, nil
}

// portPairs are the ports of outbound packets, source and destination.
func portPairs(protocol uint8, local, remote ts.Selector) (out [][2]message.Ports) {
	switch protocol {
	case protoICMP, protoICMPv6, protoMH:
		// Both sides hold the type and code of the packet, whichever way it goes.
		if local.Opaque() || remote.Opaque() {
			return nil // fragments: XFRM sees type 0 in them, an echo reply
		}
		return typesAndCodes(max(local.StartPort, remote.StartPort), min(local.EndPort, remote.EndPort))
	}
	for _, src := range masks(local) {
		for _, dst := range masks(remote) {
			out = append(out, [2]message.Ports{src, dst})
		}
	}
	return out
}

// masks cover a port range. OPAQUE is port 0, which is what the kernel sees in fragments.
func masks(s ts.Selector) []message.Ports {
	if s.Opaque() {
		return []message.Ports{{Port: 0, Mask: 0xffff}}
	}
	return maskRange(uint32(s.StartPort), uint32(s.EndPort), 16)
}

// maskRange covers the numbers first to last, of so many bits, with the fewest values and masks. The mask's bits above them are set, unless everything is
// covered.
func maskRange(first, last uint32, bits int) (out []message.Ports) {
	if first == 0 && last == 1<<bits-1 {
		return []message.Ports{{}}
	}
	for first <= last {
		size := uint32(1)
		for first%(2*size) == 0 && first+2*size-1 <= last {
			size *= 2
		}
		out = append(out, message.Ports{Port: uint16(first), Mask: uint16(0xffff &^ (size - 1))})
		first += size
	}
	return out
}

// typesAndCodes cover a range of ICMP types and codes (type in the upper eight bits): XFRM has the type as source port and the code as destination port.
func typesAndCodes(first, last uint16) (out [][2]message.Ports) {
	if first > last {
		return nil
	}
	add := func(firstType, lastType, firstCode, lastCode uint16) {
		for _, t := range maskRange(uint32(firstType), uint32(lastType), 8) {
			for _, c := range maskRange(uint32(firstCode), uint32(lastCode), 8) {
				out = append(out, [2]message.Ports{t, c})
			}
		}
	}
	firstType, lastType := first>>8, last>>8
	firstCode, lastCode := first&0xff, last&0xff
	if firstType == lastType {
		add(firstType, firstType, firstCode, lastCode)
		return out
	}
	if firstCode > 0 {
		add(firstType, firstType, firstCode, 0xff)
		firstType++
	}
	if lastCode < 0xff {
		add(lastType, lastType, 0, lastCode)
		lastType--
	}
	if firstType <= lastType {
		add(firstType, lastType, 0, 0xff)
	}
	return out
}

// reversed is a selector for packets the other way.
func reversed(s message.Selector) message.Selector {
	s.Src, s.Dst = s.Dst, s.Src
	if s.Protocol != protoICMP && s.Protocol != protoICMPv6 && s.Protocol != protoMH {
		s.SrcPorts, s.DstPorts = s.DstPorts, s.SrcPorts
	}
	return s
}

// priority of a selector: the narrower the stronger, which is the smaller; ports count most, then protocol, source and destination. The numbers are those of
// libreswan, so that what is narrower wins between two daemons too.
func priority(s message.Selector) uint32 {
	p := uint32(1)<<20 | 1
	if s.SrcPorts.Mask == 0 {
		p += 1 << 18
	}
	if s.DstPorts.Mask == 0 {
		p += 1 << 18
	}
	if s.Protocol == 0 {
		p |= 1 << 17
	}
	return p | uint32(128-s.Src.Bits())<<9 | uint32(128-s.Dst.Bits())<<1
}

// spared are outbound selectors within those of a policy whose packets go on in clear: to what is bound to the link, and from a local subnet to itself, where
// the remote side is wider than these. Each is narrower than the selector that it is cut from, and so stronger, but weaker than what is narrower still.
func spared(all []message.Selector) (out []message.Selector) {
	seen := map[message.Selector]bool{}
	for _, s := range all {
		seen[s] = true // what the policy names is not spared
	}
	add := func(s message.Selector, dst netip.Prefix) {
		if s.Dst = dst; !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	for _, s := range all {
		for _, link := range ts.LinkBound() {
			if s.Dst.Bits() < link.Bits() && s.Dst.Overlaps(link) {
				add(s, link)
			}
		}
		if s.Dst.Bits() < s.Src.Bits() && s.Dst.Overlaps(s.Src) && !s.Src.IsSingleIP() {
			add(s, s.Src)
		}
	}
	return out
}

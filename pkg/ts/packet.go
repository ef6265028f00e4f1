package ts

import (
	"net/netip"
	"slices"
)

// Packet is what selectors look at in a packet. For ICMP both ports hold type and code, the type in the upper octet (RFC 7296 3.13.1). A port is zero where it is
// not to be seen, or not chosen yet, as when a TCP connection is only just being opened. The zero Packet is none.
type Packet struct {
	Src, Dst netip.AddrPort
	Protocol uint8
}

// Selectors are those of the packet alone, at its source and at its destination, as an initiator puts them before the others (RFC 7296 2.9). ok is false when it
// says too little for that, or names link-local addresses, which are other hosts on each link.
func (p Packet) Selectors() (src, dst Selector, ok bool) {
	src, dst = p.end(p.Src), p.end(p.Dst)
	ok = src.Valid() && dst.Valid() && src.Start.BitLen() == dst.Start.BitLen() && !src.Start.IsUnspecified() && !dst.Start.IsUnspecified() &&
		!src.LinkLocal() && !dst.LinkLocal()
	return src, dst, ok
}

func (p Packet) end(a netip.AddrPort) Selector {
	s := FromAddr(a.Addr().Unmap().WithZone(""))
	s.Protocol = p.Protocol
	if port := a.Port(); port != 0 && hasPorts(p.Protocol) {
		s.StartPort, s.EndPort = port, port
	}
	return s
}

// hasPorts reports whether the ports of a packet's selector mean something: ports, or type and code.
func hasPorts(protocol uint8) bool {
	switch protocol {
	case 1, 58, 6, 17, 33, 132, 136: // ICMP, ICMPv6, TCP, UDP, DCCP, SCTP, UDP-Lite
		return true
	}
	return false
}

// First puts a selector before the others of the set.
func (s Set) First(sel Selector) Set {
	out := make(Set, 0, len(s)+1)
	out = append(out, sel)
	return append(out, slices.DeleteFunc(slices.Clone(s), func(t Selector) bool { return t == sel })...)
}

// WithoutFirst takes away what First has put into asked, where it is inside another selector of s; s is an answer to that.
func (s Set) WithoutFirst(sel Selector, asked Set) Set {
	inside := func(t Selector) bool { return t != sel && t.Contains(sel) }
	if slices.Contains(asked, sel) || !slices.ContainsFunc(s, inside) {
		return s
	}
	return slices.DeleteFunc(slices.Clone(s), func(t Selector) bool { return t == sel })
}

// Cut reports whether an answer to what was asked with the packet before it is for the packet alone: between its two addresses, or from its own port or ICMP type. An
// answer that is less than was asked in other ways, such as one port or one host there, is what the peer allows, and has the packet in it.
func (p Packet) Cut(local, remote, askedLocal, askedRemote Set) bool {
	src, dst, ok := p.Selectors()
	if !ok || len(local) == 0 || len(remote) == 0 {
		return false
	}
	addressOf := func(sel Selector) func(Selector) bool {
		return func(t Selector) bool { return t.Start == sel.Start && t.End == sel.End }
	}
	port := func(t Selector) bool { return t.StartPort == src.StartPort && t.EndPort == src.EndPort }
	hosts := local.all(addressOf(src)) && remote.all(addressOf(dst))
	hosts = hosts && !(slices.ContainsFunc(askedLocal, addressOf(src)) && slices.ContainsFunc(askedRemote, addressOf(dst)))
	return hosts || !src.AnyPort() && local.all(port) && !slices.ContainsFunc(askedLocal, port)
}

func (s Set) all(f func(Selector) bool) bool {
	return !slices.ContainsFunc(s, func(t Selector) bool { return !f(t) })
}

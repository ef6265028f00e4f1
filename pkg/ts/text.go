package ts

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// protocolNames are the protocols that can be written by name (IANA protocol-numbers); the first name of a number is the one printed.
var protocolNames = []struct {
	name   string
	number uint8
	ports  bool // the protocol has ports, or types in their place (RFC 7296 3.13.1)
}{
	{"ICMP", 1, true},
	{"IGMP", 2, false},
	{"IPIP", 4, false},
	{"TCP", 6, true},
	{"UDP", 17, true},
	{"DCCP", 33, true},
	{"IPv6", 41, false},
	{"GRE", 47, false},
	{"ESP", 50, false},
	{"AH", 51, false},
	{"ICMPv6", 58, true},
	{"IPv6-ICMP", 58, true},
	{"OSPF", 89, false},
	{"PIM", 103, false},
	{"IPComp", 108, false},
	{"L2TP", 115, false},
	{"SCTP", 132, true},
	{"MH", 135, true},
	{"UDPLite", 136, true},
}

// opaque is how OPAQUE ports are written.
const opaque = "OPAQUE"

// String prints a prefix where the range is one, a range otherwise, with protocol and ports where they are not any: "10.0.0.0/8",
// "10.0.0.1-10.0.0.9/TCP/443", "2001:db8::/32/UDP". Parse reads it back, except for ports of a protocol that has none.
func (s Selector) String() string {
	if !s.Valid() {
		return "nothing"
	}
	var b strings.Builder
	if p := appendRange(nil, s.Start, s.End); len(p) == 1 {
		b.WriteString(p[0].String())
	} else {
		fmt.Fprintf(&b, "%v-%v", s.Start, s.End)
	}
	if p := s.ProtoPort(); p != "" {
		b.WriteString("/" + p)
	}
	return b.String()
}

// ProtoPort prints the protocol and ports alone, as they stand in leftprotoport=: "TCP/443", "UDP"; empty: any.
func (s Selector) ProtoPort() string {
	if s.Protocol == 0 && s.AnyPort() {
		return ""
	}
	var b strings.Builder
	b.WriteString(protocolName(s.Protocol))
	switch {
	case s.AnyPort():
	case s.Opaque():
		b.WriteString("/" + opaque)
	case s.StartPort == s.EndPort && s.StartPort != 0: // a single 0 reads as any
		fmt.Fprintf(&b, "/%d", s.StartPort)
	default:
		fmt.Fprintf(&b, "/%d-%d", s.StartPort, s.EndPort)
	}
	return b.String()
}

func protocolName(n uint8) string {
	for _, p := range protocolNames {
		if p.number == n {
			return p.name
		}
	}
	return strconv.Itoa(int(n))
}

// Parse reads "10.0.0.0/8", "10.0.0.1", "10.0.0.1-10.0.0.9", each with an optional "/proto/port" as in leftsubnet=. As in libreswan, bits
// of the address beyond its mask are taken for zero.
func Parse(s string) (Selector, error) {
	addrs, rest, more := strings.Cut(s, "/")
	var sel Selector
	if from, to, isRange := strings.Cut(addrs, "-"); isRange {
		var err error
		if sel, err = parseRange(from, to); err != nil {
			return Selector{}, fmt.Errorf("selector %q: %w", s, err)
		}
	} else {
		a, err := parseAddr(addrs)
		if err != nil {
			return Selector{}, fmt.Errorf("selector %q: %w", s, err)
		}
		sel = FromAddr(a)
		mask, afterMask, moreAfterMask := strings.Cut(rest, "/")
		// After an address comes the mask, but "10.0.0.1/tcp" can only mean one thing.
		if more && mask != "" && !isProtocolName(mask) {
			p, err := parseMask(a, mask)
			if err != nil {
				return Selector{}, fmt.Errorf("selector %q: %w", s, err)
			}
			sel, rest, more = FromPrefix(p), afterMask, moreAfterMask
		}
	}
	if more {
		var err error
		if sel.Protocol, sel.StartPort, sel.EndPort, err = ParseProtoPort(rest); err != nil {
			return Selector{}, fmt.Errorf("selector %q: %w", s, err)
		}
	}
	return sel, nil
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is not an address", s)
	}
	if a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q has a zone, selectors hold plain addresses", s)
	}
	return a, nil
}

func parseRange(from, to string) (Selector, error) {
	start, err := parseAddr(from)
	if err != nil {
		return Selector{}, err
	}
	end, err := parseAddr(to)
	if err != nil {
		return Selector{}, err
	}
	sel := Selector{Start: start, End: end, StartPort: firstPort, EndPort: lastPort}
	if !sel.Valid() {
		return Selector{}, fmt.Errorf("the range must go up within one address family")
	}
	return sel, nil
}

// parseMask reads a prefix length, or for IPv4 a mask such as 255.255.255.0.
func parseMask(a netip.Addr, mask string) (netip.Prefix, error) {
	if m, err := netip.ParseAddr(mask); err == nil && m.Is4() && a.Is4() {
		b := m.As4()
		v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
		for bits := range 33 {
			if v == ^uint32(0)<<(32-bits) {
				return netip.PrefixFrom(a, bits), nil
			}
		}
		return netip.Prefix{}, fmt.Errorf("mask %s has a hole", mask)
	}
	bits, err := strconv.ParseUint(mask, 10, 8)
	if err != nil || int(bits) > a.BitLen() {
		return netip.Prefix{}, fmt.Errorf("%q is not a prefix length of 0 to %d", mask, a.BitLen())
	}
	return netip.PrefixFrom(a, int(bits)), nil
}

func isProtocolName(s string) bool {
	_, _, ok := protocolByName(s)
	return ok
}

func protocolByName(s string) (number uint8, ports, ok bool) {
	for _, p := range protocolNames {
		if strings.EqualFold(s, p.name) {
			return p.number, p.ports, true
		}
	}
	return 0, false, false
}

// ParseProtoPort reads what leftprotoport= holds: "tcp", "17", "udp/1701", "tcp/1000-2000", "udp/%any", "%any", "icmp/2048" (type 8, code 0).
// 0 is any, for the protocol and for the port.
func ParseProtoPort(s string) (protocol uint8, first, last uint16, err error) {
	word, port, hasPort := strings.Cut(s, "/")
	protocol, ports, ok := protocolByName(word)
	switch {
	case ok:
	case word == "%any" || strings.EqualFold(word, "any"):
	default:
		n, err := strconv.ParseUint(word, 10, 8)
		if err != nil {
			return 0, 0, 0, fmt.Errorf("%q is neither a protocol number of 0 to 255 nor a name such as tcp, udp, icmp", word)
		}
		protocol = uint8(n)
		_, ports, _ = protocolByName(protocolName(protocol))
	}
	if !hasPort {
		return protocol, firstPort, lastPort, nil
	}
	if first, last, err = parsePorts(port); err != nil {
		return 0, 0, 0, err
	}
	if !ports && (first != firstPort || last != lastPort) {
		return 0, 0, 0, fmt.Errorf("protocol %s has no ports, so port %s cannot be selected", word, port)
	}
	return protocol, first, last, nil
}

func parsePorts(s string) (first, last uint16, err error) {
	switch {
	case s == "%any" || s == "0":
		return firstPort, lastPort, nil
	case strings.EqualFold(s, opaque) || strings.EqualFold(s, "%opaque"):
		return lastPort, firstPort, nil
	}
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	a, errA := strconv.ParseUint(from, 10, 16)
	b, errB := strconv.ParseUint(to, 10, 16)
	if errA != nil || errB != nil || a > b {
		return 0, 0, fmt.Errorf("%q is not a port of 0 to 65535, a range of them, or %%any", s)
	}
	return uint16(a), uint16(b), nil
}

package conf

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/suggest"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/ts"
)

// parse reads the value as the keyword's kind says, once.
func (e *entry) parse() (any, error) {
	if !e.parsed {
		e.result, e.fault = parseValue(e.key, e.value)
		e.parsed = true
	}
	return e.result, e.fault
}

// parseValue reads a value of a keyword. The error is a *badValue.
func parseValue(k *keyword, s string) (any, error) {
	switch k.kind {
	case kindBool:
		return parseBool(s)
	case kindEnum:
		if on, err := parseBool(s); k.yesNo && err == nil {
			return map[bool]string{true: "yes", false: "no"}[on], nil
		}
		return parseEnum(s, k.words)
	case kindDuration:
		return parseBoundedDuration(k, s)
	case kindNumber:
		return parseUnsigned(s, k.min, k.max)
	case kindSize:
		n, err := parseSize(s, byteUnits, k.max)
		if err == nil && n < k.min {
			err = bad("%s is less than %d", s, k.min)
		}
		return n, err
	case kindPercent:
		return parsePercent(s)
	case kindAddr:
		return parseAddr(s)
	case kindAddrs:
		return parseAddrs(s)
	case kindHost:
		return parseHost(s)
	case kindID:
		return parseID(s)
	case kindSubnets:
		return parseSubnets(s)
	case kindProtoPort:
		return parseProtoPort(s)
	case kindAuthBy:
		return splitList(s), nil
	case kindIKE:
		p, err := suite.ParseIKE(s)
		return p, proposalFault(s, err)
	case kindESP:
		p, err := suite.ParseESP(s, sequenceNumbers["either"])
		return p, proposalFault(s, err)
	case kindListenTCP:
		return parseListenTCP(s)
	case kindCount:
		n, err := parseSize(s, binaryUnits, k.max)
		if err == nil && n < k.min {
			err = bad("%s is less than %d", s, k.min)
		}
		return n, err
	case kindMark:
		return parseMark(s)
	case kindInterface:
		return parseInterface(s)
	case kindCIDR:
		return parseCIDR(s)
	case kindAlso, kindText:
	}
	return s, nil
}

// proposalFault puts an error about the value s of ike= or esp= at the word that it is about. A very long word is cut in the error.
func proposalFault(s string, err error) error {
	if err == nil {
		return nil
	}
	p, ok := errors.AsType[*suite.ParseError](err)
	if !ok {
		return bad("%v", err)
	}
	from := min(max(0, p.Column-1), len(s))
	return &badValue{
		from: from, width: min(len(p.Word), len(s)-from), text: quoted(p.Word) + " " + p.Reason, suggestion: p.Hint,
		lacking: errors.Is(err, suite.ErrUnsupported),
	}
}

func parseBoundedDuration(k *keyword, s string) (time.Duration, error) {
	d, err := parseDuration(s, k.without())
	switch {
	case err != nil:
		return 0, err
	case uint64(d) < k.min && k.max > 0 || k.max > 0 && uint64(d) > k.max:
		return 0, bad("%s is not between %s and %s", s, time.Duration(k.min), time.Duration(k.max))
	case uint64(d) < k.min:
		return 0, bad("%s is less than %s", s, time.Duration(k.min))
	}
	return d, nil
}

// sequenceNumbers are the values of esn=, in order of preference.
var sequenceNumbers = map[string][]iana.SN{
	"yes":    {iana.SN_ESN},
	"no":     {iana.SN_32},
	"either": {iana.SN_ESN, iana.SN_32},
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, bad("%s is not an IP address", quoted(s))
	}
	return a.Unmap(), nil
}

func parseAddrs(s string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, t := range splitList(s) {
		a, err := parseAddr(t.text)
		if err != nil {
			return nil, within(t, err)
		}
		out = append(out, a)
	}
	if len(out) == 0 {
		return nil, bad("no address is given")
	}
	return out, nil
}

// parseListenTCP reads yes, no, or ports. 1 and 0 are yes and no, as everywhere.
func parseListenTCP(s string) ([]uint16, error) {
	if on, err := parseBool(s); err == nil {
		if on {
			return []uint16{iana.PortIKENATT}, nil
		}
		return nil, nil
	}
	var ports []uint16
	for _, t := range splitList(s) {
		n, err := strconv.ParseUint(t.text, 10, 16)
		if err != nil || n == 0 {
			return nil, within(t, bad("%s is neither yes, no nor a port from 1 to 65535", quoted(t.text)))
		}
		if n == iana.PortIKE {
			return nil, within(t, bad("port 500 is never one of TCP encapsulation (RFC 9329 2): use 4500 or another"))
		}
		if slices.Contains(ports, uint16(n)) {
			return nil, within(t, bad("port %d is listed twice", n))
		}
		ports = append(ports, uint16(n))
	}
	if len(ports) == 0 {
		return nil, bad("%s is neither yes, no nor a port", quoted(s))
	}
	return ports, nil
}

// parseHost reads left= (LIBRESWAN.md 1.2, host values).
func parseHost(s string) (policy.Host, error) {
	switch lower := strings.ToLower(s); {
	case lower == "%any":
		return policy.Host{Kind: policy.HostAny}, nil
	case lower == "%any4" || s == "0.0.0.0":
		return policy.Host{Kind: policy.HostAny, Family: policy.FamilyV4}, nil
	case lower == "%any6" || s == "::":
		return policy.Host{Kind: policy.HostAny, Family: policy.FamilyV6}, nil
	case lower == "%defaultroute":
		return policy.Host{Kind: policy.HostDefaultRoute}, nil
	case slices.Contains([]string{"%oppo", "%opportunistic", "%oppogroup", "%opportunisticgroup", "%group"}, lower):
		return policy.Host{}, lacking("%s (opportunistic encryption) is not supported yet", s)
	case s == "" || s == "%":
		return policy.Host{}, bad("no host is given")
	case strings.HasPrefix(s, "%"):
		return policy.Host{}, &badValue{
			text:       fmt.Sprintf("%s is not supported yet (the address of an interface)", quoted(s)),
			suggestion: "write the address, or %defaultroute", lacking: true,
		}
	}
	if a, err := netip.ParseAddr(s); err == nil {
		if linkLocal(a.WithZone(""), a.WithZone("")) {
			return policy.Host{}, bad("%s %s", quoted(s), whyLinkLocal)
		}
		if a.Zone() != "" {
			return policy.Host{}, bad("an address with a zone, %s, is not supported", quoted(s))
		}
		if a.IsMulticast() {
			return policy.Host{}, bad("%s is a multicast address", s)
		}
		return policy.Host{Kind: policy.HostAddress, Addr: a.Unmap()}, nil
	}
	if err := checkDNSName(s); err != nil {
		return policy.Host{}, err
	}
	return policy.Host{Kind: policy.HostName, Name: strings.TrimSuffix(s, ".")}, nil
}

// whyLinkLocal follows an address of fe80::/10 that was refused. The daemon's sockets and routes serve all links, where it would not say which peer or network
// is meant; a roaming or forwarded packet never has it (RFC 4291 2.5.6).
const whyLinkLocal = "is link-local (fe80::/10): such an address means something on one link only, and no router forwards it; use a global or a unique local address"

// linkLocal reports whether all of a range is IPv6 link-local.
func linkLocal(first, last netip.Addr) bool {
	return first.Is6() && first.IsLinkLocalUnicast() && last.IsLinkLocalUnicast()
}

// checkDNSName refuses what can only be a misspelt address.
func checkDNSName(s string) error {
	if prefix, err := netip.ParsePrefix(s); err == nil {
		return &badValue{text: fmt.Sprintf("%s is a subnet, not a host", quoted(s)), suggestion: "write " + prefix.Addr().String() + ", and leftsubnet= or rightsubnet= for a subnet"}
	}
	labels := strings.Split(strings.TrimSuffix(s, "."), ".")
	letters := false
	for _, l := range labels {
		if l == "" || len(l) > 63 || len(s) > 254 {
			return bad("%s is neither an IP address nor a DNS name", quoted(s))
		}
		for i := range len(l) {
			c := l[i] | 0x20
			letters = letters || c >= 'a' && c <= 'z'
			if !(c >= 'a' && c <= 'z' || l[i] >= '0' && l[i] <= '9' || l[i] == '-' || l[i] == '_') {
				return bad("%s is neither an IP address nor a DNS name", quoted(s))
			}
		}
	}
	if !letters {
		return bad("%s is not an IP address", quoted(s))
	}
	return nil
}

// parseID reads leftid=. %any and %none mean none, as in libreswan.
func parseID(s string) (ident.Pattern, error) {
	switch strings.ToLower(s) {
	case "%any", "%none", "0.0.0.0", "::":
		return ident.Pattern{Any: true}, nil
	case "%fromcert":
		return ident.Pattern{}, lacking("%%fromcert needs certificates, which are not supported yet")
	case "%null":
		return ident.Pattern{}, lacking("%s (no authentication, RFC 7619) is not supported yet", s)
	case "":
		return ident.Pattern{}, bad("no identity is given")
	}
	id, err := ident.Parse(s)
	if err != nil {
		if reason := errors.Unwrap(err); reason != nil {
			err = fmt.Errorf("%s: %w", quoted(s), reason)
		}
		return ident.Pattern{}, &badValue{text: err.Error()}
	}
	return ident.Pattern{ID: id}, nil
}

// protoPort is a protocol with its ports; protocol 0 is any.
type protoPort struct {
	protocol   uint8
	start, end uint16
}

var anyProtoPort = protoPort{0, 0, 0xffff}

// protocols are the names of /etc/protocols that people protect.
var protocols = map[string]uint8{
	"icmp": 1, "igmp": 2, "ipip": 4, "ipencap": 4, "tcp": 6, "udp": 17, "dccp": 33, "ipv6": 41, "gre": 47, "esp": 50,
	"ah": 51, "icmpv6": 58, "ipv6-icmp": 58, "ospf": 89, "pim": 103, "vrrp": 112, "l2tp": 115, "sctp": 132, "udplite": 136,
}

// protocolNames are for suggestions. Of two that are equally near the longer is meant: icmp6 is icmpv6.
func protocolNames() []string {
	return slices.SortedFunc(maps.Keys(protocols), func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
}

// parseProtoPort reads leftprotoport=.
func parseProtoPort(s string) (protoPort, error) {
	proto, port, hasPort := strings.Cut(s, "/")
	out := anyProtoPort
	switch n, err := strconv.ParseUint(proto, 10, 8); {
	case err == nil:
		out.protocol = uint8(n)
	case strings.EqualFold(proto, "%any"):
	default:
		p, ok := protocols[strings.ToLower(proto)]
		if !ok {
			return out, &badValue{width: len(proto), text: fmt.Sprintf("%s is not an IP protocol: a name such as tcp, or a number to 255", quoted(proto)), suggestion: suggest.DidYouMean(proto, protocolNames())}
		}
		out.protocol = p
	}
	if !hasPort {
		return out, nil
	}
	var err error
	if out.start, out.end, err = parsePorts(out.protocol, port); err != nil {
		return out, within(token{text: port, from: len(proto) + 1, to: len(s)}, err)
	}
	if out.protocol == 0 && (out.start != 0 || out.end != 0xffff) {
		return out, bad("a port needs a protocol before it, as in tcp/%s", port)
	}
	return out, nil
}

// parsePorts reads one port, its service's name, a range, %any (as is 0) or %opaque.
func parsePorts(protocol uint8, s string) (from, to uint16, err error) {
	switch strings.ToLower(s) {
	case "%any", "0":
		return 0, 0xffff, nil
	case "%opaque":
		return 0xffff, 0, nil // RFC 7296 3.13.1
	}
	first, last, isRange := strings.Cut(s, "-")
	if from, err = parsePort(protocol, first); err == nil && isRange {
		if to, err = parsePort(protocol, last); err == nil && to < from {
			err = bad("the range %s is the wrong way round", s)
		}
		return from, to, err
	}
	if err != nil && isRange { // a service's name may hold a hyphen
		from, err = parsePort(protocol, s)
	}
	return from, from, err
}

func parsePort(protocol uint8, s string) (uint16, error) {
	if n, err := strconv.ParseUint(s, 10, 16); err == nil {
		return uint16(n), nil
	}
	network := map[uint8]string{6: "tcp", 17: "udp"}[protocol]
	if network != "" && s != "" && strings.Trim(s, "0123456789") != "" {
		if n, err := net.LookupPort(network, strings.ToLower(s)); err == nil {
			return uint16(n), nil
		}
	}
	return 0, bad("%s is not a port", quoted(s))
}

// subnet is one element of leftsubnet=, with its own protocol and ports if it has any.
type subnet struct {
	at       token
	selector ts.Selector
	ports    string // its protocol and ports as they are written; empty: those of leftprotoport=
	zeroed   bool   // octets of the host part were not zero
	prefix   netip.Prefix
}

// parseSubnets reads leftsubnet=: networks with a mask, addresses or ranges of addresses, each with a "/protocol" or "/protocol/port" behind it.
func parseSubnets(s string) ([]subnet, error) {
	var out []subnet
	s = strings.NewReplacer("{", " ", "}", " ").Replace(s) // older files write {a b} in leftsubnets=
	for _, t := range splitList(s) {
		n, err := parseSubnet(t.text)
		if err != nil {
			return nil, within(t, err)
		}
		n.at = t
		out = append(out, n)
	}
	if len(out) == 0 {
		return nil, bad("no subnet is given")
	}
	return out, nil
}

func parseSubnet(s string) (subnet, error) {
	lower := strings.ToLower(s)
	if strings.HasPrefix(lower, "vhost:") || strings.HasPrefix(lower, "vnet:") {
		return subnet{}, lacking("%s is not supported: it was made for IKEv1", quoted(s))
	}
	network, protocol, hasProtocol := strings.Cut(s, "/")
	n := subnet{}
	var err error
	if from, to, isRange := strings.Cut(network, "-"); isRange {
		n.selector, err = addressRange(from, to)
	} else if mask, behind, more := strings.Cut(protocol, "/"); hasProtocol && !isProtocol(mask) {
		n.prefix, n.zeroed, err = parsePrefix(network, mask)
		protocol, hasProtocol = behind, more
	} else {
		var a netip.Addr
		if a, err = parseAddr(network); err == nil {
			n.prefix = netip.PrefixFrom(a, a.BitLen())
		}
	}
	if err != nil {
		return subnet{}, err
	}
	if n.prefix.IsValid() {
		n.selector = ts.Selector{Start: n.prefix.Addr(), End: lastAddr(n.prefix), EndPort: 0xffff}
	}
	if linkLocal(n.selector.Start, n.selector.End) {
		return subnet{}, bad("%s %s", quoted(s), whyLinkLocal)
	}
	if hasProtocol {
		pp, err := parseProtoPort(protocol)
		if err != nil {
			return subnet{}, err
		}
		n.selector.Protocol, n.selector.StartPort, n.selector.EndPort, n.ports = pp.protocol, pp.start, pp.end, protocol
	}
	return n, nil
}

// isProtocol reports whether what follows an address is no mask but a protocol, by its name.
func isProtocol(s string) bool { return protocols[strings.ToLower(s)] != 0 }

func addressRange(from, to string) (ts.Selector, error) {
	a, err := parseAddr(from)
	if err != nil {
		return ts.Selector{}, err
	}
	b, err := parseAddr(to)
	if err != nil {
		return ts.Selector{}, err
	}
	if a.BitLen() != b.BitLen() || b.Less(a) {
		return ts.Selector{}, bad("%s-%s is not a range of addresses", from, to)
	}
	return ts.Selector{Start: a, End: b, EndPort: 0xffff}, nil
}

// parsePrefix reads a network and its mask, which is a number of bits or, for IPv4, dotted. IPv4 networks may leave trailing zeros away: 10/8.
func parsePrefix(network, mask string) (p netip.Prefix, zeroed bool, err error) {
	a, err := netip.ParseAddr(network)
	if err != nil && strings.Trim(network, "0123456789.") == "" && strings.Count(network, ".") < 3 {
		a, err = netip.ParseAddr(network + strings.Repeat(".0", 3-strings.Count(network, ".")))
	}
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return p, false, bad("%s is not an IP address", quoted(network))
	}
	bits, err := strconv.ParseUint(mask, 10, 8)
	if err != nil && a.Is4() {
		m, errMask := netip.ParseAddr(mask)
		if errMask == nil && m.Is4() {
			b := m.As4()
			ones, size := net.IPMask(b[:]).Size()
			if size == 0 {
				return p, false, bad("the mask %s has gaps", mask)
			}
			bits, err = uint64(ones), nil
		}
	}
	if err != nil || bits > uint64(a.BitLen()) {
		return p, false, bad("%s is not a mask: a number of bits to %d", quoted(mask), a.BitLen())
	}
	p = netip.PrefixFrom(a, int(bits)).Masked()
	return p, p.Addr() != a, nil
}

// lastAddr is the last address of a prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		return p.Addr()
	}
	return a
}

package conf

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/ts"
)

// typeOfICMP warns of a number that looks like an ICMP type: type and code are one number (RFC 7296 3.13.1), and no type 0 has another code than 0.
func (b *build) typeOfICMP(e *entry, text string, s ts.Selector) {
	name, _, _ := strings.Cut(text, "/")
	version := map[uint8]string{1: "ICMP", 58: "ICMPv6"}[s.Protocol]
	if version == "" || s.StartPort != s.EndPort || s.StartPort == 0 || s.StartPort > 0xff {
		return
	}
	t := s.StartPort << 8
	b.warn(e, Warning, fmt.Sprintf("%s is %s type 0 with code %d: the type is in the upper eight bits of the number", printable(text), version, s.StartPort),
		fmt.Sprintf("write %s/%d for type %d with code 0, %s/%d-%d for any code", printable(name), t, s.StartPort, printable(name), t, t|0xff))
}

// versionOfICMP warns, once for an entry, of ICMP between IPv6 addresses or ICMPv6 between IPv4 addresses, which is well-formed and matches nothing. addrs are the
// addresses as they are written. The protocol of e may be that of others of the right version, too (mixed).
func (b *build) versionOfICMP(e *entry, addrs string, s ts.Selector, mixed bool) {
	const icmp, icmpv6 = 1, 58
	text, right := "", ""
	switch {
	case s.Protocol == icmp && s.Start.Is6():
		text, right = "ICMP is of IPv4, and %s is IPv6", "ipv6-icmp"
	case s.Protocol == icmpv6 && s.Start.Is4():
		text, right = "ICMPv6 is of IPv6, and %s is IPv4", "icmp"
	default:
		return
	}
	if mixed {
		right = fmt.Sprintf("the protocol behind each network, as in %s/%s", printable(addrs), right)
	}
	if b.first(e, "version of ICMP") {
		b.warn(e, Warning, fmt.Sprintf("%s: "+text+": no packet matches", e.word, printable(addrs)), "write "+right)
	}
}

// versionOfHosts is versionOfICMP where no subnet is written and the host itself is what is protected.
func (b *build) versionOfHosts(e *entry, c *policy.Connection, s side) {
	if e == nil {
		return
	}
	own, other := &c.Left, &c.Right
	if s == right {
		own, other = other, own
	}
	addr := map[policy.Family]netip.Addr{policy.FamilyV4: netip.IPv4Unspecified(), policy.FamilyV6: netip.IPv6Unspecified()}
	f := hostFamily(own.Host)
	if f == policy.FamilyAny {
		f = hostFamily(other.Host)
	}
	b.versionOfICMP(e, fmt.Sprintf("%s=%s", s, own.Host), ts.Selector{Protocol: own.Protocol, Start: addr[f]}, false)
}

// ofBothVersions reports whether the networks that have the protocol of leftprotoport= are of both IP versions.
func ofBothVersions(list []subnet) bool {
	of := func(is func(netip.Addr) bool) bool {
		return slices.ContainsFunc(list, func(n subnet) bool { return n.ports == "" && is(n.selector.Start) })
	}
	return of(netip.Addr.Is4) && of(netip.Addr.Is6)
}

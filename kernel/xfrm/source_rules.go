package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ts"
)

// sourcePlace is packets of this host that get one source address: to a prefix, and if protocol is not zero only of that protocol and between those ports. Policies that
// want the same place have to share one source. A route knows no ports: each place with a protocol has a table and a rule of its own.
type sourcePlace struct {
	to           netip.Prefix
	protocol     uint8
	sport, dport portRange
}

// portRange is from first to last; the zero portRange is any.
type portRange struct{ first, last uint16 }

func (at sourcePlace) ported() bool { return at.protocol != 0 }

// tableRoute is what the kernel tells routes apart by.
type tableRoute struct {
	table int
	to    netip.Prefix
}

// portTables gives each place with a protocol a table.
type portTables struct {
	first int
	used  map[int]bool
}

// Tables for places with a protocol, behind each other for all shares; and the preferences of their rules, before that for all packets: the narrower a place the
// earlier, as its policy is the stronger.
const (
	portTable      = 100000
	portTableSpan  = 10000
	portPreference = sourcePreference - portWidths
	portWidths     = 2 * 129 // of prefixes, each with and without ports
)

func newPortTables(s *share) portTables {
	return portTables{portTable + int(s.number)*portTableSpan, map[int]bool{}}
}

func (t portTables) has(n int) bool { return n >= t.first && n < t.first+portTableSpan }

// take gives a table that nobody has.
func (t portTables) take() (int, error) {
	for n := t.first; n < t.first+portTableSpan; n++ {
		if !t.used[n] {
			t.used[n] = true
			return n, nil
		}
	}
	return 0, fmt.Errorf("all %d routing tables for connections of single protocols or ports are in use", portTableSpan)
}

func (t portTables) free(n int) { delete(t.used, n) }

// ours reports whether a table is one of those that any ikegod has for source addresses.
func ours(table int) bool {
	return table >= sourceTable && table < sourceTable+shares || table >= portTable && table < portTable+shares*portTableSpan
}

// rule leads packets of this host to a table: in IPv4 those without a source. IPv6 cannot tell them apart, there a route in the table leads the others where they would
// go anyhow.
func (at sourcePlace) rule(table int) *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Priority, r.Table, r.IifName = familyOf(at.to), sourcePreference, table, "lo"
	if r.Family == unix.AF_INET {
		r.Src = ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 32))
	}
	if !at.ported() {
		return r
	}
	r.Priority, r.Dst, r.IPProto = at.preference(), ipNet(at.to), int(at.protocol)
	if at.sport != (portRange{}) {
		r.Sport = netlink.NewRulePortRange(at.sport.first, at.sport.last)
	}
	if at.dport != (portRange{}) {
		r.Dport = netlink.NewRulePortRange(at.dport.first, at.dport.last)
	}
	return r
}

// preference is that of the rule of a place with a protocol.
func (at sourcePlace) preference() int {
	p := portPreference + 2*(128-at.to.Bits())
	if at.sport == (portRange{}) && at.dport == (portRange{}) {
		p++
	}
	return p
}

// ruled puts the rule of a place there, for its first route. That for all packets is one for each family.
func (s *sources) ruled(at sourcePlace, table int) error {
	r := at.rule(table)
	if err := s.handle.RuleAdd(r); err != nil && !errors.Is(err, unix.EEXIST) {
		return refused(fmt.Sprintf("rule %d for table %d", r.Priority, table), err)
	}
	return nil
}

// unruled takes the rule of a place away behind its last route.
func (s *sources) unruled(at sourcePlace, table int) error {
	if !at.ported() && (s.leftRules[familyOf(at.to)] || s.forAll(familyOf(at.to))) {
		return nil
	}
	r := at.rule(table)
	if err := s.handle.RuleDel(r); err != nil && !errors.Is(err, unix.ENOENT) {
		return refused(fmt.Sprintf("remove rule %d for table %d", r.Priority, table), err)
	}
	if at.ported() { // not before: the rule would lead to another's routes
		s.ports.free(table)
	}
	return nil
}

// leftForPorts reports whether a rule is one for ports that an ikegod with this share has left.
func (s *sources) leftForPorts(r netlink.Rule) bool {
	return s.ports.has(r.Table) && r.Priority >= portPreference && r.Priority < sourcePreference && r.IifName == "lo" && r.IPProto != 0
}

// forAll reports whether there is a route for all packets.
func (s *sources) forAll(family int) bool {
	for other := range s.made {
		if familyOf(other.to) == family && !other.ported() {
			return true
		}
	}
	return false
}

// wantSource is where the policy's source address is wanted. Everything is two halves, beside the default route.
func wantSource(p *kernel.Policy) (out []sourcePlace) {
	if p.Action == kernel.Pass || p.InboundOnly || p.Interface.Name != "" || !p.SourceIP.IsValid() {
		return nil
	}
	for _, l := range p.Local {
		for _, r := range p.Remote {
			if l.Start.BitLen() != r.Start.BitLen() || l.Protocol != 0 && r.Protocol != 0 && l.Protocol != r.Protocol {
				continue
			}
			at := sourcePlace{protocol: max(l.Protocol, r.Protocol)}
			switch at.protocol {
			case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP, unix.IPPROTO_DCCP:
				at.dport.first, at.dport.last = kernel.RulePorts(r)
				// Of several ports here none is chosen yet when a TCP connection asks for the way.
				if first, last := kernel.RulePorts(l); first == last {
					at.sport = portRange{first, last}
				}
			}
			for _, at.to = range prefixesFrom(p.SourceIP, r) {
				if !slices.Contains(out, at) {
					out = append(out, at)
				}
			}
		}
	}
	return out
}

// prefixesFrom are those of a selector to which packets go from a source of this family.
func prefixesFrom(src netip.Addr, remote ts.Selector) (out []netip.Prefix) {
	for _, to := range (ts.Set{remote}).Prefixes() {
		if to.Addr().Is6() != src.Is6() || slices.ContainsFunc(ts.LinkBound(), func(l netip.Prefix) bool { return l.Overlaps(to) && to.Bits() >= l.Bits() }) {
			continue
		}
		if to.Bits() > 0 {
			out = append(out, to)
			continue
		}
		half := [16]byte{0: 0x80}
		upper := netip.AddrFrom16(half)
		if to.Addr().Is4() {
			upper = netip.AddrFrom4([4]byte{0: 0x80})
		}
		out = append(out, netip.PrefixFrom(to.Addr(), 1), netip.PrefixFrom(upper, 1))
	}
	return out
}

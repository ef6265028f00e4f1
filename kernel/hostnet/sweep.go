package hostnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel/probe"
)

var families = []int{unix.AF_INET, unix.AF_INET6}

// adopt looks for what a daemon that ended without Close left behind, and keeps it: its blackholes and the rules that lead to them hold traffic back that is to
// be protected, until the policies of this one are in place. Rules at our preferences that are none of ours, and routes through another interface in our
// tables, mean that somebody else uses them: then nothing is touched.
func (n *Net) adopt() error {
	for _, family := range families {
		rules, err := n.foreignRule(family)
		if err != nil {
			return err
		}
		routes, err := n.routes(family)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.LinkIndex != 0 && r.LinkIndex != n.index && r.Type == unix.RTN_UNICAST {
				return fmt.Errorf("routing table %d holds a route to %s through interface %d: somebody else uses the table; choose another number",
					r.Table, r.Dst, r.LinkIndex)
			}
		}
		n.found = n.found || len(rules)+len(routes) > 0
		n.adoptPorts(family, rules, routes)
		for _, r := range rules {
			if r.Priority == n.set.Preference+prefLocal && r.Table >= n.set.Table+tableLocals && r.Table < n.set.Table+tableLocals+maxLocals {
				n.locals[prefixOf(r.Src, family)] = r.Table // a policy with that local side goes on with that table
			}
		}
	}
	return nil
}

// Sweep takes away what an earlier daemon left behind and no policy of this one wants. Call it once the policies that were loaded are in place. What could not be
// taken away it tries again with the next call.
func (n *Net) Sweep() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.swept = true
	return errors.Join(n.sweepOwn(), n.sweepOthers())
}

// sweepOthers sweeps what an earlier daemon with other numbers has left.
func (n *Net) sweepOthers() error {
	if len(n.others) == 0 {
		return nil
	}
	_, still, err := sweepUsed(n.handle, n.others, &n.set)
	n.others = still
	return errors.Join(err, writeRecord(n.set.RunDir, append(slices.Clone(still), n.set.used())))
}

// sweepOwn sweeps what was left under the numbers that are this daemon's too.
func (n *Net) sweepOwn() error {
	if !n.found {
		return nil
	}
	var errs []error
	wanted := map[int]map[ruleID]bool{}
	for _, family := range families {
		wanted[family] = map[ruleID]bool{}
		for _, r := range n.fixedRules(family) {
			wanted[family][identify(r)] = true
		}
	}
	for k := range n.rules {
		r := n.rule(k)
		wanted[r.Family][identify(r)] = true
	}
	for _, family := range families {
		errs = append(errs, n.remove(family, func(r *netlink.Rule) bool { return !wanted[family][identify(r)] },
			func(k tableKey) bool { return len(n.prefixes[k]) == 0 }))
	}
	for from, table := range n.locals {
		if n.rules[ruleKey{pref: prefLocal, from: from, table: table}] == 0 {
			delete(n.locals, from)
		}
	}
	if n.guard != nil {
		errs = append(errs, n.guard.sweep())
	}
	err := errors.Join(errs...)
	if n.found = err != nil; !n.found {
		clear(n.leftTables)
		clear(n.leftRules)
	}
	return err
}

// ruleID is what tells one of our rules from another of its family. Comparable.
type ruleID struct {
	pref, table, jump, protocol int
	mark                        uint32
	from, to, in                string
	sport, dport                portRange
}

func identify(r *netlink.Rule) ruleID {
	id := ruleID{pref: r.Priority, table: r.Table, jump: r.Goto, protocol: r.IPProto, mark: r.Mark, in: r.IifName}
	if r.Src != nil {
		id.from = r.Src.String()
	}
	if r.Dst != nil {
		id.to = r.Dst.String()
	}
	if r.Sport != nil {
		id.sport = portRange{r.Sport.Start, r.Sport.End}
	}
	if r.Dport != nil {
		id.dport = portRange{r.Dport.Start, r.Dport.End}
	}
	return id
}

// prefixOf is the prefix of a rule or a route; nil: all of its family.
func prefixOf(p *net.IPNet, family int) netip.Prefix {
	if p == nil {
		if family == unix.AF_INET {
			return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		}
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	bits, _ := p.Mask.Size()
	a, _ := netip.AddrFromSlice(p.IP)
	return netip.PrefixFrom(a.Unmap(), bits)
}

// foreignRule lists the rules at our preferences, unless one is somebody else's.
func (n *Net) foreignRule(family int) (here []netlink.Rule, err error) {
	rules, err := n.handle.RuleList(family)
	if err != nil {
		return nil, nil // remove says so
	}
	first, last := n.set.Preference, n.set.Preference+prefLast
	for _, r := range rules {
		local := first + prefLocal
		nop := r.Table == 0 && r.Goto < 0 && (r.Priority == last || r.Priority == local)
		ours := n.leadsToUs(r.Table) || r.Goto == last || r.Goto == local || nop
		if r.Priority < first || r.Priority > last || n.besideRule(r.Priority) {
			continue
		}
		if !ours {
			return nil, fmt.Errorf("preference=%d: rules %d to %d would be ours, but somebody else has rule %d (lookup %d); choose another number, or remove it: ip rule del pref %d",
				first, first, last, r.Priority, r.Table, r.Priority)
		}
		here = append(here, r)
	}
	return here, nil
}

// leadsToUs reports whether a table is ours, or was that of an earlier daemon.
func (n *Net) leadsToUs(table int) bool {
	return table >= n.set.Table && table < n.set.Table+numTables ||
		slices.ContainsFunc(n.others, func(u used) bool { return table >= u.Table && table < u.Table+numTables })
}

// routes lists the routes in our tables.
func (n *Net) routes(family int) ([]netlink.Route, error) {
	all, err := n.handle.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil && family == unix.AF_INET6 {
		return nil, nil // no IPv6 here
	}
	if err != nil {
		return nil, fmt.Errorf("routing tables: %w", err)
	}
	return slices.DeleteFunc(all, func(r netlink.Route) bool {
		return r.Table < n.set.Table || r.Table >= n.set.Table+numTables || n.besideTable(r.Table)
	}), nil
}

// clear removes all rules at our preferences and all routes in our tables.
func (n *Net) clear() error {
	var errs []error
	for _, family := range families {
		errs = append(errs, n.remove(family, func(*netlink.Rule) bool { return true }, func(tableKey) bool { return true }))
	}
	return errors.Join(errs...)
}

// remove removes those of the rules at our preferences, and of the routes in our tables, that the functions say.
func (n *Net) remove(family int, rule func(*netlink.Rule) bool, route func(tableKey) bool) error {
	var errs []error
	rules, err := n.handle.RuleList(family)
	if err != nil {
		if family == unix.AF_INET {
			errs = append(errs, fmt.Errorf("rules: %w", err))
		}
		return errors.Join(errs...)
	}
	for _, r := range rules {
		if r.Priority < n.set.Preference || r.Priority > n.set.Preference+prefLast || n.besideRule(r.Priority) || !rule(&r) {
			continue
		}
		if err := n.handle.RuleDel(&r); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("remove rule %d: %w", r.Priority, err))
		}
	}
	routes, err := n.routes(family)
	errs = append(errs, err)
	for _, r := range routes {
		if !route(tableKey{prefixOf(r.Dst, family), r.Table}) {
			continue
		}
		if err := n.handle.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove route %s from table %d: %w", r.Dst, r.Table, err))
		}
	}
	return errors.Join(errs...)
}

// Our rules, counted from Settings.Preference. What carries our mark skips them, and goes on with all the other rules of the machine: it must not
// find our tables even if no other has a route for it.
const (
	prefMark     = iota // fwmark MARK goto prefLast; the same for what jumps (jump.go)
	prefSpecific        // some for each policy of single protocols or ports: lookup tableSpecific
	prefUnbound         // from 0.0.0.0 iif lo lookup tableUnbound; in IPv6 iif lo, behind aroundUnbound
	prefLocal           // one for each local prefix: from it lookup its table
	prefLast            // nop
)

func (n *Net) newRule(family, pref int) *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Priority = family, n.set.Preference+pref
	return r
}

// addRules puts the rules in place that never change. Those of an earlier daemon may be there.
func (n *Net) addRules() error {
	for _, family := range families {
		for _, r := range n.fixedRules(family) {
			err := n.addRule(r)
			if err != nil && family == unix.AF_INET6 {
				n.notes = append(n.notes, fmt.Sprintf("no IPv6 rules (%v): IPv6 traffic is not protected", err))
				break
			}
			if err != nil {
				return fmt.Errorf("rule %d: %w", r.Priority, err)
			}
		}
	}
	return nil
}

// addRule adds a rule that may be there.
func (n *Net) addRule(r *netlink.Rule) error {
	if err := n.handle.RuleAdd(r); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// fixedRules are the rules that never change, in the order in which they are added.
func (n *Net) fixedRules(family int) []*netlink.Rule {
	mark, free, last := n.newRule(family, prefMark), n.newRule(family, prefUnbound), n.newRule(family, prefLast)
	mark.Mark, mark.Goto = n.set.Mark, n.set.Preference+prefLast
	free.Table = n.set.Table + tableUnbound
	unbound(free)
	last.Type = nl.FR_ACT_NOP
	rules := []*netlink.Rule{last, mark}
	if family == unix.AF_INET6 {
		rules = append(rules, n.aroundUnbound()...)
	}
	return append(rules, free)
}

// aroundUnbound leads packets that have an IPv6 source around the rules for those that have none yet. IPv4 can say that in the rule itself; in IPv6 a rule with a
// source, `from ::` too, is never one for packets without (fib6_rule_match of the kernel), so these two take away all the others.
func (n *Net) aroundUnbound() []*netlink.Rule {
	nop := n.newRule(unix.AF_INET6, prefLocal)
	nop.Type = nl.FR_ACT_NOP
	rules := []*netlink.Rule{nop}
	for _, half := range []string{"::/1", "8000::/1"} {
		r := n.newRule(unix.AF_INET6, prefUnbound)
		r.Src, r.Goto = ipNet(netip.MustParsePrefix(half)), n.set.Preference+prefLocal
		rules = append(rules, r)
	}
	return rules
}

// sysctls sets what the TUN needs. Reverse path filtering would drop what comes out of a tunnel by a route that it does not expect: the kernel takes
// the larger of the values for all interfaces and for this one, and 2 (loose) is larger than 1 (strict).
func (n *Net) sysctls() {
	filter := "0"
	if read("ipv4/conf/all/rp_filter") != "0" {
		filter = "2"
	}
	if err := write("ipv4/conf/"+n.tun+"/rp_filter", filter); err != nil {
		n.notes = append(n.notes, fmt.Sprintf("rp_filter of %s cannot be set (%v): packets from tunnels may be dropped", n.tun, err))
	}
	// No address of its own, no router solicitations into tunnels. Without IPv6 there is nothing to set.
	_ = write("ipv6/conf/"+n.tun+"/addr_gen_mode", "1")
	_ = write("ipv6/conf/"+n.tun+"/accept_ra", "0")
	for _, name := range probe.StrictReversePath() {
		n.notes = append(n.notes, fmt.Sprintf("rp_filter is 1 (strict) on %s: sealed packets from a peer whose own address is protected are dropped there; set it to 2", name))
	}
}

const sysctlRoot = "/proc/sys/net/"

func read(name string) string {
	b, err := os.ReadFile(sysctlRoot + name)
	if err != nil {
		return "0"
	}
	return strings.TrimSpace(string(b))
}

func write(name, value string) error { return os.WriteFile(sysctlRoot+name, []byte(value), 0) }

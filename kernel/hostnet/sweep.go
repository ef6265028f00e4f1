package hostnet

import (
	"errors"
	"fmt"
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

// sweep removes what a daemon that ended without Close left behind. Rules at our preferences that are none of ours, and routes through another interface
// in our tables, mean that somebody else uses them: then nothing is touched.
func (n *Net) sweep() error {
	for _, family := range families {
		if err := n.foreignRule(family); err != nil {
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
	}
	return n.clear()
}

// foreignRule finds a rule of somebody else at our preferences.
func (n *Net) foreignRule(family int) error {
	rules, err := n.handle.RuleList(family)
	if err != nil {
		return nil // clear says so
	}
	first, last := n.set.Preference, n.set.Preference+prefLast
	for _, r := range rules {
		local := first + prefLocal
		nop := r.Table == 0 && r.Goto < 0 && (r.Priority == last || r.Priority == local)
		ours := r.Table >= n.set.Table && r.Table < n.set.Table+numTables || r.Goto == last || r.Goto == local || nop
		if r.Priority >= first && r.Priority <= last && !ours {
			return fmt.Errorf("preference=%d: rules %d to %d would be ours, but somebody else has rule %d (lookup %d); choose another number, or remove it: ip rule del pref %d",
				first, first, last, r.Priority, r.Table, r.Priority)
		}
	}
	return nil
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
	return slices.DeleteFunc(all, func(r netlink.Route) bool { return r.Table < n.set.Table || r.Table >= n.set.Table+numTables }), nil
}

// clear removes all rules at our preferences and all routes in our tables.
func (n *Net) clear() error {
	var errs []error
	for _, family := range families {
		rules, err := n.handle.RuleList(family)
		if err != nil {
			if family == unix.AF_INET {
				errs = append(errs, fmt.Errorf("rules: %w", err))
			}
			continue
		}
		for _, r := range rules {
			if r.Priority < n.set.Preference || r.Priority > n.set.Preference+prefLast {
				continue
			}
			if err := n.handle.RuleDel(n.newRule(family, r.Priority-n.set.Preference)); err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("remove rule %d: %w", r.Priority, err))
			}
		}
		routes, err := n.routes(family)
		errs = append(errs, err)
		for _, r := range routes {
			if err := n.handle.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("remove route %s from table %d: %w", r.Dst, r.Table, err))
			}
		}
	}
	return errors.Join(errs...)
}

// Our rules, counted from Settings.Preference. What carries our mark skips them, and goes on with all the other rules of the machine: it must not
// find our tables even if no other has a route for it.
const (
	prefMark     = iota // fwmark MARK goto prefLast
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

// addRules puts the rules in place that never change.
func (n *Net) addRules() error {
	for _, family := range families {
		mark, free, last := n.newRule(family, prefMark), n.newRule(family, prefUnbound), n.newRule(family, prefLast)
		mark.Mark, mark.Goto = n.set.Mark, n.set.Preference+prefLast
		free.Table = n.set.Table + tableUnbound
		unbound(free)
		last.Type = nl.FR_ACT_NOP
		rules := []*netlink.Rule{last, mark}
		if family == unix.AF_INET6 {
			rules = append(rules, n.aroundUnbound()...)
		}
		for _, r := range append(rules, free) {
			err := n.handle.RuleAdd(r)
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

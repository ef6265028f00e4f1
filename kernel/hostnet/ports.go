package hostnet

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ts"
)

// Rules lead the packets of policies of single protocols or ports to their routes. A route knows no ports: what stands in a table is meant for all packets that
// rules lead there. So most policies share one that leads all to the TUN; those that want more have a table with others that want just the same.

// portTable is what the policies in one table want alike. Comparable.
type portTable struct {
	src    netip.Addr // of packets made here whose source is not chosen yet; invalid: for packets that have one
	spared string     // what stays in clear, as text
}

// leftTable is a table that an earlier daemon has left.
type leftTable struct {
	number int
	spared string
}

// planSpecific wants one route, and a rule that leads only the packets of the policy to it. There is a rule for each such policy, which is slow for
// thousands. What is to pass has neither: a route knows no ports, and a throw would let all through that other policies lead past it.
func (n *Net) planSpecific(r *routed, local, remote ts.Selector, to netip.Prefix, w want) {
	if w.kind == unix.RTN_THROW {
		return
	}
	if local.Protocol != 0 && remote.Protocol != 0 && local.Protocol != remote.Protocol {
		return
	}
	k := ruleKey{pref: prefSpecific, to: to, protocol: max(local.Protocol, remote.Protocol)}
	if hasPorts(k.protocol) {
		k.sport, k.dport = ports(local), ports(remote)
	}
	clear := spared(r.policy.Local, to)
	for _, k.from = range (ts.Set{local}).Prefixes() {
		n.planPorts(r, k, clear, w.kind)
	}
	if w.source {
		k.from, k.unbound = netip.Prefix{}, true
		if to.Addr().Is6() {
			k.pref = prefUnbound
		}
		n.planPorts(r, k, clear, w.kind)
	}
}

// planPorts wants one rule and its routes.
func (n *Net) planPorts(r *routed, k ruleKey, clear []netip.Prefix, kind int) {
	t := portTable{}
	if k.unbound {
		t.src = r.source(k.to)
	}
	t.spared = textOf(clear)
	var own bool
	if k.table, own = n.tableFor(t, k); !own {
		t = portTable{}
	}
	r.add(k)
	r.routes[tableKey{k.to, k.table}] = want{kind, t.src.IsValid()}
	if t.spared == "" {
		return
	}
	for _, p := range clear {
		r.routes[tableKey{p, k.table}] = want{kind: unix.RTN_THROW}
	}
}

// tableFor finds the table for what policies want alike, or a free one. Without one they share that for which nothing is special, own is false, and then less
// is let through: nothing of the remote side stays in clear, and packets whose source is not chosen are dropped in the TUN unless the system chooses a right one.
func (n *Net) tableFor(t portTable, k ruleKey) (number int, own bool) {
	if t == (portTable{}) {
		return n.set.Table + tableSpecific, true
	}
	for number, other := range n.ports {
		if other == t {
			return number, true
		}
	}
	k.table = 0
	if left, ok := n.leftRules[identify(n.rule(k))]; ok && left.spared == t.spared && n.ports[left.number] == (portTable{}) {
		n.ports[left.number] = t // its rules go on leading there
		return left.number, true
	}
	for number := n.set.Table + tablePorts; number < n.set.Table+numTables; number++ {
		if n.ports[number] == (portTable{}) && !n.leftTables[number] {
			n.ports[number] = t
			return number, true
		}
	}
	return n.set.Table + tableSpecific, false
}

// freePorts gives a table back that no rule leads to any more.
func (n *Net) freePorts(table int) {
	if _, ok := n.ports[table]; !ok {
		return
	}
	for k := range n.rules {
		if k.table == table {
			return
		}
	}
	delete(n.ports, table)
}

// textOf is the same for the same prefixes, in whatever order; "" for none.
func textOf(list []netip.Prefix) string {
	var words []string
	for _, p := range list {
		words = append(words, p.String())
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

// forPorts reports whether a table is for policies of single protocols or ports.
func (n *Net) forPorts(table int) bool {
	return table == n.set.Table+tableSpecific || table >= n.set.Table+tablePorts
}

// adoptPorts notes which tables an earlier daemon has left: no policy gets one of them in which something else stands than it wants, as long as that may be there.
func (n *Net) adoptPorts(family int, rules []netlink.Rule, routes []netlink.Route) {
	found := map[int][]netip.Prefix{}
	for _, r := range routes {
		if r.Table < n.set.Table+tablePorts {
			continue
		}
		n.leftTables[r.Table] = true
		if r.Type == unix.RTN_THROW {
			found[r.Table] = append(found[r.Table], prefixOf(r.Dst, family))
		}
	}
	for _, r := range rules {
		if r.Table < n.set.Table+tablePorts || r.Table >= n.set.Table+numTables {
			continue
		}
		n.leftTables[r.Table] = true
		left := leftTable{number: r.Table, spared: textOf(found[r.Table])}
		r.Table = 0
		n.leftRules[identify(&r)] = left
	}
}

func specific(s ts.Selector) bool { return s.Protocol != 0 || !s.AnyPort() }

func specificPairs(p kernel.Policy) (out []selectors) {
	for _, l := range p.Local {
		for _, r := range p.Remote {
			if l.Start.BitLen() == r.Start.BitLen() && (specific(l) || specific(r)) {
				out = append(out, selectors{l, r})
			}
		}
	}
	return out
}

func hasPorts(protocol uint8) bool {
	return protocol == unix.IPPROTO_TCP || protocol == unix.IPPROTO_UDP || protocol == unix.IPPROTO_SCTP || protocol == unix.IPPROTO_DCCP
}

// ports returns a selector's ports; zero: any.
func ports(s ts.Selector) portRange {
	first, last := kernel.RulePorts(s)
	return portRange{first, last}
}

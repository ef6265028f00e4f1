package hostnet

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ts"
)

// routed is what one policy wants.
type routed struct {
	policy kernel.Policy
	mtu    int
	src    [2]netip.Addr // of packets made here, IPv4 and IPv6
	counts bool          // among those that need the policy's SourceIP on the TUN
	routes map[tableKey]want
	rules  []ruleKey
	guards []selectors // for the guard: pairs with single protocols or ports
}

// tableKey is a prefix in one of our tables.
type tableKey struct {
	prefix netip.Prefix
	table  int
}

// want is a route that a policy wants.
type want struct {
	kind   int  // unix.RTN_UNICAST or unix.RTN_THROW
	source bool // with the policy's source address
}

// ruleKey is one of our rules, but for those that never change.
type ruleKey struct {
	pref         int
	unbound      bool         // packets made here whose source is not chosen yet
	from, to     netip.Prefix // invalid: any
	protocol     uint8
	sport, dport portRange
	table        int
	jump         bool // past all of our tables, see jump.go
}

type portRange struct{ first, last uint16 }

// The tables, counted from Settings.Table.
const (
	tableUnbound  = iota // for packets made here whose source is not chosen yet: routes with a source address
	tableSpecific        // for policies of single protocols or ports
	tableLocals          // the first of those for one local prefix each
	maxLocals     = 256
	numTables     = tableLocals + maxLocals
)

// plan works out what a policy wants.
func (n *Net) plan(p kernel.Policy, mtu int) *routed {
	r := &routed{policy: p, mtu: mtu, routes: map[tableKey]want{}}
	for i, family := range families {
		r.src[i] = p.SourceIP
		if wants6 := family == unix.AF_INET6; !p.SourceIP.IsValid() || p.SourceIP.Is6() != wants6 {
			r.src[i] = n.sourceInside(p.Local, family)
		}
	}
	kind := unix.RTN_UNICAST
	if p.Action == kernel.Pass {
		kind = unix.RTN_THROW
	}
	for _, remote := range p.Remote {
		for _, to := range (ts.Set{remote}).Prefixes() {
			if to.Addr().Is6() && to.Addr().IsLinkLocalUnicast() {
				continue // whatever was negotiated
			}
			unbound := n.takesUnbound(p, r.source(to), to)
			for _, local := range p.Local {
				if local.Start.BitLen() != remote.Start.BitLen() {
					continue
				}
				if specific(local) || specific(remote) {
					n.planSpecific(r, local, remote, to, want{kind, unbound})
				} else {
					n.planWhole(r, local, to, want{kind, unbound})
				}
			}
		}
	}
	if kind == unix.RTN_UNICAST {
		r.spare(p.Local)
		r.guards = specificPairs(p)
	}
	return r
}

// source is the source address of packets made here to a prefix; invalid: none.
func (r *routed) source(to netip.Prefix) netip.Addr {
	if to.Addr().Is6() {
		return r.src[1]
	}
	return r.src[0]
}

// planWhole wants a route in the table of each local prefix, which only packets from that prefix look up: what comes from elsewhere goes on as if
// we were not here.
func (n *Net) planWhole(r *routed, local ts.Selector, to netip.Prefix, w want) {
	for _, from := range (ts.Set{local}).Prefixes() {
		from, table := n.tableOf(from)
		r.add(ruleKey{pref: prefLocal, from: from, table: table})
		r.routes[tableKey{to, table}] = want{kind: w.kind}
	}
	if w.source {
		r.routes[tableKey{to, n.set.Table + tableUnbound}] = w
	}
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
	k := ruleKey{pref: prefSpecific, to: to, protocol: max(local.Protocol, remote.Protocol), table: n.set.Table + tableSpecific}
	if hasPorts(k.protocol) {
		k.sport, k.dport = ports(local), ports(remote)
	}
	for _, k.from = range (ts.Set{local}).Prefixes() {
		r.add(k)
	}
	if w.source {
		k.from, k.unbound = netip.Prefix{}, true
		if to.Addr().Is6() {
			k.pref = prefUnbound
		}
		r.add(k)
	}
	r.routes[tableKey{to, k.table}] = w
}

func (r *routed) add(k ruleKey) {
	if !slices.Contains(r.rules, k) {
		r.rules = append(r.rules, k)
	}
}

// spare keeps our own networks, and what belongs to a link, out of a wider remote side like 0.0.0.0/0.
func (r *routed) spare(local ts.Set) {
	for _, link := range ts.LinkBound() {
		for k := range r.routes {
			if k.prefix.Bits() < link.Bits() && k.prefix.Overlaps(link) {
				r.routes[tableKey{link, k.table}] = want{kind: unix.RTN_THROW}
			}
		}
	}
	for _, own := range local.Prefixes() {
		for k := range r.routes {
			if k.prefix.Bits() < own.Bits() && k.prefix.Overlaps(own) && !own.IsSingleIP() {
				r.routes[tableKey{own, k.table}] = want{kind: unix.RTN_THROW}
			}
		}
	}
}

// takesUnbound reports whether packets made here whose source is not chosen yet belong to the policy, with src as their source: if the operator
// names the source (leftsourceip=), if the system would choose one inside the local selectors, and for the sake of ikegod's user also where an address of
// ours is inside, unless the remote side is everything: the gateway of a network that sends all it has through a tunnel keeps its own way out.
func (n *Net) takesUnbound(p kernel.Policy, src netip.Addr, to netip.Prefix) bool {
	switch {
	case !src.IsValid():
		return false
	case src == p.SourceIP || to.Bits() > 0:
		return true
	}
	somewhere := netip.AddrFrom4([4]byte{198, 51, 100, 1}) // documentation addresses: in no table but by the default route
	if to.Addr().Is6() {
		somewhere = netip.MustParseAddr("2001:db8::1")
	}
	routes, err := n.handle.RouteGetWithOptions(somewhere.AsSlice(), &netlink.RouteGetOptions{Mark: n.set.Mark})
	if err != nil || len(routes) == 0 {
		return false
	}
	a, ok := netip.AddrFromSlice(routes[0].Src)
	return ok && inside(p.Local, a.Unmap())
}

// tableOf finds the table of a local prefix, or a free one. With too many different ones the last shares the table of everything: then packets from
// elsewhere are led to the TUN too, and dropped there.
func (n *Net) tableOf(from netip.Prefix) (netip.Prefix, int) {
	if table, ok := n.locals[from]; ok {
		return from, table
	}
	if len(n.locals) >= maxLocals-2 && from.Bits() > 0 { // two are kept for everything, IPv4 and IPv6
		return n.tableOf(netip.PrefixFrom(from.Addr(), 0).Masked())
	}
	taken := map[int]bool{}
	for _, table := range n.locals {
		taken[table] = true
	}
	table := n.set.Table + tableLocals
	for taken[table] {
		table++
	}
	n.locals[from] = table
	return from, table
}

// sourceInside finds an address of ours inside the selectors, so that packets made here match the policy (leftsourceip= does it explicitly).
func (n *Net) sourceInside(local ts.Set, family int) netip.Addr {
	addrs, err := n.handle.AddrList(nil, family)
	if err != nil {
		return netip.Addr{}
	}
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ip = ip.Unmap(); !ok || ip.IsLoopback() || ip.IsLinkLocalUnicast() || a.LinkIndex == n.index {
			continue
		}
		if inside(local, ip) {
			return ip
		}
	}
	return netip.Addr{}
}

func inside(set ts.Set, a netip.Addr) bool {
	return slices.ContainsFunc(set, func(s ts.Selector) bool {
		return s.Start.BitLen() == a.BitLen() && !a.Less(s.Start) && !s.End.Less(a)
	})
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
	if s.AnyPort() || s.Opaque() {
		return portRange{}
	}
	return portRange{s.StartPort, s.EndPort}
}

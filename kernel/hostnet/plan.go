package hostnet

import (
	"maps"
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
	maxLocals     = 192
	tablePorts    = tableLocals + maxLocals // the first of those for policies of single protocols or ports that do not share tableSpecific, see ports.go
	maxPorts      = 64
	numTables     = tablePorts + maxPorts
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
			// What lets pass takes none to itself: setPrefix asks whether it may have those that a tunnel would get else.
			unbound := kind == unix.RTN_THROW || n.takesUnbound(p, r.source(to), to)
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
		n.spare(r)
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

func (r *routed) add(k ruleKey) {
	if !slices.Contains(r.rules, k) {
		r.rules = append(r.rules, k)
	}
}

// spare keeps what spared says out of the routes of a policy without protocols and ports.
func (n *Net) spare(r *routed) {
	for _, k := range slices.Collect(maps.Keys(r.routes)) {
		if n.forPorts(k.table) {
			continue
		}
		for _, out := range spared(r.policy.Local, k.prefix) {
			r.routes[tableKey{out, k.table}] = want{kind: unix.RTN_THROW}
		}
	}
}

// spared is what stays in clear of a remote prefix like 0.0.0.0/0: our own networks, and what belongs to a link.
func spared(local ts.Set, to netip.Prefix) (out []netip.Prefix) {
	for _, p := range ts.LinkBound() {
		if to.Bits() < p.Bits() && to.Overlaps(p) {
			out = append(out, p)
		}
	}
	for _, own := range local.Prefixes() {
		if to.Bits() < own.Bits() && to.Overlaps(own) && !own.IsSingleIP() && !slices.Contains(out, own) {
			out = append(out, own)
		}
	}
	return out
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
	return inside(p.Local, n.systemSource(to))
}

// systemSource is the source address that the system would choose for a prefix without us; invalid: none.
func (n *Net) systemSource(to netip.Prefix) netip.Addr {
	a := to.Addr()
	switch {
	case to.Bits() == 0 && a.Is6(): // documentation addresses: in no table but by the default route
		a = netip.MustParseAddr("2001:db8::1")
	case to.Bits() == 0:
		a = netip.AddrFrom4([4]byte{198, 51, 100, 1})
	case !to.IsSingleIP():
		a = a.Next() // the first may be no host
	}
	routes, err := n.handle.RouteGetWithOptions(a.AsSlice(), &netlink.RouteGetOptions{Mark: n.set.Mark})
	if err != nil || len(routes) == 0 {
		return netip.Addr{}
	}
	src, _ := netip.AddrFromSlice(routes[0].Src)
	return src.Unmap()
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

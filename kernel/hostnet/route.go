package hostnet

import (
	"errors"
	"fmt"
	"net"
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
	src    netip.Addr
	wants  map[tableKey]int // route types by prefix
	rules  []ruleKey
	clear  []selectors // for the guard
}

// tableKey is a prefix in one of our tables.
type tableKey struct {
	prefix netip.Prefix
	table  int
}

// ruleKey is a rule for one protocol, with ports or without, that leads to Table+1.
type ruleKey struct {
	remote       netip.Prefix
	protocol     uint8
	sport, dport portRange
}

type portRange struct{ first, last uint16 }

// Route leads the policy's traffic to the TUN, or around our table for Pass. It replaces what it did for the same ID. mtu zero sets none. After an
// error nothing has changed.
func (n *Net) Route(p kernel.Policy, mtu int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	next := n.plan(p, mtu)
	old := n.policies[p.ID]
	if err := n.swap(old, next); err != nil {
		return errors.Join(err, n.swap(next, old))
	}
	n.policies[p.ID] = next
	return nil
}

// Unroute takes away what Route did for a policy.
func (n *Net) Unroute(id kernel.PolicyID) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.policies[id]
	if old == nil {
		return nil
	}
	delete(n.policies, id)
	return n.swap(old, nil)
}

// plan works out what a policy wants.
func (n *Net) plan(p kernel.Policy, mtu int) *routed {
	r := &routed{policy: p, mtu: mtu, src: p.SourceIP, wants: map[tableKey]int{}}
	if !r.src.IsValid() {
		r.src = n.sourceInside(p.Local)
	}
	kind := unix.RTN_UNICAST
	if p.Action == kernel.Pass {
		kind = unix.RTN_THROW
	}
	for _, remote := range p.Remote {
		for _, prefix := range (ts.Set{remote}).Prefixes() {
			if specific := specificLocals(p.Local, remote); specific != nil {
				r.wants[tableKey{prefix, n.set.Table + 1}] = kind
				r.rules = append(r.rules, rulesFor(specific, remote, prefix)...)
			} else {
				r.wants[tableKey{prefix, n.set.Table}] = kind
			}
		}
	}
	// With a remote side like 0.0.0.0/0 our own networks would be routed into the tunnel too.
	for _, local := range p.Local.Prefixes() {
		for k := range r.wants {
			if kind == unix.RTN_UNICAST && k.prefix.Bits() < local.Bits() && k.prefix.Overlaps(local) && !local.IsSingleIP() {
				r.wants[tableKey{local, k.table}] = unix.RTN_THROW
			}
		}
	}
	if kind == unix.RTN_UNICAST {
		r.clear = pairsOf(p)
	}
	return r
}

// specificLocals returns the local selectors if traffic between them and remote is chosen by protocol or port, else nil.
func specificLocals(local ts.Set, remote ts.Selector) ts.Set {
	if specific(remote) || slices.ContainsFunc(local, specific) {
		return local
	}
	return nil
}

func specific(s ts.Selector) bool { return s.Protocol != 0 || !s.AnyPort() }

// rulesFor makes the rules for one remote prefix. Only outbound packets are routed by them, so the remote port is the destination's.
func rulesFor(local ts.Set, remote ts.Selector, prefix netip.Prefix) (out []ruleKey) {
	for _, l := range local {
		protocol := max(l.Protocol, remote.Protocol)
		if l.Protocol != 0 && remote.Protocol != 0 && l.Protocol != remote.Protocol {
			continue
		}
		k := ruleKey{remote: prefix, protocol: protocol}
		if hasPorts(protocol) {
			k.sport, k.dport = ports(l), ports(remote)
		}
		if !slices.Contains(out, k) {
			out = append(out, k)
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

// sourceInside finds an address of ours inside the selectors, so that packets made here match the policy (leftsourceip= does it explicitly).
func (n *Net) sourceInside(local ts.Set) netip.Addr {
	for _, family := range families {
		addrs, err := n.handle.AddrList(nil, family)
		if err != nil {
			continue
		}
		for _, a := range addrs {
			ip, ok := netip.AddrFromSlice(a.IP)
			if ip = ip.Unmap(); !ok || ip.IsLoopback() || ip.IsLinkLocalUnicast() || a.LinkIndex == n.index {
				continue
			}
			for _, s := range local {
				if s.Start.BitLen() == ip.BitLen() && !ip.Less(s.Start) && !s.End.Less(ip) {
					return ip
				}
			}
		}
	}
	return netip.Addr{}
}

// swap goes from what one policy wanted to what its successor wants; either may be nil. New things come before old ones go, so that no packet
// finds a gap.
func (n *Net) swap(old, next *routed) error {
	var errs []error
	if next != nil {
		errs = append(errs, n.addSource(next), n.wantRules(next))
	}
	touched := map[tableKey]bool{}
	for _, r := range []*routed{old, next} {
		if r == nil {
			continue
		}
		for k := range r.wants {
			touched[k] = true
		}
	}
	for k := range touched {
		list := slices.DeleteFunc(slices.Clone(n.prefixes[k]), func(r *routed) bool { return r == old || r == next })
		if next != nil {
			if _, ok := next.wants[k]; ok {
				list = append(list, next)
			}
		}
		errs = append(errs, n.setPrefix(k, list))
	}
	if n.guard != nil {
		errs = append(errs, n.guard.swap(old, next))
	}
	if old != nil {
		errs = append(errs, n.dropRules(old), n.dropSource(old))
	}
	return errors.Join(errs...)
}

// setPrefix makes one route for all the policies that want a prefix. Protection is stronger than letting pass; the MTU is the smallest, the source
// that of the newest policy that has one.
func (n *Net) setPrefix(k tableKey, list []*routed) error {
	before := len(n.prefixes[k])
	if len(list) == 0 {
		delete(n.prefixes, k)
		if before == 0 {
			return nil
		}
		gone := n.route(k, unix.RTN_UNSPEC)
		gone.Scope = netlink.SCOPE_NOWHERE // any
		err := n.handle.RouteDel(gone)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove route %s from table %d: %w", k.prefix, k.table, err)
		}
		return nil
	}
	n.prefixes[k] = list
	r := n.route(k, unix.RTN_THROW)
	for _, want := range list {
		if want.wants[k] != unix.RTN_UNICAST {
			continue
		}
		r.Type, r.LinkIndex, r.Scope = unix.RTN_UNICAST, n.index, netlink.SCOPE_LINK
		if want.src.IsValid() && want.src.Is4() == k.prefix.Addr().Is4() {
			r.Src = want.src.AsSlice()
		}
		if want.mtu > 0 && (r.MTU == 0 || want.mtu < r.MTU) {
			r.MTU = want.mtu
		}
	}
	if err := n.handle.RouteReplace(r); err != nil {
		return fmt.Errorf("route %s in table %d: %w", k.prefix, k.table, err)
	}
	return nil
}

func (n *Net) route(k tableKey, kind int) *netlink.Route {
	return &netlink.Route{Dst: ipNet(k.prefix), Table: k.table, Type: kind, Scope: netlink.SCOPE_UNIVERSE}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Masked().Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// addSource puts a source address that no interface has on the TUN (leftsourceip=, an address assigned by the peer).
func (n *Net) addSource(r *routed) error {
	a := r.policy.SourceIP
	if !a.IsValid() || r.policy.Action == kernel.Pass {
		return nil
	}
	if n.added[a] == 0 && n.has(a) {
		return nil
	}
	n.added[a]++
	if n.added[a] > 1 {
		return nil
	}
	err := n.changeAddr(a, n.handle.AddrReplace)
	if err != nil {
		return fmt.Errorf("address %s on %s: %w", a, n.tun, err)
	}
	return nil
}

func (n *Net) dropSource(r *routed) error {
	a := r.policy.SourceIP
	if n.added[a] == 0 {
		return nil
	}
	n.added[a]--
	if n.added[a] > 0 {
		return nil
	}
	delete(n.added, a)
	if err := n.changeAddr(a, n.handle.AddrDel); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove address %s from %s: %w", a, n.tun, err)
	}
	return nil
}

func (n *Net) changeAddr(a netip.Addr, change func(netlink.Link, *netlink.Addr) error) error {
	link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: n.index, Name: n.tun}}
	return change(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, a.BitLen()))})
}

func (n *Net) has(a netip.Addr) bool {
	family := unix.AF_INET
	if a.Is6() {
		family = unix.AF_INET6
	}
	addrs, err := n.handle.AddrList(nil, family)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(addrs, func(b netlink.Addr) bool {
		ip, ok := netip.AddrFromSlice(b.IP)
		return ok && ip.Unmap() == a
	})
}

// wantRules leads a policy for single protocols or ports to Table+1: its traffic alone goes to the TUN, the rest between the same addresses in clear.
// There is a rule for each, which is slow for thousands; policies for whole prefixes need none.
func (n *Net) wantRules(r *routed) error {
	var errs []error
	for _, k := range r.rules {
		n.rules[k]++
		if n.rules[k] > 1 {
			continue
		}
		if err := n.handle.RuleAdd(n.rule(k)); err != nil {
			errs = append(errs, fmt.Errorf("rule for %s: %w", k.remote, err))
		}
	}
	return errors.Join(errs...)
}

func (n *Net) dropRules(r *routed) error {
	var errs []error
	for _, k := range r.rules {
		n.rules[k]--
		if n.rules[k] > 0 {
			continue
		}
		delete(n.rules, k)
		if err := n.handle.RuleDel(n.rule(k)); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("remove rule for %s: %w", k.remote, err))
		}
	}
	return errors.Join(errs...)
}

func (n *Net) rule(k ruleKey) *netlink.Rule {
	family := unix.AF_INET
	if k.remote.Addr().Is6() {
		family = unix.AF_INET6
	}
	r := n.newRule(family, prefSpecific)
	r.Table, r.Dst, r.IPProto = n.set.Table+1, ipNet(k.remote), int(k.protocol)
	if k.sport != (portRange{}) {
		r.Sport = netlink.NewRulePortRange(k.sport.first, k.sport.last)
	}
	if k.dport != (portRange{}) {
		r.Dport = netlink.NewRulePortRange(k.dport.first, k.dport.last)
	}
	return r
}

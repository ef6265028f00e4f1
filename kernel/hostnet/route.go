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
)

// Route leads the policy's traffic to the TUN, or around our table for Pass. It replaces what it did for the same ID. mtu zero sets none. After an
// error nothing has changed.
func (n *Net) Route(p kernel.Policy, mtu int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	next := n.plan(p, mtu)
	old := n.policies[p.ID]
	n.jump(next)
	if err := n.stopJumps(next); err != nil {
		return err
	}
	if err := n.swap(old, next); err != nil {
		return errors.Join(err, n.swap(next, old))
	}
	n.policies[p.ID] = next
	if delete(n.passing, p.ID); p.Action == kernel.Pass {
		n.passing[p.ID] = true
	}
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
	delete(n.passing, id)
	return n.swap(old, nil)
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
		for k := range r.routes {
			touched[k] = true
		}
	}
	for k := range touched {
		errs = append(errs, n.setPrefix(k, n.replaced(k, old, next)))
	}
	errs = append(errs, n.judgePasses(touched))
	if n.guard != nil {
		errs = append(errs, n.guard.swap(old, next))
	}
	if old != nil {
		errs = append(errs, n.dropRules(old), n.dropSource(old))
	}
	return errors.Join(errs...)
}

// replaced are the policies that want a prefix, with next instead of old, at its place.
func (n *Net) replaced(k tableKey, old, next *routed) (list []*routed) {
	wants := false
	if next != nil {
		_, wants = next.routes[k]
	}
	for _, r := range n.prefixes[k] {
		switch {
		case r != old && r != next:
			list = append(list, r)
		case wants:
			list, wants = append(list, next), false
		}
	}
	if wants {
		list = append(list, next)
	}
	return list
}

// setPrefix makes one route for all the policies that want a prefix. Protection is stronger than letting pass; the MTU is the smallest, the source that of the
// policy that sourceOf finds.
func (n *Net) setPrefix(k tableKey, list []*routed) error {
	if len(list) == 0 {
		if len(n.prefixes[k]) == 0 {
			return nil
		}
		delete(n.prefixes, k)
		return errors.Join(n.dropRoute(k, 0), n.dropRoute(k, lastResort))
	}
	n.prefixes[k] = list
	r := n.route(k, unix.RTN_THROW)
	for _, who := range list {
		if who.routes[k].kind != unix.RTN_UNICAST {
			continue
		}
		r.Type, r.LinkIndex, r.Scope = unix.RTN_UNICAST, n.index, netlink.SCOPE_LINK
		if who.mtu > 0 && (r.MTU == 0 || who.mtu < r.MTU) {
			r.MTU = who.mtu
		}
	}
	if who := n.sourceOf(k, list); who != nil {
		r.Src = who.source(k.prefix).AsSlice()
	}
	if r.Type == unix.RTN_THROW && k.table == n.set.Table+tableUnbound && !n.passesUnbound(k, list) {
		return errors.Join(n.dropRoute(k, 0), n.dropRoute(k, lastResort))
	}
	if err := n.handle.RouteReplace(r); err != nil {
		return fmt.Errorf("route %s in table %d: %w", k.prefix, k.table, err)
	}
	if r.Type == unix.RTN_THROW {
		return n.dropRoute(k, lastResort)
	}
	hole := n.route(k, unix.RTN_BLACKHOLE)
	hole.Priority = lastResort
	if err := n.handle.RouteReplace(hole); err != nil {
		return fmt.Errorf("blackhole %s in table %d: %w", k.prefix, k.table, err)
	}
	return nil
}

// lastResort is the metric of the blackhole behind each route to the TUN. If the TUN is set down, or goes because ikegod was killed, the kernel takes the
// route away, and protected traffic would flow in clear.
const lastResort = 1 << 30

// dropRoute removes the route of a metric, if it is there; zero: the first.
func (n *Net) dropRoute(k tableKey, metric int) error {
	gone := n.route(k, unix.RTN_UNSPEC)
	gone.Scope, gone.Priority = netlink.SCOPE_NOWHERE, metric // any scope
	if err := n.handle.RouteDel(gone); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove route %s from table %d: %w", k.prefix, k.table, err)
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
	r.counts = true
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
	if !r.counts {
		return nil
	}
	r.counts = false
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

// wantRules puts the rules of a policy in place that no other has, dropRules takes those away that no other wants any more.
func (n *Net) wantRules(r *routed) error {
	var errs []error
	for _, k := range r.rules {
		n.rules[k]++
		if n.rules[k] > 1 {
			continue
		}
		if err := n.addRule(n.rule(k)); err != nil {
			errs = append(errs, fmt.Errorf("rule for table %d: %w", k.table, err))
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
		if k.pref == prefLocal {
			delete(n.locals, k.from)
		}
		n.freePorts(k.table)
		if err := n.handle.RuleDel(n.rule(k)); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("remove rule for table %d: %w", k.table, err))
		}
	}
	return errors.Join(errs...)
}

func (n *Net) rule(k ruleKey) *netlink.Rule {
	family := unix.AF_INET
	if k.from.Addr().Is6() || k.to.Addr().Is6() {
		family = unix.AF_INET6
	}
	r := n.newRule(family, k.pref)
	r.Table, r.IPProto = k.table, int(k.protocol)
	if k.jump {
		r.Goto = n.set.Preference + prefLast
	}
	if k.unbound {
		unbound(r)
	}
	if k.from.Bits() > 0 {
		r.Src = ipNet(k.from)
	}
	if k.to.IsValid() && k.to.Bits() > 0 { // of all the kernel tells nothing, and sweepOwn compares
		r.Dst = ipNet(k.to)
	}
	if k.sport != (portRange{}) {
		r.Sport = netlink.NewRulePortRange(k.sport.first, k.sport.last)
	}
	if k.dport != (portRange{}) {
		r.Dport = netlink.NewRulePortRange(k.dport.first, k.dport.last)
	}
	return r
}

// unbound makes a rule one for packets made here whose source is not chosen yet; in IPv6 its place does the rest.
func unbound(r *netlink.Rule) {
	r.IifName = "lo"
	if r.Family == unix.AF_INET {
		r.Src = ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 32))
	}
}

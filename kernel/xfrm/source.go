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

// sources are routes that give packets of this host itself the source address of a policy (leftsourceip=, or an address of ours inside its local side): with
// another they are no traffic of the policy, and would go in clear. A policy's MTU is on them too. They lead where packets go anyhow, stand in a table of their
// own, which rules have packets look up whose source is not chosen yet, and are left out where the source is right without. The worker's.
type sources struct {
	handle *netlink.Handle
	table  int
	users  map[kernel.PolicyID][]netip.Prefix
	made   map[netip.Prefix]*sourceRoute
}

type sourceRoute struct {
	src   netip.Addr
	route netlink.Route
	users int
}

// sourceTable is the first of the tables, one for each share; sourcePreference is that of the rules.
const (
	sourceTable      = 4800
	sourcePreference = 4499
)

func newSources(h *netlink.Handle, s *share) *sources {
	return &sources{h, sourceTable + int(s.number), map[kernel.PolicyID][]netip.Prefix{}, map[netip.Prefix]*sourceRoute{}}
}

// rule leads packets of this host to the table: in IPv4 those without a source. IPv6 cannot tell them apart, there a route in the table leads the others where
// they would go anyhow.
func (s *sources) rule(family int) *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Priority, r.Table, r.IifName = family, sourcePreference, s.table, "lo"
	if family == unix.AF_INET {
		r.Src = ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 32))
	}
	return r
}

// sweep removes what an earlier daemon has left.
func (s *sources) sweep() error {
	var errs []error
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		rules, err := s.handle.RuleList(family)
		if err != nil {
			continue // no IPv6 here
		}
		for _, r := range rules {
			if r.Table == s.table && r.Priority == sourcePreference {
				errs = append(errs, s.handle.RuleDel(s.rule(family)))
			}
		}
		all, err := s.handle.RouteListFiltered(family, &netlink.Route{Table: s.table}, netlink.RT_FILTER_TABLE)
		if err != nil {
			continue
		}
		for _, r := range all {
			errs = append(errs, s.handle.RouteDel(&r))
		}
	}
	return errors.Join(errs...)
}

// ruled adds or removes the rule of a family with its first and last route.
func (s *sources) ruled(to netip.Prefix, change func(*netlink.Rule) error) error {
	for other := range s.made {
		if other.Addr().Is4() == to.Addr().Is4() {
			return nil
		}
	}
	family := unix.AF_INET
	if to.Addr().Is6() {
		family = unix.AF_INET6
	}
	if err := change(s.rule(family)); err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENOENT) {
		return refused(fmt.Sprintf("rule %d for table %d", sourcePreference, s.table), err)
	}
	return nil
}

// use makes the routes of a policy; peer, if valid, is on the way where there is no other. Those that it had and does not want go.
func (s *sources) use(p *kernel.Policy, peer netip.Addr) error {
	var next []netip.Prefix
	for _, to := range wantSource(p) {
		made, err := s.make(p, to, peer)
		if err != nil {
			old := s.users[p.ID]
			s.users[p.ID] = next
			err = errors.Join(err, s.drop(p.ID))
			s.users[p.ID] = old
			return err
		}
		if made {
			next = append(next, to)
		}
	}
	err := s.drop(p.ID)
	if len(next) > 0 {
		s.users[p.ID] = next
	}
	return err
}

// make makes one route, or finds it made. False: it is not needed, or there is no way yet. Of policies with different sources for one prefix the last decides.
func (s *sources) make(p *kernel.Policy, to netip.Prefix, peer netip.Addr) (bool, error) {
	route, ok := s.plan(p, to, peer)
	if !ok {
		return false, nil
	}
	if err := s.ruled(to, s.handle.RuleAdd); err != nil {
		return false, err
	}
	there := s.made[to]
	if there == nil {
		there = &sourceRoute{}
		s.made[to] = there
	}
	// Also where it has been made: the kernel drops the routes of a link that goes down, and says so to nobody here.
	if err := s.handle.RouteReplace(&route); err != nil {
		if there.users == 0 {
			delete(s.made, to)
			err = errors.Join(err, s.ruled(to, s.handle.RuleDel))
		}
		return false, refused(fmt.Sprintf("route to %s with source %s", to, p.SourceIP), err)
	}
	there.src, there.route = p.SourceIP, route
	there.users++
	return true, nil
}

// wantSource is where the policy's source address is wanted. Everything is two halves, beside the default route.
func wantSource(p *kernel.Policy) (out []netip.Prefix) {
	if p.Action == kernel.Pass || p.InboundOnly || p.Interface.Name != "" || !p.SourceIP.IsValid() {
		return nil
	}
	for _, to := range p.Remote.Prefixes() {
		if to.Addr().Is6() != p.SourceIP.Is6() || slices.ContainsFunc(ts.LinkBound(), func(l netip.Prefix) bool { return l.Overlaps(to) && to.Bits() >= l.Bits() }) {
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

// plan finds the way to a prefix. False: no route is needed, or there is no way yet.
func (s *sources) plan(p *kernel.Policy, to netip.Prefix, peer netip.Addr) (route netlink.Route, ok bool) {
	way, err := s.handle.RouteGet(insideOf(to).AsSlice())
	if (err != nil || len(way) == 0) && peer.IsValid() && peer.Is6() == to.Addr().Is6() {
		way, err = s.handle.RouteGet(peer.AsSlice())
	}
	if err != nil || len(way) == 0 || way[0].Type != unix.RTN_UNICAST {
		return route, false
	}
	src, _ := netip.AddrFromSlice(way[0].Src)
	if src.Unmap() == p.SourceIP && p.MTU == 0 && s.made[to] == nil { // if it is made, the answer is that
		return route, false
	}
	return netlink.Route{
		Dst: ipNet(to), Gw: way[0].Gw, LinkIndex: way[0].LinkIndex, Src: p.SourceIP.AsSlice(), MTU: p.MTU, Protocol: routeProtocol, Table: s.table,
	}, true
}

// insideOf is an address of a prefix, not its first one, which may be none.
func insideOf(p netip.Prefix) netip.Addr {
	if p.IsSingleIP() {
		return p.Addr()
	}
	return p.Addr().Next()
}

// drop removes the routes of a policy.
func (s *sources) drop(id kernel.PolicyID) error {
	var errs []error
	for _, to := range s.users[id] {
		r := s.made[to]
		if r.users--; r.users > 0 {
			continue
		}
		delete(s.made, to)
		if err := s.handle.RouteDel(&r.route); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, refused(fmt.Sprintf("remove the route to %s with source %s", to, r.src), err))
		}
		errs = append(errs, s.ruled(to, s.handle.RuleDel))
	}
	delete(s.users, id)
	return errors.Join(errs...)
}

func (s *sources) close() error {
	var errs []error
	for id := range s.users {
		errs = append(errs, s.drop(id))
	}
	return errors.Join(errs...)
}

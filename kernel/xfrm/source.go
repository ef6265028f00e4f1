package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
)

// sources are routes that give packets of this host itself the source address of a policy (leftsourceip=, or an address of ours inside its local side): with
// another they are no traffic of the policy, and would go in clear. A policy's MTU is on them too. They lead where packets go anyhow, stand in a table of their
// own, which rules have packets look up whose source is not chosen yet, and are left out where the source is right without. The worker's.
type sources struct {
	handle *netlink.Handle
	mark   uint32 // of questions for the way
	table  int    // for all packets; ports has more
	ports  portTables
	users  map[kernel.PolicyID][]sourcePlace
	made   map[sourcePlace]*sourceRoute
	// What an earlier daemon has left, until sweep: its routes, for which families its rule, and its rules for ports.
	left      map[tableRoute]netlink.Route
	leftRules map[int]bool
	leftPorts []netlink.Rule
}

type sourceRoute struct {
	table int
	src   netip.Addr
	peer  netip.Addr // on the way where there is no other; invalid: not known
	route netlink.Route
	// claims are the policies that want it, in the order in which they came.
	claims []sourceClaim
}

// sourceClaim is a policy that wants a route, as often as it was made for it and not dropped.
type sourceClaim struct {
	policy kernel.Policy
	peer   netip.Addr
	users  int
}

// claim adds a policy, or puts it at its old place.
func (r *sourceRoute) claim(p *kernel.Policy, peer netip.Addr) {
	i := slices.IndexFunc(r.claims, func(c sourceClaim) bool { return c.policy.ID == p.ID })
	if i < 0 {
		i = len(r.claims)
		r.claims = append(r.claims, sourceClaim{})
	}
	r.claims[i] = sourceClaim{*p, peer, r.claims[i].users + 1}
}

func (r *sourceRoute) unclaim(id kernel.PolicyID) {
	r.claims = slices.DeleteFunc(r.claims, func(c sourceClaim) bool { return c.policy.ID == id && c.users == 1 })
	for i := range r.claims {
		if r.claims[i].policy.ID == id {
			r.claims[i].users--
		}
	}
}

// holder is the policy whose source the route gives: the oldest that has an SA, or else the oldest, so that one that comes takes no packets away from one that carries
// them. The MTU is the smallest of those with that source.
func (r *sourceRoute) holder() (best sourceClaim) {
	i := max(slices.IndexFunc(r.claims, func(c sourceClaim) bool { return c.policy.Action == kernel.Protect }), 0)
	best = r.claims[i]
	for _, c := range r.claims {
		if m := c.policy.MTU; c.policy.SourceIP == best.policy.SourceIP && m > 0 && (best.policy.MTU == 0 || m < best.policy.MTU) {
			best.policy.MTU = m
		}
	}
	return best
}

// sourceTable is the first of the tables, one for each share; sourcePreference is that of the rules.
const (
	sourceTable      = 4800
	sourcePreference = 4499
)

func newSources(h *netlink.Handle, s *share, mark uint32) *sources {
	return &sources{
		handle: h, mark: mark, table: sourceTable + int(s.number), ports: newPortTables(s), users: map[kernel.PolicyID][]sourcePlace{},
		made: map[sourcePlace]*sourceRoute{}, left: map[tableRoute]netlink.Route{}, leftRules: map[int]bool{},
	}
}

func familyOf(p netip.Prefix) int {
	if p.Addr().Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// use makes the routes of a policy; peer, if valid, is on the way where there is no other. Those that it had and does not want go.
func (s *sources) use(p *kernel.Policy, peer netip.Addr) error {
	var next []sourcePlace
	for _, at := range wantSource(p) {
		made, err := s.make(p, at, peer)
		if err != nil {
			old := s.users[p.ID]
			s.users[p.ID] = next
			err = errors.Join(err, s.drop(p.ID))
			s.users[p.ID] = old
			return err
		}
		if made {
			next = append(next, at)
		}
	}
	err := s.drop(p.ID)
	if len(next) > 0 {
		s.users[p.ID] = next
	}
	return err
}

// make makes one route, or finds it made. False: it is not needed, or there is no way yet.
func (s *sources) make(p *kernel.Policy, at sourcePlace, peer netip.Addr) (bool, error) {
	there := s.made[at]
	if _, ok := s.plan(p, at, peer); !ok {
		return false, nil
	}
	if there == nil {
		there = &sourceRoute{table: s.table}
		if at.ported() {
			var err error
			if there.table, err = s.ports.take(); err != nil {
				return false, err
			}
		}
	}
	if err := s.ruled(at, there.table); err != nil {
		if s.made[at] == nil {
			s.ports.free(there.table)
		}
		return false, err
	}
	s.made[at] = there
	before := slices.Clone(there.claims)
	there.claim(p, peer)
	// Also where it has been made: the kernel drops the routes of a link that goes down, and says so to nobody here.
	if err := s.lead(at, there); err != nil {
		if there.claims = before; len(before) == 0 {
			delete(s.made, at)
			err = errors.Join(err, s.unruled(at, there.table))
		}
		return false, err
	}
	return true, nil
}

// lead makes the route as its holder wants it. Without a way it stays where it is.
func (s *sources) lead(at sourcePlace, r *sourceRoute) error {
	c := r.holder()
	route, ok := s.plan(&c.policy, at, c.peer)
	if !ok {
		route = r.route
		route.Src, route.MTU = c.policy.SourceIP.AsSlice(), c.policy.MTU
	}
	route.Table = r.table
	if err := s.handle.RouteReplace(&route); err != nil {
		return refused(fmt.Sprintf("route to %s with source %s", at.to, c.policy.SourceIP), err)
	}
	r.src, r.peer, r.route = c.policy.SourceIP, c.peer, route
	return nil
}

// plan finds the way to a prefix. False: no route is needed, or there is no way yet.
func (s *sources) plan(p *kernel.Policy, at sourcePlace, peer netip.Addr) (route netlink.Route, ok bool) {
	way, led := s.wayOf(at.to, p.SourceIP, peer)
	if way == nil {
		return route, false
	}
	src, _ := netip.AddrFromSlice(way.Src)
	if src.Unmap() == p.SourceIP && p.MTU == 0 && !led && s.made[at] == nil && !at.ported() { // one for all packets may come beside one for ports
		return route, false
	}
	return netlink.Route{
		Dst: ipNet(at.to), Gw: way.Gw, LinkIndex: way.LinkIndex, Src: p.SourceIP.AsSlice(), MTU: p.MTU, Protocol: routeProtocol, Table: s.table,
	}, true
}

// wayOf is the way to a prefix, or where there is none that to the peer; nil: there is neither.
func (s *sources) wayOf(to netip.Prefix, src, peer netip.Addr) (way *netlink.Route, led bool) {
	way, led = s.way(insideOf(to), src)
	if way == nil && peer.IsValid() && peer.Is6() == to.Addr().Is6() {
		way, _ = s.way(peer, src)
	}
	if way == nil || way.Type != unix.RTN_UNICAST {
		return nil, led
	}
	return way, led
}

// way is where packets to an address would go without routes of this kind; nil: nowhere. led says that there is one, of this daemon or another.
func (s *sources) way(to, src netip.Addr) (way *netlink.Route, led bool) {
	found, err := s.handle.RouteGetWithOptions(to.AsSlice(), &netlink.RouteGetOptions{Mark: s.mark})
	if err != nil || len(found) == 0 {
		return nil, false
	}
	if !ours(found[0].Table) {
		return &found[0], false
	}
	// In IPv4 the rules are for packets without a source, in IPv6 for those that are made here.
	around := &netlink.RouteGetOptions{Mark: s.mark, SrcAddr: src.AsSlice()}
	if to.Is6() {
		around = &netlink.RouteGetOptions{Mark: s.mark, IifIndex: found[0].LinkIndex}
	}
	if found, err = s.handle.RouteGetWithOptions(to.AsSlice(), around); err != nil || len(found) == 0 {
		return nil, true
	}
	return &found[0], true
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
	for _, at := range s.users[id] {
		r := s.made[at]
		if r.unclaim(id); len(r.claims) > 0 {
			if h := r.holder(); h.policy.SourceIP != r.src || h.policy.MTU != r.route.MTU {
				errs = append(errs, s.lead(at, r))
			}
			continue
		}
		delete(s.made, at)
		errs = append(errs, s.unmake(r), s.unruled(at, r.table))
	}
	delete(s.users, id)
	return errors.Join(errs...)
}

// unmake removes a route, or puts back what an earlier daemon had there.
func (s *sources) unmake(r *sourceRoute) error {
	to := prefixOf(r.route.Dst)
	if old, ok := s.left[tableRoute{r.table, to}]; ok {
		return refused("put the route to "+to.String()+" back that an earlier daemon had left", s.handle.RouteReplace(&old))
	}
	if err := s.handle.RouteDel(&r.route); err != nil && !errors.Is(err, unix.ESRCH) {
		return refused(fmt.Sprintf("remove the route to %s with source %s", to, r.src), err)
	}
	return nil
}

// close takes all away, but for what an earlier daemon has left if that is to stay.
func (s *sources) close(keepLeft bool) error {
	var errs []error
	if !keepLeft {
		errs = append(errs, s.sweep())
	}
	for id := range s.users {
		errs = append(errs, s.drop(id))
	}
	return errors.Join(errs...)
}

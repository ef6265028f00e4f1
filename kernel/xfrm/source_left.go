package xfrm

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// adopt looks for what an earlier daemon has left. It stays until sweep, but for what is replaced.
func (s *sources) adopt() error {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		rules, err := s.handle.RuleList(family)
		if err != nil {
			continue // no IPv6 here
		}
		for _, r := range rules {
			if r.Table == s.table && r.Priority == sourcePreference {
				s.leftRules[family] = true
			}
		}
	}
	var err error
	s.left, err = s.there()
	return err
}

// there is our routes, as the kernel has them.
func (s *sources) there() (map[netip.Prefix]netlink.Route, error) {
	out := map[netip.Prefix]netlink.Route{}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		all, err := s.handle.RouteListFiltered(family, &netlink.Route{Table: s.table}, netlink.RT_FILTER_TABLE)
		if err != nil && family == unix.AF_INET6 {
			continue // no IPv6 here
		}
		if err != nil {
			return out, fmt.Errorf("routes of table %d: %w", s.table, err)
		}
		for _, r := range all {
			if r.Dst != nil && r.Protocol == routeProtocol {
				out[prefixOf(r.Dst)] = r
			}
		}
	}
	return out, nil
}

func prefixOf(n *net.IPNet) netip.Prefix {
	a, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits)
}

func (s *sources) hasLeft() bool { return len(s.left)+len(s.leftRules) > 0 }

// sweep removes what an earlier daemon has left and none of this one's policies has replaced.
func (s *sources) sweep() error {
	var errs []error
	for to, r := range s.left {
		if s.made[to] == nil {
			if err := s.handle.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, refused(fmt.Sprintf("remove the route to %s, left by an earlier daemon", to), err))
				continue
			}
		}
		delete(s.left, to)
	}
	for family := range s.leftRules {
		delete(s.leftRules, family)
		if err := s.unruled(family); err != nil {
			s.leftRules[family] = true
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// RoutesChanged says that addresses or routes of this host are others than before. It does not block.
func (d *Datapath) RoutesChanged() {
	if d.renewing.Swap(true) {
		return
	}
	renew := func() {
		d.renewing.Store(false)
		if err := d.worker.renewSources(); err != nil {
			d.cfg.Notice("routes that give packets of this host the source of a tunnel: " + err.Error())
		}
	}
	if !d.requests.tell(renew) {
		d.renewing.Store(false)
	}
}

// renewSources leads the routes where packets go now, and makes those for which there was no way, or no need.
func (w *worker) renewSources() error {
	s := w.sources
	there, err := s.there()
	errs := []error{err}
	for to, made := range s.made {
		way, _ := s.wayOf(to, made.src, made.peer)
		if way == nil {
			continue // the next change will have one
		}
		next := made.route
		next.Gw, next.LinkIndex = way.Gw, way.LinkIndex
		if has, ok := there[to]; ok && has.LinkIndex == next.LinkIndex && has.Gw.Equal(next.Gw) {
			continue
		}
		if err := s.handle.RouteReplace(&next); err != nil {
			errs = append(errs, refused("route to "+to.String(), err))
			continue
		}
		made.route = next
	}
	for _, r := range w.routes {
		if r.routed && len(wantSource(&r.policy)) != len(s.users[r.policy.ID]) {
			errs = append(errs, s.use(&r.policy, r.peer()))
		}
	}
	return errors.Join(errs...)
}

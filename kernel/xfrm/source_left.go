package xfrm

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

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
			if s.leftForPorts(r) {
				s.leftPorts = append(s.leftPorts, r)
				s.ports.used[r.Table] = true // until sweep
			}
		}
	}
	var err error
	s.left, err = s.there()
	return err
}

// there is our routes, as the kernel has them.
func (s *sources) there() (map[tableRoute]netlink.Route, error) {
	out := map[tableRoute]netlink.Route{}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		all, err := s.handle.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC, Protocol: routeProtocol}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
		if err != nil && family == unix.AF_INET6 {
			continue // no IPv6 here
		}
		if err != nil {
			return out, fmt.Errorf("routes of table %d: %w", s.table, err)
		}
		for _, r := range all {
			if r.Dst != nil && (r.Table == s.table || s.ports.has(r.Table)) {
				out[tableRoute{r.Table, prefixOf(r.Dst)}] = r
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

func (s *sources) hasLeft() bool { return len(s.left)+len(s.leftRules)+len(s.leftPorts) > 0 }

// sweep removes what an earlier daemon has left and none of this one's policies has replaced.
func (s *sources) sweep() error {
	var errs []error
	for at, r := range s.left {
		if s.ports.has(at.table) || s.made[sourcePlace{to: at.to}] == nil {
			if err := s.handle.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, refused(fmt.Sprintf("remove the route to %s, left by an earlier daemon", at.to), err))
				continue
			}
		}
		delete(s.left, at)
	}
	for family := range s.leftRules {
		delete(s.leftRules, family)
		if s.forAll(family) {
			continue
		}
		if err := s.unruled(sourcePlace{to: everythingOf(family)}, s.table); err != nil {
			s.leftRules[family] = true
			errs = append(errs, err)
		}
	}
	s.leftPorts = slices.DeleteFunc(s.leftPorts, func(r netlink.Rule) bool {
		if err := s.handle.RuleDel(&r); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, refused(fmt.Sprintf("remove rule %d for table %d, left by an earlier daemon", r.Priority, r.Table), err))
			return false
		}
		s.ports.free(r.Table)
		return true
	})
	return errors.Join(errs...)
}

func everythingOf(family int) netip.Prefix {
	if family == unix.AF_INET6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
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
	for at, made := range s.made {
		way, _ := s.wayOf(at.to, made.src, made.peer)
		if way == nil {
			continue // the next change will have one
		}
		next := made.route
		next.Gw, next.LinkIndex = way.Gw, way.LinkIndex
		if has, ok := there[tableRoute{made.table, at.to}]; ok && has.LinkIndex == next.LinkIndex && has.Gw.Equal(next.Gw) {
			continue
		}
		if err := s.handle.RouteReplace(&next); err != nil {
			errs = append(errs, refused("route to "+at.to.String(), err))
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

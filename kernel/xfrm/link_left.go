package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// leftLink is an interface that an earlier daemon has left, with what is on it. It stays until sweep, so that what is routed to it takes no other way meanwhile.
type leftLink struct {
	index  int
	id     uint32
	addrs  map[netip.Prefix]bool
	routes map[netip.Prefix]netlink.Route
}

// aliasOf is the alias of the interfaces of the daemon with this run directory.
func aliasOf(runDir string) string { return "ikegod:" + filepath.Clean(runDir) }

// leftLinks finds the XFRM interfaces with this alias, by their names.
func leftLinks(h *netlink.Handle, alias string) (map[string]*leftLink, error) {
	all, err := h.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	found := map[string]*leftLink{}
	for _, i := range all {
		x, ok := i.(*netlink.Xfrmi)
		if !ok || x.Attrs().Alias != alias {
			continue
		}
		left := &leftLink{index: x.Attrs().Index, id: x.Ifid, addrs: map[netip.Prefix]bool{}, routes: map[netip.Prefix]netlink.Route{}}
		addrs, err := h.AddrList(i, netlink.FAMILY_ALL)
		if err != nil {
			return nil, fmt.Errorf("list addresses of interface %s: %w", x.Attrs().Name, err)
		}
		for _, a := range addrs {
			if !a.IP.IsLinkLocalUnicast() { // which the kernel itself makes
				left.addrs[prefixOf(a.IPNet)] = true
			}
		}
		routes, err := h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{LinkIndex: left.index, Protocol: routeProtocol}, netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			return nil, fmt.Errorf("list routes of interface %s: %w", x.Attrs().Name, err)
		}
		for _, r := range routes {
			if r.Dst != nil {
				left.routes[prefixOf(r.Dst)] = r
			}
		}
		found[x.Attrs().Name] = left
	}
	return found, nil
}

// remove takes the interface away, and with it all that is on it.
func (i *leftLink) remove(h *netlink.Handle, name string) error {
	err := h.LinkDel(&netlink.Xfrmi{LinkAttrs: netlink.LinkAttrs{Index: i.index}})
	if errors.Is(err, unix.ENODEV) {
		return nil // somebody has
	}
	return refused("remove interface "+name+", left by an earlier daemon", err)
}

// removeLinks removes the XFRM interfaces with this alias, and returns their names.
func removeLinks(h *netlink.Handle, alias string) (names []string, err error) {
	left, err := leftLinks(h, alias)
	if err != nil {
		return nil, err
	}
	for name, i := range left {
		if err := i.remove(h, name); err != nil {
			return names, err
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// takeOver gives the interface of an earlier daemon to this one, or takes it away where this one wants another of the same name; nil: there is none.
func (l *links) takeOver(name string, id uint32) (*leftLink, error) {
	left := l.left[name]
	if left == nil {
		return nil, nil
	}
	if there, err := l.handle.LinkByName(name); err == nil && there.Attrs().Index == left.index {
		if left.id == id {
			return left, nil
		}
		if err := left.remove(l.handle, name); err != nil {
			return nil, err
		}
	}
	delete(l.left, name)
	return nil, nil
}

func (l *links) hasLeft() bool { return len(l.left) > 0 }

// found says in an operator's words what an earlier daemon has left; empty: nothing.
func (l *links) found() string {
	if !l.hasLeft() {
		return ""
	}
	var names []string
	for name := range l.left {
		names = append(names, name)
	}
	slices.Sort(names)
	return "interfaces that an earlier daemon had left stay until those of this one are in place: " + strings.Join(names, ", ")
}

// sweep removes what an earlier daemon has left and none of this one's policies uses, and returns the names of interfaces that have gone. What cannot be removed is
// tried again by the next.
func (l *links) sweep() (removed []string, err error) {
	var errs []error
	for name, left := range l.left {
		var err error
		if i := l.links[name]; i != nil && i.left == left {
			if err = l.tidy(i, name); err == nil {
				i.left = nil
			}
		} else if err = left.remove(l.handle, name); err == nil {
			removed = append(removed, name)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		delete(l.left, name)
	}
	slices.Sort(removed)
	return removed, errors.Join(errs...)
}

// tidy takes from an interface what was on it and nobody wants any more.
func (l *links) tidy(i *link, name string) error {
	var errs []error
	for to, r := range i.left.routes {
		if i.routes[to] == 0 {
			errs = append(errs, l.unroute(&r, name))
		}
	}
	fewer := false
	for a := range i.left.addrs {
		if i.addrs[a] == 0 {
			fewer = true
			errs = append(errs, l.unaddress(i, a, name))
		}
	}
	if fewer {
		errs = append(errs, l.again(i, name))
	}
	return errors.Join(errs...)
}

// again puts on an interface what this daemon has put there already: with an address the kernel takes away others of its network, and with the last one all routes.
func (l *links) again(i *link, name string) error {
	var errs []error
	for a := range i.addrs {
		if err := l.handle.AddrAdd(i.itself(), &netlink.Addr{IPNet: ipNet(a)}); err != nil && !errors.Is(err, unix.EEXIST) {
			errs = append(errs, refused(fmt.Sprintf("put %s on interface %s again", a, name), err))
		}
	}
	for to := range i.routes {
		errs = append(errs, refused(fmt.Sprintf("route to %s through interface %s again", to, name), l.handle.RouteReplace(i.ways[to])))
	}
	return errors.Join(errs...)
}

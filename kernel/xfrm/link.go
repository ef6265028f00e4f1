package xfrm

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
)

// links are the XFRM interfaces of policies: made when the first policy wants one, taken away with the last. One that is there already, with the same name and
// ID, is used and stays. The worker's.
type links struct {
	handle *netlink.Handle
	alias  string // of those that are ours
	links  map[string]*link
	users  map[kernel.PolicyID]user
	left   map[string]*leftLink // by an earlier daemon; none after sweep
}

type link struct {
	made   bool
	index  int
	id     uint32
	users  int
	addrs  map[netip.Prefix]int // that we have put on it, with how many policies want each
	routes map[netip.Prefix]int
	ways   map[netip.Prefix]*netlink.Route // as they were made
	left   *leftLink                       // what an earlier daemon had on it, which Close leaves as it was; nil after sweep
}

// user is what one policy has of an interface.
type user struct {
	name   string
	addrs  []netip.Prefix
	routes []netip.Prefix
}

// routeProtocol marks our routes ("ip route" prints the number); it spells "I".
const routeProtocol = 0x49

// openLinks opens rtnetlink and looks for interfaces that an earlier daemon with this run directory has left.
func openLinks(runDir string) (*links, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("rtnetlink: %w", err)
	}
	l := &links{handle: h, links: map[string]*link{}, users: map[kernel.PolicyID]user{}}
	if runDir == "" {
		return l, nil
	}
	l.alias = aliasOf(runDir)
	if l.left, err = leftLinks(h, l.alias); err != nil {
		h.Close()
		return nil, err
	}
	return l, nil
}

// use makes the interface of a policy, its addresses, and routes to the remote side through it. What the policy had before and does not want goes.
func (l *links) use(p *kernel.Policy) error {
	if p.Interface.Name == "" {
		return l.drop(p.ID)
	}
	i, err := l.ensure(p.Interface)
	if err != nil {
		return err
	}
	i.users++
	got := user{name: p.Interface.Name}
	err = l.fill(i, &got, p)
	if err != nil {
		l.users[""] = got
		return errors.Join(err, l.drop(""))
	}
	err = l.drop(p.ID)
	l.users[p.ID] = got
	return err
}

func (l *links) ensure(want kernel.Interface) (*link, error) {
	if want.ID == 0 {
		return nil, fmt.Errorf("interface %s: an XFRM interface needs an ID other than 0", want.Name)
	}
	if i := l.links[want.Name]; i != nil {
		if i.id != want.ID {
			return nil, fmt.Errorf("interface %s has ID %d for another connection, not %d", want.Name, i.id, want.ID)
		}
		return i, nil
	}
	i := &link{id: want.ID, addrs: map[netip.Prefix]int{}, routes: map[netip.Prefix]int{}, ways: map[netip.Prefix]*netlink.Route{}}
	var err error
	if i.left, err = l.takeOver(want.Name, want.ID); err != nil {
		return nil, err
	}
	there, err := l.handle.LinkByName(want.Name)
	if err == nil {
		x, ok := there.(*netlink.Xfrmi)
		if !ok || x.Ifid != want.ID {
			return nil, fmt.Errorf("interface %s exists and is not an XFRM interface with ID %d; choose another ipsec-interface=, or remove it: ip link del %s", want.Name, want.ID, want.Name)
		}
		i.index, i.made = x.Attrs().Index, i.left != nil
	} else if i.index, err = l.make(want); err != nil {
		return nil, err
	} else {
		i.made = true
	}
	l.links[want.Name] = i
	return i, nil
}

func (l *links) make(want kernel.Interface) (int, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = want.Name
	x := &netlink.Xfrmi{LinkAttrs: attrs, Ifid: want.ID}
	if err := l.handle.LinkAdd(x); err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) {
			return 0, fmt.Errorf("interface %s: this kernel has no XFRM interfaces (option XFRM_INTERFACE; modprobe xfrm_interface); write ipsec-interface=no: %w", want.Name, err)
		}
		return 0, refused("make interface "+want.Name, err)
	}
	made, err := l.handle.LinkByName(want.Name)
	if err == nil {
		err = l.handle.LinkSetUp(made)
	}
	if err == nil && l.alias != "" {
		err = l.handle.LinkSetAlias(made, l.alias)
	}
	if err != nil {
		return 0, errors.Join(refused("set interface "+want.Name+" up", err), l.handle.LinkDel(x))
	}
	return made.Attrs().Index, nil
}

// fill adds addresses and routes, and notes what the policy has now. An address or route of others stays theirs.
func (l *links) fill(i *link, got *user, p *kernel.Policy) error {
	for _, a := range p.Interface.Addrs {
		if i.addrs[a] == 0 && !i.hadAddr(a) {
			err := l.handle.AddrAdd(i.itself(), &netlink.Addr{IPNet: ipNet(a)})
			if errors.Is(err, unix.EEXIST) {
				continue
			}
			if err != nil {
				return refused(fmt.Sprintf("put %s on interface %s", a, got.name), err)
			}
		}
		i.addrs[a]++
		got.addrs = append(got.addrs, a)
	}
	if p.Action == kernel.Pass {
		return nil
	}
	for _, to := range p.Remote.Prefixes() {
		if p.RemoteAddr.IsValid() && to.Contains(p.RemoteAddr) {
			return fmt.Errorf("interface %s: %s holds the peer %s itself, whose packets would go round in circles; write subnets without it, or ipsec-interface=no", got.name, to, p.RemoteAddr)
		}
		if i.routes[to] == 0 {
			add := l.handle.RouteAdd
			if i.hadRoute(to) {
				add = l.handle.RouteReplace
			}
			i.ways[to] = i.route(to, p)
			if err := add(i.ways[to]); errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("route to %s through interface %s: there is another route to it; remove that (ip route del %s), or write ipsec-interface=no: %w", to, got.name, to, err)
			} else if err != nil {
				return refused(fmt.Sprintf("route to %s through interface %s", to, got.name), err)
			}
		}
		i.routes[to]++
		got.routes = append(got.routes, to)
	}
	return nil
}

func (i *link) hadAddr(a netip.Prefix) bool { return i.left != nil && i.left.addrs[a] }

func (i *link) hadRoute(to netip.Prefix) bool {
	if i.left == nil {
		return false
	}
	_, had := i.left.routes[to]
	return had
}

func (i *link) itself() netlink.Link {
	return &netlink.Xfrmi{LinkAttrs: netlink.LinkAttrs{Index: i.index}}
}

func (i *link) route(to netip.Prefix, p *kernel.Policy) *netlink.Route {
	r := &netlink.Route{LinkIndex: i.index, Dst: ipNet(to), Protocol: routeProtocol, Scope: netlink.SCOPE_LINK}
	if to.Addr().Is6() {
		r.Scope = netlink.SCOPE_UNIVERSE
	}
	if p != nil {
		if p.SourceIP.IsValid() && p.SourceIP.Is6() == to.Addr().Is6() {
			r.Src = p.SourceIP.AsSlice()
		}
		r.MTU = p.MTU
	}
	return r
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// drop takes away what a policy has of an interface, and the interface with its last user.
func (l *links) drop(id kernel.PolicyID) error {
	u, ok := l.users[id]
	if !ok {
		return nil
	}
	delete(l.users, id)
	i := l.links[u.name]
	var errs []error
	for _, to := range u.routes {
		if i.routes[to]--; i.routes[to] == 0 {
			delete(i.routes, to)
			if i.hadRoute(to) {
				old := i.left.routes[to]
				errs = append(errs, refused(fmt.Sprintf("put the route to %s through interface %s back that an earlier daemon had left", to, u.name), l.handle.RouteReplace(&old)))
				continue
			}
			errs = append(errs, l.unroute(i.route(to, nil), u.name))
		}
	}
	for _, a := range u.addrs {
		if i.addrs[a]--; i.addrs[a] == 0 {
			delete(i.addrs, a)
			if i.hadAddr(a) {
				continue
			}
			errs = append(errs, l.unaddress(i, a, u.name))
		}
	}
	if i.users--; i.users == 0 {
		delete(l.links, u.name)
		if i.made && i.left == nil {
			if err := l.handle.LinkDel(i.itself()); err != nil && !errors.Is(err, unix.ENODEV) { // somebody has removed it
				errs = append(errs, refused("remove interface "+u.name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// unroute removes a route, unless somebody has.
func (l *links) unroute(r *netlink.Route, name string) error {
	err := l.handle.RouteDel(r)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return refused(fmt.Sprintf("remove the route to %s through interface %s", prefixOf(r.Dst), name), err)
}

// unaddress takes an address from an interface, unless somebody has.
func (l *links) unaddress(i *link, a netip.Prefix, name string) error {
	err := l.handle.AddrDel(i.itself(), &netlink.Addr{IPNet: ipNet(a)})
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return refused(fmt.Sprintf("take %s from interface %s", a, name), err)
}

// close takes all away, but for what an earlier daemon has left if that is to stay.
func (l *links) close(keepLeft bool) error {
	var errs []error
	if !keepLeft {
		_, err := l.sweep()
		errs = append(errs, err)
	}
	for id := range l.users {
		errs = append(errs, l.drop(id))
	}
	return errors.Join(errs...)
}

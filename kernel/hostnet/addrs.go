package hostnet

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Addrs answers which addresses are this host's, in the network namespace in which NewAddrs was called. It asks the kernel each time. Safe for
// concurrent use.
type Addrs struct {
	// Mark is that of our sockets, so that a route into a tunnel is not taken for the way to a peer. Set it before use.
	Mark   uint32
	handle *netlink.Handle
}

// NewAddrs opens a netlink socket in the namespace of the calling thread.
func NewAddrs() (*Addrs, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return &Addrs{Mark: DefaultMark, handle: h}, nil
}

// IsLocal reports whether packets to a are delivered here: an address of an interface, or one in the local table.
func (s *Addrs) IsLocal(a netip.Addr) bool {
	routes, err := s.handle.RouteGet(a.Unmap().AsSlice())
	return err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL
}

// DefaultSource is the address that the system uses towards remote; for an invalid remote (a peer that is not known yet) that of the IPv4 default
// route, and for :: that of the IPv6 one. The error says that there is no route.
func (s *Addrs) DefaultSource(remote netip.Addr) (netip.Addr, error) {
	switch {
	case !remote.IsValid():
		return s.defaultRouteSource(netlink.FAMILY_V4)
	case remote == netip.IPv6Unspecified():
		return s.defaultRouteSource(netlink.FAMILY_V6)
	}
	routes, err := s.handle.RouteGetWithOptions(remote.Unmap().AsSlice(), &netlink.RouteGetOptions{Mark: s.Mark})
	if err != nil {
		return netip.Addr{}, fmt.Errorf("no route to %s: %w", remote, err)
	}
	for _, r := range routes {
		if a, ok := netip.AddrFromSlice(r.Src); ok {
			return a.Unmap(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("the route to %s has no source address", remote)
}

func (s *Addrs) defaultRouteSource(family int) (netip.Addr, error) {
	routes, err := s.handle.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("listing routes: %w", err)
	}
	var best *netlink.Route
	for i := range routes {
		if r := &routes[i]; isDefault(r) && (best == nil || r.Priority < best.Priority) {
			best = r
		}
	}
	if best == nil {
		return netip.Addr{}, fmt.Errorf("%%defaultroute: table main has no default route")
	}
	if a, ok := netip.AddrFromSlice(best.Src); ok {
		return a.Unmap(), nil
	}
	if gw, ok := netip.AddrFromSlice(best.Gw); ok && !gw.IsLinkLocalUnicast() {
		return s.DefaultSource(gw.Unmap())
	}
	if family == netlink.FAMILY_V6 {
		return s.DefaultSource(netip.MustParseAddr("100::1")) // discarded wherever it goes (RFC 6666)
	}
	return s.DefaultSource(netip.AddrFrom4([4]byte{192, 0, 0, 8})) // a dummy address, so that the default route is asked (RFC 7600)
}

func isDefault(r *netlink.Route) bool {
	if r.Type != unix.RTN_UNICAST || r.Dst == nil {
		return r.Type == unix.RTN_UNICAST
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}

// AddrInside returns an address of this host inside a prefix, the smallest if there are several; never one of 127.0.0.0/8 or a link-local one.
func (s *Addrs) AddrInside(p netip.Prefix) (best netip.Addr, found bool) {
	list, err := s.handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return netip.Addr{}, false
	}
	for _, one := range list {
		a, ok := netip.AddrFromSlice(one.IP)
		if a = a.Unmap(); !ok || !p.Contains(a) || a.IsLoopback() || a.IsLinkLocalUnicast() {
			continue
		}
		if !found || a.Less(best) {
			best, found = a, true
		}
	}
	return best, found
}

// Close closes the socket.
func (s *Addrs) Close() { s.handle.Close() }

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

// DefaultSource is the address that the system uses towards remote. The error says that there is no route.
func (s *Addrs) DefaultSource(remote netip.Addr) (netip.Addr, error) {
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

// Close closes the socket.
func (s *Addrs) Close() { s.handle.Close() }

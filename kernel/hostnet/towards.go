package hostnet

import (
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Towards is the interface by which our own packets go to a peer, and the next hop if the peer is not on the link; "" if there is no route.
func (s *Addrs) Towards(peer netip.Addr) (link string, nextHop netip.Addr) {
	routes, err := s.handle.RouteGetWithOptions(peer.Unmap().AsSlice(), &netlink.RouteGetOptions{Mark: s.Mark})
	if err != nil || len(routes) == 0 {
		return "", netip.Addr{}
	}
	l, err := s.handle.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return "", netip.Addr{}
	}
	hop, _ := netip.AddrFromSlice(routes[0].Gw) // none: the peer is on the link
	return l.Attrs().Name, hop.Unmap()
}

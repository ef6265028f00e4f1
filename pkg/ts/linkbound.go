package ts

import "net/netip"

var linkBound = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

// LinkBound is what no tunnel carries unless a policy names it: addresses that mean something on one link only (RFC 3927, RFC 4291 2.5.6), and groups. Neighbour
// discovery, DHCP and routing protocols go on beside a remote side like ::/0. The result must not be changed.
func LinkBound() []netip.Prefix { return linkBound }

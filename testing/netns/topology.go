package netns

import (
	"errors"
	"strings"
)

// Addresses of the topology, which is that of libreswan's tests.
const (
	West      = "192.1.2.45"
	East      = "192.1.2.23"
	WestInner = "192.0.1.254"
	EastInner = "192.0.2.254"
	WestNet   = "192.0.1.0/24"
	EastNet   = "192.0.2.0/24"

	West6      = "2001:db8:1:2::45"
	East6      = "2001:db8:1:2::23"
	WestInner6 = "2001:db8:0:1::254"
	EastInner6 = "2001:db8:0:2::254"
	WestNet6   = "2001:db8:0:1::/64"
	EastNet6   = "2001:db8:0:2::/64"

	Outer = "eth1" // the interface towards each other
)

// WestEast makes a lab of two gateways, west and east, with an inner network each. They know routes to each other's inner network, so that packets
// that bypass the tunnel would reach the wire, and be counted there.
func WestEast() (l *Lab, west, east *Host, err error) {
	if l, err = New(); err != nil {
		return nil, nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if west, err = l.Host("west"); err != nil {
		return l, west, east, err
	}
	if east, err = l.Host("east"); err != nil {
		return l, west, east, err
	}
	err = errors.Join(
		l.Cable(west, Outer, []string{West + "/24", West6 + "/64"}, east, Outer, []string{East + "/24", East6 + "/64"}),
		west.Stub("eth0", WestInner+"/24", WestInner6+"/64"),
		east.Stub("eth0", EastInner+"/24", EastInner6+"/64"),
		west.Run("ip", "route", "add", "default", "via", "192.1.2.254"),
		east.Run("ip", "route", "add", "default", "via", "192.1.2.254"),
		west.Run("ip", "route", "add", EastNet, "via", East),
		east.Run("ip", "route", "add", WestNet, "via", West),
		west.Run("ip", "route", "add", "default", "via", "2001:db8:1:2::254"),
		east.Run("ip", "route", "add", "default", "via", "2001:db8:1:2::254"),
		west.Run("ip", "route", "add", EastNet6, "via", East6),
		east.Run("ip", "route", "add", WestNet6, "via", West6),
	)
	return l, west, east, err
}

// Behind puts a host into the inner network of a gateway, at the far end of its stub eth0, with a default route for each address.
func (h *Host) Behind(name string, addrs, gateways []string) (*Host, error) {
	inner, err := h.lab.Host(name)
	if err != nil {
		return nil, err
	}
	if err := h.Run("ip", "link", "set", "eth0-far", "netns", inner.NS, "name", "eth0"); err != nil {
		return nil, err
	}
	errs := []error{inner.configure("eth0", addrs)}
	for _, g := range gateways {
		errs = append(errs, inner.Run("ip", "route", "add", "default", "via", g))
	}
	return inner, errors.Join(errs...)
}

// State is the text of everything about the network of a host that a daemon could leave behind: interfaces, addresses, routes of all tables, rules,
// nft tables and listening sockets.
func (h *Host) State() (string, error) {
	var b strings.Builder
	var errs []error
	for _, c := range [][]string{
		{"ip", "-br", "link"},
		{"ip", "-br", "addr"},
		{"ip", "-4", "route", "show", "table", "all"},
		{"ip", "-6", "route", "show", "table", "all"},
		{"ip", "-4", "rule"},
		{"ip", "-6", "rule"},
		{"nft", "list", "tables"},
		{"ss", "-H", "-lntuw"},
	} {
		out, err := h.Output(c[0], c[1:]...)
		errs = append(errs, err)
		b.WriteString("# " + strings.Join(c, " ") + "\n" + out)
	}
	return b.String(), errors.Join(errs...)
}

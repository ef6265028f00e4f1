package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestOrientNames orients connections whose hosts are names: the answers, in the order of the name's addresses, as "local...remote".
func TestOrientNames(t *testing.T) {
	known := map[string][]netip.Addr{
		"east":   {addr("2001:db8::23"), addr("192.1.2.23")},
		"west":   {addr("192.1.2.45"), addr("2001:db8::45")},
		"link":   {addr("fe80::1"), addr("ff02::1")},
		"mapped": {addr("::ffff:192.1.2.23"), addr("192.1.2.23")},
	}
	source := func(remote netip.Addr) (netip.Addr, error) {
		switch {
		case !remote.IsValid() || remote.Is4():
			return addr("192.1.2.45"), nil
		case remote.IsUnspecified() || remote == addr("2001:db8::23"):
			return addr("2001:db8::45"), nil
		}
		return netip.Addr{}, errors.New("network is unreachable")
	}
	here := Here{IsLocal: local("192.1.2.45", "2001:db8::45"), DefaultSource: source, Resolve: func(name string) ([]netip.Addr, error) {
		if known[name] == nil {
			return nil, errors.New("no such host")
		}
		return known[name], nil
	}}
	name := func(s string) Host { return Host{Kind: HostName, Name: s} }
	address := func(s string) Host { return Host{Addr: addr(s)} }
	defaultRoute := Host{Kind: HostDefaultRoute}
	for _, tc := range []struct {
		name        string
		left, right Host
		want        string // or what the error says
		unresolved  bool
	}{
		{"both-families", defaultRoute, name("east"), "2001:db8::45...2001:db8::23 192.1.2.45...192.1.2.23", false},
		{"one-family-of-ours", address("192.1.2.45"), name("east"), "192.1.2.45...192.1.2.23", false},
		{"hostaddrfamily", defaultRoute, Host{Kind: HostName, Name: "east", Family: FamilyV4}, "192.1.2.45...192.1.2.23", false},
		{"our-own-name", name("west"), name("east"), "2001:db8::45...2001:db8::23 192.1.2.45...192.1.2.23", false},
		{"our-own-name-on-the-right", address("192.1.2.23"), name("west"), "192.1.2.45...192.1.2.23", false},
		{"our-own-name-and-any", name("west"), Host{Kind: HostAny}, "192.1.2.45...invalid IP", false},
		{"any6-and-default-route", defaultRoute, Host{Kind: HostAny, Family: FamilyV6}, "2001:db8::45...invalid IP", false},
		{"the-same-address-twice", defaultRoute, name("mapped"), "192.1.2.45...192.1.2.23", false},
		{"unknown", defaultRoute, name("nobody"), "the peer right=nobody (f:4): name not resolved: no such host", true},
		{"unknown-left", name("nobody"), Host{Kind: HostAny}, "left=nobody (f:3): name not resolved: no such host", true},
		{"both-are-us", name("west"), defaultRoute, "both left=west (f:3) and right=%defaultroute (f:4) are this host", false},
		{"neither", name("east"), address("192.1.2.23"), "neither left=east (f:3) nor right=192.1.2.23 (f:4)", false},
		{"link-local", defaultRoute, name("link"), "name not resolved to an address that can be used: it is [fe80::1 ff02::1]", true},
		{"no-address-of-the-family", defaultRoute, Host{Kind: HostName, Name: "mapped", Family: FamilyV6}, "name not resolved to an IPv6 address", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := sample()
			c.Left.Host, c.Right.Host = tc.left, tc.right
			c.Left.Positions, c.Right.Positions = map[string]string{"left": "f:3"}, map[string]string{"right": "f:4"}
			all, err := c.OrientAll(here)
			if err != nil {
				if !strings.Contains(err.Error(), tc.want) || errors.Is(err, ErrUnresolved) != tc.unresolved {
					t.Errorf("error %v; want %q, unresolved %v", err, tc.want, tc.unresolved)
				}
				return
			}
			var got []string
			for _, o := range all {
				got = append(got, o.LocalAddr.String()+"..."+o.RemoteAddr.String())
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestGuest: a peer whose name is not known may come from anywhere, but only under the identity that is written.
func TestGuest(t *testing.T) {
	c := sample()
	c.Right.Host = Host{Kind: HostName, Name: "east"}
	if o := c.Guest(local("192.1.2.45")); o == nil || o.RemoteAddr.IsValid() || o.LocalAddr != addr("192.1.2.45") || !o.LeftIsLocal || o.RemoteID().Any {
		t.Errorf("guest %+v", o)
	}
	if c.Guest(local("192.1.2.99")) != nil {
		t.Error("a guest of another host")
	}
	c.Right.ID.Any = true
	if c.Guest(local("192.1.2.45")) != nil {
		t.Error("a guest without an identity")
	}
	if got := c.Names(); !slices.Equal(got, []string{"east"}) {
		t.Errorf("names %v", got)
	}
}

// TestSide: which end is us is known before the peer's name is.
func TestSide(t *testing.T) {
	here := Here{IsLocal: local("192.1.2.45"), DefaultSource: func(netip.Addr) (netip.Addr, error) { return netip.Addr{}, errors.New("no route") }}
	east := Host{Kind: HostName, Name: "east"}
	for _, tc := range []struct {
		name        string
		left, right Host
		known       []netip.Addr
		want        string // LocalAddr and whether left is us; empty: nil
	}{
		{"an-address-of-ours", Host{Addr: addr("192.1.2.45")}, east, nil, "192.1.2.45 true"},
		{"on-the-right", east, Host{Addr: addr("192.1.2.45")}, nil, "192.1.2.45 false"},
		{"a-default-route-without-a-route", Host{Kind: HostDefaultRoute}, east, nil, "invalid IP true"},
		{"somebody-else", Host{Addr: addr("192.1.2.99")}, east, nil, ""},
		{"a-peer-that-is-an-address", Host{Addr: addr("192.1.2.45")}, Host{Addr: addr("192.1.2.23")}, nil, ""},
		{"a-name-that-is-known", Host{Addr: addr("192.1.2.45")}, east, []netip.Addr{addr("192.1.2.23")}, ""},
		{"two-unknown-names", Host{Kind: HostName, Name: "west"}, east, nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := sample()
			c.Left.Host, c.Right.Host = tc.left, tc.right
			here.Resolve = func(string) ([]netip.Addr, error) {
				if tc.known == nil {
					return nil, errors.New("no such host")
				}
				return tc.known, nil
			}
			got := ""
			if o := c.Side(here); o != nil {
				got = fmt.Sprint(o.LocalAddr, o.LeftIsLocal)
				if o.RemoteAddr.IsValid() {
					t.Errorf("the peer is %s", o.RemoteAddr)
				}
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

package userspace_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/userspace"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/testing/netns"
)

// Transport mode between two hosts: what goes between their own addresses is sealed, and so is what carries it, between the same addresses.

// inTransportMode routes a policy and installs SAs as protect does, in transport mode. originals are the addresses that the peer has in its packets.
func (g *gateway) inTransportMode(p path.Path, originalLocal, originalRemote netip.Addr) {
	g.t.Helper()
	local, remote := ts.Set{ts.FromAddr(p.Local.Addr())}, ts.Set{ts.FromAddr(p.Remote.Addr())}
	g.Route(1, kernel.Policy{ID: "c", Local: local, Remote: remote, LocalAddr: p.Local.Addr(), RemoteAddr: p.Remote.Addr()})
	g.wait()
	sa := g.pair(local, remote, p)
	sa.Transport, sa.OriginalLocal, sa.OriginalRemote = true, originalLocal, originalRemote
	g.Install(2, sa)
	g.wait()
}

// countNaked counts what arrives on an interface and is neither sealed nor part of the network's own business.
func countNaked(t *testing.T, h *netns.Host, device string) {
	t.Helper()
	err := h.RunInput(fmt.Sprintf(`table netdev naked {
	chain in {
		type filter hook ingress device %q priority -500
		meta protocol arp accept
		meta l4proto esp accept
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert, mld-listener-report, mld2-listener-report } accept
		ip frag-off & 0x1fff != 0 accept
		frag frag-off != 0 accept
		th dport 4500 accept
		th sport 4500 accept
		counter
	}
}
`, device), "nft", "-f", "-")
	if err != nil {
		t.Fatal(err)
	}
}

func noneNaked(t *testing.T, all ...*netns.Host) {
	t.Helper()
	for _, h := range all {
		if out, err := h.Output("nft", "list", "table", "netdev", "naked"); err != nil || !strings.Contains(out, "counter packets 0 ") {
			t.Errorf("%s: packets in clear: %v\n%s", h.Name, err, out)
		}
	}
}

// datagrams sends datagrams of many sizes to a server that sends them back, and compares.
func datagrams(t *testing.T, client, server *netns.Host, from, to, dialed netip.Addr, largest int) {
	t.Helper()
	var s, c *net.UDPConn
	err := server.Do(func() (err error) {
		s, err = net.ListenUDP("udp", &net.UDPAddr{IP: to.AsSlice()})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = client.Do(func() (err error) {
		c, err = net.DialUDP("udp", &net.UDPAddr{IP: from.AsSlice()}, &net.UDPAddr{IP: dialed.AsSlice(), Port: s.LocalAddr().(*net.UDPAddr).Port})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() {
		b := make([]byte, 65536)
		for {
			n, who, err := s.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			s.WriteToUDPAddrPort(b[:n], who)
		}
	}()
	rng := rand.NewChaCha8([32]byte{3})
	got := make([]byte, 65536)
	for _, n := range []int{0, 1, 7, 1000, 1400, 1429, 1430, 1431, 1472, 1473, 3000, 9001, 20000, largest} {
		want := make([]byte, n)
		rng.Read(want)
		if _, err := c.Write(want); err != nil {
			t.Errorf("datagram of %d octets from %s: %v", n, client.Name, err)
			continue
		}
		c.SetReadDeadline(time.Now().Add(3 * time.Second))
		if m, err := c.Read(got); err != nil || !bytes.Equal(got[:m], want) {
			t.Errorf("datagram of %d octets from %s: %d came back, %v", n, client.Name, m, err)
			return
		}
	}
}

func TestTransportModeHostToHost(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, kind := range []path.Kind{path.UDP, path.TCP, path.ESP} {
			name, w4, e4 := kind.String(), netns.West, netns.East
			if v6 {
				name, w4, e4 = name+"6", "2001:db8:1:2::45", "2001:db8:1:2::23"
			}
			t.Run(name, func(t *testing.T) {
				_, w, e := netns.Gateways(t)
				west, east := open(t, w, userspace.Config{}), open(t, e, userspace.Config{})
				wa, ea := netip.MustParseAddr(w4), netip.MustParseAddr(e4)
				wp, ep := pathsBetween(t, kind, west, east, wa, ea, netip.AddrPortFrom(wa, 4500), ea)
				west.inTransportMode(wp, netip.Addr{}, netip.Addr{})
				east.inTransportMode(ep, netip.Addr{}, netip.Addr{})
				countNaked(t, w, netns.Outer)
				countNaked(t, e, netns.Outer)
				exerciseHosts(t, west, east, wa, ea, ea, wa)
				noneNaked(t, w, e)
			})
		}
	}
}

// exerciseHosts sends all kinds of traffic both ways. Each host has an address for itself and one for the other, which differ behind a NAT.
func exerciseHosts(t *testing.T, west, east *gateway, wa, ea, east4west, west4east netip.Addr) {
	t.Helper()
	for _, side := range []struct {
		g        *gateway
		from, to netip.Addr
	}{{west, wa, east4west}, {east, ea, west4east}} {
		for _, args := range [][]string{nil, {"-s", "1360", "-M", "do"}, {"-s", "8000"}, {"-s", "60000", "-M", "dont"}} {
			if out, err := ping(t, side.g, append(args, "-I", side.from.String(), side.to.String())...); err != nil || !strings.Contains(out, "3 received") {
				t.Errorf("ping %v from %s: %v\n%s", args, side.g.host.Name, err, out)
			}
		}
	}
	datagrams(t, west.host, east.host, wa, ea, east4west, 60000)
	datagrams(t, east.host, west.host, ea, wa, west4east, 60000)
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	const octets = 20 << 20
	download(ctx, t, west.host, wa, east.host, ea, east4west, octets)
	download(ctx, t, east.host, ea, west.host, wa, west4east, octets)
	if u := west.Usage(0xc0000001)[0]; u.InBytes < octets || u.OutBytes < octets {
		t.Errorf("not through the SA: %+v", u)
	}
	for _, g := range []*gateway{west, east} {
		for why, n := range g.Drops() {
			if why != userspace.DropSend && why != userspace.DropLinkLocal {
				t.Errorf("%s: %d packets dropped: %s", g.host.Name, n, why)
			}
		}
	}
}

// download fetches octets by TCP; dialed is the server's address as the client knows it.
func download(ctx context.Context, t *testing.T, client *netns.Host, from netip.Addr, server *netns.Host, at, dialed netip.Addr, octets int64) {
	t.Helper()
	if _, err := netns.TransferTo(ctx, server, netip.AddrPortFrom(at, 0).String(), dialed.String(), client, from.String(), octets); err != nil {
		t.Errorf("download by %s: %v", client.Name, err)
	}
}

// pathsBetween gives both ends' paths. fromWest is where east sees west's packets come from on a datagram carrier, dialed is east's address as west
// knows it.
func pathsBetween(t *testing.T, kind path.Kind, west, east *gateway, wa, ea netip.Addr, fromWest netip.AddrPort, dialed netip.Addr) (w, e path.Path) {
	t.Helper()
	if kind != path.TCP {
		w = path.Path{Local: netip.AddrPortFrom(wa, 4500), Remote: netip.AddrPortFrom(dialed, 4500)}
		e = path.Path{Local: netip.AddrPortFrom(ea, 4500), Remote: fromWest}
		if kind == path.ESP {
			w, e = w.PlainESP(), e.PlainESP()
		}
		return w, e
	}
	err := west.host.Do(func() (err error) {
		w, err = west.mux.Dial(t.Context(), wa, netip.AddrPortFrom(dialed, 4500))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case e = <-east.stream:
	case <-time.After(5 * time.Second):
		t.Fatal("no stream")
	}
	west.mux.Own(w)
	east.mux.Own(e)
	return w, e
}

// TestTransportModeBehindTwoNATs is the scenario of RFC 7296 2.23.1: west is behind a NAT that hides it, east behind one that gives it another address. One
// router is both.
func TestTransportModeBehindTwoNATs(t *testing.T) {
	for _, kind := range []path.Kind{path.UDP, path.TCP} {
		t.Run(kind.String(), func(t *testing.T) {
			netns.Need(t)
			l, err := netns.New()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
			var hosts [3]*netns.Host
			for i, name := range []string{"west", "nat", "east"} {
				if hosts[i], err = l.Host(name); err != nil {
					t.Fatal(err)
				}
			}
			w, nat, e := hosts[0], hosts[1], hosts[2]
			err = errors.Join(
				l.Cable(w, netns.Outer, []string{"10.0.0.5/24"}, nat, "eth0", []string{"10.0.0.1/24"}),
				l.Cable(e, netns.Outer, []string{"172.16.0.1/24"}, nat, "eth1", []string{"172.16.0.254/24"}),
				w.Run("ip", "route", "add", "default", "via", "10.0.0.1"),
				nat.RunInput(`table ip nat {
	chain in { type nat hook prerouting priority -100; ip daddr 198.18.0.9 dnat to 172.16.0.1; }
	chain out { type nat hook postrouting priority 100; oifname "eth1" masquerade; }
}
`, "nft", "-f", "-"))
			if err != nil {
				t.Fatal(err)
			}
			west, east := open(t, w, userspace.Config{}), open(t, e, userspace.Config{})
			a := netip.MustParseAddr
			ip1, ipn1, ipn2, ip2 := a("10.0.0.5"), a("172.16.0.254"), a("198.18.0.9"), a("172.16.0.1")
			wp, ep := pathsBetween(t, kind, west, east, ip1, ip2, netip.AddrPortFrom(ipn1, 4500), ipn2)
			west.inTransportMode(wp, ipn1, ip2)
			east.inTransportMode(ep, ipn2, ip1)
			countNaked(t, w, netns.Outer)
			countNaked(t, e, netns.Outer)
			if out, err := ping(t, west, ipn2.String()); err != nil { // opens the NAT
				t.Fatalf("ping: %v\n%s", err, out)
			}
			exerciseHosts(t, west, east, ip1, ip2, ipn2, ipn1)
			noneNaked(t, w, e)
		})
	}
}

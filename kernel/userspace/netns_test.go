package userspace_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/hostnet"
	"github.com/ikegod/ikegod/kernel/userspace"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/subnets"
	"github.com/ikegod/ikegod/transport"
	"github.com/ikegod/ikegod/transport/mux"
)

// Two datapaths in two namespaces with keys set by hand, over the real sockets of transport.

// gateway is one of them.
type gateway struct {
	*userspace.Datapath
	t      *testing.T
	host   *netns.Host
	mux    *mux.Mux
	done   chan kernel.Done
	moved  chan kernel.PeerMoved
	stream chan path.Path
}

func (g *gateway) IKE(transport.Datagram) bool { return true }
func (g *gateway) Accepted(p path.Path)        { g.stream <- p }
func (g *gateway) Lost(path.Path, error)       {}

func open(t *testing.T, h *netns.Host, cfg userspace.Config) *gateway {
	t.Helper()
	g := &gateway{t: t, host: h, done: make(chan kernel.Done, 100), moved: make(chan kernel.PeerMoved, 100), stream: make(chan path.Path, 10)}
	cfg.NewHost = func(tun string) (userspace.Host, error) { return hostnet.New(tun, hostnet.Settings{}) }
	err := h.Do(func() (err error) {
		if g.mux, err = mux.New(mux.Options{ListenUDP: true, PlainESP: true, ListenTCP: []uint16{4500}, Prepare: hostnet.Prepare(0)}); err != nil {
			return err
		}
		cfg.PlainESP = g.mux.PlainESP() == nil
		g.Datapath, err = userspace.New(cfg, g.mux, func(e kernel.Event) {
			switch e := e.(type) {
			case kernel.Done:
				g.done <- e
			case kernel.PeerMoved:
				g.moved <- e
			}
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	g.mux.Start(g, g.Datapath)
	t.Cleanup(g.close)
	return g
}

func (g *gateway) close() {
	if err := errors.Join(g.mux.Close(), g.Close()); err != nil {
		g.t.Error(err)
	}
	if g.t.Failed() {
		g.t.Logf("%s: drops %v, usage %+v", g.host.Name, g.Drops(), g.Usage(0xc0000001, 0xc0000002))
	}
}

// wait waits for a completion without error.
func (g *gateway) wait() {
	g.t.Helper()
	select {
	case d := <-g.done:
		if d.Err != nil {
			g.t.Fatal(d.Err)
		}
	case <-time.After(5 * time.Second):
		g.t.Fatal("a request did not complete")
	}
}

// pair makes SAs with SPI 0xc0000001 in west and 0xc0000002 in east.
func (g *gateway) pair(local, remote ts.Set, p path.Path) kernel.SAPair {
	s := suite.Suite{Encr: suite.Encr{ID: iana.ENCR_AES_GCM_16, KeyBits: 256}, SN: iana.SN_ESN}
	key := func(b byte) []byte { return []byte(strings.Repeat(string(rune(b)), s.EncrKeyLen())) }
	in, out := kernel.SA{SPI: 0xc0000001, Suite: s, EncrKey: key('a'), ReplayWindow: 128}, kernel.SA{SPI: 0xc0000002, Suite: s, EncrKey: key('b'), ReplayWindow: 128}
	if g.host.Name == "east" {
		in, out = out, in
	}
	return kernel.SAPair{Policy: "c", In: in, Out: out, Local: local, Remote: remote, Endpoints: kernel.Endpoints{Path: p}}
}

// protect routes a policy and installs the SAs of pair.
func (g *gateway) protect(local, remote ts.Set, p path.Path) {
	g.t.Helper()
	g.Route(1, kernel.Policy{ID: "c", Local: local, Remote: remote, LocalAddr: p.Local.Addr(), RemoteAddr: p.Remote.Addr()})
	g.wait()
	g.Install(2, g.pair(local, remote, p))
	g.wait()
}

// paths gives both ends' paths between the gateways by a carrier.
func paths(t *testing.T, kind path.Kind, west, east *gateway) (w, e path.Path) {
	t.Helper()
	if kind != path.TCP {
		w = path.Path{Local: netip.MustParseAddrPort(netns.West + ":4500"), Remote: netip.MustParseAddrPort(netns.East + ":4500")}
		if kind == path.ESP {
			w = w.PlainESP()
		}
		return w, path.Path{Local: w.Remote, Remote: w.Local, Kind: kind}
	}
	err := west.host.Do(func() (err error) {
		w, err = west.mux.Dial(t.Context(), netip.MustParseAddr(netns.West), netip.MustParseAddrPort(netns.East+":4500"))
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

// lab makes two gateways with a tunnel between their inner networks.
func lab(t *testing.T, kind path.Kind, cfg userspace.Config) (west, east *gateway) {
	t.Helper()
	_, w, e := netns.Gateways(t)
	west, east = open(t, w, cfg), open(t, e, cfg)
	wp, ep := paths(t, kind, west, east)
	west.protect(subnets.Of(netns.WestNet), subnets.Of(netns.EastNet), wp)
	east.protect(subnets.Of(netns.EastNet), subnets.Of(netns.WestNet), ep)
	if err := errors.Join(w.Count(), e.Count()); err != nil {
		t.Fatal(err)
	}
	return west, east
}

func ping(t *testing.T, from *gateway, args ...string) (string, error) {
	t.Helper()
	return from.host.Output("ping", append([]string{"-n", "-c", "3", "-i", "0.02", "-W", "1"}, args...)...)
}

// mustPing pings the other inner address.
func mustPing(t *testing.T, from *gateway, args ...string) {
	t.Helper()
	dst, src := netns.EastInner, netns.WestInner
	if from.host.Name == "east" {
		dst, src = src, dst
	}
	if out, err := ping(t, from, append(args, "-I", src, dst)...); err != nil || !strings.Contains(out, "3 received") {
		t.Errorf("ping %v from %s: %v\n%s", args, from.host.Name, err, out)
	}
}

func noClear(t *testing.T, all ...*gateway) {
	t.Helper()
	for _, g := range all {
		if c, err := g.host.Counts(); err != nil || c.Clear() != 0 {
			t.Errorf("%s saw packets in clear: %v %v", g.host.Name, c, err)
		}
	}
}

func transfer(t *testing.T, client, server *gateway, octets int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	at, from := netns.EastInner, netns.WestInner
	if server.host.Name == "west" {
		at, from = from, at
	}
	if _, err := netns.Transfer(ctx, server.host, at+":0", client.host, from, octets); err != nil {
		t.Errorf("download by %s: %v", client.host.Name, err)
	}
}

func TestCarriesOverEveryCarrier(t *testing.T) {
	for _, kind := range []path.Kind{path.UDP, path.TCP, path.ESP} {
		for _, queues := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s-%d", kind, queues), func(t *testing.T) {
				west, east := lab(t, kind, userspace.Config{Queues: queues})
				for _, g := range []*gateway{west, east} {
					mustPing(t, g)
					mustPing(t, g, "-s", "1300", "-M", "do") // just fits
					mustPing(t, g, "-s", "8000")             // fragmented by the kernel before the TUN
					mustPing(t, g, "-s", "65000", "-M", "dont")
				}
				transfer(t, west, east, 20<<20)
				transfer(t, east, west, 20<<20)
				noClear(t, west, east)
				for _, g := range []*gateway{west, east} {
					for why, n := range g.Drops() {
						if why != userspace.DropSend && why != userspace.DropLinkLocal {
							t.Errorf("%s: %d packets dropped: %s", g.host.Name, n, why)
						}
					}
				}
				if u := west.Usage(0xc0000001)[0]; u.InBytes < 20<<20 || u.OutBytes < 20<<20 || time.Since(u.LastIn) > time.Minute {
					t.Errorf("usage %+v", u)
				}
			})
		}
	}
}

// TestPlainESPOverIPv6 carries both families in ESP over IPv6; nothing else is on the wire.
func TestPlainESPOverIPv6(t *testing.T) {
	_, w, e := netns.Gateways(t)
	west, east := open(t, w, userspace.Config{}), open(t, e, userspace.Config{})
	p := path.Path{Local: netip.MustParseAddrPort("[2001:db8:1:2::45]:0"), Remote: netip.MustParseAddrPort("[2001:db8:1:2::23]:0"), Kind: path.ESP}
	westNets, eastNets := subnets.Of(netns.WestNet, "2001:db8:0:1::/64"), subnets.Of(netns.EastNet, "2001:db8:0:2::/64")
	west.protect(westNets, eastNets, p)
	east.protect(eastNets, westNets, path.Path{Local: p.Remote, Remote: p.Local, Kind: path.ESP})
	if err := errors.Join(w.Count(), e.Count()); err != nil {
		t.Fatal(err)
	}
	for _, g := range []*gateway{west, east} {
		mustPing(t, g)
		mustPing(t, g, "-s", "65000", "-M", "dont")
	}
	transfer(t, west, east, 10<<20)
	if out, err := ping(t, west, "-I", "2001:db8:0:1::254", "2001:db8:0:2::254"); err != nil {
		t.Errorf("ping: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := netns.Transfer(ctx, e, "[2001:db8:0:2::254]:0", w, "2001:db8:0:1::254", 10<<20); err != nil {
		t.Errorf("download over IPv6: %v", err)
	}
	noClear(t, west, east)
	for _, g := range []*gateway{west, east} {
		u := g.Usage(0xc0000001, 0xc0000002)
		if c, err := g.host.Counts(); err != nil || c["plainesp"].Packets != u[0].InPackets+u[1].InPackets {
			t.Errorf("%s: %v %v; usage %+v", g.host.Name, c, err, u)
		}
	}
}

// TestMTUIsFound: what does not fit is refused with the MTU that does, and TCP agrees on segments that fit.
func TestMTUIsFound(t *testing.T) {
	west, east := lab(t, path.UDP, userspace.Config{})
	out, err := ping(t, west, "-s", "1450", "-M", "do", "-I", netns.WestInner, netns.EastInner)
	if err == nil || !strings.Contains(out, "1438") {
		t.Errorf("a packet of 1478 octets with DF: %v\n%s\nwant the MTU 1438 in the message", err, out)
	}
	if out, err := west.host.Output("ip", "route", "get", netns.EastInner, "from", netns.WestInner); err != nil || !strings.Contains(out, "mtu 1438") {
		t.Errorf("route: %v %s", err, out)
	}
	// The carrier becomes narrower without the kernel's knowing: Move computes anew, and packets of the old size get ICMP.
	for _, g := range []*gateway{west, east} {
		if err := g.host.Run("ip", "link", "set", netns.Outer, "mtu", "1300"); err != nil {
			t.Fatal(err)
		}
	}
	wp, ep := paths(t, path.UDP, west, east)
	west.Move(3, 0xc0000001, kernel.Endpoints{Path: wp})
	west.wait()
	east.Move(3, 0xc0000002, kernel.Endpoints{Path: ep})
	east.wait()
	mustPing(t, west, "-s", fmt.Sprint(1238-28), "-M", "do")
	transfer(t, west, east, 4<<20)
	noClear(t, west, east)
}

// TestForwardedPackets sends from a host behind west, whose packets have the size of its own link.
func TestForwardedPackets(t *testing.T) {
	l, w, e := netns.Gateways(t)
	inner, err := l.Host("sunset")
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		l.Cable(inner, "eth0", []string{"192.0.9.1/24"}, w, "eth2", []string{"192.0.9.254/24"}),
		inner.Run("ip", "route", "add", "default", "via", "192.0.9.254"),
		w.Run("sysctl", "-qw", "net.ipv4.ip_forward=1"),
		e.Run("ip", "route", "add", "192.0.9.0/24", "via", netns.West),
	)
	if err != nil {
		t.Fatal(err)
	}
	west, east := open(t, w, userspace.Config{}), open(t, e, userspace.Config{})
	wp, ep := paths(t, path.UDP, west, east)
	west.protect(subnets.Of("192.0.9.0/24"), subnets.Of(netns.EastNet), wp)
	east.protect(subnets.Of(netns.EastNet), subnets.Of("192.0.9.0/24"), ep)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := netns.Transfer(ctx, e, netns.EastInner+":0", inner, "192.0.9.1", 8<<20); err != nil {
		t.Errorf("download by a host behind the gateway: %v", err)
	}
	if _, err := netns.Transfer(ctx, inner, "192.0.9.1:0", e, netns.EastInner, 8<<20); err != nil {
		t.Errorf("download from a host behind the gateway: %v", err)
	}
	if out, err := inner.Output("ping", "-n", "-c", "1", "-W", "1", "-s", "1450", "-M", "do", netns.EastInner); err == nil || !strings.Contains(out, "1438") {
		t.Errorf("too big with DF from behind: %v\n%s", err, out)
	}
	if out, err := inner.Output("ping", "-n", "-c", "2", "-i", "0.05", "-W", "1", "-s", "3000", "-M", "dont", netns.EastInner); err != nil {
		t.Errorf("fragments from behind: %v\n%s", err, out)
	}
}

// TestMoveUnderTraffic changes the carrier during a download, and back.
func TestMoveUnderTraffic(t *testing.T) {
	west, east := lab(t, path.UDP, userspace.Config{})
	wu, eu := paths(t, path.UDP, west, east)
	wt, et := paths(t, path.TCP, west, east)
	wp, ep := paths(t, path.ESP, west, east)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		transfer(t, west, east, 100<<20)
	}()
	for _, step := range []struct{ w, e path.Path }{{wt, et}, {wu, eu}, {wp, ep}, {wu, eu}, {wp, ep}, {wt, et}} {
		before := west.Usage(0xc0000001)[0].InBytes
		netns.Until(t, 10*time.Second, "traffic flows", func() bool {
			select {
			case <-ended:
				return true
			default:
				return west.Usage(0xc0000001)[0].InBytes > before+4<<20
			}
		})
		west.Move(3, 0xc0000001, kernel.Endpoints{Path: step.w})
		east.Move(3, 0xc0000002, kernel.Endpoints{Path: step.e})
		west.wait()
		east.wait()
	}
	<-ended
	noClear(t, west, east)
	for _, g := range []*gateway{west, east} {
		if n := g.Drops()[userspace.DropUnknownSPI] + g.Drops()[userspace.DropIntegrity]; n != 0 {
			t.Errorf("%s: drops %v", g.host.Name, g.Drops())
		}
	}
}

// TestHostToHost protects the gateways' own addresses: the sealed packets between the same addresses must not find the tunnel.
func TestHostToHost(t *testing.T) {
	for _, kind := range []path.Kind{path.UDP, path.TCP, path.ESP} {
		t.Run(kind.String(), func(t *testing.T) {
			_, w, e := netns.Gateways(t)
			west, east := open(t, w, userspace.Config{}), open(t, e, userspace.Config{})
			wp, ep := paths(t, kind, west, east)
			west.protect(subnets.Of(netns.West), subnets.Of(netns.East), wp)
			east.protect(subnets.Of(netns.East), subnets.Of(netns.West), ep)
			if out, err := ping(t, west, netns.East); err != nil {
				t.Errorf("ping: %v\n%s", err, out)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if _, err := netns.Transfer(ctx, e, netns.East+":0", w, netns.West, 8<<20); err != nil {
				t.Error(err)
			}
			if u := west.Usage(0xc0000001)[0]; u.InBytes < 8<<20 {
				t.Errorf("not through the tunnel: %+v", u)
			}
		})
	}
}

// TestSinglePort protects one port; all else between the same networks flows in clear, and the port never does.
func TestSinglePort(t *testing.T) {
	_, w, e := netns.Gateways(t)
	west, east := open(t, w, userspace.Config{}), open(t, e, userspace.Config{})
	wp, ep := paths(t, path.UDP, west, east)
	port := subnets.Of(netns.EastNet + "/tcp/8080")
	west.protect(subnets.Of(netns.WestNet), port, wp)
	east.protect(port, subnets.Of(netns.WestNet), ep)
	if err := errors.Join(w.Count(), e.Count()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := netns.Transfer(ctx, e, netns.EastInner+":8080", w, netns.WestInner, 1<<20); err != nil {
		t.Error(err)
	}
	noClear(t, west, east)
	if u := west.Usage(0xc0000001)[0]; u.InBytes < 1<<20 {
		t.Errorf("not through the tunnel: %+v", u)
	}
	if out, err := ping(t, west, "-I", netns.WestInner, netns.EastInner); err != nil {
		t.Errorf("ping in clear: %v\n%s", err, out)
	}
	if c, err := e.Counts(); err != nil || c.Clear() == 0 {
		t.Errorf("the ping was not in clear: %v %v", c, err)
	}
	if err := west.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := netns.Transfer(ctx, e, netns.EastInner+":8080", w, netns.WestInner, 100); err == nil {
		t.Error("the protected port answered in clear")
	}
	if n := west.Drops()[userspace.DropClear] + east.Drops()[userspace.DropClear]; n == 0 {
		t.Errorf("not counted: %v", east.Drops())
	}
}

// TestWhatIsNotProtectedFlows: west's inner network sends everything through the tunnel; the gateway itself, and a second network behind it, do not.
func TestWhatIsNotProtectedFlows(t *testing.T) {
	_, w, e := netns.Gateways(t)
	if err := errors.Join(w.Stub("eth9", "172.16.9.254/24"), e.Run("ip", "route", "add", "172.16.9.0/24", "via", netns.West)); err != nil {
		t.Fatal(err)
	}
	west, east := open(t, w, userspace.Config{}), open(t, e, userspace.Config{})
	wp, ep := paths(t, path.UDP, west, east)
	west.protect(subnets.Of(netns.WestNet), subnets.Of("0.0.0.0/0"), wp)
	east.protect(subnets.Of("0.0.0.0/0"), subnets.Of(netns.WestNet), ep)
	mustPing(t, west)
	mustPing(t, east)
	before := west.Usage(0xc0000001)[0].OutPackets
	for _, args := range [][]string{{netns.East}, {"-I", netns.West, netns.EastInner}, {"-I", "172.16.9.254", netns.EastInner}} {
		if out, err := ping(t, west, args...); err != nil || !strings.Contains(out, "3 received") {
			t.Errorf("ping %v: %v\n%s", args, err, out)
		}
	}
	if after := west.Usage(0xc0000001)[0].OutPackets; after != before {
		t.Errorf("%d packets went through the tunnel that were not its own", after-before)
	}
	if out, err := ping(t, west, "-I", netns.WestInner, netns.East); err != nil || west.Usage(0xc0000001)[0].OutPackets != before+3 {
		t.Errorf("from the inner network to east's outer address: %v\n%s", err, out)
	}
}

// TestClearPacketsAreDropped: a packet from the wire that claims a protected source does not get in, whether or not there is an SA.
func TestClearPacketsAreDropped(t *testing.T) {
	west, east := lab(t, path.UDP, userspace.Config{})
	mustPing(t, west)
	// West forgets its tunnel and sends in clear, over the route that it has.
	if err := west.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := ping(t, west, "-I", netns.WestInner, netns.EastInner); err == nil {
		t.Errorf("east answered a packet in clear:\n%s", out)
	}
	if c, err := east.host.Counts(); err != nil || c.Clear() == 0 {
		t.Errorf("the packets did not even arrive: %v %v", c, err)
	}
	if n := east.Drops()[userspace.DropClear]; n != 3 {
		t.Errorf("counted %d: %v", n, east.Drops())
	}
	if c, err := west.host.Counts(); err != nil || c.Clear() != 0 {
		t.Errorf("east sent in clear: %v %v", c, err)
	}
	// What is not protected still passes.
	if out, err := ping(t, west, netns.East); err != nil {
		t.Errorf("ping of the outer address: %v\n%s", err, out)
	}
}

// TestNothingLeaksWithoutSA: with the policy alone, nothing leaves in clear; without the policy, it does (libreswan's auto=add).
func TestNothingLeaksWithoutSA(t *testing.T) {
	west, east := lab(t, path.UDP, userspace.Config{})
	mustPing(t, west)
	for _, action := range []kernel.Action{kernel.Protect, kernel.Hold, kernel.Drop, kernel.Trap, kernel.Reject} {
		west.Remove(4, 0xc0000001)
		west.wait()
		west.Route(5, kernel.Policy{ID: "c", Local: subnets.Of(netns.WestNet), Remote: subnets.Of(netns.EastNet), Action: action})
		west.wait()
		out, err := ping(t, west, "-I", netns.WestInner, netns.EastInner)
		if err == nil {
			t.Errorf("action %d: answered:\n%s", action, out)
		}
		if refused := strings.Contains(out, "Packet filtered") || strings.Contains(out, "Prohibited"); refused != (action == kernel.Reject) {
			t.Errorf("action %d:\n%s", action, out)
		}
	}
	noClear(t, west, east)
	west.Unroute(6, "c")
	west.wait()
	east.Unroute(6, "c")
	east.wait()
	if out, err := ping(t, west, "-I", netns.WestInner, netns.EastInner); err != nil {
		t.Errorf("without policies: %v\n%s", err, out)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	_, w, e := netns.Gateways(t)
	before := map[*netns.Host]string{}
	for _, h := range []*netns.Host{w, e} {
		s, err := h.State()
		if err != nil {
			t.Fatal(err)
		}
		before[h] = s
	}
	west, east := open(t, w, userspace.Config{}), open(t, e, userspace.Config{Queues: 2})
	wp, ep := paths(t, path.UDP, west, east)
	west.protect(subnets.Of(netns.WestNet), subnets.Of("0.0.0.0/0"), wp)
	east.protect(subnets.Of(netns.EastNet), subnets.Of(netns.WestNet), ep)
	for _, g := range []*gateway{west, east} {
		if err := errors.Join(g.mux.Close(), g.Close()); err != nil {
			t.Error(err)
		}
		after, err := g.host.State()
		if err != nil {
			t.Fatal(err)
		}
		if after != before[g.host] {
			t.Errorf("%s before:\n%s\nafter:\n%s", g.host.Name, before[g.host], after)
		}
	}
}

// TestRemovedTUNIsTold: an operator deletes the interface.
func TestRemovedTUNIsTold(t *testing.T) {
	_, w, _ := netns.Gateways(t)
	told := make(chan string, 10)
	west := open(t, w, userspace.Config{Notice: func(text string) { told <- text }})
	if err := west.host.Run("ip", "link", "del", "ikegod0"); err != nil {
		t.Fatal(err)
	}
	select {
	case text := <-told:
		if !strings.Contains(text, "ikegod0") {
			t.Error(text)
		}
	case <-time.After(5 * time.Second):
		t.Error("nobody was told")
	}
}

func TestSecondDatapathIsRefused(t *testing.T) {
	_, w, _ := netns.Gateways(t)
	first := open(t, w, userspace.Config{Queues: 2})
	err := w.Do(func() error {
		d, err := userspace.New(userspace.Config{Queues: 2}, first.mux, nil)
		if err == nil {
			return errors.Join(errors.New("two datapaths share a TUN"), d.Close())
		}
		if !strings.Contains(err.Error(), "exists already") {
			return err
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

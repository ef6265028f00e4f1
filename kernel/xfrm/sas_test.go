package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/xfrm/message"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/testing/subnets"
)

var gcm = aead(iana.ENCR_AES_GCM_16, 256)

// What an operator sees with ip xfrm state and ip xfrm policy.
func testLook(t *testing.T, west, east *gateway) {
	const (
		to, from  = "src 192.1.2.45 dst 192.1.2.23 proto esp spi EAST reqid REQID+1 mode ", "src 192.1.2.23 dst 192.1.2.45 proto esp spi WEST reqid REQID+1 mode "
		to6       = "src 2001:db8:1:2::45 dst 2001:db8:1:2::23 proto esp spi EAST reqid REQID+1 mode tunnel "
		from6     = "src 2001:db8:1:2::23 dst 2001:db8:1:2::45 proto esp spi WEST reqid REQID+1 mode tunnel "
		cipher    = "aead rfc4106(gcm(aes)) KEY288 128 "
		fresh     = "anti-replay context: seq 0x0, oseq 0x0, bitmap 0x00000000"
		freshESN  = "anti-replay esn context: seq-hi 0x0, seq 0x0, oseq-hi 0x0, oseq 0x0 replay_window 128, bitmap-length 4 00000000 00000000 00000000 00000000"
		hmac      = "transport replay-window 32 auth-trunc hmac(sha256) KEY256 128 enc cbc(aes) KEY128 "
		flags     = "replay-window 0 flag noecn decap-dscp nopmtudisc af-unspec "
		transport = " tmpl src 0.0.0.0 dst 0.0.0.0 proto esp reqid REQID+1 mode transport"
	)
	through := func(west, east string) []string {
		tmpl := func(src, dst string) string {
			return " tmpl src " + src + " dst " + dst + " proto esp reqid REQID+1 mode tunnel"
		}
		return []string{
			"src 192.0.1.0/24 dst 192.0.2.0/24 dir out priority 1757393" + tmpl(west, east),
			"src 192.0.2.0/24 dst 192.0.1.0/24 dir fwd priority 1757393" + tmpl(east, west),
			"src 192.0.2.0/24 dst 192.0.1.0/24 dir in priority 1757393" + tmpl(east, west),
			"src 2001:db8:0:1::/64 dst 2001:db8:0:2::/64 dir out priority 1736833" + tmpl(west, east),
			"src 2001:db8:0:2::/64 dst 2001:db8:0:1::/64 dir fwd priority 1736833" + tmpl(east, west),
			"src 2001:db8:0:2::/64 dst 2001:db8:0:1::/64 dir in priority 1736833" + tmpl(east, west),
			"src ::/0 dst ::/0 proto ipv6-icmp type 135 dir in priority 1", "src ::/0 dst ::/0 proto ipv6-icmp type 135 dir out priority 1",
			"src ::/0 dst ::/0 proto ipv6-icmp type 136 dir in priority 1", "src ::/0 dst ::/0 proto ipv6-icmp type 136 dir out priority 1",
		}
	}
	outer := through(west.a4.String(), east.a4.String())
	for _, c := range []struct {
		name             string
		tunnel           tunnel
		states, policies []string
	}{
		{
			"tunnel",
			tunnel{suite: gcm, carrier: path.ESP, window: 32},
			[]string{from + "tunnel replay-window 32 flag af-unspec " + cipher + fresh, to + "tunnel replay-window 32 flag af-unspec " + cipher + fresh},
			outer,
		},
		{
			"udp-esn",
			tunnel{suite: esn(gcm), carrier: path.UDP, window: 128, westPort: 4500, eastPort: 40000},
			[]string{
				from + "tunnel replay-window 0 flag af-unspec esn " + cipher + "encap type espinudp sport 40000 dport 4500 addr 0.0.0.0 " + freshESN,
				to + "tunnel replay-window 0 flag af-unspec esn " + cipher + "encap type espinudp sport 4500 dport 40000 addr 0.0.0.0 " + freshESN,
			},
			outer,
		},
		{
			"transport-cbc",
			tunnel{suite: cbc(128, iana.AUTH_HMAC_SHA2_256_128), carrier: path.ESP, transport: true, window: 32},
			[]string{from + hmac + fresh + " sel src 192.1.2.23/32 dst 192.1.2.45/32", to + hmac + fresh + " sel src 192.1.2.45/32 dst 192.1.2.23/32"},
			[]string{"src 192.1.2.23/32 dst 192.1.2.45/32 dir in priority 1753281" + transport, "src 192.1.2.45/32 dst 192.1.2.23/32 dir out priority 1753281" + transport},
		},
		{
			"flags",
			tunnel{suite: gcm, carrier: path.ESP, outer6: true, flags: kernel.Flags{NoECN: true, DecapDSCP: true, NoEncapDSCP: true, NoPMTUDisc: true}},
			[]string{from6 + flags + cipher + fresh, to6 + flags + cipher + fresh},
			through(west.a6.String(), east.a6.String()),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			west.start(t, Config{})
			east.start(t, Config{})
			w, e := c.tunnel.install(t, west, east)
			if diff := cmp.Diff(c.states, west.states(t, map[kernel.SPI]string{w: "WEST", e: "EAST"})); diff != "" {
				t.Errorf("ip xfrm state (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.policies, west.policies(t)); diff != "" {
				t.Errorf("ip xfrm policy (-want +got):\n%s", diff)
			}
			// iproute2 6.1 does not print it.
			sa, err := west.worker.read(west.worker.pairs[w].out)
			if err != nil || (sa.Extra&message.ExtraDontEncapDSCP != 0) != c.tunnel.flags.NoEncapDSCP {
				t.Errorf("extra flags %#x, %v", sa.Extra, err)
			}
		})
	}
}

// packets is how many packets each SPI has carried out, and in.
func (g *gateway) packets(spis ...kernel.SPI) (out []string) {
	for _, u := range g.Usage(spis...) {
		out = append(out, fmt.Sprintf("%d/%d", u.OutPackets, u.InPackets))
	}
	return out
}

func expect(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// A pair that stands by takes packets in at once, and sends when the older is removed; another sends from its installation on.
func testStandby(t *testing.T, west, east *gateway) {
	west.start(t, Config{})
	east.start(t, Config{})
	c := tunnel{suite: gcm, carrier: path.ESP, window: 32}
	old, oldEast := c.install(t, west, east)
	west.ping(t, west.i4, east.i4, 1)
	c.generation, c.standby = 1, true
	next, nextEast := c.install(t, west, east)
	west.ping(t, west.i4, east.i4, 1)
	expect(t, "west, both new ones stand by", west.packets(old, next), []string{"2/2", "0/0"})
	west.must(func(n kernel.Request) { west.Remove(n, old) }) // its turn now; east's old one goes a little later
	expect(t, "east", east.packets(oldEast, nextEast), []string{"2/2", "0/0"})
	east.must(func(n kernel.Request) { east.Remove(n, oldEast) })
	west.ping(t, west.i4, east.i4, 1)
	expect(t, "west, the old one is gone", west.packets(old, next), []string{"0/0", "1/1"})
	// One that does not stand by sends at once, the older still takes in.
	c.generation, c.standby = 2, false
	last, lastEast := c.install(t, west, east)
	west.ping(t, west.i4, east.i4, 1)
	expect(t, "west, a third", west.packets(next, last), []string{"1/1", "1/1"})
	expect(t, "east, a third", east.packets(nextEast, lastEast), []string{"1/1", "1/1"})
	// Without it, the one before it goes on.
	west.must(func(n kernel.Request) { west.Remove(n, last) })
	east.must(func(n kernel.Request) { east.Remove(n, lastEast) })
	west.ping(t, west.i4, east.i4, 1)
	expect(t, "west, the third is gone", west.packets(next), []string{"2/2"})
}

// An SA that comes to its soft limit is told, and one at its hard limit is gone, by packets and by octets.
func testLimits(t *testing.T, west, east *gateway) {
	for name, limits := range map[string]kernel.Limits{"packets": {SoftPackets: 3, HardPackets: 6}, "bytes": {SoftBytes: 3 * 84, HardBytes: 6 * 84}} {
		t.Run(name, func(t *testing.T) {
			west.start(t, Config{})
			east.start(t, Config{})
			c := tunnel{suite: gcm, carrier: path.ESP, window: 32, limits: limits}
			spi, _ := c.install(t, west, east)
			west.ping(t, west.i4, east.i4, 4)
			west.until("SoftExpire", func() bool { return slices.Contains(west.heard, kernel.Event(kernel.SoftExpire{SPI: spi})) })
			if slices.Contains(west.heard, kernel.Event(kernel.HardExpire{SPI: spi})) {
				t.Error("HardExpire came before its time")
			}
			_, _ = west.exec(fmt.Sprintf("ping -n -c 6 -i 0.02 -W 1 -I %s %s", west.i4, east.i4))
			west.until("HardExpire", func() bool { return slices.Contains(west.heard, kernel.Event(kernel.HardExpire{SPI: spi})) })
			if n := len(west.heard); n != 2 {
				t.Errorf("%d events: %+v", n, west.heard)
			}
			west.must(func(n kernel.Request) { west.Remove(n, spi) })
			if got := west.ip(t, "xfrm state"); strings.Contains(got, "spi 0x") && !strings.Contains(got, "spi 0x00000000") {
				t.Errorf("left:\n%s", hideKeys(got))
			}
		})
	}
}

// The first packet of a trap brings the SAs up, and the next ones go through them.
func testAcquireUp(t *testing.T, west, east *gateway) {
	west.start(t, Config{})
	east.start(t, Config{})
	for _, transport := range []bool{false, true} {
		c := tunnel{suite: gcm, carrier: path.ESP, window: 32, transport: transport, generation: byte(len(west.heard))}
		west.heard = nil
		src, dst := west.i4, east.i4
		if transport {
			src, dst = west.a4, east.a4
		}
		west.route(c.policy(t, west, east, kernel.Trap))
		_, _ = west.exec(fmt.Sprintf("ping -n -c 1 -W 1 -I %s %s", src, dst))
		west.until("Acquire", func() bool { return len(west.heard) > 0 })
		if a, ok := west.heard[0].(kernel.Acquire); !ok || a.Policy != "west-east" || a.Src.Addr() != src || a.Dst.Addr() != dst {
			t.Fatalf("%+v", west.heard)
		}
		w, e := c.install(t, west, east)
		west.ping(t, src, dst, 2)
		west.must(func(n kernel.Request) { west.Remove(n, w) })
		east.must(func(n kernel.Request) { east.Remove(n, e) })
	}
}

// Moves keep SPIs, sequence numbers, windows and counters.
func testMove(t *testing.T, west, east *gateway) {
	west.ip(t, "addr add 192.1.2.46/24 dev eth1")
	elsewhere := addr("192.1.2.46")
	for name, c := range map[string]struct {
		tunnel tunnel
		to     func(p path.Path) path.Path // of west
		by     string                      // MIGRATE, or made anew because there is another pair
	}{
		"ports":     {tunnel{suite: gcm, carrier: path.UDP, window: 32}, func(p path.Path) path.Path { p.Local = netip.AddrPortFrom(p.Local.Addr(), 4501); return p }, ""},
		"addresses": {tunnel{suite: esn(gcm), carrier: path.UDP, window: 128}, func(p path.Path) path.Path { p.Local = netip.AddrPortFrom(elsewhere, 4500); return p }, ""},
		"plain":     {tunnel{suite: gcm, carrier: path.ESP, window: 32}, func(p path.Path) path.Path { p.Local = netip.AddrPortFrom(elsewhere, 0); return p }, ""},
		"family": {tunnel{suite: gcm, carrier: path.ESP, window: 32}, func(path.Path) path.Path {
			return path.Path{Local: netip.AddrPortFrom(west.a6, 0), Remote: netip.AddrPortFrom(east.a6, 0), Kind: path.ESP}
		}, ""},
		"several":     {tunnel{suite: gcm, carrier: path.ESP, window: 32}, func(p path.Path) path.Path { p.Local = netip.AddrPortFrom(elsewhere, 0); return p }, "anew"},
		"several-esn": {tunnel{suite: esn(gcm), carrier: path.UDP, window: 256}, func(p path.Path) path.Path { p.Local = netip.AddrPortFrom(elsewhere, 4500); return p }, "anew"},
	} {
		t.Run(name, func(t *testing.T) {
			west.start(t, Config{})
			east.start(t, Config{})
			for _, g := range []*gateway{west, east} {
				g.in(func() { encapSocket(t, 4500); encapSocket(t, 4501) })
			}
			w, e := c.tunnel.install(t, west, east)
			if c.by != "" {
				// An older pair, which stays where it is.
				c.tunnel.generation = 1
				w, e = c.tunnel.install(t, west, east)
			}
			west.ping(t, west.i4, east.i4, 4)
			to := c.to(c.tunnel.ends(west, east, 4500, 4500))
			west.must(func(n kernel.Request) { west.Move(n, w, kernel.Endpoints{Path: to}) })
			back := path.Path{Local: to.Remote, Remote: to.Local, Kind: to.Kind}
			east.must(func(n kernel.Request) { east.Move(n, e, kernel.Endpoints{Path: back}) })
			west.ping(t, west.i4, east.i4, 4)
			expect(t, "west", west.packets(w), []string{"8/8"})
			sa, err := west.worker.read(west.worker.pairs[w].out)
			if err != nil {
				t.Fatal(err)
			}
			if sa.Replay.Out < 8 {
				t.Errorf("the sequence number is %d after 8 packets", sa.Replay.Out)
			}
			d := west.await(func(n kernel.Request) {
				west.Move(n, w, kernel.Endpoints{Path: path.Path{Local: to.Local, Remote: to.Remote, Kind: path.TCP}})
			})
			if !errors.Is(d.Err, kernel.ErrCarrier) {
				t.Errorf("to another carrier: %v", d.Err)
			}
		})
	}
}

// A peer behind a NAT whose packets come from another port is told.
func testMapping(t *testing.T, west, east *gateway) {
	west.start(t, Config{})
	east.start(t, Config{})
	west.in(func() { encapSocket(t, 4500); encapSocket(t, 4777) })
	east.in(func() { encapSocket(t, 4500) })
	c := tunnel{suite: gcm, carrier: path.UDP, window: 32}
	w, e := c.install(t, west, east)
	p := c.ends(west, east, 4777, 4500)
	west.must(func(n kernel.Request) { west.Move(n, w, kernel.Endpoints{Path: p}) })
	_, _ = west.exec(fmt.Sprintf("ping -n -c 2 -i 0.02 -W 1 -I %s %s", west.i4, east.i4))
	moved := kernel.PeerMoved{SPI: e, Path: path.Path{Local: p.Remote, Remote: p.Local, Kind: path.UDP}}
	east.until("PeerMoved", func() bool { return len(east.heard) > 0 })
	if len(east.heard) != 1 || east.heard[0] != kernel.Event(moved) {
		t.Errorf("%+v, want one %+v", east.heard, moved)
	}
	east.must(func(n kernel.Request) { east.Move(n, e, kernel.Endpoints{Path: moved.Path}) })
	west.ping(t, west.i4, east.i4, 2)
}

// SAs of a daemon that was killed are removed, those of others not. Its policies go on until others are in their place.
func testCrash(t *testing.T, west, east *gateway) {
	dir := t.TempDir()
	east.start(t, Config{})
	west.in(func() { west.rig = openUnclosed(t, Config{RunDir: dir}) })
	c := tunnel{suite: gcm, carrier: path.ESP, window: 32}
	c.install(t, west, east)
	west.ip(t, "xfrm state add src 192.1.2.45 dst 192.1.2.99 proto esp spi 0x1234 reqid 16388 mode tunnel aead rfc4106(gcm(aes)) 0x"+strings.Repeat("ab", 20)+" 128")
	west.kill()
	var notices []string
	west.start(t, Config{RunDir: dir, Left: func(s string) { notices = append(notices, s) }})
	if got := west.ip(t, "xfrm state"); strings.Count(got, "proto esp") != 1 || !strings.Contains(got, "reqid 16388") {
		t.Errorf("left:\n%s", hideKeys(got))
	}
	if got := west.policies(t); len(got) != 10 {
		t.Errorf("%d policies hold back what was protected, want 10: %q", len(got), got)
	}
	if out, err := west.exec(fmt.Sprintf("ping -n -c 1 -W 1 -I %s %s", west.i4, east.i4)); err == nil {
		t.Errorf("what was protected flows: %s", out)
	}
	c.generation = 1
	c.install(t, west, east) // the new daemon works
	west.ping(t, west.i4, east.i4, 1)
	if err := west.Sweep(); err != nil {
		t.Error(err)
	}
	if got := west.ip(t, "xfrm state"); strings.Count(got, "proto esp") != 3 {
		t.Errorf("the two of the new daemon and the other's are wanted:\n%s", hideKeys(got))
	}
	west.ping(t, west.i4, east.i4, 1)
	if len(notices) != 2 || !strings.Contains(notices[0], "removed 2 SAs") || !strings.Contains(notices[0], "10 policies stay") || !strings.Contains(notices[1], "10 were replaced in place, and 0 were removed") {
		t.Errorf("notices %q", notices)
	}
	west.ip(t, "xfrm state del src 192.1.2.45 dst 192.1.2.99 proto esp spi 0x1234")
}

// What the kernel refuses is said in an operator's words, and leaves nothing.
func testRefusals(t *testing.T, west, east *gateway) {
	west.start(t, Config{})
	c := tunnel{suite: gcm, carrier: path.ESP, window: 32}
	p := c.policy(t, west, east, kernel.Protect)
	west.route(p)
	before := west.policies(t)
	pair := func() kernel.SAPair {
		ends := kernel.Endpoints{Path: c.ends(west, east, 0, 0)}
		spi := west.must(func(n kernel.Request) { west.ReserveSPI(n, ends) }).SPI
		return kernel.SAPair{
			Policy: p.ID, Local: p.Local, Remote: p.Remote, Endpoints: ends,
			In:  kernel.SA{SPI: spi, Suite: gcm, EncrKey: key(36, 1)},
			Out: kernel.SA{SPI: 0x7777, Suite: gcm, EncrKey: key(36, 2)},
		}
	}
	west.ip(t, "xfrm state add src 192.1.2.45 dst 192.1.2.23 proto esp spi 0x7777 mode tunnel aead rfc4106(gcm(aes)) 0x"+strings.Repeat("ab", 20)+" 128")
	for name, x := range map[string]struct {
		change func(*kernel.SAPair)
		want   []string
	}{
		"taken":     {func(*kernel.SAPair) {}, []string{"outbound (SPI 0x00007777 to 192.1.2.23)", "file exists", "ip xfrm state"}},
		"key":       {func(s *kernel.SAPair) { s.Out.SPI, s.Out.EncrKey = 0x7778, key(7, 1) }, []string{"outbound", "invalid argument"}},
		"algorithm": {func(s *kernel.SAPair) { s.Out.SPI, s.Out.Suite = 0x7778, cbc(128, iana.AUTH_AES_128_GMAC) }, []string{"no name for the integrity of AES_CBC_128", "--backend userspace"}},
		"unrouted":  {func(s *kernel.SAPair) { s.Policy = "nobody" }, []string{"of nobody", "not routed"}},
		"reserved":  {func(s *kernel.SAPair) { s.Out.SPI = 7 }, []string{"RFC 4303 2.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			sa := pair()
			x.change(&sa)
			d := west.await(func(n kernel.Request) { west.Install(n, sa) })
			if d.Err == nil {
				t.Fatal("no error")
			}
			for _, want := range append(x.want, fmt.Sprintf("%#08x", uint32(sa.In.SPI))) {
				if !strings.Contains(d.Err.Error(), want) {
					t.Errorf("the error does not say %q: %v", want, d.Err)
				}
			}
			west.must(func(n kernel.Request) { west.Remove(n, sa.In.SPI) })
			if got := west.ip(t, "xfrm state"); strings.Count(got, "proto esp") != 1 {
				t.Errorf("left:\n%s", hideKeys(got))
			}
			if diff := cmp.Diff(before, west.policies(t)); diff != "" {
				t.Errorf("policies have changed:\n%s", diff)
			}
		})
	}
	west.ip(t, "xfrm state del src 192.1.2.45 dst 192.1.2.23 proto esp spi 0x7777")
}

// An XFRM interface has what is routed through it, and goes with its last policy.
func testInterface(t *testing.T, west, east *gateway) {
	east.start(t, Config{})
	west.start(t, Config{})
	for _, g := range []*gateway{west, east} {
		other := map[*gateway]*gateway{west: east, east: west}[g]
		g.ip(t, "route del "+other.n4)
		g.ip(t, "route del "+other.n6)
	}
	c := tunnel{suite: gcm, carrier: path.ESP, window: 32, iface: kernel.Interface{Name: "ipsec1", ID: 1, Addrs: []netip.Prefix{netip.MustParsePrefix("198.18.15.15/24")}}}
	w, e := c.install(t, west, east)
	if got := west.ip(t, "-d link show ipsec1"); !strings.Contains(got, "xfrm if_id 0x1") || !strings.Contains(got, "UP") {
		t.Errorf("%s", got)
	}
	if got := west.ip(t, "addr show ipsec1"); !strings.Contains(got, "198.18.15.15/24") {
		t.Errorf("%s", got)
	}
	west.ping(t, west.i4, east.i4, 2)
	west.ping(t, west.i6, east.i6, 2)
	expect(t, "west", west.packets(w), []string{"4/4"})
	for g, spi := range map[*gateway]kernel.SPI{west: w, east: e} {
		g.must(func(n kernel.Request) { g.Remove(n, spi) })
		g.must(func(n kernel.Request) { g.Unroute(n, "west-east") })
		if got := g.ip(t, "link"); strings.Contains(got, "ipsec1") {
			t.Errorf("left:\n%s", got)
		}
	}
	loop := c.policy(t, west, east, kernel.Hold)
	loop.Remote, loop.RemoteAddr = subnets.Of("192.1.2.0/24"), east.a4
	if d := west.await(func(n kernel.Request) { west.Route(n, loop) }); d.Err == nil || !strings.Contains(d.Err.Error(), "holds the peer 192.1.2.23") {
		t.Errorf("%v", d.Err)
	}
	if got := west.ip(t, "link"); strings.Contains(got, "ipsec1") {
		t.Errorf("left:\n%s", got)
	}
	// One that is there already is used, and stays; one that is something else is refused.
	west.ip(t, "link add ipsec1 type xfrm if_id 1")
	west.ip(t, "link set ipsec1 up")
	west.route(c.policy(t, west, east, kernel.Hold))
	west.must(func(n kernel.Request) { west.Unroute(n, "west-east") })
	west.ip(t, "link del ipsec1")
	west.ip(t, "link add ipsec1 type veth peer name nobody")
	d := west.await(func(n kernel.Request) { west.Route(n, c.policy(t, west, east, kernel.Hold)) })
	if d.Err == nil || !strings.Contains(d.Err.Error(), "ip link del ipsec1") {
		t.Errorf("%v", d.Err)
	}
	west.ip(t, "link del ipsec1")
}

// When the kernel has dropped messages, what they said is found out.
func testResync(t *testing.T, west, east *gateway) {
	west.start(t, Config{})
	east.start(t, Config{})
	c := tunnel{suite: gcm, carrier: path.ESP, window: 32, limits: kernel.Limits{SoftPackets: 2}}
	spi, _ := c.install(t, west, east)
	west.news.close() // deaf
	west.ping(t, west.i4, east.i4, 3)
	west.requests.tell(west.worker.resync)
	west.until("SoftExpire", func() bool { return slices.Contains(west.heard, kernel.Event(kernel.SoftExpire{SPI: spi})) })
	out := west.worker.pairs[spi].out
	west.ip(t, fmt.Sprintf("xfrm state del src %s dst %s proto esp spi %d", out.Src, out.Dst, out.SPI))
	west.requests.tell(west.worker.resync)
	west.until("HardExpire", func() bool { return slices.Contains(west.heard, kernel.Event(kernel.HardExpire{SPI: spi})) })
	var err error
	west.in(func() { west.news, err = listen(west.Datapath) })
	if err != nil {
		t.Fatal(err)
	}
	go west.news.run()
}

package uml_test

import (
	"cmp"
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/ctl"
	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/uml"
)

// ours is one way for two ikegods to meet, whose kernels carry everything.
type ours struct {
	name      string
	place     place
	inner6    bool // the inner networks are those of IPv6
	outer6    bool // the gateways know each other by IPv6
	transport bool
	iface     string   // ipsec-interface=
	conn      []string // lines of the connection, at both ends
	carrier   string
	short     bool // -short runs it too, and so CI
}

var (
	useTCP   = []string{"enable-tcp=yes"}
	useUDP   = []string{"encapsulation=yes"}
	fallback = []string{"enable-tcp=fallback", "retransmit-timeout=4s"}
)

var oursTable = []ours{
	{name: "esp", place: direct, carrier: "ESP", short: true},
	{name: "udp", place: direct, conn: useUDP, carrier: "ESPinUDP"},
	{name: "nat", place: weBehindNAT, carrier: "ESPinUDP", short: true},
	{name: "tcp", place: direct, conn: useTCP, carrier: "ESPinTCP", short: true},
	{name: "tcp-nat", place: weBehindNAT, conn: useTCP, carrier: "ESPinTCP"},
	{name: "fallback", place: udpDropped, conn: fallback, carrier: "ESPinTCP"},
	{name: "transport-esp", place: direct, transport: true, carrier: "ESP"},
	{name: "transport-udp", place: direct, transport: true, conn: useUDP, carrier: "ESPinUDP"},
	{name: "transport-tcp", place: direct, transport: true, conn: useTCP, carrier: "ESPinTCP"},
	{name: "6in4-udp", place: direct, inner6: true, conn: useUDP, carrier: "ESPinUDP"},
	{name: "6in4-tcp", place: direct, inner6: true, conn: useTCP, carrier: "ESPinTCP"},
	{name: "4in6-esp", place: direct, outer6: true, carrier: "ESP"},
	{name: "4in6-udp", place: direct, outer6: true, conn: useUDP, carrier: "ESPinUDP"},
	{name: "4in6-tcp", place: direct, outer6: true, conn: useTCP, carrier: "ESPinTCP"},
	{name: "6in6-udp", place: direct, inner6: true, outer6: true, conn: useUDP, carrier: "ESPinUDP"},
	{name: "interface-udp", place: direct, iface: "yes", conn: useUDP, carrier: "ESPinUDP"},
	{name: "interface-tcp", place: direct, iface: "17", conn: useTCP, carrier: "ESPinTCP"},
	{name: "esn", place: direct, conn: append([]string{"esn=yes", "replay-window=1024"}, useUDP...), carrier: "ESPinUDP"},
	{name: "no-esn", place: direct, conn: append([]string{"esn=no", "replay-window=32"}, useTCP...), carrier: "ESPinTCP"},
}

// kernelGateway is an ikegod, whose kernel carries its ESP, and where it is.
type kernelGateway struct {
	*netns.Daemon
	end
	conf    string
	backend string // empty: xfrm
}

// pairOfOurs is two of them.
type pairOfOurs struct {
	ours
	west, east *kernelGateway
}

// ends places the two, with the addresses of the families that are wanted.
func (o *ours) ends(t *testing.T) (w, e end) {
	t.Helper()
	w, e = o.place(t)
	if o.inner6 {
		w.in, w.net, e.in, e.net = netns.WestInner6, netns.WestNet6, netns.EastInner6, netns.EastNet6
	}
	if o.outer6 {
		w.addr, w.seen, e.addr, e.seen = netns.West6, netns.West6, netns.East6, netns.East6
	}
	if o.transport {
		w.in, e.in = w.addr, e.addr
	}
	return w, e
}

// confOf is ipsec.conf of one end.
func (o *ours) confOf(here, there end, auto string) string {
	lines := []string{
		"left=" + here.addr, "leftid=@" + here.name, "right=" + there.seen, "rightid=@" + there.name, "authby=secret", "auto=" + auto,
	}
	if o.transport {
		lines = append(lines, "type=transport")
	} else {
		lines = append(lines, "leftsubnet="+here.net, "rightsubnet="+there.net)
	}
	if o.iface != "" {
		lines = append(lines, "ipsec-interface="+o.iface, "leftinterface-ip="+map[string]string{"west": "198.18.15.1/24", "east": "198.18.15.2/24"}[here.name])
	}
	return "config setup\n\tlisten-tcp=yes\n\nconn meeting\n\t" + strings.Join(append(lines, o.conn...), "\n\t") + "\n"
}

// meet starts both daemons; west's connection has auto.
func (o ours) meet(t *testing.T, auto string) *pairOfOurs {
	t.Helper()
	return o.meetWith(t, auto, psk)
}

// meetWith is meet, where east has other secrets.
func (o ours) meetWith(t *testing.T, auto, secrets string) *pairOfOurs {
	t.Helper()
	w, e := o.ends(t)
	p := &pairOfOurs{ours: o, west: &kernelGateway{end: w, conf: o.confOf(w, e, auto)}, east: &kernelGateway{end: e, conf: o.confOf(e, w, "add")}}
	p.saysWhatItKnows(t)
	o.clearRoutes(t, w, e)
	p.east.startWith(t, secrets)
	p.west.start(t)
	return p
}

// clearRoutes takes away the routes of the gateways to each other's network, where an interface is to have them: ikegod takes no route away that is not its own.
func (o *ours) clearRoutes(t *testing.T, w, e end) {
	t.Helper()
	if o.iface == "" {
		return
	}
	for _, here := range []struct{ end, there end }{{w, e}, {e, w}} {
		if err := here.end.host.Run("ip", "route", "del", here.there.net); err != nil {
			t.Fatal(err)
		}
	}
}

// saysWhatItKnows puts the kernels and logs of both ends into the output of a test that has failed.
func (p *pairOfOurs) saysWhatItKnows(t *testing.T) {
	t.Cleanup(func() {
		for _, g := range p.both() {
			if t.Failed() && g.Daemon != nil {
				out, _ := g.host.Output("sh", "-c", "ip -s xfrm state list nokeys; ip xfrm policy; ip route show table all proto 73; ss -tnp; grep -v '\t0$' /proc/net/xfrm_stat")
				t.Logf("the kernel of %s:\n%s", g.name, out)
				t.Logf("the log of %s:\n%s", g.name, g.Log())
			}
		}
	})
}

func (p *pairOfOurs) both() []*kernelGateway { return []*kernelGateway{p.west, p.east} }

func (g *kernelGateway) start(t *testing.T) {
	t.Helper()
	g.startWith(t, psk)
}

func (g *kernelGateway) startWith(t *testing.T, secrets string) {
	t.Helper()
	d, err := g.host.Ikegod(g.conf, secrets, "--log-level=debug", "--backend="+cmp.Or(g.backend, "xfrm"))
	if err != nil {
		t.Fatal(err)
	}
	g.Daemon = d
}

// up brings the connection up from west.
func (p *pairOfOurs) up(t *testing.T) {
	t.Helper()
	if out, status := p.west.Ikectl("up", "meeting"); status != 0 {
		t.Fatalf("ikectl up: %d\n%s", status, out)
	}
	p.settled(t)
}

// settled waits until both ends have one IKE SA with one Child SA, and looks at it.
func (p *pairOfOurs) settled(t *testing.T) {
	t.Helper()
	for _, g := range p.both() {
		netns.Until(t, patience, g.name+" has one Child SA, in two states", func() bool {
			list := ikeSAs(t, g.Daemon)
			return len(list) == 1 && len(list[0].Children) == 1 && list[0].Children[0].Carrier != "" && kernelStates(t, g.host) == 2
		})
		mode := "tunnel"
		if p.transport {
			mode = "transport"
		}
		if c := onlyChild(t, g.Daemon); c.Datapath != "xfrm" || c.Carrier != p.carrier || c.Mode != mode {
			t.Errorf("the Child SA of %s is %s, %s by %s; want %s, %s by xfrm", g.name, c.Mode, c.Carrier, c.Datapath, mode, p.carrier)
		}
	}
}

// watched does something while both wires are watched, and wants nothing in clear on them.
func (p *pairOfOurs) watched(t *testing.T, do func()) {
	t.Helper()
	watched(t, do, p.west.host, p.east.host)
}

// carries pings both ways and transfers 20 MB from east, with nothing in clear, and looks whether the kernel's SAs have counted all of it.
func (p *pairOfOurs) carries(t *testing.T) {
	t.Helper()
	east := p.east.in
	if p.transport {
		east = p.east.seen
	}
	before := carriedBytes(t, p.west.host)
	p.watched(t, func() {
		p.pings(t, p.west, p.west.in, east)
		p.pings(t, p.east, east, p.west.in)
		ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
		defer cancel()
		begin := time.Now()
		if _, err := netns.Transfer(ctx, p.east.host, net.JoinHostPort(east, "0"), p.west.host, p.west.in, 20*megabytes); err != nil {
			t.Errorf("download: %v", err)
		}
		t.Logf("20 MB in %s", time.Since(begin).Round(time.Millisecond))
	})
	if got := carriedBytes(t, p.west.host) - before; got < 20*megabytes {
		t.Errorf("the kernel's SAs have carried %d octets of %d", got, 20*megabytes)
	}
	if c := onlyChild(t, p.west.Daemon); c.InBytes < 20*megabytes || c.OutPackets < 6 {
		t.Errorf("ikectl's counters: %+v", c)
	}
}

func (p *pairOfOurs) pings(t *testing.T, from *kernelGateway, source, to string, more ...string) {
	t.Helper()
	args := append([]string{"-n", "-c", "3", "-i", "0.05", "-W", "20", "-I", source}, append(more, to)...)
	if out, err := from.host.Output("ping", args...); err != nil {
		t.Errorf("ping from %s: %v: %s", from.name, err, out)
	}
}

// carriedBytes is the sum of what the ESP states of a kernel have counted.
func carriedBytes(t *testing.T, h *netns.Host) (sum int) {
	t.Helper()
	out, err := h.Output("ip", "-s", "xfrm", "state", "list", "nokeys")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(out, "lifetime current:")[1:] {
		text, _, _ := strings.Cut(strings.TrimSpace(part), "(bytes)")
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		sum += n
	}
	return sum
}

// rekeys rekeys the Child SA from both ends, while echo requests are on their way, of which none may be lost.
func (p *pairOfOurs) rekeys(t *testing.T) {
	t.Helper()
	east := p.east.in
	if p.transport {
		east = p.east.seen
	}
	type pinged struct {
		out string
		err error
	}
	done := make(chan pinged, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := p.west.host.Command(ctx, "ping", "-n", "-q", "-i", "0.01", "-c", "300", "-W", "20", "-I", p.west.in, east)
	go func() {
		out, err := cmd.CombinedOutput()
		done <- pinged{string(out), err}
	}()
	for _, g := range p.both() {
		before := onlyChild(t, p.west.Daemon).SPIIn
		if out, status := g.Ikectl("rekey-child", "meeting"); status != 0 {
			t.Errorf("rekey-child at %s: %d\n%s", g.name, status, out)
		}
		p.settled(t)
		if after := onlyChild(t, p.west.Daemon).SPIIn; after == before {
			t.Errorf("the Child SA has kept its SPI %#x", after)
		}
	}
	if got := <-done; got.err != nil || !strings.Contains(got.out, " 300 received") {
		t.Errorf("echo requests while rekeying: %v\n%s", got.err, got.out)
	}
}

// down takes the connection down from west, and wants no state at either end.
func (p *pairOfOurs) down(t *testing.T) {
	t.Helper()
	if out, status := p.west.Ikectl("down", "meeting"); status != 0 {
		t.Errorf("ikectl down: %d\n%s", status, out)
	}
	for _, g := range p.both() {
		netns.Until(t, patience, g.name+" has no SA", func() bool { return len(ikeSAs(t, g.Daemon)) == 0 && kernelStates(t, g.host) == 0 })
	}
}

// leavesNothing stops both, and wants nothing in their kernels: neither of ours nor anything else.
func (p *pairOfOurs) leavesNothing(t *testing.T) {
	t.Helper()
	for _, g := range p.both() {
		if err := g.Stop(); err != nil {
			t.Error(err)
		}
	}
	for _, g := range p.both() {
		for _, what := range []string{"ip xfrm state", "ip xfrm policy", "nft list tables | grep -i ikegod", "ip link show type xfrm", "ip -4 route show table all proto 73; ip -6 route show table all proto 73", "ip rule | grep -vE '^(0|32766|32767):'"} {
			if out, _ := g.host.Output("sh", "-c", what); strings.TrimSpace(out) != "" {
				t.Errorf("%s: %s after the stop:\n%s", g.name, what, out)
			}
		}
	}
}

func ikeSAs(t *testing.T, d *netns.Daemon) (list []ctl.IKESA) {
	t.Helper()
	if err := d.SAs(t.Context(), func(sa ctl.IKESA) bool { list = append(list, sa); return true }); err != nil {
		t.Fatal(err)
	}
	return list
}

// onlyChild is the one Child SA of a daemon.
func onlyChild(t *testing.T, d *netns.Daemon) ctl.ChildSA {
	t.Helper()
	list := ikeSAs(t, d)
	if len(list) != 1 || len(list[0].Children) != 1 {
		t.Fatalf("not one IKE SA with one Child SA: %+v", list)
	}
	return list[0].Children[0]
}

// kernelStates counts the ESP states of a kernel.
func kernelStates(t *testing.T, h *netns.Host) int {
	t.Helper()
	out, err := h.Output("ip", "xfrm", "state", "list", "nokeys")
	if err != nil {
		t.Fatalf("ip xfrm state: %v: %s", err, out)
	}
	return strings.Count(out, "proto esp")
}

// TestIkegod lets two ikegods meet by every carrier, in both modes and families, with all packets in the kernel.
func TestIkegod(t *testing.T) {
	for _, o := range oursTable {
		t.Run(o.name, func(t *testing.T) {
			if !o.short {
				fullOnly(t)
			}
			if uml.Outside(t, uml.Full, uml.Programs) {
				return
			}
			p := o.meet(t, "add")
			p.up(t)
			p.golden(t, "up")
			p.carries(t)
			p.rekeys(t)
			p.down(t)
			p.golden(t, "down")
			p.leavesNothing(t)
		})
	}
}

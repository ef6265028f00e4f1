package xfrm

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/xfrm/message"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/testing/subnets"
)

// gateway is a network namespace with a thread in it, and a Datapath. West and east are joined by a wire; behind each is a network, of which it has an address
// itself.
type gateway struct {
	*rig
	name   string
	work   chan func()
	a4, a6 netip.Addr // on the wire
	i4, i6 netip.Addr // inside
	n4, n6 string     // inside
}

// gateways makes west and east. They live for the test.
func gateways(t *testing.T) (west, east *gateway) {
	t.Helper()
	west = &gateway{name: "west", a4: addr("192.1.2.45"), a6: addr("2001:db8:1:2::45"), i4: addr("192.0.1.254"), i6: addr("2001:db8:0:1::254"), n4: "192.0.1.0/24", n6: "2001:db8:0:1::/64"}
	east = &gateway{name: "east", a4: addr("192.1.2.23"), a6: addr("2001:db8:1:2::23"), i4: addr("192.0.2.254"), i6: addr("2001:db8:0:2::254"), n4: "192.0.2.0/24", n6: "2001:db8:0:2::/64"}
	for _, g := range []*gateway{west, east} {
		sh(t, "ip netns add "+g.name)
		t.Cleanup(func() { sh(t, "ip netns del "+g.name) })
	}
	sh(t, "ip link add eth1 netns west type veth peer name eth1 netns east")
	for g, other := range map[*gateway]*gateway{west: east, east: west} {
		for _, c := range []string{
			"link set lo up", "link set eth1 up", fmt.Sprintf("addr add %s/24 dev eth1", g.a4), fmt.Sprintf("addr add %s/64 dev eth1 nodad", g.a6),
			fmt.Sprintf("addr add %s/32 dev lo", g.i4), fmt.Sprintf("addr add %s/128 dev lo", g.i6),
			fmt.Sprintf("route add %s via %s src %s", other.n4, other.a4, g.i4), fmt.Sprintf("route add %s via %s src %s", other.n6, other.a6, g.i6),
		} {
			g.ip(t, c)
		}
		g.work = make(chan func())
		t.Cleanup(func() { close(g.work) })
		go g.thread(t)
	}
	return west, east
}

// thread runs what is to run in the namespace.
func (g *gateway) thread(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
	f, err := os.Open("/run/netns/" + g.name)
	if err == nil {
		err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		f.Close()
	}
	if err != nil {
		t.Error(err)
	}
	for f := range g.work {
		f()
	}
}

func (g *gateway) in(f func()) {
	done := make(chan struct{})
	g.work <- func() { defer close(done); f() }
	<-done
}

func (g *gateway) ip(t *testing.T, args string) string {
	t.Helper()
	return sh(t, "ip -n "+g.name+" "+args)
}

// start opens the Datapath. At the end of the test everything is gone.
func (g *gateway) start(t *testing.T, cfg Config) {
	t.Helper()
	g.in(func() { g.rig = openUnclosed(t, cfg) })
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if left := g.ip(t, "xfrm state") + g.ip(t, "xfrm policy"); left != "" {
			t.Errorf("%s: left behind:\n%s", g.name, left)
		}
	})
}

func (g *gateway) exec(command string) (string, error) {
	args := strings.Fields("netns exec " + g.name + " " + command)
	out, err := exec.Command("ip", args...).CombinedOutput()
	return string(out), err
}

// ping sends packets from inside to inside and fails if one is lost.
func (g *gateway) ping(t *testing.T, from, to netip.Addr, count int) {
	t.Helper()
	if out, err := g.exec(fmt.Sprintf("ping -n -c %d -i 0.02 -W 2 -I %s %s", count, from, to)); err != nil {
		state := g.ip(t, "-s xfrm state") + g.ip(t, "xfrm policy")
		stat, _ := g.exec("grep -v [[:space:]]0$ /proc/net/xfrm_stat")
		t.Fatalf("%s: ping %s to %s: %v\n%s\n%s\n%s", g.name, from, to, err, out, hideKeys(state), stat)
	}
}

func hideKeys(s string) string {
	var out []string
	for l := range strings.Lines(s) {
		words := strings.Fields(l)
		for i, w := range words {
			if strings.HasPrefix(w, "0x") && len(w) > 18 {
				words[i] = fmt.Sprintf("KEY%d", (len(w)-2)*4)
			}
		}
		out = append(out, strings.Join(words, " "))
	}
	return strings.Join(out, "\n")
}

// tunnel is what a case wants between the two.
type tunnel struct {
	suite      suite.Suite
	carrier    path.Kind
	outer6     bool
	transport  bool
	window     uint32
	limits     kernel.Limits
	flags      kernel.Flags
	iface      kernel.Interface
	generation byte // of the keys
	standby    bool
	held       bool        // west's pair
	markIn     kernel.Mark // west's
	markOut    kernel.Mark
	westPort   uint16
	eastPort   uint16
}

func aead(id iana.Encr, bits uint16) suite.Suite {
	return suite.Suite{Encr: suite.Encr{ID: id, KeyBits: bits}, Integ: iana.AUTH_NONE}
}

func cbc(bits uint16, integ iana.Integ) suite.Suite {
	return suite.Suite{Encr: suite.Encr{ID: iana.ENCR_AES_CBC, KeyBits: bits}, Integ: integ}
}

func key(n int, seed byte) []byte { return bytes.Repeat([]byte{seed}, n) }

func (c *tunnel) ends(g, other *gateway, myPort, theirPort uint16) path.Path {
	l, r := g.a4, other.a4
	if c.outer6 {
		l, r = g.a6, other.a6
	}
	p := path.Path{Local: netip.AddrPortFrom(l, myPort), Remote: netip.AddrPortFrom(r, theirPort), Kind: c.carrier}
	if c.carrier == path.ESP {
		return p.PlainESP()
	}
	return p
}

func (c *tunnel) policy(t *testing.T, g, other *gateway, action kernel.Action) kernel.Policy {
	p := kernel.Policy{ID: "west-east", Action: action, Interface: c.iface, SourceIP: g.i4}
	if g.name == "west" {
		p.MarkIn, p.MarkOut = c.markIn, c.markOut
	}
	ends := c.ends(g, other, 0, 0)
	p.LocalAddr, p.RemoteAddr = ends.Local.Addr(), ends.Remote.Addr()
	switch {
	case c.transport && c.outer6:
		p.Local, p.Remote = subnets.Of(g.a6.String()+"/128"), subnets.Of(other.a6.String()+"/128")
	case c.transport:
		p.Local, p.Remote = subnets.Of(g.a4.String()+"/32"), subnets.Of(other.a4.String()+"/32")
	default:
		p.Local, p.Remote = subnets.Of(g.n4, g.n6), subnets.Of(other.n4, other.n6)
	}
	return p
}

// install makes both ends of a Child SA and returns west's inbound SPI.
func (c *tunnel) install(t *testing.T, west, east *gateway) (westSPI, eastSPI kernel.SPI) {
	t.Helper()
	if c.westPort == 0 {
		c.westPort, c.eastPort = 4500, 4500
	}
	w, e := c.ends(west, east, c.westPort, c.eastPort), c.ends(east, west, c.eastPort, c.westPort)
	westSPI = west.must(func(n kernel.Request) { west.ReserveSPI(n, kernel.Endpoints{Path: w}) }).SPI
	eastSPI = east.must(func(n kernel.Request) { east.ReserveSPI(n, kernel.Endpoints{Path: e}) }).SPI
	sa := func(spi kernel.SPI, seed byte) kernel.SA {
		return kernel.SA{SPI: spi, Suite: c.suite, EncrKey: key(c.suite.EncrKeyLen(), seed), IntegKey: key(c.suite.IntegKeyLen(), seed+1), ReplayWindow: c.window}
	}
	for _, end := range []struct {
		g, other *gateway
		path     path.Path
		in, out  kernel.SA
	}{
		{east, west, e, sa(eastSPI, 0x10+c.generation), sa(westSPI, 0x20+c.generation)},
		{west, east, w, sa(westSPI, 0x20+c.generation), sa(eastSPI, 0x10+c.generation)},
	} {
		p := c.policy(t, end.g, end.other, kernel.Protect)
		end.g.route(p)
		pair := kernel.SAPair{
			Policy: p.ID, In: end.in, Out: end.out, Local: p.Local, Remote: p.Remote, Endpoints: kernel.Endpoints{Path: end.path, Held: c.held && end.g == west},
			Transport: c.transport, Limits: c.limits, Flags: c.flags, Standby: c.standby,
		}
		end.g.must(func(n kernel.Request) { end.g.Install(n, pair) })
	}
	return westSPI, eastSPI
}

// encapSocket opens a UDP socket on which the kernel takes ESP in UDP.
func encapSocket(t *testing.T, port int) {
	t.Helper()
	for _, network := range []string{"udp4", "udp6"} {
		c, err := net.ListenUDP(network, &net.UDPAddr{Port: port})
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { c.Close() })
		raw, err := c.SyscallConn()
		if err != nil {
			t.Error(err)
			return
		}
		if cerr := raw.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_ENCAP, unix.UDP_ENCAP_ESPINUDP), bypass(int(fd), network == "udp6"))
		}); cerr != nil || err != nil {
			t.Error(cerr, err)
		}
	}
}

// bypass lets the packets of a socket through, whatever policies say.
func bypass(fd int, six bool) error {
	level, option, everything := unix.IPPROTO_IP, unix.IP_XFRM_POLICY, netip.MustParsePrefix("0.0.0.0/0")
	if six {
		level, option, everything = unix.IPPROTO_IPV6, unix.IPV6_XFRM_POLICY, netip.MustParsePrefix("::/0")
	}
	for _, d := range []message.Direction{message.In, message.Out} {
		m := message.NewPolicy{Policy: message.Policy{Selector: message.Selector{Src: everything, Dst: everything}, Direction: d}}
		if err := unix.SetsockoptString(fd, level, option, string(m.Append(nil))); err != nil {
			return err
		}
	}
	return nil
}

// stream joins the gateways by a TCP connection on which the kernel carries ESP, from west's returned port to east's 4500.
func stream(t *testing.T, west, east *gateway) (port uint16) {
	t.Helper()
	var l net.Listener
	var err error
	east.in(func() { l, err = net.Listen("tcp", netip.AddrPortFrom(east.a4, 4500).String()) })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var out, in net.Conn
	west.in(func() { out, err = net.Dial("tcp", l.Addr().String()) })
	if err != nil {
		t.Fatal(err)
	}
	if in, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{out, in} {
		t.Cleanup(func() { c.Close() })
	}
	if _, err := out.Write([]byte("IKETCP")); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{out, in} {
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_ULP, "espintcp") }); cerr != nil || err != nil {
			t.Fatal(cerr, err)
		}
	}
	return out.LocalAddr().(*net.TCPAddr).AddrPort().Port()
}

// states lists the kernel's SAs, each on a line, with names for what differs from run to run.
func (g *gateway) states(t *testing.T, spis map[kernel.SPI]string) []string {
	t.Helper()
	text := tidy(hideKeys(g.ip(t, "xfrm state")), g.worker.share)
	for spi, name := range spis {
		text = strings.ReplaceAll(text, fmt.Sprintf("spi %#08x ", uint32(spi)), "spi "+name+" ")
	}
	var out []string
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\nsrc ") {
		out = append(out, "src "+strings.TrimPrefix(strings.ReplaceAll(block, "\n", " "), "src "))
	}
	slices.Sort(out)
	return out
}

func (g *gateway) policies(t *testing.T) []string {
	t.Helper()
	var out []string
	for block := range strings.SplitSeq(strings.TrimSpace(tidy(g.ip(t, "xfrm policy"), g.worker.share)), "\nsrc ") {
		out = append(out, "src "+strings.TrimPrefix(strings.ReplaceAll(block, "\n", " "), "src "))
	}
	slices.Sort(out)
	return out
}

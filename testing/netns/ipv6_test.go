package netns_test

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/testing/netns"
)

// family is one version of IP with the addresses of the topology.
type family struct {
	version              int
	west, east           string // outer
	westInner, eastInner string
	westNet, eastNet     string
	westHost, eastHost   string // behind the gateways
	bits, headers        int    // of the inner networks; of IP with ICMP echo
}

var families = []family{
	{4, netns.West, netns.East, netns.WestInner, netns.EastInner, netns.WestNet, netns.EastNet, "192.0.1.7", "192.0.2.7", 24, 28},
	{6, netns.West6, netns.East6, netns.WestInner6, netns.EastInner6, netns.WestNet6, netns.EastNet6, "2001:db8:0:1::7", "2001:db8:0:2::7", 64, 48},
}

// mixed is an ipsec.conf that carries the inner networks of one family between addresses of another.
func mixed(inner, outer family, more ...string) string {
	lines := []string{
		"config setup", "\tlisten-tcp=yes", "", "conn " + conn, "\tleft=" + outer.west, "\tleftid=@west", "\tleftsubnet=" + inner.westNet, "\tright=" + outer.east,
		"\trightid=@east", "\trightsubnet=" + inner.eastNet, "\tauthby=secret", "\tauto=add",
	}
	return strings.Join(append(lines, indented(more)...), "\n") + "\n"
}

// TestFamilies carries either version of IP in either, over UDP and TCP: what hosts behind the gateways and the gateways themselves send, small and
// large, and nothing of it in clear.
func TestFamilies(t *testing.T) {
	for _, inner := range families {
		for _, outer := range families {
			for _, mode := range []string{"enable-tcp=no", "enable-tcp=yes"} {
				t.Run(fmt.Sprintf("%din%d/%s", inner.version, outer.version, mode), func(t *testing.T) {
					testFamilies(t, inner, outer, mode)
				})
			}
		}
	}
}

func testFamilies(t *testing.T, inner, outer family, mode string) {
	_, w, e := netns.Gateways(t)
	westHost, eastHost := behind(t, w, inner.westHost, inner.westInner, inner.bits), behind(t, e, inner.eastHost, inner.eastInner, inner.bits)
	before, err := w.State()
	if err != nil {
		t.Fatal(err)
	}
	west, east := start(t, w, mixed(inner, outer, mode), secrets), start(t, e, mixed(inner, outer, mode), secrets)
	up(t, west)
	for _, d := range []*netns.Daemon{west, east} {
		if err := d.Host.Count(); err != nil {
			t.Fatal(err)
		}
	}
	pings(t, w, inner.westInner, inner.eastInner, 56, 3000)
	pings(t, westHost, inner.westHost, inner.eastHost, 56)
	pathMTU(t, westHost, inner)
	pings(t, westHost, inner.westHost, inner.eastHost, 3000)
	segments(t, westHost, eastHost, inner)
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	for _, tr := range []struct {
		server   *netns.Host
		at       string
		client   *netns.Host
		from     string
		whatever string
	}{
		{e, inner.eastInner, w, inner.westInner, "gateway from gateway"},
		{westHost, inner.westHost, eastHost, inner.eastHost, "host from host, east from west"},
		{eastHost, inner.eastHost, westHost, inner.westHost, "host from host, west from east"},
	} {
		if _, err := netns.Transfer(ctx, tr.server, net.JoinHostPort(tr.at, "0"), tr.client, tr.from, 4<<20); err != nil {
			t.Errorf("download, %s: %v", tr.whatever, err)
		}
	}
	for _, d := range []*netns.Daemon{west, east} {
		c, err := d.Host.Counts()
		if err != nil || c.Clear() != 0 {
			t.Errorf("%s saw packets in clear: %v %v", d.Host.Name, c, err)
		}
		if n := c["labelled"].Packets; n != 0 {
			t.Errorf("%s: %d TCP packets carried a flow label, which would not be the same on the next connection", d.Host.Name, n)
		}
		if err := d.Host.Uncount(); err != nil {
			t.Error(err)
		}
	}
	if err := west.Stop(); err != nil {
		t.Error(err)
	}
	if after, err := w.State(); err != nil || after != before {
		t.Errorf("%v; before:\n%s\nafter:\n%s", err, before, after)
	}
}

func behind(t *testing.T, gateway *netns.Host, addr, via string, bits int) *netns.Host {
	t.Helper()
	h, err := gateway.Behind(gateway.Name+"host", []string{fmt.Sprintf("%s/%d", addr, bits)}, []string{via})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// pings sends echo requests of each size, which all must be answered.
func pings(t *testing.T, h *netns.Host, from, to string, sizes ...int) {
	t.Helper()
	for _, size := range sizes {
		if out, err := h.Output("ping", "-n", "-c", "3", "-i", "0.05", "-W", "2", "-s", strconv.Itoa(size), "-I", from, to); err != nil {
			t.Errorf("ping of %d octets from %s to %s: %v: %s", size, from, to, err, out)
		}
	}
}

var mtuSaid = regexp.MustCompile(`mtu ?[:=] ?(\d+)`)

// pathMTU sends an echo request that fills the cable and must not be fragmented: the gateway says what fits (RFC 1191, RFC 8201), and that much passes.
func pathMTU(t *testing.T, h *netns.Host, inner family) {
	t.Helper()
	out, err := h.Output("ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-s", strconv.Itoa(1500-inner.headers), inner.eastHost)
	said := mtuSaid.FindStringSubmatch(out)
	if err == nil || said == nil {
		t.Errorf("nobody said that 1500 octets do not fit: %v: %s", err, out)
		return
	}
	mtu, _ := strconv.Atoi(said[1])
	if mtu < 1280 || mtu > 1450 {
		t.Errorf("MTU of the tunnel is said to be %d", mtu)
	}
	if out, err := h.Output("ping", "-n", "-c", "2", "-i", "0.05", "-W", "2", "-M", "do", "-s", strconv.Itoa(mtu-inner.headers), inner.eastHost); err != nil {
		t.Errorf("what the gateway said to fit (%d) does not pass: %v: %s", mtu, err, out)
	}
}

// segments looks that a SYN through the tunnel gets a smaller MSS, so that no segment has to be refused first.
func segments(t *testing.T, client, server *netns.Host, inner family) {
	t.Helper()
	l, err := server.Listen(net.JoinHostPort(inner.eastHost, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, "tcp", inner.westHost, l.Addr().String())
	if err != nil {
		t.Errorf("connecting through the tunnel: %v", err)
		return
	}
	defer c.Close()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	mss := 0
	_ = raw.Control(func(fd uintptr) { mss, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) })
	if err != nil || mss > 1450-inner.headers-12 || mss < 1000 {
		t.Errorf("MSS %d (%v)", mss, err)
	}
}

// TestNeighbourDiscovery protects the addresses of two hosts on one link, and everything that a network sends: the hosts still find each other, and
// link-local traffic goes on beside the tunnel (RFC 4861).
func TestNeighbourDiscovery(t *testing.T) {
	const link6 = "fe80::45"
	for _, tc := range []struct{ name, subnets, from, to string }{
		{"host-to-host", "", netns.West6, netns.East6},
		{"everything", "\tleftsubnet=" + netns.WestNet6 + "\n\trightsubnet=::/0\n", netns.WestInner6, netns.EastInner6},
		{"everything-of-a-host", "\trightsubnet=::/0\n", netns.West6, netns.EastInner6},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, w, e := netns.Gateways(t)
			if err := w.Run("ip", "addr", "add", link6+"/64", "dev", netns.Outer); err != nil {
				t.Fatal(err)
			}
			conf := "config setup\n\tlisten-tcp=yes\n\nconn " + conn + "\n\tleft=" + netns.West6 + "\n\tleftid=@west\n\tright=" + netns.East6 +
				"\n\trightid=@east\n\tauthby=secret\n\tauto=add\n" + tc.subnets
			west, east := start(t, w, conf, secrets), start(t, e, conf, secrets)
			up(t, west)
			for range 2 {
				pings(t, w, tc.from, tc.to, 56)
				pings(t, e, netns.Outer, link6, 56) // the way back of a link-local address is the link
				for _, h := range []*netns.Host{w, e} {
					if err := h.Run("ip", "-6", "neigh", "flush", "dev", netns.Outer); err != nil {
						t.Fatal(err)
					}
				}
			}
			for _, d := range []*netns.Daemon{west, east} {
				if c := one(t, d).Children[0]; c.InPackets == 0 || c.OutPackets == 0 {
					t.Errorf("%s: nothing went through the tunnel: %+v", d.Host.Name, c)
				}
			}
		})
	}
}

package netns_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// selecting is an ipsec.conf whose selectors are these.
func selecting(left, right string, more ...string) string {
	return strings.NewReplacer("leftsubnet="+netns.WestNet, "leftsubnet="+left, "rightsubnet="+netns.EastNet, "rightsubnet="+right).Replace(config(nil, more...))
}

// passed is the number of packets that have come to a gateway through its only tunnel.
func passed(t *testing.T, d *netns.Daemon) uint64 { return one(t, d).Children[0].InPackets }

// inClear is the number of packets that a host has seen outside of the tunnel.
func inClear(t *testing.T, h *netns.Host) uint64 {
	t.Helper()
	c, err := h.Counts()
	if err != nil {
		t.Fatal(err)
	}
	return c.Clear()
}

// TestSelectorsOfPorts: a connection for some ports of TCP carries those, and nothing else.
func TestSelectorsOfPorts(t *testing.T) {
	west, east := gateways(t, selecting(netns.WestNet+"/tcp", netns.EastNet+"/tcp/7000-7001"))
	up(t, west)
	if err := east.Host.Count(); err != nil {
		t.Fatal(err)
	}
	for port, inside := range map[string]bool{"6999": false, "7000": true, "7001": true, "7002": false} {
		before, outside := passed(t, east), inClear(t, east.Host)
		connects(t, west.Host, east.Host, port)
		if got := passed(t, east) > before; got != inside {
			t.Errorf("port %s goes through the tunnel: %v", port, got)
		}
		if got := inClear(t, east.Host) > outside; got == inside {
			t.Errorf("port %s goes in clear: %v", port, got)
		}
	}
	before := passed(t, east)
	if ok, out := ping(west.Host, netns.WestInner, netns.EastInner, "3"); !ok || passed(t, east) != before {
		t.Errorf("another protocol goes beside the tunnel: %s", out)
	}
}

// TestPortsSideBySide: what passes by its port opens no other port, though its network is the narrower one, and no other port holds it.
func TestPortsSideBySide(t *testing.T) {
	pass := "\nconn pass\n\ttype=passthrough\n\tauto=start\n\tleft=" + netns.West + "\n\tright=" + netns.East + "\n\tleftsubnet=" + netns.WestNet + "/tcp\n\trightsubnet=" +
		netns.EastInner + "/32/tcp/7002\n"
	west, east := gateways(t, selecting(netns.WestNet+"/tcp", netns.EastNet+"/tcp/7000")+pass)
	up(t, west)
	if err := east.Host.Count(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // also after the tunnel has come anew
		for port, inside := range map[string]bool{"7000": true, "7002": false} {
			before, outside := passed(t, east), inClear(t, east.Host)
			connects(t, west.Host, east.Host, port)
			if got := passed(t, east) > before; got != inside {
				t.Errorf("port %s goes through the tunnel: %v", port, got)
			}
			if got := inClear(t, east.Host) > outside; got == inside {
				t.Errorf("port %s goes in clear: %v", port, got)
			}
		}
		if out, status := west.Ikectl("down", conn); status != 0 {
			t.Fatalf("down: %d %s", status, out)
		}
		up(t, west)
	}
}

// connects opens a connection to a port of east's inner address.
func connects(t *testing.T, w, e *netns.Host, port string) {
	t.Helper()
	l, err := e.Listen(net.JoinHostPort(netns.EastInner, port))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, err := w.Dial(ctx, "tcp4", netns.WestInner, l.Addr().String())
	if err != nil {
		t.Errorf("port %s: %v", port, err)
		return
	}
	c.Close()
}

// TestSelectorsOfICMP: a connection for echo requests and their answers carries those, and ICMP of other types is dropped.
func TestSelectorsOfICMP(t *testing.T) {
	for _, f := range []struct {
		family
		echo, reply string
	}{{families[0], "/icmp/2048", "/icmp/0-0"}, {families[1], "/icmpv6/32768", "/icmpv6/33024"}} {
		t.Run(map[int]string{4: "IPv4", 6: "IPv6"}[f.version], func(t *testing.T) {
			both := func(n string) string { return n + f.echo + "," + n + f.reply }
			conf := strings.NewReplacer("leftsubnet="+f.westNet, "leftsubnet="+both(f.westNet), "rightsubnet="+f.eastNet, "rightsubnet="+both(f.eastNet)).Replace(mixed(f.family, families[0]))
			west, east := gateways(t, conf)
			up(t, west)
			if err := east.Host.Count(); err != nil {
				t.Fatal(err)
			}
			pings(t, west.Host, f.westInner, f.eastInner, 56)
			pings(t, east.Host, f.eastInner, f.westInner, 56)
			if n := passed(t, east); n != 6 {
				t.Errorf("%d packets came through the tunnel, want 6", n)
			}
			if n := inClear(t, east.Host); n != 0 {
				t.Errorf("%d packets came in clear", n)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			c, err := west.Host.Dial(ctx, map[int]string{4: "udp4", 6: "udp6"}[f.version], f.westInner, net.JoinHostPort(f.eastInner, "9"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Write([]byte("nobody listens here")); err != nil {
				t.Fatal(err)
			}
			netns.Until(t, 5*time.Second, "east drops the ICMP error about what came in clear", func() bool {
				out, _ := east.Ikectl("status")
				return strings.Contains(out, "no policy")
			})
			if n := passed(t, west); n != 6 {
				t.Errorf("west got %d packets through the tunnel, want 6", n)
			}
		})
	}
}

// TestSelectorsOfRanges: a connection for ranges of addresses carries what is inside of both.
func TestSelectorsOfRanges(t *testing.T) {
	west, east := gateways(t, selecting("192.0.1.250-192.0.1.254", "192.0.2.9-192.0.2.254/icmp"))
	for h, a := range map[*netns.Host]string{west.Host: "192.0.1.249/24", east.Host: "192.0.2.8/24"} {
		if err := h.Run("ip", "addr", "add", a, "dev", "eth0"); err != nil {
			t.Fatal(err)
		}
	}
	up(t, west)
	for _, tc := range []struct {
		from, to string
		inside   bool
	}{{netns.WestInner, netns.EastInner, true}, {"192.0.1.249", netns.EastInner, false}, {netns.WestInner, "192.0.2.8", false}, {"192.0.1.249", "192.0.2.8", false}} {
		before := passed(t, east)
		if ok, out := ping(west.Host, tc.from, tc.to, "3"); !ok {
			t.Errorf("%s to %s: %s", tc.from, tc.to, out)
		}
		if got := passed(t, east) - before; (got == 3) != tc.inside || got%3 != 0 {
			t.Errorf("%s to %s: %d of 3 packets came through the tunnel", tc.from, tc.to, got)
		}
	}
}

package netns_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/ctl"
	"github.com/ikegod/ikegod/testing/netns"
)

const (
	conn    = "westnet-eastnet"
	secrets = "@west @east : PSK \"a secret that nobody guesses\"\n"
)

// config is an ipsec.conf for either gateway; more holds keywords for the connection, a line each. ESP goes in UDP, unless they say otherwise.
func config(setup []string, more ...string) string {
	if !slices.ContainsFunc(more, func(line string) bool { return strings.HasPrefix(line, "encapsulation=") }) {
		more = append(more, "encapsulation=yes")
	}
	lines := append([]string{"config setup", "\tlisten-tcp=yes"}, indented(setup)...)
	lines = append(lines, "", "conn "+conn, "\tleft="+netns.West, "\tleftid=@west", "\tleftsubnet="+netns.WestNet, "\tright="+netns.East,
		"\trightid=@east", "\trightsubnet="+netns.EastNet, "\tauthby=secret", "\tauto=add")
	return strings.Join(append(lines, indented(more)...), "\n") + "\n"
}

func indented(lines []string) []string {
	var out []string
	for _, l := range lines {
		out = append(out, "\t"+l)
	}
	return out
}

// start starts an ikegod on a host.
func start(t *testing.T, h *netns.Host, conf, secrets string, args ...string) *netns.Daemon {
	t.Helper()
	d, err := h.Ikegod(conf, secrets, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of ikegod on %s:\n%s", h.Name, d.Log())
		}
	})
	return d
}

// gateways starts an ikegod with the same configuration on both.
func gateways(t *testing.T, conf string) (west, east *netns.Daemon) {
	t.Helper()
	_, w, e := netns.Gateways(t)
	return start(t, w, conf, secrets), start(t, e, conf, secrets)
}

// up brings the connection up from west.
func up(t *testing.T, d *netns.Daemon) string {
	t.Helper()
	out, status := d.Ikectl("up", conn)
	if status != 0 {
		t.Fatalf("ikectl up: exit status %d:\n%s", status, out)
	}
	return out
}

// sas lists the IKE SAs of a daemon.
func sas(t *testing.T, d *netns.Daemon) []ctl.IKESA {
	t.Helper()
	var list []ctl.IKESA
	if err := d.SAs(context.Background(), func(sa ctl.IKESA) bool { list = append(list, sa); return true }); err != nil {
		t.Fatal(err)
	}
	return list
}

// carries sends a ping and a download through the tunnel, and looks that nothing of it was in clear.
func carries(t *testing.T, west, east *netns.Daemon) {
	t.Helper()
	for _, d := range []*netns.Daemon{west, east} {
		if err := d.Host.Count(); err != nil {
			t.Fatal(err)
		}
		defer d.Host.Uncount()
	}
	if out, err := west.Host.Output("ping", "-n", "-c", "3", "-i", "0.05", "-W", "2", "-I", netns.WestInner, netns.EastInner); err != nil {
		t.Errorf("ping: %v: %s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := netns.Transfer(ctx, east.Host, netns.EastInner+":0", west.Host, netns.WestInner, 4<<20); err != nil {
		t.Errorf("download west from east: %v", err)
	}
	if _, err := netns.Transfer(ctx, west.Host, netns.WestInner+":0", east.Host, netns.EastInner, 4<<20); err != nil {
		t.Errorf("download east from west: %v", err)
	}
	for _, d := range []*netns.Daemon{west, east} {
		if c, err := d.Host.Counts(); err != nil || c.Clear() != 0 {
			t.Errorf("%s saw packets in clear: %v %v", d.Host.Name, c, err)
		}
	}
}

// one is the only IKE SA of a daemon, established, with one installed child.
func one(t *testing.T, d *netns.Daemon) ctl.IKESA {
	t.Helper()
	list := sas(t, d)
	if len(list) != 1 || list[0].Established.IsZero() || len(list[0].Children) != 1 || list[0].Children[0].Installed.IsZero() {
		t.Fatalf("%s: want one established IKE SA with one child, got %+v", d.Host.Name, list)
	}
	return list[0]
}

func TestTunnelOverUDP(t *testing.T) {
	west, east := gateways(t, config(nil))
	up(t, west)
	carries(t, west, east)
	w, e := one(t, west), one(t, east)
	if w.SPIi != e.SPIi || w.SPIr != e.SPIr || w.Children[0].SPIIn != e.Children[0].SPIOut || w.Children[0].SPIOut != e.Children[0].SPIIn {
		t.Errorf("the sides disagree:\n%+v\n%+v", w, e)
	}
	if w.Path.Carrier != "UDP" || !strings.HasSuffix(w.Path.Remote, ":4500") {
		t.Errorf("path %+v", w.Path)
	}
	if w.LocalID != "@west" || w.RemoteID != "@east" || !w.Initiator || e.Initiator || e.RemoteID != "@west" {
		t.Errorf("identities: %+v", w)
	}
	if c := w.Children[0]; c.InBytes < 4<<20 || c.OutBytes < 4<<20 || c.InPackets == 0 {
		t.Errorf("counters: %+v", c)
	}
	out, status := west.Ikectl("trafficstatus")
	if status != 0 || !strings.Contains(out, fmt.Sprintf("%q, type=ESP, add_time=", conn)) || !strings.Contains(out, "id='@east'") {
		t.Errorf("trafficstatus %d: %s", status, out)
	}
	if out, status := west.Ikectl("up", conn); status != 0 || len(sas(t, west)) != 1 {
		t.Errorf("up of a connection that is up: %d %s", status, out)
	}
}

func TestTunnelOverTCP(t *testing.T) {
	west, east := gateways(t, config(nil, "enable-tcp=yes"))
	if _, err := west.Host.Block("udp", "meta l4proto udp"); err != nil {
		t.Fatal(err)
	}
	up(t, west)
	carries(t, west, east)
	if w := one(t, west); w.Path.Carrier != "TCP" || !strings.HasSuffix(w.Path.Remote, ":4500") {
		t.Errorf("path %+v", w.Path)
	}
	if out, _ := east.Ikectl("status"); !strings.Contains(out, "TCP/4500") {
		t.Errorf("status of the responder:\n%s", out)
	}
}

func TestDownAndUpAgain(t *testing.T) {
	for _, mode := range []string{"enable-tcp=no", "enable-tcp=yes"} {
		t.Run(mode, func(t *testing.T) {
			west, east := gateways(t, config(nil, mode))
			for range 3 {
				up(t, west)
				one(t, east)
				if out, status := west.Ikectl("down", conn); status != 0 {
					t.Fatalf("down: %d %s", status, out)
				}
				if n := len(sas(t, west)); n != 0 {
					t.Errorf("%d IKE SAs after down", n)
				}
				for _, d := range []*netns.Daemon{west, east} { // the responder keeps its last reply for a while; that is no IKE SA
					netns.Until(t, 2*time.Second, "status counts no IKE SA", func() bool {
						s, err := d.Status(context.Background())
						return err == nil && s.IKESAs == 0
					})
				}
				netns.Until(t, 2*time.Second, "the responder has no IKE SA any more", func() bool { return len(sas(t, east)) == 0 })
			}
			up(t, east) // the other way round
			carries(t, west, east)
		})
	}
}

// TestFallback blocks all UDP, or port 4500 alone, where IKE_SA_INIT still works and IKE_AUTH does not.
func TestFallback(t *testing.T) {
	for _, tc := range []struct{ name, block, attempt string }{
		{"all-of-udp", "meta l4proto udp", "UDP/500"},
		{"udp-4500", "udp dport 4500", "UDP/4500"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			west, east := gateways(t, config(nil, "enable-tcp=fallback", "retransmit-timeout=2s"))
			if _, err := west.Host.Block("udp", tc.block); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			out := up(t, west)
			if took := time.Since(begin); took < 2*time.Second || took > 3*time.Second {
				t.Errorf("up took %s with a retransmit-timeout of 2 s:\n%s", took, out)
			}
			for _, want := range []string{tc.attempt, "TCP/4500"} {
				if !strings.Contains(out, want) {
					t.Errorf("up does not show the attempt over %s:\n%s", want, out)
				}
			}
			if w := one(t, west); w.Path.Carrier != "TCP" {
				t.Errorf("path %+v", w.Path)
			}
			carries(t, west, east)
			netns.Until(t, 40*time.Second, "the responder has one IKE SA only", func() bool { return len(sas(t, east)) == 1 })
		})
	}
}

// TestNextUpTriesUDPFirst goes back to UDP when it works again.
func TestNextUpTriesUDPFirst(t *testing.T) {
	west, _ := gateways(t, config(nil, "enable-tcp=fallback", "retransmit-timeout=1s"))
	unblock, err := west.Host.Block("udp", "meta l4proto udp")
	if err != nil {
		t.Fatal(err)
	}
	up(t, west)
	if out, status := west.Ikectl("down", conn); status != 0 {
		t.Fatalf("down: %d %s", status, out)
	}
	if err := unblock(); err != nil {
		t.Fatal(err)
	}
	up(t, west)
	if w := one(t, west); w.Path.Carrier != "UDP" {
		t.Errorf("path %+v", w.Path)
	}
}

// TestLargeDatagramsBetweenGateways: in a tunnel for the gateways' own addresses datagrams arrive whole that were sealed in fragments, over UDP with fragments of sealed
// packets on the wire too.
func TestLargeDatagramsBetweenGateways(t *testing.T) {
	for _, f := range families {
		for _, mode := range []string{"encapsulation=no", "encapsulation=yes", "enable-tcp=yes"} {
			t.Run(fmt.Sprintf("IPv%d/%s", f.version, mode), func(t *testing.T) {
				conf := "config setup\n\tlisten-tcp=yes\n\nconn " + conn + "\n\tleft=" + f.west + "\n\tleftid=@west\n\tright=" + f.east + "\n\trightid=@east\n\tauthby=secret\n\tauto=add\n\t" + mode + "\n"
				west, east := gateways(t, conf)
				up(t, west)
				datagrams(t, west.Host, east.Host, f)
				pings(t, west.Host, f.west, f.east, 56, 3000, 20000)
				if c := one(t, east).Children[0]; c.InPackets < 30 {
					t.Errorf("%d packets came through the tunnel", c.InPackets)
				}
			})
		}
	}
}

// datagrams sends large ones of UDP between the gateways' outer addresses, and looks that they arrive.
func datagrams(t *testing.T, w, e *netns.Host, f family) {
	t.Helper()
	network := map[int]string{4: "udp4", 6: "udp6"}[f.version]
	var l net.PacketConn
	if err := e.Do(func() (err error) {
		l, err = net.ListenPacket(network, net.JoinHostPort(f.east, "0"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := w.Dial(t.Context(), network, f.west, l.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := make([]byte, 65535)
	for _, n := range []int{1, 1400, 3000, 20000, 65000} {
		sent := bytes.Repeat([]byte("a datagram "), n)[:n]
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		if err := l.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if m, _, err := l.ReadFrom(got); err != nil || !bytes.Equal(got[:m], sent) {
			t.Errorf("%d octets: %d arrived: %v", n, m, err)
		}
	}
}

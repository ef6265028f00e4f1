package netns_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// hostToHost is an ipsec.conf of transport mode as one host has it.
func hostToHost(left, leftID, right, rightID string, more ...string) string {
	lines := []string{
		"config setup", "\tlisten-tcp=yes", "", "conn " + conn, "\tleft=" + left, "\tleftid=" + leftID, "\tright=" + right, "\trightid=" + rightID,
		"\ttype=transport", "\tauthby=secret", "\tauto=add",
	}
	return strings.Join(append(lines, indented(more)...), "\n") + "\n"
}

// TestTransportMode protects two hosts themselves, without and with a NAT in front of one, over UDP, TCP and plain ESP, and both versions of IP.
func TestTransportMode(t *testing.T) {
	for _, f := range families {
		for _, mode := range []string{"enable-tcp=no", "enable-tcp=yes", "encapsulation=yes"} {
			t.Run(fmt.Sprintf("%d/%s", f.version, mode), func(t *testing.T) {
				_, w, e := netns.Gateways(t)
				west := start(t, w, hostToHost(f.west, "@west", f.east, "@east", mode), secrets)
				east := start(t, e, hostToHost(f.east, "@east", "%any", "@west", mode, "hostaddrfamily=ipv"+fmt.Sprint(f.version)), secrets)
				hostsTalk(t, west, east, f.west, f.east, f.west)
			})
		}
	}
	for _, mode := range []string{"enable-tcp=no", "enable-tcp=yes"} {
		t.Run("NAT/"+mode, func(t *testing.T) {
			netns.Need(t)
			l, road, _, e, err := netns.RoadEast()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
			west := start(t, road, hostToHost(netns.Road, "@west", netns.East, "@east", mode), secrets)
			east := start(t, e, hostToHost(netns.East, "@east", "%any", "@west", mode), secrets)
			hostsTalk(t, west, east, netns.Road, netns.East, netns.NIC)
		})
	}
}

// hostsTalk brings the connection up and sends both ways; east knows west as west4east.
func hostsTalk(t *testing.T, west, east *netns.Daemon, w, e, west4east string) {
	t.Helper()
	if out := up(t, west); !strings.Contains(out, "IPsec transport") {
		t.Errorf("up: %s", out)
	}
	for _, side := range []struct {
		d        *netns.Daemon
		from, to string
	}{{west, w, e}, {east, e, west4east}} {
		for _, size := range []string{"56", "3000", "20000"} {
			if out, err := side.d.Host.Output("ping", "-n", "-c", "3", "-i", "0.05", "-W", "2", "-s", size, "-I", side.from, side.to); err != nil {
				t.Errorf("ping of %s octets: %v: %s", size, err, out)
			}
		}
	}
	// Most programs choose no source address. Clear packets would be dropped by the other side.
	if out, err := west.Host.Output("ping", "-n", "-c", "3", "-i", "0.05", "-W", "2", e); err != nil {
		t.Errorf("ping without a source address: %v: %s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	const octets = 4 << 20
	if _, err := netns.TransferTo(ctx, east.Host, net.JoinHostPort(e, "0"), e, west.Host, w, octets); err != nil {
		t.Errorf("download by west: %v", err)
	}
	if _, err := netns.TransferTo(ctx, west.Host, net.JoinHostPort(w, "0"), west4east, east.Host, e, octets); err != nil {
		t.Errorf("download by east: %v", err)
	}
	for _, d := range []*netns.Daemon{west, east} {
		if c := one(t, d).Children[0]; c.InBytes < octets || c.OutBytes < octets {
			t.Errorf("%s: not through the SA: %+v", d.Host.Name, c)
		}
	}
}

// TestModesDiffer: type=transport at one end only is a clear refusal, and the traffic goes on as it did before.
func TestModesDiffer(t *testing.T) {
	_, w, e := netns.Gateways(t)
	west := start(t, w, hostToHost(netns.West, "@west", netns.East, "@east"), secrets)
	east := start(t, e, strings.Replace(hostToHost(netns.East, "@east", netns.West, "@west"), "type=transport", "type=tunnel", 1), secrets)
	out, status := west.Ikectl("up", conn)
	if status != 1 || !strings.Contains(out, "asked for transport mode") || !strings.Contains(out, "type=") {
		t.Errorf("west: exit status %d: %s", status, out)
	}
	out, status = east.Ikectl("up", conn)
	if status != 1 || !strings.Contains(out, "NO_PROPOSAL_CHOSEN") || !strings.Contains(out, "type=") {
		t.Errorf("east: exit status %d: %s", status, out)
	}
}

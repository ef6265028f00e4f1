package netns_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// only checks that every packet of ESP on the wire between two daemons travels as it should, in both directions, and that nothing is in clear. encapsulated is
// ESPinUDP or ESP.
func only(t *testing.T, encapsulated string, daemons ...*netns.Daemon) {
	t.Helper()
	for _, d := range daemons {
		want := func(in uint64) uint64 {
			if encapsulated != "ESP" {
				return 0
			}
			return in
		}
		var in, plain, clear uint64
		carrier := ""
		// The last acknowledgements of a transfer may still be on their way: the two counts agree once they have come.
		agree := netns.Poll(5*time.Second, func() bool {
			c, err := d.Host.Counts()
			if err != nil {
				t.Fatal(err)
			}
			child := one(t, d).Children[0]
			in, plain, clear, carrier = child.InPackets, c["plainesp"].Packets, c.Clear(), child.Carrier
			return clear != 0 || plain == want(in)
		})
		if carrier != encapsulated {
			t.Errorf("%s: the child's carrier is %q, want %q", d.Host.Name, carrier, encapsulated)
		}
		if !agree || clear != 0 || in < 100 {
			t.Errorf("%s: %d packets came through the tunnel, and of protocol 50 %d, in clear %d", d.Host.Name, in, plain, clear)
		}
	}
}

// exchange sends pings and a download each way through the tunnel between the inner networks.
func exchange(t *testing.T, west, east *netns.Daemon) {
	t.Helper()
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
}

// count counts on both hosts from now on.
func count(t *testing.T, daemons ...*netns.Daemon) {
	t.Helper()
	for _, d := range daemons {
		if err := d.Host.Count(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPlainESP: without a NAT, IKE stays on port 500 and ESP is IP protocol 50, over IPv4 and IPv6.
func TestPlainESP(t *testing.T) {
	for name, addresses := range map[string]*strings.Replacer{
		"IPv4": strings.NewReplacer(),
		"IPv6": strings.NewReplacer(netns.West, "2001:db8:1:2::45", netns.East, "2001:db8:1:2::23"),
	} {
		t.Run(name, func(t *testing.T) {
			conf := addresses.Replace(config(nil, "encapsulation=auto"))
			_, w, e := netns.Gateways(t)
			west, east := start(t, w, conf, secrets), start(t, e, conf, secrets)
			count(t, west, east)
			up(t, west)
			exchange(t, west, east)
			only(t, "ESP", west, east)
			if p := one(t, west).Path; p.Carrier != "UDP" || !strings.HasSuffix(p.Local, ":500") || !strings.HasSuffix(p.Remote, ":500") {
				t.Errorf("IKE is on %+v", p)
			}
			out, _ := west.Ikectl("status")
			for _, want := range []string{"ESP *", "installed", ", ESP (userspace)\n", "NAT         none"} {
				if !strings.Contains(out, want) {
					t.Errorf("status does not show %q:\n%s", want, out)
				}
			}
			if out, status := west.Ikectl("down", conn); status != 0 {
				t.Errorf("down: %s", out)
			}
			up(t, east) // the other way round
			one(t, west)
		})
	}
}

// TestEncapsulationForced: one end that asks for ESP in UDP has it in both directions.
func TestEncapsulationForced(t *testing.T) {
	_, w, e := netns.Gateways(t)
	west, east := start(t, w, config(nil, "encapsulation=auto"), secrets), start(t, e, config(nil, "encapsulation=yes"), secrets)
	count(t, west, east)
	up(t, west)
	exchange(t, west, east)
	only(t, "ESPinUDP", west, east)
	for _, d := range []*netns.Daemon{west, east} {
		if p := one(t, d).Path; !strings.HasSuffix(p.Local, ":4500") || !strings.HasSuffix(p.Remote, ":4500") {
			t.Errorf("%s: IKE is on %+v", d.Host.Name, p)
		}
	}
}

// TestNATPutsESPIntoUDP: something changes the ports of west's packets. Both find out, and ESP goes in UDP.
func TestNATPutsESPIntoUDP(t *testing.T) {
	west, east := gateways(t, config(nil, "encapsulation=auto"))
	nat := fmt.Sprintf("table ip nat {\n\tchain out {\n\t\ttype nat hook postrouting priority srcnat;\n\t\toifname %q meta l4proto udp snat to %s:20000-20100\n\t}\n}\n",
		netns.Outer, netns.West)
	if err := west.Host.RunInput(nat, "nft", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	count(t, west, east)
	up(t, west)
	exchange(t, west, east)
	only(t, "ESPinUDP", west, east)
	if w, e := one(t, west), one(t, east); !w.NATLocal || w.NATRemote || !e.NATRemote || e.NATLocal || strings.HasSuffix(e.Path.Remote, ":4500") {
		t.Errorf("the NAT is not where it is:\n%+v\n%+v", w, e)
	}
}

// TestWithoutRawSockets: a daemon without CAP_NET_RAW says what it lacks, and its ESP is in UDP; encapsulation=no is refused with the line that says so.
func TestWithoutRawSockets(t *testing.T) {
	bin, err := netns.Bin()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := "#!/bin/sh\nexec setpriv --bounding-set=-net_raw --inh-caps=-net_raw " + filepath.Join(bin, "ikegod") + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "ikegod"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(bin, "ikectl"), filepath.Join(dir, "ikectl")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TEST_BIN", dir)
	_, w, e := netns.Gateways(t)
	west := start(t, w, config(nil, "encapsulation=no"), secrets)
	t.Setenv("TEST_BIN", bin)
	east := start(t, e, config(nil, "encapsulation=auto"), secrets)
	if out, _ := west.Ikectl("status"); !strings.Contains(out, "no plain ESP") || !strings.Contains(out, "CAP_NET_RAW") || strings.Contains(out, "ESP *") {
		t.Errorf("status:\n%s", out)
	}
	if !strings.Contains(west.Log(), "CAP_NET_RAW") {
		t.Errorf("log:\n%s", west.Log())
	}
	if out, status := west.Ikectl("up", conn); status == 0 || !strings.Contains(out, "encapsulation=no (encapsulation= of "+west.Config+":") {
		t.Errorf("up with encapsulation=no: %d %s", status, out)
	}
	if err := os.WriteFile(west.Config, []byte(config(nil, "encapsulation=auto")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, status := west.Ikectl("reload"); status != 0 {
		t.Fatalf("reload: %s", out)
	}
	count(t, west, east)
	up(t, west)
	exchange(t, west, east)
	only(t, "ESPinUDP", west, east)
}

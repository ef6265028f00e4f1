package netns_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/ctl"
	"github.com/ikegod/ikegod/testing/netns"
)

// ownPort is a connection "own" between the second networks of the gateways.
func ownPort(west, east string, more ...string) string {
	lines := []string{
		"", "conn own", "\tleft=" + west, "\tleftid=@west", "\tleftsubnet=" + west2Net, "\tright=" + east, "\trightid=@east", "\trightsubnet=" + east2Net,
		"\tauthby=secret", "\tauto=add",
	}
	return strings.Join(append(lines, indented(more)...), "\n") + "\n"
}

// listens reports whether a daemon listens on a port of a carrier.
func listens(t *testing.T, d *netns.Daemon, carrier string, port int) bool {
	t.Helper()
	st, err := d.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range st.Listening {
		if s.Carrier == carrier && strings.HasSuffix(s.Address, fmt.Sprintf(":%d", port)) {
			return true
		}
	}
	return false
}

// of is the IKE SA of a connection.
func of(t *testing.T, d *netns.Daemon, name string) ctl.IKESA {
	t.Helper()
	for _, sa := range sas(t, d) {
		if sa.Connection == name && len(sa.Children) == 1 {
			return sa
		}
	}
	t.Fatalf("%s has no IKE SA of %s with a Child SA: %+v", d.Host.Name, name, sas(t, d))
	return ctl.IKESA{}
}

// TestOwnPort: a connection with leftikeport= and rightikeport= meets on those ports, from either end, beside an ordinary one between the same hosts, and both carry
// traffic.
func TestOwnPort(t *testing.T) {
	for name, tc := range map[string]struct {
		more       []string
		west, east string // the path of IKE as either end has it, "local port-remote port"
		carrier    string
	}{
		"udp":        {[]string{"leftikeport=7000", "rightikeport=7001"}, "7000-7001", "7001-7000", "UDP"},
		"udp_remote": {[]string{"rightikeport=7001"}, "4500-7001", "7001-4500", "UDP"},
		"udp_local":  {[]string{"leftikeport=7000"}, "7000-4500", "4500-7000", "UDP"},
		"tcp":        {[]string{"leftikeport=7000", "rightikeport=7001", "enable-tcp=yes"}, "-7001", "7001-", "TCP"},
	} {
		t.Run(name, func(t *testing.T) {
			_, w, e := netns.Gateways(t)
			moreNetworks(t, w, e)
			conf := config(nil) + ownPort(netns.West, netns.East, tc.more...)
			west, east := start(t, w, conf, secrets), start(t, e, conf, secrets)
			for _, d := range []*netns.Daemon{west, east} {
				up(t, west)
				if out, status := d.Ikectl("up", "own"); status != 0 {
					t.Fatalf("up from %s: %s", d.Host.Name, out)
				}
				carries(t, west, east)
				if ok, out := ping(w, west2, east2, "20"); !ok {
					t.Errorf("own: %s", out)
				}
				a, b := of(t, west, "own"), of(t, east, "own")
				if d == west && (!onPorts(a.Path, tc.west) || !onPorts(b.Path, tc.east) || a.Path.Carrier != tc.carrier) {
					t.Errorf("west is on %+v, east on %+v", a.Path, b.Path)
				}
				if want := "ESPin" + tc.carrier; a.Children[0].Carrier != want || a.Children[0].InPackets < 20 {
					t.Errorf("%+v, want %s", a.Children[0], want)
				}
				if plain := of(t, west, conn); !onPorts(plain.Path, "4500-4500") {
					t.Errorf("the other is on %+v", plain.Path)
				}
				if out, status := d.Ikectl("down", "own"); status != 0 {
					t.Errorf("down: %s", out)
				}
			}
		})
	}
}

// onPorts compares the ports of a path, "7000-7001"; one that is not written may be any.
func onPorts(p ctl.Path, want string) bool {
	local, remote, _ := strings.Cut(want, "-")
	return (local == "" || strings.HasSuffix(p.Local, ":"+local)) && (remote == "" || strings.HasSuffix(p.Remote, ":"+remote))
}

// TestOwnPortThroughNAT: the peer behind a NAT comes to the gateway's own port, over UDP and over TCP.
func TestOwnPortThroughNAT(t *testing.T) {
	for _, mode := range []string{"enable-tcp=no", "enable-tcp=yes"} {
		t.Run(mode, func(t *testing.T) {
			netns.Need(t)
			l, r, _, e, err := netns.RoadEast()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
			moreNetworks(t, r, e)
			setup := "config setup\n\tlisten-tcp=yes\n"
			road := start(t, r, setup+ownPort(netns.Road, netns.East, "leftikeport=7000", "rightikeport=7001", mode), secrets)
			east := start(t, e, setup+ownPort("%any", netns.East, "rightikeport=7001"), secrets)
			if out, status := road.Ikectl("up", "own"); status != 0 {
				t.Fatal(out)
			}
			if ok, out := ping(r, west2, east2, "20"); !ok {
				t.Error(out)
			}
			sa := one(t, east)
			if !onPorts(sa.Path, "7001-") || onPorts(sa.Path, "-7000") || !sa.NATRemote || sa.Children[0].InPackets < 20 {
				t.Errorf("east: %+v", sa)
			}
		})
	}
}

// TestOwnPortComesAndGoes: a port is open from the load of the first connection that names it to the end of the last; one that is taken is an error of its
// connection alone.
func TestOwnPortComesAndGoes(t *testing.T) {
	_, w, e := netns.Gateways(t)
	moreNetworks(t, w, e)
	var taken net.Listener
	if err := w.Do(func() (err error) {
		taken, err = net.Listen("tcp4", netns.West+":7000")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	conf := config(nil) + ownPort(netns.West, netns.East, "leftikeport=7000")
	west, east := start(t, w, conf, secrets), start(t, e, conf, secrets)
	const want = "the port of leftikeport= of"
	out, status := west.Ikectl("up", "own")
	out = strings.Join(strings.Fields(out), " ") // it was wrapped
	if status != 1 || !strings.Contains(out, "TCP/7000") || !strings.Contains(out, "address already in use") || !strings.Contains(out, want) {
		t.Errorf("exit status %d: %s", status, out)
	}
	if listens(t, west, "UDP", 7000) {
		t.Error("half of the port stays open")
	}
	up(t, west)
	taken.Close()
	if out, status := west.Ikectl("up", "own"); status != 0 {
		t.Fatalf("the port is free: %s", out)
	}
	if ok, out := ping(w, west2, east2, "5"); !ok {
		t.Error(out)
	}
	if !listens(t, west, "UDP", 7000) || !listens(t, west, "TCP", 7000) || listens(t, east, "UDP", 7000) {
		t.Error("the port is to be open on west, and not on east")
	}
	if out, status := west.Ikectl("delete", "own"); status != 0 {
		t.Error(out)
	}
	if listens(t, west, "UDP", 7000) || listens(t, west, "TCP", 7000) {
		t.Error("the port stays open")
	}
	if !netns.Poll(5*time.Second, func() bool { return len(sas(t, east)) == 1 }) {
		t.Errorf("east has %+v", sas(t, east))
	}
	carries(t, west, east)
}

// TestBackendIsRefused: a connection that asks for a datapath which this daemon does not have says so and what to do; one that asks for the one that there is has it.
func TestBackendIsRefused(t *testing.T) {
	_, w, e := netns.Gateways(t)
	moreNetworks(t, w, e)
	conf := config(nil, "backend=userspace") + ownPort(netns.West, netns.East, "backend=xfrm")
	west, east := start(t, w, conf, secrets, "--backend=userspace"), start(t, e, config(nil), secrets, "--backend=userspace")
	out, status := west.Ikectl("up", "own")
	out = strings.Join(strings.Fields(out), " ")
	if status != 1 || !strings.Contains(out, "backend= of ") || !strings.Contains(out, "runs with --backend userspace; start it with --backend auto, or remove backend=xfrm") {
		t.Errorf("exit status %d: %s", status, out)
	}
	up(t, west)
	carries(t, west, east)
}

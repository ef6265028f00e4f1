package uml_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/ctl"
	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/peer"
	"github.com/ikegod/ikegod/testing/uml"
)

// The second networks of the gateways, those of the connection "own".
const (
	westInner2, westNet2 = "10.1.0.254", "10.1.0.0/24"
	eastInner2, eastNet2 = "10.2.0.254", "10.2.0.0/24"
)

func section(name, westnet, eastnet string, more ...string) string {
	lines := []string{
		"left=" + netns.West, "leftid=@west", "leftsubnet=" + westnet, "right=" + netns.East, "rightid=@east", "rightsubnet=" + eastnet, "authby=secret", "auto=add",
	}
	return "\nconn " + name + "\n\t" + strings.Join(append(lines, more...), "\n\t") + "\n"
}

// pairs are two gateways with two connections between them, "meeting" and "own".
func pairs(t *testing.T) (w, e *netns.Host) {
	t.Helper()
	_, w, e = netns.Gateways(t)
	captured(t, w, e)
	for h, a := range map[*netns.Host]string{w: westInner2, e: eastInner2} {
		if err := h.Run("ip", "addr", "add", a+"/24", "dev", "eth0"); err != nil {
			t.Fatal(err)
		}
	}
	return w, e
}

func ikegodOn(t *testing.T, h *netns.Host, conf string, args ...string) *netns.Daemon {
	t.Helper()
	d, err := h.Ikegod(conf, psk, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := h.Output("sh", "-c", "ip -s xfrm state list nokeys; ip xfrm policy; nft list ruleset; ip rule; ip route show table all; grep -v '\t0$' /proc/net/xfrm_stat; ss -unap; ss -tnp")
			status, _ := d.Ikectl("status")
			t.Logf("log of %s:\n%s\n%s\n%s", h.Name, d.Log(), status, out)
		}
	})
	return d
}

// childOf is the Child SA of a connection.
func childOf(t *testing.T, d *netns.Daemon, name string) ctl.ChildSA {
	t.Helper()
	for _, sa := range saList(t, d) {
		for _, c := range sa.Children {
			if c.Name == name {
				return c
			}
		}
	}
	t.Fatalf("%s has no Child SA %s: %+v", d.Host.Name, name, saList(t, d))
	return ctl.ChildSA{}
}

// busy pings and transfers through a connection both ways.
func busy(t *testing.T, w, e *netns.Host, westInner, eastInner string) {
	t.Helper()
	for _, way := range [][3]any{{w, westInner, eastInner}, {e, eastInner, westInner}} {
		if out, err := way[0].(*netns.Host).Output("ping", "-n", "-c", "3", "-i", "0.1", "-W", "3", "-I", way[1].(string), way[2].(string)); err != nil {
			t.Errorf("%s to %s: %v\n%s", way[1], way[2], err, out)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // the guest has one core, and hosts that are busy
	defer cancel()
	if got, err := netns.Transfer(ctx, e, net.JoinHostPort(eastInner, "0"), w, westInner, 1<<20); err != nil || got.Octets != 1<<20 {
		t.Errorf("transfer to %s: %+v %v", westInner, got, err)
	}
	if got, err := netns.Transfer(ctx, w, net.JoinHostPort(westInner, "0"), e, eastInner, 256<<10); err != nil || got.Octets != 256<<10 {
		t.Errorf("transfer to %s: %+v %v", eastInner, got, err)
	}
}

// TestBackend: one daemon with two connections between the same hosts, one in the kernel and one in userspace, over UDP on a port of its own and over TCP. Both carry
// traffic at the same time, whoever has begun, and status says which is where, and why.
func TestBackend(t *testing.T) {
	userspace := []string{"backend=userspace"}
	for _, tc := range []struct {
		name         string
		kernel       uml.Kernel
		meeting, own []string // lines of the two connections, at both ends
		carriers     [2]string
		short        bool
	}{
		{"full-udp", uml.Full, useUDP, []string{"leftikeport=7000"}, [2]string{"ESPinUDP", "ESPinUDP"}, true},
		{"full-tcp", uml.Full, useTCP, useTCP, [2]string{"ESPinTCP", "ESPinTCP"}, true},
		{"stock-udp", uml.Stock, useUDP, []string{"leftikeport=7000"}, [2]string{"ESPinUDP", "ESPinUDP"}, false},
		{"stock-tcp", uml.Stock, useUDP, useTCP, [2]string{"ESPinUDP", "ESPinTCP"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if !tc.short {
				fullOnly(t)
			}
			if !uml.Outside(t, tc.kernel, uml.Programs) {
				backends(t, tc.meeting, tc.own, userspace, tc.carriers[0], tc.carriers[1])
			}
		})
	}
}

// backends brings both connections up, from either end. west has more of own than east.
func backends(t *testing.T, meeting, own, westOnly []string, meetingCarrier, ownCarrier string) {
	w, e := pairs(t)
	conf := "config setup\n\tlisten-tcp=yes\n" + section("meeting", netns.WestNet, netns.EastNet, meeting...)
	west := ikegodOn(t, w, conf+section("own", westNet2, eastNet2, append(own, westOnly...)...))
	east := ikegodOn(t, e, conf+section("own", westNet2, eastNet2, own...))
	froms := []*netns.Daemon{west, east}
	if ownCarrier == "ESPinTCP" {
		froms = froms[:1] // one is enough: the other way differs in nothing that counts
	}
	for _, from := range froms {
		for _, name := range []string{"meeting", "own"} {
			if out, status := from.Ikectl("up", name); status != 0 {
				t.Fatalf("up %s from %s: %d\n%s", name, from.Host.Name, status, out)
			}
		}
		for name, want := range map[string][2]string{"meeting": {"xfrm", meetingCarrier}, "own": {"userspace", ownCarrier}} {
			if c := childOf(t, west, name); c.Datapath != want[0] || c.Carrier != want[1] || c.Why == "" {
				t.Errorf("%s is %s by %s (%s), want %s by %s", name, c.Carrier, c.Datapath, c.Why, want[1], want[0])
			}
		}
		done := make(chan bool)
		go func() { // at the same time
			busy(t, w, e, netns.WestInner, netns.EastInner)
			close(done)
		}()
		busy(t, w, e, westInner2, eastInner2)
		<-done
		if n := states(t, w); n != 2 {
			t.Errorf("%d states in west's kernel, want those of one Child SA", n)
		}
		for _, name := range []string{"meeting", "own"} {
			if c := childOf(t, west, name); c.InBytes < 1<<20 || c.OutBytes < 256<<10 {
				t.Errorf("%s has carried %d octets in and %d out", name, c.InBytes, c.OutBytes)
			}
			if out, status := west.Ikectl("rekey-child", name); status != 0 {
				t.Errorf("rekey-child %s: %d\n%s", name, status, out)
			}
		}
		for inner, to := range map[string]string{netns.WestInner: netns.EastInner, westInner2: eastInner2} { // after the rekeying
			if out, err := w.Output("ping", "-n", "-c", "3", "-i", "0.1", "-W", "3", "-I", inner, to); err != nil {
				t.Errorf("%s to %s: %v\n%s", inner, to, err, out)
			}
		}
		text, _ := west.Ikectl("status")
		if bin, err := netns.Bin(); err == nil { // without a daemon the same is found out from its file
			text, err := w.Output(filepath.Join(bin, "ikegod"), "doctor", "--config", west.Config, "--settings", "")
			if err != nil || !strings.Contains(text, "ikegod would choose xfrm and userspace") {
				t.Errorf("ikegod doctor: %v\n%s", err, text)
			}
		}
		for _, want := range []string{ownCarrier + " (userspace: backend= of ", meetingCarrier + " (xfrm: ", "datapath xfrm and userspace"} {
			if words := strings.Join(strings.Fields(text), " "); !strings.Contains(words, want) {
				t.Errorf("status has no %q:\n%s", want, text)
			}
		}
		for _, name := range []string{"own", "meeting"} {
			if out, status := from.Ikectl("down", name); status != 0 {
				t.Errorf("down %s: %d\n%s", name, status, out)
			}
		}
		netns.Until(t, 5*time.Second, "both ends are without SAs", func() bool { return len(saList(t, west))+len(saList(t, east)) == 0 })
	}
	two{west, east}.leavesNothing(t)
}

// TestBackendRefused: what is asked for and cannot be had is refused when it is loaded, with the cure; the others go on.
func TestBackendRefused(t *testing.T) {
	if uml.Outside(t, uml.Full, uml.Programs) {
		return
	}
	w, _ := pairs(t)
	plain := "config setup\n\tlisten-tcp=yes\n" + section("meeting", netns.WestNet, netns.EastNet)
	for _, tc := range []struct {
		more, args []string
		want       string
	}{
		{[]string{"backend=userspace"}, nil, "give the connection a port of its own with leftikeport=, or set enable-tcp=yes"},
		{[]string{"backend=userspace", "leftikeport=7000", "encapsulation=no"}, nil, "remove encapsulation=no, or backend=userspace"},
		{[]string{"backend=userspace", "leftikeport=7000"}, []string{"--backend=xfrm"}, "start it with --backend auto"},
		{[]string{"backend=xfrm"}, []string{"--backend=userspace"}, "start it with --backend auto, or remove backend=xfrm"},
	} {
		d := ikegodOn(t, w, plain+section("own", westNet2, eastNet2, tc.more...), tc.args...)
		out, status := d.Ikectl("up", "own")
		if words := strings.Join(strings.Fields(out), " "); status != 1 || !strings.Contains(words, tc.want) || !strings.Contains(words, "backend= of ") {
			t.Errorf("%v: %d\n%s", tc.more, status, out)
		}
		out, _ = d.Ikectl("connections")
		if !strings.Contains(out, "meeting") {
			t.Errorf("%v: the other is not loaded: %s", tc.more, out)
		}
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	}
}

// TestLibreswanPorts meets libreswan on ports of their own, each once as initiator: with the kernel at both ends, and with ours in userspace.
func TestLibreswanPorts(t *testing.T) {
	for backend, tc := range map[string]struct {
		datapath string
		ports    []string
	}{
		"auto":      {"xfrm", []string{"leftikeport=7000", "rightikeport=7001"}},
		"userspace": {"userspace", []string{"leftikeport=7000"}},
	} {
		t.Run(backend, func(t *testing.T) {
			if backend == "userspace" {
				fullOnly(t)
			}
			if uml.Outside(t, uml.Full, libreswan, uml.Programs) {
				return
			}
			w, e := pairs(t)
			l, err := peer.StartLibreswan(e, "config setup\n\tikev1-policy=drop\n"+section("own", westNet2, eastNet2, append(tc.ports, "ikev2=insist")...), psk)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("libreswan:\n%s", l.Log())
				}
			})
			west := ikegodOn(t, w, "config setup\n"+section("own", westNet2, eastNet2, append(tc.ports, "backend="+backend)...))
			for _, who := range []string{"ikegod", "libreswan"} {
				meetOnPort(t, who, west, l, e, tc.datapath)
			}
		})
	}
}

// meetOnPort lets one of the two begin, looks at what they have, and ends it.
func meetOnPort(t *testing.T, who string, west *netns.Daemon, l *peer.Libreswan, e *netns.Host, datapath string) {
	t.Helper()
	if who == "libreswan" {
		if out, err := l.Begin("own"); err != nil {
			t.Fatalf("initiate: %v\n%s", err, out)
		}
	} else if out, status := west.Ikectl("up", "own"); status != 0 {
		t.Fatalf("up: %d\n%s", status, out)
	}
	netns.Until(t, 10*time.Second, "a Child SA", func() bool { list := saList(t, west); return len(list) == 1 && len(list[0].Children) == 1 })
	if c := childOf(t, west, "own"); c.Datapath != datapath || c.Carrier != "ESPinUDP" {
		t.Errorf("%s has begun: %s by %s, want %s", who, c.Carrier, c.Datapath, datapath)
	}
	if p := saList(t, west)[0].Path; !strings.HasSuffix(p.Local, ":7000") {
		t.Errorf("%s has begun: path %+v", who, p)
	}
	busy(t, west.Host, e, westInner2, eastInner2)
	if who == "libreswan" { // what it was told to bring up it brings up again when its peer takes it down
		if out, err := l.End("own"); err != nil {
			t.Errorf("terminate: %v\n%s", err, out)
		}
	} else if out, status := west.Ikectl("down", "own"); status != 0 {
		t.Errorf("down: %d\n%s", status, out)
	}
	netns.Until(t, 10*time.Second, "libreswan has no states", func() bool { return states(t, e) == 0 })
}

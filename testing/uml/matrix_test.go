package uml_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/ctl"
	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/uml"
)

const megabytes = 1 << 20

// patience is for what takes seconds where the guest has a processor for itself. The guests share few of them with the rest of the tests.
const patience = time.Minute

// end is a gateway with the addresses that its peer and it know it by.
type end struct {
	host    *netns.Host
	name    string // its identity, without the @
	addr    string // its own
	seen    string // as the other end sees it
	in, net string // inside
}

// place puts two ends on a network.
type place func(t *testing.T) (ours, theirs end)

func direct(t *testing.T) (ours, theirs end) {
	t.Helper()
	_, west, east := netns.Gateways(t)
	captured(t, west, east)
	return end{west, "west", netns.West, netns.West, netns.WestInner, netns.WestNet}, end{east, "east", netns.East, netns.East, netns.EastInner, netns.EastNet}
}

// udpDropped is direct, with a firewall between them.
func udpDropped(t *testing.T) (ours, theirs end) {
	t.Helper()
	ours, theirs = direct(t)
	if _, err := ours.host.Block("udp", "meta l4proto { udp, esp }"); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

func weBehindNAT(t *testing.T) (ours, theirs end) {
	t.Helper()
	l, road, _, east, err := netns.RoadEast()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	captured(t, road, east)
	return end{road, "road", netns.Road, netns.NIC, netns.WestInner, netns.WestNet}, end{east, "east", netns.East, netns.East, netns.EastInner, netns.EastNet}
}

func theyBehindNAT(t *testing.T) (ours, theirs end) {
	t.Helper()
	theirs, ours = weBehindNAT(t)
	return ours, theirs
}

// scenario is one way to meet a peer.
type scenario struct {
	name      string
	place     place
	conn      []string // lines of the connection, at both ends
	transport bool
	carrier   string // what ikegod says of the Child SA
	encap     string // what `ip xfrm state` of the peer says, or nothing
}

var scenarios = []scenario{
	{name: "plain", place: direct, carrier: "ESP"},
	{name: "udp", place: direct, conn: []string{"encapsulation=yes"}, carrier: "ESPinUDP", encap: "espinudp"},
	{name: "we-behind-nat", place: weBehindNAT, carrier: "ESPinUDP", encap: "espinudp"},
	{name: "they-behind-nat", place: theyBehindNAT, carrier: "ESPinUDP", encap: "espinudp"},
	{name: "tcp", place: direct, conn: []string{"enable-tcp=yes"}, carrier: "ESPinTCP", encap: "espintcp"},
	{name: "fallback", place: udpDropped, conn: []string{"enable-tcp=fallback", "retransmit-timeout=6s"}, carrier: "ESPinTCP", encap: "espintcp"},
	{name: "transport-plain", place: direct, conn: []string{"type=transport"}, transport: true, carrier: "ESP"},
	{name: "transport-udp", place: direct, conn: []string{"type=transport", "encapsulation=yes"}, transport: true, carrier: "ESPinUDP", encap: "espinudp"},
	{name: "transport-tcp", place: direct, conn: []string{"type=transport", "enable-tcp=yes"}, transport: true, carrier: "ESPinTCP", encap: "espintcp"},
}

// conf is ipsec.conf of one end.
func (s *scenario) conf(here, there end) string {
	lines := []string{
		"left=" + here.addr, "leftid=@" + here.name, "right=" + there.seen, "rightid=@" + there.name, "authby=secret", "auto=add",
	}
	if !s.transport {
		lines = append(lines, "leftsubnet="+here.net, "rightsubnet="+there.net)
	}
	return "config setup\n\tlisten-tcp=yes\n\nconn meeting\n\t" + strings.Join(append(lines, s.conn...), "\n\t") + "\n"
}

// fullOnly skips what -short, and so CI, leaves out.
func fullOnly(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skipf("NOT TESTED: %s, which takes a minute or more; make test-kernel runs it", t.Name())
	}
}

// other is the daemon at the other end.
type other interface {
	Begin(name string) (string, error) // brings a connection up
	End(name string) (string, error)   // takes it down
	Log() string
}

// backend is where ikegod has its datapath (--backend).
type backend string

const (
	userspace backend = "userspace"
	xfrm      backend = "xfrm"
)

// meeting is an ikegod and another daemon in a scenario.
type meeting struct {
	scenario
	backend
	ours, theirs end
	daemon       *netns.Daemon
	peer         other
	peerKeeps    bool // as opponent.keeps
}

// opponent is a kind of other daemon, and what is asked of ikegod with it.
type opponent struct {
	need   uml.Need
	start  func(s scenario, here, there end) (other, error)
	fits   func(scenario) bool
	always []string // the guests that -short runs too, and so CI
	load   int      // octets from either end
	keeps  bool     // it makes a connection again that it was told to bring up, when the other end has deleted it
}

// meet starts both.
func meet(t *testing.T, b backend, s scenario, o opponent) *meeting {
	t.Helper()
	return meetAuto(t, b, s, o, "add")
}

// meetAuto is meet, where ikegod's connection has auto.
func meetAuto(t *testing.T, b backend, s scenario, o opponent, auto string) *meeting {
	t.Helper()
	ours, theirs := s.place(t)
	if s.transport {
		ours.in, theirs.in = ours.addr, theirs.addr
	}
	p, err := o.start(s, theirs, ours)
	if err != nil {
		t.Fatal(err)
	}
	d, err := ours.host.Ikegod(strings.Replace(s.conf(ours, theirs), "auto=add", "auto="+auto, 1), psk, "--backend", string(b))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of ikegod:\n%s\nlog of its peer:\n%s", d.Log(), p.Log())
		}
	})
	return &meeting{scenario: s, backend: b, ours: ours, theirs: theirs, daemon: d, peer: p, peerKeeps: o.keeps}
}

// up brings the connection up from one end.
func (m *meeting) up(t *testing.T, weBegin bool) {
	t.Helper()
	if weBegin {
		if out, status := m.daemon.Ikectl("up", "meeting"); status != 0 {
			t.Fatalf("ikectl up: %d\n%s", status, out)
		}
	} else if out, err := m.peer.Begin("meeting"); err != nil {
		t.Logf("the peer's attempt: %v\n%s", err, out) // libreswan gives up on UDP here, and goes on by itself over TCP
	}
	sa := m.established(t, "")
	child := sa.Children[0]
	mode := "tunnel"
	if m.transport {
		mode = "transport"
	}
	if sa.Initiator != weBegin || child.Carrier != m.carrier || child.Mode != mode {
		t.Errorf("ikegod's view: %+v", sa)
	}
	for _, state := range m.states(t) {
		if !strings.Contains(state, "mode "+mode) || strings.Contains(state, "encap") != (m.encap != "") || !strings.Contains(state, m.encap) {
			t.Errorf("a state of the peer's kernel is not mode %s with encap %q:\n%s", mode, m.encap, state)
		}
	}
}

// established waits for one IKE SA with one Child SA at both ends, another than that with the initiator's SPI old.
func (m *meeting) established(t *testing.T, old string) (sa ctl.IKESA) {
	t.Helper()
	netns.Until(t, patience, "one Child SA at both ends", func() bool {
		sas := m.sas(t)
		if len(sas) != 1 || sas[0].SPIi == old || len(sas[0].Children) != 1 || sas[0].Children[0].Carrier == "" || len(m.states(t)) != 2 { // without a carrier it is being installed
			return false
		}
		sa = sas[0]
		return true
	})
	return sa
}

// down takes it down from one end, and looks at the other. An end that has been told to bring the connection up makes it again when the other has deleted it: it is
// told otherwise when it has done so. (libreswan 4.10 begins again what it is told to end before that, and told to end in the middle of IKE_AUTH it leaves its
// peer with an IKE SA.)
func (m *meeting) down(t *testing.T, weBegan, weEnd bool) {
	t.Helper()
	sas := m.sas(t)
	if len(sas) == 0 {
		t.Fatal("the connection is down before it is taken down")
	}
	old, oldStates := sas[0].SPIi, m.spis(t)
	m.end(t, weEnd)
	netns.Until(t, patience, "the SAs are gone at both ends", func() bool {
		return !slices.ContainsFunc(m.sas(t), func(sa ctl.IKESA) bool { return sa.SPIi == old }) &&
			!slices.ContainsFunc(m.spis(t), func(spi string) bool { return slices.Contains(oldStates, spi) })
	})
	if weBegan != weEnd && (weBegan || m.peerKeeps) {
		if sa := m.established(t, old); sa.Initiator != weBegan {
			t.Errorf("the end that was not told to has brought the connection up again: %+v", sa)
		}
		m.end(t, weBegan)
	}
	netns.Until(t, patience, "no SA at either end", func() bool { return len(m.sas(t)) == 0 && len(m.states(t)) == 0 })
}

func (m *meeting) end(t *testing.T, we bool) {
	t.Helper()
	if we {
		if out, status := m.daemon.Ikectl("down", "meeting"); status != 0 {
			t.Errorf("ikectl down: %d\n%s", status, out)
		}
	} else if out, err := m.peer.End("meeting"); err != nil {
		t.Errorf("the peer's end: %v\n%s", err, out)
	}
}

func (m *meeting) sas(t *testing.T) []ctl.IKESA {
	t.Helper()
	var list []ctl.IKESA
	if err := m.daemon.SAs(context.Background(), func(sa ctl.IKESA) bool { list = append(list, sa); return true }); err != nil {
		t.Fatal(err)
	}
	return list
}

// states are those of the peer's kernel.
func (m *meeting) states(t *testing.T) []string {
	t.Helper()
	out, err := m.theirs.host.Output("ip", "xfrm", "state")
	if err != nil {
		t.Fatalf("ip xfrm state: %v: %s", err, out)
	}
	var list []string
	for s := range strings.SplitSeq("\n"+out, "\nsrc ") {
		if strings.Contains(s, "proto esp") {
			list = append(list, s)
		}
	}
	return list
}

// spis are those of the peer's kernel.
func (m *meeting) spis(t *testing.T) (list []string) {
	t.Helper()
	for _, state := range m.states(t) {
		_, spi, _ := strings.Cut(state, " spi ")
		spi, _, _ = strings.Cut(spi, " ")
		list = append(list, spi)
	}
	return list
}

// carries pings and transfers load octets both ways, with nothing in clear on either end's wire.
func (m *meeting) carries(t *testing.T, load int) {
	t.Helper()
	ours, theirs := m.ours.in, m.theirs.in
	if m.transport {
		theirs = m.theirs.seen
	}
	watched(t, func() {
		if out, err := m.ours.host.Output("ping", "-n", "-c", "3", "-i", "0.05", "-W", "2", "-I", ours, theirs); err != nil {
			t.Errorf("ping: %v: %s", err, out)
		}
		if out, err := m.theirs.host.Output("ping", "-n", "-c", "3", "-i", "0.05", "-W", "2", "-I", theirs, ours); err != nil {
			t.Errorf("ping from the peer: %v: %s", err, out)
		}
		download(t, m.theirs.host, theirs, m.ours.host, ours, load)
		download(t, m.ours.host, ours, m.theirs.host, theirs, load)
	}, m.ours.host, m.theirs.host)
}

func download(t *testing.T, server *netns.Host, at string, client *netns.Host, from string, load int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	d, err := netns.Transfer(ctx, server, net.JoinHostPort(at, "0"), client, from, int64(load))
	if err != nil {
		t.Errorf("download from %s: %v", server.Name, err)
	}
	t.Logf("%d MB from %s in %s", load/megabytes, server.Name, d.Took.Round(time.Millisecond))
}

// everywhere runs the scenarios that fit, with either datapath of ikegod, a guest each.
func everywhere(t *testing.T, o opponent) {
	t.Helper()
	for _, b := range []backend{userspace, xfrm} {
		for _, s := range scenarios {
			if !o.fits(s) {
				continue
			}
			name := string(b) + "-" + s.name
			t.Run(name, func(t *testing.T) {
				if !slices.Contains(o.always, name) {
					fullOnly(t)
				}
				if !uml.Outside(t, uml.Full, uml.Programs, o.need) {
					meet(t, b, s, o).both(t, o.load)
				}
			})
		}
	}
}

// both lets each end begin twice and end twice, in one scenario.
func (m *meeting) both(t *testing.T, load int) {
	for _, role := range []struct {
		name           string
		weBegin, weEnd bool
	}{{"we-initiate", true, true}, {"peer-initiates", false, false}, {"we-initiate-peer-deletes", true, false}, {"peer-initiates-we-delete", false, true}} {
		t.Run(role.name, func(t *testing.T) {
			m.up(t, role.weBegin)
			if role.weBegin == role.weEnd {
				m.carries(t, load)
			}
			m.down(t, role.weBegin, role.weEnd)
		})
	}
}

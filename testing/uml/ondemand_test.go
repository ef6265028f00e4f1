package uml_test

import (
	"strings"
	"testing"

	"github.com/ikegod/ikegod/pkg/ctl"
	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/peer"
	"github.com/ikegod/ikegod/testing/uml"
)

// startLibreswanTemplate is startLibreswan, where libreswan takes a peer from anywhere.
func startLibreswanTemplate(s scenario, here, there end) (other, error) {
	return peer.StartLibreswan(here.host, strings.Replace(s.conf(here, there), "right="+there.seen, "right=%any", 1), psk)
}

// startLibreswanNarrowing is startLibreswanTemplate, where libreswan alone has narrowing=yes.
func startLibreswanNarrowing(s scenario, here, there end) (other, error) {
	s.conn = []string{"narrowing=yes"}
	return startLibreswanTemplate(s, here, there)
}

// TestOnDemandPeers: a ping brings up a connection to another daemon, which is asked with the packet's selectors before the connection's (RFC 7296 2.9): it protects
// the whole subnets all the same, and carries other traffic than the packet's. A libreswan whose connection is a template with narrowing=yes answers with the packet's
// selectors alone: it is asked again without.
func TestOnDemandPeers(t *testing.T) {
	pluto, template := opponent{need: libreswan, start: startLibreswan}, opponent{need: libreswan, start: startLibreswanTemplate}
	narrowing := opponent{need: libreswan, start: startLibreswanNarrowing}
	charon := opponent{need: strongswan, start: startStrongSwan}
	for _, c := range []struct {
		name  string
		with  opponent
		s     scenario
		again bool // it is asked a second time
	}{
		{name: "libreswan", with: pluto, s: scenario{place: direct, carrier: "ESP"}},
		{name: "libreswan-tcp", with: pluto, s: scenario{place: direct, conn: useTCP, carrier: "ESPinTCP", encap: "espintcp"}},
		{name: "libreswan-narrowing", with: pluto, s: scenario{place: direct, conn: []string{"narrowing=yes"}, carrier: "ESP"}},
		{name: "libreswan-transport", with: pluto, s: scenario{place: direct, conn: []string{"type=transport"}, transport: true, carrier: "ESP"}},
		{name: "libreswan-template", with: template, s: scenario{place: direct, carrier: "ESP"}},
		{name: "libreswan-template-narrowing", with: template, s: scenario{place: direct, conn: []string{"narrowing=yes"}, carrier: "ESP"}, again: true},
		{name: "libreswan-template-narrows", with: narrowing, s: scenario{place: direct, carrier: "ESP"}, again: true},
		{name: "strongswan", with: charon, s: scenario{place: direct, carrier: "ESP"}},
		{name: "strongswan-nat", with: charon, s: scenario{place: weBehindNAT, carrier: "ESPinUDP", encap: "espinudp"}},
		{name: "strongswan-transport", with: charon, s: scenario{place: direct, conn: []string{"type=transport"}, transport: true, carrier: "ESP"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fullOnly(t)
			if !uml.Outside(t, uml.Full, uml.Programs, c.with.need) {
				meetAuto(t, xfrm, c.s, c.with, "ondemand").needed(t, c.again)
			}
		})
	}
}

// TestOnDemandByPeer: strongSwan, which puts the packet's selectors first too, is brought up by a ping; the answer of ikegod is for the whole subnets.
func TestOnDemandByPeer(t *testing.T) {
	fullOnly(t)
	o := opponent{need: strongswan, start: startStrongSwanTrap}
	if uml.Outside(t, uml.Full, uml.Programs, o.need) {
		return
	}
	m := meet(t, xfrm, scenario{place: direct, carrier: "ESP"}, o)
	netns.Until(t, patience, "the trap of strongSwan", func() bool {
		out, err := m.theirs.host.Output("ip", "xfrm", "policy")
		return err == nil && strings.Contains(out, "src "+m.theirs.net+" dst "+m.ours.net)
	})
	_, _ = m.theirs.host.Output("ping", "-n", "-c", "3", "-W", "2", "-I", m.theirs.in, m.ours.in) // the first is lost
	m.protects(t, m.established(t, ""))
	m.carries(t, 2*megabytes)
	if out, err := m.peer.End("meeting"); err != nil {
		t.Errorf("the peer's end: %v\n%s", err, out)
	}
}

// needed brings the connection up by one packet, looks at what the peer protects then, and uses it.
func (m *meeting) needed(t *testing.T, again bool) {
	t.Helper()
	ours, theirs := m.ours.in, m.theirs.in
	watched(t, func() {
		if out, err := m.ours.host.Output("ping", "-n", "-c", "1", "-W", "60", "-I", ours, theirs); err != nil {
			t.Errorf("the first packet: %v %s", err, out)
		}
	}, m.ours.host, m.theirs.host)
	sa := m.established(t, "")
	said(t, "the log of ikegod", m.daemon.Log(), " for the packet ["+ours+"/32/ICMP/2048==="+theirs+"/32/ICMP/2048]")
	if got := strings.Contains(m.daemon.Log(), "asking once more, without the selectors of the packet"); got != again {
		t.Errorf("asked once more: %t, want %t", got, again)
	}
	m.protects(t, sa)
	m.carries(t, 2*megabytes)
	m.end(t, true)
	for line := range strings.Lines(m.daemon.Log() + m.peer.Log()) {
		if strings.Contains(line, "asking once more") || strings.Contains(line, "Child SA") && strings.Contains(line, "established") || strings.Contains(line, "CHILD_SA") && strings.Contains(line, "established") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// protects checks what both ends protect, the peer in its kernel: the subnets, or in transport mode the hosts.
func (m *meeting) protects(t *testing.T, sa ctl.IKESA) {
	t.Helper()
	local, remote := m.ours.net, m.theirs.net
	if m.transport {
		local, remote = m.ours.addr+"/32", m.theirs.addr+"/32"
	}
	if c := sa.Children[0]; c.Local != local || c.Remote != remote {
		t.Errorf("ikegod protects %q and %q", c.Local, c.Remote)
	}
	out, err := m.theirs.host.Output("ip", "xfrm", "policy")
	for _, want := range []string{"src " + remote + " dst " + local + " \n\tdir out", "src " + local + " dst " + remote + " \n\tdir in"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("the peer's kernel has no %q: %v\n%s", want, err, out)
		}
	}
}

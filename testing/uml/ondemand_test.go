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

// startLibreswanNarrowing is startLibreswan, where libreswan alone has narrowing=yes.
func startLibreswanNarrowing(s scenario, here, there end) (other, error) {
	s.conn = []string{"narrowing=yes"}
	return startLibreswan(s, here, there)
}

// TestOnDemandPeers: a ping brings up a connection to another daemon, which is asked with the packet's selectors before the connection's (RFC 7296 2.9): it protects
// the whole subnets all the same, and carries other traffic than the packet's. A libreswan with narrowing=yes answers with the packet's selectors alone: it is asked again
// without, and the next time at once.
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
		{name: "libreswan-narrowing", with: pluto, s: scenario{place: direct, conn: []string{"narrowing=yes"}, carrier: "ESP"}, again: true},
		{name: "libreswan-narrows", with: narrowing, s: scenario{place: direct, carrier: "ESP"}, again: true},
		{name: "libreswan-transport", with: pluto, s: scenario{place: direct, conn: []string{"type=transport"}, transport: true, carrier: "ESP"}},
		{name: "libreswan-template", with: template, s: scenario{place: direct, carrier: "ESP"}},
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
	sa := m.firstPing(t)
	said(t, "the log of ikegod", m.daemon.Log(), " for the packet ["+m.ours.in+"/32/ICMP/2048==="+m.theirs.in+"/32/ICMP/2048]")
	m.protects(t, sa)
	m.carries(t, 2*megabytes)
	m.end(t, true)
	want := 0
	if again {
		want = 1
		netns.Until(t, patience, "no SA at either end", func() bool { return len(m.sas(t)) == 0 && len(m.states(t)) == 0 })
		m.protects(t, m.firstPing(t))
		m.end(t, true)
	}
	if n := strings.Count(m.daemon.Log(), "asking once more, without the selectors of the packet"); n != want {
		t.Errorf("asked once more %d times, want %d", n, want)
	}
	for line := range strings.Lines(m.daemon.Log() + m.peer.Log()) {
		if strings.Contains(line, "asking once more") || strings.Contains(line, "established") && strings.Contains(strings.ReplaceAll(line, "_", " "), "Child SA") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// firstPing is one packet, for which the connection comes up; it gets its answer, and nothing goes in clear.
func (m *meeting) firstPing(t *testing.T) ctl.IKESA {
	t.Helper()
	watched(t, func() {
		if out, err := m.ours.host.Output("ping", "-n", "-c", "1", "-W", "60", "-I", m.ours.in, m.theirs.in); err != nil {
			t.Errorf("the first packet: %v %s", err, out)
		}
	}, m.ours.host, m.theirs.host)
	return m.established(t, "")
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

package peer

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/ctl"
	"github.com/ikegod/ikegod/testing/netns"
)

const megabytes50 = 50 << 20

// meeting is an ikegod and a strongSwan that run at a site.
type meeting struct {
	site
	tunnels []tunnel
	daemon  *netns.Daemon
	peer    *StrongSwan
}

// meet starts both with all tunnels.
func meet(t *testing.T, s site, tunnels []tunnel) *meeting {
	t.Helper()
	peer, err := Start(s.theirs.host, s.swanctl(tunnels))
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.ours.host.Ikegod(s.conf(tunnels), ": PSK \"a secret that nobody guesses\"\n")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of ikegod:\n%s\nlog of strongSwan:\n%s", d.Log(), peer.Log())
		}
	})
	return &meeting{site: s, tunnels: tunnels, daemon: d, peer: peer}
}

func (m *meeting) sas(t *testing.T) []ctl.IKESA {
	t.Helper()
	var list []ctl.IKESA
	if err := m.daemon.SAs(context.Background(), func(sa ctl.IKESA) bool { list = append(list, sa); return true }); err != nil {
		t.Fatal(err)
	}
	return list
}

// weInitiate brings a tunnel up from ikegod, uses it, and takes it down.
func (m *meeting) weInitiate(t *testing.T, u tunnel, use func(*testing.T, *meeting, tunnel)) {
	t.Helper()
	if out, status := m.daemon.Ikectl("up", u.name); status != 0 {
		t.Errorf("ikectl up: %d\n%s", status, out)
		return
	}
	m.established(t, u, true)
	use(t, m, u)
	if out, status := m.daemon.Ikectl("down", u.name); status != 0 {
		t.Errorf("ikectl down: %d\n%s", status, out)
	}
	netns.Until(t, 3*time.Second, "strongSwan has no SA after our delete", func() bool {
		out, err := m.peer.Swanctl("--list-sas")
		return err == nil && strings.TrimSpace(out) == ""
	})
}

// theyInitiate does the same from strongSwan.
func (m *meeting) theyInitiate(t *testing.T, u tunnel, use func(*testing.T, *meeting, tunnel)) {
	t.Helper()
	if out, err := m.peer.Swanctl("--initiate", "--child", u.name, "--timeout", "20"); err != nil {
		t.Errorf("swanctl --initiate: %v\n%s", err, out)
		return
	}
	m.established(t, u, false)
	use(t, m, u)
	if out, err := m.peer.Swanctl("--terminate", "--ike", u.name, "--timeout", "10"); err != nil {
		t.Errorf("swanctl --terminate: %v\n%s", err, out)
	}
	netns.Until(t, 3*time.Second, "ikegod has no SA after strongSwan's delete", func() bool { return len(m.sas(t)) == 0 })
}

// established looks at both sides' view.
func (m *meeting) established(t *testing.T, u tunnel, initiator bool) {
	t.Helper()
	list := m.sas(t)
	if len(list) != 1 || list[0].Established.IsZero() || list[0].Initiator != initiator || list[0].RemoteID != "@theirs-"+u.name || len(list[0].Children) == 0 {
		t.Errorf("ikegod's view: %+v", list)
	}
	out, err := m.peer.Swanctl("--list-sas")
	if err != nil {
		t.Errorf("swanctl --list-sas: %v", err)
	}
	for _, want := range append([]string{u.name + ": #", "INSTALLED, TUNNEL-in-UDP"}, u.expect...) {
		if !strings.Contains(out, want) {
			t.Errorf("strongSwan's view has no %q:\n%s", want, out)
		}
	}
}

// pings sends a few packets both ways.
func pings(t *testing.T, m *meeting, u tunnel) {
	t.Helper()
	ours, theirs := m.ours.in[u.inner], m.theirs.in[u.inner]
	if out, err := m.ours.host.Output("ping", "-n", "-c", "3", "-i", "0.05", "-W", "2", "-I", ours, theirs); err != nil {
		t.Errorf("ping: %v: %s", err, out)
	}
	if out, err := m.theirs.host.Output("ping", "-n", "-c", "3", "-i", "0.05", "-W", "2", "-I", theirs, ours); err != nil {
		t.Errorf("ping from strongSwan: %v: %s", err, out)
	}
}

// carries sends a ping and transfers 50 MB both ways, and looks that nothing was in clear.
func carries(t *testing.T, m *meeting, u tunnel) {
	t.Helper()
	ours, theirs := m.ours.in[u.inner], m.theirs.in[u.inner]
	for _, h := range []*netns.Host{m.ours.host, m.theirs.host} {
		if err := h.Count(); err != nil {
			t.Fatal(err)
		}
		defer h.Uncount()
	}
	pings(t, m, u)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	begin := time.Now()
	if _, err := netns.Transfer(ctx, m.theirs.host, net.JoinHostPort(theirs, "0"), m.ours.host, ours, megabytes50); err != nil {
		t.Errorf("download from strongSwan: %v", err)
	}
	middle := time.Now()
	if _, err := netns.Transfer(ctx, m.ours.host, net.JoinHostPort(ours, "0"), m.theirs.host, theirs, megabytes50); err != nil {
		t.Errorf("download from ikegod: %v", err)
	}
	t.Logf("50 MB from strongSwan in %s, from ikegod in %s", middle.Sub(begin).Round(time.Millisecond), time.Since(middle).Round(time.Millisecond))
	for _, h := range []*netns.Host{m.ours.host, m.theirs.host} {
		if c, err := h.Counts(); err != nil || c.Clear() != 0 {
			t.Errorf("%s saw packets in clear: %v %v", h.Name, c, err)
		}
	}
}

// TestFamiliesAndNAT carries either version of IP in either, with a NAT before either end and without, whoever begins.
func TestFamiliesAndNAT(t *testing.T) {
	need(t)
	for _, where := range sites {
		t.Run(where.name, func(t *testing.T) {
			s := where.make(t)
			var tunnels []tunnel
			for outer, o := range versions {
				for inner, i := range versions {
					tunnels = append(tunnels, tunnel{
						name: i + "in" + o, outer: outer, inner: inner, ike: "aes_gcm128-sha2_256-dh31", esp: "aes_gcm128",
						theirIKE: "aes128gcm16-prfsha256-x25519", theirESP: "aes128gcm16",
					})
				}
			}
			m := meet(t, s, tunnels)
			for _, u := range tunnels {
				t.Run(u.name+"/we-initiate", func(t *testing.T) { m.weInitiate(t, u, carries) })
				t.Run(u.name+"/strongswan-initiates", func(t *testing.T) { m.theyInitiate(t, u, carries) })
			}
		})
	}
}

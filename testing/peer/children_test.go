package peer

import (
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// TestSeveralChildren has two connections here that are two children of one connection there: one IKE SA carries both, whoever begins with CREATE_CHILD_SA.
func TestSeveralChildren(t *testing.T) {
	need(t)
	const otherNet, otherInner = "192.0.22.0/24", "192.0.22.254"
	s := sites[0].make(t)
	if err := s.theirs.host.Run("ip", "addr", "add", otherInner+"/24", "dev", "eth0"); err != nil {
		t.Fatal(err)
	}
	if err := s.ours.host.Run("ip", "route", "add", otherNet, "via", s.theirs.addr[0]); err != nil {
		t.Fatal(err)
	}
	first := modern(func(u *tunnel) { u.theirESP = "aes256gcm16-x25519" }) // pfs=yes is the default here
	conf := s.conf([]tunnel{first})
	second := strings.NewReplacer("conn tunnel", "conn second", s.theirs.net[0], otherNet).Replace(conf[strings.Index(conf, "conn tunnel"):])
	theirs := s.swanctl([]tunnel{first})
	child := theirs[strings.Index(theirs, "    children {\n")+len("    children {\n") : strings.Index(theirs, "    }\n  }\n}\nsecrets")]
	theirs = strings.Replace(theirs, child, child+strings.NewReplacer("tunnel {", "second {", s.theirs.net[0], otherNet).Replace(child), 1)
	peer, err := Start(s.theirs.host, theirs)
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.ours.host.Ikegod(conf+"\n"+second, ": PSK \"a secret that nobody guesses\"\n")
	if err != nil {
		t.Fatal(err)
	}
	m := &meeting{site: s, daemon: d, peer: peer}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of ikegod:\n%s\nlog of strongSwan:\n%s", d.Log(), peer.Log())
		}
	})
	other := *m
	other.theirs.in[0] = otherInner
	both := func(t *testing.T) {
		t.Helper()
		if list := m.sas(t); len(list) != 1 || len(list[0].Children) != 2 {
			t.Errorf("want one IKE SA with two children: %+v", list)
		}
		if out, err := peer.Swanctl("--list-sas"); err != nil || strings.Count(out, "ESTABLISHED") != 1 || strings.Count(out, "INSTALLED, TUNNEL-in-UDP") != 2 {
			t.Errorf("strongSwan's view: %v\n%s", err, out)
		}
		carries(t, m, first)
		carries(t, &other, first)
	}
	gone := func(t *testing.T) {
		t.Helper()
		netns.Until(t, 5*time.Second, "nothing is left on either side", func() bool {
			out, err := peer.Swanctl("--list-sas")
			return err == nil && strings.TrimSpace(out) == "" && len(m.sas(t)) == 0
		})
	}
	t.Run("we-initiate", func(t *testing.T) {
		for _, name := range []string{"tunnel", "second"} {
			if out, status := d.Ikectl("up", name); status != 0 {
				t.Fatalf("up %s: %d\n%s", name, status, out)
			}
		}
		both(t)
		for _, name := range []string{"tunnel", "second"} {
			if out, status := d.Ikectl("down", name); status != 0 {
				t.Errorf("down %s: %d\n%s", name, status, out)
			}
		}
		gone(t)
	})
	t.Run("strongswan-initiates", func(t *testing.T) {
		for _, name := range []string{"tunnel", "second"} {
			if out, err := peer.Swanctl("--initiate", "--child", name, "--timeout", "20"); err != nil {
				t.Fatalf("swanctl --initiate %s: %v\n%s", name, err, out)
			}
		}
		both(t)
		before := m.sas(t)[0].Children
		if out, err := peer.Swanctl("--rekey", "--child", "tunnel"); err != nil {
			t.Errorf("swanctl --rekey: %v\n%s", err, out)
		}
		netns.Until(t, 5*time.Second, "strongSwan has rekeyed one of the two, and deleted the old one", func() bool {
			list := m.sas(t)
			if len(list) != 1 || len(list[0].Children) != 2 {
				return false
			}
			now := list[0].Children
			spis := now[0].SPIIn + now[1].SPIIn
			return strings.Contains(spis, before[0].SPIIn) != strings.Contains(spis, before[1].SPIIn)
		})
		both(t)
		if out, err := peer.Swanctl("--terminate", "--ike", "tunnel", "--timeout", "10"); err != nil {
			t.Errorf("swanctl --terminate: %v\n%s", err, out)
		}
		gone(t)
	})
}

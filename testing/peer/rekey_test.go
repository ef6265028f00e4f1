package peer

import (
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// TestRekeyChild rekeys the Child SA from either end, without PFS where strongSwan's esp_proposals have no group and ours says nothing, and with it.
func TestRekeyChild(t *testing.T) {
	need(t)
	for _, u := range []tunnel{
		modern(func(u *tunnel) { u.name = "no-group" }),
		modern(func(u *tunnel) { u.name, u.theirESP, u.ours = "pfs", u.theirESP+"-curve25519", []string{"pfs=yes"} }),
	} {
		t.Run(u.name, func(t *testing.T) {
			m := meet(t, sites[0].make(t), []tunnel{u})
			m.weInitiate(t, u, rekeys)
		})
	}
}

// rekeys lets each end rekey the one Child SA, which protects the same afterwards, and carries it.
func rekeys(t *testing.T, m *meeting, u tunnel) {
	t.Helper()
	for _, rekey := range []func() (string, bool){
		func() (string, bool) { out, status := m.daemon.Ikectl("rekey-child", u.name); return out, status == 0 },
		func() (string, bool) {
			out, err := m.peer.Swanctl("--rekey", "--child", u.name)
			return out, err == nil
		},
	} {
		before := m.sas(t)[0].Children[0]
		if out, ok := rekey(); !ok {
			t.Errorf("rekey: %s", out)
		}
		netns.Until(t, 5*time.Second, "one Child SA, another than before", func() bool {
			c := m.sas(t)[0].Children
			return len(c) == 1 && c[0].SPIIn != before.SPIIn && !c[0].Installed.IsZero()
		})
		if c := m.sas(t)[0].Children[0]; c.Local != before.Local || c.Remote != before.Remote {
			t.Errorf("%s === %s was rekeyed to %s === %s", before.Local, before.Remote, c.Local, c.Remote)
		}
		pings(t, m, u)
	}
}

package peer

import (
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// TestOnDemand: a ping brings the connection up, and strongSwan is asked with its selectors before the subnets (RFC 7296 2.9): its answer is all that it allows of them.
func TestOnDemand(t *testing.T) {
	need(t)
	for _, u := range []tunnel{
		modern(func(u *tunnel) { u.name = "four" }),
		modern(func(u *tunnel) { u.name, u.inner = "six", 1 }),
		modern(func(u *tunnel) { u.name, u.ours, u.ourTS = "we-want-more", []string{"narrowing=yes"}, "192.0.0.0/16" }),
	} {
		t.Run(u.name, func(t *testing.T) {
			u.auto = "ondemand"
			m := meet(t, sites[0].make(t), []tunnel{u})
			ours, theirs := m.ours.in[u.inner], m.theirs.in[u.inner]
			if out, err := m.ours.host.Output("ping", "-n", "-c", "1", "-W", "20", "-I", ours, theirs); err != nil {
				t.Fatalf("the first packet: %v %s", err, out)
			}
			netns.Until(t, 5*time.Second, "one IKE SA", func() bool { return len(m.sas(t)) == 1 })
			m.established(t, u, true)
			if c := m.sas(t)[0].Children[0]; c.Local != m.ours.net[u.inner] || c.Remote != m.theirs.net[u.inner] {
				t.Errorf("ikegod has %s === %s", c.Local, c.Remote)
			}
			out, err := m.peer.Swanctl("--list-sas")
			if err != nil || !strings.Contains(out, "local  "+m.theirs.net[u.inner]+"\n") || !strings.Contains(out, "remote "+m.ours.net[u.inner]+"\n") {
				t.Errorf("strongSwan has something else: %v\n%s", err, out)
			}
			if log := m.daemon.Log(); !strings.Contains(log, " for the packet ["+ours+"/") || strings.Contains(log, "asking once more") {
				t.Errorf("it was not asked with the packet, or also without:\n%s", log)
			}
			carries(t, m, u)
		})
	}
}

package peer

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// modern is one tunnel between IPv4 addresses with the algorithms of our default.
func modern(change ...func(*tunnel)) tunnel {
	u := tunnel{
		name: "tunnel", ike: "aes_gcm256-sha2_512-dh31", esp: "aes_gcm256",
		theirIKE: "aes256gcm16-prfsha512-x25519", theirESP: "aes256gcm16",
	}
	for _, c := range change {
		c(&u)
	}
	return u
}

// TestListsOfProposals chooses among several algorithms on either side.
func TestListsOfProposals(t *testing.T) {
	need(t)
	u := modern(func(u *tunnel) {
		u.ike, u.esp = "aes256-aes128-sha256-sha384-modp4096-ecp256", "aes256-aes128-sha256-sha384"
		u.theirIKE, u.theirESP = "aes192-aes128-sha512-sha384-ecp256-modp3072,aes256gcm16-prfsha512-ecp521", "aes192-aes128-sha512-sha384"
		u.expect = []string{"AES_CBC-128/HMAC_SHA2_384_192/PRF_HMAC_SHA2_384/ECP_256", "ESP:AES_CBC-128/HMAC_SHA2_384_192"}
	})
	m := meet(t, sites[0].make(t), []tunnel{u})
	m.weInitiate(t, u, pings)
	if log := m.peer.Log(); !strings.Contains(log, "N(INVAL_KE)") { // we begin with MODP4096
		t.Errorf("strongSwan did not ask for another group:\n%s", log)
	}
	m.theyInitiate(t, u, pings)
}

// TestNarrowing lets either side ask for more than the other allows: both have the smaller selectors then (RFC 7296 2.9), carry them, and rekey them
// from either end (2.9.2). With narrowing=no,
// our default, an initiator that gets less than it wants deletes the Child SA, and a responder refuses it.
func TestNarrowing(t *testing.T) {
	need(t)
	const wide, subnet1, subnet2 = "192.0.0.0/16", "192.0.1.0/24", "192.0.2.0/24"
	named := func(name string, change func(*tunnel)) tunnel {
		return modern(func(u *tunnel) { u.name, u.ours = name, []string{"narrowing=yes"}; change(u) })
	}
	for _, tc := range []struct {
		tunnel
		local, remote string // as both must have them
	}{
		{named("we-want-more", func(u *tunnel) { u.ourTS = wide }), subnet1, subnet2},
		{named("we-want-less", func(u *tunnel) { u.ourTS = "192.0.2.192/26" }), subnet1, "192.0.2.192/26"},
		{named("they-want-more", func(u *tunnel) { u.theirTS = wide }), subnet1, subnet2},
		{named("they-want-less", func(u *tunnel) { u.theirTS = "192.0.1.128/25" }), "192.0.1.128/25", subnet2},
		{named("each-wants-more-of-the-other", func(u *tunnel) { u.ourTS, u.theirTS = wide, wide }), subnet1, subnet2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := meet(t, sites[0].make(t), []tunnel{tc.tunnel})
			use := func(t *testing.T, m *meeting, u tunnel) {
				if c := m.sas(t)[0].Children[0]; c.Local != tc.local || c.Remote != tc.remote {
					t.Errorf("ikegod has %s === %s, want %s === %s", c.Local, c.Remote, tc.local, tc.remote)
				}
				out, err := m.peer.Swanctl("--list-sas")
				if err != nil || !strings.Contains(out, "local  "+tc.remote+"\n") || !strings.Contains(out, "remote "+tc.local+"\n") {
					t.Errorf("strongSwan has something else than %s === %s: %v\n%s", tc.remote, tc.local, err, out)
				}
				carries(t, m, u)
				rekeys(t, m, u)
			}
			m.weInitiate(t, tc.tunnel, use)
			m.theyInitiate(t, tc.tunnel, use)
		})
	}
}

// TestStrongSwanAsksWhetherWeAreThere answers its liveness checks.
func TestStrongSwanAsksWhetherWeAreThere(t *testing.T) {
	need(t)
	u := modern(func(u *tunnel) { u.theirs = []string{"dpd_delay = 1s"} })
	m := meet(t, sites[0].make(t), []tunnel{u})
	m.weInitiate(t, u, func(t *testing.T, m *meeting, u tunnel) {
		netns.Until(t, 10*time.Second, "strongSwan asks and hears from us", func() bool {
			log := m.peer.Log()
			return strings.Contains(log, "sending DPD request") && strings.Contains(log, "parsed INFORMATIONAL response 1")
		})
		m.established(t, u, true)
	})
}

// TestWeAskWhetherStrongSwanIsThere checks a silent peer, and notices when it is gone.
func TestWeAskWhetherStrongSwanIsThere(t *testing.T) {
	need(t)
	u := modern(func(u *tunnel) { u.ours = []string{"dpddelay=1s", "retransmit-timeout=3s"} })
	m := meet(t, sites[0].make(t), []tunnel{u})
	if out, status := m.daemon.Ikectl("up", u.name); status != 0 {
		t.Fatalf("ikectl up: %d\n%s", status, out)
	}
	sa := m.sas(t)[0]
	netns.Until(t, 10*time.Second, "we ask and strongSwan answers, twice", func() bool {
		return strings.Contains(m.peer.Log(), "generating INFORMATIONAL response 3")
	})
	if still := m.sas(t); len(still) != 1 || still[0].SPIi != sa.SPIi {
		t.Errorf("the IKE SA %s changed: %+v", sa.SPIi, still)
	}
	if _, err := m.theirs.host.Block("everything", fmt.Sprintf("ip saddr { %s, %s }", netns.West, netns.East)); err != nil {
		t.Fatal(err)
	}
	netns.Until(t, 15*time.Second, "ikegod notices that its peer is gone", func() bool {
		for _, one := range m.sas(t) {
			if one.SPIi == sa.SPIi {
				return false
			}
		}
		return true
	})
}

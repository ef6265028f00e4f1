package peer

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/ctl"
	"github.com/ikegod/ikegod/testing/netns"
)

const (
	conn    = "westnet-eastnet"
	secrets = "@west @east : PSK \"a secret that nobody guesses\"\n"
)

// ikegodConf is the same connection in ipsec.conf.
func ikegodConf(ike, esp string, more ...string) string {
	lines := []string{
		"config setup", "\tlisten-tcp=no", "", "conn " + conn, "\tleft=" + netns.West, "\tleftid=@west", "\tleftsubnet=" + netns.WestNet,
		"\tright=" + netns.East, "\trightid=@east", "\trightsubnet=" + netns.EastNet, "\tauthby=secret", "\tike=" + ike, "\tesp=" + esp, "\tauto=add",
	}
	for _, m := range more {
		lines = append(lines, "\t"+m)
	}
	return strings.Join(lines, "\n") + "\n"
}

// suites are algorithms in both spellings.
var suites = []struct{ name, ours, oursESP, theirs, theirsESP string }{
	{"gcm-sha512-ecp256", "aes_gcm256-sha2_512-dh19", "aes_gcm256", "aes256gcm16-prfsha512-ecp256", "aes256gcm16"},
	{"gcm-sha256-x25519", "aes_gcm128-sha2_256-dh31", "aes_gcm128", "aes128gcm16-prfsha256-x25519", "aes128gcm16"},
	{"chacha20-sha384-ecp384", "chacha20_poly1305-sha2_384-dh20", "chacha20_poly1305", "chacha20poly1305-prfsha384-ecp384", "chacha20poly1305"},
	{"cbc-sha256-modp2048", "aes_cbc128-sha2_256-dh14", "aes_cbc128-sha2_256", "aes128-sha256-modp2048", "aes128-sha256"},
	{"cbc-sha512-ecp521", "aes_cbc256-sha2_512-dh21", "aes_cbc256-sha2_512", "aes256-sha512-ecp521", "aes256-sha512"},
	{"cbc-sha384-modp3072", "aes_cbc256-sha2_384-dh15", "aes_cbc256-sha2_384", "aes256-sha384-modp3072", "aes256-sha384"},
	{"ccm256-sha1-x448", "aes_ccm256-sha1-dh32", "aes_ccm256", "aes256ccm16-prfsha1-x448", "aes256ccm16"},
	{"ccm128-sha256-modp6144", "aes_ccm128-sha2_256-dh17", "aes_ccm128", "aes128ccm16-prfsha256-modp6144", "aes128ccm16"},
	{"ccm192-sha512-modp8192", "aes192ccm16-prfsha512-modp8192", "aes192ccm16", "aes192ccm16-prfsha512-modp8192", "aes192ccm16"},
	{"cbc-sha1-modp1024", "aes128-sha1-modp1024", "aes128-sha1", "aes128-sha1-modp1024", "aes128-sha1"},
	{"cbc192-sha1-modp1536", "aes192-sha1;modp1536", "aes192;integ=sha1", "aes192-sha1-modp1536", "aes192-sha1"},
	{"lists", "aes256-aes128-sha256-sha384-modp4096-ecp256", "aes256-aes128-sha256-sha384", "aes256-aes128-sha256-sha384-modp4096-ecp256", "aes256-aes128-sha256-sha384"},
}

// pair is an ikegod on west and a strongSwan on east.
type pair struct {
	t    *testing.T
	ours *netns.Daemon
	peer *StrongSwan
	west *netns.Host
	east *netns.Host
}

func start(t *testing.T, ours, theirs string) *pair {
	t.Helper()
	need(t)
	_, west, east := netns.Gateways(t)
	peer, err := Start(east, theirs)
	if err != nil {
		t.Fatal(err)
	}
	d, err := west.Ikegod(ours, secrets)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of ikegod:\n%s\nlog of strongSwan:\n%s", d.Log(), peer.Log())
		}
	})
	return &pair{t, d, peer, west, east}
}

// carries sends a ping and transfers both ways, and looks that nothing was in clear.
func (p *pair) carries() {
	p.t.Helper()
	if err := p.east.Count(); err != nil {
		p.t.Fatal(err)
	}
	defer p.east.Uncount()
	if out, err := p.west.Output("ping", "-n", "-c", "3", "-i", "0.1", "-W", "2", "-I", netns.WestInner, netns.EastInner); err != nil {
		p.t.Errorf("ping: %v: %s", err, out)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	if _, err := netns.Transfer(ctx, p.east, netns.EastInner+":0", p.west, netns.WestInner, 2<<20); err != nil {
		p.t.Errorf("download from strongSwan: %v", err)
	}
	if _, err := netns.Transfer(ctx, p.west, netns.WestInner+":0", p.east, netns.EastInner, 2<<20); err != nil {
		p.t.Errorf("download from ikegod: %v", err)
	}
	if c, err := p.east.Counts(); err != nil || c.Clear() != 0 {
		p.t.Errorf("packets in clear: %v %v", c, err)
	}
}

func (p *pair) sas() []ctl.IKESA {
	p.t.Helper()
	var list []ctl.IKESA
	if err := p.ours.SAs(context.Background(), func(sa ctl.IKESA) bool { list = append(list, sa); return true }); err != nil {
		p.t.Fatal(err)
	}
	return list
}

// up is the one IKE SA, established with its child.
func (p *pair) up() ctl.IKESA {
	p.t.Helper()
	list := p.sas()
	if len(list) != 1 || list[0].Established.IsZero() || len(list[0].Children) != 1 {
		p.t.Fatalf("want one IKE SA with one Child SA, got %+v", list)
	}
	return list[0]
}

func TestStrongSwanAsResponder(t *testing.T) {
	for _, s := range suites {
		t.Run(s.name, func(t *testing.T) {
			p := start(t, ikegodConf(s.ours, s.oursESP), swanctlConf(false, s.theirs, s.theirsESP, ""))
			if out, status := p.ours.Ikectl("up", conn); status != 0 {
				t.Fatalf("ikectl up: %d\n%s", status, out)
			}
			if sa := p.up(); !sa.Initiator || sa.RemoteID != "@east" {
				t.Errorf("%+v", sa)
			}
			p.carries()
			if out, err := p.peer.Swanctl("--list-sas"); err != nil || !strings.Contains(out, "INSTALLED, TUNNEL-in-UDP") {
				t.Errorf("strongSwan's view: %v\n%s", err, out)
			}
			if out, status := p.ours.Ikectl("down", conn); status != 0 {
				t.Errorf("ikectl down: %d\n%s", status, out)
			}
			netns.Until(t, 3*time.Second, "strongSwan has no SA after our delete", func() bool {
				out, err := p.peer.Swanctl("--list-sas")
				return err == nil && strings.TrimSpace(out) == ""
			})
		})
	}
}

func TestStrongSwanAsInitiator(t *testing.T) {
	for _, s := range suites {
		t.Run(s.name, func(t *testing.T) {
			p := start(t, ikegodConf(s.ours, s.oursESP), swanctlConf(false, s.theirs, s.theirsESP, ""))
			if out, err := p.peer.Swanctl("--initiate", "--child", "net", "--timeout", "20"); err != nil {
				t.Fatalf("swanctl --initiate: %v\n%s", err, out)
			}
			if sa := p.up(); sa.Initiator || sa.RemoteID != "@east" {
				t.Errorf("%+v", sa)
			}
			p.carries()
			if out, err := p.peer.Swanctl("--terminate", "--ike", "tunnel", "--timeout", "10"); err != nil {
				t.Errorf("swanctl --terminate: %v\n%s", err, out)
			}
			netns.Until(t, 3*time.Second, "ikegod has no SA after strongSwan's delete", func() bool { return len(p.sas()) == 0 })
		})
	}
}

// TestStrongSwanAsksWhetherWeAreThere answers its liveness checks.
func TestStrongSwanAsksWhetherWeAreThere(t *testing.T) {
	s := suites[0]
	p := start(t, ikegodConf(s.ours, s.oursESP), swanctlConf(false, s.theirs, s.theirsESP, "dpd_delay = 1s"))
	if out, status := p.ours.Ikectl("up", conn); status != 0 {
		t.Fatalf("ikectl up: %d\n%s", status, out)
	}
	netns.Until(t, 10*time.Second, "strongSwan asks and hears from us", func() bool {
		log := p.peer.Log()
		return strings.Contains(log, "sending DPD request") && strings.Contains(log, "parsed INFORMATIONAL response 1")
	})
	p.up()
}

// TestWeAskWhetherStrongSwanIsThere checks a silent peer, and notices when it is gone.
func TestWeAskWhetherStrongSwanIsThere(t *testing.T) {
	s := suites[0]
	p := start(t, ikegodConf(s.ours, s.oursESP, "dpddelay=1s", "retransmit-timeout=3s"), swanctlConf(false, s.theirs, s.theirsESP, ""))
	if out, status := p.ours.Ikectl("up", conn); status != 0 {
		t.Fatalf("ikectl up: %d\n%s", status, out)
	}
	sa := p.up()
	netns.Until(t, 10*time.Second, "we ask and strongSwan answers, twice", func() bool {
		return strings.Contains(p.peer.Log(), "generating INFORMATIONAL response 3")
	})
	if still := p.up(); still.SPIi != sa.SPIi {
		t.Errorf("the IKE SA changed from %s to %s", sa.SPIi, still.SPIi)
	}
	if _, err := p.east.Block("everything", fmt.Sprintf("ip saddr { %s, %s }", netns.West, netns.East)); err != nil {
		t.Fatal(err)
	}
	netns.Until(t, 15*time.Second, "ikegod notices that its peer is gone", func() bool {
		for _, one := range p.sas() {
			if one.SPIi == sa.SPIi {
				return false
			}
		}
		return true
	})
}

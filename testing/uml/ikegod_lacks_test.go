package uml_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/uml"
)

// startAs starts a gateway with another connection and backend.
func (g *kernelGateway) startAs(t *testing.T, conf, backend string) {
	t.Helper()
	d, err := g.host.Ikegod(conf, psk, "--log-level=debug", "--backend="+backend)
	if err != nil {
		t.Fatal(err)
	}
	g.Daemon = d
}

// TestIkegodLacks: what the kernel of one end does not have is neither offered nor chosen. With nothing else in common both operators are told, and nothing is left.
func TestIkegodLacks(t *testing.T) {
	const both, only = "esp=chacha20_poly1305,aes_gcm256", "esp=chacha20_poly1305"
	meet := func(t *testing.T, west, east string) *pairOfOurs {
		o := ours{place: direct, conn: useUDP, carrier: "ESPinUDP"}
		w, e := o.ends(t)
		p := &pairOfOurs{ours: o, west: &kernelGateway{end: w}, east: &kernelGateway{end: e}}
		t.Cleanup(func() {
			for _, g := range p.both() {
				if t.Failed() && g.Daemon != nil {
					t.Logf("log of %s:\n%s", g.name, g.Log())
				}
			}
		})
		o.conn = append([]string{east}, useUDP...)
		p.east.startAs(t, o.confOf(e, w, "add"), "xfrm")
		o.conn = append([]string{west}, useUDP...)
		p.west.startAs(t, o.confOf(w, e, "add"), "userspace")
		netns.Until(t, patience, "east says what its kernel lacks", func() bool {
			return saidAll(p.east.Log(), "what is lacking is neither offered nor accepted: the kernel cannot do ChaCha20-Poly1305")
		})
		return p
	}
	lacking := "can be had on this host: CHACHA20_POLY1305: the kernel cannot do ChaCha20-Poly1305"
	t.Run("none-in-common", func(t *testing.T) {
		if uml.Outside(t, uml.NoChaCha, uml.Programs) {
			return
		}
		p := meet(t, only, only)
		for _, g := range p.both() {
			if out, status := g.Ikectl("up", "meeting"); status == 0 {
				t.Errorf("up: %s", out)
			} else if g == p.west {
				said(t, "ikectl up at west", out, "NO_PROPOSAL_CHOSEN", "or its kernel lacks an algorithm")
			} else {
				said(t, "ikectl up at east", out, "nothing that \"meeting\" allows", lacking)
			}
		}
		said(t, "the log of east", p.east.Log(), lacking, "sent NO_PROPOSAL_CHOSEN")
		if n := kernelStates(t, p.east.host); n != 0 {
			t.Errorf("%d states", n)
		}
		p.leavesNothing(t)
	})
	t.Run("another", func(t *testing.T) {
		if uml.Outside(t, uml.NoChaCha, uml.Programs) {
			return
		}
		p := meet(t, both, both)
		for _, g := range p.both() {
			if out, status := g.Ikectl("up", "meeting"); status != 0 {
				t.Fatalf("up: %d %s", status, out)
			}
			netns.Until(t, patience, "a Child SA", func() bool { return len(ikeSAs(t, p.east.Daemon)) == 1 && kernelStates(t, p.east.host) == 2 })
			if a := onlyChild(t, p.east.Daemon).Algorithms; !strings.Contains(a, "AES_GCM_16_256") {
				t.Errorf("chosen: %s", a)
			}
			p.pings(t, p.east, p.east.in, p.west.in)
			if out, status := g.Ikectl("down", "meeting"); status != 0 { // who has brought it up keeps it up
				t.Errorf("down: %d %s", status, out)
			}
			netns.Until(t, patience, "no Child SA", func() bool {
				return len(ikeSAs(t, p.west.Daemon)) == 0 && len(ikeSAs(t, p.east.Daemon)) == 0 && kernelStates(t, p.east.host) == 0
			})
		}
		p.leavesNothing(t)
	})
}

// TestIkegodWithoutRights: a start without CAP_NET_ADMIN ends at once, with what is missing and what to do.
func TestIkegodWithoutRights(t *testing.T) {
	if uml.Outside(t, uml.Full, uml.Programs) {
		return
	}
	w, e := direct(t)
	conf, secrets := filepath.Join(t.TempDir(), "ipsec.conf"), filepath.Join(t.TempDir(), "ipsec.secrets")
	write := func(name, text string) {
		if err := w.host.RunInput(text, "sh", "-c", "umask 077; cat >"+name); err != nil {
			t.Fatal(err)
		}
	}
	o := ours{}
	write(conf, o.confOf(w, e, "add"))
	write(secrets, psk)
	bin, err := netns.Bin()
	if err != nil {
		t.Fatal(err)
	}
	for _, backend := range []string{"auto", "xfrm", "userspace"} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := w.host.Command(ctx, "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", filepath.Join(bin, "ikegod"), "start", "--config", conf, "--secrets", secrets,
			"--settings", "", "--rundir", filepath.Join(t.TempDir(), "run"), "--metrics-listen", "", "--backend="+backend)
		out, err := cmd.CombinedOutput()
		if err == nil || ctx.Err() != nil {
			t.Errorf("backend=%s: %v, %v", backend, err, ctx.Err())
		}
		said(t, "ikegod with backend="+backend, string(out), "ikegod has no CAP_NET_ADMIN", "run it as root", "AmbientCapabilities=")
	}
}

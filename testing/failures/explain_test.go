package failures

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/ikegod/ikegod/conf"
	"github.com/ikegod/ikegod/ike/engine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/testing/simnet"
)

// gatewayConf is a gateway with four connections to one address, of which three share an IKE SA (two for the same traffic with another esp=), three templates, one for somewhere else, and one that is not for this host.
const gatewayConf = `conn %default
	left=192.1.2.23
	leftid=@east
	leftsubnet=192.0.2.0/24
	authby=secret
	auto=add
conn west
	right=192.1.2.45
	rightid=@west
	rightsubnet=192.0.1.0/24
	ike=aes_gcm256-sha2_256-dh31
conn north
	right=192.1.2.45
	rightid=@north
	rightsubnet=192.0.3.0/24
conn road
	right=%any
	rightid=@road
	ike=aes_gcm256-sha2_512-dh19
conn anybody
	right=%any
	rightid=%any
conn away
	right=192.1.2.99
	rightsubnet=10.0.0.0/8
conn foreign
	left=198.51.100.1
	right=198.51.100.2
	leftsubnet=198.51.100.1/32
conn west-too
	right=192.1.2.45
	rightid=@west
	rightsubnet=192.0.4.0/24
	ike=aes_gcm256-sha2_256-dh31
conn west-old
	right=192.1.2.45
	rightid=@west
	rightsubnet=192.0.1.0/24
	ike=aes_gcm256-sha2_256-dh31
	esp=aes192-sha2_256
conn open
	leftsubnet=192.0.9.0/24
	right=%any
`

const gatewaySecrets = "@east %any : PSK \"for whoever comes\"\n@east @west : PSK \"for west alone\"\n"

// TestExplain asks who gets what at a gateway.
func TestExplain(t *testing.T) {
	for _, c := range []struct {
		name, conn, peer, id string
		chosen               string
		why                  map[string][]string // of candidates
		secret               []string
	}{
		{
			name: "as-it-says", conn: "west", chosen: "west", secret: []string{"east.secrets:2", "names both", "east.secrets:1 (names us and %any)"},
			why: map[string][]string{
				"north":   {"its peer must be @north", "rightid= of east.conf:14"},
				"road":    {"its peer must be @road", "rightid= of east.conf:18"},
				"anybody": {`protects other traffic than "west"`}, "west-too": {`protects other traffic than "west"`, "on the same IKE SA"},
				"west-old": {"esp= of east.conf:40", "AES_GCM_16_256", "on the same IKE SA"},
				"away":     {"right=192.1.2.99 (east.conf:24)"},
				"foreign":  {"neither left=198.51.100.1 (east.conf:27) nor right=198.51.100.2 (east.conf:28)"},
			},
		},
		{name: "on-the-same-ike-sa", conn: "west-too", chosen: "west-too", secret: []string{"east.secrets:2"}, why: map[string][]string{
			"west": {`protects other traffic than "west-too"`, "on the same IKE SA"}, "north": {"its peer must be @north"}, "anybody": {`other traffic than "west-too"`},
		}},
		{name: "the-same-traffic-with-another-esp", conn: "west-old", chosen: "west-old", secret: []string{"east.secrets:2"}, why: map[string][]string{
			"west": {"default esp=", "AES_CBC_192", `"west-old"`, "on the same IKE SA"}, "west-too": {`other traffic than "west-old"`},
		}},
		{name: "another-id-at-its-address", conn: "west", peer: "192.1.2.45", id: "@north", chosen: "north", secret: []string{"east.secrets:1"}, why: map[string][]string{
			"west": {"its peer must be @west (rightid= of east.conf:9)"},
		}},
		{name: "a-stranger", conn: "west", peer: "192.0.2.7", id: "@x", chosen: "anybody", secret: []string{"east.secrets:1"}, why: map[string][]string{
			"west": {"right=192.1.2.45 (east.conf:8)"}, "road": {"its peer must be @road"},
		}},
		{name: "a-template", conn: "road", peer: "192.0.2.7", id: "@road", chosen: "road", secret: []string{"east.secrets:1"}},
		{name: "what-road-offers-to-nobody-else", conn: "road", peer: "192.0.2.7", id: "@other", chosen: "anybody", secret: []string{"east.secrets:1"}},
		{name: "a-template-without-an-id", conn: "open", peer: "192.0.2.7", id: "@whoever", chosen: "open", secret: []string{"east.secrets:1"}, why: map[string][]string{
			"anybody": {`protects other traffic than "open"`}, "road": {"its peer must be @road"},
		}},
		{name: "a-template-without-a-peer", conn: "road", secret: []string{"east.secrets:1"}},
		{name: "over-the-other-ip-version", conn: "road", peer: "fd09::1", secret: []string{"east.secrets:1"}, why: map[string][]string{
			"road": {"is for peers over IPv4", "left=192.1.2.23 (east.conf:2)"}, "open": {"is for peers over IPv4"}, "west": {"is for peers over IPv4"}, "foreign": {"neither left="},
		}},
		{name: "not-for-this-host", conn: "foreign"},
	} {
		t.Run(c.name, func(t *testing.T) {
			explained(t, func(t *testing.T, e *engine.Engine) {
				x, err := explain(e, c.conn, c.peer, c.id)
				if err != nil {
					t.Fatal(err)
				}
				if x.Chosen != c.chosen {
					t.Errorf("chosen is %q, want %q; %+v", x.Chosen, c.chosen, x.Candidates)
				}
				found := map[string]string{}
				for _, cand := range x.Candidates {
					found[cand.Name] = cand.Why
					if (cand.Why == "") != (cand.Name == c.chosen) || !strings.HasPrefix(cand.Position, "east.conf:") {
						t.Errorf("%+v", cand)
					}
				}
				for name, phrases := range c.why {
					if !holds(found[name], phrases) {
						t.Errorf("why not %s: %q, want %q", name, found[name], phrases)
					}
				}
				if said := x.Secret.Position + " " + x.Secret.Why + " " + strings.Join(x.Secret.Others, ", "); !holds(said, c.secret) || strings.Contains(said, "for ") {
					t.Errorf("secret: %s", said)
				}
				if (x.Why != "") != (c.conn == "foreign") {
					t.Errorf("why not usable: %q", x.Why)
				}
			})
		})
	}
	explained(t, func(t *testing.T, e *engine.Engine) {
		if _, err := e.Explain("raod", netip.Addr{}, ident.ID{}); err == nil || !strings.Contains(err.Error(), "did you mean road?") {
			t.Errorf("a mistyped name: %v", err)
		}
		x, _ := e.Explain("open", netip.Addr{}, ident.ID{})
		if i := slices.IndexFunc(x.Settings, func(s policy.Setting) bool { return s.Keyword == "rightid" }); i < 0 || x.Settings[i] != (policy.Setting{Keyword: "rightid", Value: "%any"}) {
			t.Errorf("a template without rightid= takes any: %v", x.Settings)
		}
		x, _ = e.Explain("west", netip.Addr{}, ident.ID{})
		at := map[string]string{}
		for _, s := range x.Settings {
			at[s.Keyword+"="+s.Value] = s.Position
		}
		for setting, position := range map[string]string{
			"left=192.1.2.23": "east.conf:2", "rightid=@west": "east.conf:9", "ike=AES_GCM_16_256-HMAC_SHA2_256-CURVE25519": "east.conf:11", "narrowing=no": "", "authby=secret": "east.conf:5",
		} {
			if got, ok := at[setting]; !ok || got != position {
				t.Errorf("%s: at %q (%t), want %q; %v", setting, got, ok, position, at)
			}
		}
	})
}

// explain asks about a peer with this address and identity; empty: not given.
func explain(e *engine.Engine, conn, peer, id string) (engine.Explanation, error) {
	var addr netip.Addr
	var who ident.ID
	if peer != "" {
		addr = netip.MustParseAddr(peer)
	}
	if id != "" {
		who, _ = ident.Parse(id)
	}
	return e.Explain(conn, addr, who)
}

// TestExplainWithoutSecret: a connection whose peer cannot be authenticated is not what the peer gets in the end.
func TestExplainWithoutSecret(t *testing.T) {
	for _, c := range []struct{ name, conn, peer, id, chosen, fails string }{
		{"a-secret", "west", "", "", "west", ""},
		{"none", "north", "", "", "north", "authentication will fail: no PSK record of ipsec.secrets is for @east and @north"},
		{"none-for-another", "west", "192.1.2.45", "@north", "north", "authentication will fail: no PSK record of ipsec.secrets is for @east and @north"},
		{"an-unknown-peer", "anybody", "192.0.2.7", "", "anybody", "authentication will fail unless a PSK record of ipsec.secrets is for @east and the peer's identity, which is not given"},
		{"nobody-is-asked-about", "anybody", "", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			explainedWith(t, "@east @west : PSK \"for west alone\"\n", func(t *testing.T, e *engine.Engine) {
				x, err := explain(e, c.conn, c.peer, c.id)
				if err != nil || x.Chosen != c.chosen || x.Fails != c.fails {
					t.Errorf("%q, fails %q, %v", x.Chosen, x.Fails, err)
				}
			})
		})
	}
}

// TestExplainIsWhatHappens: west asks for what the second of two connections protects that share an IKE SA, and east gives it the one that explain says.
func TestExplainIsWhatHappens(t *testing.T) {
	t.Chdir(t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		w, err := simnet.NewWorld(1, simnet.Faults{})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		both := base + edit(strings.Replace(base, "west-east", "second", 1), "leftsubnet=192.0.11.0/24")
		f := files{"west.conf": both, "east.conf": both, "west.secrets": secret, "east.secrets": secret}
		if lines := append(gateway(t, w.East, f), gateway(t, w.West, f)...); len(lines) > 0 {
			t.Fatal(lines)
		}
		if err := w.West.Engine.Up(t.Context(), "second", nil); err != nil {
			t.Fatal(err)
		}
		x, err := w.East.Engine.Explain("second", netip.Addr{}, ident.ID{})
		if err != nil || x.Chosen != "second" {
			t.Errorf("explain says %q: %+v, %v", x.Chosen, x.Candidates, err)
		}
		for _, c := range w.East.Engine.Connections() {
			if up := c.State == "up"; up != (c.Name == x.Chosen) {
				t.Errorf("%q is %s", c.Name, c.State)
			}
		}
	})
}

// TestSettingsHavePositions: what explain shows under a keyword is what the file says under it, with its line.
func TestSettingsHavePositions(t *testing.T) {
	t.Chdir(t.TempDir())
	for setting, printed := range map[string]string{
		"left=192.1.2.46": "", "leftid=@w": "", "leftsubnet=10.0.0.0/8": "", "right=192.1.2.24": "", "rightid=@e": "", "rightsubnet=10.1.0.0/16": "", "authby=secret": "", "auto=ondemand": "",
		"ike=aes_gcm128-sha2_384-dh20": "ike=AES_GCM_16_128-HMAC_SHA2_384-DH20", "esp=aes_gcm128": "esp=AES_GCM_16_128;SN=ESN+NO_ESN", "pfs=no": "", "narrowing=yes": "", "enable-tcp=fallback": "",
		"tcp-remoteport=4501": "", "retransmit-timeout=7s": "", "dpddelay=11s": "", "ikelifetime=2h": "ikelifetime=2h0m0s", "ipsec-lifetime=1h": "ipsec-lifetime=1h0m0s",
		"leftprotoport=tcp/443": "leftprotoport=TCP/443", "negotiationshunt=hold": "", "failureshunt=drop": "",
	} {
		if err := os.WriteFile("west.conf", []byte(edit(base, setting)), 0o600); err != nil {
			t.Fatal(err)
		}
		file, _ := conf.Load("west.conf", conf.Options{})
		set, found := file.Compile()
		if len(set.Connections) != 1 {
			t.Fatalf("%s: %v", setting, found)
		}
		if printed == "" {
			printed = setting
		}
		line := 1 + strings.Count(edit(base, setting)[:strings.Index(edit(base, setting), "\t"+setting)], "\n")
		ok := false
		for _, s := range set.Connections[0].Settings() {
			ok = ok || s.Keyword+"="+s.Value == printed && s.Position == fmt.Sprint("west.conf:", line)
		}
		if !ok {
			t.Errorf("%s of line %d is not among %v", printed, line, set.Connections[0].Settings())
		}
	}
}

// TestExplainAfterReload: a line that was put in above moves the positions, although no connection has changed.
func TestExplainAfterReload(t *testing.T) {
	explained(t, func(t *testing.T, e *engine.Engine) {
		if err := os.WriteFile("east.conf", []byte("# a line\n"+gatewayConf), 0o600); err != nil {
			t.Fatal(err)
		}
		file, _ := conf.Load("east.conf", conf.Options{})
		set, found := file.Compile()
		if err := e.Apply(t.Context(), set); err != nil || len(found.AtLeast(conf.Warning)) > 0 {
			t.Fatal(err, found)
		}
		x, err := e.Explain("west", netip.Addr{}, ident.ID{})
		if err != nil || x.Conn.Position != "east.conf:8" || x.Settings[0].Position != "east.conf:3" {
			t.Errorf("%v, %+v, %v", x.Conn.Position, x.Settings[0], err)
		}
		for _, c := range e.Connections() {
			if want := map[string]string{"west": "east.conf:8"}[c.Name]; want != "" && c.Conn.Position != want {
				t.Errorf("%q is at %s, want %s", c.Name, c.Conn.Position, want)
			}
		}
	})
}

func explained(t *testing.T, look func(*testing.T, *engine.Engine)) {
	t.Helper()
	explainedWith(t, gatewaySecrets, look)
}

func explainedWith(t *testing.T, secrets string, look func(*testing.T, *engine.Engine)) {
	t.Helper()
	t.Chdir(t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		w, err := simnet.NewWorld(1, simnet.Faults{})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if lines := gateway(t, w.East, files{"east.conf": gatewayConf, "east.secrets": secrets}); len(lines) > 0 {
			t.Fatal(lines)
		}
		look(t, w.East.Engine)
	})
}

package failures

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/conf"
)

// mistake is one in a configuration file. The rule for these: one line holds the place to the column, the words that stand there, and the cure, which is what to
// write or what is allowed.
type mistake struct {
	name    string
	text    string // of west.conf
	secrets string // of west.secrets; empty: secret
	mode    os.FileMode
	at      string // "west.conf:13:2"
	value   string
	cure    string
	ignored bool // a warning: the connection loads
}

var mistakes = []mistake{
	{name: "unknown-keyword", text: edit(base, "lefsubnet=10.0.0.0/8"), at: "west.conf:13:2", value: `unknown keyword "lefsubnet"`, cure: "did you mean leftsubnet?"},
	{name: "keyword-without-side", text: edit(base, "subnet=10.0.0.0/8"), at: "west.conf:13:2", value: `"subnet"`, cure: "write leftsubnet or rightsubnet"},
	{name: "keyword-of-the-other-section", text: edit(base, "uniqueids=no"), at: "west.conf:13:2", value: `"uniqueids"`, cure: "it belongs into config setup"},
	{name: "keyword-in-the-first-column", text: base + "auto=start\n", at: "west.conf:13:1", value: `"auto"`, cure: "put a blank before it"},
	{name: "not-one-of-the-values", text: edit(base, "enable-tcp=maybe"), at: "west.conf:11:13", value: `enable-tcp: "maybe"`, cure: "not one of no, yes, fallback"},
	{name: "mistyped-value", text: edit(base, "auto=strat"), at: "west.conf:12:7", value: `auto: "strat"`, cure: "did you mean start?"},
	{name: "no-time", text: edit(base, "retransmit-timeout=30x"), at: "west.conf:13:21", value: `retransmit-timeout: "30x"`, cure: "a time such as 30s, 500ms"},
	{name: "two-words", text: edit(base, "ike=aes256 sha2"), at: "west.conf:9:13", value: `"sha2"`, cure: `write ike="aes256 sha2"`},
	{name: "port-of-listen-tcp", text: "config setup\n\tlisten-tcp=maybe\n" + base, at: "west.conf:2:13", value: `listen-tcp: "maybe"`, cure: "neither yes, no nor a port from 1 to 65535"},
	{name: "port-500-for-tcp", text: edit(base, "tcp-remoteport=500"), at: "west.conf:13:17", value: "tcp-remoteport=500", cure: "write 4500"},
	{name: "duplicate", text: base + "\tauto=start\n", at: "west.conf:13:2", value: "auto=start", cure: "auto=add in west.conf:12 comes first", ignored: true},
	{name: "conn-twice", text: base + base, at: "west.conf:13:6", value: "conn west-east", cure: "west.conf:1 has one of the same name; rename one of them", ignored: true},
	{name: "also-of-nothing", text: "conn common\n\tike=aes256\n" + edit(base, "also=comon"), at: "west.conf:15:7", value: `no conn "comon"`, cure: "did you mean common?"},
	{name: "also-says-otherwise", text: "conn common\n\tike=aes256\n" + edit(base, "also=common"), at: "west.conf:2:2", value: "ike=aes256 differs from ike=aes_gcm256-sha2_256-dh31", cure: "in west.conf:11 (conn west-east); remove one of them"},
	{name: "authentication-not-there-yet", text: edit(base, "authby=rsasig"), at: "west.conf:8:9", value: "authby=rsasig", cure: "write authby=secret, here and at the peer"},
	{name: "authentication-mistyped", text: edit(base, "authby=secert"), at: "west.conf:8:9", value: `authby: "secert"`, cure: "did you mean secret?"},
	{name: "ikev1", text: edit(base, "keyexchange=ikev1"), at: "west.conf:13:14", value: "keyexchange=ikev1", cure: "write keyexchange=ikev2, here and at the peer"},
	{name: "subnets-of-two-families", text: edit(base, "leftsubnet=2001:db8::/32"), at: "west.conf:7:14", value: "the left side is IPv6 and the right side is IPv4", cure: "no traffic can match"},
	{name: "hosts-of-two-families", text: edit(base, "left=2001:db8::1"), at: "west.conf:5:8", value: "left=2001:db8::1 is IPv6", cure: "right=192.1.2.23 is IPv4"},
	{name: "host-missing", text: edit(base, "-right"), at: "west.conf:1:6", value: "conn west-east", cure: "right= is missing"},
	{name: "mask", text: edit(base, "leftsubnet=192.0.1.0/33"), at: "west.conf:4:13", value: `leftsubnet: "33"`, cure: "a number of bits to 32"},
	{name: "protocol", text: edit(base, "leftprotoport=tpc/80"), at: "west.conf:13:16", value: `leftprotoport: "tpc"`, cure: "a name such as tcp, or a number to 255"},
	{name: "algorithm-mistyped", text: edit(base, "ike=aes256-sha2_265"), at: "west.conf:9:13", value: `ike: "sha2_265"`, cure: `did you mean "sha2_256"?`},
	{name: "algorithm-not-there", text: edit(base, "ike=3des-md5;modp1024"), at: "west.conf:9:6", value: `ike: "3des"`, cure: "implemented: AES_GCM_16, CHACHA20_POLY1305, AES_CBC"},
	{name: "integrity-beside-aead", text: edit(base, "esp=aes_gcm256-sha2_256"), at: "west.conf:10:17", value: `esp: "sha2_256"`, cure: "aes_gcm256 authenticates by itself; leave it out"},
	{name: "id-without-at", text: edit(base, "leftid=west"), at: "west.conf:3:9", value: `leftid: "west"`, cure: "a name is written with @ in front of it"},
	{name: "id-of-a-certificate", text: edit(base, "leftid=%fromcert"), at: "west.conf:3:9", value: "leftid: %fromcert", cure: "needs certificates, which are not supported yet"},
	{name: "dn-mistyped", text: edit(base, `leftid="C=CH, CM=west"`), at: "west.conf:3:10", value: `"CM" is no attribute`, cure: "the usual ones are C, ST, L, O, OU, CN"},
	{name: "include-of-nothing", text: "include nothere.conf\n" + base, at: "west.conf:1:9", value: `"nothere.conf"`, cure: "there is no file", ignored: true},
	{name: "secrets-for-all-to-read", text: base, mode: 0o644, at: "west.secrets", value: "mode 0644", cure: "type: chmod 600 west.secrets"},
	{name: "secret-without-quotes", text: base, secrets: "@west @east : PSK secretword\n", at: "west.secrets:1:19", value: "the secret is neither in quotes", cure: "write it in quotes"},
	{name: "secret-for-no-identity", text: base, secrets: "west east : PSK \"secretword\"\n", at: "west.secrets:1:1", value: "this is not an identity", cure: "write an address, @name, user@domain, %any"},
	{name: "secret-without-colon", text: base, secrets: "@west @east \"secretword\"\n", at: "west.secrets:1:1", value: "a record without a colon", cure: "write identities, a colon, PSK and the secret in quotes"},
}

var place = regexp.MustCompile(`^west\.(conf:\d+:\d+|secrets(:\d+:\d+)?)$`)

func TestConfiguration(t *testing.T) {
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			if !place.MatchString(m.at) || m.value == "" || m.cure == "" {
				t.Fatal("the table must name a place, the words that stand there, and the cure")
			}
			t.Chdir(t.TempDir())
			if m.secrets == "" {
				m.secrets = secret
			}
			if m.mode == 0 {
				m.mode = 0o600
			}
			for name, f := range map[string]struct {
				text string
				mode os.FileMode
			}{"west.conf": {m.text, 0o600}, "west.secrets": {m.secrets, m.mode}} {
				if err := os.WriteFile(name, []byte(f.text), f.mode); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(name, f.mode); err != nil {
					t.Fatal(err)
				}
			}
			file, _ := conf.Load("west.conf", conf.Options{})
			set, found := file.Compile()
			_, more := conf.LoadSecrets("west.secrets")
			lines := []string{}
			for _, d := range append(found, more...).AtLeast(conf.Warning) {
				lines = append(lines, d.String())
				if strings.Contains(d.Long(), "secretword") {
					t.Errorf("the message shows the secret: %s", d.Long())
				}
			}
			if !holdsAny(lines, m.at+": ", m.value, m.cure) {
				t.Errorf("no line has all of %q, %q, %q; they are:\n\t%s", m.at, m.value, m.cure, strings.Join(lines, "\n\t"))
			}
			if loaded := set != nil && len(set.Connections) == 1; loaded != (m.ignored || strings.HasPrefix(m.at, "west.secrets")) {
				t.Errorf("loaded: %t, although the table says that it is ignored: %t", loaded, m.ignored)
			}
		})
	}
}

func holdsAny(lines []string, phrases ...string) bool {
	for _, l := range lines {
		if holds(l, phrases) {
			return true
		}
	}
	return false
}

// TestForty: there are at least forty, of both kinds, and no two have one name.
func TestForty(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range negotiations() {
		seen[r.name] = true
	}
	n := len(seen)
	for _, m := range mistakes {
		seen[m.name] = true
	}
	if n < 25 || len(mistakes) < 15 || len(seen) != len(negotiations())+len(mistakes) {
		t.Errorf("%d failures of negotiation and %d of configuration; %d names", len(negotiations()), len(mistakes), len(seen))
	}
}

package failures

import (
	"context"
	"slices"
	"strings"
	"testing"
)

// row is one failure between two gateways that otherwise have the same files.
type row struct {
	name        string
	west, east  []string // changes of the connection, see edit
	westSecrets string   // empty: secret
	eastSecrets string
	second      [2][]string      // not nil: another connection between the two, "second", with these changes on west and on east
	act         func(*situation) // nil: up
	onWest      side
	onEast      side
}

// silent is the reason of a side that hears of nothing.
const silent = "it never hears of it"

var identity = []row{
	{
		name: "wrong-psk", eastSecrets: "@east @west : PSK \"another one, on this side\"\n",
		onWest: tells("secret", "west.secrets:1", "AUTHENTICATION_FAILED", "we are @west (leftid= of west.conf:3)", "the pre-shared keys differ"),
		onEast: tells("secret", "east.secrets:1", "pre-shared keys of @east (us", "@west (the peer) differ", "write the same secret on both sides"),
	},
	{
		name: "wrong-psk-of-several", eastSecrets: "@east %any : PSK \"for all the others\"\n@east @west : PSK \"another one, on this side\"\n",
		onWest: tells("secret", "west.secrets:1", "AUTHENTICATION_FAILED"),
		onEast: tells("secret", "east.secrets:2", "pre-shared keys", "was chosen because it names both, before east.secrets:1 (names us and %any)"),
	},
	{
		name: "no-psk-at-the-initiator", westSecrets: "@west @north : PSK \"for somebody else\"\n",
		onWest: tells("pre-shared key", "west.secrets:1", "names @west but not @east", `add the line: @west @east : PSK "..."`),
		onEast: cannot("the initiator gives up before it says who it is", "the peer gave up, and its log says why"),
	},
	{
		name: "no-psk-at-the-responder", eastSecrets: "@east @north : PSK \"for somebody else\"\n",
		onWest: tells("secret", "west.secrets:1", "AUTHENTICATION_FAILED"),
		onEast: tells("pre-shared key", "east.secrets:1", "names @east but not @west", `add the line: @east @west : PSK "..."`),
	},
	{
		name: "initiator-id", west: []string{"leftid=@wset"}, westSecrets: ": PSK \"the same on both sides\"\n",
		onWest: tells("leftid=", "west.conf:3", "@wset", "AUTHENTICATION_FAILED"),
		onEast: tells("leftid=", "east.conf:3", "@wset", "its peer must be @west"),
	},
	{
		name: "responder-id-asked-for", west: []string{"rightid=@esat"}, westSecrets: ": PSK \"the same on both sides\"\n",
		onWest: tells("rightid=", "west.conf:6", "@esat", "AUTHENTICATION_FAILED"),
		onEast: tells("rightid=", "east.conf:6", "@esat", "we are @east there"),
	},
	{
		name: "responder-id-not-asked-for", west: []string{"-rightid"}, westSecrets: ": PSK \"the same on both sides\"\n",
		onWest: tells("rightid=", "west.conf", "FQDN '@east'", "asks for 192.1.2.23"),
		onEast: tells("rightid=", "east.conf:6", "@east", "did not accept us", "AUTHENTICATION_FAILED"),
	},
	{
		name: "dn-pattern", west: []string{"leftid=\"C=CH, CN=west\""}, east: []string{"leftid=\"C=CA, CN=*\""}, westSecrets: ": PSK \"the same on both sides\"\n",
		onWest: tells("leftid=", "west.conf:3", "C=CH, CN=west", "AUTHENTICATION_FAILED"),
		onEast: tells("leftid=", "east.conf:3", "C=CH, CN=west", "its peer must be C=CA, CN=*"),
	},
	{
		name: "template-for-another-id", east: []string{"left=%any", "leftid=@road"},
		onWest: tells("leftid=", "west.conf:3", "@west", "AUTHENTICATION_FAILED"),
		onEast: tells("leftid=", "east.conf:3", "@west", "its peer must be @road"),
	},
}

// ike is a row about ike=, esp about esp=: what west offers, what east allows, and the first difference as east names it.
func ike(name, offered, allowed, first, printed string) row {
	return row{
		name: name, west: []string{"ike=" + offered}, east: []string{"ike=" + allowed},
		onWest: tells("ike=", "west.conf:9", printed, "NO_PROPOSAL_CHOSEN", "its log says which"),
		onEast: tells("ike=", "east.conf:9", first, "in all, offered "+printed, "; allowed "),
	}
}

func esp(name, offered, allowed, first, printed string) row {
	return row{
		name: name, west: []string{"esp=" + offered}, east: []string{"esp=" + allowed},
		onWest: tells("esp=", "west.conf:10", printed, "NO_PROPOSAL_CHOSEN", "its log names the first difference"),
		onEast: tells("esp=", "east.conf:10", first, "in all, offered "+printed, "; allowed "),
	}
}

var proposals = []row{
	ike("ike-encryption", "aes256-sha2_256-dh31", "aes_gcm256-sha2_256-dh31", "encryption: offered AES_CBC_256, allowed AES_GCM_16_256", "AES_CBC_256-HMAC_SHA2_256-HMAC_SHA2_256_128-CURVE25519"),
	ike("ike-key-length", "aes_gcm128-sha2_256-dh31", "aes_gcm256-sha2_256-dh31", "encryption: offered AES_GCM_16_128, allowed AES_GCM_16_256", "AES_GCM_16_128-HMAC_SHA2_256-CURVE25519"),
	ike("ike-prf", "aes_gcm256-sha2_512-dh31", "aes_gcm256-sha2_256-dh31", "PRF: offered HMAC_SHA2_512, allowed HMAC_SHA2_256", "AES_GCM_16_256-HMAC_SHA2_512-CURVE25519"),
	ike("ike-integrity", "aes256-sha2_256-dh31", "aes256-sha2_512-dh31", "integrity: offered HMAC_SHA2_256_128, allowed HMAC_SHA2_512_256", "AES_CBC_256-HMAC_SHA2_256-HMAC_SHA2_256_128-CURVE25519"),
	ike("ike-group", "aes_gcm256-sha2_256-dh19", "aes_gcm256-sha2_256-dh31", "key exchange: offered DH19, allowed CURVE25519", "AES_GCM_16_256-HMAC_SHA2_256-DH19"),
	ike("ike-several", "aes_gcm256-sha2_256-dh19+dh20", "aes_gcm256-sha2_256-dh31,aes256-sha2_256-dh14", "key exchange: offered DH19 or DH20, allowed CURVE25519", "AES_GCM_16_256-HMAC_SHA2_256-DH19+DH20"),
	esp("esp-encryption", "aes256-sha2_256", "aes_gcm256", "encryption: offered AES_CBC_256, allowed AES_GCM_16_256", "AES_CBC_256-HMAC_SHA2_256_128"),
	esp("esp-key-length", "aes_gcm128", "aes_gcm256", "encryption: offered AES_GCM_16_128, allowed AES_GCM_16_256", "AES_GCM_16_128"),
	esp("esp-integrity", "aes256-sha2_256", "aes256-sha2_512", "integrity: offered HMAC_SHA2_256_128, allowed HMAC_SHA2_512_256", "AES_CBC_256-HMAC_SHA2_256_128"),
	{
		name: "esn", west: []string{"esn=no"}, east: []string{"esn=yes"},
		onWest: tells("esn=", "west.conf:10", "SN=NO_ESN", "NO_PROPOSAL_CHOSEN"),
		onEast: tells("esn=", "east.conf:13", "sequence numbers (esn=): offered NO_ESN, allowed ESN"),
	},
}

// selectors is a row about what is protected.
func selectors(name string, west, east []string, onWest, onEast says) row {
	onWest.also = append(onWest.also, "TS_UNACCEPTABLE")
	onEast.also = append(onEast.also, "TS_UNACCEPTABLE")
	return row{name: name, west: west, east: east, onWest: side{says: &onWest}, onEast: side{says: &onEast}}
}

var traffic = []row{
	selectors("subnet-wider", []string{"rightsubnet=192.0.0.0/16"}, nil,
		says{"rightsubnet=", "west.conf:7", "192.0.0.0/16", nil},
		says{"rightsubnet=", "east.conf:7", "192.0.0.0/16 is wider than the allowed 192.0.2.0/24", []string{"narrowing=yes here would allow the common part"}}),
	selectors("subnet-other", []string{"leftsubnet=10.9.9.0/24"}, nil,
		says{"leftsubnet=", "west.conf:4", "10.9.9.0/24", nil},
		says{"leftsubnet=", "east.conf:4", "10.9.9.0/24 has no address in common with the allowed 192.0.1.0/24", []string{"on the peer's side"}}),
	{
		name: "subnet-other-beside-a-transport-connection", west: []string{"leftsubnet=10.9.9.0/24"},
		second: [2][]string{{"-leftsubnet", "-rightsubnet", "type=transport"}, {"-leftsubnet", "-rightsubnet", "type=transport"}},
		onWest: tells("leftsubnet=", "west.conf:4", "10.9.9.0/24", "TS_UNACCEPTABLE"),
		onEast: tells("leftsubnet=", "east.conf:4", "10.9.9.0/24 has no address in common with the allowed 192.0.1.0/24",
			`"second" is type=transport (type= of east.conf:23), and the peer asks for tunnel mode`),
	},
	selectors("subnet-missing", []string{"-rightsubnet"}, nil,
		says{"rightsubnet=", "west.conf:1", "192.1.2.23/32", []string{"no rightsubnet= in the connection"}},
		says{"rightsubnet=", "east.conf:7", "192.1.2.23/32 has no address in common with the allowed 192.0.2.0/24", nil}),
	selectors("sides-exchanged", []string{"leftsubnet=192.0.2.0/24", "rightsubnet=192.0.1.0/24"}, nil,
		says{"leftsubnet=", "west.conf:4", "192.0.2.0/24", nil},
		says{"rightsubnet=", "east.conf:7", "192.0.2.0/24", []string{"the two sides are exchanged"}}),
	selectors("selector-protocol", []string{"leftprotoport=tcp", "rightprotoport=tcp"}, []string{"leftprotoport=udp", "rightprotoport=udp"},
		says{"rightprotoport=", "west.conf:14", "192.0.2.0/24/TCP", nil},
		says{"rightprotoport=", "east.conf:14", "192.0.2.0/24/TCP has protocol TCP, the allowed 192.0.2.0/24/UDP has protocol UDP", nil}),
	selectors("selector-port", []string{"leftprotoport=tcp", "rightprotoport=tcp/443"}, []string{"leftprotoport=tcp", "rightprotoport=tcp/80"},
		says{"rightprotoport=", "west.conf:14", "192.0.2.0/24/TCP/443", nil},
		says{"rightprotoport=", "east.conf:14", "192.0.2.0/24/TCP/443 has port 443, the allowed 192.0.2.0/24/TCP/80 has port 80", nil}),
	selectors("selector-family", []string{"leftsubnet=2001:db8:1::/64", "rightsubnet=2001:db8:2::/64"}, nil,
		says{"leftsubnet=", "west.conf:4", "2001:db8:1::/64", nil},
		says{"rightsubnet=", "east.conf:7", "2001:db8:2::/64 is IPv6, the allowed 192.0.2.0/24 is IPv4", nil}),
	{
		name: "narrowed-against-our-will", west: []string{"rightsubnet=192.0.0.0/16"}, east: []string{"narrowing=yes"},
		onWest: tells("rightsubnet=", "west.conf:7", "192.0.0.0/16", "the peer narrowed it to [192.0.1.0/24===192.0.2.0/24]", "narrowing=yes"),
		onEast: tells("narrowing=", "east.conf:13", "the peer asked for [192.0.0.0/16===192.0.1.0/24]", "established Child SA; IPsec tunnel [192.0.2.0/24===192.0.1.0/24]",
			"on our side 192.0.0.0/16 is wider than the allowed 192.0.2.0/24 (rightsubnet= of east.conf:7)"),
	},
	{
		name: "transport-at-the-initiator-alone", west: []string{"-leftsubnet", "-rightsubnet", "type=transport"}, east: []string{"-leftsubnet", "-rightsubnet"},
		onWest: tells("type=", "west.conf:11", "asked for transport mode", "the peer has made it in tunnel mode", "write the same type= at both ends"),
		onEast: tells("type=", "east.conf:1", "the peer asked for transport mode", "established Child SA; IPsec tunnel", "if it deletes this Child SA, write the same type= at both ends"),
	},
	{
		name: "transport-at-the-responder-alone", west: []string{"-leftsubnet", "-rightsubnet"}, east: []string{"-leftsubnet", "-rightsubnet", "type=transport"},
		onWest: tells("esp=", "west.conf:8", "AES_GCM_16_256", "NO_PROPOSAL_CHOSEN", "or type= is another"),
		onEast: tells("type=", "east.conf:11", "type=transport", "the peer asks for tunnel mode", "NO_PROPOSAL_CHOSEN"),
	},
	{
		name: "transport-for-networks-here", west: []string{"-leftsubnet", "-rightsubnet", "type=transport"},
		onWest: tells("rightsubnet=", "west.conf", "TS_UNACCEPTABLE"),
		onEast: tells("rightsubnet=", "east.conf:7", "TS_UNACCEPTABLE", "it asked for transport mode, and no connection for it is type=transport here"),
	},
}

var modes = []row{
	{
		name: "no-plain-esp", west: []string{"encapsulation=no"},
		onWest: tells("encapsulation=", "west.conf:13", "encapsulation=no", "needs plain ESP", "remove it, or set enable-tcp=yes"),
		onEast: cannot(silent, ""),
	},
	second("second-child-selectors", []string{"leftsubnet=192.0.11.0/24"}, []string{"leftsubnet=192.0.12.0/24"},
		tells("leftsubnet=", "west.conf:16", "192.0.11.0/24", "TS_UNACCEPTABLE", `Child SA "second"`, "the IKE SA stays"),
		tells("leftsubnet=", "east.conf:16", "192.0.11.0/24 has no address in common with the allowed 192.0.12.0/24", "TS_UNACCEPTABLE")),
	second("second-child-proposal", []string{"leftsubnet=192.0.11.0/24", "esp=aes256-sha2_256"}, []string{"leftsubnet=192.0.11.0/24", "esp=aes_gcm256"},
		tells("esp=", "west.conf:22", "AES_CBC_256-HMAC_SHA2_256_128", "NO_PROPOSAL_CHOSEN", `Child SA "second"`),
		tells("esp=", "east.conf:22", "encryption: offered AES_CBC_256, allowed AES_GCM_16_256", "NO_PROPOSAL_CHOSEN")),
	second("pfs", []string{"leftsubnet=192.0.11.0/24", "esp=aes_gcm256", "pfs=no"}, []string{"leftsubnet=192.0.11.0/24", "esp=aes_gcm256-dh20", "pfs=yes"},
		tells("esp=", "west.conf:22", "AES_GCM_16_256", "NO_PROPOSAL_CHOSEN", "pfs="),
		tells("pfs=", "east.conf:25", "key exchange: offered none, allowed", "esp= of east.conf:22")),
}

// second is a row about a connection that asks for its Child SA on the IKE SA of another, with CREATE_CHILD_SA.
func second(name string, west, east []string, onWest, onEast side) row {
	return row{name: name, second: [2][]string{west, east}, onWest: onWest, onEast: onEast, act: func(s *situation) {
		for _, name := range []string{"west-east", "second"} {
			if err := s.West.Engine.Up(context.Background(), name, nil); err != nil {
				s.west = append(s.west, err.Error())
			}
		}
	}}
}

func negotiations() []row { return slices.Concat(identity, proposals, traffic, modes, paths, hostile) }

func TestNegotiation(t *testing.T) {
	for _, r := range negotiations() {
		t.Run(r.name, func(t *testing.T) {
			f := files{"west.conf": edit(base, r.west...), "east.conf": edit(base, r.east...), "west.secrets": secret, "east.secrets": secret}
			if r.westSecrets != "" {
				f["west.secrets"] = r.westSecrets
			}
			if r.eastSecrets != "" {
				f["east.secrets"] = r.eastSecrets
			}
			if r.second[0] != nil {
				other := strings.Replace(base, "conn west-east", "conn second", 1)
				f["west.conf"] += edit(other, r.second[0]...)
				f["east.conf"] += edit(other, r.second[1]...)
			}
			act := r.act
			if act == nil {
				act = up
			}
			west, east := run(t, f, act)
			r.onWest.judge(t, "west", west)
			r.onEast.judge(t, "east", east)
		})
	}
}

// TestBase: what the rows change does work as it is, without a warning.
func TestBase(t *testing.T) {
	west, east := run(t, files{"west.conf": base, "east.conf": base, "west.secrets": secret, "east.secrets": secret}, up)
	for who, lines := range map[string][]string{"west": west, "east": east} {
		if !slices.ContainsFunc(lines, func(l string) bool { return holds(l, []string{"established Child SA"}) }) {
			t.Errorf("%s: %q", who, lines)
		}
	}
}

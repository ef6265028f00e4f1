package conf

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/policy"
)

// libreswanKeyword is a line of testdata/keywords.txt: what libreswan 5.4 knows.
type libreswanKeyword struct{ section, name, prefix, status string }

func libreswanKeywords(t *testing.T) []libreswanKeyword {
	t.Helper()
	text, err := os.ReadFile("testdata/keywords.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out []libreswanKeyword
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) != 4 {
			t.Fatalf("malformed line %q", line)
		}
		// libreswan's own table has a comma at the end of this name, so that nobody can write it
		out = append(out, libreswanKeyword{f[0], strings.TrimSuffix(f[1], ","), f[2], f[3]})
	}
	if len(out) < 200 {
		t.Fatalf("only %d keywords", len(out))
	}
	return out
}

func rows() []keyword {
	table() // fills in setup and sided
	return slices.Concat(setupKeywords, connKeywords, endKeywords)
}

// Every keyword of libreswan is in the table once, in its section, with its prefix, and has a state; the table has nothing else but our own words.
func TestEveryLibreswanKeywordHasOneState(t *testing.T) {
	own := map[string]bool{"tcponly": true, "backend": true}
	seen := map[string]int{}
	key := func(setup, sided bool, name string) string {
		s := "conn/"
		if setup {
			s = "setup/"
		}
		if sided {
			s += "left-right/"
		}
		return s + name
	}
	for _, k := range rows() {
		seen[key(k.setup, k.sided, k.name)]++
	}
	for _, l := range libreswanKeywords(t) {
		id := key(l.section == "config setup", l.prefix == "left/right" || l.name == hostKeyword, l.name)
		if seen[id] != 1 {
			t.Errorf("%s is %d times in the table", id, seen[id])
		}
		delete(seen, id)
		written := l.name
		if l.prefix == "left/right" {
			written = "left" + l.name
		}
		if l.name == hostKeyword {
			written = "right"
		}
		k, _ := table().lookup(written, l.section == "config setup")
		if k == nil {
			t.Errorf("%s cannot be looked up", id)
			continue
		}
		if l.name == "phase2alg" {
			l.status = "alias" // of esp=, since there is no ah=
		}
		if (l.status == "alias") != (k.alias != "") {
			t.Errorf("%s: libreswan says %q, the alias is %q", id, l.status, k.alias)
		}
		if (l.status == "obsolete") != (k.state == Obsolete) || (l.status == "optarg-only") != (k.state == CommandLine) {
			t.Errorf("%s: libreswan says %q, the state is %v", id, l.status, k.state)
		}
	}
	for id := range seen {
		if _, name, _ := strings.Cut(id, "/"); !own[name] {
			t.Errorf("%s is not a keyword of libreswan's and not listed as our own", id)
		}
	}
}

// A row that promises a reason has one, aliases lead to real keywords, defaults can be read.
func TestTableIsSound(t *testing.T) {
	for _, k := range rows() {
		name := k.name
		if k.alias != "" {
			c := table().canonical(&k)
			if c == nil || c.alias != "" || k.doc == "" {
				t.Errorf("%s is an alias of %q", name, k.alias)
			}
			continue
		}
		if k.doc == "" && k.state != Obsolete {
			t.Errorf("%s has no description", name)
		}
		if k.why == "" && (k.state == NoEffect || k.state == NotYet || k.state == Refused || k.state == CommandLine) {
			t.Errorf("%s is %v without a reason", name, k.state)
		}
		if strings.ContainsAny(k.doc+k.why, "\n") || strings.HasSuffix(k.doc, ".") || strings.HasSuffix(k.why, ".") {
			t.Errorf("%s: texts are one clause without a full stop", name)
		}
		if k.kind == kindEnum && len(k.words) == 0 {
			t.Errorf("%s has no words", name)
		}
		if k.def == "" || k.name == "auth" {
			continue
		}
		if _, err := parseValue(&k, k.def); err != nil {
			t.Errorf("default %q of %s: %v", k.def, name, err)
		}
		if k.state != Implemented && !k.always && !k.isHarmless(k.def) {
			t.Errorf("default %q of %s draws a remark", k.def, name)
		}
		for _, h := range k.harmless {
			if _, err := parseValue(&k, h); err != nil {
				t.Errorf("harmless value %q of %s: %v", h, name, err)
			}
		}
	}
}

// What ikegod implements is what its compiler asks for; what it does not ask for is not called implemented.
func TestImplementedKeywordsAreCompiled(t *testing.T) {
	c, _ := load("ipsec.conf", Options{}, mapFiles{"ipsec.conf": "conn a" + good})
	r := newCompiler(c)
	asked := map[*keyword]bool{}
	r.asked = func(k *keyword) { asked[k] = true }
	r.compileSetup()
	if p := r.newBuild(c.byName["a"], false).connection(); p == nil {
		t.Fatal(r.report.list)
	}
	// these are in the policy already, and wait for the machine to enforce them
	ahead := map[string]bool{"ikelifetime": true, "ipsec-lifetime": true}
	s := table()
	for _, m := range []map[string]*keyword{s.setup, s.plain, s.sided} {
		for name, k := range m {
			if k.alias != "" || k.kind == kindAlso {
				continue
			}
			if asked[k] != (k.state == Implemented || ahead[name]) {
				t.Errorf("%s is %v, and compiling asks for it: %v", name, k.state, asked[k])
			}
		}
	}
}

// each keyword of a state, with a value that is not its default and not harmless
func odd(k *keyword) string {
	switch {
	case k.kind == kindBool && k.isHarmless("no"):
		return "yes"
	case k.kind == kindBool:
		return "no"
	case k.kind == kindEnum:
		for _, w := range k.words {
			if !k.isHarmless(w) {
				return w
			}
		}
	case k.kind == kindPercent:
		return "7%"
	}
	return "7"
}

// Each keyword that is not implemented draws exactly the remark of its state, at its place, and none with a harmless value.
func TestStatesHaveTheirRemarks(t *testing.T) {
	for _, k := range rows() {
		c := table().canonical(&k)
		if c.state == Implemented || c.kind == kindAlso {
			continue
		}
		word := k.name
		if k.sided {
			word = "right" + k.name
		}
		write := func(value string) (loaded bool, ds Diagnostics) {
			text := "conn a" + good + "\t" + word + "=" + value + "\n"
			if k.setup {
				text = "config setup\n\t" + word + "=" + value + "\nconn a" + good
			}
			set, ds := compileText(text)
			return set != nil && len(set.Connections) == 1, ds
		}
		value := odd(c)
		loaded, ds := write(value)
		want := map[State]Severity{NoEffect: Note, NotYet: Warning, Refused: Error, Obsolete: Warning, CommandLine: Error}[c.state]
		if len(ds) != 1 || ds[0].Severity != want || ds[0].Line == 0 || ds[0].Col == 0 || !strings.Contains(ds[0].Text, word) {
			t.Errorf("%s=%s (%v): diagnostics %v", word, value, c.state, ds)
		}
		if loaded != (want != Error) {
			t.Errorf("%s=%s (%v): connection loaded: %v", word, value, c.state, loaded)
		}
		for _, h := range append([]string{c.def}, c.harmless...) {
			if h == "" && len(c.harmless) == 0 || h == c.def && c.always || c.state == Obsolete || c.state == CommandLine || h == "" {
				continue
			}
			if loaded, ds := write(`"` + h + `"`); !loaded || len(ds) > 0 {
				t.Errorf("%s=%s, which is harmless: loaded %v, diagnostics %v", word, h, loaded, ds)
			}
		}
	}
}

// Implemented keywords take their good values without any remark, and refuse a bad one at its place.
func TestImplementedValues(t *testing.T) {
	values := map[string]struct{ good, bad []string }{
		"secretsfile":         {[]string{"/tmp/x"}, nil},
		"uniqueids":           {[]string{"yes", "NO", "1"}, []string{"maybe", ""}},
		"ddos-mode":           {[]string{"auto", "busy", "Unlimited"}, []string{"lazy"}},
		"ddos-ike-threshold":  {[]string{"0", "100"}, []string{"-1", "many", "1.5"}},
		"max-halfopen-ike":    {[]string{"30000"}, []string{"0", "x"}},
		"keep-alive":          {[]string{"1s", "1d", "20", "1.5 m"}, []string{"0", "2d", "20x", "-5"}},
		"listen-tcp":          {[]string{"yes", "no", "443", "4500,443", "1", "0"}, []string{"500", "0,1", "65536", "4500,4500", "tcp", ""}},
		"listen-udp":          {[]string{"yes", "ON"}, []string{"500"}},
		"listen":              {[]string{"192.1.2.45", "2001:db8::1"}, []string{"eth0", "192.1.2.0/24", "fe80::1%eth0"}},
		"auto":                {[]string{"add", "ondemand", "route", "start", "up", "keep"}, []string{"yes", "onboot"}},
		"hostaddrfamily":      {[]string{"ipv4"}, []string{"4", "inet"}},
		"authby":              {[]string{"secret", "psk"}, []string{"Secret", "password", ""}},
		"keyexchange":         {[]string{"ikev2", "ike", "IKEv2"}, []string{"ikev3"}},
		"esn":                 {[]string{"yes", "no", "either"}, []string{"both"}},
		"narrowing":           {[]string{"yes"}, []string{"2"}},
		"pfs":                 {[]string{"no"}, []string{"modp2048"}},
		"nat-keepalive":       {[]string{"no"}, []string{"20s"}},
		"retransmit-timeout":  {[]string{"5s", "500ms"}, []string{"0", "5 apples"}},
		"retransmit-interval": {[]string{"500", "1s", "100ms"}, []string{"0", "fast"}},
		"encapsulation":       {[]string{"yes", "auto"}, []string{"force"}},
		"replay-window":       {[]string{"32", "0x40", "4096"}, []string{"4294967296", "many", "-1"}},
		"type":                {[]string{"tunnel", "transport"}, []string{"tunel"}},
		"failureshunt":        {[]string{"none", "pass", "passthrough", "drop", "hold", "reject"}, []string{"block"}},
		"negotiationshunt":    {[]string{"pass", "passthrough", "drop", "hold"}, []string{"none", "reject"}},
		"backend":             {[]string{"auto", "xfrm", "userspace"}, []string{"kernel", "yes"}},
		"ikeport":             {[]string{"0", "4500", "443", "65535"}, []string{"500", "65536", "-1", "https"}},
		"enable-tcp":          {[]string{"no", "yes", "fallback", "on", "off", "true"}, []string{"race", "tcp"}},
		"tcp-remoteport":      {nil, []string{"0", "65536", "https"}},
		"ike":                 {[]string{"aes256-sha2_512;dh19", "aes_gcm256-sha2"}, []string{"aes1024", "rot13"}},
		"esp":                 {[]string{"aes256-sha2_512", "aes_gcm128"}, []string{"rot13"}},
		"phase2":              {[]string{"esp"}, []string{"espx"}},
		"dpddelay":            {[]string{"0", "30", "1m"}, []string{"often"}},
		"ipsec-max-bytes":     {[]string{"1GiB", "2048"}, []string{"0", "1000", "big", "1Gi"}},
		"ipsec-max-packets":   {[]string{"1Mi", "100"}, []string{"0", "7", "1MiB"}},
		"mark":                {[]string{"5", "0x5/0xff", "0"}, []string{"-1", "5/0", "0x100/0xff", "red", "1/2/3"}},
		"mark-in":             {[]string{"5"}, []string{"-1/0xff"}},
		"mark-out":            {[]string{"4294967295"}, []string{"4294967296"}},
		"ipsec-interface":     {[]string{"no", "yes", "0", "1", "17"}, []string{"-1", "ipsec1", "2147483648"}},
		"interface-ip":        {nil, []string{"10.0.0.1", "ten/8", "10.0.0.1/33"}},
		"priority":            {[]string{"0", "5"}, []string{"-1", "2147483648"}},
		"decap-dscp":          {[]string{"yes", "no"}, []string{"2"}},
		"encap-dscp":          {[]string{"yes", "no"}, []string{"2"}},
		"nopmtudisc":          {[]string{"yes", "no"}, []string{"2"}},
		"mtu":                 {[]string{"1400", "1Kib"}, []string{"10", "65536", "1Mi", "big"}},
		hostKeyword:           {nil, []string{"192.1.2.300", "192.1.2", "192.1.2.0/24", "%eth0", "%group", "a..b", "x y", "", "224.0.0.1", "fe80::1%eth0", "fe80::1"}},
		"subnet":              {[]string{"10.0.0.0/8", "10.0.0.0/8,172.16.0.0/12", "10/8", "0/0", "10.0.0.0/255.0.0.0", "10.0.0.1", "10.0.0.1-10.0.0.9", "10.0.0.1-10.0.0.9/tcp", "10.0.0.1/tcp/80", "10.0.0.0/8/tcp/80", "10.0.0.0/8/17"}, []string{"10.0.0.0/33", "10.0.0.0/255.0.255.0", "10.0.0.0/x", "vhost:%no,%priv", "ten/8", "10.0.0.9-10.0.0.1", "10.0.0.0/8/foo", "10.0.0.0/8/tcp/x", "10.0.0.0/8/", "10.0.0.1/", "10.0.0.1-10.0.0.9/", "10.0.0.1-10.0.0.9/foo", "", "fe80::/64", "fe80::1", "fe80::1-fe80::9"}},
		"subnets":             {[]string{"10.0.0.0/8", "10.0.0.0/8 172.16.0.0/12", "{10/8, 172.16/12}", "10.0.0.0/8/tcp/80,10.0.0.1"}, []string{"10.0.0.0/33", "{}", "ten/8"}},
		"updown":              {[]string{"", "%disabled", "ipsec _updown", "/bin/sh -c true", "logger it", "if true; then :; fi"}, nil},
		"sourceip":            {[]string{"10.0.0.1"}, []string{"ten", "10.0.0.0/8", ""}},
		"id":                  {[]string{"@west", "192.1.2.45", "a@b.c", "@#0102", "@[key]", "C=CA, CN=west", "/C=CA/CN=*"}, []string{"%fromcert", "%null", "", "C=CA, west", "XY=CA"}},
		"auth":                {nil, []string{"password"}},
		"protoport":           {[]string{"tcp", "17/1701", "udp/%any", "udp/l2tp", "tcp/1000-2000", "icmp", "47", "%any", "0", "udp/%opaque"}, []string{"foo", "tcp/70000", "tcp/9-8", "%any/80", "256", "tcp/nosuchservice"}},
	}
	special := map[string]bool{"also": true, "ikev2": true, "tcponly": true} // have tests of their own
	for _, k := range rows() {
		if k.state != Implemented || k.alias != "" || special[k.name] {
			continue
		}
		v, ok := values[k.name]
		if !ok {
			t.Errorf("no values to test for %s", k.name)
		}
		write := func(value string) Diagnostics {
			l := k.label(left)
			if !k.sided {
				l = k.name
			}
			conn := "conn a" + strings.Replace(good, "\t"+strings.TrimSuffix(l, "=")+"=", "\tx-", 1)
			text := conn + "\t" + l + "=\"" + value + "\"\n"
			if k.setup {
				text = "config setup\n\t" + l + "=\"" + value + "\"\nconn a" + good
			}
			_, ds := compileText(text)
			return ds.AtLeast(Warning)
		}
		for _, value := range v.good {
			if ds := write(value); len(ds) > 0 {
				t.Errorf("%s=%q: %v", k.name, value, ds)
			}
		}
		for _, value := range v.bad {
			if ds := write(value); !ds.HasErrors() || ds[0].Line == 0 || ds[0].Col < 2 {
				t.Errorf("%s=%q is accepted: %v", k.name, value, ds)
			}
		}
	}
}

func TestHarmlessCompares(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		want        bool
	}{
		{"compress", "NO", true},
		{"compress", "0", true},
		{"compress", "yes", false},
		{"compress", "what", false},
		{"rekeymargin", "540", true},
		{"rekeymargin", "9m", true},
		{"rekeymargin", "10m", false},
		{"rekeyfuzz", "100%", true},
		{"rekeyfuzz", "50%", false},
		{"rekey", "no", true},
		{"rekey", "yes", false}, // rekeying is not there: yes asks for what is not done
		{"ppk", "never", true},
		{"ppk", "no", true},
		{"ppk", "permit", false},
		{"ppk", "propose", false},
		{"ppk", "insist", false},
		{"fragmentation", "no", true},
		{"fragmentation", "yes", true},
		{"fragmentation", "insist", false},
	} {
		if got := table().plain[tt.name].isHarmless(tt.value); got != tt.want {
			t.Errorf("%s=%s harmless: %v", tt.name, tt.value, got)
		}
	}
}

// A value that cannot be read is an error even where the keyword would be ignored.
func TestMalformedValuesOfIgnoredKeywords(t *testing.T) {
	for _, line := range []string{"compress=maybe", "rekeymargin=soon", "rekeyfuzz=7", "ikelifetime=0", "salifetime=1y", "fragmentation=perhaps", "modecfgpull=2", "ppk=often"} {
		if c, ds := one(t, "\t"+line+"\n"); c != nil || len(ds.AtLeast(Error)) != 1 || ds.Count(Warning) > 0 {
			t.Errorf("%s: %v", line, ds)
		}
	}
}

// What decides about protection, scope or authentication is refused, not warned about.
func TestNothingIsWeakenedQuietly(t *testing.T) {
	for _, line := range []string{
		"authby=rsasig", "authby=secret,rsasig", "authby=null", "authby=never",
		"ppk=insist", "ppk=yes", "ppk=propose", "ppk=permit", "rightca=%same", "sec-label=x", "policy-label=x", "ah=sha2", "phase2=ah",
		"keyexchange=ikev1", "ikev2=no", "ikev2=never", "ikev2=permit", "rightaddresspool=10.0.0.1-10.0.0.9", "leftmodecfgclient=yes",
		"rightmodecfgserver=yes", "leftauth=secret", "rightxauthserver=yes", "leftxauthclient=yes", "leftautheap=tls", "pam-authorize=yes",
		"vti-interface=vti0", "iptfs=yes", "tfc=1400", "reauth=yes", "dns-match-id=yes",
		"sha2-truncbug=yes", "aggressive=yes", "aggrmode=yes", "leftcat=yes", "rightid=%null", "tcp-remoteport=500", "leftsubnet=vnet:%priv",
	} {
		word, _, _ := strings.Cut(line, "=")
		text := "conn a" + strings.Replace(good, "\t"+word+"=", "\tx-", 1) + "\t" + line + "\n"
		set, ds := compileText(text)
		if set == nil || len(set.Connections) != 0 || !ds.HasErrors() || ds.Fatal() {
			t.Errorf("%s: loaded; %v", line, ds)
		}
	}
	set, ds := compileText("conn a\n left=192.1.2.45\n right=192.1.2.23\n auto=add\n")
	if len(set.Connections) != 0 || len(find(ds, "authby= is not written")) != 1 {
		t.Errorf("without authby=: %v", ds)
	}
}

func TestDefaultsOfAConnection(t *testing.T) {
	c := mustOne(t, "")
	want := policy.Connection{
		Retransmit: policy.Retransmit{Interval: 500 * time.Millisecond, Timeout: 30 * time.Second},
		Lifetimes:  policy.Lifetimes{IKE: 8 * time.Hour, Child: 8 * time.Hour},
		TCP:        policy.TCP{Mode: policy.TCPNo},
	}
	if c.Retransmit != want.Retransmit || c.Lifetimes != want.Lifetimes || c.TCP != want.TCP || c.Encapsulation != policy.EncapAuto || c.Narrowing || !c.NATKeepAlive ||
		c.Liveness != 0 || c.Failure != policy.ShuntNone || c.Negotiation != policy.ShuntDrop || c.Auto != policy.AutoAdd {
		t.Errorf("%+v", c)
	}
	child := c.Children[0]
	if len(c.Children) != 1 || !child.PFS || child.ReplayWindow != 128 || child.MTU != 0 || child.Transport || len(child.ESP) == 0 || len(c.IKE) == 0 || child.Left != nil {
		t.Errorf("%+v", child)
	}
	set, _ := compileText("")
	s := policy.Setup{ListenUDP: true, KeepAlive: 20 * time.Second, UniqueIDs: true, MaxHalfOpen: 50000, CookieThreshold: 25000}
	if !set.Setup.Equal(s) {
		t.Errorf("%+v", set.Setup)
	}
}

package ident_test

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/wire"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		in   string
		want ident.ID
		text string // as printed, when not as read
	}{
		{"192.1.2.45", ident.ID{Type: iana.ID_IPV4_ADDR, Data: "\xc0\x01\x02\x2d"}, ""},
		{"2001:db8:1:2::45", ident.ID{Type: iana.ID_IPV6_ADDR, Data: "\x20\x01\x0d\xb8\x00\x01\x00\x02\x00\x00\x00\x00\x00\x00\x00\x45"}, ""},
		{"::ffff:192.1.2.45", ident.ID{Type: iana.ID_IPV4_ADDR, Data: "\xc0\x01\x02\x2d"}, "192.1.2.45"},
		{"@west", ident.ID{Type: iana.ID_FQDN, Data: "west"}, ""},
		{"@West.Example.Org.", ident.ID{Type: iana.ID_FQDN, Data: "West.Example.Org."}, ""},
		{"user@road.example.com", ident.ID{Type: iana.ID_RFC822_ADDR, Data: "user@road.example.com"}, ""},
		{"@#0102fF", ident.ID{Type: iana.ID_KEY_ID, Data: "\x01\x02\xff"}, "@#0102ff"},
		{"@[router-7]", ident.ID{Type: iana.ID_KEY_ID, Data: "router-7"}, ""},
		{"@[router-7", ident.ID{Type: iana.ID_KEY_ID, Data: "router-7"}, "@[router-7]"},
		{"@[two words]", ident.ID{Type: iana.ID_KEY_ID, Data: "two words"}, "@#74776f20776f726473"},
		{"@~3000", ident.ID{Type: iana.ID_DER_ASN1_DN, Data: "\x30\x00"}, ""},
		{"%null", ident.ID{Type: iana.ID_NULL}, ""},
	} {
		got, err := ident.Parse(c.in)
		if err != nil || got != c.want {
			t.Errorf("Parse(%q) = %#v, %v, want %#v", c.in, got, err, c.want)
			continue
		}
		want := c.text
		if want == "" {
			want = c.in
		}
		if got.String() != want {
			t.Errorf("Parse(%q) prints %q, want %q", c.in, got, want)
		}
		back, err := ident.Parse(got.String())
		if err != nil || back != got {
			t.Errorf("%q is read back as %#v, %v", got, back, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ in, why string }{
		{"", "empty"},
		{"%fromcert", "no particular identity"},
		{"%any", "no particular identity"},
		{"%none", "no particular identity"},
		{"%foo", "unknown word"},
		{"0.0.0.0", "no particular identity"},
		{"fe80::1%eth0", "zone"},
		{"west.example.org", "@ in front"},
		{"@", "no name"},
		{"user@", "no domain"},
		{"@#123", "hex"},
		{"@#", "hex"},
		{"@#xy", "hex"},
		{"@~", "hex"},
		{"@[]", "key id"},
		{"@we st", "not allowed"},
		{"@we\nst", "not allowed"},
		{"us\"er@example.org", "not allowed"},
	} {
		id, err := ident.Parse(c.in)
		if err == nil || !strings.Contains(err.Error(), c.why) || !id.IsZero() {
			t.Errorf("Parse(%q) = %v, %v, want an error with %q", c.in, id, err, c.why)
		}
	}
}

func TestParsePattern(t *testing.T) {
	west := ident.ID{Type: iana.ID_FQDN, Data: "west"}
	for in, want := range map[string]ident.Pattern{
		"%any": {Any: true}, "0.0.0.0": {Any: true}, "::": {Any: true}, "@west": {ID: west},
	} {
		if got, err := ident.ParsePattern(in); err != nil || got != want {
			t.Errorf("ParsePattern(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
	if p, err := ident.ParsePattern("west"); err == nil || p != (ident.Pattern{}) {
		t.Errorf("ParsePattern of a bare name gives %v, %v", p, err)
	}
	if s := (ident.Pattern{Any: true}).String(); s != "%any" {
		t.Errorf("any prints %q", s)
	}
	if s := (ident.Pattern{ID: west}).String(); s != "@west" {
		t.Errorf("a pattern of @west prints %q", s)
	}
}

// TestStringCannotBeForged prints what a hostile peer may send: no control character, quote or blank gets out, and what prints like an
// identity of ipsec.conf is that identity.
func TestStringCannotBeForged(t *testing.T) {
	for _, c := range []struct {
		id   ident.ID
		want string
	}{
		{ident.ID{Type: iana.ID_FQDN, Data: "west\n2026-01-01 established"}, `ID_FQDN(west\x0a2026-01-01\x20established)`},
		{ident.ID{Type: iana.ID_FQDN, Data: `a"b'c` + "`\\()"}, `ID_FQDN(a\x22b\x27c\x60\x5c\x28\x29)`},
		{ident.ID{Type: iana.ID_FQDN, Data: "#00ff"}, `ID_FQDN(#00ff)`},
		{ident.ID{Type: iana.ID_FQDN, Data: "[key]"}, `ID_FQDN([key])`},
		{ident.ID{Type: iana.ID_FQDN, Data: "w\xc3\xa9st\x1b[31m"}, `ID_FQDN(w\xc3\xa9st\x1b[31m)`},
		{ident.ID{Type: iana.ID_FQDN}, `ID_FQDN()`},
		{ident.ID{Type: iana.ID_FQDN, Data: "CN=ca"}, `ID_FQDN(CN=ca)`},
		{ident.ID{Type: iana.ID_RFC822_ADDR, Data: "@west"}, `ID_RFC822_ADDR(@west)`},
		{ident.ID{Type: iana.ID_RFC822_ADDR, Data: "192.1.2.45"}, `ID_RFC822_ADDR(192.1.2.45)`},
		{ident.ID{Type: iana.ID_RFC822_ADDR, Data: "%any"}, `ID_RFC822_ADDR(%any)`},
		{ident.ID{Type: iana.ID_IPV4_ADDR, Data: "192.1.2.45"}, `ID_IPV4_ADDR(192.1.2.45)`},
		{ident.ID{Type: iana.ID_KEY_ID, Data: "a]"}, `@#615d`},
		{ident.ID{Type: iana.ID_KEY_ID, Data: "a=b"}, `@#613d62`},
		{ident.ID{Type: iana.IDType(201), Data: "x"}, `id(201)(x)`},
		{ident.ID{Type: iana.ID_NULL, Data: "x"}, `ID_NULL(x)`},
		{ident.ID{}, "none"},
	} {
		if got := c.id.String(); got != c.want {
			t.Errorf("%#v prints %q, want %q", c.id, got, c.want)
		}
	}
	long := ident.ID{Type: iana.ID_FQDN, Data: strings.Repeat("a", 65000)}.String()
	if len(long) > 300 || !strings.HasSuffix(long, "...+64744)") {
		t.Errorf("a name of 65000 octets prints %d octets, ending in %q", len(long), long[len(long)-12:])
	}
}

func TestStringProperties(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7296, 35))
	letters := "ab.@#[]~%=\"\\ \n\x00\xff:1"
	printed := map[string]ident.ID{}
	for range 50000 {
		data := make([]byte, rnd.IntN(7))
		for i := range data {
			data[i] = letters[rnd.IntN(len(letters))]
		}
		id := ident.ID{Type: iana.IDType(rnd.IntN(15)), Data: string(data)}
		s := id.String()
		for _, c := range []byte(s) {
			if c <= ' ' || c >= 0x7f || c == '"' || c == '\'' || c == '`' {
				t.Fatalf("%#v prints %q", id, s)
			}
		}
		if other, ok := printed[s]; ok && other != id {
			t.Fatalf("%#v and %#v both print %q", other, id, s)
		}
		printed[s] = id
		if back, err := ident.Parse(s); err == nil && !back.Same(id) {
			t.Fatalf("%#v prints %q, which reads as %#v", id, s, back)
		}
	}
}

func TestMatch(t *testing.T) {
	id := func(typ iana.IDType, data string) ident.ID { return ident.ID{Type: typ, Data: data} }
	for _, c := range []struct {
		name string
		p    ident.Pattern
		id   ident.ID
		want bool
	}{
		{"equal", ident.Pattern{ID: id(iana.ID_FQDN, "west")}, id(iana.ID_FQDN, "west"), true},
		{"case", ident.Pattern{ID: id(iana.ID_FQDN, "West.example.ORG")}, id(iana.ID_FQDN, "wEST.example.org"), true},
		{"root-dot", ident.Pattern{ID: id(iana.ID_FQDN, "west.example.")}, id(iana.ID_FQDN, "west.example"), true},
		{"other", ident.Pattern{ID: id(iana.ID_FQDN, "west")}, id(iana.ID_FQDN, "east"), false},
		{"prefix", ident.Pattern{ID: id(iana.ID_FQDN, "west")}, id(iana.ID_FQDN, "west.evil"), false},
		{"type", ident.Pattern{ID: id(iana.ID_FQDN, "west")}, id(iana.ID_KEY_ID, "west"), false},
		{"mail-domain-case", ident.Pattern{ID: id(iana.ID_RFC822_ADDR, "Joe@EXAMPLE.org")}, id(iana.ID_RFC822_ADDR, "Joe@example.ORG"), true},
		{"mail-user-case", ident.Pattern{ID: id(iana.ID_RFC822_ADDR, "Joe@example.org")}, id(iana.ID_RFC822_ADDR, "joe@example.org"), false},
		{"key-id-case", ident.Pattern{ID: id(iana.ID_KEY_ID, "ABC")}, id(iana.ID_KEY_ID, "abc"), false},
		{"not-ascii", ident.Pattern{ID: id(iana.ID_FQDN, "w\xff")}, id(iana.ID_FQDN, "w\xfe"), false},
		{"any", ident.Pattern{Any: true}, id(iana.ID_FQDN, "west"), true},
		{"any-nothing", ident.Pattern{Any: true}, ident.ID{}, false},
		{"zero", ident.Pattern{}, ident.ID{}, false},
		{"zero-pattern", ident.Pattern{}, id(iana.ID_FQDN, "west"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.p.Match(c.id); got != c.want {
				t.Errorf("%v matches %v: %t, want %t", c.p, c.id, got, c.want)
			}
			if same := c.p.ID.Canonical() == c.id.Canonical(); !c.p.Any && same != c.p.ID.Same(c.id) {
				t.Errorf("Same and Canonical disagree on %v and %v", c.p, c.id)
			}
		})
	}
}

func TestWire(t *testing.T) {
	id := ident.ID{Type: iana.ID_FQDN, Data: "west"}
	if got, want := string(id.Body()), "\x02\x00\x00\x00west"; got != want {
		t.Errorf("Body is %q, want %q", got, want)
	}
	p := id.Payload(iana.PayloadIDr)
	if p.Type() != iana.PayloadIDr || ident.FromWire(p) != id {
		t.Errorf("payload %#v reads back as %#v", p, ident.FromWire(p))
	}
	odd := wire.ID{Payload: iana.PayloadIDi, IDType: 99, Data: []byte{0, 1}}
	if got := ident.FromWire(odd); got != (ident.ID{Type: 99, Data: "\x00\x01"}) {
		t.Errorf("unknown type reads as %#v", got)
	}
}

func TestFromAddr(t *testing.T) {
	for _, s := range []string{"192.1.2.45", "2001:db8::1"} {
		a := netip.MustParseAddr(s)
		id := ident.FromAddr(a)
		if got, ok := id.Addr(); !ok || got != a || id.String() != s {
			t.Errorf("FromAddr(%s) = %#v, prints %s, address %v %t", s, id, id, got, ok)
		}
	}
	if id := ident.FromAddr(netip.Addr{}); !id.IsZero() {
		t.Errorf("the invalid address makes %#v", id)
	}
	for _, id := range []ident.ID{{Type: iana.ID_IPV4_ADDR, Data: "12345"}, {Type: iana.ID_IPV6_ADDR, Data: "1234"}, {Type: iana.ID_FQDN, Data: "1234"}} {
		if a, ok := id.Addr(); ok {
			t.Errorf("%#v has address %v", id, a)
		}
	}
}

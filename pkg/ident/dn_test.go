package ident_test

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
)

func dn(t testing.TB, s string) ident.ID {
	t.Helper()
	id, err := ident.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	if id.Type != iana.ID_DER_ASN1_DN {
		t.Fatalf("%q is a %v", s, id.Type)
	}
	return id
}

func TestDNText(t *testing.T) {
	for _, c := range []struct{ in, text string }{
		{"C=CA, ST=Ontario, L=Toronto, O=Libreswan, OU=Test Department, CN=east.testing.libreswan.org, E=user-east@testing.libreswan.org", ""},
		{"C=CH,O=Example,CN=west", "C=CH, O=Example, CN=west"},
		{"/C=CH/O=Example/CN=west", "C=CH, O=Example, CN=west"},
		{"@C=CH, CN=west", "C=CH, CN=west"},
		{"CN=user@example.org", ""},
		{"c=CH ,  o = Example Inc ,cn=west", "C=CH, O=Example Inc, CN=west"},
		{`O=Example\, Inc, CN=west`, `O=Example\2c Inc, CN=west`},
		{`O=Example,, Inc, CN=west`, `O=Example\2c Inc, CN=west`},
		{`O="Example, Inc", CN="a \"b\""`, `O=Example\2c Inc, CN=a \22b\22`},
		{`O=Company (Canada) Ltd.`, ""},
		{`O=A+B, CN=host/west`, ""},
		{"/O=A/CN=host/west.example.org", "O=A, CN=host/west.example.org"},
		{"OU=a + CN=b, O=x", "CN=b + OU=a, O=x"},
		{"emailAddress=a@b, commonName=x, 2.5.4.10=y, oid.2.5.4.11=z", "E=a@b, CN=x, O=y, OU=z"},
		{"1.3.6.1.4.1.99999.1=x", ""},
		{`CN=M\c3\bcller`, ""},
		{"CN=M\u00fcller", `CN=M\c3\bcller`},
		{"CN=#0c0161", "CN=a"},
		{"CN=#0500", "CN=#0500"},
		{`CN=\#a`, `CN=\23a`},
		{`CN=\ a\ `, `CN=\20a\20`},
		{"C=CA, CN=*", ""},
		{"CN=a=b", `CN=a\3db`},
		{"DC=org, DC=example, UID=joe, serialNumber=7, surname=x", "DC=org, DC=example, UID=joe, SN=7, S=x"},
	} {
		id, err := ident.Parse(c.in)
		if err != nil {
			t.Errorf("Parse(%q): %v", c.in, err)
			continue
		}
		want := c.text
		if want == "" {
			want = c.in
		}
		if id.String() != want {
			t.Errorf("Parse(%q) prints %q, want %q", c.in, id, want)
		}
		if back, err := ident.Parse(id.String()); err != nil || !back.Same(id) {
			t.Errorf("%q reads back as %v, %v", id, back, err)
		}
	}
}

// TestDNEncoding compares with the encoder of the standard library.
func TestDNEncoding(t *testing.T) {
	typ := func(last int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 4, last} }
	ia5 := asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte("user@example.org")}
	want, err := asn1.Marshal(pkix.RDNSequence{
		{{Type: typ(6), Value: "CH"}},
		{{Type: typ(10), Value: "M\u00fcller & Co"}},
		{{Type: typ(3), Value: "west.example.org"}},
		{{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: ia5}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := dn(t, "C=CH, O=M\u00fcller & Co, CN=west.example.org, E=user@example.org").Data; got != string(want) {
		t.Errorf("encoded as\n%x, want\n%x", got, want)
	}
}

func TestDNRefuses(t *testing.T) {
	for _, c := range []struct{ in, why string }{
		{"CN=", "no value"},
		{"CN=a, , O=b", "is no attribute"},
		{"CN=a, b", "has no ="},
		{"CN=a,", "has no ="},
		{"XX=a", `"XX" is no attribute`},
		{"west=a", "is no attribute"},
		{`CN="a`, "not closed"},
		{`CN="a"b`, "comma must follow"},
		{`CN=a\`, "nothing follows the backslash"},
		{"CN=#zz", "DER"},
		{"CN=#0c0261", "DER"},
		{"CN=a\nb", "not allowed"},
		{"=a", "is no attribute"},
		{"CN=" + strings.Repeat("a", 5000), "longer than"},
		{"9.9=a", "is no attribute"},
	} {
		id, err := ident.Parse(c.in)
		if err == nil || !strings.Contains(err.Error(), c.why) || !id.IsZero() {
			t.Errorf("Parse(%.60q) = %.60v, %v, want an error with %q", c.in, id, err, c.why)
		}
	}
}

func TestDNMatch(t *testing.T) {
	utf8CN := ident.ID{Type: iana.ID_DER_ASN1_DN, Data: "\x30\x0f\x31\x0d\x30\x0b\x06\x03\x55\x04\x03\x0c\x04West"}
	bmpCN := ident.ID{Type: iana.ID_DER_ASN1_DN, Data: "\x30\x13\x31\x11\x30\x0f\x06\x03\x55\x04\x03\x1e\x08\x00W\x00e\x00s\x00t"}
	broken := ident.ID{Type: iana.ID_DER_ASN1_DN, Data: "\x30\x0f\x31"}
	for _, c := range []struct {
		name          string
		pattern, id   ident.ID
		match, itself bool
	}{
		{"equal", dn(t, "C=CH, CN=west"), dn(t, "C=CH, CN=west"), true, true},
		{"case", dn(t, "C=ch, CN=West"), dn(t, "C=CH, CN=wEST"), true, true},
		{"blanks", dn(t, "O=Example  Inc"), dn(t, `O=\20Example Inc`), true, true},
		{"string-type", dn(t, "CN=west"), utf8CN, true, true},
		{"bmp", dn(t, "CN=west"), bmpCN, true, true},
		{"other-letters-keep-case", dn(t, "CN=\u00fc"), dn(t, "CN=\u00dc"), false, false},
		{"value", dn(t, "C=CH, CN=west"), dn(t, "C=CH, CN=east"), false, false},
		{"type", dn(t, "C=CH, CN=west"), dn(t, "C=CH, OU=west"), false, false},
		{"fewer", dn(t, "CN=west"), dn(t, "C=CH, CN=west"), false, false},
		{"more", dn(t, "C=CH, O=x, CN=west"), dn(t, "C=CH, CN=west"), false, false},
		{"order", dn(t, "CN=west, C=CH"), dn(t, "C=CH, CN=west"), true, false},
		{"set-order", dn(t, "CN=a + OU=b"), dn(t, "OU=b + CN=a"), true, true},
		{"set-is-not-sequence", dn(t, "CN=a + OU=b"), dn(t, "OU=b, CN=a"), false, false},
		{"wildcard", dn(t, "C=CH, O=*, CN=*"), dn(t, "C=CH, O=Example, CN=west"), true, false},
		{"wildcard-other", dn(t, "C=CH, O=*, CN=*"), dn(t, "C=CA, O=Example, CN=west"), false, false},
		{"wildcard-count", dn(t, "C=CH, CN=*"), dn(t, "C=CH, O=Example, CN=west"), false, false},
		{"wildcard-takes-what-is-left", dn(t, "OU=*, OU=a"), dn(t, "OU=a, OU=b"), true, false},
		{"wildcard-one-way", dn(t, "CN=west"), dn(t, "CN=*"), false, false},
		{"part-of-a-value-is-no-wildcard", dn(t, "CN=*.example.org"), dn(t, "CN=west.example.org"), false, false},
		{"broken", broken, broken, true, true},
		{"broken-other", dn(t, "CN=west"), broken, false, false},
		{"key-id", dn(t, "CN=west"), ident.ID{Type: iana.ID_KEY_ID, Data: dn(t, "CN=west").Data}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := (ident.Pattern{ID: c.pattern}).Match(c.id); got != c.match {
				t.Errorf("%v fits %v: %t, want %t", c.id, c.pattern, got, c.match)
			}
			if got := c.pattern.Same(c.id); got != c.itself || got != c.id.Same(c.pattern) {
				t.Errorf("%v is %v: %t, want %t", c.id, c.pattern, got, c.itself)
			}
			if k := c.id.Canonical(); k != k.Canonical() {
				t.Errorf("the canonical form %x has another", k.Data)
			}
		})
	}
	for in, want := range map[string]bool{"C=CH, CN=west": true, "C=CH, CN=*": false} {
		if id, ok := (ident.Pattern{ID: dn(t, in)}).One(); ok != want || ok && id != dn(t, in) {
			t.Errorf("%q stands for one: %t, want %t", in, ok, want)
		}
	}
}

// TestDNHostile gives names that a peer may send: they are compared quickly, and print nothing that could be taken for another line or for our own words.
func TestDNHostile(t *testing.T) {
	for _, id := range []ident.ID{
		{Type: iana.ID_DER_ASN1_DN, Data: strings.Repeat("\x30\x84\x00\x00\xff\xf0", 10000)},
		{Type: iana.ID_DER_ASN1_DN, Data: "\x30\x80\x00\x00"},
		{Type: iana.ID_DER_ASN1_DN, Data: "\x30\x02\x31\x00"},
		{Type: iana.ID_DER_ASN1_DN, Data: "\x30\x0b\x31\x09\x30\x07\x06\x03\x55\x04\x03\x05\x00"},
		dn(t, `CN=x' established IKE SA`),
		dn(t, `CN=\0a2026-01-01 established`),
	} {
		began := time.Now()
		for range 1000 {
			(ident.Pattern{ID: dn(t, "C=CH, CN=west")}).Match(id)
		}
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("1000 comparisons took %v", d)
		}
		if s := id.String(); strings.ContainsAny(s, "\n'\"`") || len(s) > 3*1024 {
			t.Errorf("prints %.200q", s)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"192.1.2.45", "2001:db8::1", "@west", "u@d", "@#00ff", "@[x]", "@~3000", "%null", `C=CH, O="a, b", CN=\ x\00+OU=#0500`, "/C=CH/O=a,,b/CN=host/x", "CN=*",
	} {
		f.Add(s, []byte{0x30, 0})
	}
	f.Fuzz(func(t *testing.T, s string, der []byte) {
		id, err := ident.Parse(s)
		if err == nil {
			back, err := ident.Parse(id.String())
			if len(id.Data) <= 256 && (err != nil || !back.Same(id)) {
				t.Fatalf("%q prints %q, which reads as %v, %v", s, id, back, err)
			}
			if !(ident.Pattern{ID: id}).Match(id) {
				t.Fatalf("%v does not fit itself", id)
			}
		}
		sent := ident.ID{Type: iana.ID_DER_ASN1_DN, Data: string(der)}
		text := sent.String()
		if strings.ContainsAny(text, "\"'`\n\r\x1b\x00") {
			t.Fatalf("%x prints %q", der, text)
		}
		if back, err := ident.Parse(text); err == nil && !back.Same(sent) {
			t.Fatalf("%x prints %q, which reads as %x", der, text, back.Data)
		}
		if k := sent.Canonical(); k != k.Canonical() || !sent.Same(k) {
			t.Fatalf("the canonical form of %x is not stable: %x", der, k.Data)
		}
		if err == nil && id.Same(sent) != sent.Same(id) {
			t.Fatalf("Same of %v and %v depends on the order", id, sent)
		}
	})
}

// TestDNTypes reads every name of an attribute, and the number behind it.
func TestDNTypes(t *testing.T) {
	for _, a := range ident.AttributeNames() {
		if byName, byNumber := dn(t, a[0]+"=x"), dn(t, a[1]+"=x"); byName != byNumber {
			t.Errorf("%s is not %s", a[0], a[1])
		}
	}
}

package suite

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/pkg/iana"
)

var update = flag.Bool("update", false, "write the generated parts of docs/algorithms.md anew")

const document = "../../docs/algorithms.md"

// A requirement is one row of RFC 8247 2 (IKE) or RFC 8221 5 and 6 (ESP).
type requirement struct {
	id   uint16
	name string
	ike  string // RFC 8247; empty: not mentioned
	esp  string // RFC 8221, for key exchange none
}

// required is the tables of RFC 8247 2.1 to 2.4 and RFC 8221 5 and 6 by transform type, whole. RFC 8221 6 says of NONE: MUST with an AEAD, MUST
// NOT otherwise; TestChoose has both.
var required = map[iana.TransformType][]requirement{
	iana.TransformEncr: {
		{1, "DES_IV64", "", "MUST NOT"},
		{2, "DES_CBC", "MUST NOT", "MUST NOT"},
		{3, "3DES_CBC", "MAY", "SHOULD NOT"},
		{7, "BLOWFISH_CBC", "", "MUST NOT"},
		{8, "3IDEA", "", "MUST NOT"},
		{9, "DES_IV32", "", "MUST NOT"},
		{11, "NULL", "MUST NOT", "MUST"},
		{12, "AES_CBC", "MUST", "MUST"},
		{14, "AES_CCM_8", "SHOULD (IoT)", "SHOULD (IoT)"},
		{20, "AES_GCM_16", "SHOULD", "MUST"},
		{28, "CHACHA20_POLY1305", "SHOULD", "SHOULD"},
	},
	iana.TransformPRF: {
		{1, "HMAC_MD5", "MUST NOT", ""},
		{2, "HMAC_SHA1", "MUST-", ""},
		{4, "AES_XCBC", "SHOULD (IoT)", ""},
		{5, "HMAC_SHA2_256", "MUST", ""},
		{7, "HMAC_SHA2_512", "SHOULD+", ""},
	},
	iana.TransformInteg: {
		{1, "HMAC_MD5_96", "MUST NOT", "MUST NOT"},
		{2, "HMAC_SHA1_96", "MUST-", "MUST-"},
		{3, "DES_MAC", "MUST NOT", "MUST NOT"},
		{4, "KPDK_MD5", "MUST NOT", "MUST NOT"},
		{5, "AES_XCBC_96", "SHOULD (IoT)", "SHOULD (IoT)"},
		{9, "AES_128_GMAC", "", "MAY"},
		{11, "AES_256_GMAC", "", "MAY"},
		{12, "HMAC_SHA2_256_128", "MUST", "MUST"},
		{14, "HMAC_SHA2_512_256", "SHOULD", "SHOULD"},
	},
	iana.TransformKE: {
		{1, "MODP768", "MUST NOT", ""},
		{2, "MODP1024", "SHOULD NOT", ""},
		{5, "MODP1536", "SHOULD NOT", ""},
		{14, "MODP2048", "MUST", ""},
		{19, "DH19", "SHOULD", ""},
		{22, "DH22", "MUST NOT", ""},
		{23, "DH23", "SHOULD NOT", ""},
		{24, "DH24", "SHOULD NOT", ""},
	},
}

// reasons is why something that an RFC says MUST or SHOULD be there is not.
var reasons = map[string]string{
	"NULL": "it does not encrypt. RFC 8221 keeps it for ESP where AH cannot pass a NAT; a tunnel that protects nothing from readers is a mistake more often than " +
		"a wish, and ikegod refuses it",
	"AES_CCM_8":   "for small devices (IoT), with an ICV of 8 octets. AES_GCM_16 and AES_CCM_16 are there, with the whole ICV",
	"AES_XCBC":    "for small devices (IoT); HMAC_SHA2_256 is a MUST for all",
	"AES_XCBC_96": "for small devices (IoT); HMAC_SHA2_256_128 is a MUST for all",
}

// spelling is how the two families of configurations write an algorithm; %d is the key length.
type spelling struct{ libreswan, strongswan string }

var spellings = map[iana.TransformType]map[uint16]spelling{
	iana.TransformEncr: {
		uint16(iana.ENCR_AES_GCM_16):        {"aes_gcm%d", "aes%dgcm16"},
		uint16(iana.ENCR_CHACHA20_POLY1305): {"chacha20_poly1305", "chacha20poly1305"},
		uint16(iana.ENCR_AES_CBC):           {"aes%d", "aes%d"},
		uint16(iana.ENCR_AES_CCM_16):        {"aes_ccm%d", "aes%dccm16"},
	},
	iana.TransformPRF: {
		uint16(iana.PRF_HMAC_SHA2_512): {"sha2_512", "prfsha512"},
		uint16(iana.PRF_HMAC_SHA2_384): {"sha2_384", "prfsha384"},
		uint16(iana.PRF_HMAC_SHA2_256): {"sha2_256", "prfsha256"},
		uint16(iana.PRF_HMAC_SHA1):     {"sha1", "prfsha1"},
	},
	iana.TransformInteg: {
		uint16(iana.AUTH_HMAC_SHA2_512_256): {"sha2_512", "sha512"},
		uint16(iana.AUTH_HMAC_SHA2_384_192): {"sha2_384", "sha384"},
		uint16(iana.AUTH_HMAC_SHA2_256_128): {"sha2_256", "sha256"},
		uint16(iana.AUTH_HMAC_SHA1_96):      {"sha1", "sha1"},
	},
	iana.TransformKE: {
		uint16(iana.KE_CURVE25519): {"dh31", "x25519"},
		uint16(iana.KE_ECP256):     {"dh19", "ecp256"},
		uint16(iana.KE_ECP384):     {"dh20", "ecp384"},
		uint16(iana.KE_ECP521):     {"dh21", "ecp521"},
		uint16(iana.KE_MODP2048):   {"modp2048", "modp2048"},
		uint16(iana.KE_MODP3072):   {"modp3072", "modp3072"},
		uint16(iana.KE_MODP4096):   {"modp4096", "modp4096"},
		uint16(iana.KE_MODP6144):   {"modp6144", "modp6144"},
		uint16(iana.KE_MODP8192):   {"modp8192", "modp8192"},
		uint16(iana.KE_CURVE448):   {"dh32", "x448"},
		uint16(iana.KE_MODP1536):   {"modp1536", "modp1536"},
		uint16(iana.KE_MODP1024):   {"modp1024", "modp1024"},
	},
	iana.TransformSN: {
		uint16(iana.SN_ESN): {"esn=yes", "esn"},
		uint16(iana.SN_32):  {"esn=no", "noesn"},
	},
}

var tables = map[iana.TransformType]table{
	iana.TransformEncr: encrs, iana.TransformPRF: prfs, iana.TransformInteg: integs, iana.TransformKE: kes, iana.TransformSN: sns,
}

// negotiable is the implemented rows of a type without NONE, in the order of the table.
func negotiable(t iana.TransformType) []algorithm {
	return slices.DeleteFunc(slices.Clone(tables[t]), func(a algorithm) bool { return !a.supported || a.name == "NONE" })
}

// spelled puts a key length into a spelling.
func spelled(pattern string, bits uint16) string {
	if strings.Contains(pattern, "%d") {
		return fmt.Sprintf(pattern, bits)
	}
	return pattern
}

// byDefault is the identifiers of one type that the proposals hold, with the key lengths of encryption.
func byDefault(p Proposals, t iana.TransformType) map[uint16][]uint16 {
	found := map[uint16][]uint16{}
	add := func(id, bits uint16) { found[id] = appendNew(found[id], bits) }
	for _, q := range p {
		switch t {
		case iana.TransformEncr:
			for _, e := range q.Encr {
				add(uint16(e.ID), e.KeyBits)
			}
		case iana.TransformPRF:
			for _, id := range q.PRF {
				add(uint16(id), 0)
			}
		case iana.TransformInteg:
			for _, id := range q.Integ {
				add(uint16(id), 0)
			}
		case iana.TransformKE:
			for _, id := range q.KE {
				add(uint16(id), 0)
			}
		case iana.TransformSN:
			for _, id := range q.SN {
				add(uint16(id), 0)
			}
		default:
		}
	}
	return found
}

// TestRequirements holds the tables and the defaults against RFC 8247 and RFC 8221.
func TestRequirements(t *testing.T) {
	used := map[string]bool{}
	for kind, rows := range required {
		for _, r := range rows {
			a, known := tables[kind].byID(r.id)
			supported := known && a.supported
			if known && a.name != r.name {
				t.Errorf("number %d of %s is %s here and %s in the RFC", r.id, typeName(kind), a.name, r.name)
			}
			for _, of := range []struct {
				rfc, status string
				defaults    Proposals
			}{{"RFC 8247", r.ike, mustIKE(t, "")}, {"RFC 8221", r.esp, mustESP(t, "")}} {
				_, on := byDefault(of.defaults, kind)[r.id]
				switch {
				case of.status == "MUST NOT" && supported && r.name != "NULL":
					t.Errorf("%s: %s MUST NOT be implemented", of.rfc, r.name)
				case strings.Contains(of.status, "NOT") && on:
					t.Errorf("%s: %s is %s, but on by default", of.rfc, r.name, of.status)
				case strings.Contains(of.status, "NOT") || of.status == "MAY" || of.status == "":
				case !supported && reasons[r.name] == "":
					t.Errorf("%s: %s is %s, but neither implemented nor excused", of.rfc, r.name, of.status)
				case supported && reasons[r.name] != "":
					t.Errorf("%s is implemented and excused", r.name)
				case !supported:
					used[r.name] = true
				}
				if of.status == "MUST" && supported && !on {
					t.Errorf("%s: %s is MUST, but not on by default", of.rfc, r.name)
				}
			}
		}
	}
	for name := range reasons {
		if !used[name] {
			t.Errorf("the excuse of %s is not needed", name)
		}
	}
	// RFC 8247 2.1, RFC 8221 5: AES with 128 and with 256 bits.
	for _, p := range []Proposals{mustIKE(t, ""), mustESP(t, "")} {
		for _, id := range []iana.Encr{iana.ENCR_AES_CBC, iana.ENCR_AES_GCM_16} {
			bits := byDefault(p, iana.TransformEncr)[uint16(id)]
			if !slices.Contains(bits, 128) || !slices.Contains(bits, 256) {
				t.Errorf("%v: keys of %v bits by default", id, bits)
			}
		}
	}
}

// TestWeakOnlyWhenWritten: nothing that a value leaves out, or names by its family, brings in SHA-1 or a small group.
func TestWeakOnlyWhenWritten(t *testing.T) {
	for _, s := range []string{"", "aes", "aes128", "aes_gcm", "aes_ccm", "chacha20_poly1305", "aes-sha2", "aes-sha2_512-sha2_256", "aes;dh14", "aes256+aes_gcm256"} {
		for _, p := range []Proposals{mustIKE(t, s), mustESP(t, strings.NewReplacer("-sha2_512-sha2_256", "-sha2", ";dh14", "").Replace(s))} {
			for _, weak := range []string{"SHA1", "MODP1024", "MODP1536"} {
				if strings.Contains(p.String(), weak) {
					t.Errorf("%q means %v", s, p)
				}
			}
		}
	}
}

// TestImplemented names each of them in a proposal as logs print it, and gets that alone.
func TestImplemented(t *testing.T) {
	all := Implemented()
	if len(all.Encr) < 10 || len(all.PRF) < 4 || len(all.Integ) < 4 || len(all.KE) < 12 {
		t.Errorf("%d ciphers, %d PRFs, %d integrity algorithms, %d groups", len(all.Encr), len(all.PRF), len(all.Integ), len(all.KE))
	}
	for _, e := range all.Encr {
		for i, ke := range all.KE {
			want := Proposal{Encr: []Encr{e}, PRF: []iana.PRF{all.PRF[i%len(all.PRF)]}, KE: []iana.KE{ke}}
			text := fmt.Sprintf("encrypt=%s;prf=%s;ke=%s", e, want.PRF[0], ke)
			if !e.AEAD() {
				want.Integ = []iana.Integ{all.Integ[i%len(all.Integ)]}
				text += ";integ=" + want.Integ[0].String()
			}
			if p := mustIKE(t, text); len(p) != 1 || p.String() != (Proposals{want}).String() {
				t.Errorf("%q means %v, want %v", text, p, want)
			}
		}
	}
}

// TestSpellings reads every spelling of the document.
func TestSpellings(t *testing.T) {
	for kind := range tables {
		for _, a := range negotiable(kind) {
			s, ok := spellings[kind][a.id]
			if !ok {
				t.Errorf("%s has no spellings", a.name)
				continue
			}
			for _, bits := range a.keyLengths() {
				for i, name := range []string{spelled(s.libreswan, bits), spelled(s.strongswan, bits)} {
					var p Proposals
					switch kind {
					case iana.TransformEncr:
						p = mustESP(t, name)
					case iana.TransformPRF:
						p = mustIKE(t, "aes_gcm256-"+name+"-dh19")
					case iana.TransformInteg:
						p = mustESP(t, "aes256-"+name)
					case iana.TransformKE:
						p = mustIKE(t, []string{"aes_gcm256-sha2-", "aes256gcm16-prfsha256-"}[i]+name)
					default:
						p = mustESP(t, []string{"aes_gcm256;", "aes256gcm16-"}[i]+name)
					}
					if got := byDefault(p, kind); len(got) != 1 || len(got[a.id]) != 1 || got[a.id][0] != bits {
						t.Errorf("%q means %v, expected %s alone", name, p, a.name)
					}
				}
			}
		}
	}
}

//go:generate go test . -run ^TestDocument$ -update

// TestDocument compares docs/algorithms.md with the code. Each generated part stands between two comments.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	want := string(text)
	for _, part := range []struct{ name, body string }{
		{"defaults", documentDefaults(t)},
		{"encryption", documentTable(t, iana.TransformEncr)},
		{"prf", documentTable(t, iana.TransformPRF)},
		{"integrity", documentTable(t, iana.TransformInteg)},
		{"key exchange", documentTable(t, iana.TransformKE)},
		{"sequence numbers", documentTable(t, iana.TransformSN)},
		{"missing", documentMissing()},
		{"names", documentNames()},
	} {
		begin, end := "<!-- generated: "+part.name+" -->\n", "<!-- end -->\n"
		before, rest, ok := strings.Cut(want, begin)
		if !ok {
			t.Fatalf("%s has no %q", document, begin)
		}
		_, after, ok := strings.Cut(rest, end)
		if !ok {
			t.Fatalf("%s: %q has no end", document, begin)
		}
		want = before + begin + part.body + end + after
	}
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the code says; `go test ./pkg/suite -run TestDocument -update` writes it anew", document)
	}
	if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func documentDefaults(t *testing.T) string {
	var b strings.Builder
	for _, v := range []struct {
		what string
		p    Proposals
	}{{"ike", mustIKE(t, "")}, {"esp", mustESP(t, "")}} {
		fmt.Fprintf(&b, "\n`%s=` left out means:\n\n", v.what)
		for i, q := range v.p {
			fmt.Fprintf(&b, "%d. `%s`\n", i+1, strings.ReplaceAll(q.String(), "+", " + "))
		}
	}
	return b.String() + "\n"
}

// documentTable is the table of one transform type.
func documentTable(t *testing.T, kind iana.TransformType) string {
	ike, esp := byDefault(mustIKE(t, ""), kind), byDefault(mustESP(t, ""), kind)
	columns := []string{"name", "number"}
	switch kind {
	case iana.TransformEncr:
		columns = append(columns, "key bits", "IV, ICV octets", "default in IKE", "default in ESP")
	case iana.TransformInteg:
		columns = append(columns, "key bits", "ICV octets", "default in IKE", "default in ESP")
	case iana.TransformPRF:
		columns = append(columns, "key bits", "default in IKE")
	case iana.TransformKE:
		columns = append(columns, "public value, octets", "on a worker", "default in IKE")
	default:
		columns = append(columns, "default in ESP")
	}
	columns = append(columns, "libreswan's spelling", "strongSwan's", "RFC 8247 (IKE)", "RFC 8221 (ESP)")
	var b strings.Builder
	row := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	row(columns...)
	row(slices.Repeat([]string{"---"}, len(columns))...)
	for _, a := range negotiable(kind) {
		cells := []string{a.name, fmt.Sprint(a.id)}
		bits := strings.Trim(fmt.Sprint(a.keyBits), "[]")
		switch kind {
		case iana.TransformEncr:
			icv := "ICV of the integrity algorithm"
			if a.aead {
				icv = fmt.Sprint(a.icv)
			}
			if bits == "" {
				bits = fmt.Sprint(a.fixed, ", not sent")
			}
			cells = append(cells, bits, fmt.Sprintf("%d, %s", a.iv, icv), yesNo(ike, a.id), yesNo(esp, a.id))
		case iana.TransformInteg:
			cells = append(cells, fmt.Sprint(8*a.hash().Size()), fmt.Sprint(a.size), yesNo(ike, a.id), yesNo(esp, a.id))
		case iana.TransformPRF:
			cells = append(cells, fmt.Sprint(8*a.size), yesNo(ike, a.id))
		case iana.TransformKE:
			worker := "no"
			if Slow(iana.KE(a.id)) {
				worker = "yes"
			}
			cells = append(cells, fmt.Sprint(PublicLen(iana.KE(a.id))), worker, yesNo(ike, a.id))
		default:
			cells = append(cells, yesNo(esp, a.id))
		}
		s, r := spellings[kind][a.id], requirement{}
		if i := slices.IndexFunc(required[kind], func(r requirement) bool { return r.id == a.id }); i >= 0 {
			r = required[kind][i]
		}
		cells = append(cells, code(s.libreswan, &a), code(s.strongswan, &a), r.ike, r.esp)
		row(cells...)
	}
	return b.String()
}

func yesNo(on map[uint16][]uint16, id uint16) string {
	bits, ok := on[id]
	switch {
	case !ok:
		return "no"
	case bits[0] == 0:
		return "yes"
	}
	return "yes: " + strings.Trim(fmt.Sprint(bits), "[]")
}

// code prints all key lengths of a spelling.
func code(pattern string, a *algorithm) string {
	var names []string
	for _, bits := range a.keyLengths() {
		names = appendNew(names, "`"+spelled(pattern, bits)+"`")
	}
	return strings.Join(names, " ")
}

func documentMissing() string {
	var b strings.Builder
	b.WriteString("| name | RFC 8247 (IKE) | RFC 8221 (ESP) | why it is not there |\n| --- | --- | --- | --- |\n")
	for _, kind := range []iana.TransformType{iana.TransformEncr, iana.TransformPRF, iana.TransformInteg, iana.TransformKE} {
		for _, r := range required[kind] {
			if reason := reasons[r.name]; reason != "" {
				fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.name, r.ike, r.esp, reason)
			}
		}
	}
	return b.String()
}

// documentNames lists what is known by name only.
func documentNames() string {
	var b strings.Builder
	for _, kind := range []iana.TransformType{iana.TransformEncr, iana.TransformPRF, iana.TransformInteg, iana.TransformKE} {
		var names []string
		for _, a := range tables[kind] {
			if !a.supported {
				names = append(names, fmt.Sprintf("%s (%d)", a.name, a.id))
			}
		}
		fmt.Fprintf(&b, "- %s: %s\n", typeName(kind), strings.Join(names, ", "))
	}
	return b.String()
}

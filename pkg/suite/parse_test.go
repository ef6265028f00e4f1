package suite

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ikegod/ikegod/pkg/iana"
)

const (
	ikeDefault = "AES_GCM_16_256+AES_GCM_16_128+CHACHA20_POLY1305-HMAC_SHA2_512+HMAC_SHA2_256-CURVE25519+DH19+DH20+DH21+MODP4096+MODP3072+MODP2048," +
		"AES_CBC_256+AES_CBC_128-HMAC_SHA2_512+HMAC_SHA2_256-HMAC_SHA2_512_256+HMAC_SHA2_256_128-CURVE25519+DH19+DH20+DH21+MODP4096+MODP3072+MODP2048"
	espDefault = "AES_GCM_16_256+AES_GCM_16_128+CHACHA20_POLY1305;SN=ESN+NO_ESN,AES_CBC_256+AES_CBC_128-HMAC_SHA2_512_256+HMAC_SHA2_256_128;SN=ESN+NO_ESN"
	anyPRF     = "-HMAC_SHA2_512+HMAC_SHA2_256"
	anyKE      = "-CURVE25519+DH19+DH20+DH21+MODP4096+MODP3072+MODP2048"
)

func TestParseIKE(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"", ikeDefault},
		{" \t", ikeDefault},
		{"aes_gcm256-sha2_512-dh19", "AES_GCM_16_256-HMAC_SHA2_512-DH19"},
		{"AES_GCM256-SHA2_512-DH19", "AES_GCM_16_256-HMAC_SHA2_512-DH19"},
		{"aes256-sha2;modp2048+dh31", "AES_CBC_256-HMAC_SHA2_256-HMAC_SHA2_256_128-MODP2048+CURVE25519"},
		{"aes_gcm", "AES_GCM_16_256+AES_GCM_16_128" + anyPRF + anyKE},
		{"aes128", "AES_CBC_128" + anyPRF + "-HMAC_SHA2_512_256+HMAC_SHA2_256_128" + anyKE},
		{"aes", "AES_CBC_256+AES_CBC_128" + anyPRF + "-HMAC_SHA2_512_256+HMAC_SHA2_256_128" + anyKE},
		{"aes192-sha384-dh20", "AES_CBC_192-HMAC_SHA2_384-HMAC_SHA2_384_192-DH20"},
		{"chacha20_poly1305", "CHACHA20_POLY1305" + anyPRF + anyKE},
		{"chacha20_poly1305_256-sha2-dh31", "CHACHA20_POLY1305-HMAC_SHA2_256-CURVE25519"},
		{"aes_gcm_16_256-dh19", "AES_GCM_16_256" + anyPRF + "-DH19"},
		{"aes256-sha2_512-sha2_256-dh14", "AES_CBC_256-HMAC_SHA2_512-HMAC_SHA2_256_128-MODP2048"},
		{"aes256-hmac_sha2_256_128-sha2_512-dh14", "AES_CBC_256-HMAC_SHA2_512-HMAC_SHA2_256_128-MODP2048"}, // the old order
		{"aes_gcm256-none-sha2_512-dh19", "AES_GCM_16_256-HMAC_SHA2_512-DH19"},
		{"aes_gcm256-sha2_512-none-dh19", "AES_GCM_16_256-HMAC_SHA2_512-DH19"},
		{"aes_gcm256+aes256-sha2-dh19", "AES_GCM_16_256-HMAC_SHA2_256-DH19,AES_CBC_256-HMAC_SHA2_256-HMAC_SHA2_256_128-DH19"},
		{"aes256+aes_gcm256-sha2-dh19", "AES_CBC_256-HMAC_SHA2_256-HMAC_SHA2_256_128-DH19,AES_GCM_16_256-HMAC_SHA2_256-DH19"},
		{"aes_gcm128-sha2-dh19, aes128 - sha2 ; dh14", "AES_GCM_16_128-HMAC_SHA2_256-DH19,AES_CBC_128-HMAC_SHA2_256-HMAC_SHA2_256_128-MODP2048"},
		{"aes256gcm16-prfsha256-ecp256!", "AES_GCM_16_256-HMAC_SHA2_256-DH19"}, // strongSwan's spelling
		{"aes256gcm16-prfsha384-ecp384", "AES_GCM_16_256-HMAC_SHA2_384-DH20"},
		{"aes256gcm128-prfsha384-ecp384", "AES_GCM_16_256-HMAC_SHA2_384-DH20"},
		{"aes256gcm-sha384-x448", "AES_GCM_16_256-HMAC_SHA2_384-CURVE448"},
		{"aes128ccm16-aes256ccm128-prfsha256-x25519", "AES_CCM_16_128+AES_CCM_16_256-HMAC_SHA2_256-CURVE25519"},
		{"aes256-sha256-prfsha256-modp2048", "AES_CBC_256-HMAC_SHA2_256-HMAC_SHA2_256_128-MODP2048"},
		{"aes256-sha256-prfsha512-modp2048", "AES_CBC_256-HMAC_SHA2_512-HMAC_SHA2_256_128-MODP2048"},
		{"aes256-prfsha512-sha256-modp2048", "AES_CBC_256-HMAC_SHA2_512-HMAC_SHA2_256_128-MODP2048"},
		{"aes128-aes256-sha256-sha384-modp2048-ecp256", "AES_CBC_128+AES_CBC_256-HMAC_SHA2_256+HMAC_SHA2_384-HMAC_SHA2_256_128+HMAC_SHA2_384_192-MODP2048+DH19"},
		{"aes128gcm16-aes256gcm16-sha256-x25519-ecp256", "AES_GCM_16_128+AES_GCM_16_256-HMAC_SHA2_256-CURVE25519+DH19"},
		{"chacha20poly1305-prfsha256-x25519", "CHACHA20_POLY1305-HMAC_SHA2_256-CURVE25519"},
		{"aes256gcm16-prfsha384-ecp384-ke1_none", "AES_GCM_16_256-HMAC_SHA2_384-DH20"},
		{"aes_gcm256-sha2-dh19;addke1=none", "AES_GCM_16_256-HMAC_SHA2_256-DH19"},
		{"aes256-sha1-modp1024", "AES_CBC_256-HMAC_SHA1-HMAC_SHA1_96-MODP1024"}, // only when written
		{"aes128-sha1-modp1536", "AES_CBC_128-HMAC_SHA1-HMAC_SHA1_96-MODP1536"},
		{"aes_ccm256-sha2_512-dh17+dh18+dh32", "AES_CCM_16_256-HMAC_SHA2_512-MODP6144+MODP8192+CURVE448"},
		{"aes_ccm-sha2-dh14", "AES_CCM_16_256+AES_CCM_16_128-HMAC_SHA2_256-MODP2048"},
		{"aes_ccm_c_192-sha2-dh14", "AES_CCM_16_192-HMAC_SHA2_256-MODP2048"},
		{"aes_gcm256;prf=sha2;ke=dh19+dh20", "AES_GCM_16_256-HMAC_SHA2_256-DH19+DH20"},
		{"encrypt=aes256;prf=sha2_512;integ=sha2_256;ke=modp3072", "AES_CBC_256-HMAC_SHA2_512-HMAC_SHA2_256_128-MODP3072"},
		{"aes256+aes256_256-sha2+sha2_256-dh19", ""},
		{"aes256+aes_cbc_256-sha2+sha2_256-dh19+ecp256", "AES_CBC_256-HMAC_SHA2_256-HMAC_SHA2_256_128-DH19"},
	} {
		t.Run(tc.in, func(t *testing.T) {
			p, err := ParseIKE(tc.in)
			if tc.want == "" {
				if err == nil {
					t.Fatalf("accepted as %v", p)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, p.String()); diff != "" {
				t.Fatal(diff)
			}
			again, err := ParseIKE(p.String())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(p, again); diff != "" {
				t.Fatal("printed and read again:", diff)
			}
		})
	}
}

func TestParseESP(t *testing.T) {
	both := []iana.SN{iana.SN_ESN, iana.SN_32}
	for _, tc := range []struct {
		in   string
		sn   []iana.SN
		want string
	}{
		{"", both, espDefault},
		{"", nil, espDefault},
		{"aes_gcm256", []iana.SN{iana.SN_32}, "AES_GCM_16_256;SN=NO_ESN"},
		{"aes_gcm256-none", []iana.SN{iana.SN_ESN}, "AES_GCM_16_256;SN=ESN"},
		{"aes_gcm256-null-dh19", []iana.SN{iana.SN_ESN}, "AES_GCM_16_256-DH19;SN=ESN"},
		{"aes128-sha2_512", both, "AES_CBC_128-HMAC_SHA2_512_256;SN=ESN+NO_ESN"},
		{"aes128-sha2_512-modp2048", both, "AES_CBC_128-HMAC_SHA2_512_256-MODP2048;SN=ESN+NO_ESN"},
		{"aes128-sha2_512;modp2048+none", both, "AES_CBC_128-HMAC_SHA2_512_256-MODP2048+NONE;SN=ESN+NO_ESN"},
		{"aes128-sha2_512-none+dh19", both, "AES_CBC_128-HMAC_SHA2_512_256;KE=NONE+DH19;SN=ESN+NO_ESN"},
		{"aes_gcm256-none-none", both, "AES_GCM_16_256;KE=NONE;SN=ESN+NO_ESN"},
		{"aes_gcm256;none", both, "AES_GCM_16_256;KE=NONE;SN=ESN+NO_ESN"},
		{"aes256gcm16-x25519-esn-noesn", nil, "AES_GCM_16_256-CURVE25519;SN=ESN+NO_ESN"},
		{"aes256gcm16-noesn", both, "AES_GCM_16_256;SN=NO_ESN"},
		{"aes256-aes128-sha256-sha1-modp2048", both, "AES_CBC_256+AES_CBC_128-HMAC_SHA2_256_128+HMAC_SHA1_96-MODP2048;SN=ESN+NO_ESN"},
		{"aes256-sha256-modpnone", both, "AES_CBC_256-HMAC_SHA2_256_128;KE=NONE;SN=ESN+NO_ESN"},
		{"aes256gcm16-ecp384-modpnone", both, "AES_GCM_16_256-DH20+NONE;SN=ESN+NO_ESN"},
		{"aes128-sha1", both, "AES_CBC_128-HMAC_SHA1_96;SN=ESN+NO_ESN"},
		{"aes_ccm_256", both, "AES_CCM_16_256;SN=ESN+NO_ESN"},
		{"aes128ccm", both, "AES_CCM_16_128;SN=ESN+NO_ESN"},
		{"aes_gcm256;sn=no", both, "AES_GCM_16_256;SN=NO_ESN"},
		{"aes_gcm128,aes128", []iana.SN{iana.SN_32}, "AES_GCM_16_128;SN=NO_ESN,AES_CBC_128-HMAC_SHA2_512_256+HMAC_SHA2_256_128;SN=NO_ESN"},
	} {
		t.Run(tc.in, func(t *testing.T) {
			p, err := ParseESP(tc.in, tc.sn)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, p.String()); diff != "" {
				t.Fatal(diff)
			}
			again, err := ParseESP(p.String(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(p, again); diff != "" {
				t.Fatal("printed and read again:", diff)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	for _, tc := range []struct {
		esp    bool
		in     string
		word   string
		column int
		lacks  bool
		text   string // somewhere in the message
	}{
		{in: "aes_gmc256-sha2", word: "aes_gmc256", column: 1, text: `did you mean "aes_gcm256"?`},
		{in: "aes_gcm256-sha3-dh19", word: "sha3", column: 12, text: "did you mean"},
		{in: "aes_gcm256-sha2-modp2049", word: "modp2049", column: 17, text: `did you mean "modp2048"?`},
		{in: "aes256-sha2,aes128-wibblewobble", word: "wibblewobble", column: 20, text: "known: HMAC_SHA2_512, "},
		{in: "aes512", word: "aes512", column: 1, text: "keys of 256, 128 or 192 bits"},
		{in: "aes_gcm_16_99999999999", word: "aes_gcm_16_99999999999", column: 1, text: "not a known encryption algorithm"},
		{in: "chacha20_poly1305_128", word: "chacha20_poly1305_128", column: 1, text: "256 bits only"},
		{in: "3des-sha1-modp1024", word: "3des", column: 1, lacks: true, text: "3DES_CBC, a known encryption algorithm, which ikegod does not implement"},
		{in: "aes128-md5", word: "md5", column: 8, lacks: true, text: "implemented: HMAC_SHA2_512, HMAC_SHA2_384, HMAC_SHA2_256, HMAC_SHA1"},
		{in: "aes128-sha2-modp768", word: "modp768", column: 13, lacks: true, text: "MODP768"},
		{in: "aes128-sha2-dh19;addke1=dh20", word: "addke1", column: 18, lacks: true, text: "additional key exchange (RFC 9370)"},
		{in: "aes128-sha2-dh19;addke1=dh2000", word: "dh2000", column: 25, text: "not a known key exchange"},
		{in: "aes128-sha2-dh19;addke8=none", word: "addke8", column: 18, text: "not a transform type"},
		{in: "aes256gcm16-prfsha384-x25519-ke1_mlkem768", word: "ke1_mlkem768", column: 30, lacks: true, text: "RFC 9370"},
		{in: "aes256gcm16-prfsha384-sha384-x25519", word: "sha384", column: 23, text: "authenticates by itself"},
		{in: "aes256-prfsha384-sha3-x25519", word: "sha3", column: 18, text: "did you mean"},
		{in: "aes256-sha256-esn", word: "esn", column: 15, text: "no extended sequence numbers"},
		{in: "sha256-prfsha256-x25519", word: "sha256", column: 1, text: "not a known encryption algorithm"},
		{in: "aes256-3des-sha256-x25519", word: "3des", column: 8, lacks: true, text: "3DES_CBC"},
		{in: "aes256-aes128ccm8-sha256-x25519", word: "aes128ccm8", column: 8, lacks: true, text: "AES_CCM_8"},
		{esp: true, in: "aes256-prfsha256", word: "prfsha256", column: 8, text: "takes the PRF of its IKE SA"},
		{in: "aes128-sha2-dh19;addke1=ml_kem_768", word: "addke1", column: 18, lacks: true, text: "RFC 9370"},
		{in: "aes128-dh19-sha2", word: "sha2", column: 13, text: "the order is ENCRYPTION-PRF-INTEGRITY-KEYEXCHANGE"},
		{in: "aes128-sha2-sha2-sha2", word: "sha2", column: 18, text: "second"},
		{in: "aes128-sha2-dh19;dh20", word: "dh20", column: 18, text: "second key exchange list"},
		{in: "aes128-sha2-none", word: "none", column: 13, text: "without integrity protection"},
		{in: "aes_gcm128-sha2-sha2-dh19", word: "sha2", column: 17, text: "authenticates by itself"},
		{in: "aes128;ke=none", word: "none", column: 11, text: "an IKE SA cannot do without"},
		{in: "aes128;foo=bar", word: "foo", column: 8, text: "not a transform type"},
		{in: "aes128;sn=esn", word: "sn", column: 8, text: "no extended sequence numbers"},
		{in: "aes128,,aes256", word: "", column: 8, text: "a name is missing"},
		{in: "aes128-", word: "", column: 8, text: "missing"},
		{in: "aes128+-sha2", word: "", column: 8, text: "missing"},
		{in: ",", word: "", column: 1, text: "missing"},
		{in: "sha2-modp2048", word: "sha2", column: 1, text: "not a known encryption algorithm"},
		{esp: true, in: "aes_gcm256-sha2", word: "sha2", column: 12, text: "authenticates by itself; leave it out"},
		{esp: true, in: "aes128-none", word: "none", column: 8, text: "without integrity protection"},
		{esp: true, in: "aes128;prf=sha2", word: "prf", column: 8, text: "takes the PRF of its IKE SA"},
		{esp: true, in: "null-sha2", word: "null", column: 1, lacks: true, text: "NULL"},
		{in: strings.Repeat("aes256,", 70) + "aes256", word: "aes256", column: 449, text: "at most 64"},
		{in: strings.Repeat("a", 9000), word: strings.Repeat("a", 16) + "...", column: 1, text: "9000 octets"},
		{in: strings.Repeat("a", 100), word: strings.Repeat("a", 64) + "...", column: 1, text: "not a known"},
	} {
		t.Run(tc.in[:min(len(tc.in), 40)], func(t *testing.T) {
			var err error
			if tc.esp {
				_, err = ParseESP(tc.in, nil)
			} else {
				_, err = ParseIKE(tc.in)
			}
			var pe *ParseError
			if !errors.As(err, &pe) {
				t.Fatalf("error %v, expected a ParseError", err)
			}
			if pe.Word != tc.word || pe.Column != tc.column {
				t.Errorf("names %q at column %d, expected %q at %d", pe.Word, pe.Column, tc.word, tc.column)
			}
			if errors.Is(err, ErrUnsupported) != tc.lacks {
				t.Errorf("errors.Is(err, ErrUnsupported) is %v", !tc.lacks)
			}
			if !strings.Contains(err.Error(), tc.text) {
				t.Errorf("message %q lacks %q", err, tc.text)
			}
		})
	}
}

// FuzzParse reads any value and checks that what is accepted prints as something that reads the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", ikeDefault, espDefault, "aes_gcm256-sha2_512-dh19", "aes256-sha2;modp2048+dh31", "aes,chacha20_poly1305;ke=none+dh19;sn=no", "3des!",
		"aes256gcm16-prfsha384-ecp384", "aes128-aes256-sha256-sha1-modp1024-x448!", "aes128ccm128-esn-noesn", "aes_ccm256;addke1=none", "aes256gcm16-ke1_none",
	} {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, s string, esp bool) {
		read := ParseIKE
		if esp {
			read = func(s string) (Proposals, error) { return ParseESP(s, nil) }
		}
		p, err := read(s)
		if err != nil {
			var pe *ParseError
			if !errors.As(err, &pe) || pe.Column < 1 || pe.Column > len(s)+1 {
				t.Fatalf("error %#v", err)
			}
			return
		}
		if len(p) == 0 {
			t.Fatal("no proposal and no error")
		}
		again, err := read(p.String())
		if err != nil {
			t.Fatalf("%q printed as %q: %v", s, p, err)
		}
		if diff := cmp.Diff(p, again); diff != "" {
			t.Fatalf("%q printed as %q: %s", s, p, diff)
		}
	})
}

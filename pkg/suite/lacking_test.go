package suite

import (
	"testing"

	"github.com/ikegod/ikegod/pkg/iana"
)

func TestWithout(t *testing.T) {
	const chacha, sha1 = "the kernel was built without it", "a policy forbids it"
	lacking := Lacking{Encr: map[iana.Encr]string{iana.ENCR_CHACHA20_POLY1305: chacha}, Integ: map[iana.Integ]string{iana.AUTH_HMAC_SHA1_96: sha1}}
	for _, c := range []struct{ esp, left, why string }{
		{"aes_gcm256", "AES_GCM_16_256;SN=NO_ESN", ""},
		{"aes_gcm256+chacha20_poly1305", "AES_GCM_16_256;SN=NO_ESN", "CHACHA20_POLY1305: " + chacha},
		{"chacha20_poly1305", "", "CHACHA20_POLY1305: " + chacha},
		{"chacha20_poly1305,chacha20_poly1305-dh19", "", "CHACHA20_POLY1305: " + chacha},
		{"aes256-sha1", "", "HMAC_SHA1_96: " + sha1},
		{"chacha20_poly1305,aes256-sha1+sha2_256", "AES_CBC_256-HMAC_SHA2_256_128;SN=NO_ESN", "CHACHA20_POLY1305: " + chacha + "; HMAC_SHA1_96: " + sha1},
	} {
		p, err := ParseESP(c.esp, []iana.SN{iana.SN_32})
		if err != nil {
			t.Fatal(err)
		}
		before := p.String()
		left, why := p.Without(lacking)
		if left.String() != c.left || why != c.why {
			t.Errorf("%s: left %q because of %q, want %q because of %q", c.esp, left, why, c.left, c.why)
		}
		if p.String() != before {
			t.Errorf("%s has become %s", before, p)
		}
		if all, why := p.Without(Lacking{}); all.String() != before || why != "" {
			t.Errorf("%s with nothing lacking: %s, %q", before, all, why)
		}
	}
}

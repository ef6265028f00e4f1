package suite

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/pkg/iana"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// implementedPRFs are the rows of the table with their hash by another road.
var implementedPRFs = map[iana.PRF]func() hash.Hash{
	iana.PRF_HMAC_SHA1:     sha1.New,
	iana.PRF_HMAC_SHA2_256: sha256.New,
	iana.PRF_HMAC_SHA2_384: sha512.New384,
	iana.PRF_HMAC_SHA2_512: sha512.New,
}

// TestPrf runs the vectors of RFC 4868 2.7.1.
func TestPrf(t *testing.T) {
	bySuffix := map[string]iana.PRF{"256": iana.PRF_HMAC_SHA2_256, "384": iana.PRF_HMAC_SHA2_384, "512": iana.PRF_HMAC_SHA2_512}
	for _, v := range rfc4868PRF {
		t.Run(v.name, func(t *testing.T) {
			prf, data := bySuffix[v.name[len(v.name)-3:]], unhex(t, v.data)
			if got := Prf(prf, unhex(t, v.key), data); !bytes.Equal(got, unhex(t, v.result)) {
				t.Fatalf("%x, expected %s", got, v.result)
			}
			if got := Prf(prf, unhex(t, v.key), data[:3], nil, data[3:]); !bytes.Equal(got, unhex(t, v.result)) {
				t.Fatalf("in pieces %x, expected %s", got, v.result)
			}
		})
	}
}

// TestMAC runs the vectors of RFC 4868 2.7.2.
func TestMAC(t *testing.T) {
	bySize := map[string]iana.Integ{"256": iana.AUTH_HMAC_SHA2_256_128, "384": iana.AUTH_HMAC_SHA2_384_192, "512": iana.AUTH_HMAC_SHA2_512_256}
	for _, v := range rfc4868Auth {
		t.Run(v.name, func(t *testing.T) {
			s := Suite{Encr: Encr{iana.ENCR_AES_CBC, 128}, Integ: bySize[v.name[4:7]]}
			key := unhex(t, v.key)
			if s.IntegKeyLen() != len(key) {
				t.Fatalf("key of %d octets, expected %d", s.IntegKeyLen(), len(key))
			}
			mac, err := s.NewMAC(key)
			if err != nil {
				t.Fatal(err)
			}
			mac.Write(unhex(t, v.data))
			if got := mac.Sum(nil)[:s.ICVLen()]; !bytes.Equal(got, unhex(t, v.result)) {
				t.Fatalf("%x, expected %s", got, v.result)
			}
		})
	}
}

// TestRFC2202 runs the vectors of RFC 2202 3: the whole result as a PRF, and with keys of 20 octets the first 96 bits as integrity (RFC 2404).
func TestRFC2202(t *testing.T) {
	for i, v := range rfc2202 {
		key, data, want := unhex(t, v.key), unhex(t, v.data), unhex(t, v.result)
		if got := Prf(iana.PRF_HMAC_SHA1, key, data); !bytes.Equal(got, want) {
			t.Errorf("case %d: %x, expected %x", i+1, got, want)
		}
		s := Suite{Encr: Encr{iana.ENCR_AES_CBC, 128}, Integ: iana.AUTH_HMAC_SHA1_96}
		mac, err := s.NewMAC(key)
		if len(key) != s.IntegKeyLen() {
			if err == nil {
				t.Errorf("case %d: key of %d octets taken", i+1, len(key))
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		mac.Write(data)
		if got := mac.Sum(nil)[:s.ICVLen()]; !bytes.Equal(got, want[:12]) {
			t.Errorf("case %d: %x, expected %x", i+1, got, want[:12])
		}
	}
}

// slowPrfPlus is prf+ written down from RFC 7296 2.13: T1 = prf(K, S | 0x01), Tn = prf(K, Tn-1 | S | n).
func slowPrfPlus(h func() hash.Hash, key, seed []byte, n int) []byte {
	var all, last []byte
	for i := 1; i <= 255; i++ {
		mac := hmac.New(h, key)
		mac.Write(append(append(append([]byte{}, last...), seed...), byte(i)))
		last = mac.Sum(nil)
		all = append(all, last...)
	}
	return all[:n]
}

func TestPrfPlus(t *testing.T) {
	key, seed := []byte("key"), []byte("a seed of some length")
	for prf, h := range implementedPRFs {
		size := PRFLen(prf)
		if size != h().Size() {
			t.Fatalf("%v: %d octets", prf, size)
		}
		for _, n := range []int{0, 1, size - 1, size, size + 1, 3*size + 7, 255 * size} {
			if got := PrfPlus(prf, key, seed, n); !bytes.Equal(got, slowPrfPlus(h, key, seed, n)) {
				t.Errorf("%v: %d octets differ", prf, n)
			}
		}
		if got := PrfPlus(prf, key, seed, 255*size+1); got != nil {
			t.Errorf("%v: more than 255 blocks gave %d octets", prf, len(got))
		}
	}
	if Prf(iana.PRF_HMAC_MD5, key, seed) != nil || PrfPlus(iana.PRF_HMAC_MD5, key, seed, 1) != nil || PRFLen(iana.PRF_HMAC_MD5) != 0 {
		t.Error("a PRF that is not implemented gave octets")
	}
	if PrfPlus(iana.PRF_HMAC_SHA2_256, key, seed, -1) != nil {
		t.Error("a negative length gave octets")
	}
}

// TestDeriveIKE compares with the formulas of RFC 7296 2.14, cut by hand.
func TestDeriveIKE(t *testing.T) {
	secret, ni, nr := bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 48)
	const spii, spir = 0x0102030405060708, 0x1112131415161718
	seed := append(append([]byte{}, ni...), nr...)
	h := hmac.New(sha512.New, seed)
	h.Write(secret)
	skeyseed := h.Sum(nil)
	seed = append(seed, unhex(t, "0102030405060708 1112131415161718")...)
	for _, tc := range []struct {
		s    Suite
		a, e int
	}{
		{Suite{Encr: Encr{iana.ENCR_AES_GCM_16, 256}, PRF: iana.PRF_HMAC_SHA2_512}, 0, 36},
		{Suite{Encr: Encr{iana.ENCR_AES_GCM_16, 128}, PRF: iana.PRF_HMAC_SHA2_512}, 0, 20},
		{Suite{Encr: Encr{iana.ENCR_CHACHA20_POLY1305, 0}, PRF: iana.PRF_HMAC_SHA2_512}, 0, 36},
		{Suite{Encr: Encr{iana.ENCR_AES_CBC, 192}, PRF: iana.PRF_HMAC_SHA2_512, Integ: iana.AUTH_HMAC_SHA2_384_192}, 48, 24},
	} {
		want := slowPrfPlus(sha512.New, skeyseed, seed, 3*64+2*tc.a+2*tc.e)
		k := tc.s.DeriveIKE(secret, ni, nr, spii, spir)
		var got []byte
		for _, part := range []struct {
			name string
			key  []byte
			n    int
		}{{"SK_d", k.D, 64}, {"SK_ai", k.Ai, tc.a}, {"SK_ar", k.Ar, tc.a}, {"SK_ei", k.Ei, tc.e}, {"SK_er", k.Er, tc.e}, {"SK_pi", k.Pi, 64}, {"SK_pr", k.Pr, 64}} {
			if len(part.key) != part.n {
				t.Fatalf("%v: %s of %d octets, expected %d", tc.s, part.name, len(part.key), part.n)
			}
			got = append(got, part.key...)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%v: keys differ", tc.s)
		}
	}
}

// TestDeriveChild compares with the formulas of RFC 7296 2.17, with and without PFS.
func TestDeriveChild(t *testing.T) {
	skd, ni, nr, secret := bytes.Repeat([]byte{9}, 32), bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 16), bytes.Repeat([]byte{3}, 32)
	for _, tc := range []struct {
		s      Suite
		e, a   int
		secret []byte
	}{
		{Suite{Encr: Encr{iana.ENCR_AES_GCM_16, 256}}, 36, 0, nil},
		{Suite{Encr: Encr{iana.ENCR_AES_GCM_16, 128}}, 20, 0, secret},
		{Suite{Encr: Encr{iana.ENCR_AES_CBC, 256}, Integ: iana.AUTH_HMAC_SHA2_512_256}, 32, 64, nil},
	} {
		seed := append(append(append([]byte{}, tc.secret...), ni...), nr...)
		want := slowPrfPlus(sha256.New, skd, seed, 2*tc.e+2*tc.a)
		k := tc.s.DeriveChild(iana.PRF_HMAC_SHA2_256, skd, tc.secret, ni, nr)
		if len(k.EncrI) != tc.e || len(k.IntegI) != tc.a || len(k.EncrR) != tc.e || len(k.IntegR) != tc.a {
			t.Fatalf("%v: keys of %d, %d, %d and %d octets", tc.s, len(k.EncrI), len(k.IntegI), len(k.EncrR), len(k.IntegR))
		}
		if got := bytes.Join([][]byte{k.EncrI, k.IntegI, k.EncrR, k.IntegR}, nil); !bytes.Equal(got, want) {
			t.Errorf("%v: keys differ", tc.s)
		}
	}
}

func TestKeysNeverPrint(t *testing.T) {
	key := []byte("correct horse battery staple")
	nested := struct {
		I  IKEKeys
		C  *ChildKeys
		CS []ChildKeys
	}{IKEKeys{D: key, Ei: key}, &ChildKeys{EncrI: key}, []ChildKeys{{IntegR: key}}}
	for _, v := range []any{nested.I, &nested.I, nested.C, *nested.C, nested.CS, nested} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			out := fmt.Sprintf(verb, v)
			if strings.Contains(out, "horse") || strings.Contains(strings.ToLower(out), "686f727365") || strings.Contains(out, "99 111 114") {
				t.Errorf("%s of %T prints a key: %s", verb, v, out)
			}
		}
		out, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(out), "Y29ycmVjd") {
			t.Errorf("JSON of %T prints a key: %s", v, out)
		}
	}
}

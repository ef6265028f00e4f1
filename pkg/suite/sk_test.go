package suite

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/pkg/iana"
)

// everyCipher is all combinations of encryption and integrity that are implemented.
func everyCipher() []Suite {
	var all []Suite
	for i := range encrs {
		a := &encrs[i]
		if !a.supported {
			continue
		}
		bits := a.keyBits
		if len(bits) == 0 {
			bits = []uint16{0}
		}
		for _, b := range bits {
			s := Suite{Encr: a.encr(b)}
			if a.aead {
				all = append(all, s)
				continue
			}
			for j := range integs {
				if integs[j].hash != nil {
					s.Integ = iana.Integ(integs[j].id)
					all = append(all, s)
				}
			}
		}
	}
	return all
}

// keys makes keys of the right size.
func keys(s Suite) (encr, integ []byte) {
	encr, integ = make([]byte, s.EncrKeyLen()), make([]byte, s.IntegKeyLen())
	newStream("encr").Read(encr)
	newStream("integ").Read(integ)
	return encr, integ
}

// TestRFC7634IKE is the whole message of RFC 7634 appendix B.
func TestRFC7634IKE(t *testing.T) {
	s := Suite{Encr: Encr{iana.ENCR_CHACHA20_POLY1305, 0}}
	key := unhex(t, "808182838485868788898a8b8c8d8e8f 909192939495969798999a9b9c9d9e9f a0a1a2a3")
	header := unhex(t, "c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d7 2e202500000000090000004529000029")
	plain := unhex(t, "0000000c000040010000000a")
	want := unhex(t, `c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d7 2e202500000000090000004529000029 10111213141516176103 94701f8d017f
		7c12924889 6b71bfe25236efd7cdc67066906315b2`)

	if n := s.SKOverhead(len(plain)); len(header)+len(plain)+n != len(want) {
		t.Errorf("overhead of %d octets", n)
	}
	got, err := s.SealSK(bytes.Clone(header), key, nil, plain, 0x1011121314151617, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("sealed\n%x, expected\n%x", got, want)
	}
	opened, err := s.OpenSK(want, len(header), key, nil)
	if err != nil || !bytes.Equal(opened, plain) {
		t.Errorf("opened %x, error %v", opened, err)
	}
}

// TestCBCByHand builds the payload of RFC 7296 3.14 step by step.
func TestCBCByHand(t *testing.T) {
	s := Suite{Encr: Encr{iana.ENCR_AES_CBC, 128}, Integ: iana.AUTH_HMAC_SHA2_256_128}
	encr, integ := keys(s)
	iv, header := bytes.Repeat([]byte{0x55}, 16), []byte("header and generic header.......")
	for n := range 40 {
		plain := bytes.Repeat([]byte{0xab}, n)
		pad := 15 - n%16
		block, err := aes.NewCipher(encr)
		if err != nil {
			t.Fatal(err)
		}
		body := append(append(bytes.Clone(plain), make([]byte, pad)...), byte(pad))
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(body, body)
		want := append(append(bytes.Clone(header), iv...), body...)
		mac := hmac.New(sha256.New, integ)
		mac.Write(want)
		want = append(want, mac.Sum(nil)[:16]...)

		got, err := s.SealSK(bytes.Clone(header), encr, integ, plain, 7, bytes.NewReader(iv))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%d octets: sealed\n%x, expected\n%x", n, got, want)
		}
	}
}

func TestSealAndOpen(t *testing.T) {
	header := []byte("twenty-eight octets and four ...")
	for _, s := range everyCipher() {
		t.Run(s.Transform(), func(t *testing.T) {
			encr, integ := keys(s)
			for _, n := range []int{0, 1, 14, 15, 16, 17, 100, 1400, 65000} {
				plain := make([]byte, n)
				newStream("plain").Read(plain)
				sealed, err := s.SealSK(bytes.Clone(header), encr, integ, plain, uint64(n), newStream("iv"))
				if err != nil {
					t.Fatal(err)
				}
				if len(sealed) != len(header)+n+s.SKOverhead(n) {
					t.Fatalf("%d octets sealed to %d, announced %d", n, len(sealed), len(header)+n+s.SKOverhead(n))
				}
				if !bytes.Equal(sealed[:len(header)], header) {
					t.Fatal("the header was changed")
				}
				got, err := s.OpenSK(bytes.Clone(sealed), len(header), encr, integ)
				if err != nil || !bytes.Equal(got, plain) {
					t.Fatalf("%d octets: opened %d, error %v", n, len(got), err)
				}
			}
		})
	}
}

// TestEveryBitCounts changes every bit of a sealed message, header included, cuts it at every length, and opens it with the wrong keys.
func TestEveryBitCounts(t *testing.T) {
	header := []byte("header")
	for _, s := range everyCipher() {
		t.Run(s.Transform(), func(t *testing.T) {
			encr, integ := keys(s)
			sealed, err := s.SealSK(bytes.Clone(header), encr, integ, []byte("some payloads"), 1, newStream("iv"))
			if err != nil {
				t.Fatal(err)
			}
			refused := func(what string, msg, encr, integ []byte) {
				t.Helper()
				if plain, err := s.OpenSK(msg, len(header), encr, integ); !errors.Is(err, ErrIntegrity) || plain != nil {
					t.Fatalf("%s: opened %x, error %v", what, plain, err)
				}
			}
			for i := range len(sealed) * 8 {
				bad := bytes.Clone(sealed)
				bad[i/8] ^= 1 << (i % 8)
				refused(fmt.Sprintf("bit %d", i), bad, encr, integ)
			}
			for n := len(header); n < len(sealed); n++ {
				refused(fmt.Sprintf("%d octets", n), bytes.Clone(sealed[:n]), encr, integ)
			}
			refused("one octet more", append(bytes.Clone(sealed), 0), encr, integ)
			other := bytes.Clone(encr)
			other[len(other)-1] ^= 1 // an AEAD's salt
			if s.AEAD() {
				refused("another salt", bytes.Clone(sealed), other, integ)
			} else {
				wrong := bytes.Clone(integ)
				wrong[0] ^= 1
				refused("another integrity key", bytes.Clone(sealed), encr, wrong)
			}
			for _, off := range []int{-1, len(sealed) + 1} {
				if _, err := s.OpenSK(bytes.Clone(sealed), off, encr, integ); !errors.Is(err, ErrIntegrity) {
					t.Fatalf("offset %d: error %v", off, err)
				}
			}
		})
	}
}

// TestPadding opens authentic messages whose padding the sender chose: any length and content is fine, but not more than there is.
func TestPadding(t *testing.T) {
	header := []byte("header")
	for _, s := range []Suite{
		{Encr: Encr{iana.ENCR_AES_GCM_16, 256}},
		{Encr: Encr{iana.ENCR_AES_CBC, 256}, Integ: iana.AUTH_HMAC_SHA2_512_256},
	} {
		encr, integ := keys(s)
		// Sealed with our own padding, the rest of the plaintext plays the peer's: text, padding, pad length.
		seal := func(inner []byte) []byte {
			if s.AEAD() {
				aead, salt, err := s.NewAEAD(encr)
				if err != nil {
					t.Fatal(err)
				}
				iv := []byte("12345678")
				msg := append(bytes.Clone(header), iv...)
				return aead.Seal(msg, append(salt[:], iv...), inner, header)
			}
			block, err := s.NewCBC(encr)
			if err != nil {
				t.Fatal(err)
			}
			iv := make([]byte, 16)
			msg := append(append(bytes.Clone(header), iv...), inner...)
			cipher.NewCBCEncrypter(block, iv).CryptBlocks(msg[len(header)+16:], inner)
			mac, err := s.NewMAC(integ)
			if err != nil {
				t.Fatal(err)
			}
			mac.Write(msg)
			return append(msg, mac.Sum(nil)[:s.ICVLen()]...)
		}
		for _, tc := range []struct {
			length, pad int
			ok          bool
		}{{16, 0, true}, {16, 15, true}, {16, 16, false}, {16, 255, false}, {256, 255, true}, {256, 240, true}, {32, 31, true}, {32, 32, false}} {
			inner := bytes.Repeat([]byte{0xcc}, tc.length)
			inner[tc.length-1] = byte(tc.pad)
			plain, err := s.OpenSK(seal(inner), len(header), encr, integ)
			if tc.ok && (err != nil || len(plain) != tc.length-1-tc.pad) || !tc.ok && !errors.Is(err, ErrIntegrity) {
				t.Errorf("%v: %d octets with pad length %d: %d octets, error %v", s, tc.length, tc.pad, len(plain), err)
			}
		}
	}
}

func TestSealErrors(t *testing.T) {
	gcm := Suite{Encr: Encr{iana.ENCR_AES_GCM_16, 256}}
	cbc := Suite{Encr: Encr{iana.ENCR_AES_CBC, 256}, Integ: iana.AUTH_HMAC_SHA2_256_128}
	secret := []byte("correct horse battery staple")
	for _, tc := range []struct {
		name        string
		s           Suite
		encr, integ []byte
		rand        io.Reader
	}{
		{"short key of an AEAD", gcm, secret, nil, constant(1)},
		{"short key of a cipher", cbc, secret, make([]byte, 32), constant(1)},
		{"short key of a MAC", cbc, make([]byte, 32), secret, constant(1)},
		{"no random octets", cbc, make([]byte, 32), make([]byte, 32), bytes.NewReader(nil)},
		{"not implemented", Suite{Encr: Encr{iana.ENCR_3DES, 0}, Integ: iana.AUTH_HMAC_SHA2_256_128}, secret, secret, constant(1)},
		{"not implemented AEAD", Suite{Encr: Encr{iana.ENCR_AES_CCM_16, 256}}, secret, secret, constant(1)},
		{"CBC without integrity", Suite{Encr: Encr{iana.ENCR_AES_CBC, 256}}, make([]byte, 32), nil, constant(1)},
		{"a key length that does not exist", Suite{Encr: Encr{iana.ENCR_AES_GCM_16, 512}}, make([]byte, 68), nil, constant(1)},
		{"no algorithm", Suite{}, nil, nil, constant(1)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := tc.s.SealSK([]byte("h"), tc.encr, tc.integ, []byte("p"), 0, tc.rand)
			if err == nil || out != nil {
				t.Fatalf("sealed %x, error %v", out, err)
			}
			if strings.Contains(err.Error(), "horse") {
				t.Fatal("the error holds the key")
			}
			if tc.name == "no random octets" {
				return
			}
			if _, err := tc.s.OpenSK(make([]byte, 100), 1, tc.encr, tc.integ); err == nil || errors.Is(err, ErrIntegrity) {
				t.Fatalf("opening: error %v", err)
			}
		})
	}
}

func FuzzOpenSK(f *testing.F) {
	all := everyCipher()
	for i, s := range all {
		encr, integ := keys(s)
		sealed, err := s.SealSK([]byte("header"), encr, integ, []byte("payloads"), 1, newStream("iv"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), 6, sealed)
	}
	f.Fuzz(func(t *testing.T, which uint8, off int, msg []byte) {
		s := all[int(which)%len(all)]
		encr, integ := keys(s)
		plain, err := s.OpenSK(bytes.Clone(msg), off, encr, integ)
		if err != nil {
			if !errors.Is(err, ErrIntegrity) || plain != nil {
				t.Fatalf("opened %x, error %v", plain, err)
			}
			return
		}
		if off < 0 || off+s.SKOverhead(0) > len(msg)+s.BlockLen() || len(plain) >= len(msg) {
			t.Fatalf("%d octets out of %d", len(plain), len(msg))
		}
	})
}

func BenchmarkSK(b *testing.B) {
	header, plain := make([]byte, 32), make([]byte, 256) // about the size of an IKE_AUTH with PSK
	for _, s := range []Suite{
		{Encr: Encr{iana.ENCR_AES_GCM_16, 256}},
		{Encr: Encr{iana.ENCR_AES_GCM_16, 128}},
		{Encr: Encr{iana.ENCR_CHACHA20_POLY1305, 0}},
		{Encr: Encr{iana.ENCR_AES_CCM_16, 256}},
		{Encr: Encr{iana.ENCR_AES_CBC, 256}, Integ: iana.AUTH_HMAC_SHA2_256_128},
		{Encr: Encr{iana.ENCR_AES_CBC, 256}, Integ: iana.AUTH_HMAC_SHA1_96},
	} {
		encr, integ := keys(s)
		buf := make([]byte, 0, 1024)
		rand := newStream("iv")
		b.Run("seal/"+s.Transform(), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				if _, err := s.SealSK(append(buf, header...), encr, integ, plain, 1, rand); err != nil {
					b.Fatal(err)
				}
			}
		})
		sealed, err := s.SealSK(header, encr, integ, plain, 1, rand)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("open/"+s.Transform(), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				if _, err := s.OpenSK(append(buf, sealed...), len(header), encr, integ); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

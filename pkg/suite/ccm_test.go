package suite

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/ikegod/ikegod/pkg/iana"
)

func newTestCCM(t testing.TB, key []byte, nonceLen, overhead int) *ccm {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	return newCCM(block, nonceLen, overhead)
}

// ascending is n octets that count up from first.
func ascending(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

// TestCCMVectors: packet vectors of RFC 3610 8, the four examples of NIST SP 800-38C C, the last of which has 65536 octets of additional data, and
// one of NIST's CAVS files with a tag of 16 octets (VNT128, Nlen = 7).
func TestCCMVectors(t *testing.T) {
	rfcKey := ascending(0xc0, 16)
	nistKey := ascending(0x40, 16)
	for _, v := range []struct {
		name                  string
		key, nonce, aad, text []byte
		want                  string
		tag                   int
	}{
		{
			"RFC 3610 1", rfcKey, unhex(t, "00000003020100a0a1a2a3a4a5"), ascending(0, 8), ascending(8, 23),
			"588c979a61c663d2f066d0c2c0f989806d5f6b61dac384 17e8d12cfdf926e0", 8,
		},
		{
			"RFC 3610 2", rfcKey, unhex(t, "00000004030201a0a1a2a3a4a5"), ascending(0, 8), ascending(8, 24),
			"72c91a36e135f8cf291ca894085c87e3cc15c439c9e43a3b a091d56e10400916", 8,
		},
		{
			"RFC 3610 3", rfcKey, unhex(t, "00000005040302a0a1a2a3a4a5"), ascending(0, 8), ascending(8, 25),
			"51b1e5f44a197d1da46b0f8e2d282ae871e838bb64da859657 4adaa76fbd9fb0c5", 8,
		},
		{
			"RFC 3610 7", rfcKey, unhex(t, "00000009080706a0a1a2a3a4a5"), ascending(0, 8), ascending(8, 23),
			"0135d1b2c95f41d5d1d4fec185d166b8094e999dfed96c 048c56602c97acbb7490", 10,
		},
		{"SP 800-38C 1", nistKey, ascending(0x10, 7), ascending(0, 8), ascending(0x20, 4), "7162015b4dac255d", 4},
		{"SP 800-38C 2", nistKey, ascending(0x10, 8), ascending(0, 16), ascending(0x20, 16), "d2a1f0e051ea5f62081a7792073d593d1fc64fbfaccd", 6},
		{
			"SP 800-38C 3", nistKey, ascending(0x10, 12), ascending(0, 20), ascending(0x20, 24),
			"e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5484392fbc1b09951", 8,
		},
		{
			"SP 800-38C 4", nistKey, ascending(0x10, 13), ascending(0, 65536), ascending(0x20, 32),
			"69915dad1e84c6376a68c2967e4dab615ae0fd1faec44cc484828529463ccf72 b4ac6bec93e8598e7f0dadbcea5b", 14,
		},
		{
			"CAVS VNT128", unhex(t, "c0425ed20cd28fda67a2bcc0ab342a49"), unhex(t, "37667f334dce90"),
			unhex(t, "0b3e8d9785c74c8f41ea257d4d87495ffbbb335542b12e0d62bb177ec7a164d9"), unhex(t, "4f065a23eeca6b18d118e1de4d7e5ca1a7c0e556d786d407"),
			"768fccdf4898bca099e33c3d40565497dec22dd6e33dcf43 84d71be8565c21a455db45816da8158c", 16,
		},
	} {
		t.Run(v.name, func(t *testing.T) {
			c := newTestCCM(t, v.key, len(v.nonce), v.tag)
			want := unhex(t, v.want)
			if got := c.Seal(nil, v.nonce, v.text, v.aad); !bytes.Equal(got, want) {
				t.Fatalf("sealed %x", got)
			}
			if got, err := c.Open(nil, v.nonce, want, v.aad); err != nil || !bytes.Equal(got, v.text) {
				t.Fatalf("opened %x, error %v", got, err)
			}
		})
	}
}

// slowCCM is RFC 3610 2 written down: CBC-MAC and counter mode of the standard library over buffers that are put together first.
func slowCCM(t *testing.T, key, nonce, plain, aad []byte, tag int) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	l := 15 - len(nonce)
	flags := byte((tag-2)/2*8 + l - 1)
	if len(aad) > 0 {
		flags += 64
	}
	length := binary.BigEndian.AppendUint64(nil, uint64(len(plain)))
	b := append(append([]byte{flags}, nonce...), length[8-l:]...)
	pad := func() {
		for len(b)%16 != 0 {
			b = append(b, 0)
		}
	}
	if len(aad) > 0 {
		if len(aad) < 0xff00 {
			b = binary.BigEndian.AppendUint16(b, uint16(len(aad)))
		} else {
			b = binary.BigEndian.AppendUint32(append(b, 0xff, 0xfe), uint32(len(aad)))
		}
		b = append(b, aad...)
		pad()
	}
	b = append(b, plain...)
	pad()
	cipher.NewCBCEncrypter(block, make([]byte, 16)).CryptBlocks(b, b)
	mac := b[len(b)-16:][:tag]

	a0 := append(append([]byte{byte(l - 1)}, nonce...), make([]byte, l)...)
	// One stream over S_0, S_1, ...: the MAC fills the first block.
	in := append(append(bytes.Clone(mac), make([]byte, 16-tag)...), plain...)
	cipher.NewCTR(block, a0).XORKeyStream(in, in)
	return append(in[16:], in[:tag]...)
}

// TestCCMAgainstReference compares all sizes that ESP and IKE use, and random others, with the reference; in place as well.
func TestCCMAgainstReference(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	check := func(keyLen, nonceLen, tag, textLen, aadLen int) {
		t.Helper()
		key, nonce, plain, aad := random(keyLen), random(nonceLen), random(textLen), random(aadLen)
		c := newTestCCM(t, key, nonceLen, tag)
		want := slowCCM(t, key, nonce, plain, aad, tag)
		if got := c.Seal([]byte("head"), nonce, plain, aad); !bytes.Equal(got[4:], want) || string(got[:4]) != "head" {
			t.Fatalf("%d/%d/%d, %d octets, %d additional: sealed %x, expected %x", keyLen, nonceLen, tag, textLen, aadLen, got, want)
		}
		buf := append(bytes.Clone(plain), make([]byte, tag)...)
		if got := c.Seal(buf[:0], nonce, buf[:textLen], aad); !bytes.Equal(got, want) || &got[0] != &buf[0] {
			t.Fatal("in place: sealed otherwise")
		}
		if got, err := c.Open(buf[:0], nonce, buf, aad); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("in place: opened %x, error %v", got, err)
		}
	}
	for n := range 300 {
		check([]int{16, 24, 32}[n%3], ccmNonceLen, 16, n, []int{8, 12}[n%2])
	}
	for range 300 {
		check([]int{16, 24, 32}[r.IntN(3)], 7+r.IntN(7), 4+2*r.IntN(7), r.IntN(2000), r.IntN(100))
	}
	for _, n := range []int{0xfeff, 0xff00, 0xffff, 0x10000} {
		check(32, ccmNonceLen, 16, 65000, n)
	}
}

func TestCCMRefuses(t *testing.T) {
	c := newTestCCM(t, ascending(0, 32), ccmNonceLen, 16)
	nonce, aad, plain := ascending(1, 11), ascending(2, 12), ascending(3, 40)
	sealed := c.Seal(nil, nonce, plain, aad)
	for i := range len(sealed) * 8 {
		bad := bytes.Clone(sealed)
		bad[i/8] ^= 1 << (i % 8)
		got, err := c.Open(bad[:0], nonce, bad, aad)
		if !errors.Is(err, ErrIntegrity) || got != nil {
			t.Fatalf("bit %d: opened %x, error %v", i, got, err)
		}
		if !bytes.Equal(bad[:len(plain)], make([]byte, len(plain))) {
			t.Fatalf("bit %d: plaintext left in memory", i)
		}
	}
	for n := range sealed {
		if _, err := c.Open(nil, nonce, sealed[:n], aad); !errors.Is(err, ErrIntegrity) {
			t.Fatalf("%d octets: error %v", n, err)
		}
	}
	for _, wrong := range [][]byte{nil, aad[:11], append(bytes.Clone(aad), 0)} {
		if _, err := c.Open(nil, nonce, sealed, wrong); !errors.Is(err, ErrIntegrity) {
			t.Fatalf("additional data %x: error %v", wrong, err)
		}
	}
	if _, err := c.Open(nil, ascending(2, 11), sealed, aad); !errors.Is(err, ErrIntegrity) {
		t.Fatalf("another nonce: error %v", err)
	}
}

func TestCCMConcurrently(t *testing.T) {
	c := newTestCCM(t, ascending(0, 16), ccmNonceLen, 16)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			nonce, plain := ascending(byte(w), 11), ascending(byte(w), 500)
			want := slowCCM(t, ascending(0, 16), nonce, plain, nonce, 16)
			for range 200 {
				if got := c.Seal(nil, nonce, plain, nonce); !bytes.Equal(got, want) {
					t.Error("sealed otherwise")
					return
				}
				if got, err := c.Open(nil, nonce, want, nonce); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("opened %x, error %v", got, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestCCMNonceSize: a wrong nonce is a fault of the program, which must not pass for a good one.
func TestCCMNonceSize(t *testing.T) {
	s := Suite{Encr: Encr{iana.ENCR_AES_CCM_16, 128}}
	aead, salt, err := s.NewAEAD(ascending(0, 19))
	if err != nil || !bytes.Equal(salt, []byte{16, 17, 18}) || aead.NonceSize() != 11 || aead.Overhead() != 16 {
		t.Fatalf("salt %x, error %v", salt, err)
	}
	for _, n := range []int{0, 10, 12} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a nonce of %d octets was taken", n)
				}
			}()
			aead.Seal(nil, make([]byte, n), nil, nil)
		}()
	}
}

// FuzzCCM opens anything and compares what is sealed with the reference.
func FuzzCCM(f *testing.F) {
	f.Add([]byte("plain"), []byte("additional"), uint64(1))
	f.Add([]byte{}, []byte{}, uint64(0))
	f.Add(make([]byte, 257), make([]byte, 12), uint64(1<<63))
	f.Fuzz(func(t *testing.T, plain, aad []byte, iv uint64) {
		key, nonce := ascending(7, 16), binary.BigEndian.AppendUint64([]byte{1, 2, 3}, iv)
		c := newTestCCM(t, key, ccmNonceLen, 16)
		sealed := c.Seal(nil, nonce, plain, aad)
		if !bytes.Equal(sealed, slowCCM(t, key, nonce, plain, aad, 16)) {
			t.Fatalf("sealed %x", sealed)
		}
		if got, err := c.Open(nil, nonce, sealed, aad); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("opened %x, error %v", got, err)
		}
		if _, err := c.Open(nil, nonce, plain, aad); err == nil {
			t.Fatalf("opened what nobody sealed: %x", plain)
		}
	})
}

package suite

import (
	"bytes"
	"testing"

	"github.com/ikegod/ikegod/pkg/iana"
)

// TestAEADVectors: the ESP packet of RFC 7634 appendix A, RFC 8439 2.8.2, and cases 4, 10 and 16 of the GCM specification (McGrew and
// Viega, in NIST's collection), whose 12-octet IV is our salt and IV.
func TestAEADVectors(t *testing.T) {
	gcm := func(bits uint16) Suite { return Suite{Encr: Encr{iana.ENCR_AES_GCM_16, bits}} }
	chacha := Suite{Encr: Encr{iana.ENCR_CHACHA20_POLY1305, 0}}
	const (
		gcmKey   = "feffe9928665731c6d6a8f9467308308"
		gcmPlain = `d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
			1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39`
		gcmAAD  = "feedfacedeadbeeffeedfacedeadbeefabaddad2"
		gcmSalt = "cafebabe"
		gcmIV   = "facedbaddecaf888"
		icmp    = `45000054a6f200004001e778c6336405 c000020508005b7a3a080000553bec10
			0007362708090a0b0c0d0e0f10111213 1415161718191a1b1c1d1e1f20212223
			2425262728292a2b2c2d2e2f30313233 3435363701020204`
		keymat = "808182838485868788898a8b8c8d8e8f 909192939495969798999a9b9c9d9e9f"
	)
	for _, v := range []struct {
		name                      string
		s                         Suite
		key, iv, aad, plain, want string
	}{
		{
			"RFC 7634 A", chacha, keymat + "a0a1a2a3", "1011121314151617", "0102030400000005", icmp,
			`24039428b97f417e3c13753a4f05087b 67c352e6a7fab1b982d466ef407ae5c6 14ee8099d52844eb61aa95dfab4c02f7
			2aa71e7c4c4f64c9befe2facc638e8f3 cbec163fac469b502773f6fb94e664da 9165b82829f641e0 76aaa8266b7fb0f7b11b369907e1ad43`,
		},
		{
			"RFC 8439 2.8.2", chacha, keymat + "07000000", "4041424344454647", "50515253c0c1c2c3c4c5c6c7",
			`4c616469657320616e642047656e746c 656d656e206f662074686520636c6173 73206f66202739393a20496620492063
			6f756c64206f6666657220796f75206f 6e6c79206f6e652074697020666f7220 746865206675747572652c2073756e73
			637265656e20776f756c642062652069 742e`,
			`d31a8d34648e60db7b86afbc53ef7ec2 a4aded51296e08fea9e2b5a736ee62d6 3dbea45e8ca9671282fafb69da92728b
			1a71de0a9e060b2905d6a5b67ecd3b36 92ddbd7f2d778b8c9803aee328091b58 fab324e4fad675945585808b4831d7bc
			3ff4def08e4b7a9de576d26586cec64b 6116 1ae10b594f09e26a7e902ecbd0600691`,
		},
		{
			"GCM 4", gcm(128), gcmKey + gcmSalt, gcmIV, gcmAAD, gcmPlain,
			`42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e 21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091
			5bc94fbc3221a5db94fae95ae7121a47`,
		},
		{
			"GCM 10", gcm(192), gcmKey + "feffe9928665731c" + gcmSalt, gcmIV, gcmAAD, gcmPlain,
			`3980ca0b3c00e841eb06fac4872a2757859e1ceaa6efd984628593b40ca1e19c 7d773d00c144c525ac619d18c84a3f4718e2448b2fe324d9ccda2710
			2519498e80f1478f37ba55bd6d27618c`,
		},
		{
			"GCM 16", gcm(256), gcmKey + gcmKey + gcmSalt, gcmIV, gcmAAD, gcmPlain,
			`522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa 8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662
			76fc6ece0f4e1768cddf8853bb2d551b`,
		},
	} {
		t.Run(v.name, func(t *testing.T) {
			aead, salt, err := v.s.NewAEAD(unhex(t, v.key))
			if err != nil {
				t.Fatal(err)
			}
			nonce := append(salt[:], unhex(t, v.iv)...)
			got := aead.Seal(nil, nonce, unhex(t, v.plain), unhex(t, v.aad))
			if !bytes.Equal(got, unhex(t, v.want)) {
				t.Errorf("sealed %x", got)
			}
			if aead.Overhead() != v.s.ICVLen() || len(unhex(t, v.iv)) != v.s.IVLen() || v.s.BlockLen() != 1 || !v.s.AEAD() {
				t.Errorf("ICV %d, IV %d, block %d", v.s.ICVLen(), v.s.IVLen(), v.s.BlockLen())
			}
		})
	}
}

// TestLengths is the sizes that ESP and the key schedule go by, from the RFCs that define the algorithms.
func TestLengths(t *testing.T) {
	for _, tc := range []struct {
		s                        Suite
		encr, integ, iv, icv, bl int
	}{
		{Suite{Encr: Encr{iana.ENCR_AES_GCM_16, 128}}, 20, 0, 8, 16, 1},
		{Suite{Encr: Encr{iana.ENCR_AES_GCM_16, 192}}, 28, 0, 8, 16, 1},
		{Suite{Encr: Encr{iana.ENCR_AES_GCM_16, 256}}, 36, 0, 8, 16, 1},
		{Suite{Encr: Encr{iana.ENCR_CHACHA20_POLY1305, 0}}, 36, 0, 8, 16, 1},
		{Suite{Encr: Encr{iana.ENCR_AES_CBC, 128}, Integ: iana.AUTH_HMAC_SHA2_256_128}, 16, 32, 16, 16, 16},
		{Suite{Encr: Encr{iana.ENCR_AES_CBC, 192}, Integ: iana.AUTH_HMAC_SHA2_384_192}, 24, 48, 16, 24, 16},
		{Suite{Encr: Encr{iana.ENCR_AES_CBC, 256}, Integ: iana.AUTH_HMAC_SHA2_512_256}, 32, 64, 16, 32, 16},
		{Suite{Encr: Encr{iana.ENCR_AES_CCM_16, 128}}, 19, 0, 8, 16, 1},
		{Suite{Encr: Encr{iana.ENCR_AES_CCM_16, 192}}, 27, 0, 8, 16, 1},
		{Suite{Encr: Encr{iana.ENCR_AES_CCM_16, 256}}, 35, 0, 8, 16, 1},
		{Suite{Encr: Encr{iana.ENCR_AES_CBC, 128}, Integ: iana.AUTH_HMAC_SHA1_96}, 16, 20, 16, 12, 16},
		{Suite{Encr: Encr{iana.ENCR_3DES, 0}, Integ: iana.AUTH_HMAC_MD5_96}, 0, 0, 0, 0, 0},
	} {
		if e, a, iv, icv, bl := tc.s.EncrKeyLen(), tc.s.IntegKeyLen(), tc.s.IVLen(), tc.s.ICVLen(), tc.s.BlockLen(); e != tc.encr || a != tc.integ || iv != tc.iv || icv != tc.icv || bl != tc.bl {
			t.Errorf("%s: %d, %d, %d, %d, %d", tc.s.Transform(), e, a, iv, icv, bl)
		}
	}
}

func TestSuiteString(t *testing.T) {
	for _, tc := range []struct {
		s    Suite
		want string
	}{
		{Suite{Encr{iana.ENCR_AES_GCM_16, 256}, iana.PRF_HMAC_SHA2_512, 0, iana.KE_ECP256, 0}, "{cipher=AES_GCM_16_256 integ=n/a prf=HMAC_SHA2_512 ke=DH19}"},
		{
			Suite{Encr{iana.ENCR_AES_CBC, 128}, iana.PRF_HMAC_SHA2_256, iana.AUTH_HMAC_SHA2_256_128, iana.KE_MODP2048, 0},
			"{cipher=AES_CBC_128 integ=HMAC_SHA2_256_128 prf=HMAC_SHA2_256 ke=MODP2048}",
		},
		{Suite{Encr: Encr{iana.ENCR_CHACHA20_POLY1305, 0}, SN: iana.SN_ESN}, "{cipher=CHACHA20_POLY1305 integ=n/a ke=none esn=yes}"},
		{Suite{Encr: Encr{99, 7}, PRF: 98, Integ: 97, KE: 96}, "{cipher=ENCR_99_7 integ=INTEG_97 prf=PRF_98 ke=KE_96}"},
	} {
		if got := tc.s.String(); got != tc.want {
			t.Errorf("%s, expected %s", got, tc.want)
		}
	}
}

package suite

import (
	"crypto/sha1" //nolint:gosec // as an HMAC, for peers without SHA-2 (RFC 8247: MUST-), never by default
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"slices"
	"strings"

	"github.com/ikegod/ikegod/pkg/iana"
)

// algorithm is one row of a transform type's table. The tables hold every algorithm that an operator may name or a peer may offer, so that a
// message can name it; supported ones are those that this package implements.
type algorithm struct {
	id        uint16
	name      string   // as logs print it and proposals read it
	aliases   []string // further spellings, in lower case
	supported bool

	// Encryption only.
	aead    bool
	keyBits []uint16 // key lengths that exist; the first two are meant when a proposal names none. Empty: one length, never sent
	fixed   uint16   // that one length in bits
	block   int      // alignment of the plaintext in octets
	iv      int      // octets of IV in each packet
	icv     int      // octets of ICV of an AEAD
	salt    int      // octets of salt of an AEAD, after the key

	// PRF and integrity only.
	hash func() hash.Hash
	size int // octets of the PRF's output, or of the truncated ICV
}

// table is the algorithms of one transform type.
type table []algorithm

// byID finds an algorithm by its number.
func (t table) byID(id uint16) (*algorithm, bool) {
	for i := range t {
		if t[i].id == id {
			return &t[i], true
		}
	}
	return nil, false
}

// byName finds an algorithm by its name or one of its aliases, in any case.
func (t table) byName(name string) (*algorithm, bool) {
	name = strings.ToLower(name)
	for i := range t {
		if strings.ToLower(t[i].name) == name || slices.Contains(t[i].aliases, name) {
			return &t[i], true
		}
	}
	return nil, false
}

// supportedNames lists what this package implements, for messages.
func (t table) supportedNames() []string {
	var names []string
	for i := range t {
		if t[i].supported {
			names = append(names, t[i].name)
		}
	}
	return names
}

// AES key lengths, the preferred ones first.
var aesBits = []uint16{256, 128, 192}

// encrs is transform type 1.
var encrs = table{
	{
		id: uint16(iana.ENCR_AES_GCM_16), name: "AES_GCM_16", aliases: []string{"aes_gcm", "aes_gcm_c", "aesgcm", "aesgcm16", "aes_gcm16", "gcm"},
		supported: true, aead: true, keyBits: aesBits, block: 1, iv: aeadIVLen, icv: 16, salt: saltLen,
	},
	{
		id: uint16(iana.ENCR_CHACHA20_POLY1305), name: "CHACHA20_POLY1305", aliases: []string{"chacha20poly1305", "chacha20"},
		supported: true, aead: true, fixed: 256, block: 1, iv: aeadIVLen, icv: 16, salt: saltLen,
	},
	{
		id: uint16(iana.ENCR_AES_CBC), name: "AES_CBC", aliases: []string{"aes", "aescbc"},
		supported: true, keyBits: aesBits, block: 16, iv: 16,
	},
	{
		id: uint16(iana.ENCR_AES_CCM_16), name: "AES_CCM_16", aliases: []string{"aes_ccm", "aes_ccm_c", "aesccm", "aesccm16", "aes_ccm16", "ccm"},
		supported: true, aead: true, keyBits: aesBits, block: 1, iv: aeadIVLen, icv: 16, salt: ccmSaltLen,
	},
	{id: uint16(iana.ENCR_AES_GCM_8), name: "AES_GCM_8", aliases: []string{"aes_gcm_a", "aesgcm8"}, aead: true, keyBits: aesBits},
	{id: uint16(iana.ENCR_AES_GCM_12), name: "AES_GCM_12", aliases: []string{"aes_gcm_b", "aesgcm12"}, aead: true, keyBits: aesBits},
	{id: uint16(iana.ENCR_AES_CCM_8), name: "AES_CCM_8", aliases: []string{"aes_ccm_a", "aesccm8"}, aead: true, keyBits: aesBits},
	{id: uint16(iana.ENCR_AES_CCM_12), name: "AES_CCM_12", aliases: []string{"aes_ccm_b", "aesccm12"}, aead: true, keyBits: aesBits},
	{id: uint16(iana.ENCR_AES_CTR), name: "AES_CTR", aliases: []string{"aesctr"}, keyBits: aesBits},
	{id: uint16(iana.ENCR_3DES), name: "3DES_CBC", aliases: []string{"3des"}, fixed: 192},
	{id: uint16(iana.ENCR_NULL), name: "NULL"},
	{id: uint16(iana.ENCR_NULL_AUTH_AES_GMAC), name: "NULL_AUTH_AES_GMAC", aliases: []string{"aes_gmac"}, aead: true, keyBits: aesBits},
	{id: 23, name: "CAMELLIA_CBC", aliases: []string{"camellia"}, keyBits: aesBits},
	{id: 24, name: "CAMELLIA_CTR", keyBits: aesBits},
	{id: 2, name: "DES_CBC", aliases: []string{"des"}, fixed: 64},
	{id: 6, name: "CAST_CBC", aliases: []string{"cast"}, keyBits: []uint16{128}},
	{id: 7, name: "BLOWFISH_CBC", aliases: []string{"blowfish"}, keyBits: []uint16{128}},
}

// prfs is transform type 2.
var prfs = table{
	{
		id: uint16(iana.PRF_HMAC_SHA2_512), name: "HMAC_SHA2_512", aliases: []string{"sha2_512", "sha512", "prfsha512"},
		supported: true, hash: sha512.New, size: sha512.Size,
	},
	{
		id: uint16(iana.PRF_HMAC_SHA2_384), name: "HMAC_SHA2_384", aliases: []string{"sha2_384", "sha384", "prfsha384"},
		supported: true, hash: sha512.New384, size: sha512.Size384,
	},
	{
		id: uint16(iana.PRF_HMAC_SHA2_256), name: "HMAC_SHA2_256", aliases: []string{"sha2_256", "sha256", "sha2", "prfsha256"},
		supported: true, hash: sha256.New, size: sha256.Size,
	},
	{
		id: uint16(iana.PRF_HMAC_SHA1), name: "HMAC_SHA1", aliases: []string{"sha1", "sha", "prfsha1"},
		supported: true, hash: sha1.New, size: sha1.Size,
	},
	{id: uint16(iana.PRF_HMAC_MD5), name: "HMAC_MD5", aliases: []string{"md5", "prfmd5"}},
	{id: uint16(iana.PRF_AES128_XCBC), name: "AES_XCBC", aliases: []string{"aes128_xcbc", "prfaesxcbc"}},
	{id: uint16(iana.PRF_AES128_CMAC), name: "AES_CMAC", aliases: []string{"aes128_cmac", "prfaescmac"}},
}

// integs is transform type 3. NONE is what goes with an AEAD.
var integs = table{
	{id: uint16(iana.AUTH_NONE), name: "NONE", aliases: []string{"null"}, supported: true},
	{
		id: uint16(iana.AUTH_HMAC_SHA2_512_256), name: "HMAC_SHA2_512_256", aliases: []string{"sha2_512_256", "sha2_512", "sha512", "hmac_sha2_512"},
		supported: true, hash: sha512.New, size: 32,
	},
	{
		id: uint16(iana.AUTH_HMAC_SHA2_384_192), name: "HMAC_SHA2_384_192", aliases: []string{"sha2_384_192", "sha2_384", "sha384", "hmac_sha2_384"},
		supported: true, hash: sha512.New384, size: 24,
	},
	{
		id: uint16(iana.AUTH_HMAC_SHA2_256_128), name: "HMAC_SHA2_256_128", aliases: []string{"sha2_256_128", "sha2_256", "sha256", "sha2", "hmac_sha2_256"},
		supported: true, hash: sha256.New, size: 16,
	},
	{
		id: uint16(iana.AUTH_HMAC_SHA1_96), name: "HMAC_SHA1_96", aliases: []string{"sha1_96", "sha1", "sha", "hmac_sha1"},
		supported: true, hash: sha1.New, size: 12,
	},
	{id: uint16(iana.AUTH_HMAC_MD5_96), name: "HMAC_MD5_96", aliases: []string{"md5_96", "md5", "hmac_md5"}},
	{id: uint16(iana.AUTH_AES_XCBC_96), name: "AES_XCBC_96", aliases: []string{"aes_xcbc", "aesxcbc"}},
	{id: uint16(iana.AUTH_AES_CMAC_96), name: "AES_CMAC_96", aliases: []string{"aes_cmac", "aescmac"}},
	{id: 9, name: "AES_128_GMAC"},
	{id: 10, name: "AES_192_GMAC"},
	{id: 11, name: "AES_256_GMAC"},
}

// kes is transform type 4. What is supported has a row in methods as well (kex.go).
var kes = table{
	{id: uint16(iana.KE_NONE), name: "NONE", aliases: []string{"null", "dh0", "modpnone"}, supported: true},
	{id: uint16(iana.KE_CURVE25519), name: "CURVE25519", aliases: []string{"dh31", "x25519"}, supported: true},
	{id: uint16(iana.KE_ECP256), name: "DH19", aliases: []string{"ecp_256", "ecp256"}, supported: true},
	{id: uint16(iana.KE_ECP384), name: "DH20", aliases: []string{"ecp_384", "ecp384"}, supported: true},
	{id: uint16(iana.KE_ECP521), name: "DH21", aliases: []string{"ecp_521", "ecp521"}, supported: true},
	{id: uint16(iana.KE_MODP2048), name: "MODP2048", aliases: []string{"dh14"}, supported: true},
	{id: uint16(iana.KE_MODP3072), name: "MODP3072", aliases: []string{"dh15"}, supported: true},
	{id: uint16(iana.KE_MODP4096), name: "MODP4096", aliases: []string{"dh16"}, supported: true},
	{id: uint16(iana.KE_MODP6144), name: "MODP6144", aliases: []string{"dh17"}, supported: true},
	{id: uint16(iana.KE_MODP8192), name: "MODP8192", aliases: []string{"dh18"}, supported: true},
	{id: uint16(iana.KE_CURVE448), name: "CURVE448", aliases: []string{"dh32", "x448"}, supported: true},
	{id: uint16(iana.KE_MODP1536), name: "MODP1536", aliases: []string{"dh5"}, supported: true},
	{id: uint16(iana.KE_MODP1024), name: "MODP1024", aliases: []string{"dh2"}, supported: true},
	{id: uint16(iana.KE_MODP768), name: "MODP768", aliases: []string{"dh1"}},
	{id: 22, name: "DH22", aliases: []string{"modp1024s160"}},
	{id: 23, name: "DH23", aliases: []string{"modp2048s224"}},
	{id: 24, name: "DH24", aliases: []string{"modp2048s256"}},
	{id: 25, name: "DH25", aliases: []string{"ecp192"}},
	{id: 26, name: "DH26", aliases: []string{"ecp224"}},
	{id: 27, name: "DH27", aliases: []string{"ecp224bp"}},
	{id: 28, name: "DH28", aliases: []string{"ecp256bp"}},
	{id: 29, name: "DH29", aliases: []string{"ecp384bp"}},
	{id: 30, name: "DH30", aliases: []string{"ecp512bp"}},
	{id: uint16(iana.KE_MLKEM512), name: "ML_KEM_512", aliases: []string{"mlkem512", "ml_kem512"}},
	{id: uint16(iana.KE_MLKEM768), name: "ML_KEM_768", aliases: []string{"mlkem768", "ml_kem768"}},
	{id: uint16(iana.KE_MLKEM1024), name: "ML_KEM_1024", aliases: []string{"mlkem1024", "ml_kem1024"}},
}

// sns is transform type 5.
var sns = table{
	{id: uint16(iana.SN_ESN), name: "ESN", aliases: []string{"yes"}, supported: true},
	{id: uint16(iana.SN_32), name: "NO_ESN", aliases: []string{"no", "noesn"}, supported: true},
}

func encrName(id, bits uint16) string {
	name := fmt.Sprintf("ENCR_%d", id)
	if a, ok := encrs.byID(id); ok {
		name = a.name
	}
	if bits == 0 {
		return name
	}
	return fmt.Sprintf("%s_%d", name, bits)
}

func prfName(id uint16) string   { return prfs.nameOf(id, "PRF") }
func integName(id uint16) string { return integs.nameOf(id, "INTEG") }
func keName(id uint16) string    { return kes.nameOf(id, "KE") }
func snName(id uint16) string    { return sns.nameOf(id, "SN") }

// nameOf prints a number that no row has as PREFIX_number.
func (t table) nameOf(id uint16, prefix string) string {
	if a, ok := t.byID(id); ok {
		return a.name
	}
	return fmt.Sprintf("%s_%d", prefix, id)
}

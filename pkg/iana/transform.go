package iana

// TransformType is the type of a transform (RFC 7296 3.3.2).
type TransformType uint8

// Transform types; 6 to 12 are the additional key exchanges of RFC 9370.
const (
	TransformEncr   TransformType = 1  // RFC 7296 3.3.2
	TransformPRF    TransformType = 2  // RFC 7296 3.3.2
	TransformInteg  TransformType = 3  // RFC 7296 3.3.2
	TransformKE     TransformType = 4  // RFC 7296 3.3.2, renamed by RFC 9370
	TransformSN     TransformType = 5  // RFC 7296 3.3.2 (ESN), renamed by RFC 9827
	TransformAddKE1 TransformType = 6  // RFC 9370
	TransformAddKE2 TransformType = 7  // RFC 9370
	TransformAddKE3 TransformType = 8  // RFC 9370
	TransformAddKE4 TransformType = 9  // RFC 9370
	TransformAddKE5 TransformType = 10 // RFC 9370
	TransformAddKE6 TransformType = 11 // RFC 9370
	TransformAddKE7 TransformType = 12 // RFC 9370
	TransformKWA    TransformType = 13 // RFC 9838
	TransformGCAUTH TransformType = 14 // RFC 9838
)

var transformTypeNames = map[TransformType]string{
	TransformEncr:   "ENCR",
	TransformPRF:    "PRF",
	TransformInteg:  "INTEG",
	TransformKE:     "KE",
	TransformSN:     "SN",
	TransformAddKE1: "ADDKE1",
	TransformAddKE2: "ADDKE2",
	TransformAddKE3: "ADDKE3",
	TransformAddKE4: "ADDKE4",
	TransformAddKE5: "ADDKE5",
	TransformAddKE6: "ADDKE6",
	TransformAddKE7: "ADDKE7",
	TransformKWA:    "KWA",
	TransformGCAUTH: "GCAUTH",
}

// String returns the registry's short name, or "transform(N)".
func (t TransformType) String() string { return name(transformTypeNames, t, "transform") }

// AttrKeyLength is the transform attribute Key Length, in bits (RFC 7296 3.3.5).
const AttrKeyLength = 14

// Encr is an encryption algorithm (transform type 1).
type Encr uint16

// Encryption algorithms.
const (
	ENCR_DES                   Encr = 2  // RFC 2405
	ENCR_3DES                  Encr = 3  // RFC 2451
	ENCR_CAST                  Encr = 6  // RFC 2451
	ENCR_BLOWFISH              Encr = 7  // RFC 2451
	ENCR_NULL                  Encr = 11 // RFC 2410
	ENCR_AES_CBC               Encr = 12 // RFC 3602
	ENCR_AES_CTR               Encr = 13 // RFC 3686, RFC 5930
	ENCR_AES_CCM_8             Encr = 14 // RFC 4309, RFC 5282
	ENCR_AES_CCM_12            Encr = 15 // RFC 4309, RFC 5282
	ENCR_AES_CCM_16            Encr = 16 // RFC 4309, RFC 5282
	ENCR_AES_GCM_8             Encr = 18 // RFC 4106, RFC 5282
	ENCR_AES_GCM_12            Encr = 19 // RFC 4106, RFC 5282
	ENCR_AES_GCM_16            Encr = 20 // RFC 4106, RFC 5282
	ENCR_NULL_AUTH_AES_GMAC    Encr = 21 // RFC 4543
	ENCR_CAMELLIA_CBC          Encr = 23 // RFC 5529
	ENCR_CAMELLIA_CTR          Encr = 24 // RFC 5529
	ENCR_CAMELLIA_CCM_8        Encr = 25 // RFC 5529
	ENCR_CAMELLIA_CCM_12       Encr = 26 // RFC 5529
	ENCR_CAMELLIA_CCM_16       Encr = 27 // RFC 5529
	ENCR_CHACHA20_POLY1305     Encr = 28 // RFC 7634
	ENCR_AES_CCM_8_IIV         Encr = 29 // RFC 8750
	ENCR_AES_GCM_16_IIV        Encr = 30 // RFC 8750
	ENCR_CHACHA20_POLY1305_IIV Encr = 31 // RFC 8750
)

var encrNames = map[Encr]string{
	ENCR_DES:                   "DES",
	ENCR_3DES:                  "3DES",
	ENCR_CAST:                  "CAST",
	ENCR_BLOWFISH:              "BLOWFISH",
	ENCR_NULL:                  "NULL",
	ENCR_AES_CBC:               "AES_CBC",
	ENCR_AES_CTR:               "AES_CTR",
	ENCR_AES_CCM_8:             "AES_CCM_8",
	ENCR_AES_CCM_12:            "AES_CCM_12",
	ENCR_AES_CCM_16:            "AES_CCM_16",
	ENCR_AES_GCM_8:             "AES_GCM_8",
	ENCR_AES_GCM_12:            "AES_GCM_12",
	ENCR_AES_GCM_16:            "AES_GCM_16",
	ENCR_NULL_AUTH_AES_GMAC:    "NULL_AUTH_AES_GMAC",
	ENCR_CAMELLIA_CBC:          "CAMELLIA_CBC",
	ENCR_CAMELLIA_CTR:          "CAMELLIA_CTR",
	ENCR_CAMELLIA_CCM_8:        "CAMELLIA_CCM_8",
	ENCR_CAMELLIA_CCM_12:       "CAMELLIA_CCM_12",
	ENCR_CAMELLIA_CCM_16:       "CAMELLIA_CCM_16",
	ENCR_CHACHA20_POLY1305:     "CHACHA20_POLY1305",
	ENCR_AES_CCM_8_IIV:         "AES_CCM_8_IIV",
	ENCR_AES_GCM_16_IIV:        "AES_GCM_16_IIV",
	ENCR_CHACHA20_POLY1305_IIV: "CHACHA20_POLY1305_IIV",
}

// String returns the name without "ENCR_", as logs print it, or "encr(N)".
func (e Encr) String() string { return name(encrNames, e, "encr") }

// PRF is a pseudorandom function (transform type 2).
type PRF uint16

// Pseudorandom functions.
const (
	PRF_HMAC_MD5      PRF = 1 // RFC 2104
	PRF_HMAC_SHA1     PRF = 2 // RFC 2104
	PRF_AES128_XCBC   PRF = 4 // RFC 4434
	PRF_HMAC_SHA2_256 PRF = 5 // RFC 4868
	PRF_HMAC_SHA2_384 PRF = 6 // RFC 4868
	PRF_HMAC_SHA2_512 PRF = 7 // RFC 4868
	PRF_AES128_CMAC   PRF = 8 // RFC 4615
)

var prfNames = map[PRF]string{
	PRF_HMAC_MD5:      "HMAC_MD5",
	PRF_HMAC_SHA1:     "HMAC_SHA1",
	PRF_AES128_XCBC:   "AES128_XCBC",
	PRF_HMAC_SHA2_256: "HMAC_SHA2_256",
	PRF_HMAC_SHA2_384: "HMAC_SHA2_384",
	PRF_HMAC_SHA2_512: "HMAC_SHA2_512",
	PRF_AES128_CMAC:   "AES128_CMAC",
}

// String returns the name without "PRF_", as logs print it, or "prf(N)".
func (p PRF) String() string { return name(prfNames, p, "prf") }

// Integ is an integrity algorithm (transform type 3).
type Integ uint16

// Integrity algorithms.
const (
	AUTH_NONE              Integ = 0  // RFC 7296 3.3.2, with an AEAD
	AUTH_HMAC_MD5_96       Integ = 1  // RFC 2403
	AUTH_HMAC_SHA1_96      Integ = 2  // RFC 2404
	AUTH_AES_XCBC_96       Integ = 5  // RFC 3566
	AUTH_AES_CMAC_96       Integ = 8  // RFC 4494
	AUTH_AES_128_GMAC      Integ = 9  // RFC 4543
	AUTH_AES_192_GMAC      Integ = 10 // RFC 4543
	AUTH_AES_256_GMAC      Integ = 11 // RFC 4543
	AUTH_HMAC_SHA2_256_128 Integ = 12 // RFC 4868
	AUTH_HMAC_SHA2_384_192 Integ = 13 // RFC 4868
	AUTH_HMAC_SHA2_512_256 Integ = 14 // RFC 4868
)

var integNames = map[Integ]string{
	AUTH_NONE:              "NONE",
	AUTH_HMAC_MD5_96:       "HMAC_MD5_96",
	AUTH_HMAC_SHA1_96:      "HMAC_SHA1_96",
	AUTH_AES_XCBC_96:       "AES_XCBC_96",
	AUTH_AES_CMAC_96:       "AES_CMAC_96",
	AUTH_AES_128_GMAC:      "AES_128_GMAC",
	AUTH_AES_192_GMAC:      "AES_192_GMAC",
	AUTH_AES_256_GMAC:      "AES_256_GMAC",
	AUTH_HMAC_SHA2_256_128: "HMAC_SHA2_256_128",
	AUTH_HMAC_SHA2_384_192: "HMAC_SHA2_384_192",
	AUTH_HMAC_SHA2_512_256: "HMAC_SHA2_512_256",
}

// String returns the name without "AUTH_", as logs print it, or "integ(N)".
func (i Integ) String() string { return name(integNames, i, "integ") }

// KE is a key exchange method, formerly Diffie-Hellman group (transform type 4).
type KE uint16

// Key exchange methods.
const (
	KE_NONE            KE = 0
	KE_MODP768         KE = 1  // RFC 7296 B.1
	KE_MODP1024        KE = 2  // RFC 7296 B.2
	KE_MODP1536        KE = 5  // RFC 3526 2
	KE_MODP2048        KE = 14 // RFC 3526 3
	KE_MODP3072        KE = 15 // RFC 3526 4
	KE_MODP4096        KE = 16 // RFC 3526 5
	KE_MODP6144        KE = 17 // RFC 3526 6
	KE_MODP8192        KE = 18 // RFC 3526 7
	KE_ECP256          KE = 19 // RFC 5903
	KE_ECP384          KE = 20 // RFC 5903
	KE_ECP521          KE = 21 // RFC 5903
	KE_MODP1024_160    KE = 22 // RFC 5114
	KE_MODP2048_224    KE = 23 // RFC 5114
	KE_MODP2048_256    KE = 24 // RFC 5114
	KE_ECP192          KE = 25 // RFC 5114
	KE_ECP224          KE = 26 // RFC 5114
	KE_BRAINPOOLP224R1 KE = 27 // RFC 6954
	KE_BRAINPOOLP256R1 KE = 28 // RFC 6954
	KE_BRAINPOOLP384R1 KE = 29 // RFC 6954
	KE_BRAINPOOLP512R1 KE = 30 // RFC 6954
	KE_CURVE25519      KE = 31 // RFC 8031
	KE_CURVE448        KE = 32 // RFC 8031
	KE_MLKEM512        KE = 35 // draft-ietf-ipsecme-ikev2-mlkem
	KE_MLKEM768        KE = 36 // draft-ietf-ipsecme-ikev2-mlkem
	KE_MLKEM1024       KE = 37 // draft-ietf-ipsecme-ikev2-mlkem
)

var keNames = map[KE]string{
	KE_NONE:            "NONE",
	KE_MODP768:         "MODP768",
	KE_MODP1024:        "MODP1024",
	KE_MODP1536:        "MODP1536",
	KE_MODP2048:        "MODP2048",
	KE_MODP3072:        "MODP3072",
	KE_MODP4096:        "MODP4096",
	KE_MODP6144:        "MODP6144",
	KE_MODP8192:        "MODP8192",
	KE_ECP256:          "ECP_256",
	KE_ECP384:          "ECP_384",
	KE_ECP521:          "ECP_521",
	KE_MODP1024_160:    "MODP1024_160",
	KE_MODP2048_224:    "MODP2048_224",
	KE_MODP2048_256:    "MODP2048_256",
	KE_ECP192:          "ECP_192",
	KE_ECP224:          "ECP_224",
	KE_BRAINPOOLP224R1: "BRAINPOOL_P224R1",
	KE_BRAINPOOLP256R1: "BRAINPOOL_P256R1",
	KE_BRAINPOOLP384R1: "BRAINPOOL_P384R1",
	KE_BRAINPOOLP512R1: "BRAINPOOL_P512R1",
	KE_CURVE25519:      "CURVE25519",
	KE_CURVE448:        "CURVE448",
	KE_MLKEM512:        "ML_KEM_512",
	KE_MLKEM768:        "ML_KEM_768",
	KE_MLKEM1024:       "ML_KEM_1024",
}

// String returns the method as logs print it ("MODP2048", "ECP_256", "CURVE25519"), or "ke(N)".
func (k KE) String() string { return name(keNames, k, "ke") }

// SN is a sequence number property of ESP and AH (transform type 5; RFC 7296 3.3.2 calls it ESN).
type SN uint16

// Sequence number properties.
const (
	SN_32  SN = 0 // RFC 7296 3.3.2: 32-bit sequential numbers ("No ESN")
	SN_ESN SN = 1 // RFC 7296 3.3.2: partially transmitted 64-bit sequential numbers ("ESN")
)

var snNames = map[SN]string{SN_32: "NO_ESN", SN_ESN: "ESN"}

// String returns "NO_ESN", "ESN" or "sn(N)".
func (s SN) String() string { return name(snNames, s, "sn") }

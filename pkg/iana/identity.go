package iana

// AuthMethod is an authentication method (RFC 7296 3.8).
type AuthMethod uint8

// Authentication methods.
const (
	AuthRSA              AuthMethod = 1  // RFC 7296 3.8
	AuthSharedKey        AuthMethod = 2  // RFC 7296 3.8
	AuthDSS              AuthMethod = 3  // RFC 7296 3.8
	AuthECDSA256         AuthMethod = 9  // RFC 4754
	AuthECDSA384         AuthMethod = 10 // RFC 4754
	AuthECDSA521         AuthMethod = 11 // RFC 4754
	AuthGSPAM            AuthMethod = 12 // RFC 6467
	AuthNull             AuthMethod = 13 // RFC 7619
	AuthDigitalSignature AuthMethod = 14 // RFC 7427
)

var authMethodNames = map[AuthMethod]string{
	AuthRSA:              "RSA",
	AuthSharedKey:        "PSK",
	AuthDSS:              "DSS",
	AuthECDSA256:         "ECDSA_P256",
	AuthECDSA384:         "ECDSA_P384",
	AuthECDSA521:         "ECDSA_P521",
	AuthGSPAM:            "GSPAM",
	AuthNull:             "NULL",
	AuthDigitalSignature: "DIGITAL_SIGNATURE",
}

// String returns the method as operators name it ("PSK" for the shared key), or "auth(N)".
func (m AuthMethod) String() string { return name(authMethodNames, m, "auth") }

// Hash is a hash algorithm of SIGNATURE_HASH_ALGORITHMS (RFC 7427 4).
type Hash uint16

// Hash algorithms.
const (
	HashSHA1     Hash = 1 // RFC 7427 7
	HashSHA2_256 Hash = 2 // RFC 7427 7
	HashSHA2_384 Hash = 3 // RFC 7427 7
	HashSHA2_512 Hash = 4 // RFC 7427 7
	HashIdentity Hash = 5 // RFC 8420
)

var hashNames = map[Hash]string{
	HashSHA1:     "SHA1",
	HashSHA2_256: "SHA2_256",
	HashSHA2_384: "SHA2_384",
	HashSHA2_512: "SHA2_512",
	HashIdentity: "IDENTITY",
}

// String returns the algorithm's name, or "hash(N)".
func (h Hash) String() string { return name(hashNames, h, "hash") }

// IDType is an identification type (RFC 7296 3.5).
type IDType uint8

// Identification types.
const (
	ID_IPV4_ADDR   IDType = 1  // RFC 7296 3.5
	ID_FQDN        IDType = 2  // RFC 7296 3.5
	ID_RFC822_ADDR IDType = 3  // RFC 7296 3.5
	ID_IPV6_ADDR   IDType = 5  // RFC 7296 3.5
	ID_DER_ASN1_DN IDType = 9  // RFC 7296 3.5
	ID_DER_ASN1_GN IDType = 10 // RFC 7296 3.5
	ID_KEY_ID      IDType = 11 // RFC 7296 3.5
	ID_FC_NAME     IDType = 12 // RFC 4595
	ID_NULL        IDType = 13 // RFC 7619
)

var idTypeNames = map[IDType]string{
	ID_IPV4_ADDR:   "ID_IPV4_ADDR",
	ID_FQDN:        "ID_FQDN",
	ID_RFC822_ADDR: "ID_RFC822_ADDR",
	ID_IPV6_ADDR:   "ID_IPV6_ADDR",
	ID_DER_ASN1_DN: "ID_DER_ASN1_DN",
	ID_DER_ASN1_GN: "ID_DER_ASN1_GN",
	ID_KEY_ID:      "ID_KEY_ID",
	ID_FC_NAME:     "ID_FC_NAME",
	ID_NULL:        "ID_NULL",
}

// String returns the registry's name, or "id(N)".
func (t IDType) String() string { return name(idTypeNames, t, "id") }

// CertEncoding is a certificate encoding (RFC 7296 3.6).
type CertEncoding uint8

// Certificate encodings.
const (
	CertPKCS7         CertEncoding = 1  // RFC 7296 3.6
	CertPGP           CertEncoding = 2  // RFC 7296 3.6
	CertDNSKey        CertEncoding = 3  // RFC 7296 3.6
	CertX509Signature CertEncoding = 4  // RFC 7296 3.6
	CertKerberos      CertEncoding = 6  // RFC 7296 3.6
	CertCRL           CertEncoding = 7  // RFC 7296 3.6
	CertARL           CertEncoding = 8  // RFC 7296 3.6
	CertSPKI          CertEncoding = 9  // RFC 7296 3.6
	CertX509Attribute CertEncoding = 10 // RFC 7296 3.6
	CertRawRSA        CertEncoding = 11 // RFC 7296 3.6, replaced by 15
	CertHashURL       CertEncoding = 12 // RFC 7296 3.6
	CertHashURLBundle CertEncoding = 13 // RFC 7296 3.6
	CertOCSP          CertEncoding = 14 // RFC 4806
	CertRawPublicKey  CertEncoding = 15 // RFC 7670
)

var certEncodingNames = map[CertEncoding]string{
	CertPKCS7:         "PKCS7",
	CertPGP:           "PGP",
	CertDNSKey:        "DNS_SIGNED_KEY",
	CertX509Signature: "X509_SIGNATURE",
	CertKerberos:      "KERBEROS_TOKEN",
	CertCRL:           "CRL",
	CertARL:           "ARL",
	CertSPKI:          "SPKI",
	CertX509Attribute: "X509_ATTRIBUTE",
	CertRawRSA:        "RAW_RSA_KEY",
	CertHashURL:       "HASH_AND_URL",
	CertHashURLBundle: "HASH_AND_URL_BUNDLE",
	CertOCSP:          "OCSP_CONTENT",
	CertRawPublicKey:  "RAW_PUBLIC_KEY",
}

// String returns a short form of the registry's name, or "cert(N)".
func (c CertEncoding) String() string { return name(certEncodingNames, c, "cert") }

// TSType is a traffic selector type (RFC 7296 3.13.1).
type TSType uint8

// Traffic selector types.
const (
	TS_IPV4_ADDR_RANGE TSType = 7  // RFC 7296 3.13.1
	TS_IPV6_ADDR_RANGE TSType = 8  // RFC 7296 3.13.1
	TS_FC_ADDR_RANGE   TSType = 9  // RFC 4595
	TS_SECLABEL        TSType = 10 // RFC 9478
)

var tsTypeNames = map[TSType]string{
	TS_IPV4_ADDR_RANGE: "TS_IPV4_ADDR_RANGE",
	TS_IPV6_ADDR_RANGE: "TS_IPV6_ADDR_RANGE",
	TS_FC_ADDR_RANGE:   "TS_FC_ADDR_RANGE",
	TS_SECLABEL:        "TS_SECLABEL",
}

// String returns the registry's name, or "ts(N)".
func (t TSType) String() string { return name(tsTypeNames, t, "ts") }

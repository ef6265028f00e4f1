// Package iana holds the numbers of the IKEv2 registries, each with a String as an operator reads it.
package iana

// Port numbers of IKE (RFC 7296 2, RFC 9329 2).
const (
	PortIKE     = 500
	PortIKENATT = 4500
)

// Exchange is an IKEv2 exchange type (RFC 7296 3.1).
type Exchange uint8

// Exchange types.
const (
	IKE_SA_INIT        Exchange = 34
	IKE_AUTH           Exchange = 35
	CREATE_CHILD_SA    Exchange = 36
	INFORMATIONAL      Exchange = 37
	IKE_SESSION_RESUME Exchange = 38
	IKE_INTERMEDIATE   Exchange = 43
	IKE_FOLLOWUP_KE    Exchange = 44
)

// Payload is an IKEv2 payload type (RFC 7296 3.2).
type Payload uint8

// Payload types.
const (
	PayloadNone     Payload = 0
	PayloadSA       Payload = 33
	PayloadKE       Payload = 34
	PayloadIDi      Payload = 35
	PayloadIDr      Payload = 36
	PayloadCERT     Payload = 37
	PayloadCERTREQ  Payload = 38
	PayloadAUTH     Payload = 39
	PayloadNonce    Payload = 40
	PayloadNotify   Payload = 41
	PayloadDelete   Payload = 42
	PayloadVendorID Payload = 43
	PayloadTSi      Payload = 44
	PayloadTSr      Payload = 45
	PayloadSK       Payload = 46
	PayloadCP       Payload = 47
	PayloadEAP      Payload = 48
	PayloadSKF      Payload = 53
)

// Protocol is a security protocol identifier (RFC 7296 3.3.1).
type Protocol uint8

// Protocol identifiers.
const (
	ProtoNone Protocol = 0
	ProtoIKE  Protocol = 1
	ProtoAH   Protocol = 2
	ProtoESP  Protocol = 3
)

// TransformType is the type of a transform (RFC 7296 3.3.2).
type TransformType uint8

// Transform types; 6 to 12 are the additional key exchanges of RFC 9370.
const (
	TransformEncr   TransformType = 1
	TransformPRF    TransformType = 2
	TransformInteg  TransformType = 3
	TransformKE     TransformType = 4
	TransformSN     TransformType = 5
	TransformAddKE1 TransformType = 6
	TransformAddKE7 TransformType = 12
)

// Encr is an encryption algorithm (transform type 1).
type Encr uint16

// Encryption algorithms.
const (
	ENCR_3DES               Encr = 3
	ENCR_NULL               Encr = 11
	ENCR_AES_CBC            Encr = 12
	ENCR_AES_CTR            Encr = 13
	ENCR_AES_CCM_8          Encr = 14
	ENCR_AES_CCM_12         Encr = 15
	ENCR_AES_CCM_16         Encr = 16
	ENCR_AES_GCM_8          Encr = 18
	ENCR_AES_GCM_12         Encr = 19
	ENCR_AES_GCM_16         Encr = 20
	ENCR_NULL_AUTH_AES_GMAC Encr = 21
	ENCR_CHACHA20_POLY1305  Encr = 28
)

// PRF is a pseudorandom function (transform type 2).
type PRF uint16

// Pseudorandom functions.
const (
	PRF_HMAC_MD5      PRF = 1
	PRF_HMAC_SHA1     PRF = 2
	PRF_AES128_XCBC   PRF = 4
	PRF_HMAC_SHA2_256 PRF = 5
	PRF_HMAC_SHA2_384 PRF = 6
	PRF_HMAC_SHA2_512 PRF = 7
	PRF_AES128_CMAC   PRF = 8
)

// Integ is an integrity algorithm (transform type 3).
type Integ uint16

// Integrity algorithms.
const (
	AUTH_NONE              Integ = 0
	AUTH_HMAC_MD5_96       Integ = 1
	AUTH_HMAC_SHA1_96      Integ = 2
	AUTH_AES_XCBC_96       Integ = 5
	AUTH_AES_CMAC_96       Integ = 8
	AUTH_HMAC_SHA2_256_128 Integ = 12
	AUTH_HMAC_SHA2_384_192 Integ = 13
	AUTH_HMAC_SHA2_512_256 Integ = 14
)

// KE is a key exchange method, formerly Diffie-Hellman group (transform type 4).
type KE uint16

// Key exchange methods.
const (
	KE_NONE       KE = 0
	KE_MODP768    KE = 1
	KE_MODP1024   KE = 2
	KE_MODP1536   KE = 5
	KE_MODP2048   KE = 14
	KE_MODP3072   KE = 15
	KE_MODP4096   KE = 16
	KE_MODP6144   KE = 17
	KE_MODP8192   KE = 18
	KE_ECP256     KE = 19
	KE_ECP384     KE = 20
	KE_ECP521     KE = 21
	KE_CURVE25519 KE = 31
	KE_CURVE448   KE = 32
	KE_MLKEM512   KE = 35
	KE_MLKEM768   KE = 36
	KE_MLKEM1024  KE = 37
)

// SN is a sequence number property of ESP and AH (transform type 5; RFC 7296 3.3.2 calls it ESN).
type SN uint16

// Sequence number properties.
const (
	SN_32  SN = 0 // 32-bit sequential numbers ("No ESN")
	SN_ESN SN = 1 // partially transmitted 64-bit sequential numbers ("ESN")
)

// AuthMethod is an authentication method (RFC 7296 3.8).
type AuthMethod uint8

// Authentication methods.
const (
	AuthRSA              AuthMethod = 1
	AuthSharedKey        AuthMethod = 2
	AuthDSS              AuthMethod = 3
	AuthECDSA256         AuthMethod = 9
	AuthECDSA384         AuthMethod = 10
	AuthECDSA521         AuthMethod = 11
	AuthNull             AuthMethod = 13
	AuthDigitalSignature AuthMethod = 14
)

// IDType is an identification type (RFC 7296 3.5).
type IDType uint8

// Identification types.
const (
	ID_IPV4_ADDR   IDType = 1
	ID_FQDN        IDType = 2
	ID_RFC822_ADDR IDType = 3
	ID_IPV6_ADDR   IDType = 5
	ID_DER_ASN1_DN IDType = 9
	ID_DER_ASN1_GN IDType = 10
	ID_KEY_ID      IDType = 11
	ID_NULL        IDType = 13
)

// TSType is a traffic selector type (RFC 7296 3.13.1).
type TSType uint8

// Traffic selector types.
const (
	TS_IPV4_ADDR_RANGE TSType = 7
	TS_IPV6_ADDR_RANGE TSType = 8
)

// CFGType is a configuration payload type (RFC 7296 3.15).
type CFGType uint8

// Configuration payload types.
const (
	CFG_REQUEST CFGType = 1
	CFG_REPLY   CFGType = 2
	CFG_SET     CFGType = 3
	CFG_ACK     CFGType = 4
)

// CFGAttr is a configuration attribute type (RFC 7296 3.15.1).
type CFGAttr uint16

// CertEncoding is a certificate encoding (RFC 7296 3.6).
type CertEncoding uint8

// Certificate encodings.
const (
	CertX509Signature CertEncoding = 4
	CertCRL           CertEncoding = 7
	CertHashURL       CertEncoding = 12
	CertOCSP          CertEncoding = 14
)

// AttrKeyLength is the transform attribute Key Length, in bits (RFC 7296 3.3.5).
const AttrKeyLength = 14

// Notify is a notify message type (RFC 7296 3.10.1). Below 16384 it is an error.
type Notify uint16

// Error reports whether the notify type is in the error range.
func (n Notify) Error() bool { return n < 16384 }

// Notify message types: errors.
const (
	UNSUPPORTED_CRITICAL_PAYLOAD Notify = 1
	INVALID_IKE_SPI              Notify = 4
	INVALID_MAJOR_VERSION        Notify = 5
	INVALID_SYNTAX               Notify = 7
	INVALID_MESSAGE_ID           Notify = 9
	INVALID_SPI                  Notify = 11
	NO_PROPOSAL_CHOSEN           Notify = 14
	INVALID_KE_PAYLOAD           Notify = 17
	AUTHENTICATION_FAILED        Notify = 24
	SINGLE_PAIR_REQUIRED         Notify = 34
	NO_ADDITIONAL_SAS            Notify = 35
	INTERNAL_ADDRESS_FAILURE     Notify = 36
	FAILED_CP_REQUIRED           Notify = 37
	TS_UNACCEPTABLE              Notify = 38
	INVALID_SELECTORS            Notify = 39
	TEMPORARY_FAILURE            Notify = 43
	CHILD_SA_NOT_FOUND           Notify = 44
	STATE_NOT_FOUND              Notify = 47
)

// Notify message types: status.
const (
	INITIAL_CONTACT                 Notify = 16384
	SET_WINDOW_SIZE                 Notify = 16385
	ADDITIONAL_TS_POSSIBLE          Notify = 16386
	IPCOMP_SUPPORTED                Notify = 16387
	NAT_DETECTION_SOURCE_IP         Notify = 16388
	NAT_DETECTION_DESTINATION_IP    Notify = 16389
	COOKIE                          Notify = 16390
	USE_TRANSPORT_MODE              Notify = 16391
	HTTP_CERT_LOOKUP_SUPPORTED      Notify = 16392
	REKEY_SA                        Notify = 16393
	ESP_TFC_PADDING_NOT_SUPPORTED   Notify = 16394
	NON_FIRST_FRAGMENTS_ALSO        Notify = 16395
	MOBIKE_SUPPORTED                Notify = 16396
	ADDITIONAL_IP4_ADDRESS          Notify = 16397
	ADDITIONAL_IP6_ADDRESS          Notify = 16398
	NO_ADDITIONAL_ADDRESSES         Notify = 16399
	UPDATE_SA_ADDRESSES             Notify = 16400
	COOKIE2                         Notify = 16401
	NO_NATS_ALLOWED                 Notify = 16402
	REDIRECT_SUPPORTED              Notify = 16406
	REDIRECT                        Notify = 16407
	REDIRECTED_FROM                 Notify = 16408
	CHILDLESS_IKEV2_SUPPORTED       Notify = 16418
	IKEV2_FRAGMENTATION_SUPPORTED   Notify = 16430
	SIGNATURE_HASH_ALGORITHMS       Notify = 16431
	USE_PPK                         Notify = 16435
	INTERMEDIATE_EXCHANGE_SUPPORTED Notify = 16438
)

package suite

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"fmt"
	"hash"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/ikegod/ikegod/pkg/iana"
)

// The number of octets of salt at the end of an AEAD's keying material.
const (
	saltLen    = 4 // RFC 4106 8.1, RFC 5282 7.1, RFC 7634 2
	ccmSaltLen = 3 // RFC 4309 7.1, RFC 5282 7.1
)

// MaxNonceLen is the size of the longest nonce of the AEADs here in octets.
const MaxNonceLen = saltLen + aeadIVLen

// encr returns the row of the suite's encryption algorithm, or nil when it is not implemented.
func (s Suite) encr() *algorithm {
	a, ok := encrs.byID(uint16(s.Encr.ID))
	if !ok || !a.supported || !a.allowsKeyBits(s.Encr.KeyBits) {
		return nil
	}
	return a
}

// integ returns the row of the suite's integrity algorithm, or nil when it has none or it is not implemented.
func (s Suite) integ() *algorithm {
	a, ok := integs.byID(uint16(s.Integ))
	if !ok || !a.supported || a.hash == nil {
		return nil
	}
	return a
}

// allowsKeyBits reports whether a Key Length of bits (zero: no such attribute) goes with the encryption algorithm (RFC 7296 3.3.5).
func (a *algorithm) allowsKeyBits(bits uint16) bool {
	if len(a.keyBits) == 0 {
		return bits == 0
	}
	return slices.Contains(a.keyBits, bits)
}

// AEAD reports whether one algorithm both encrypts and authenticates.
func (s Suite) AEAD() bool { return s.Encr.AEAD() }

// EncrKeyLen is the number of octets of an encryption key, an AEAD's salt included. Zero if the algorithm is not implemented.
func (s Suite) EncrKeyLen() int {
	a := s.encr()
	if a == nil {
		return 0
	}
	n := int(s.Encr.KeyBits / 8)
	if len(a.keyBits) == 0 {
		n = int(a.fixed / 8)
	}
	return n + a.salt
}

// IntegKeyLen is the number of octets of an integrity key: the size of the hash's output (RFC 7296 2.13). Zero with an AEAD.
func (s Suite) IntegKeyLen() int {
	if a := s.integ(); a != nil && !s.AEAD() {
		return a.hash().Size()
	}
	return 0
}

// ICVLen is the number of octets of the integrity check value in each packet.
func (s Suite) ICVLen() int {
	if a := s.encr(); a != nil && a.aead {
		return a.icv
	}
	if a := s.integ(); a != nil {
		return a.size
	}
	return 0
}

// IVLen is the number of octets of the initialisation vector in each packet.
func (s Suite) IVLen() int {
	if a := s.encr(); a != nil {
		return a.iv
	}
	return 0
}

// BlockLen is the number of octets that the length of the plaintext with its padding has to be a multiple of: 16 for AES-CBC, 1 for AEADs
// (ESP then aligns to 4 octets, RFC 4303 2.4).
func (s Suite) BlockLen() int {
	if a := s.encr(); a != nil {
		return a.block
	}
	return 0
}

// NewAEAD makes the cipher from the keying material of one direction: the key, then the salt. The nonce is the salt and the 8 octets of the
// packet's IV (RFC 4106 4, RFC 4309 4, RFC 5282 4, RFC 7634 2), at most MaxNonceLen octets in all. The salt does not alias the key. The
// error never holds the key.
func (s Suite) NewAEAD(key []byte) (aead cipher.AEAD, salt []byte, err error) {
	a := s.encr()
	switch {
	case a == nil || !a.aead:
		return nil, nil, fmt.Errorf("%v is not an AEAD that ikegod implements", s.Encr)
	case len(key) != s.EncrKeyLen():
		return nil, nil, fmt.Errorf("%v: %d octets of keying material, expected %d", s.Encr, len(key), s.EncrKeyLen())
	}
	n := len(key) - a.salt
	salt = bytes.Clone(key[n:])
	if s.Encr.ID == iana.ENCR_CHACHA20_POLY1305 {
		aead, err = chacha20poly1305.New(key[:n])
		return aead, salt, err
	}
	block, err := aes.NewCipher(key[:n])
	if err != nil {
		return nil, nil, err
	}
	if s.Encr.ID == iana.ENCR_AES_CCM_16 {
		return newCCM(block, ccmNonceLen, a.icv), salt, nil
	}
	aead, err = cipher.NewGCM(block)
	return aead, salt, err
}

// NewCBC makes the block cipher of a CBC algorithm. The error never holds the key.
func (s Suite) NewCBC(key []byte) (cipher.Block, error) {
	a := s.encr()
	switch {
	case a == nil || a.aead:
		return nil, fmt.Errorf("%v is not a CBC cipher that ikegod implements", s.Encr)
	case len(key) != s.EncrKeyLen():
		return nil, fmt.Errorf("%v: key of %d octets, expected %d", s.Encr, len(key), s.EncrKeyLen())
	}
	return aes.NewCipher(key)
}

// NewMAC makes the keyed hash of the integrity algorithm. Its sum is to be cut to ICVLen octets (RFC 4868 2.3). The error never holds the key.
func (s Suite) NewMAC(key []byte) (hash.Hash, error) {
	a := s.integ()
	switch {
	case a == nil:
		return nil, fmt.Errorf("%s is not an integrity algorithm that ikegod implements", integName(uint16(s.Integ)))
	case len(key) != a.hash().Size():
		return nil, fmt.Errorf("%s: key of %d octets, expected %d", a.name, len(key), a.hash().Size())
	}
	return hmac.New(a.hash, key), nil
}

package xfrm

import (
	"fmt"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/xfrm/message"
	"github.com/ikegod/ikegod/pkg/iana"
)

// What the kernel calls our algorithms. Keys of AEADs have their salt at the end, as IKE derives them (RFC 4106 8.1, RFC 4309 7.1, RFC 7634 2).
var (
	aeads = map[iana.Encr]message.Algorithm{
		iana.ENCR_AES_GCM_8:          {Name: message.GCM, Bits: 64},
		iana.ENCR_AES_GCM_12:         {Name: message.GCM, Bits: 96},
		iana.ENCR_AES_GCM_16:         {Name: message.GCM, Bits: 128},
		iana.ENCR_AES_CCM_8:          {Name: message.CCM, Bits: 64},
		iana.ENCR_AES_CCM_12:         {Name: message.CCM, Bits: 96},
		iana.ENCR_AES_CCM_16:         {Name: message.CCM, Bits: 128},
		iana.ENCR_NULL_AUTH_AES_GMAC: {Name: message.GMAC, Bits: 128},
		iana.ENCR_CHACHA20_POLY1305:  {Name: message.ChaCha20, Bits: 128},
	}
	ciphers = map[iana.Encr]string{
		iana.ENCR_NULL: "ecb(cipher_null)", iana.ENCR_3DES: "cbc(des3_ede)", iana.ENCR_AES_CBC: message.CBC, iana.ENCR_AES_CTR: "rfc3686(ctr(aes))",
		iana.ENCR_CAMELLIA_CBC: "cbc(camellia)",
	}
	macs = map[iana.Integ]message.Algorithm{
		iana.AUTH_HMAC_SHA1_96:      {Name: message.HMACSHA1, Bits: 96},
		iana.AUTH_HMAC_SHA2_256_128: {Name: message.HMACSHA256, Bits: 128},
		iana.AUTH_HMAC_SHA2_384_192: {Name: message.HMACSHA384, Bits: 192},
		iana.AUTH_HMAC_SHA2_512_256: {Name: message.HMACSHA512, Bits: 256},
		iana.AUTH_AES_XCBC_96:       {Name: "xcbc(aes)", Bits: 96},
		iana.AUTH_AES_CMAC_96:       {Name: "cmac(aes)", Bits: 96},
	}
)

// algorithms sets the algorithms of m to those of sa, with copies of its keys, and returns their names.
func algorithms(m *message.SA, sa kernel.SA) (string, error) {
	e := sa.Suite.Encr
	if a, ok := aeads[e.ID]; ok {
		m.AEAD = message.Algorithm{Name: a.Name, Key: sa.EncrKey, Bits: a.Bits}
		return a.Name, nil
	}
	cipher, ok := ciphers[e.ID]
	if !ok {
		return "", classed{fmt.Errorf("the kernel has no name for %s; choose another esp=, %s", e, elsewhere), kernel.ErrAlgorithm}
	}
	mac, ok := macs[sa.Suite.Integ]
	if !ok {
		return "", classed{fmt.Errorf("the kernel has no name for the integrity of %s; choose another esp=, %s", sa.Suite.Transform(), elsewhere), kernel.ErrAlgorithm}
	}
	m.Cipher = message.Algorithm{Name: cipher, Key: sa.EncrKey}
	m.MAC = message.Algorithm{Name: mac.Name, Key: sa.IntegKey, Bits: mac.Bits}
	return cipher + " with " + mac.Name, nil
}

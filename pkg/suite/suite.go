// Package suite holds the algorithms of IKEv2 and ESP: proposals and their choice, key exchange, the key schedule, and the protection of SK
// payloads.
package suite

import (
	"github.com/ikegod/ikegod/pkg/iana"
)

// Encr is an encryption algorithm with its key length in bits (zero where the algorithm has one length only).
type Encr struct {
	ID      iana.Encr
	KeyBits uint16
}

// String prints the algorithm as logs and proposals name it, e.g. AES_GCM_16_256.
func (e Encr) String() string { return encrName(uint16(e.ID), e.KeyBits) }

// AEAD reports whether the algorithm authenticates as well as encrypts, so that no integrity algorithm goes with it (RFC 7296 3.3).
func (e Encr) AEAD() bool {
	a, ok := encrs.byID(uint16(e.ID))
	return ok && a.aead
}

// Suite is what one negotiation settled on. For ESP, PRF is zero and KE may be KE_NONE.
type Suite struct {
	Encr  Encr
	PRF   iana.PRF
	Integ iana.Integ // AUTH_NONE with an AEAD
	KE    iana.KE
	SN    iana.SN
}

// String prints the suite for logs: {cipher=AES_GCM_16_256 integ=n/a prf=HMAC_SHA2_512 ke=DH19} for an IKE SA,
// {cipher=AES_GCM_16_256 integ=n/a ke=none esn=yes} for a Child SA.
func (s Suite) String() string {
	integ := "n/a"
	if s.Integ != iana.AUTH_NONE {
		integ = integName(uint16(s.Integ))
	}
	ke := "none"
	if s.KE != iana.KE_NONE {
		ke = keName(uint16(s.KE))
	}
	if s.PRF != 0 {
		return "{cipher=" + s.Encr.String() + " integ=" + integ + " prf=" + prfName(uint16(s.PRF)) + " ke=" + ke + "}"
	}
	esn := "no"
	if s.SN == iana.SN_ESN {
		esn = "yes"
	}
	return "{cipher=" + s.Encr.String() + " integ=" + integ + " ke=" + ke + " esn=" + esn + "}"
}

// Transform prints what protects the packets of a Child SA, e.g. AES_GCM_16_256 or AES_CBC_256-HMAC_SHA2_256_128.
func (s Suite) Transform() string {
	if s.Integ == iana.AUTH_NONE {
		return s.Encr.String()
	}
	return s.Encr.String() + "-" + integName(uint16(s.Integ))
}

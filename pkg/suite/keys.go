package suite

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// hidden is what keys print as.
const hidden = "***"

// IKEKeys are the keys of an IKE SA (RFC 7296 2.14), raw. It never prints.
type IKEKeys struct {
	D      []byte
	Ai, Ar []byte
	Ei, Er []byte // with the 4-octet salt of RFC 5282 7.1 at the end for AEADs
	Pi, Pr []byte
}

// String hides the keys.
func (IKEKeys) String() string { return hidden }

// Format hides the keys whatever the verb.
func (IKEKeys) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText hides the keys from JSON and its like.
func (IKEKeys) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// ChildKeys is the keying material of a Child SA (RFC 7296 2.17), initiator to responder and back. Encryption keys of AEADs carry
// their salt at the end (RFC 4106 8.1, RFC 7634 2).
type ChildKeys struct {
	EncrI, IntegI []byte
	EncrR, IntegR []byte
}

// String hides the keys.
func (ChildKeys) String() string { return hidden }

// Format hides the keys whatever the verb.
func (ChildKeys) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText hides the keys from JSON and its like.
func (ChildKeys) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// DeriveIKE computes SKEYSEED and the seven keys of RFC 7296 2.14. (The rule there that only 64 bits of each nonce enter SKEYSEED is for
// PRFs with keys of a fixed size; all PRFs implemented here are HMACs.)
func (s Suite) DeriveIKE(secret, ni, nr []byte, spii, spir wire.SPI) IKEKeys {
	nonces := join(ni, nr)
	skeyseed := Prf(s.PRF, nonces, secret)
	seed := binary.BigEndian.AppendUint64(nonces, uint64(spii))
	seed = binary.BigEndian.AppendUint64(seed, uint64(spir))

	p, a, e := PRFLen(s.PRF), s.IntegKeyLen(), s.EncrKeyLen()
	cut := cutter{PrfPlus(s.PRF, skeyseed, seed, 3*p+2*a+2*e)}
	var k IKEKeys
	k.D = cut.next(p)
	k.Ai, k.Ar = cut.next(a), cut.next(a)
	k.Ei, k.Er = cut.next(e), cut.next(e)
	k.Pi, k.Pr = cut.next(p), cut.next(p)
	return k
}

// DeriveChild computes KEYMAT for the ESP suite s from SK_d with the IKE SA's prf (RFC 7296 2.17): all keys from the initiator of the
// exchange to the responder come first, and of each direction encryption comes before integrity. secret is empty without PFS.
func (s Suite) DeriveChild(prf iana.PRF, skd, secret, ni, nr []byte) ChildKeys {
	e, a := s.EncrKeyLen(), s.IntegKeyLen()
	cut := cutter{PrfPlus(prf, skd, join(secret, ni, nr), 2*e+2*a)}
	var k ChildKeys
	k.EncrI, k.IntegI = cut.next(e), cut.next(a)
	k.EncrR, k.IntegR = cut.next(e), cut.next(a)
	return k
}

// cutter takes keys from a string of octets one after the other.
type cutter struct{ rest []byte }

// next takes n octets; nil when n is zero or the string is too short, which it is only for algorithms that are not implemented.
func (c *cutter) next(n int) []byte {
	if n == 0 || n > len(c.rest) {
		return nil
	}
	key := c.rest[:n:n]
	c.rest = c.rest[n:]
	return key
}

func join(parts ...[]byte) []byte {
	n := 16 // room for the SPIs
	for _, p := range parts {
		n += len(p)
	}
	b := make([]byte, 0, n)
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

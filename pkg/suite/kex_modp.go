package suite

import (
	"encoding/hex"
	"fmt"
	"io"
	"sync"

	"filippo.io/bigmod"
)

// modpGroup is a modular group with generator 2 whose prime p has a prime (p-1)/2 (RFC 3526, RFC 7296 B.2). The arithmetic takes the same time for all values.
type modpGroup struct {
	prime string // hexadecimal
	// exponentLen is the size of the private exponent in octets: the larger estimate of RFC 3526 8, rounded up. A longer one costs time and adds
	// no strength.
	exponentLen int
	slow        bool
	modulus     func() *bigmod.Modulus
}

var (
	// Groups 2 and 5 are for peers that have nothing better (RFC 8247 2.4: SHOULD NOT). RFC 3526 has no estimate for group 2; it gets that of 5.
	modp1024 = newMODP(modp1024Prime, 240, false)
	modp1536 = newMODP(modp1536Prime, 240, false)

	modp2048 = newMODP(modp2048Prime, 320, false)
	modp3072 = newMODP(modp3072Prime, 420, true)
	modp4096 = newMODP(modp4096Prime, 480, true)
	modp6144 = newMODP(modp6144Prime, 540, true)
	modp8192 = newMODP(modp8192Prime, 620, true)
)

func newMODP(prime string, exponentBits int, slow bool) *modpGroup {
	g := &modpGroup{prime: prime, exponentLen: (exponentBits + 7) / 8, slow: slow}
	g.modulus = sync.OnceValue(func() *bigmod.Modulus {
		b, _ := hex.DecodeString(g.prime) // our own constant: tested
		m, _ := bigmod.NewModulus(b)      // odd and greater than one: tested
		return m
	})
	return g
}

func modpMethod(g *modpGroup) *method {
	size := len(g.prime) / 2
	return &method{
		publicLen: size,
		replyLen:  size,
		slow:      g.slow,
		offer: func(rand io.Reader) ([]byte, func([]byte) ([]byte, error), error) {
			exponent, err := g.newExponent(rand)
			if err != nil {
				return nil, nil, err
			}
			finish := func(reply []byte) ([]byte, error) {
				peer, err := g.peer(reply)
				if err != nil {
					return nil, err
				}
				return g.exp(peer, exponent), nil
			}
			return g.public(exponent), finish, nil
		},
		answer: func(rand io.Reader, public []byte) ([]byte, func() ([]byte, error), error) {
			peer, err := g.peer(public)
			if err != nil {
				return nil, nil, err
			}
			exponent, err := g.newExponent(rand)
			if err != nil {
				return nil, nil, err
			}
			return g.public(exponent), func() ([]byte, error) { return g.exp(peer, exponent), nil }, nil
		},
	}
}

// newExponent reads a private exponent. Its first bit is set, so that it is never short, whatever the source.
func (g *modpGroup) newExponent(rand io.Reader) ([]byte, error) {
	x := make([]byte, g.exponentLen)
	if _, err := io.ReadFull(rand, x); err != nil {
		return nil, fmt.Errorf("no random octets for a private key: %w", err)
	}
	x[0] |= 0x80
	return x, nil
}

// public is 2^x mod p, as long as the prime (RFC 7296 3.4).
func (g *modpGroup) public(x []byte) []byte {
	m := g.modulus()
	two, _ := bigmod.NewNat().SetBytes([]byte{2}, m) // 2 is below every prime of the table
	return g.exp(two, x)
}

// peer reads a public value y and checks that 1 < y < p-1 (RFC 6989 2.1). Its size has been checked.
func (g *modpGroup) peer(public []byte) (*bigmod.Nat, error) {
	m := g.modulus()
	y, err := bigmod.NewNat().SetBytes(public, m)
	if err != nil || y.IsZero()|y.IsOne()|y.IsMinusOne(m) != 0 {
		return nil, fmt.Errorf("%w: it is not between 1 and p-1", ErrPublicValue)
	}
	return y, nil
}

// exp is base^x mod p, padded to the size of the prime (RFC 7296 2.14).
func (g *modpGroup) exp(base *bigmod.Nat, x []byte) []byte {
	m := g.modulus()
	return bigmod.NewNat().Exp(base, x, m).Bytes(m)
}

package suite

import (
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
)

// curve is a key exchange of crypto/ecdh. The scalars come from the reader that is passed in, by NewPrivateKey: GenerateKey does not use
// the reader it is given (Go 1.26), and a run could not be repeated.
type curve struct {
	ecdh.Curve
	scalarLen int
	topMask   byte // bits of a scalar's first octet that are below the order's bit length
	pointLen  int  // octets of the public value
	prefix    []byte
	slow      bool
}

// ECP groups (RFC 5903). The public value is x | y: the point without the octet 04 of SEC 1 that crypto/ecdh puts before it (RFC 5903 7).
// The secret is x (RFC 5903 7, RFC 7296 2.14), which is what crypto/ecdh returns. It refuses points that are not on the curve (RFC 6989 2.3).
var (
	p256 = curve{Curve: ecdh.P256(), scalarLen: 32, topMask: 0xff, pointLen: 64, prefix: []byte{4}}
	p384 = curve{Curve: ecdh.P384(), scalarLen: 48, topMask: 0xff, pointLen: 96, prefix: []byte{4}}
	p521 = curve{Curve: ecdh.P521(), scalarLen: 66, topMask: 0x01, pointLen: 132, prefix: []byte{4}, slow: true}
)

func ecpMethod(c curve) *method { return c.method() }

// x25519Method is Curve25519 (RFC 8031). Values that are not canonical are accepted and an all-zero secret is refused (RFC 7748 6.1).
func x25519Method() *method {
	return curve{Curve: ecdh.X25519(), scalarLen: 32, topMask: 0xff, pointLen: 32}.method()
}

func (c curve) method() *method {
	return &method{
		publicLen: c.pointLen,
		replyLen:  c.pointLen,
		slow:      c.slow,
		offer: func(rand io.Reader) ([]byte, func([]byte) ([]byte, error), error) {
			key, err := c.newKey(rand)
			if err != nil {
				return nil, nil, err
			}
			finish := func(reply []byte) ([]byte, error) {
				peer, err := c.peer(reply)
				if err != nil {
					return nil, err
				}
				return c.secret(key, peer)
			}
			return c.public(key), finish, nil
		},
		answer: func(rand io.Reader, public []byte) ([]byte, func() ([]byte, error), error) {
			peer, err := c.peer(public)
			if err != nil {
				return nil, nil, err
			}
			key, err := c.newKey(rand)
			if err != nil {
				return nil, nil, err
			}
			return c.public(key), func() ([]byte, error) { return c.secret(key, peer) }, nil
		},
	}
}

// tries bounds the search for a scalar below the group's order. With a sound source one try in 2^32 fails on the P curves.
const tries = 64

// newKey makes a private key of octets from rand. A scalar out of range is thrown away and the next octets are tried.
func (c curve) newKey(rand io.Reader) (*ecdh.PrivateKey, error) {
	scalar := make([]byte, c.scalarLen)
	for range tries {
		if _, err := io.ReadFull(rand, scalar); err != nil {
			return nil, fmt.Errorf("no random octets for a private key: %w", err)
		}
		scalar[0] &= c.topMask
		if key, err := c.NewPrivateKey(scalar); err == nil {
			clear(scalar)
			return key, nil
		}
	}
	return nil, errors.New("the random source gave no valid private key")
}

// public is the value for the KE payload.
func (c curve) public(key *ecdh.PrivateKey) []byte {
	return key.PublicKey().Bytes()[len(c.prefix):]
}

// peer reads a public value. Its size has been checked.
func (c curve) peer(public []byte) (*ecdh.PublicKey, error) {
	point := make([]byte, 0, len(c.prefix)+len(public))
	point = append(append(point, c.prefix...), public...)
	peer, err := c.NewPublicKey(point)
	if err != nil {
		return nil, fmt.Errorf("%w: the point is not on the curve", ErrPublicValue)
	}
	return peer, nil
}

// secret computes the shared secret. It fails only for a Curve25519 value of low order.
func (c curve) secret(key *ecdh.PrivateKey, peer *ecdh.PublicKey) ([]byte, error) {
	secret, err := key.ECDH(peer)
	if err != nil {
		return nil, fmt.Errorf("%w: the shared secret is zero", ErrPublicValue)
	}
	return secret, nil
}

package suite

import (
	"fmt"
	"io"

	"github.com/cloudflare/circl/dh/x448"
)

// x448Method is Curve448 (RFC 8031). Values that are not canonical are accepted and an all-zero secret is refused (RFC 7748 6.2).
func x448Method() *method {
	return &method{
		publicLen: x448.Size,
		replyLen:  x448.Size,
		offer: func(rand io.Reader) ([]byte, func([]byte) ([]byte, error), error) {
			key, err := newX448(rand)
			if err != nil {
				return nil, nil, err
			}
			return x448Public(key), func(reply []byte) ([]byte, error) { return x448Secret(key, x448.Key(reply)) }, nil
		},
		answer: func(rand io.Reader, public []byte) ([]byte, func() ([]byte, error), error) {
			key, err := newX448(rand)
			if err != nil {
				return nil, nil, err
			}
			peer := x448.Key(public) // its size has been checked
			return x448Public(key), func() ([]byte, error) { return x448Secret(key, peer) }, nil
		},
	}
}

// newX448 makes a private key of octets from rand; each string of 56 octets is one.
func newX448(rand io.Reader) (*x448.Key, error) {
	key := new(x448.Key)
	if _, err := io.ReadFull(rand, key[:]); err != nil {
		return nil, fmt.Errorf("no random octets for a private key: %w", err)
	}
	return key, nil
}

// x448Public is the value for the KE payload.
func x448Public(key *x448.Key) []byte {
	var public x448.Key
	x448.KeyGen(&public, key)
	return public[:]
}

// x448Secret computes the shared secret. It fails only for a value of low order.
func x448Secret(key *x448.Key, peer x448.Key) ([]byte, error) {
	var secret x448.Key
	if !x448.Shared(&secret, key, &peer) {
		return nil, fmt.Errorf("%w: the shared secret is zero", ErrPublicValue)
	}
	return secret[:], nil
}

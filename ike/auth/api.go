// Package auth holds the credentials: it finds the secret for a pair of identities, and makes and checks AUTH data with it. Nothing else sees a
// private key or a pre-shared key.
package auth

import (
	"errors"

	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/pkg/ident"
)

// Secret is one PSK record of ipsec.secrets. It never prints its key.
type Secret struct {
	IDs      []ident.Pattern // none: for everybody; Any: %any
	Key      []byte
	Position string // file:line
}

// String hides the key.
func (Secret) String() string { return "***" }

// GoString hides the key.
func (Secret) GoString() string { return "***" }

// Store finds credentials. Immutable once made; safe for concurrent use.
type Store struct{ secrets []Secret }

// NewStore makes a store of the records in file order.
func NewStore(secrets []Secret) *Store { return &Store{secrets: secrets} }

// Do performs a Sign or Verify job. For Sign it returns the AUTH data. Errors name the identities, never the secret.
func (s *Store) Do(job machine.Job) ([]byte, error) { return nil, errors.New("auth: not written yet") }

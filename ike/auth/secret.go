package auth

import (
	"fmt"
	"io"

	"github.com/ikegod/ikegod/pkg/ident"
)

// hidden is what a secret prints as.
const hidden = "***"

// Secret is one PSK record of ipsec.secrets. It never prints its key.
type Secret struct {
	IDs      []ident.Pattern // none: for everybody; Any: %any
	Key      []byte
	Position string // file:line
}

// String hides the key.
func (Secret) String() string { return hidden }

// GoString hides the key.
func (Secret) GoString() string { return hidden }

// Format hides the key whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText hides the key from JSON and its like.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Package suite holds the algorithms of IKEv2 and ESP: proposals and their choice, key exchange, the key schedule, and the protection of SK
// payloads.
package suite

import (
	"errors"
	"fmt"
	"io"

	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

var errSkeleton = errors.New("suite: not written yet")

// Encr is an encryption algorithm with its key length in bits (zero where the algorithm has one length only).
type Encr struct {
	ID      iana.Encr
	KeyBits uint16
}

// Proposal is one alternative of a policy: for each kind of transform the allowed values in order of preference. For ESP PRF is empty;
// KE may be empty (no PFS) and SN lists the sequence number kinds. An AEAD proposal has no Integ (RFC 7296 3.3: AEAD and others are
// never mixed in one proposal; the parser splits them).
type Proposal struct {
	Encr  []Encr
	PRF   []iana.PRF
	Integ []iana.Integ
	KE    []iana.KE
	SN    []iana.SN
}

// Proposals is a policy's list in order of preference.
type Proposals []Proposal

// Suite is what one negotiation settled on. For ESP, PRF is zero and KE may be KE_NONE.
type Suite struct {
	Encr  Encr
	PRF   iana.PRF
	Integ iana.Integ // AUTH_NONE with an AEAD
	KE    iana.KE
	SN    iana.SN
}

// Choice is a chosen proposal: the suite, the number and SPI of the proposal it was chosen from, and the payload that says so.
type Choice struct {
	Suite  Suite
	Number uint8
	SPI    []byte
	Reply  wire.SA // exactly one proposal with one transform of each type, SPI empty: the caller puts its own in
}

// Mismatch says why no proposal was chosen: what was offered, what is allowed, and the first difference. Its Error is one line for an operator.
type Mismatch struct {
	Offered, Allowed string
	First            string // e.g. "key exchange: offered MODP1024, allowed ECP_256 or CURVE25519"
}

func (m *Mismatch) Error() string {
	return fmt.Sprintf("no proposal chosen: %s; offered %s; allowed %s", m.First, m.Offered, m.Allowed)
}

// ParseIKE reads the value of ike= (libreswan's syntax). The empty string gives the defaults.
func ParseIKE(s string) (Proposals, error) { return nil, errSkeleton }

// ParseESP reads the value of esp=. The empty string gives the defaults. sn is what esn= says, in order of preference.
func ParseESP(s string, sn []iana.SN) (Proposals, error) { return nil, errSkeleton }

// String prints proposals in the syntax that ParseIKE and ParseESP read.
func (p Proposals) String() string { return "" }

// Offer makes the SA payload that offers p. spi is put into every proposal (nil in IKE_SA_INIT). withKE false leaves the key exchange
// out (the Child SA of IKE_AUTH, RFC 7296 1.2).
func (p Proposals) Offer(protocol iana.Protocol, spi []byte, withKE bool) wire.SA { return wire.SA{} }

// Choose is the responder's choice (RFC 7296 3.3): the first of the initiator's proposals that p allows, and in it p's order of preference.
// preferKE, when not KE_NONE, is the method of the KE payload that came along: it wins over p's order if p allows it, which saves a round
// trip. The error is a *Mismatch.
func (p Proposals) Choose(offer wire.SA, protocol iana.Protocol, withKE bool, preferKE iana.KE) (Choice, error) {
	return Choice{}, errSkeleton
}

// Accept checks the responder's reply against p as offered: exactly one proposal, which is a subset of one of ours. The error is a
// *Mismatch.
func (p Proposals) Accept(reply wire.SA, protocol iana.Protocol, withKE bool) (Choice, error) {
	return Choice{}, errSkeleton
}

// Exchange is the initiator's half of a key exchange (KEM-shaped, RFC 9370): a public value and the secret state behind it.
type Exchange struct {
	Method iana.KE
	Public []byte
	finish func(reply []byte) ([]byte, error)
}

// NewExchange makes a key pair of method with octets from rand: the same octets, the same key. Elliptic and modular groups both.
func NewExchange(method iana.KE, rand io.Reader) (*Exchange, error) { return nil, errSkeleton }

// Finish checks the peer's public value (RFC 6989) and returns the shared secret. Slow for large MODP groups: run it as a job.
func (e *Exchange) Finish(reply []byte) ([]byte, error) { return nil, errSkeleton }

// Answer is the responder's half: it checks the initiator's public value (RFC 6989), makes the reply and returns the state whose Secret
// gives the shared secret. The costly part waits for Secret, so that a stranger's IKE_SA_INIT costs little.
func Answer(method iana.KE, rand io.Reader, public []byte) (reply []byte, pending *Pending, err error) {
	return nil, nil, errSkeleton
}

// Pending is the responder's half before its secret is computed.
type Pending struct {
	Method iana.KE
	secret func() ([]byte, error)
}

// Secret returns the shared secret.
func (p *Pending) Secret() ([]byte, error) { return nil, errSkeleton }

// Slow reports whether the method's secret takes more than about a millisecond and belongs on a worker.
func Slow(method iana.KE) bool { return false }

// PublicLen is the exact size of the method's public value in octets, zero if the method is not implemented.
func PublicLen(method iana.KE) int { return 0 }

// IKEKeys are the keys of an IKE SA (RFC 7296 2.14), raw. It never prints.
type IKEKeys struct {
	D      []byte
	Ai, Ar []byte
	Ei, Er []byte // with the 4-octet salt of RFC 5282 7.1 at the end for AEADs
	Pi, Pr []byte
}

// String hides the keys.
func (IKEKeys) String() string { return "***" }

// Prf computes the negotiated pseudorandom function.
func Prf(prf iana.PRF, key []byte, data ...[]byte) []byte { return nil }

// PrfPlus computes prf+ (RFC 7296 2.13); n octets, at most 255 blocks.
func PrfPlus(prf iana.PRF, key, seed []byte, n int) []byte { return nil }

// DeriveIKE computes SKEYSEED and the seven keys of RFC 7296 2.14.
func (s Suite) DeriveIKE(secret, ni, nr []byte, spii, spir wire.SPI) IKEKeys { return IKEKeys{} }

// ChildKeys is the keying material of a Child SA (RFC 7296 2.17), initiator to responder and back. Encryption keys of AEADs carry
// their salt at the end (RFC 4106 8.1, RFC 7634 2).
type ChildKeys struct {
	EncrI, IntegI []byte
	EncrR, IntegR []byte
}

// String hides the keys.
func (ChildKeys) String() string { return "***" }

// DeriveChild computes KEYMAT for the ESP suite s from SK_d with the IKE SA's prf (RFC 7296 2.17). secret is empty without PFS.
func (s Suite) DeriveChild(prf iana.PRF, skd, secret, ni, nr []byte) ChildKeys { return ChildKeys{} }

// SKOverhead is the number of octets that protection adds around n octets of plaintext in an SK payload: IV, padding, pad length, ICV.
func (s Suite) SKOverhead(n int) int { return 0 }

// SealSK protects an SK or SKF payload (RFC 7296 3.14, RFC 5282). msg is the message up to and including the generic header (and fragment
// numbers); the sealed body is appended. encr and integ are the sender's keys; iv is 8 octets that never repeat with these keys for
// AEADs, and for CBC it is a seed that SealSK turns into an unpredictable IV with rand.
func (s Suite) SealSK(msg, encr, integ, plain []byte, counter uint64, rand io.Reader) ([]byte, error) {
	return nil, errSkeleton
}

// ErrIntegrity says that a sealed payload did not authenticate. Nothing of it may be used.
var ErrIntegrity = errors.New("integrity check failed")

// OpenSK checks and opens a whole received message whose SK or SKF body starts at off. The plaintext (padding removed) is a new slice or aliases
// msg, which is then overwritten. Any failure that an attacker could cause is ErrIntegrity.
func (s Suite) OpenSK(msg []byte, off int, encr, integ []byte) ([]byte, error) {
	return nil, errSkeleton
}

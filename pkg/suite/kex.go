package suite

import (
	"errors"
	"fmt"
	"io"

	"github.com/ikegod/ikegod/pkg/iana"
)

// ErrPublicValue says that a peer's public value failed the tests of RFC 6989 or has the wrong size. The error that wraps it names the method
// and the fault.
var ErrPublicValue = errors.New("invalid public value")

// ErrUnsupported says that an algorithm is known but not implemented.
var ErrUnsupported = errors.New("not implemented")

// method is one implemented key exchange. Its parts are the three steps of a KEM, so that a method that is not a Diffie-Hellman fits too.
type method struct {
	publicLen int  // octets of the initiator's public value
	replyLen  int  // octets of the responder's reply
	slow      bool // one secret takes more than about a millisecond
	// offer makes the initiator's key pair.
	offer func(rand io.Reader) (public []byte, finish func(reply []byte) ([]byte, error), err error)
	// answer makes the responder's reply; secret does the rest.
	answer func(rand io.Reader, public []byte) (reply []byte, secret func() ([]byte, error), err error)
}

// methods holds every implemented key exchange; kes (algorithms.go) holds their names.
var methods = map[iana.KE]*method{
	iana.KE_CURVE25519: x25519Method(),
	iana.KE_ECP256:     ecpMethod(p256),
	iana.KE_ECP384:     ecpMethod(p384),
	iana.KE_ECP521:     ecpMethod(p521),
	iana.KE_MODP2048:   modpMethod(modp2048),
	iana.KE_MODP3072:   modpMethod(modp3072),
	iana.KE_MODP4096:   modpMethod(modp4096),
	iana.KE_MODP6144:   modpMethod(modp6144),
	iana.KE_MODP8192:   modpMethod(modp8192),
	iana.KE_CURVE448:   x448Method(),
	iana.KE_MODP1536:   modpMethod(modp1536), // weak
	iana.KE_MODP1024:   modpMethod(modp1024), // weak
}

// Exchange is the initiator's half of a key exchange (KEM-shaped, RFC 9370): a public value and the secret state behind it.
type Exchange struct {
	Method iana.KE
	Public []byte
	finish func(reply []byte) ([]byte, error)
}

// NewExchange makes a key pair of method with octets from rand: the same octets, the same key. Elliptic and modular groups both. The error
// is ErrUnsupported, or that of rand.
func NewExchange(method iana.KE, rand io.Reader) (*Exchange, error) {
	m, ok := methods[method]
	if !ok {
		return nil, fmt.Errorf("key exchange %s: %w", keName(uint16(method)), ErrUnsupported)
	}
	public, finish, err := m.offer(rand)
	if err != nil {
		return nil, fmt.Errorf("key exchange %s: %w", keName(uint16(method)), err)
	}
	return &Exchange{Method: method, Public: public, finish: finish}, nil
}

// Finish checks the peer's public value (RFC 6989) and returns the shared secret, as long as RFC 7296 2.14 wants it. Where Slow says so, run it
// as a job. The error wraps ErrPublicValue.
func (e *Exchange) Finish(reply []byte) ([]byte, error) {
	if want := methods[e.Method].replyLen; len(reply) != want {
		return nil, lengthError(e.Method, len(reply), want)
	}
	secret, err := e.finish(reply)
	if err != nil {
		return nil, fmt.Errorf("key exchange %s: %w", keName(uint16(e.Method)), err)
	}
	return secret, nil
}

// Answer is the responder's half: it checks the initiator's public value (RFC 6989), makes the reply and returns the state whose Secret
// gives the shared secret. The costly part waits for Secret, so that a stranger's IKE_SA_INIT costs little. The error wraps ErrPublicValue or
// ErrUnsupported, or is that of rand. public is not kept.
func Answer(method iana.KE, rand io.Reader, public []byte) (reply []byte, pending *Pending, err error) {
	m, ok := methods[method]
	if !ok {
		return nil, nil, fmt.Errorf("key exchange %s: %w", keName(uint16(method)), ErrUnsupported)
	}
	if len(public) != m.publicLen {
		return nil, nil, lengthError(method, len(public), m.publicLen)
	}
	reply, secret, err := m.answer(rand, public)
	if err != nil {
		return nil, nil, fmt.Errorf("key exchange %s: %w", keName(uint16(method)), err)
	}
	return reply, &Pending{Method: method, secret: secret}, nil
}

// Pending is the responder's half before its secret is computed.
type Pending struct {
	Method iana.KE
	secret func() ([]byte, error)
}

// Secret returns the shared secret. The error wraps ErrPublicValue: for Curve25519 and Curve448 a public value of low order shows only here.
func (p *Pending) Secret() ([]byte, error) {
	secret, err := p.secret()
	if err != nil {
		return nil, fmt.Errorf("key exchange %s: %w", keName(uint16(p.Method)), err)
	}
	return secret, nil
}

// Slow reports whether the method's secret takes more than about a millisecond and belongs on a worker.
func Slow(method iana.KE) bool {
	m, ok := methods[method]
	return ok && m.slow
}

// PublicLen is the exact size of the method's public value in octets, zero if the method is not implemented.
func PublicLen(method iana.KE) int {
	if m, ok := methods[method]; ok {
		return m.publicLen
	}
	return 0
}

func lengthError(method iana.KE, got, want int) error {
	return fmt.Errorf("key exchange %s: %w: it has %d octets, expected %d", keName(uint16(method)), ErrPublicValue, got, want)
}

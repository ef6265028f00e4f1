package suite

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"testing"

	"github.com/ikegod/ikegod/pkg/iana"
)

// stream is an endless reader of octets that a seed determines.
type stream struct {
	state [32]byte
	rest  []byte
}

func newStream(seed string) *stream { return &stream{state: sha256.Sum256([]byte(seed))} }

func (s *stream) Read(b []byte) (int, error) {
	for n := 0; n < len(b); {
		if len(s.rest) == 0 {
			s.state = sha256.Sum256(s.state[:])
			s.rest = append([]byte(nil), s.state[:]...)
		}
		c := copy(b[n:], s.rest)
		s.rest, n = s.rest[c:], n+c
	}
	return len(b), nil
}

// constant is an endless reader of one octet.
type constant byte

func (c constant) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(c)
	}
	return len(b), nil
}

// exchange runs a whole key exchange with given private octets.
func exchange(t *testing.T, method iana.KE, randI, randR io.Reader) (ke, reply, secret []byte) {
	t.Helper()
	e, err := NewExchange(method, randI)
	if err != nil {
		t.Fatal(err)
	}
	reply, pending, err := Answer(method, randR, e.Public)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := pending.Secret()
	if err != nil {
		t.Fatal(err)
	}
	ours, err := e.Finish(reply)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ours, theirs) {
		t.Fatal("the two secrets differ")
	}
	return e.Public, reply, ours
}

func TestEveryMethod(t *testing.T) {
	for method := range methods {
		t.Run(keName(uint16(method)), func(t *testing.T) {
			ke, reply, secret := exchange(t, method, newStream("i"), newStream("r"))
			if len(ke) != PublicLen(method) || len(reply) != PublicLen(method) {
				t.Fatalf("public values of %d and %d octets, expected %d", len(ke), len(reply), PublicLen(method))
			}
			ke2, reply2, secret2 := exchange(t, method, newStream("i"), newStream("r"))
			if !bytes.Equal(ke, ke2) || !bytes.Equal(reply, reply2) || !bytes.Equal(secret, secret2) {
				t.Error("the same octets gave another run")
			}
			if _, _, other := exchange(t, method, newStream("j"), newStream("r")); bytes.Equal(secret, other) {
				t.Error("other octets gave the same secret")
			}
			a, ok := kes.byID(uint16(method))
			if !ok || !a.supported {
				t.Error("the method has no name")
			}
		})
	}
	for i := range kes {
		if id := iana.KE(kes[i].id); kes[i].supported && id != iana.KE_NONE && methods[id] == nil {
			t.Errorf("%s is named as supported but not implemented", kes[i].name)
		}
	}
}

// TestRFC5903 runs the vectors of RFC 5903 8.
func TestRFC5903(t *testing.T) {
	for _, v := range rfc5903 {
		t.Run(v.name, func(t *testing.T) {
			a, _ := kes.byName(v.name)
			ke, reply, secret := exchange(t, iana.KE(a.id), bytes.NewReader(unhex(t, v.i)), bytes.NewReader(unhex(t, v.r)))
			if !bytes.Equal(ke, unhex(t, v.gi)) || !bytes.Equal(reply, unhex(t, v.gr)) {
				t.Error("public values differ")
			}
			if !bytes.Equal(secret, unhex(t, v.gir)) {
				t.Errorf("secret %x, expected %s", secret, v.gir)
			}
		})
	}
}

// TestRFC7748 runs the vector of RFC 7748 6.1.
func TestRFC7748(t *testing.T) {
	a := unhex(t, "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
	b := unhex(t, "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
	ke, reply, secret := exchange(t, iana.KE_CURVE25519, bytes.NewReader(a), bytes.NewReader(b))
	if !bytes.Equal(ke, unhex(t, "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")) ||
		!bytes.Equal(reply, unhex(t, "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")) {
		t.Errorf("public values %x and %x", ke, reply)
	}
	if !bytes.Equal(secret, unhex(t, "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")) {
		t.Errorf("secret %x", secret)
	}
}

// TestRFC7748X448 runs the vector of RFC 7748 6.2.
func TestRFC7748X448(t *testing.T) {
	a := unhex(t, `9a8f4925d1519f5775cf46b04b5800d4ee9ee8bae8bc5565d498c28d d9c9baf574a9419744897391006382a6f127ab1d9ac2d8c0a598726b`)
	b := unhex(t, `1c306a7ac2a0e2e0990b294470cba339e6453772b075811d8fad0d1d 6927c120bb5ee8972b0d3e21374c9c921b09d1b0366f10b65173992d`)
	ke, reply, secret := exchange(t, iana.KE_CURVE448, bytes.NewReader(a), bytes.NewReader(b))
	if !bytes.Equal(ke, unhex(t, `9b08f7cc31b7e3e67d22d5aea121074a273bd2b83de09c63faa73d2c 22c5d9bbc836647241d953d40c5b12da88120d53177f80e532c41fa0`)) ||
		!bytes.Equal(reply, unhex(t, `3eb7a829b0cd20f5bcfc0b599b6feccf6da4627107bdb0d4f345b430 27d8b972fc3e34fb4232a13ca706dcb57aec3dae07bdc1c67bf33609`)) {
		t.Errorf("public values %x and %x", ke, reply)
	}
	if !bytes.Equal(secret, unhex(t, `07fff4181ac6cc95ec1c16a94a0f74d12da232ce40a77552281d282b b60c0b56fd2464c335543936521c24403085d59a449a5037514a879d`)) {
		t.Errorf("secret %x", secret)
	}
}

// TestPublicValueChecks sends what RFC 6989 2 and RFC 7748 6.1 tell to refuse, to both roles.
func TestPublicValueChecks(t *testing.T) {
	type value struct {
		name string
		data []byte
	}
	bad := func(method iana.KE) []value {
		n := PublicLen(method)
		values := []value{{"empty", nil}, {"short", make([]byte, n-1)}, {"long", make([]byte, n+1)}, {"zero", make([]byte, n)}}
		last := func(b byte) []byte {
			v := make([]byte, n)
			v[n-1] = b
			return v
		}
		switch method {
		case iana.KE_CURVE25519:
			one := make([]byte, n)
			one[0] = 1
			return append(values, value{"low order", one}, value{"p", unhex(t, "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f")})
		case iana.KE_CURVE448: // p, and the points of order 2 and 4 (RFC 7748 6.2)
			one := make([]byte, n)
			one[0] = 1
			p := bytes.Repeat([]byte{0xff}, n)
			p[28] = 0xfe
			minus := bytes.Clone(p)
			minus[0] = 0xfe
			return append(values, value{"low order", one}, value{"p", p}, value{"p-1", minus})
		case iana.KE_ECP256, iana.KE_ECP384, iana.KE_ECP521:
			e, err := NewExchange(method, newStream("x"))
			if err != nil {
				t.Fatal(err)
			}
			off := bytes.Clone(e.Public)
			off[n-1] ^= 1
			return append(values, value{"not on the curve", off}, value{"x over p", bytes.Repeat([]byte{0xff}, n)})
		}
		p := modpPrime(t, method)
		minus := func(d int64) []byte { return new(big.Int).Sub(p, big.NewInt(d)).FillBytes(make([]byte, n)) }
		return append(values, value{"1", last(1)}, value{"p-1", minus(1)}, value{"p", minus(0)}, value{"p+1", minus(-1)},
			value{"largest", bytes.Repeat([]byte{0xff}, n)})
	}
	for method := range methods {
		e := mustExchange(t, method)
		for _, v := range bad(method) {
			t.Run(keName(uint16(method))+" "+v.name, func(t *testing.T) {
				if secret, err := e.Finish(v.data); !errors.Is(err, ErrPublicValue) || secret != nil {
					t.Errorf("initiator: secret %x, error %v", secret, err)
				}
				_, pending, err := Answer(method, newStream("r"), v.data)
				if err == nil {
					_, err = pending.Secret()
				}
				if !errors.Is(err, ErrPublicValue) {
					t.Errorf("responder: error %v", err)
				}
			})
		}
	}
	// The smallest values inside the range are fine.
	for method := range modpGroups {
		two := make([]byte, PublicLen(method))
		two[len(two)-1] = 2
		if _, _, err := Answer(method, newStream("r"), two); err != nil {
			t.Errorf("%s: y = 2: %v", keName(uint16(method)), err)
		}
	}
}

var modpGroups = map[iana.KE]*modpGroup{
	iana.KE_MODP1024: modp1024, iana.KE_MODP1536: modp1536, iana.KE_MODP2048: modp2048, iana.KE_MODP3072: modp3072,
	iana.KE_MODP4096: modp4096, iana.KE_MODP6144: modp6144, iana.KE_MODP8192: modp8192,
}

func modpPrime(t *testing.T, method iana.KE) *big.Int {
	t.Helper()
	p, ok := new(big.Int).SetString(modpGroups[method].prime, 16)
	if !ok {
		t.Fatal("not hexadecimal")
	}
	return p
}

// TestMODP compares with math/big.
func TestMODP(t *testing.T) {
	for method, group := range modpGroups {
		p := modpPrime(t, method)
		i, r := make([]byte, group.exponentLen), make([]byte, group.exponentLen)
		newStream("i").Read(i)
		newStream("r").Read(r)
		ke, reply, secret := exchange(t, method, bytes.NewReader(i), bytes.NewReader(r))
		i[0] |= 0x80
		r[0] |= 0x80
		x, y := new(big.Int).SetBytes(i), new(big.Int).SetBytes(r)
		power := func(base, e *big.Int) []byte { return new(big.Int).Exp(base, e, p).FillBytes(make([]byte, len(ke))) }
		if !bytes.Equal(ke, power(big.NewInt(2), x)) || !bytes.Equal(reply, power(big.NewInt(2), y)) {
			t.Errorf("%s: public values differ", keName(uint16(method)))
		}
		if !bytes.Equal(secret, power(new(big.Int).SetBytes(ke), y)) {
			t.Errorf("%s: secrets differ", keName(uint16(method)))
		}
	}
}

// TestMODPPrimes computes the primes by the formulas of RFC 7296 B.2 and RFC 3526 (2 to 7): p = 2^n - 2^(n-64) - 1 + 2^64 * ([2^(n-130) pi] + c).
func TestMODPPrimes(t *testing.T) {
	const precision = 8192
	pi := piBits(precision)
	for _, tc := range []struct {
		method iana.KE
		bits   uint
		c      int64
	}{
		{iana.KE_MODP1024, 1024, 129093},
		{iana.KE_MODP1536, 1536, 741804},
		{iana.KE_MODP2048, 2048, 124476},
		{iana.KE_MODP3072, 3072, 1690314},
		{iana.KE_MODP4096, 4096, 240904},
		{iana.KE_MODP6144, 6144, 929484},
		{iana.KE_MODP8192, 8192, 4743158},
	} {
		one := big.NewInt(1)
		p := new(big.Int).Lsh(one, tc.bits)
		p.Sub(p, new(big.Int).Lsh(one, tc.bits-64))
		p.Sub(p, one)
		f := new(big.Int).Rsh(pi, precision-(tc.bits-130))
		f.Add(f, big.NewInt(tc.c))
		p.Add(p, f.Lsh(f, 64))
		if got := modpPrime(t, tc.method); got.Cmp(p) != 0 {
			t.Errorf("%d bits: the prime is not that of the formula", tc.bits)
		}
		half := new(big.Int).Rsh(p, 1)
		if tc.bits > 4096 { // Baillie-PSW takes seconds; 2 is a square modulo p, so this is Euler's test of p
			if new(big.Int).Exp(big.NewInt(2), half, p).Cmp(one) != 0 {
				t.Errorf("%d bits: p is not prime", tc.bits)
			}
			continue
		}
		if !p.ProbablyPrime(0) || !half.ProbablyPrime(0) { // Baillie-PSW
			t.Errorf("%d bits: p or (p-1)/2 is not prime", tc.bits)
		}
	}
}

// piBits is the integer part of 2^n pi, by Machin's formula: pi = 16 arctan(1/5) - 4 arctan(1/239).
func piBits(n uint) *big.Int {
	const guard = 64
	one := new(big.Int).Lsh(big.NewInt(1), n+guard)
	arctan := func(x int64) *big.Int {
		sum := new(big.Int)
		power := new(big.Int).Div(one, big.NewInt(x))
		for k := int64(1); power.Sign() != 0; k += 2 {
			term := new(big.Int).Div(power, big.NewInt(k))
			if k%4 == 1 {
				sum.Add(sum, term)
			} else {
				sum.Sub(sum, term)
			}
			power.Div(power, big.NewInt(x*x))
		}
		return sum
	}
	pi := new(big.Int).Mul(arctan(5), big.NewInt(16))
	pi.Sub(pi, new(big.Int).Mul(arctan(239), big.NewInt(4)))
	return pi.Rsh(pi, guard)
}

// TestRandomSource: a private key out of range is not used and not made to fit; a source that gives none, or ends, is an error and no endless loop.
func TestRandomSource(t *testing.T) {
	order, scalar := bytes.Repeat([]byte{0xff}, 32), unhex(t, rfc5903[0].i)
	e, err := NewExchange(iana.KE_ECP256, io.MultiReader(bytes.NewReader(order), bytes.NewReader(scalar)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(e.Public, unhex(t, rfc5903[0].gi)) {
		t.Error("the second scalar was not used as it is")
	}
	for _, method := range []iana.KE{iana.KE_ECP256, iana.KE_ECP384, iana.KE_ECP521} {
		if _, err := NewExchange(method, constant(0)); err == nil {
			t.Errorf("%s: a source of zeros made a key", keName(uint16(method)))
		}
	}
	for method := range methods {
		if _, err := NewExchange(method, bytes.NewReader(make([]byte, 20))); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: short source: error %v", keName(uint16(method)), err)
		}
		public := mustExchange(t, method).Public
		if _, _, err := Answer(method, bytes.NewReader(nil), public); !errors.Is(err, io.EOF) {
			t.Errorf("%s: empty source: error %v", keName(uint16(method)), err)
		}
	}
}

func mustExchange(t testing.TB, method iana.KE) *Exchange {
	t.Helper()
	e, err := NewExchange(method, newStream("x"))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestUnsupportedMethod(t *testing.T) {
	for _, method := range []iana.KE{iana.KE_NONE, iana.KE_MODP768, iana.KE_MLKEM768, 999} {
		if _, err := NewExchange(method, newStream("x")); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%d: %v", method, err)
		}
		if _, _, err := Answer(method, newStream("x"), nil); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%d: %v", method, err)
		}
		if PublicLen(method) != 0 || Slow(method) {
			t.Errorf("%d: public value of %d octets", method, PublicLen(method))
		}
	}
}

// FuzzAnswer feeds public values to the responder.
func FuzzAnswer(f *testing.F) {
	for method := range methods {
		if !Slow(method) || modpGroups[method] == nil { // see below
			f.Add(uint16(method), mustExchange(f, method).Public)
		}
	}
	f.Fuzz(func(t *testing.T, method uint16, public []byte) {
		if Slow(iana.KE(method)) && modpGroups[iana.KE(method)] != nil {
			return // the same code as 2048, and slow
		}
		reply, pending, err := Answer(iana.KE(method), newStream("r"), public)
		if err != nil {
			return
		}
		if len(reply) != PublicLen(iana.KE(method)) {
			t.Fatalf("reply of %d octets", len(reply))
		}
		if secret, err := pending.Secret(); err == nil && len(secret) == 0 || err != nil && !errors.Is(err, ErrPublicValue) {
			t.Fatalf("secret of %d octets, error %v", len(secret), err)
		}
	})
}

func BenchmarkExchange(b *testing.B) {
	for _, method := range []iana.KE{
		iana.KE_CURVE25519, iana.KE_ECP256, iana.KE_ECP384, iana.KE_ECP521, iana.KE_CURVE448,
		iana.KE_MODP1024, iana.KE_MODP1536, iana.KE_MODP2048, iana.KE_MODP3072, iana.KE_MODP4096, iana.KE_MODP6144, iana.KE_MODP8192,
	} {
		peer := mustExchange(b, method).Public
		var seed [8]byte
		b.Run(keName(uint16(method))+"/keypair", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				binary.BigEndian.PutUint64(seed[:], binary.BigEndian.Uint64(seed[:])+1)
				if _, err := NewExchange(method, newStream(string(seed[:]))); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(keName(uint16(method))+"/secret", func(b *testing.B) {
			b.ReportAllocs()
			e := mustExchange(b, method)
			for b.Loop() {
				if _, err := e.Finish(peer); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(keName(uint16(method))+"/keypair+secret", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, pending, err := Answer(method, newStream("r"), peer)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := pending.Secret(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

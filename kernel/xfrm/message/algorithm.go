package message

import "bytes"

// The kernel's names of algorithms (net/xfrm/xfrm_algo.c).
const (
	GCM        = "rfc4106(gcm(aes))"
	CCM        = "rfc4309(ccm(aes))"
	GMAC       = "rfc4543(gcm(aes))"
	ChaCha20   = "rfc7539esp(chacha20,poly1305)"
	CBC        = "cbc(aes)"
	HMACSHA1   = "hmac(sha1)"
	HMACSHA256 = "hmac(sha256)"
	HMACSHA384 = "hmac(sha384)"
	HMACSHA512 = "hmac(sha512)"
)

// Algorithm is a cipher or a MAC with its key. Keys never print.
type Algorithm struct {
	Name string // as /proc/crypto names it
	Key  []byte
	Bits int // of the ICV; zero for a cipher without one
}

// String hides the key.
func (a Algorithm) String() string { return a.Name }

// GoString hides the key.
func (a Algorithm) GoString() string { return a.Name }

const sizeName = 64

// value is a struct xfrm_algo, or with icv a struct xfrm_algo_auth or xfrm_algo_aead, which have the same shape.
func (a Algorithm) value(icv bool) []byte {
	v := make([]byte, sizeName, sizeName+8+len(a.Key))
	copy(v[:sizeName-1], a.Name)
	v = native.AppendUint32(v, uint32(8*len(a.Key)))
	if icv {
		v = native.AppendUint32(v, uint32(a.Bits))
	}
	return append(v, a.Key...)
}

func parseAlgorithm(v []byte, icv bool) (a Algorithm) {
	head := sizeName + 4
	if icv {
		head += 4
	}
	if len(v) < head {
		return a
	}
	name, _, _ := bytes.Cut(v[:sizeName], []byte{0})
	a.Name = string(name)
	if icv {
		a.Bits = int(native.Uint32(v[sizeName+4:]))
	}
	n := min(int(native.Uint32(v[sizeName:])+7)/8, len(v)-head)
	a.Key = bytes.Clone(v[head : head+n])
	return a
}

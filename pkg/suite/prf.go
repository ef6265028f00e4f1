package suite

import (
	"crypto/hmac"

	"github.com/ikegod/ikegod/pkg/iana"
)

// maxBlocks is how many blocks of prf+ there are at most: the counter is one octet (RFC 7296 2.13).
const maxBlocks = 255

// prfRow returns the row of an implemented PRF, or nil.
func prfRow(prf iana.PRF) *algorithm {
	a, ok := prfs.byID(uint16(prf))
	if !ok || !a.supported {
		return nil
	}
	return a
}

// PRFLen is the size of the PRF's output in octets, which is also its preferred key size (RFC 7296 2.13). Zero if it is not implemented.
func PRFLen(prf iana.PRF) int {
	if a := prfRow(prf); a != nil {
		return a.size
	}
	return 0
}

// Prf computes the negotiated pseudorandom function of key over the concatenation of data. It is nil for a PRF that is not implemented.
func Prf(prf iana.PRF, key []byte, data ...[]byte) []byte {
	a := prfRow(prf)
	if a == nil {
		return nil
	}
	mac := hmac.New(a.hash, key)
	for _, d := range data {
		mac.Write(d)
	}
	return mac.Sum(nil)
}

// PrfPlus computes n octets of prf+ (RFC 7296 2.13). It is nil if n is more than 255 blocks or the PRF is not implemented.
func PrfPlus(prf iana.PRF, key, seed []byte, n int) []byte {
	a := prfRow(prf)
	if a == nil || n < 0 || n > maxBlocks*a.size {
		return nil
	}
	out := make([]byte, 0, n+a.size)
	mac := hmac.New(a.hash, key)
	var last []byte
	for i := 1; len(out) < n; i++ {
		mac.Reset()
		mac.Write(last)
		mac.Write(seed)
		mac.Write([]byte{byte(i)})
		out = mac.Sum(out)
		last = out[len(out)-a.size:]
	}
	return out[:n:n]
}

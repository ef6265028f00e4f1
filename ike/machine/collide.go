package machine

import "bytes"

// When both ends rekey one Child SA at the same time, two successors are made. The one that was created with the lowest of the four nonces is closed by the end
// that created it, and the end that created the other deletes the old one (RFC 7296 2.8.1).

// lowest is the lower of the two nonces of an exchange, compared octet by octet; of two that begin alike the shorter is lower.
func lowest(ni, nr []byte) []byte {
	if bytes.Compare(nr, ni) < 0 {
		return nr
	}
	return ni
}

// redundant reports whether it is ours of two successors that has to be closed.
func redundant(ours, theirs []byte) bool { return bytes.Compare(ours, theirs) < 0 }

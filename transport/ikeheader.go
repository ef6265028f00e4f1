package transport

import "encoding/binary"

// IKEHeaderLen is the size of the IKE header in octets (RFC 7296 3.1).
const IKEHeaderLen = 28

// PlausibleIKE reports whether b can be an IKE message: it holds a header whose Length is the size of b (RFC 7296 3.1). It is the check that
// garbage has to pass before anything is copied for it; everything else about a message is judged by the engine.
func PlausibleIKE(b []byte) (Drop, bool) {
	if len(b) < IKEHeaderLen {
		return DropShort, false
	}
	if binary.BigEndian.Uint32(b[24:]) != uint32(len(b)) {
		return DropLength, false
	}
	return 0, true
}

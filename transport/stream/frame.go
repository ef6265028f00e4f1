// Package stream carries IKE and ESP over any stream of octets as RFC 9329 frames them: the "IKETCP" prefix, lengths, markers.
package stream

import (
	"encoding/binary"
	"errors"
)

// Prefix is sent once, by the originator, before anything else (RFC 9329 4).
const Prefix = "IKETCP"

const (
	lengthLen = 2     // the Length field, which counts itself (RFC 9329 3)
	markerLen = 4     // the non-ESP marker before IKE
	maxFrame  = 65535 // the largest Length
	// MaxIKE is the largest IKE message that a frame can hold, in octets.
	MaxIKE = maxFrame - lengthLen - markerLen
	// espHeaderLen is SPI and sequence number (RFC 4303 2): the least that is worth handing on.
	espHeaderLen = 8
)

var errBadLength = errors.New("the length before a message is 0 or 1: the stream is out of step (RFC 9329 3)")

// next cuts the first frame off b: msg is its message (which may be empty) and n its size with the Length field. n is 0 while the frame is incomplete.
// A Length of 0 or 1 is fatal for the stream (RFC 9329 3.1, 3.2).
func next(b []byte) (msg []byte, n int, err error) {
	if len(b) < lengthLen {
		return nil, 0, nil
	}
	n = int(binary.BigEndian.Uint16(b))
	if n < lengthLen {
		return nil, 0, errBadLength
	}
	if len(b) < n {
		return nil, 0, nil
	}
	return b[lengthLen:n:n], n, nil
}

// kind is what the first octets of a message make it (RFC 9329 3, 6.6).
type kind uint8

const (
	empty     kind = iota // Length 2: silently ignored
	keepAlive             // one octet 0xFF: silently dropped
	runt                  // too short to be anything
	ike                   // after four zero octets
	esp                   // everything else
)

func classify(msg []byte) kind {
	switch {
	case len(msg) == 0:
		return empty
	case len(msg) == 1 && msg[0] == 0xff:
		return keepAlive
	case len(msg) < markerLen:
		return runt
	case binary.BigEndian.Uint32(msg) == 0:
		return ike
	case len(msg) < espHeaderLen:
		return runt
	}
	return esp
}

// appendIKE appends the frame of one IKE message.
func appendIKE(b []byte, parts ...[]byte) []byte {
	n := lengthLen + markerLen
	for _, p := range parts {
		n += len(p)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = append(b, 0, 0, 0, 0)
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// count counts the frames in b; ok is false when b is not a sequence of whole frames with something in them.
func count(b []byte) (frames int, ok bool) {
	for len(b) > 0 {
		if len(b) <= lengthLen {
			return frames, false
		}
		n := int(binary.BigEndian.Uint16(b))
		if n <= lengthLen || n > len(b) {
			return frames, false
		}
		frames++
		b = b[n:]
	}
	return frames, true
}

// boundary is the offset of the first frame of b that begins at or after written.
func boundary(b []byte, written int) int {
	off := 0
	for off < written {
		off += int(binary.BigEndian.Uint16(b[off:]))
	}
	return off
}

// fit is the size of the longest sequence of whole frames at the front of b that takes at most room octets.
func fit(b []byte, room int) int {
	off := 0
	for off < len(b) {
		n := int(binary.BigEndian.Uint16(b[off:]))
		if off+n > room {
			break
		}
		off += n
	}
	return off
}

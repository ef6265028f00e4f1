package suite

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"slices"
	"sync/atomic"
)

// Sizes of CCM as ESP and IKE use it (RFC 4309 2, RFC 5282 4).
const (
	ccmBlock    = 16
	ccmNonceLen = 11 // 3 octets of salt, 8 of IV; the message length then takes 4 octets
)

// ccm is the AEAD of NIST SP 800-38C and RFC 3610 over a block cipher of 16 octets. Safe for concurrent use; after the first packets Seal and
// Open allocate nothing. As with crypto/cipher, the output lies exactly over the input or does not overlap it, and a nonce of the wrong
// size is a fault of the program.
type ccm struct {
	block              cipher.Block
	nonceLen, overhead int
	free               [4]atomic.Pointer[ccmState]
}

// ccmStream is how many octets of key stream are made at a time.
const ccmStream = 16 * ccmBlock

// ccmState is what one goroutine needs for one packet. It lives on the heap, since what goes through cipher.Block escapes.
type ccmState struct {
	mac     [ccmBlock]byte // the CBC-MAC so far: X_i of RFC 3610 2.2
	fill    int            // octets of an unfinished block that are in mac already
	counter [ccmBlock]byte // A_i of RFC 3610 2.3
	first   [ccmBlock]byte // S_0, which encrypts the MAC
	stream  [ccmStream]byte
	tag     [ccmBlock]byte
}

// newCCM makes a CCM with the sizes of a nonce (7 to 13 octets) and of a tag (even, 4 to 16).
func newCCM(block cipher.Block, nonceLen, overhead int) *ccm {
	return &ccm{block: block, nonceLen: nonceLen, overhead: overhead}
}

// NonceSize is the size of a nonce in octets.
func (c *ccm) NonceSize() int { return c.nonceLen }

// Overhead is the size of the tag in octets.
func (c *ccm) Overhead() int { return c.overhead }

// Seal encrypts and authenticates plain, authenticates aad, and appends the result to dst.
func (c *ccm) Seal(dst, nonce, plain, aad []byte) []byte {
	st := c.take()
	c.start(st, nonce, len(plain), aad)
	st.absorb(c.block, plain)
	st.pad(c.block)
	subtle.XORBytes(st.tag[:], st.mac[:], st.first[:])

	n := len(dst)
	dst = slices.Grow(dst, len(plain)+c.overhead)[:n+len(plain)+c.overhead]
	c.xorKeyStream(st, dst[n:], plain)
	copy(dst[n+len(plain):], st.tag[:])
	c.give(st)
	return dst
}

// Open authenticates sealed and aad, decrypts sealed and appends the plaintext to dst. When the tag is wrong, no plaintext stays in memory and the
// error is ErrIntegrity.
func (c *ccm) Open(dst, nonce, sealed, aad []byte) ([]byte, error) {
	size := len(sealed) - c.overhead
	if size < 0 {
		return nil, ErrIntegrity
	}
	st := c.take()
	defer c.give(st)
	c.start(st, nonce, size, aad)
	n := len(dst)
	dst = slices.Grow(dst, size)[:n+size]
	plain := dst[n:]
	c.xorKeyStream(st, plain, sealed[:size])
	st.absorb(c.block, plain)
	st.pad(c.block)
	subtle.XORBytes(st.tag[:], st.mac[:], st.first[:])
	if subtle.ConstantTimeCompare(st.tag[:c.overhead], sealed[size:]) != 1 {
		clear(plain)
		return nil, ErrIntegrity
	}
	return dst, nil
}

// start sets up the counter, S_0 and the MAC over B_0 and the additional data.
func (c *ccm) start(st *ccmState, nonce []byte, size int, aad []byte) {
	if len(nonce) != c.nonceLen {
		nonce = nil
	}
	nonce = nonce[:c.nonceLen:c.nonceLen]
	lengthLen := ccmBlock - 1 - c.nonceLen // L

	// A_0 (RFC 3610 2.3): L - 1, the nonce, the counter.
	clear(st.counter[:])
	st.counter[0] = byte(lengthLen - 1)
	copy(st.counter[1:], nonce)
	c.block.Encrypt(st.first[:], st.counter[:])

	// B_0 (RFC 3610 2.2): flags, the nonce, the length of the message.
	clear(st.mac[:])
	binary.BigEndian.PutUint64(st.mac[ccmBlock-8:], uint64(size)) // L octets of it are significant
	st.mac[0] = byte((c.overhead-2)/2<<3 | (lengthLen - 1))
	if len(aad) > 0 {
		st.mac[0] |= 1 << 6
	}
	copy(st.mac[1:], nonce)
	c.block.Encrypt(st.mac[:], st.mac[:])
	st.fill = 0
	if len(aad) == 0 {
		return
	}
	// The length of the additional data goes before it.
	length := st.tag[:0]
	if len(aad) < 1<<16-1<<8 {
		length = binary.BigEndian.AppendUint16(length, uint16(len(aad)))
	} else {
		length = binary.BigEndian.AppendUint32(append(length, 0xff, 0xfe), uint32(len(aad)))
	}
	st.absorb(c.block, length)
	st.absorb(c.block, aad)
	st.pad(c.block)
}

// absorb takes octets into the CBC-MAC.
func (st *ccmState) absorb(block cipher.Block, b []byte) {
	for len(b) > 0 {
		n := subtle.XORBytes(st.mac[st.fill:], st.mac[st.fill:], b)
		b = b[n:]
		if st.fill += n; st.fill == ccmBlock {
			block.Encrypt(st.mac[:], st.mac[:])
			st.fill = 0
		}
	}
}

// pad ends a part of the MAC's input with zeros up to the block.
func (st *ccmState) pad(block cipher.Block) {
	if st.fill > 0 {
		block.Encrypt(st.mac[:], st.mac[:])
		st.fill = 0
	}
}

// xorKeyStream encrypts or decrypts src with S_1, S_2 ... (RFC 3610 2.3). The counter fills what the nonce leaves of A_i: four octets in ESP and
// IKE, far more blocks than a packet has.
func (c *ccm) xorKeyStream(st *ccmState, dst, src []byte) {
	for i := uint64(1); len(src) > 0; {
		n := min(len(src), ccmStream)
		for off := 0; off < n; off += ccmBlock {
			low := st.counter[1+c.nonceLen:]
			for j, v := len(low)-1, i; j >= 0; j, v = j-1, v>>8 {
				low[j] = byte(v)
			}
			c.block.Encrypt(st.stream[off:off+ccmBlock], st.counter[:])
			i++
		}
		subtle.XORBytes(dst, src[:n], st.stream[:n])
		dst, src = dst[n:], src[n:]
	}
}

// take finds a free state or makes one; a few are kept, for as many goroutines.
func (c *ccm) take() *ccmState {
	for i := range c.free {
		if st := c.free[i].Swap(nil); st != nil {
			return st
		}
	}
	return new(ccmState)
}

func (c *ccm) give(st *ccmState) {
	for i := range c.free {
		if c.free[i].CompareAndSwap(nil, st) {
			return
		}
	}
}

package esp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"
	"sync/atomic"

	"github.com/ikegod/ikegod/pkg/iana"
)

// transform is the algorithms of one SA direction: an AEAD, or a block cipher in CBC mode with a MAC over the whole packet.
type transform struct {
	ivLen, icvLen, align int
	esn                  bool

	aead cipher.AEAD
	salt []byte

	block   cipher.Block
	ivBlock cipher.Block // outbound: makes CBC's IVs
	newMAC  func() hash.Hash
	free    [4]atomic.Pointer[cbcState]
}

// cbcState is what one goroutine needs for one packet in CBC mode.
type cbcState struct {
	enc, dec resettable
	mac      hash.Hash
	sum      [64]byte
	high     [4]byte
	counter  [16]byte
}

// resettable is a CBC mode that takes a new IV without an allocation, which crypto/cipher's AES modes do.
type resettable interface {
	cipher.BlockMode
	SetIV([]byte)
}

func (t *transform) init(p Params) error {
	t.esn = p.Suite.SN == iana.SN_ESN
	t.ivLen, t.icvLen = p.Suite.IVLen(), p.Suite.ICVLen()
	t.align = max(4, p.Suite.BlockLen()) // RFC 4303 2.4
	var err error
	if p.Suite.AEAD() {
		t.aead, t.salt, err = p.Suite.NewAEAD(p.EncrKey)
	} else {
		err = t.initCBC(p)
	}
	if err != nil {
		return fmt.Errorf("ESP SA %#x: %w", p.SPI, err)
	}
	return nil
}

// initCBC follows RFC 3602 and RFC 4868.
func (t *transform) initCBC(p Params) error {
	var err error
	if t.block, err = p.Suite.NewCBC(p.EncrKey); err != nil {
		return err
	}
	if _, err = p.Suite.NewMAC(p.IntegKey); err != nil {
		return err
	}
	integ, key := p.Suite, bytes.Clone(p.IntegKey)
	t.newMAC = func() hash.Hash {
		mac, _ := integ.NewMAC(key) // the same arguments gave no error above
		return mac
	}
	return nil
}

// initIV prepares the IVs of CBC, which must be unpredictable (RFC 3602 3): the sequence number encrypted with a random key of its own.
func (t *transform) initIV() error {
	if t.block == nil {
		return nil
	}
	var key [16]byte
	rand.Read(key[:])
	var err error
	t.ivBlock, err = aes.NewCipher(key[:])
	return err
}

// seal protects a packet whose header's first 8 octets and whose body of plaintext, padding and trailer are in place.
func (t *transform) seal(s *Scratch, packet []byte, seq uint64, body int) {
	off := HeaderLen + t.ivLen
	if t.aead == nil {
		t.sealCBC(packet, seq, body)
		return
	}
	iv := packet[HeaderLen:off]
	binary.BigEndian.PutUint64(iv, seq)
	t.aead.Seal(packet[off:off], t.nonce(s, iv), packet[off:off+body], t.aad(s, packet, seq))
}

// open verifies and decrypts a packet in place.
func (t *transform) open(s *Scratch, packet []byte, seq uint64, body int) bool {
	if t.aead == nil {
		return t.openCBC(packet, seq, body)
	}
	off := HeaderLen + t.ivLen
	_, err := t.aead.Open(packet[off:off], t.nonce(s, packet[HeaderLen:off]), packet[off:], t.aad(s, packet, seq))
	return err == nil
}

// nonce is the salt and the IV (RFC 4106 4, RFC 4309 4, RFC 7634 2).
func (t *transform) nonce(s *Scratch, iv []byte) []byte {
	return append(append(s.nonce[:0], t.salt...), iv...)
}

// aad is the additional authenticated data (RFC 4106 5, RFC 4309 5): SPI and the whole sequence number.
func (t *transform) aad(s *Scratch, packet []byte, seq uint64) []byte {
	if !t.esn {
		return packet[:HeaderLen]
	}
	copy(s.aad[:4], packet[:4])
	binary.BigEndian.PutUint64(s.aad[4:], seq)
	return s.aad[:]
}

func (t *transform) sealCBC(packet []byte, seq uint64, body int) {
	off := HeaderLen + t.ivLen
	st := t.take()
	iv := packet[HeaderLen:off]
	binary.BigEndian.PutUint64(st.counter[8:], seq)
	t.ivBlock.Encrypt(iv, st.counter[:])
	st.enc.SetIV(iv)
	st.enc.CryptBlocks(packet[off:off+body], packet[off:off+body])
	copy(packet[off+body:], t.icv(st, packet[:off+body], seq))
	t.give(st)
}

func (t *transform) openCBC(packet []byte, seq uint64, body int) bool {
	off := HeaderLen + t.ivLen
	st := t.take()
	defer t.give(st)
	if subtle.ConstantTimeCompare(packet[off+body:], t.icv(st, packet[:off+body], seq)) != 1 {
		return false
	}
	st.dec.SetIV(packet[HeaderLen:off])
	st.dec.CryptBlocks(packet[off:off+body], packet[off:off+body])
	return true
}

// icv is the truncated MAC; with ESN the high-order bits of the sequence number follow the packet without being sent (RFC 4303 2.2.1).
func (t *transform) icv(st *cbcState, packet []byte, seq uint64) []byte {
	st.mac.Reset()
	st.mac.Write(packet)
	if t.esn {
		binary.BigEndian.PutUint32(st.high[:], uint32(seq>>32))
		st.mac.Write(st.high[:])
	}
	return st.mac.Sum(st.sum[:0])[:t.icvLen]
}

// take finds a free state or makes one; a few are kept, for as many goroutines.
func (t *transform) take() *cbcState {
	for i := range t.free {
		if st := t.free[i].Swap(nil); st != nil {
			return st
		}
	}
	iv := make([]byte, aes.BlockSize)
	return &cbcState{
		enc: cipher.NewCBCEncrypter(t.block, iv).(resettable),
		dec: cipher.NewCBCDecrypter(t.block, iv).(resettable),
		mac: t.newMAC(),
	}
}

func (t *transform) give(st *cbcState) {
	for i := range t.free {
		if t.free[i].CompareAndSwap(nil, st) {
			return
		}
	}
}

package suite

import (
	"crypto/cipher"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// ErrIntegrity says that a sealed payload did not authenticate. Nothing of it may be used.
var ErrIntegrity = errors.New("integrity check failed")

// aeadIVLen is the size of the explicit IV of all AEADs here (RFC 4309 3.1, RFC 5282 3.1, RFC 7634 2).
const aeadIVLen = 8

// SKOverhead is the number of octets that protection adds around n octets of plaintext in an SK payload: IV, padding, pad length, ICV.
// The padding is the shortest that aligns to the block.
func (s Suite) SKOverhead(n int) int {
	return s.IVLen() + s.padding(n) + 1 + s.ICVLen()
}

// padding is the number of octets of padding before the pad length octet.
func (s Suite) padding(n int) int {
	block := max(s.BlockLen(), 1)
	return block - 1 - n%block
}

// SealSK protects an SK or SKF payload (RFC 7296 3.14, RFC 5282). msg is the message up to and including the generic header (and fragment
// numbers), with its lengths already final; the sealed body is appended. encr and integ are the sender's keys. For AEADs the IV is counter, which
// must never repeat with these keys; for CBC the IV is 16 octets from rand and counter is not used. An error means wrong key sizes,
// an algorithm that is not implemented, or a random source that failed.
func (s Suite) SealSK(msg, encr, integ, plain []byte, counter uint64, rand io.Reader) ([]byte, error) {
	if s.AEAD() {
		return s.sealAEAD(msg, encr, plain, counter)
	}
	return s.sealCBC(msg, encr, integ, plain, rand)
}

// sealAEAD is RFC 5282 3 and 5.1: the associated data is all of the message that stands before the IV.
func (s Suite) sealAEAD(msg, key, plain []byte, counter uint64) ([]byte, error) {
	aead, salt, err := s.NewAEAD(key)
	if err != nil {
		return nil, err
	}
	aad := len(msg)
	out := slices.Grow(msg, len(plain)+s.SKOverhead(len(plain)))
	out = binary.BigEndian.AppendUint64(out, counter)
	nonce := append(salt, out[aad:]...)
	start := len(out)
	out = append(out, plain...)
	out = append(out, 0) // pad length: AEADs need no padding
	return aead.Seal(out[:start], nonce, out[start:], out[:aad]), nil
}

// sealCBC is RFC 7296 3.14: encrypt, then the checksum over the whole message.
func (s Suite) sealCBC(msg, encr, integ, plain []byte, rand io.Reader) ([]byte, error) {
	block, err := s.NewCBC(encr)
	if err != nil {
		return nil, err
	}
	mac, err := s.NewMAC(integ)
	if err != nil {
		return nil, err
	}
	start := len(msg)
	out := slices.Grow(msg, len(plain)+s.SKOverhead(len(plain)))
	out = out[:start+block.BlockSize()]
	iv := out[start:]
	if _, err := io.ReadFull(rand, iv); err != nil {
		return nil, fmt.Errorf("no random octets for an IV: %w", err)
	}
	body := len(out)
	out = append(out, plain...)
	pad := s.padding(len(plain))
	for range pad {
		out = append(out, 0)
	}
	out = append(out, byte(pad))
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(out[body:], out[body:])
	mac.Write(out)
	return append(out, mac.Sum(nil)[:s.ICVLen()]...), nil
}

// OpenSK checks and opens a whole received message whose SK or SKF body (from the IV on) starts at off. The plaintext, padding removed, aliases msg,
// which is overwritten even when the check fails. Any failure that an attacker could cause is ErrIntegrity, whatever it was.
func (s Suite) OpenSK(msg []byte, off int, encr, integ []byte) ([]byte, error) {
	if off < 0 || off > len(msg) {
		return nil, ErrIntegrity
	}
	if s.AEAD() {
		return s.openAEAD(msg, off, encr)
	}
	return s.openCBC(msg, off, encr, integ)
}

func (s Suite) openAEAD(msg []byte, off int, key []byte) ([]byte, error) {
	aead, salt, err := s.NewAEAD(key)
	if err != nil {
		return nil, err
	}
	if len(msg)-off < aeadIVLen+1+aead.Overhead() {
		return nil, ErrIntegrity
	}
	nonce := append(salt, msg[off:off+aeadIVLen]...)
	sealed := msg[off+aeadIVLen:]
	plain, err := aead.Open(sealed[:0], nonce, sealed, msg[:off])
	if err != nil {
		return nil, ErrIntegrity
	}
	return unpad(plain)
}

func (s Suite) openCBC(msg []byte, off int, encr, integ []byte) ([]byte, error) {
	block, err := s.NewCBC(encr)
	if err != nil {
		return nil, err
	}
	mac, err := s.NewMAC(integ)
	if err != nil {
		return nil, err
	}
	size, icv := block.BlockSize(), s.ICVLen()
	n := len(msg) - off - size - icv // octets of ciphertext
	if n < size || n%size != 0 {
		return nil, ErrIntegrity
	}
	end := len(msg) - icv
	mac.Write(msg[:end])
	if !hmac.Equal(mac.Sum(nil)[:icv], msg[end:]) {
		return nil, ErrIntegrity
	}
	iv, sealed := msg[off:off+size], msg[off+size:end]
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(sealed, sealed)
	return unpad(sealed)
}

// unpad removes the padding and its length from what has authenticated. The recipient accepts any length of padding with any content
// (RFC 7296 3.14).
func unpad(plain []byte) ([]byte, error) {
	n := len(plain) - 1
	if n < 0 || int(plain[n]) > n {
		return nil, ErrIntegrity
	}
	return plain[:n-int(plain[n])], nil
}

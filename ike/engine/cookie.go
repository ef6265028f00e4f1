package engine

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net/netip"
	"time"

	"github.com/ikegod/ikegod/pkg/wire"
)

// cookies makes and checks cookies without keeping any state per request (RFC 7296 2.6):
//
//	cookie = version of the secret | HMAC-SHA-256(secret, SPIi | IPi | Ni), cut to 16 octets
//
// The initiator's port is left out: behind a NAT, and over TCP, the repeated request may come from another one (RFC 9329 6.3).
// The secret of each period comes from one root, so that shards share it without a lock. Constant after init.
type cookies struct {
	root [32]byte
}

const (
	cookieLife = 60 * time.Second // how long a secret makes cookies; it is accepted for as long again
	cookieLen  = 1 + 16
)

func (c *cookies) init(rand io.Reader) error {
	_, err := io.ReadFull(rand, c.root[:])
	return err
}

// make returns the cookie for a request that came after at (since the engine's epoch).
func (c *cookies) make(at time.Duration, spi wire.SPI, addr netip.Addr, ni []byte) []byte {
	return c.of(uint64(at/cookieLife), spi, addr, ni)
}

// valid reports whether a cookie was made for this request with the current or the previous secret.
func (c *cookies) valid(got []byte, at time.Duration, spi wire.SPI, addr netip.Addr, ni []byte) bool {
	if len(got) != cookieLen {
		return false
	}
	period := uint64(at / cookieLife)
	if got[0] != byte(period) {
		period--
	}
	return hmac.Equal(got, c.of(period, spi, addr, ni))
}

func (c *cookies) of(period uint64, spi wire.SPI, addr netip.Addr, ni []byte) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], period)
	h := hmac.New(sha256.New, c.root[:])
	h.Write(b[:])
	secret := h.Sum(nil)

	h = hmac.New(sha256.New, secret)
	binary.BigEndian.PutUint64(b[:], uint64(spi))
	h.Write(b[:])
	ip := addr.As16()
	h.Write(ip[:])
	h.Write(ni)
	return h.Sum([]byte{byte(period)})[:cookieLen]
}

package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"runtime"
	"time"

	"github.com/ikegod/ikegod/pkg/esp"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/suite"
)

const (
	packetLen    = 1400 // octets inside
	packetBatch  = 2048
	packetRounds = 51 // batches; the median counts
)

// packets measures sealing and opening of ESP packets in memory, beside the cipher alone, on one core.
func packets() ([]row, error) {
	gcm, err := cipherAlone()
	if err != nil {
		return nil, err
	}
	rows := []row{{"AES-256-GCM of crypto/cipher alone, 1,400 octets", perPacket(gcm), "", "3.7 GB/s (the reference machine)"}}
	for _, s := range []suite.Suite{
		{Encr: suite.Encr{ID: iana.ENCR_AES_GCM_16, KeyBits: 256}, SN: iana.SN_ESN},
		{Encr: suite.Encr{ID: iana.ENCR_CHACHA20_POLY1305}, SN: iana.SN_ESN},
		{Encr: suite.Encr{ID: iana.ENCR_AES_CBC, KeyBits: 256}, Integ: iana.AUTH_HMAC_SHA2_256_128, SN: iana.SN_ESN},
	} {
		seal, open, allocs, err := sealOpen(s)
		if err != nil {
			return nil, err
		}
		if allocs > packetRounds { // the runtime may make some of its own; one a packet would be 4,096 times as many
			return nil, fmt.Errorf("%v: %d allocations for %d packets, expected none", s.Encr, allocs, 2*packetBatch*packetRounds)
		}
		rows = append(rows,
			row{fmt.Sprintf("ESP seal, %v with ESN", s.Encr), perPacket(seal) + ", 0 allocations", "0 allocations", ""},
			row{fmt.Sprintf("ESP open, %v with ESN, replay window 128", s.Encr), perPacket(open) + ", 0 allocations", "0 allocations", ""})
	}
	return rows, nil
}

func perPacket(ns float64) string {
	return fmt.Sprintf("%.2f us per packet, %.2f GB/s", ns/1000, packetLen/ns)
}

// cipherAlone is what the library's cipher takes for one packet, in nanoseconds.
func cipherAlone() (float64, error) {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		return 0, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return 0, err
	}
	buf, nonce := make([]byte, packetLen+gcm.Overhead()), make([]byte, gcm.NonceSize())
	var times []float64
	for range packetRounds {
		begin := time.Now()
		for range packetBatch {
			gcm.Seal(buf[:0], nonce, buf[:packetLen], nil)
		}
		times = append(times, float64(time.Since(begin).Nanoseconds())/packetBatch)
	}
	return median(times), nil
}

// sealOpen gives the times of one packet in nanoseconds, and the allocations of all of them.
func sealOpen(s suite.Suite) (seal, open float64, allocs uint64, err error) {
	p := esp.Params{SPI: 0x1000, Suite: s, EncrKey: make([]byte, s.EncrKeyLen()), IntegKey: make([]byte, s.IntegKeyLen()), ReplayWindow: 128}
	if _, err := rand.Read(p.EncrKey); err != nil {
		return 0, 0, 0, err
	}
	out, err := esp.NewOutbound(p)
	if err != nil {
		return 0, 0, 0, err
	}
	in, err := esp.NewInbound(p)
	if err != nil {
		return 0, 0, 0, err
	}
	scratch, size := new(esp.Scratch), out.SealedLen(packetLen)
	buf := make([]byte, size*packetBatch)
	var seals, opens []float64
	var before, after runtime.MemStats
	for round := range packetRounds + 1 {
		runtime.ReadMemStats(&before)
		begin := time.Now()
		for i := range packetBatch {
			packet := buf[i*size : (i+1)*size]
			if _, err := out.Seal(scratch, packet, 4, packet[out.PayloadOffset():][:packetLen]); err != nil {
				return 0, 0, 0, err
			}
		}
		middle := time.Now()
		for i := range packetBatch {
			if _, err := in.Open(scratch, buf[i*size:(i+1)*size]); err != nil {
				return 0, 0, 0, err
			}
		}
		end := time.Now()
		runtime.ReadMemStats(&after)
		if round == 0 {
			continue // warm up
		}
		seals = append(seals, float64(middle.Sub(begin).Nanoseconds())/packetBatch)
		opens = append(opens, float64(end.Sub(middle).Nanoseconds())/packetBatch)
		allocs += after.Mallocs - before.Mallocs
	}
	return median(seals), median(opens), allocs, nil
}

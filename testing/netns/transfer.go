package netns

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Download is what a transfer was.
type Download struct {
	Octets int64
	SHA256 string // as received, and equal to what was sent
	Took   time.Duration
}

// Transfer serves octets of noise by HTTP at address (of server) and downloads them from client, bound to source. It compares checksums.
func Transfer(ctx context.Context, server *Host, address string, client *Host, source string, octets int64) (Download, error) {
	return TransferTo(ctx, server, address, "", client, source, octets)
}

// TransferTo is Transfer where the client knows the server by another address, unless dialed is empty: a NAT is between them.
func TransferTo(ctx context.Context, server *Host, address, dialed string, client *Host, source string, octets int64) (Download, error) {
	l, err := server.Listen(address)
	if err != nil {
		return Download{}, err
	}
	srv := &http.Server{Handler: noise(octets), ReadHeaderTimeout: 10 * time.Second}
	go srv.Serve(l)
	defer srv.Close()
	at := l.Addr().(*net.TCPAddr)
	if dialed != "" {
		at = &net.TCPAddr{IP: net.ParseIP(dialed), Port: at.Port}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at.String()+"/", nil)
	if err != nil {
		return Download{}, err
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		return client.Dial(ctx, "tcp", source, addr)
	}}
	begin := time.Now()
	resp, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return Download{}, err
	}
	defer resp.Body.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, resp.Body)
	d := Download{Octets: n, SHA256: hex.EncodeToString(sum.Sum(nil)), Took: time.Since(begin)}
	switch sent := resp.Trailer.Get("Sha256"); {
	case err != nil:
		return d, fmt.Errorf("after %d of %d octets: %w", n, octets, err)
	case n != octets:
		return d, fmt.Errorf("%d of %d octets came", n, octets)
	case sent != d.SHA256:
		return d, fmt.Errorf("checksum of what came is %s, of what was sent %s", d.SHA256, sent)
	}
	return d, nil
}

// noise answers with octets that nothing compresses, and their checksum in a trailer.
func noise(octets int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "Sha256")
		w.Header().Set("X-Octets", strconv.FormatInt(octets, 10))
		sum := sha256.New()
		source := rand.NewChaCha8([32]byte{1})
		if _, err := io.CopyN(io.MultiWriter(w, sum), source, octets); err != nil {
			return
		}
		w.Header().Set("Sha256", hex.EncodeToString(sum.Sum(nil)))
	})
}

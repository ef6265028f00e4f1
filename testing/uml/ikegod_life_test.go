package uml_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/uml"
)

// TestIkegodLife is what happens to a connection in the kernel between its beginning and its end.
func TestIkegodLife(t *testing.T) {
	for _, c := range []struct {
		name string
		with ours
		do   func(*testing.T, ours)
	}{
		{"killed-tcp", ours{place: direct, conn: []string{"enable-tcp=yes"}, carrier: "ESPinTCP"}, killed},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !uml.Outside(t, uml.Full, uml.Programs) {
				c.do(t, c.with)
			}
		})
	}
}

// killed: what a killed daemon has left goes on carrying packets, the next daemon takes it away, and nobody else's.
func killed(t *testing.T, o ours) {
	p := o.meet(t, "add")
	p.up(t)
	foreign := func(verb string, more ...string) error {
		return p.west.host.Run("ip", append([]string{"xfrm", "state", verb, "src", "192.0.2.77", "dst", "192.0.2.78", "proto", "esp", "spi", "0x777"}, more...)...)
	}
	if err := foreign("add", "reqid", "7", "mode", "tunnel", "aead", "rfc4106(gcm(aes))", "0x"+strings.Repeat("ab", 36), "128"); err != nil {
		t.Fatal(err)
	}
	if err := p.west.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := p.west.Wait(5 * time.Second); err == nil {
		t.Error("a killed daemon has ended well")
	}
	if n := kernelStates(t, p.west.host); n != 3 {
		t.Errorf("%d states after the kill, want the two of ours and the other's", n)
	}
	p.west.start(t)
	if said := "removed what an earlier daemon had left in the kernel: 2 SAs and 3 policies"; !strings.Contains(p.west.Log(), said) {
		t.Errorf("not in the log: %q", said)
	}
	if n := kernelStates(t, p.west.host); n != 1 {
		t.Errorf("%d states after the start, want the other's", n)
	}
	if err := foreign("delete"); err != nil {
		t.Error(err)
	}
	p.up(t) // INITIAL_CONTACT makes east forget the SAs of before (RFC 7296 2.4)
	p.watched(t, func() { p.pings(t, p.west, p.west.in, p.east.in) })
	p.leavesNothing(t)
}

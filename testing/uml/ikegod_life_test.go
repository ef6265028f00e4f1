package uml_test

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/uml"
)

// TestIkegodLife is what happens to a connection in the kernel between its beginning and its end.
func TestIkegodLife(t *testing.T) {
	for _, c := range []struct {
		name string
		with ours
		do   func(*testing.T, ours)
	}{
		{"ondemand", ours{place: direct, carrier: "ESP"}, onDemand},
		{"killed-tcp", ours{place: direct, conn: []string{"enable-tcp=yes"}, carrier: "ESPinTCP"}, killed},
		{"stream-lost", ours{place: direct, conn: []string{"enable-tcp=yes"}, carrier: "ESPinTCP"}, streamLost},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !uml.Outside(t, uml.Full, uml.Programs) {
				c.do(t, c.with)
			}
		})
	}
}

// onDemand: a packet that meets the trap starts the connection. The kernel drops it, and those after it until there are SAs. After a down the trap is there again.
func onDemand(t *testing.T, o ours) {
	p := o.meet(t, "ondemand")
	p.golden(t, "trap")
	netns.Until(t, 20*time.Second, "an answer", func() bool {
		return p.west.host.Run("ping", "-n", "-q", "-c", "1", "-W", "1", "-I", p.west.in, p.east.in) == nil
	})
	p.settled(t)
	p.watched(t, func() { p.pings(t, p.east, p.east.in, p.west.in) })
	p.down(t)
	p.golden(t, "trap")
	p.leavesNothing(t)
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

// streamLost: a reset ends the TCP connection under the SAs. The initiator dials again, and they go on with it as they are (RFC 9329 6.3).
func streamLost(t *testing.T, o ours) {
	p := o.meet(t, "add")
	p.up(t)
	before, ports := onlyChild(t, p.west.Daemon), tcpPorts(t, p.west)
	_, port, _ := strings.Cut(strings.Fields(ports)[0], ":") // of this stream alone: the next must not be met by it
	reset := "table inet lost {\n\tchain out {\n\t\ttype filter hook output priority 0;\n\t\ttcp sport " + port + " tcp dport 4500 reject with tcp reset\n\t}\n}\n"
	if err := p.west.host.RunInput(reset, "nft", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	lost := p.west.host.Command(ctx, "ping", "-n", "-q", "-c", "1", "-W", "1", "-I", p.west.in, p.east.in) // is answered by a reset
	if out, err := lost.CombinedOutput(); err == nil {
		t.Errorf("the stream is still there: %s", out)
	}
	netns.Until(t, 10*time.Second, "the stream is lost", func() bool { return tcpPorts(t, p.west) != ports })
	if err := p.west.host.Run("nft", "delete", "table", "inet", "lost"); err != nil {
		t.Fatal(err)
	}
	netns.Until(t, 20*time.Second, "packets pass again", func() bool {
		return p.west.host.Run("ping", "-n", "-q", "-c", "1", "-W", "1", "-I", p.west.in, p.east.in) == nil
	})
	p.settled(t)
	if after := onlyChild(t, p.west.Daemon); after.SPIIn != before.SPIIn || after.SPIOut != before.SPIOut {
		t.Errorf("the Child SA is another one: %s %s, before %s %s", after.SPIIn, after.SPIOut, before.SPIIn, before.SPIOut)
	}
	if now := tcpPorts(t, p.west); now == ports || now == "" {
		t.Errorf("the SAs have the ports %q, before the loss %q", now, ports)
	}
	p.carries(t)
	p.rekeys(t)
	p.leavesNothing(t)
}

// tcpPorts is the established streams of a gateway.
func tcpPorts(t *testing.T, g *kernelGateway) string {
	t.Helper()
	out, err := g.host.Output("sh", "-c", "ss -Htn state established '( dport = :4500 or sport = :4500 )' | awk '{print $3, $4}'")
	if err != nil {
		t.Fatal(err, out)
	}
	return out
}

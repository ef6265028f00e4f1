package uml_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/uml"
)

// TestIkegodLife is what happens to a connection in the kernel between its beginning and its end.
func TestIkegodLife(t *testing.T) {
	for _, c := range []struct {
		name  string
		with  ours
		do    func(*testing.T, ours)
		short bool
	}{
		{"ondemand", ours{place: direct, carrier: "ESP"}, onDemand, true},
		{"killed-esp", ours{place: direct, carrier: "ESP"}, killed, false},
		{"killed-udp", ours{place: direct, conn: useUDP, carrier: "ESPinUDP"}, killed, false},
		{"killed-tcp", ours{place: direct, conn: useTCP, carrier: "ESPinTCP"}, killed, true},
		{"responder-killed-esp", ours{place: direct, carrier: "ESP"}, killedResponder, false},
		{"responder-killed-udp", ours{place: direct, conn: useUDP, carrier: "ESPinUDP"}, killedResponder, false},
		{"responder-killed-tcp", ours{place: direct, conn: useTCP, carrier: "ESPinTCP"}, killedResponder, false},
		{"killed-to-userspace", ours{place: direct, conn: useUDP, carrier: "ESPinUDP"}, killedToUserspace, false},
		{"policy-expires", ours{place: direct, conn: useUDP, carrier: "ESPinUDP"}, policyExpires, false},
		{"reloaded-esp", ours{place: direct, conn: held, carrier: "ESP"}, reloaded, false},
		{"reloaded-tcp", ours{place: direct, conn: append([]string{"enable-tcp=yes"}, held...), carrier: "ESPinTCP"}, reloaded, false},
		{"flushed-esp", ours{place: direct, carrier: "ESP"}, flushed, true},
		{"flushed-tcp", ours{place: direct, conn: useTCP, carrier: "ESPinTCP"}, flushed, false},
		{"stream-lost", ours{place: direct, conn: useTCP, carrier: "ESPinTCP"}, streamLost, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !c.short {
				fullOnly(t)
			}
			if !uml.Outside(t, uml.Full, uml.Programs) {
				c.do(t, c.with)
			}
		})
	}
}

// onDemand: a packet that meets the trap starts the connection, and is sent when it is up. After a down the trap is there again.
func onDemand(t *testing.T, o ours) {
	p := o.meet(t, "ondemand")
	p.golden(t, "trap")
	p.watched(t, func() { p.firstPing(t) })
	p.settled(t)
	p.watched(t, func() { p.pings(t, p.east, p.east.in, p.west.in) })
	p.down(t)
	p.golden(t, "trap")
	p.leavesNothing(t)
}

// held are the lines of a connection of which nothing leaves in clear while it is not up.
var held = []string{"negotiationshunt=hold", "failureshunt=drop", "mtu=1300"}

// reloaded: a reload that changes the connection under traffic lets none of it out between the old one and the new, which protects it again.
func reloaded(t *testing.T, o ours) {
	p := o.meet(t, "start")
	p.settled(t)
	p.watched(t, func() {
		ctx, stop := context.WithCancel(t.Context())
		stream := p.west.host.Command(ctx, "ping", "-n", "-q", "-i", "0.01", "-I", p.west.in, p.east.in)
		if err := stream.Start(); err != nil {
			t.Fatal(err)
		}
		for _, mtu := range []string{"1290", "1280"} {
			before := ikeSAs(t, p.west.Daemon)[0].SPIi
			if err := os.WriteFile(p.west.Config, []byte(strings.Replace(p.west.conf, "mtu=1300", "mtu="+mtu, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, status := p.west.Ikectl("reload"); status != 0 || !strings.Contains(out, "changed: meeting") {
				t.Errorf("reload: %d %s", status, out)
			}
			p.settled(t)
			if ikeSAs(t, p.west.Daemon)[0].SPIi == before {
				t.Error("the connection has not come up anew")
			}
			p.pings(t, p.east, p.east.in, p.west.in)
		}
		stop()
		_ = stream.Wait() // it is killed
	})
	if c := onlyChild(t, p.west.Daemon); c.OutPackets == 0 || c.InPackets == 0 {
		t.Errorf("nothing came through the new tunnel: %+v", c)
	}
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
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	lost := p.west.host.Command(ctx, "ping", "-n", "-q", "-c", "1", "-W", "1", "-I", p.west.in, p.east.in) // is answered by a reset
	if out, err := lost.CombinedOutput(); err == nil {
		t.Errorf("the stream is still there: %s", out)
	}
	netns.Until(t, patience, "the stream is lost", func() bool { return tcpPorts(t, p.west) != ports })
	if err := p.west.host.Run("nft", "delete", "table", "inet", "lost"); err != nil {
		t.Fatal(err)
	}
	netns.Until(t, patience, "packets pass again", func() bool {
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

// inHex is what ip xfrm adds to numbers.
var inHex = regexp.MustCompile(`\(0x[0-9a-f]+\)`)

// policyExpires: somebody gives policies of ours a limit in time, at which the kernel takes them away and says so (POLEXPIRE). They are put back as they were, of a connection that
// is up and of a trap; a limit that only warns changes nothing.
func policyExpires(t *testing.T, o ours) {
	p := o.meet(t, "ondemand")
	limited := func(limit ...string) {
		t.Helper()
		for part := range strings.SplitSeq(strings.TrimSpace(xfrmBlocks(t, p.west.host, "policy")), "\nsrc ") {
			// src A dst B, dir D action block priority P, and then perhaps the template
			words := strings.Fields(inHex.ReplaceAllString(strings.NewReplacer("action block ", "", "ptype main", "").Replace("src "+strings.TrimPrefix(part, "src ")), ""))
			args := slices.Concat([]string{"xfrm", "policy", "update"}, words[:8], []string{"limit"}, limit, words[8:])
			if strings.Contains(part, "action block") {
				args = append(args, "action", "block")
			}
			if out, err := p.west.host.Output("ip", args...); err != nil {
				t.Fatalf("ip %v: %v: %s", args, err, out)
			}
		}
	}
	indices := func() string { // of the policies that are there: those that are put back have others
		t.Helper()
		out, err := p.west.host.Output("sh", "-c", "ip -s xfrm policy list nosock | grep -o 'index [0-9]*' | sort")
		if err != nil {
			t.Fatal(out)
		}
		return out
	}
	back := func(when string) {
		t.Helper()
		before := indices()
		limited("time-hard", "1")
		netns.Until(t, patience, "the kernel has let all policies expire, and they are there again", func() bool {
			now := indices()
			for index := range strings.Lines(before) {
				if strings.Contains(now, index) {
					return false
				}
			}
			return strings.Count(now, "index") == strings.Count(before, "index")
		})
		p.golden(t, when, inUse)
	}
	p.golden(t, "trap")
	back("trap")
	netns.Until(t, patience, "an answer", func() bool {
		return p.west.host.Run("ping", "-n", "-q", "-c", "1", "-W", "1", "-I", p.west.in, p.east.in) == nil
	})
	p.settled(t)
	back("up")
	p.watched(t, func() {
		p.pings(t, p.west, p.west.in, p.east.in)
		p.pings(t, p.east, p.east.in, p.west.in)
	})
	before := indices()
	monitor := filepath.Join(p.west.host.Dir(), "monitor")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := p.west.host.Command(ctx, "sh", "-c", "exec stdbuf -oL ip xfrm monitor expire >"+monitor)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limited("time-soft", "3")
	netns.Until(t, patience, "the kernel has warned", func() bool {
		text, _ := os.ReadFile(monitor)
		return strings.Contains(string(text), "Expired src")
	})
	cancel()
	_ = cmd.Wait() // it is killed
	if after := indices(); after != before {
		t.Errorf("a limit that warns has changed the policies: %s, before %s", after, before)
	}
	p.watched(t, func() { p.pings(t, p.west, p.west.in, p.east.in) })
	if strings.Contains(p.west.Log(), "could not be put back") {
		t.Error("a policy could not be put back")
	}
	p.rekeys(t)
	p.down(t)
	p.golden(t, "trap")
	p.leavesNothing(t)
}

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

// killed: what a killed daemon has left goes on carrying packets, and holds them back until the next daemon does. That one takes it away, and nobody else's. Not one
// packet goes in clear.
func killed(t *testing.T, o ours) {
	p := o.meet(t, "start")
	p.settled(t)
	foreign := func(verb string, more ...string) error {
		return p.west.host.Run("ip", append([]string{"xfrm", "state", verb, "src", "192.0.2.77", "dst", "192.0.2.78", "proto", "esp", "spi", "0x777"}, more...)...)
	}
	p.watched(t, func() {
		defer p.stream(t)()
		for _, round := range []string{"first", "second"} {
			if err := foreign("add", "reqid", "7", "mode", "tunnel", "aead", "rfc4106(gcm(aes))", "0x"+strings.Repeat("ab", 36), "128"); err != nil {
				t.Fatal(err)
			}
			p.west.kill(t)
			if n := kernelStates(t, p.west.host); n != 3 {
				t.Errorf("%d states after the %s kill, want the two of ours and the other's", n, round)
			}
			p.west.start(t)
			for _, said := range []string{
				"removed 2 SAs that an earlier daemon had left in the kernel; its 3 policies stay until those of this one are in place", "3 were replaced in place, and 0 were removed",
			} {
				if !strings.Contains(p.west.Log(), said) {
					t.Errorf("not in the log: %q", said)
				}
			}
			if strings.Contains(p.west.Log(), "could not be taken away") || strings.Contains(p.west.Log(), "Z error ") {
				t.Errorf("the log of the %s start has errors:\n%s", round, p.west.Log())
			}
			if err := foreign("delete"); err != nil {
				t.Error(err)
			}
			p.settled(t) // INITIAL_CONTACT has made east forget the SAs of before (RFC 7296 2.4)
			p.pings(t, p.west, p.west.in, p.east.in)
			p.golden(t, "restarted", inUse)
		}
	})
	p.leavesNothing(t)
}

// killedResponder: the end that answers is killed, while the other sends. It is told to bring the connection up for what it has to send, and its peer to ask whether it is alive:
// whichever finds out first makes new SAs. Not one packet goes in clear, and nothing is left of the SAs of before.
func killedResponder(t *testing.T, o ours) {
	o.conn = append([]string{"dpddelay=1s", "retransmit-timeout=3s", "failureshunt=hold"}, o.conn...) // between two attempts nothing is to go in clear either
	w, e := o.ends(t)
	p := &pairOfOurs{ours: o, west: &kernelGateway{end: w, conf: o.confOf(w, e, "start")}, east: &kernelGateway{end: e, conf: o.confOf(e, w, "ondemand")}}
	p.saysWhatItKnows(t)
	p.east.start(t)
	p.west.start(t)
	p.settled(t)
	p.watched(t, func() {
		defer p.stream(t)()
		for _, who := range []string{"west", "east"} {
			before := onlyChild(t, p.west.Daemon)
			p.east.kill(t)
			if n := kernelStates(t, p.east.host); n != 2 {
				t.Errorf("%d states after the kill, want 2", n)
			}
			p.east.start(t)
			said(t, "the log of east", p.east.Log(), "removed 2 SAs that an earlier daemon had left in the kernel; its 3 policies stay until those of this one are in place")
			netns.Until(t, patience, "new SAs, which "+who+" wants", func() bool {
				if who == "east" { // a packet for its trap
					_ = p.east.host.Run("ping", "-n", "-q", "-c", "1", "-W", "1", "-I", p.east.in, p.west.in)
				}
				list := ikeSAs(t, p.west.Daemon)
				return len(list) == 1 && len(list[0].Children) == 1 && list[0].Children[0].SPIOut != before.SPIOut
			})
			p.settled(t)
			p.pings(t, p.west, p.west.in, p.east.in)
			p.pings(t, p.east, p.east.in, p.west.in)
			p.golden(t, "restarted-"+who, inUse) // who dials has the port of its own, in TCP
		}
	})
	p.leavesNothing(t)
}

func (g *kernelGateway) kill(t *testing.T) {
	t.Helper()
	if err := g.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := g.Wait(5 * time.Second); err == nil {
		t.Error("a killed daemon has ended well")
	}
}

// stream sends packets from west's inner network to east's until the returned function is called: some with a source that is chosen from the start, others with one
// that is chosen for each of them.
func (p *pairOfOurs) stream(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	bound := p.west.host.Command(ctx, "ping", "-n", "-q", "-i", "0.01", "-I", p.west.in, p.east.in)
	free := p.west.host.Command(ctx, "sh", "-c", "while :; do ping -n -q -c 1 -W 0.1 "+p.east.in+"; done")
	if err := bound.Start(); err != nil {
		t.Fatal(err)
	}
	if err := free.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		cancel()
		_, _ = bound.Wait(), free.Wait() // they are killed
	}
}

// killedToUserspace: from a daemon whose kernel carries everything to one that does so itself, and back.
func killedToUserspace(t *testing.T, o ours) { o.throughShapes(t, "xfrm", "userspace", "xfrm") }

// TestStockKernelKilled: a daemon of both halves, and those with one of them alone, take over from each other.
func TestStockKernelKilled(t *testing.T) {
	fullOnly(t)
	if uml.Outside(t, uml.Stock, uml.Programs) {
		return
	}
	o := ours{place: direct, conn: useUDP, carrier: "ESPinUDP"}
	o.throughShapes(t, "auto", "userspace", "auto", "xfrm", "auto")
}

// throughShapes kills west's daemon and starts it with another datapath, again and again. Not one packet goes in clear, those of the new one flow, and nothing is left that
// only the old one had.
func (o ours) throughShapes(t *testing.T, backends ...string) {
	w, e := o.ends(t)
	p := &pairOfOurs{ours: o, west: &kernelGateway{end: w, conf: o.confOf(w, e, "start"), backend: backends[0]}, east: &kernelGateway{end: e, conf: o.confOf(e, w, "add"), backend: "xfrm"}}
	t.Cleanup(func() {
		if t.Failed() && p.west.Daemon != nil && p.east.Daemon != nil {
			t.Logf("log of west:\n%s\nlog of east:\n%s\nwest's kernel:\n%s", p.west.Log(), p.east.Log(), p.west.all(t))
		}
	})
	p.east.start(t)
	p.west.start(t)
	p.upAgain(t, backends[0])
	p.watched(t, func() {
		defer p.stream(t)()
		for _, p.west.backend = range backends[1:] {
			p.west.kill(t)
			p.west.start(t)
			p.upAgain(t, p.west.backend)
			if strings.Contains(p.west.Log(), "could not be taken away") {
				t.Errorf("%s: not all could be taken away", p.west.backend)
			}
		}
	})
	p.leavesNothing(t)
}

// upAgain waits until packets flow, and looks for what only other datapaths have.
func (p *pairOfOurs) upAgain(t *testing.T, backend string) {
	t.Helper()
	netns.Until(t, 20*time.Second, "packets flow by "+backend, func() bool {
		return p.west.host.Run("ping", "-n", "-q", "-c", "1", "-W", "1", "-I", p.west.in, p.east.in) == nil
	})
	netns.Until(t, 10*time.Second, "one Child SA", func() bool {
		list := ikeSAs(t, p.west.Daemon)
		return len(list) == 1 && len(list[0].Children) == 1
	})
	p.pings(t, p.west, p.west.in, p.east.in)
	if out, err := p.west.host.Output("ping", "-n", "-q", "-c", "1", "-W", "2", p.east.in); err != nil {
		t.Errorf("%s: a packet without a source: %v\n%s", backend, err, out)
	}
	all := p.west.all(t)
	user, inKernel := strings.Contains(all, "table inet ikegod"), strings.Contains(all, "proto esp reqid") // of SAs and of templates
	if user != (backend != "xfrm") || inKernel != (backend != "userspace") {
		t.Errorf("%s: userspace %v, kernel %v in\n%s", backend, user, inKernel, all)
	}
	for what, only := range map[string]bool{
		"chain forward": backend == "auto", "lookup 4500": backend != "xfrm", "blackhole": backend != "xfrm", "4499:": backend == "xfrm", "proto 73": backend == "xfrm", "priority ": backend != "userspace",
	} {
		if strings.Contains(strings.ReplaceAll(all, "priority raw", ""), what) != only {
			t.Errorf("%s: %q there: %v\n%s", backend, what, !only, all)
		}
	}
}

// all is what a daemon may have put into its kernel.
func (g *kernelGateway) all(t *testing.T) string {
	t.Helper()
	out, err := g.host.Output("sh", "-c", "ip xfrm state list nokeys; ip xfrm policy list nosock; nft list table inet ikegod 2>/dev/null; ip rule; ip -6 rule; ip route show table all; ip route show table all type blackhole; true")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

package uml_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/uml"
)

// TestIkegodRefused is what the kernel refuses: the operators at both ends are told in words, the peer by a notification, and nothing stays half installed.
func TestIkegodRefused(t *testing.T) {
	if uml.Outside(t, uml.Full, uml.Programs) {
		return
	}
	// Somebody else's policy for the same packets.
	foreign := func(t *testing.T, g *kernelGateway, verb string, other end) {
		t.Helper()
		args := []string{"xfrm", "policy", verb, "src", g.net, "dst", other.net, "dir", "out"}
		if verb == "add" {
			args = append(args, "priority", "1757393")
		}
		if err := g.host.Run("ip", args...); err != nil {
			t.Fatal(err)
		}
	}
	nothing := func(t *testing.T, p *pairOfOurs) {
		t.Helper()
		for _, g := range p.both() {
			netns.Until(t, patience, g.name+" has no states, nor policies that want some", func() bool {
				return kernelStates(t, g.host) == 0 && !strings.Contains(xfrmBlocks(t, g.host, "policy"), "tmpl")
			})
		}
	}
	words := []string{"somebody else has a policy (priority 1757393) for the same traffic in the kernel: file exists", "look who has it: ip xfrm state; ip xfrm policy"}
	with := ours{place: direct, conn: useUDP, carrier: "ESPinUDP"}
	t.Run("responder", func(t *testing.T) {
		p := with.meet(t, "add")
		foreign(t, p.east, "add", p.west.end)
		out, status := p.west.Ikectl("up", "meeting")
		said(t, "ikectl up at west", out, "NO_ADDITIONAL_SAS")
		words := append(words, "sent NO_ADDITIONAL_SAS")
		netns.Poll(patience, func() bool { return saidAll(p.east.Log(), words...) }) // it is logged when the peer has been told
		said(t, "the log of east", p.east.Log(), words...)
		if status == 0 {
			t.Errorf("up: %s", out)
		}
		nothing(t, p)
		foreign(t, p.east, "delete", p.west.end)
		p.up(t)
		p.leavesNothing(t)
	})
	t.Run("initiator", func(t *testing.T) {
		p := with.meet(t, "add")
		foreign(t, p.west, "add", p.east.end)
		out, status := p.west.Ikectl("up", "meeting")
		said(t, "ikectl up at west", out, words...)
		if status == 0 {
			t.Errorf("up: %s", out)
		}
		nothing(t, p)
		foreign(t, p.west, "delete", p.east.end)
		p.up(t)
		p.leavesNothing(t)
	})
}

// said wants words in a text, however that is wrapped.
func said(t *testing.T, who, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !saidAll(text, w) {
			t.Errorf("%s has not said %q:\n%s", who, w, text)
		}
	}
}

func saidAll(text string, words ...string) bool {
	text = strings.Join(strings.Fields(text), " ")
	return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
}

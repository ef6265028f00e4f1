package uml_test

import (
	"testing"

	"golang.org/x/sys/unix"

	xm "github.com/ikegod/ikegod/kernel/xfrm/message"
	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/uml"
)

// TestIkegodStarved: a kernel that has no memory for an SA, and one that lets the daemon change nothing any more. The operators at both ends are told, the peer gets a
// notification, nothing stays half installed, what was there goes on, and when the kernel can again all is well.
func TestIkegodStarved(t *testing.T) {
	if uml.Outside(t, uml.Full, uml.Programs) {
		return
	}
	outbound := func(err error) func(xm.Type) error { // the inbound SA is there, the outbound one is not
		return func(m xm.Type) error {
			if m == xm.NEWSA {
				return err
			}
			return nil
		}
	}
	all := func(err error) func(xm.Type) error { // but a daemon without rights may look
		return func(m xm.Type) error {
			if m == xm.GETSA || m == xm.GETPOLICY {
				return nil
			}
			return err
		}
	}
	w, e := direct(t)
	o := ours{place: direct, conn: useUDP, carrier: "ESPinUDP"}
	p := &pairOfOurs{ours: o, west: &kernelGateway{end: w, conf: o.confOf(w, e, "add")}, east: &kernelGateway{end: e, conf: o.confOf(e, w, "add")}}
	t.Cleanup(func() {
		for _, g := range p.both() {
			if t.Failed() && g.Daemon != nil {
				t.Logf("the log of %s:\n%s", g.name, g.Log())
			}
		}
	})
	kernel := p.east.refusable(t)
	p.west.start(t)
	policies := func() string { return xfrmBlocks(t, p.east.host, "policy") }
	idle := policies()

	for _, x := range []struct {
		name   string
		refuse func(xm.Type) error
		words  string
	}{
		{"no memory", outbound(unix.ENOBUFS), "the kernel has no memory for it: look at free memory"},
		{"no rights", all(unix.EPERM), "changing the kernel's IPsec needs CAP_NET_ADMIN"},
	} {
		t.Run(x.name, func(t *testing.T) {
			for _, g := range p.both() {
				kernel.set(x.refuse)
				out, status := g.Ikectl("up", "meeting")
				if status == 0 || kernel.refused() == 0 {
					t.Errorf("up at %s: %s; refused: %d", g.name, out, kernel.refused())
				}
				if g == p.west {
					said(t, "ikectl up at west", out, "NO_ADDITIONAL_SAS")
				} else {
					said(t, "ikectl up at east", out, x.words)
				}
				netns.Until(t, patience, "nothing in the kernels", func() bool { return kernelStates(t, p.west.host)+kernelStates(t, p.east.host) == 0 })
				kernel.set(nil)
				if out, status := g.Ikectl("down", "meeting"); status != 0 { // else it is tried again
					t.Errorf("down: %d %s", status, out)
				}
				for _, g := range p.both() {
					netns.Until(t, patience, "no SA at "+g.name, func() bool { return len(ikeSAs(t, g.Daemon)) == 0 && kernelStates(t, g.host) == 0 })
				}
				netns.Until(t, patience, "the policies that were there before", func() bool { return policies() == idle })
			}
			said(t, "the log of east", p.east.Log(), x.words, "sent NO_ADDITIONAL_SAS")
		})
	}
	t.Run("rekeying", func(t *testing.T) {
		p.up(t)
		before := onlyChild(t, p.west.Daemon).SPIIn
		kernel.set(func(m xm.Type) error { // the outbound SA comes when the old one goes
			if m == xm.UPDSA {
				return unix.ENOBUFS
			}
			return nil
		})
		type answer struct {
			out    string
			status int
		}
		rekeyed := make(chan answer, 1)
		go func() {
			out, status := p.west.Ikectl("rekey-child", "meeting")
			rekeyed <- answer{out, status}
		}()
		netns.Until(t, patience, "east refuses, and west asks again", func() bool {
			return saidAll(p.east.Log(), "the kernel has no memory for it", "sent TEMPORARY_FAILURE") && saidAll(p.west.Log(), "TEMPORARY_FAILURE", "asking again")
		})
		p.pings(t, p.west, p.west.in, p.east.in)
		kernel.set(nil)
		netns.Until(t, patience, "it is asked again", func() bool {
			list := ikeSAs(t, p.west.Daemon)
			return len(list) == 1 && len(list[0].Children) == 1 && list[0].Children[0].SPIIn != before
		})
		if r := <-rekeyed; r.status != 0 {
			t.Errorf("rekey-child: %d %s", r.status, r.out)
		}
		p.settled(t)
		p.pings(t, p.west, p.west.in, p.east.in)
	})
	p.leavesNothing(t)
}

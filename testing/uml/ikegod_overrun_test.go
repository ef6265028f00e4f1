package uml_test

import (
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/uml"
)

// TestIkegodOverrun: a daemon that has not read for a while what the kernel says, and so has lost some of it, says so and finds it out by itself.
func TestIkegodOverrun(t *testing.T) {
	if uml.Outside(t, uml.Full, uml.Programs) {
		return
	}
	p := ours{place: direct, carrier: "ESP", conn: []string{"ipsec-max-packets=800"}}.meet(t, "add")
	p.up(t)
	before := onlyChild(t, p.west.Daemon).SPIIn
	if err := p.west.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// Somebody else's SAs that expire, more than the socket has room for.
	for batch := range 16 {
		var b strings.Builder
		for i := range 1000 {
			b.WriteString("xfrm state add src 192.0.2.77 dst 192.0.2.78 proto esp spi " + strconv.Itoa(0x10000+1000*batch+i) + " reqid 7 mode tunnel auth hmac(sha1) 0x" +
				strings.Repeat("ab", 20) + " enc cipher_null \"\" limit time-hard 2\n")
		}
		if err := p.west.host.RunInput(b.String(), "ip", "-batch", "-"); err != nil {
			t.Fatal(err)
		}
	}
	netns.Until(t, 3*patience, "they have expired", func() bool {
		out, err := p.west.host.Output("ip", "xfrm", "state", "count")
		return err == nil && strings.Contains(out, "SAD count 2")
	})
	if out, err := p.west.host.Output("ping", "-n", "-q", "-i", "0.002", "-c", "710", "-W", "1", "-I", p.west.in, p.east.in); err != nil {
		t.Errorf("%v %s", err, out)
	}
	if err := p.west.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	netns.Until(t, patience, "the Child SA is rekeyed", func() bool {
		list := ikeSAs(t, p.west.Daemon)
		return len(list) == 1 && len(list[0].Children) == 1 && list[0].Children[0].SPIIn != before
	})
	netns.Poll(patience, func() bool { return saidAll(p.west.Log(), "comes to a limit") })
	said(t, "the log of west", p.west.Log(), "faster than they were read", "comes to a limit")
	p.leavesNothing(t)
}

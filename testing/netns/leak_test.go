package netns_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// TestNothingInClearWhileNegotiating pings all through a negotiation that falls back: no packet may go out in clear from the moment of `up` on.
func TestNothingInClearWhileNegotiating(t *testing.T) {
	west, east := gateways(t, config(nil, "enable-tcp=fallback", "retransmit-timeout=2s"))
	if _, err := west.Host.Block("udp", "meta l4proto udp"); err != nil {
		t.Fatal(err)
	}
	done := make(chan string, 1)
	go func() {
		out, _ := west.Ikectl("up", conn)
		done <- out
	}()
	netns.Until(t, 2*time.Second, "the negotiation has begun", func() bool { return strings.Contains(west.Log(), "sent IKE_SA_INIT request") })
	for _, d := range []*netns.Daemon{west, east} {
		if err := d.Host.Count(); err != nil {
			t.Fatal(err)
		}
	}
	// As long as the fallback takes, and then some.
	out, _ := west.Host.Output("ping", "-n", "-c", "80", "-i", "0.05", "-W", "1", "-I", netns.WestInner, netns.EastInner)
	t.Logf("up:\n%s\nping: %s", <-done, out)
	if !strings.Contains(out, " received") || strings.Contains(out, " 0 received") {
		t.Error("no ping came through after the tunnel came up")
	}
	for _, d := range []*netns.Daemon{west, east} {
		if c, err := d.Host.Counts(); err != nil || c.Clear() != 0 {
			t.Errorf("%s saw packets in clear: %v %v", d.Host.Name, c, err)
		}
	}
}

// TestClearPacketsWithAProtectedSourceAreDropped lets the peer's daemon die. What it leaves behind holds the traffic back; once that is removed, the peer
// sends in clear what belongs into the tunnel: it reaches the wire, and goes no further than our outer interface.
func TestClearPacketsWithAProtectedSourceAreDropped(t *testing.T) {
	west, east := gateways(t, config(nil))
	up(t, west)
	carries(t, west, east)
	if err := east.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = east.Wait(5 * time.Second) // killed: that is its error
	if err := west.Host.Count(); err != nil {
		t.Fatal(err)
	}
	inner := `table ip saw {
	counter local { }
	chain in {
		type filter hook input priority 0;
		ip saddr ` + netns.EastNet + ` counter name local
	}
}
`
	if err := west.Host.RunInput(inner, "nft", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	clearPing := func() {
		t.Helper()
		if out, err := east.Host.Output("ping", "-n", "-c", "3", "-i", "0.05", "-W", "0.3", "-I", netns.EastInner, netns.WestInner); err == nil {
			t.Errorf("a clear ping with a protected source was answered: %s", out)
		}
	}
	clearPing()
	if c, err := west.Host.Counts(); err != nil || c.Clear() != 0 {
		t.Errorf("the killed daemon left nothing that holds its traffic back: %v %v", c, err)
	}
	for _, pref := range []string{"4502", "4503"} { // hostnet's rules for protected traffic (decision 0003)
		if err := east.Host.Run("ip", "rule", "del", "pref", pref); err != nil {
			t.Fatal(err)
		}
	}
	clearPing()
	if c, err := west.Host.Counts(); err != nil || c.Clear() != 3 {
		t.Errorf("the wire should have seen 3 packets in clear: %v %v", c, err)
	}
	out, err := west.Host.Output("nft", "list", "counter", "ip", "saw", "local")
	if err != nil || !strings.Contains(out, "packets 0 ") {
		t.Errorf("clear packets with a protected source were delivered: %v %s", err, out)
	}
}

// TestOtherPorts listens on several TCP ports, and not on UDP.
func TestOtherPorts(t *testing.T) {
	_, w, e := netns.Gateways(t)
	east := start(t, e, strings.Replace(config([]string{"listen-udp=no"}), "listen-tcp=yes", "listen-tcp=4500,443", 1), secrets)
	west := start(t, w, config(nil, "enable-tcp=yes", "tcp-remoteport=443"), secrets)
	if out, status := east.Ikectl("status"); status != 0 || !strings.Contains(out, "TCP *:443") || strings.Contains(out, "UDP *:500") {
		t.Errorf("%d %s", status, out)
	}
	up(t, west)
	carries(t, west, east)
	if sa := one(t, west); !strings.HasSuffix(sa.Path.Remote, ":443") {
		t.Errorf("path %+v", sa.Path)
	}
}

// TestAutoStart comes up without being asked, as soon as its peer is there.
func TestAutoStart(t *testing.T) {
	_, w, e := netns.Gateways(t)
	conf := strings.Replace(config(nil, "retransmit-timeout=2s"), "auto=add", "auto=start", 1)
	west := start(t, w, conf, secrets)
	east := start(t, e, config(nil), secrets)
	netns.Until(t, 20*time.Second, "it comes up by itself", func() bool {
		list := sas(t, west)
		return len(list) > 0 && len(list[0].Children) > 0 && !list[0].Children[0].Installed.IsZero()
	})
	carries(t, west, east)
}

package netns_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// What flows all the time in a leak test. Each text is that of one sender, so that it is known wherever it is found.
const (
	fromWest4, fromWest6   = "clear from west, IPv4", "clear from west, IPv6"
	fromEast4, fromEast6   = "clear from east, IPv4", "clear from east, IPv6"
	forgedEast4            = "forged as if from east's network, IPv4"
	forgedEast6            = "forged as if from east's network, IPv6"
	westInner6, eastInner6 = "2001:db8:0:1::254", "2001:db8:0:2::254"
	westNet6, eastNet6     = "2001:db8:0:1::/64", "2001:db8:0:2::/64"
)

var (
	outbound = []string{fromWest4, fromWest6}     // what west sends into the tunnel
	inbound  = []string{fromEast4, fromEast6}     // what east does
	forged   = []string{forgedEast4, forgedEast6} // what somebody on the wire claims to be east's, and sends to west's network
)

// leaks is two gateways whose inner networks talk all the time, with captures on the wire.
type leaks struct {
	t             *testing.T
	west, east    *netns.Host
	toEast, toWst *netns.Wire
	ears          map[string]*netns.Ears // of west, of east
	daemons       map[string]*netns.Daemon
}

// talk is who talks: an address of each version on both sides, which sources on the wire are forged, and how long the packets are.
type talk struct {
	west, east, forged [2]string
	octets             int
	behind             bool // the addresses are those of hosts behind the gateways
}

var (
	gatewaysTalk = talk{west: [2]string{netns.WestInner, westInner6}, east: [2]string{netns.EastInner, eastInner6}, forged: [2]string{"192.0.2.77", "2001:db8:0:2::77"}}
	outerTalk    = talk{west: [2]string{netns.West, netns.West6}, east: [2]string{netns.East, netns.East6}, forged: [2]string{netns.East, netns.East6}}
	hostsTalking = talk{west: [2]string{"192.0.1.1", "2001:db8:0:1::1"}, east: [2]string{"192.0.2.1", "2001:db8:0:2::1"}, forged: gatewaysTalk.forged, behind: true}
)

func watchLeaks(t *testing.T) *leaks {
	t.Helper()
	return watchTalk(t, gatewaysTalk)
}

func watchTalk(t *testing.T, k talk) *leaks {
	t.Helper()
	_, w, e := netns.Gateways(t)
	l := &leaks{t: t, west: w, east: e, ears: map[string]*netns.Ears{}, daemons: map[string]*netns.Daemon{}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(w.Run("ip", "-6", "route", "replace", eastNet6, "via", "2001:db8:1:2::23"))
	must(e.Run("ip", "-6", "route", "replace", westNet6, "via", "2001:db8:1:2::45"))
	var err error
	l.toEast, err = e.Capture(outbound...)
	must(err)
	l.toWst, err = w.Capture(append(inbound, forged...)...)
	must(err)
	west, east := w, e
	if k.behind {
		west, err = w.Behind("westhost", []string{k.west[0] + "/24", k.west[1] + "/64"}, []string{netns.WestInner, westInner6})
		must(err)
		east, err = e.Behind("easthost", []string{k.east[0] + "/24", k.east[1] + "/64"}, []string{netns.EastInner, eastInner6})
		must(err)
	}
	l.ears["west"], err = west.Listens(k.west[:]...)
	must(err)
	l.ears["east"], err = east.Listens(k.east[:]...)
	must(err)
	for i := range 2 {
		must(l.ears["west"].Talk(k.west[i], k.east[i], outbound[i], k.octets))
		must(l.ears["east"].Talk(k.east[i], k.west[i], inbound[i], k.octets))
		must(e.Forge(w, k.forged[i], k.west[i], forged[i]))
	}
	return l
}

// leakConf protects both versions of IP.
func leakConf(auto string, more ...string) string {
	one := func(name, left, right string) string {
		c := config(nil, more...)
		c = strings.NewReplacer("conn "+conn, "conn "+name, "auto=add", "auto="+auto, netns.WestNet, left, netns.EastNet, right).Replace(c)
		return c[strings.Index(c, "conn "+name):]
	}
	return "config setup\n\tlisten-tcp=yes\n\n" + one("net4", netns.WestNet, netns.EastNet) + "\n" + one("net6", westNet6, eastNet6)
}

func (l *leaks) start(h *netns.Host, conf, secrets string) *netns.Daemon {
	l.t.Helper()
	d := start(l.t, h, conf, secrets)
	l.daemons[h.Name] = d
	return d
}

// up brings both connections up from west.
func (l *leaks) up() {
	l.t.Helper()
	for _, name := range []string{"net4", "net6"} {
		if out, status := l.daemons["west"].Ikectl("up", name); status != 0 {
			l.t.Fatalf("up %s: %d\n%s", name, status, out)
		}
	}
}

// clear is how often each text was on the wire, and each forged one delivered to west.
func (l *leaks) clear() map[string]uint64 {
	seen := l.toEast.Seen()
	maps.Copy(seen, l.toWst.Seen())
	for _, text := range forged {
		seen[text] = l.ears["west"].Heard()[text]
	}
	return seen
}

// flow says what a phase does with some traffic.
type flow int

const (
	whatever flow = iota
	never         // nothing in clear, from the moment given on
	flows         // in clear: each sender's packets are seen
)

func (f flow) String() string { return [...]string{"whatever", "never", "flows"}[f] }

// want is what one phase expects: of west's packets and east's in clear on the wire, and of forged ones delivered to west's network.
type want struct{ west, east, forged flow }

// watch looks for a while. since is the moment from which nothing may be in clear; nil is now.
func (l *leaks) watch(phase string, since map[string]uint64, w want) {
	l.t.Helper()
	if since == nil {
		since = l.clear()
	}
	// Long enough for dozens of packets of each sender.
	end := time.Now().Add(400 * time.Millisecond)
	netns.Poll(time.Second, func() bool { return time.Now().After(end) })
	now := l.clear()
	for _, group := range []struct {
		texts []string
		flow  flow
	}{{outbound, w.west}, {inbound, w.east}, {forged, w.forged}} {
		for _, text := range group.texts {
			n := now[text] - since[text]
			if group.flow == never && n > 0 || group.flow == flows && n == 0 {
				l.t.Errorf("%s: %d packets of %q in clear or delivered, but DESIGN says %s", phase, n, text, group.flow)
			}
		}
	}
}

// carried looks that the tunnel carries what both networks say.
func (l *leaks) carried(phase string) {
	l.t.Helper()
	before := map[string]map[string]uint64{"west": l.ears["west"].Heard(), "east": l.ears["east"].Heard()}
	for side, texts := range map[string][]string{"west": inbound, "east": outbound} {
		for _, text := range texts {
			netns.Until(l.t, 3*time.Second, fmt.Sprintf("%s: %s hears %q through the tunnel", phase, side, text), func() bool {
				return l.ears[side].Heard()[text] > before[side][text]
			})
		}
	}
}

// negotiating waits until both connections of west are under way.
func (l *leaks) negotiating() {
	l.t.Helper()
	netns.Until(l.t, 3*time.Second, "both connections are being negotiated", func() bool {
		list, err := l.daemons["west"].Connections(l.t.Context())
		if err != nil || len(list) != 2 {
			return false
		}
		return list[0].State == "negotiating" && list[1].State == "negotiating"
	})
}

// spis is the inbound SPIs of a daemon's Child SAs.
func spis(t *testing.T, d *netns.Daemon) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, sa := range sas(t, d) {
		for _, c := range sa.Children {
			all[c.SPIIn] = true
		}
	}
	if len(all) == 0 {
		t.Fatal("no Child SA")
	}
	return all
}

var everythingHidden = want{never, never, never}

// rekeying has both ends rekey both connections some times, and watches meanwhile.
func (l *leaks) rekeying(since map[string]uint64) {
	l.t.Helper()
	const times = 5
	before := spis(l.t, l.daemons["west"])
	failed := make(chan string, len(l.daemons))
	for _, d := range l.daemons {
		go func() {
			for range times {
				for _, name := range []string{"net4", "net6"} {
					if out, status := d.Ikectl("rekey-child", name); status != 0 {
						failed <- fmt.Sprintf("%s: rekey-child %s: %d %s", d.Host.Name, name, status, out)
						return
					}
				}
			}
			failed <- ""
		}()
	}
	l.watch("rekeying", since, everythingHidden)
	for range l.daemons {
		if why := <-failed; why != "" {
			l.t.Error(why)
		}
	}
	l.carried("rekeyed")
	for spi := range spis(l.t, l.daemons["west"]) {
		if before[spi] {
			l.t.Errorf("the Child SA with SPI %s is still there after the rekeys", spi)
		}
	}
	l.watch("rekeyed", since, everythingHidden)
}

// TestLeaksThroughALife goes through the life of a connection with auto=add over each carrier (ESP in UDP, in TCP, plain ESP): what is loaded only or taken down
// flows in clear, and from the first message on to the last, rekeying, a lost path and a killed daemon included, nothing does.
func TestLeaksThroughALife(t *testing.T) {
	for _, mode := range []string{"enable-tcp=no", "enable-tcp=yes", "encapsulation=auto"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			l := watchLeaks(t)
			conf := leakConf("add", mode, "retransmit-timeout=2s", "dpddelay=1s")
			west := l.start(l.west, conf, secrets)
			l.start(l.east, conf, secrets)
			l.watch("before up", nil, want{flows, flows, flows})
			l.up()
			up := l.clear()
			l.carried("up")
			l.watch("up", up, everythingHidden)
			if carrier := sas(t, west)[0].Children[0].Carrier; mode == "encapsulation=auto" && carrier != "ESP" {
				t.Errorf("ESP travels as %s", carrier)
			}
			l.rekeying(up)
			if out, status := west.Ikectl("down", "net4"); status != 0 {
				t.Fatal(out)
			}
			if out, status := west.Ikectl("down", "net6"); status != 0 {
				t.Fatal(out)
			}
			l.watch("down", nil, want{flows, flows, flows})
			l.up()
			up = l.clear()
			l.carried("up again")
			unblock, err := l.east.Block("ike", "meta l4proto { udp, tcp, esp }")
			if err != nil {
				t.Fatal(err)
			}
			l.watch("path lost", up, want{never, whatever, never}) // east lets go after its own dpd
			netns.Until(t, 15*time.Second, "west notices that its peer is gone", func() bool { return len(sas(t, west)) == 0 || strings.Contains(west.Log(), "must remain up") })
			if err := unblock(); err != nil {
				t.Fatal(err)
			}
			netns.Until(t, 30*time.Second, "west is up by itself again", func() bool {
				n := 0
				for _, sa := range sas(t, west) {
					n += len(sa.Children)
				}
				return n == 2
			})
			l.carried("revived")
			l.watch("path lost and found", up, want{never, whatever, never})
			revived := l.clear()
			if err := west.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			_ = west.Wait(5 * time.Second) // killed: that is its error
			l.watch("killed", revived, want{never, whatever, never})
		})
	}
}

// TestLeaksByNegotiationShunt never gets an answer: what it sends meanwhile meets negotiationshunt=.
func TestLeaksByNegotiationShunt(t *testing.T) {
	for shunt, west := range map[string]flow{"": never, "drop": never, "hold": never, "pass": flows, "passthrough": flows} {
		t.Run("negotiationshunt="+shunt, func(t *testing.T) {
			t.Parallel()
			l := watchLeaks(t)
			more := []string{"retransmit-timeout=30s"}
			if shunt != "" {
				more = append(more, "negotiationshunt="+shunt)
			}
			if _, err := l.east.Block("ike", "udp dport { 500, 4500 }"); err != nil {
				t.Fatal(err)
			}
			l.start(l.west, leakConf("start", more...), secrets)
			l.negotiating()
			l.watch("negotiating", nil, want{west, flows, west})
		})
	}
}

// TestLeaksByFailureShunt is refused by its peer: until the next attempt its traffic meets failureshunt=.
func TestLeaksByFailureShunt(t *testing.T) {
	for shunt, west := range map[string]flow{"": flows, "none": flows, "pass": flows, "passthrough": flows, "drop": never, "hold": never, "reject": never} {
		t.Run("failureshunt="+shunt, func(t *testing.T) {
			t.Parallel()
			l := watchLeaks(t)
			more := []string{"retransmit-timeout=2s"}
			if shunt != "" {
				more = append(more, "failureshunt="+shunt)
			}
			conf := leakConf("add", more...)
			l.start(l.east, conf, "@west @east : PSK \"quite another secret than that\"\n")
			d := l.start(l.west, conf, secrets)
			for _, name := range []string{"net4", "net6"} {
				if out, status := d.Ikectl("up", name); status != 1 {
					t.Fatalf("up with a wrong secret: %d %s", status, out)
				}
			}
			l.watch("after the failure", nil, want{west, flows, west})
		})
	}
}

// TestLeaksByAuto has a peer that is not there yet, then is, then is taken away: auto= decides what is protected when there is no SA.
func TestLeaksByAuto(t *testing.T) {
	for _, tc := range []struct {
		auto         string
		before, down flow
	}{
		{"add", flows, flows},
		{"start", never, flows},
		{"keep", never, flows},
		{"ondemand", never, never},
	} {
		t.Run("auto="+tc.auto, func(t *testing.T) {
			t.Parallel()
			l := watchLeaks(t)
			if _, err := l.east.Block("ike", "udp dport { 500, 4500 }"); err != nil {
				t.Fatal(err)
			}
			conf := leakConf(tc.auto, "retransmit-timeout=4s")
			d := l.start(l.west, conf, secrets)
			begin := l.clear()
			l.watch("before up", begin, want{tc.before, flows, tc.before})
			if err := l.east.Run("nft", "delete", "table", "inet", "block-ike"); err != nil {
				t.Fatal(err)
			}
			l.start(l.east, leakConf("add"), secrets)
			l.up()
			up := l.clear()
			if tc.before == never {
				l.watch("until it is up", begin, want{never, whatever, never})
			}
			l.carried("up")
			l.watch("up", up, everythingHidden)
			for _, name := range []string{"net4", "net6"} {
				if out, status := d.Ikectl("down", name); status != 0 {
					t.Fatalf("down: %d %s", status, out)
				}
			}
			if tc.down == never {
				l.watch("down", up, want{never, whatever, never})
				return
			}
			l.watch("down", nil, want{tc.down, flows, tc.down})
		})
	}
}

// TestLeaksOfAKilledDaemon kills the daemon and starts it again: what must be protected without an SA is so from the kill on, all through the start of the new
// one, and after. Only a clean stop gives it free.
func TestLeaksOfAKilledDaemon(t *testing.T) {
	for _, auto := range []string{"start", "ondemand"} {
		t.Run("auto="+auto, func(t *testing.T) {
			t.Parallel()
			l := watchLeaks(t)
			l.start(l.east, leakConf("add"), secrets)
			d := l.start(l.west, leakConf(auto), secrets)
			l.up()
			up := l.clear()
			l.carried("up")
			for _, when := range []string{"once", "and again"} {
				if err := d.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				_ = d.Wait(5 * time.Second)
				l.watch("killed "+when, up, want{never, whatever, never})
				d = l.start(l.west, leakConf(auto), secrets)
				l.watch("all through the start "+when, up, want{never, whatever, never}) // east, with auto=add, has lost a Child SA
			}
			l.up()
			l.carried("up again")
			l.watch("up again", up, want{never, whatever, never})
			if err := d.Stop(); err != nil {
				t.Error(err)
			}
			l.watch("stopped", nil, want{flows, whatever, flows})
			if _, err := os.Stat(filepath.Join(d.RunDir, "control.sock")); err == nil {
				t.Error("the control socket is still there")
			}
		})
	}
}

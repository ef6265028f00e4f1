package uml_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/uml"
)

// updownScript writes its environment, and how many ESP states the kernel has, into a file of a directory, fails at the verb $2 and hangs at the verb $3.
const updownScript = `#!/bin/sh
n=$(ls "$1" | wc -l)
{ env; echo "STATES=$(ip xfrm state | grep -c 'proto esp')"; } >"$1/$n $PLUTO_VERB"
test "$PLUTO_VERB" != "$3" || sleep 1000
test "$PLUTO_VERB" != "$2"
`

// scripted is where the scripts of west and east write.
type scripted struct{ west, east string }

// meetScripted starts two ikegods with scripts. If one is to fail or hang at a verb it is west's, and the other has none.
func (o ours) meetScripted(t *testing.T, auto, fails, hangs string) (*pairOfOurs, scripted) {
	t.Helper()
	script, west, east := netns.Updown(t, updownScript)
	s := scripted{west, east}
	w, e := o.ends(t)
	command := func(dir string) string {
		return "\tleftupdown=\"" + strings.Join([]string{script, dir, fails, hangs}, " ") + "\"\n"
	}
	p := &pairOfOurs{ours: o, west: &kernelGateway{end: w, conf: o.confOf(w, e, auto) + command(s.west)}, east: &kernelGateway{end: e, conf: o.confOf(e, w, "add")}}
	if fails == "none" && hangs == "none" {
		p.east.conf += command(s.east)
	}
	p.saysWhatItKnows(t)
	o.clearRoutes(t, w, e)
	p.east.start(t)
	p.west.start(t)
	return p, s
}

// TestUpdownInTheKernel: the scripts of both ends see the verbs in order, and at each what the kernel has: the SAs are there at up, and their numbers are those that ip xfrm shows.
func TestUpdownInTheKernel(t *testing.T) {
	fullOnly(t)
	for name, do := range map[string]func(*testing.T){
		"tunnel": func(t *testing.T) { updown(t, ours{place: direct, conn: useUDP, carrier: "ESPinUDP"}, "-client") },
		"tunnel-v6": func(t *testing.T) {
			updown(t, ours{place: direct, inner6: true, outer6: true, conn: useTCP, carrier: "ESPinTCP"}, "-client-v6")
		},
		"transport": func(t *testing.T) { updown(t, ours{place: direct, transport: true, carrier: "ESP"}, "-host") },
		"interface": func(t *testing.T) {
			updown(t, ours{place: direct, iface: "17", conn: useUDP, carrier: "ESPinUDP"}, "-client")
		},
		"ondemand": updownOnDemand,
		"fails":    func(t *testing.T) { updownRefuses(t, "up-client", "none", `command "up": exited with status 1`) },
		"hangs": func(t *testing.T) {
			updownRefuses(t, "none", "up-client", `command "up": killed with all that it had started, as it ran for more than 10s`)
		},
		"down-fails": updownDownFails,
	} {
		t.Run(name, func(t *testing.T) {
			if !uml.Outside(t, uml.Full, uml.Programs) {
				do(t)
			}
		})
	}
}

func updown(t *testing.T, o ours, suffix string) {
	p, s := o.meetScripted(t, "add", "none", "none")
	p.up(t)
	child := onlyChild(t, p.west.Daemon)
	reqid := onlyReqid(t, p.west.host)
	p.pings(t, p.west, p.west.in, p.east.in)
	verbs, seen := netns.UpdownRuns(t, s.west)
	if got, want := strings.Join(verbs, " "), strings.ReplaceAll("prepare# route# up#", "#", suffix); got != want {
		t.Errorf("west ran %s, want %s", got, want)
	}
	want := map[string]string{
		"PLUTO_CONNECTION": "meeting", "PLUTO_ME": p.west.addr, "PLUTO_PEER": p.east.addr, "PLUTO_MY_ID": "@west", "PLUTO_PEER_ID": "@east", "PLUTO_INTERFACE": netns.Outer,
		"PLUTO_SA_TYPE": "ESP", "PLUTO_SA_REQID": reqid, "PLUTO_STACK": "xfrm", "SPI_IN": shortHex(child.SPIIn), "SPI_OUT": shortHex(child.SPIOut), "PLUTO_INBYTES": "0",
		"PLUTO_CONNECTION_TYPE": child.Mode, "STATES": "2",
	}
	if !o.transport {
		want["PLUTO_MY_CLIENT"], want["PLUTO_PEER_CLIENT"] = p.west.net, p.east.net
	}
	if o.iface != "" {
		want["PLUTO_VIRT_INTERFACE"], want["PLUTO_XFRMI_ROUTE"] = "ipsec17", "yes"
	}
	sees(t, "up", seen["up"+suffix], want)
	sees(t, "prepare", seen["prepare"+suffix], map[string]string{"PLUTO_SA_TYPE": "none", "SPI_IN": "0x0", "SPI_OUT": "0x0"})
	p.rekeys(t)
	if again, _ := netns.UpdownRuns(t, s.west); len(again) != len(verbs) {
		t.Errorf("west ran %s after a rekeying", again)
	}
	p.pings(t, p.west, p.west.in, p.east.in)
	child = onlyChild(t, p.west.Daemon)
	p.down(t)
	all := strings.ReplaceAll("prepare# route# up# down# unroute#", "#", suffix)
	for _, dir := range []string{s.west, s.east} {
		netns.Poll(patience, func() bool { verbs, _ := netns.UpdownRuns(t, dir); return len(verbs) == 5 })
		verbs, _ = netns.UpdownRuns(t, dir)
		if got := strings.Join(verbs, " "); got != all {
			t.Errorf("%s: ran %s, want %s", dir, got, all)
		}
	}
	_, seen = netns.UpdownRuns(t, s.west)
	sees(t, "down", seen["down"+suffix], map[string]string{"SPI_IN": shortHex(child.SPIIn), "SPI_OUT": shortHex(child.SPIOut)})
	if carried := seen["down"+suffix]["PLUTO_INBYTES"]; len(carried) < 3 {
		t.Errorf("down: PLUTO_INBYTES=%q, and three packets of 84 octets have come", carried)
	}
	p.leavesNothing(t)
}

// sees wants values in what a run of a script has seen.
func sees(t *testing.T, verb string, seen, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if seen[name] != value {
			t.Errorf("%s: %s=%q, want %q", verb, name, seen[name], value)
		}
	}
}

// shortHex is an SPI of the control protocol as a script sees it, without leading zeros.
func shortHex(spi string) string { return "0x" + strings.TrimLeft(strings.TrimPrefix(spi, "0x"), "0") }

var reqidOf = regexp.MustCompile(`proto esp spi \S+ reqid ([0-9]+)`)

// onlyReqid is the one of all ESP states of a kernel.
func onlyReqid(t *testing.T, h *netns.Host) string {
	t.Helper()
	var all []string
	for _, m := range reqidOf.FindAllStringSubmatch(xfrmBlocks(t, h, "state", "list", "nokeys"), -1) {
		all = append(all, m[1])
	}
	if all = slices.Compact(all); len(all) != 1 {
		t.Fatalf("not one reqid: %v", all)
	}
	return all[0]
}

// updownOnDemand: with a trap prepare and route come at the start, up with the first packet, and down leaves the trap, so that there is no unroute before the end.
func updownOnDemand(t *testing.T) {
	p, s := ours{place: direct, carrier: "ESP"}.meetScripted(t, "ondemand", "none", "none")
	ran := func(want string) {
		t.Helper()
		netns.Poll(patience, func() bool { verbs, _ := netns.UpdownRuns(t, s.west); return strings.Join(verbs, " ") == want })
		if verbs, _ := netns.UpdownRuns(t, s.west); strings.Join(verbs, " ") != want {
			t.Errorf("west ran %s, want %s", verbs, want)
		}
	}
	ran("prepare-client route-client")
	netns.Until(t, patience, "an answer", func() bool {
		return p.west.host.Run("ping", "-n", "-q", "-c", "1", "-W", "1", "-I", p.west.in, p.east.in) == nil
	})
	ran("prepare-client route-client up-client")
	p.down(t)
	ran("prepare-client route-client up-client down-client")
	p.leavesNothing(t)
	ran("prepare-client route-client up-client down-client unroute-client")
}

// updownRefuses: the connection does not come up, both ends say why as far as they can, no state and no process of the script is left.
func updownRefuses(t *testing.T, fails, hangs, why string) {
	p, s := ours{place: direct, conn: useUDP, carrier: "ESPinUDP"}.meetScripted(t, "add", fails, hangs)
	begin := time.Now()
	out, status := p.west.Ikectl("up", "meeting")
	if status == 0 {
		t.Errorf("up: %s", out)
	}
	t.Logf("ikectl up has taken %s", time.Since(begin).Round(time.Millisecond))
	said(t, "ikectl up", out, why)
	said(t, "the log of west", p.west.Log(), why)
	if out, status := p.west.Ikectl("down", "meeting"); status != 0 {
		t.Errorf("ikectl down: %d\n%s", status, out)
	}
	for _, g := range p.both() {
		netns.Until(t, patience, g.name+" has nothing", func() bool { return len(ikeSAs(t, g.Daemon)) == 0 && kernelStates(t, g.host) == 0 })
	}
	if verbs, _ := netns.UpdownRuns(t, s.west); slices.Contains(verbs, "down-client") {
		t.Errorf("west ran %s: a down, and up has failed", verbs)
	}
	if out, err := p.west.host.Output("pgrep", "-f", "sleep 1000"); err == nil {
		t.Errorf("of the script still run: %s", out)
	}
	p.leavesNothing(t)
}

// updownDownFails: what fails at the end is logged, and changes nothing.
func updownDownFails(t *testing.T) {
	p, s := ours{place: direct, carrier: "ESP"}.meetScripted(t, "add", "down-client", "none")
	p.up(t)
	p.down(t)
	netns.Poll(patience, func() bool { verbs, _ := netns.UpdownRuns(t, s.west); return len(verbs) == 5 })
	if verbs, _ := netns.UpdownRuns(t, s.west); strings.Join(verbs, " ") != "prepare-client route-client up-client down-client unroute-client" {
		t.Errorf("west ran %s", verbs)
	}
	said(t, "the log of west", p.west.Log(), `command "down": exited with status 1`)
	p.up(t)
	p.pings(t, p.west, p.west.in, p.east.in)
	p.leavesNothing(t)
}

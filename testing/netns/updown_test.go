package netns_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/ctl"
	"github.com/ikegod/ikegod/testing/netns"
)

// updownScript writes the environment of each run into a file of the directory of its host.
const updownScript = `#!/bin/sh
env | grep -v '^PWD=\|^_=\|^SHLVL=\|^OLDPWD=' >"$1/$(date +%s.%N) $PLUTO_VERB"
echo "$PLUTO_VERB of $PLUTO_CONNECTION"
echo complaint >&2
test "$PLUTO_VERB" != "$2"
`

// scripts writes the script and a directory for each host, and returns its two lines of ipsec.conf.
func scripts(t *testing.T, fails string) (west, east string, lines []string) {
	t.Helper()
	script, west, east := netns.Updown(t, updownScript)
	return west, east, []string{fmt.Sprintf("leftupdown=\"%s %s %s\"", script, west, fails), fmt.Sprintf("rightupdown=\"%s %s none\"", script, east)}
}

// TestUpdown: real scripts of both ends, in IPv4 and IPv6, see the verbs in order, and values that fit each other and what the daemons say.
func TestUpdown(t *testing.T) {
	for _, tc := range []struct {
		name, suffix, westNet, eastNet, west, east, mask, hop string
	}{
		{"IPv4", "-client", netns.WestNet, netns.EastNet, netns.West, netns.East, "255.255.255.0", netns.East},
		{"IPv6", "-client-v6", netns.WestNet6, netns.EastNet6, netns.West6, netns.East6, "ffff:ffff:ffff:ffff::", netns.East6},
	} {
		t.Run(tc.name, func(t *testing.T) {
			westDir, eastDir, lines := scripts(t, "none")
			conf := strings.NewReplacer("left="+netns.West, "left="+tc.west, "right="+netns.East, "right="+tc.east, netns.WestNet, tc.westNet, netns.EastNet, tc.eastNet).
				Replace(config(nil, lines...))
			west, east := gateways(t, conf)
			out := up(t, west)
			for _, want := range []string{`command "up" output: up` + tc.suffix + " of " + conn, `command "prepare" output: complaint`} {
				if !strings.Contains(out, want) || !strings.Contains(west.Log(), want) {
					t.Errorf("%q is not in the output of up, or not in the log:\n%s", want, out)
				}
			}
			child := one(t, west).Children[0]
			verbs, env := netns.UpdownRuns(t, westDir)
			if got := strings.Join(verbs, " "); got != strings.ReplaceAll("prepare# route# up#", "#", tc.suffix) {
				t.Errorf("west ran %s", got)
			}
			netOf := func(s string) string { n, _, _ := strings.Cut(s, "/"); return n }
			want := map[string]string{
				"PLUTO_CONNECTION": conn, "PLUTO_CONN_KIND": "CK_PERMANENT", "PLUTO_ME": tc.west, "PLUTO_PEER": tc.east, "PLUTO_MY_ID": "@west", "PLUTO_PEER_ID": "@east",
				"PLUTO_MY_CLIENT": tc.westNet, "PLUTO_MY_CLIENT_NET": netOf(tc.westNet), "PLUTO_MY_CLIENT_MASK": tc.mask, "PLUTO_PEER_CLIENT": tc.eastNet,
				"PLUTO_PEER_CLIENT_NET": netOf(tc.eastNet), "PLUTO_PEER_CLIENT_MASK": tc.mask, "PLUTO_INTERFACE": netns.Outer, "PLUTO_NEXT_HOP": tc.hop, "PLUTO_STACK": "xfrm",
				"PLUTO_SA_TYPE": "ESP", "PLUTO_INBYTES": "0", "SPI_IN": hex(child.SPIIn), "SPI_OUT": hex(child.SPIOut),
			}
			for name, value := range want {
				if got := env["up"+tc.suffix][name]; got != value {
					t.Errorf("%s=%q, want %q", name, got, value)
				}
			}
			for name := range env["up"+tc.suffix] {
				if !regexp.MustCompile(`^(PATH|PLUTO_[A-Z_]+|SPI_(IN|OUT)|VTI_[A-Z]+|XAUTH_FAILED)$`).MatchString(name) {
					t.Errorf("the script sees %s", name)
				}
			}
			if out, status := west.Ikectl("rekey-child", conn); status != 0 {
				t.Fatalf("%d %s", status, out)
			}
			if tc.suffix == "-client" {
				carries(t, west, east)
			}
			child = one(t, west).Children[0]
			out, status := west.Ikectl("down", conn)
			if status != 0 || !strings.Contains(out, `command "unroute" output: unroute`+tc.suffix) {
				t.Errorf("down: %d %s", status, out)
			}
			if !netns.Poll(10*time.Second, func() bool { verbs, _ := netns.UpdownRuns(t, eastDir); return len(verbs) == 5 }) {
				verbs, _ := netns.UpdownRuns(t, eastDir)
				t.Errorf("east ran %s", verbs)
			}
			for _, dir := range []string{westDir, eastDir} {
				verbs, _ := netns.UpdownRuns(t, dir)
				if got := strings.Join(verbs, " "); got != strings.ReplaceAll("prepare# route# up# down# unroute#", "#", tc.suffix) {
					t.Errorf("%s: ran %s", dir, got)
				}
			}
			_, env = netns.UpdownRuns(t, westDir)
			if down := env["down"+tc.suffix]; down["SPI_IN"] != hex(child.SPIIn) || tc.suffix == "-client" && len(down["PLUTO_INBYTES"]) < 7 {
				t.Errorf("down: %v, want the SPIs and octets of the last SAs, %+v", down, child)
			}
		})
	}
}

// hex is an SPI of the control protocol, 0x and eight digits, as the script sees it.
func hex(spi string) string { return "0x" + strings.TrimLeft(strings.TrimPrefix(spi, "0x"), "0") }

// TestUpdownFails: the tunnel does not come up, both ends say why as far as they can, and shutdown takes down what is up.
func TestUpdownFails(t *testing.T) {
	westDir, eastDir, lines := scripts(t, "up-client")
	west, east := gateways(t, config(nil, lines...))
	var out string
	done := make(chan int, 1)
	go func() {
		var status int
		out, status = east.Ikectl("up", conn)
		done <- status
	}()
	if !netns.Poll(10*time.Second, func() bool { return strings.Contains(west.Log(), `command "up": exited with status 1`) }) {
		t.Errorf("west's log:\n%s", west.Log())
	}
	if _, status := east.Ikectl("down", conn); status != 0 {
		t.Error("down")
	}
	if status := <-done; status == 0 {
		t.Errorf("up, though west's script fails:\n%s", out)
	}
	if verbs, _ := netns.UpdownRuns(t, westDir); strings.Contains(strings.Join(verbs, " "), "down") {
		t.Errorf("west ran %s", verbs)
	}
	if verbs, _ := netns.UpdownRuns(t, eastDir); strings.Contains(strings.Join(verbs, " "), "up-") {
		t.Errorf("east ran %s", verbs)
	}
	var list []ctl.IKESA
	if list = sas(t, west); len(list) > 0 && len(list[0].Children) > 0 {
		t.Errorf("%+v", list)
	}
}

// TestUpdownAtTheEnd: a daemon that ends runs down and unroute before it is gone.
func TestUpdownAtTheEnd(t *testing.T) {
	westDir, _, lines := scripts(t, "none")
	west, _ := gateways(t, config(nil, lines...))
	up(t, west)
	if err := west.Stop(); err != nil {
		t.Fatal(err)
	}
	if verbs, _ := netns.UpdownRuns(t, westDir); strings.Join(verbs, " ") != "prepare-client route-client up-client down-client unroute-client" {
		t.Errorf("ran %s\n%s", verbs, west.Log())
	}
}

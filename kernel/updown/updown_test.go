package updown

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

type notices struct {
	mu     sync.Mutex
	output []string
	failed []string
}

func (n *notices) take(_ string, failed bool, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if failed {
		n.failed = append(n.failed, text)
	} else {
		n.output = append(n.output, text)
	}
}

func tunnel(script string) Tunnel {
	return Tunnel{
		Key: "office", Connection: "office", Script: script,
		Local:  End{Host: netip.MustParseAddr("127.0.0.1"), ID: "@west", Client: netip.MustParsePrefix("192.0.1.0/24")},
		Remote: End{Host: netip.MustParseAddr("192.1.2.23"), ID: "@east", Client: netip.MustParsePrefix("192.0.2.0/24"), Protocol: 6, Port: 80},
		SPIIn:  0x1234, SPIOut: 0x5678, SourceIP: netip.MustParseAddr("192.0.1.254"), MTU: 1400,
	}
}

// verbs are those that a script printed, in order.
func (n *notices) verbs() (out []string) {
	for _, l := range n.output {
		out = append(out, strings.TrimPrefix(l[strings.LastIndex(l, ": "):], ": "))
	}
	return out
}

// TestVerbs: prepare, route, up; down, unroute; each once, whatever is told twice, and in order although a script takes its time.
func TestVerbs(t *testing.T) {
	var n notices
	r := New(n.take)
	tu := tunnel(`sleep 0.0$(($$ % 5)); echo $PLUTO_VERB`)
	for _, v := range []Verb{Down, Unroute, Route, Route, Up, Up, Down, Down, Up, Unroute, Unroute, Up} {
		r.Change(v, tu)
	}
	other := tu
	other.Key, other.Connection, other.Script = "", "other", ""
	r.Change(Up, other)
	r.Close() // takes the last one down
	r.Change(Up, tu)
	want := strings.Fields("prepare route up down up down unroute prepare route up down unroute")
	for i := range want {
		want[i] += "-client"
	}
	if got := n.verbs(); !slices.Equal(got, want) || len(n.failed) != 0 {
		t.Errorf("%q, want %q; failed: %q", got, want, n.failed)
	}
}

// TestEnvironment: libreswan's variables, and nothing of ours.
func TestEnvironment(t *testing.T) {
	t.Setenv("IKEGOD_SECRETS", "/etc/ipsec.secrets")
	file := filepath.Join(t.TempDir(), "env")
	var n notices
	r := New(n.take)
	tu := tunnel("env > " + file + ".$PLUTO_VERB; id -u > /dev/null")
	tu.Remote.ID = "CN=$(touch /tmp/x)\x1b[2J\x00`id`;\n, O=\"'"
	r.Change(Up, tu)
	r.Close()
	b, err := os.ReadFile(file + ".up-client")
	if err != nil {
		t.Fatalf("%v; %q", err, n.failed)
	}
	text := "\n" + string(b)
	for _, want := range []string{
		"PLUTO_VERB=up-client", "PLUTO_CONNECTION=office", "PLUTO_CONNECTION_TYPE=tunnel", "PLUTO_INTERFACE=lo", "PLUTO_ME=127.0.0.1", "PLUTO_PEER=192.1.2.23", "PLUTO_MY_ID=@west",
		"PLUTO_PEER_ID=CN=$(touch /tmp/x)?[2J?`id`;?, O=\"'", "PLUTO_MY_CLIENT=192.0.1.0/24", "PLUTO_MY_CLIENT_NET=192.0.1.0", "PLUTO_MY_CLIENT_MASK=255.255.255.0",
		"PLUTO_PEER_CLIENT=192.0.2.0/24", "PLUTO_PEER_PORT=80", "PLUTO_PEER_PROTOCOL=6", "PLUTO_MY_PORT=0", "PLUTO_MY_SOURCEIP=192.0.1.254", "PLUTO_MTU=1400", "PLUTO_STACK=xfrm",
		"PLUTO_CLIENT_FAMILY=ipv4", "SPI_IN=0x5678", "SPI_OUT=0x1234",
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("%q is missing in%s", want, text)
		}
	}
	if strings.Contains(text, "IKEGOD") || strings.Contains(text, "ipsec.secrets") {
		t.Errorf("the daemon's own environment is there:%s", text)
	}
}

func TestSuffix(t *testing.T) {
	host, host6 := netip.MustParseAddr("192.1.2.45"), netip.MustParseAddr("2001:db8::45")
	for want, e := range map[string]End{
		"-host": {Host: host, Client: netip.PrefixFrom(host, 32)}, "-client": {Host: host, Client: netip.MustParsePrefix("10.0.0.1/32")},
		"-host-v6": {Host: host6, Client: netip.PrefixFrom(host6, 128)}, "-client-v6": {Host: host, Client: netip.MustParsePrefix("2001:db8:1::/48")},
	} {
		if got := (&Tunnel{Local: e}).suffix(); got != want {
			t.Errorf("%+v: %s, want %s", e, got, want)
		}
	}
}

// TestFailures: a script that fails, hangs, floods or leaves something behind is named, ended or cut, and the next one runs.
func TestFailures(t *testing.T) {
	var n notices
	r := New(n.take)
	r.limit = 300 * time.Millisecond
	begin := time.Now()
	r.Change(Up, tunnel(`case $PLUTO_VERB in
		prepare*) exit 3;;
		route*) sleep 60 & sleep 60; exit 0;;
		up*) i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; head -c 100000 /dev/zero | tr '\0' x; echo;;
		down*) sleep 5 & echo in the background;;
		unroute*) kill -9 $$;;
	esac`))
	r.Close()
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	all := strings.Join(n.failed, "\n")
	for _, want := range []string{"updown prepare-client of connection \"office\"", "exited with status 3", "updown route-client", "longer than 300ms", "updown unroute-client", "killed"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is missing in %s", want, all)
		}
	}
	if len(n.failed) != 3 {
		t.Errorf("%d failures: %s", len(n.failed), all)
	}
	if len(n.output) != outputLines+1 || !strings.Contains(n.output[outputLines], "in the background") {
		t.Errorf("%d lines of output, the last %q", len(n.output), n.output[len(n.output)-1])
	}
}

// TestManyConnections: one whose script hangs does not hold up the others.
func TestManyConnections(t *testing.T) {
	var n notices
	r := New(n.take)
	slow := tunnel("sleep 60")
	slow.Connection = "slow"
	r.Change(Up, slow)
	for i := range 20 {
		tu := tunnel("echo $PLUTO_CONNECTION $PLUTO_VERB")
		tu.Connection = fmt.Sprint("c", i)
		r.Change(Up, tu)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		n.mu.Lock()
		count := len(n.output)
		n.mu.Unlock()
		if count == 60 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d lines", count)
		}
		time.Sleep(5 * time.Millisecond)
	}
	r.cancel() // do not wait for the slow one
	r.Close()
}

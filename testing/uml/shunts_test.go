package uml_test

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/uml"
)

// clearPackets does something and tells how many packets have come to east in clear meanwhile. Its wire is being watched.
func (p *pairOfOurs) clearPackets(t *testing.T, do func()) int {
	t.Helper()
	before, _, _ := counted(t, p.east.host)
	do()
	after, _, _ := counted(t, p.east.host)
	return after - before
}

// oneWay pings from west to an address and wants an answer, or none, and packets in clear on the wire, or none. It returns what ping has said.
func (p *pairOfOurs) oneWay(t *testing.T, when, to string, answer, inClear bool) (said string) {
	t.Helper()
	var err error
	clear := p.clearPackets(t, func() {
		said, err = p.west.host.Output("ping", "-n", "-c", "2", "-i", "0.1", "-W", "1", "-I", p.west.in, to)
	})
	if (err == nil) != answer || (clear > 0) != inClear {
		t.Errorf("%s, %s: answered %v, want %v; %d packets in clear, want some %v\n%s", when, to, err == nil, answer, clear, inClear, said)
	}
	return said
}

// TestShunts: policies without IKE stand inside a wide tunnel, and around one, whichever datapath the tunnel has, and what a peer says to them stands at its end too.
func TestShunts(t *testing.T) {
	fullOnly(t)
	for _, k := range []uml.Kernel{uml.Full, uml.Stock} {
		t.Run(string(k), func(t *testing.T) {
			if uml.Outside(t, k, uml.Programs) {
				return
			}
			if k == uml.Full {
				shunts(t, ours{place: direct, conn: useUDP, carrier: "ESPinUDP"}, "xfrm", "xfrm")
				return
			}
			t.Run("udp", func(t *testing.T) { shunts(t, ours{place: direct, conn: useUDP, carrier: "ESPinUDP"}, "auto", "xfrm") })
			t.Run("tcp", func(t *testing.T) {
				shunts(t, ours{place: direct, conn: useTCP, carrier: "ESPinTCP"}, "auto", "userspace")
			})
		})
	}
}

func shunts(t *testing.T, o ours, backend, datapath string) {
	const clear, dropped, rejected = "192.0.2.7", "192.0.2.8", "192.0.2.9"
	w, e := o.ends(t)
	shunt := func(name, action, to string) string {
		return "\nconn " + name + "\n\tleft=" + netns.West + "\n\tleftsubnet=" + netns.WestNet + "\n\tright=" + netns.East + "\n\trightsubnet=" + to +
			"\n\ttype=" + action + "\n\tauthby=never\n\tauto=ondemand\n"
	}
	conf := o.confOf(w, e, "add") + shunt("clear", "passthrough", clear) + shunt("nobody", "drop", dropped) + shunt("refused", "reject", rejected) +
		shunt("wide", "drop", "192.0.0.0/16")
	p := &pairOfOurs{
		ours: o, west: &kernelGateway{end: w, conf: conf, backend: backend},
		east: &kernelGateway{end: e, conf: o.confOf(e, w, "add") + shunt("clear", "passthrough", clear), backend: backend},
	}
	p.saysWhatItKnows(t)
	if err := e.host.Stub("others", clear+"/32", dropped+"/32", rejected+"/32"); err != nil {
		t.Fatal(err)
	}
	p.east.start(t)
	p.west.start(t)
	if err := e.host.RunInput(onlyProtected, "nft", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	p.oneWay(t, "before the tunnel", e.in, false, false)
	p.oneWay(t, "before the tunnel", clear, true, true)
	if out, status := p.west.Ikectl("up", "meeting"); status != 0 {
		t.Fatalf("ikectl up: %d\n%s", status, out)
	}
	if c := onlyChild(t, p.west.Daemon); c.Datapath != datapath || c.Carrier != o.carrier {
		t.Errorf("the Child SA is %s by %s, want %s by %s", c.Carrier, c.Datapath, o.carrier, datapath)
	}
	p.golden(t, "up")
	p.oneWay(t, "tunnel", e.in, true, false)
	p.oneWay(t, "passthrough", clear, true, true)
	p.oneWay(t, "drop", dropped, false, false)
	out := p.oneWay(t, "reject", rejected, false, false)
	if answered := strings.Contains(out, "Packet filtered") || strings.Contains(out, "Prohibited"); answered != (backend == "auto") {
		t.Errorf("reject: answered %v by %s: %s", answered, backend, out)
	}
	for _, name := range []string{"clear", "nobody"} {
		if out, status := p.west.Ikectl("down", name); status != 0 {
			t.Errorf("down %s: %d %s", name, status, out)
		}
	}
	p.oneWay(t, "no drop any more", dropped, true, false)
	p.oneWay(t, "no passthrough any more, but at the other end", clear, false, false)
	if out, status := p.west.Ikectl("up", "clear"); status != 0 {
		t.Errorf("up clear: %d %s", status, out)
	}
	p.oneWay(t, "passthrough again", clear, true, true)
	p.oneWay(t, "tunnel", e.in, true, false)
	p.leavesNothing(t)
}

// TestShuntsOfFailure counts what goes in clear in each phase of a connection in the kernel: negotiating it meets negotiationshunt=, after a failure failureshunt=, and it is protected
// when it is up, whatever was before.
func TestShuntsOfFailure(t *testing.T) {
	fullOnly(t)
	for _, tc := range []struct {
		negotiation, failure       string
		negotiatesClear, failClear bool
	}{
		{"", "", false, true},
		{"hold", "passthrough", false, true},
		{"drop", "drop", false, false},
		{"hold", "reject", false, false},
		{"passthrough", "hold", true, false},
	} {
		t.Run(cmp.Or(tc.negotiation, "default")+"-"+cmp.Or(tc.failure, "default"), func(t *testing.T) {
			if !uml.Outside(t, uml.Full, uml.Programs) {
				shuntsOfFailure(t, tc.negotiation, tc.failure, tc.negotiatesClear, tc.failClear)
			}
		})
	}
}

func shuntsOfFailure(t *testing.T, negotiation, failure string, negotiatesClear, failClear bool) {
	o := ours{place: direct, conn: append([]string{"retransmit-timeout=40s"}, useUDP...), carrier: "ESPinUDP"}
	if negotiation != "" {
		o.conn = append(o.conn, "negotiationshunt="+negotiation)
	}
	if failure != "" {
		o.conn = append(o.conn, "failureshunt="+failure)
	}
	p := o.meetWith(t, "add", ": PSK \"quite another secret than that\"\n")
	if err := p.east.host.RunInput(onlyProtected, "nft", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	p.oneWay(t, "loaded", p.east.in, true, true)
	unblock, err := p.east.host.Block("ike", "udp dport { 500, 4500 }")
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan int, 1)
	go func() {
		_, status := p.west.Ikectl("up", "meeting")
		failed <- status
	}()
	netns.Until(t, patience, "west has policies", func() bool { return xfrmBlocks(t, p.west.host, "policy") != "" })
	p.oneWay(t, "negotiating", p.east.in, negotiatesClear, negotiatesClear)
	if err := unblock(); err != nil {
		t.Fatal(err)
	}
	select {
	case status := <-failed:
		if status != 1 {
			t.Errorf("up with a wrong secret: %d", status)
		}
	case <-time.After(patience):
		t.Fatal("ikectl up has not ended")
	}
	p.oneWay(t, "failed", p.east.in, failClear, failClear)
	if err := os.WriteFile(filepath.Join(p.east.host.Dir(), "ipsec.secrets"), []byte(psk), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, status := p.east.Ikectl("rereadsecrets"); status != 0 {
		t.Fatalf("rereadsecrets: %d %s", status, out)
	}
	p.up(t)
	p.oneWay(t, "up", p.east.in, true, false)
	p.down(t)
	p.oneWay(t, "down", p.east.in, true, true)
	p.leavesNothing(t)
}

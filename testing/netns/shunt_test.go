package netns_test

import (
	hexadecimal "encoding/hex"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/testing/netns"
)

// TestShuntsInsideATunnel: policies without IKE stand inside a wide tunnel, at both of its ends: one host is spoken to in clear, one not at all, and for one this host
// itself answers. A tunnel stands inside a drop for more than its networks.
func TestShuntsInsideATunnel(t *testing.T) {
	const text, clear, dropped, rejected = "ping, not sealed", "192.0.2.7", "192.0.2.8", "192.0.2.9"
	_, w, e := netns.Gateways(t)
	if err := e.Stub("others", clear+"/32", dropped+"/32", rejected+"/32"); err != nil {
		t.Fatal(err)
	}
	wire, err := e.Capture(text)
	if err != nil {
		t.Fatal(err)
	}
	shunt := func(name, action, to string) string {
		return "\nconn " + name + "\n\tleft=" + netns.West + "\n\tleftsubnet=" + netns.WestNet + "\n\tright=" + netns.East + "\n\trightsubnet=" + to +
			"\n\ttype=" + action + "\n\tauthby=never\n\tauto=ondemand\n"
	}
	conf := config(nil) + shunt("clear", "passthrough", clear) + shunt("nobody", "drop", dropped) + shunt("refused", "reject", rejected) +
		shunt("wide", "drop", "192.0.0.0/16")
	start(t, e, config(nil)+shunt("clear", "passthrough", clear), secrets)
	west := start(t, w, conf, secrets)
	ping := func(to string) (out string, answered bool, inClear bool) {
		before := wire.Seen()[text]
		out, err := w.Output("ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", "-p", hexadecimal.EncodeToString([]byte(text)), "-I", netns.WestInner, to)
		return out, err == nil, wire.Seen()[text] > before
	}
	check := func(when, to string, answer, inClear bool) {
		t.Helper()
		if out, answered, seen := ping(to); answered != answer || seen != inClear {
			t.Errorf("%s, %s: answered %v, want %v; in clear %v, want %v\n%s", when, to, answered, answer, seen, inClear, out)
		}
	}
	check("before the tunnel", netns.EastInner, false, false)
	check("before the tunnel", clear, true, true)
	up(t, west)
	check("tunnel", netns.EastInner, true, false)
	check("passthrough", clear, true, true)
	check("drop", dropped, false, false)
	check("reject", rejected, false, false)
	if out, _, _ := ping(rejected); !strings.Contains(out, "Packet filtered") && !strings.Contains(out, "Prohibited") {
		t.Errorf("reject has not answered: %s", out)
	}
	if out, status := west.Ikectl("connections"); status != 0 || !strings.Contains(out, `"clear"  in place`) || !strings.Contains(out, "type=reject auto=ondemand") {
		t.Errorf("%d: %s", status, out)
	}
	if out, status := west.Ikectl("up", "nobody"); status != 0 || !strings.Contains(out, `connection "nobody" is in place already: drop for `) {
		t.Errorf("%d: %s", status, out)
	}
	if out, status := west.Ikectl("explain", "nobody"); status != 0 || !strings.Contains(out, "no peer") {
		t.Errorf("%d: %s", status, out)
	}
	for _, name := range []string{"clear", "nobody"} {
		if out, status := west.Ikectl("down", name); status != 0 {
			t.Errorf("down %s: %d %s", name, status, out)
		}
	}
	check("no drop any more", dropped, true, false)
	if _, _, seen := ping(clear); seen {
		t.Error("the passthrough is down, and its packets flow in clear")
	}
}

package netns_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// TestUpdown: the command of leftupdown= hears of every change once, in order, with the addresses of the tunnel; a rekey is none, and one that fails does no harm.
func TestUpdown(t *testing.T) {
	_, w, e := netns.Gateways(t)
	dir := t.TempDir()
	heard := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(string(b)), " ")
	}
	script := func(name string) string {
		return `leftupdown="echo $PLUTO_VERB >> ` + filepath.Join(dir, name) + `; env > ` + filepath.Join(dir, name) + `.env; echo said $PLUTO_VERB; test $PLUTO_VERB != route-client"`
	}
	east := start(t, e, config(nil, strings.Replace(script("east"), "left", "right", 1)), secrets)
	west := start(t, w, strings.Replace(config(nil, script("west")), "auto=add", "auto=ondemand", 1), secrets)
	hears := func(name, want string) {
		t.Helper()
		deadline := time.Now().Add(5 * time.Second)
		for heard(name) != want {
			if time.Now().After(deadline) {
				t.Fatalf("%s heard %q, want %q\n%s", name, heard(name), want, west.Log())
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	hears("west", "prepare-client route-client")
	if out, err := w.Output("ping", "-c", "1", "-W", "9", "-I", netns.WestInner, netns.EastInner); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	hears("west", "prepare-client route-client up-client")
	hears("east", "prepare-client route-client up-client")
	if out, status := west.Ikectl("rekey-child", conn); status != 0 {
		t.Errorf("%d %s", status, out)
	}
	env, err := os.ReadFile(filepath.Join(dir, "west.env"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"PLUTO_CONNECTION=" + conn, "PLUTO_ME=" + netns.West, "PLUTO_PEER=" + netns.East, "PLUTO_MY_CLIENT=" + netns.WestNet, "PLUTO_PEER_CLIENT=" + netns.EastNet, "PLUTO_MY_ID=@west",
		"PLUTO_PEER_ID=@east", "PLUTO_INTERFACE=" + netns.Outer,
	} {
		if !strings.Contains("\n"+string(env), "\n"+want+"\n") {
			t.Errorf("%q is missing in\n%s", want, env)
		}
	}
	if strings.Contains(string(env), "IKEGOD_") {
		t.Errorf("the daemon's environment is there:\n%s", env)
	}
	if out, status := west.Ikectl("down", conn); status != 0 {
		t.Fatalf("%d %s", status, out)
	}
	hears("west", "prepare-client route-client up-client down-client") // it comes up again with the next packet
	hears("east", "prepare-client route-client up-client down-client unroute-client")
	for _, d := range []*netns.Daemon{west, east} {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	}
	if got := heard("west"); got != "prepare-client route-client up-client down-client unroute-client" {
		t.Errorf("after the stop west has heard %q", got)
	}
	for _, want := range []string{"updown up-client of connection \"" + conn + "\": said up-client", "updown route-client of connection \"" + conn + "\": leftupdown=", "exited with status 1"} {
		if !strings.Contains(west.Log(), want) {
			t.Errorf("%q is missing in the log:\n%s", want, west.Log())
		}
	}
	if strings.Count(west.Log(), "exited with status") != 1 {
		t.Errorf("one command failed:\n%s", west.Log())
	}
}

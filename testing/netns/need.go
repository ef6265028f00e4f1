package netns

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// Need skips a test loudly where namespaces cannot be had. In CI (CI=true) it fails instead: there the tier is required.
func Need(t testing.TB, tools ...string) {
	t.Helper()
	missing := ""
	if os.Geteuid() != 0 {
		missing = "root"
	} else if _, err := os.Stat("/dev/net/tun"); err != nil {
		missing = "/dev/net/tun"
	}
	for _, tool := range append([]string{"ip", "nft", "ping"}, tools...) {
		if _, err := exec.LookPath(tool); err != nil && missing == "" {
			missing = tool
		}
	}
	switch {
	case missing == "":
	case os.Getenv("CI") == "true":
		t.Fatalf("NOT TESTED, and required in CI: %s needs %s", t.Name(), missing)
	default:
		t.Skipf("NOT TESTED: %s needs %s", t.Name(), missing)
	}
}

// Gateways makes WestEast for a test.
func Gateways(t testing.TB) (l *Lab, west, east *Host) {
	t.Helper()
	Need(t)
	l, west, east, err := WestEast()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l, west, east
}

// Tick is how often Until and Poll ask. It is set before the first of them, if at all.
var Tick = 5 * time.Millisecond

// Until polls until done says so, or fails the test after patience.
func Until(t testing.TB, patience time.Duration, what string, done func() bool) {
	t.Helper()
	if !Poll(patience, done) {
		t.Fatalf("%s: not within %s", what, patience)
	}
}

// Poll asks every Tick until done says so or patience is over.
func Poll(patience time.Duration, done func() bool) bool {
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(Tick)
	defer tick.Stop()
	for {
		if done() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		<-tick.C
	}
}

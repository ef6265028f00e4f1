package xfrm

import (
	"strings"
	"testing"

	"github.com/ikegod/ikegod/kernel"
)

// routesOfOurs lists our routes, one a line.
func routesOfOurs(t *testing.T) string {
	t.Helper()
	return sh(t, "ip route show proto 73") + sh(t, "ip -6 route show proto 73")
}

// Packets of the host itself get the policy's source address, where they would have another.
func TestSourceRoutes(t *testing.T) {
	namespace(t)
	r := open(t, Config{})
	p := westEast(t, kernel.Hold)
	p.SourceIP = addr("192.0.1.254")
	r.route(p)
	if got := routesOfOurs(t); strings.Count(got, "\n") != 1 || !strings.Contains(got, "192.0.2.0/24 via 192.1.2.254 dev eth0 src 192.0.1.254 metric") {
		t.Errorf("routes: %q", got)
	}
	if got := sh(t, "ip route get 192.0.2.1"); !strings.Contains(got, "src 192.0.1.254") {
		t.Errorf("%s", got)
	}
	other := p
	other.ID, other.MTU = "other", 1300
	r.route(other) // shares it
	p.Remote = set(t, "0.0.0.0/0")
	r.route(p)
	got := routesOfOurs(t)
	for _, want := range []string{"0.0.0.0/1 via 192.1.2.254", "128.0.0.0/1 via 192.1.2.254", "192.0.2.0/24 via"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	// Nothing is made where the source is right anyhow, or where the policy lets pass.
	for _, id := range []kernel.PolicyID{"west-east", "other"} {
		r.must(func(n kernel.Request) { r.Unroute(n, id) })
	}
	p.Remote, p.SourceIP = set(t, "192.0.2.0/24"), addr("192.1.2.45")
	sh(t, "ip route add 192.0.2.0/25 via 192.1.2.254 src 192.1.2.45")
	r.route(p)
	p.ID, p.Action, p.SourceIP = "pass", kernel.Pass, addr("192.0.1.254")
	r.route(p)
	if got := routesOfOurs(t); got != "" {
		t.Errorf("left, or needless: %q", got)
	}
}

// A route of somebody else stays, and the operator is told.
func TestForeignRoute(t *testing.T) {
	namespace(t)
	var notices []string
	r := open(t, Config{Notice: func(s string) { notices = append(notices, s) }})
	p := westEast(t, kernel.Hold)
	p.SourceIP = addr("192.0.1.254")
	for _, metric := range []string{"4784128", "4784129"} { // whatever the share is
		sh(t, "ip route add 192.0.2.0/24 via 192.1.2.254 metric "+metric)
	}
	r.route(p)
	if len(notices) != 1 || !strings.Contains(notices[0], "there is a route to 192.0.2.0/24 already") {
		t.Errorf("notices %q", notices)
	}
}

// Routes that a killed daemon has left go with the next.
func TestLeftRoutes(t *testing.T) {
	namespace(t)
	dir := t.TempDir()
	first := openUnclosed(t, Config{RunDir: dir})
	p := westEast(t, kernel.Hold)
	p.SourceIP = addr("192.0.1.254")
	first.route(p)
	if routesOfOurs(t) == "" {
		t.Fatal("no route")
	}
	open(t, Config{RunDir: dir})
	if got := routesOfOurs(t); got != "" {
		t.Errorf("left: %q", got)
	}
}

package hostnet

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/subnets"
)

// TestWatch tells of addresses and routes that lead to peers, once for many, and not of our own routes.
func TestWatch(t *testing.T) {
	namespace(t)
	n := open(t, Settings{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := make(chan time.Time, 100)
	if err := Watch(ctx, func() { told <- time.Now() }); err != nil {
		t.Fatal(err)
	}
	hears := func(what string, want bool) {
		t.Helper()
		patience := 3 * settle // in which all that there is would have come
		if want {
			patience = 10 * time.Second
		}
		select {
		case <-told:
			if !want {
				t.Errorf("%s was told", what)
			}
		case <-time.After(patience):
			if want {
				t.Errorf("%s was not told", what)
			}
		}
	}
	sh(t, "ip addr add 192.1.2.46/24 dev eth0")
	hears("an address", true)
	for i := range 50 {
		sh(t, fmt.Sprintf("ip route add 198.51.100.%d/32 via 192.1.2.254", i+1))
	}
	calls := 0
	for quiet := false; !quiet; {
		select {
		case <-told:
			calls++
		case <-time.After(settleMost + 3*settle):
			quiet = true
		}
	}
	if calls == 0 || calls > 25 { // as slowly as a busy machine adds them, they are more than one change
		t.Errorf("fifty routes were told %d times", calls)
	}
	route(t, n, "ours", subnets.Of("192.0.1.0/24"), subnets.Of("192.0.2.0/24"), 1400)
	hears("a route of ours", false)
	sh(t, "ip route del default")
	hears("the end of the default route", true)
	sh(t, "ip addr del 192.1.2.46/24 dev eth0")
	hears("the end of an address", true)
}

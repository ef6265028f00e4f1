package netns_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// hostsConf protects the two gateways themselves, in both versions of IP.
func hostsConf(more ...string) string {
	one := func(name, left, right string) string {
		c := hostToHost(left, "@west", right, "@east", more...)
		return strings.Replace(c[strings.Index(c, "conn "):], "conn "+conn, "conn "+name, 1)
	}
	return "config setup\n\tlisten-tcp=yes\n\n" + one("net4", netns.West, netns.East) + "\n" + one("net6", netns.West6, netns.East6)
}

// long is what no link carries in one packet.
const long = 4000

func (k talk) of(octets int) talk {
	k.octets = octets
	return k
}

// TestLeaksByTraffic goes through the life of a connection with every kind of traffic: that of the gateways themselves in both modes and over each carrier, that of
// hosts behind them, in whole packets and in fragments, and with a policy for a single port. Fragments of a single port are dropped, not carried (decision 0003).
func TestLeaksByTraffic(t *testing.T) {
	const onePort = "leftprotoport=udp/9999 rightprotoport=udp/9999"
	for _, tc := range []struct {
		what    string
		talk    talk
		conf    string
		dropped bool
	}{
		{"transport, ESP in UDP", outerTalk, hostsConf("encapsulation=yes"), false},
		{"transport, plain ESP, fragments", outerTalk.of(long), hostsConf("encapsulation=auto"), false},
		{"transport, ESP in TCP", outerTalk, hostsConf("enable-tcp=yes"), false},
		{"transport, a port", outerTalk, hostsConf(strings.Fields("encapsulation=yes " + onePort)...), false},
		{"host to host, ESP in UDP, fragments", outerTalk.of(long), strings.ReplaceAll(hostsConf("encapsulation=yes"), "type=transport", "type=tunnel"), false},
		{"host to host, plain ESP", outerTalk, strings.ReplaceAll(hostsConf("encapsulation=auto"), "type=transport", "type=tunnel"), false},
		{"forwarded", hostsTalking, leakConf("add"), false},
		{"forwarded, fragments", hostsTalking.of(long), leakConf("add"), false},
		{"forwarded, a port", hostsTalking, leakConf("add", strings.Fields(onePort)...), false},
		{"forwarded, a protocol, fragments", hostsTalking.of(long), leakConf("add", "leftprotoport=udp", "rightprotoport=udp"), false},
		{"forwarded, a port, fragments", hostsTalking.of(long), leakConf("add", strings.Fields(onePort)...), true},
	} {
		t.Run(strings.NewReplacer(", ", "/", " ", "-").Replace(tc.what), func(t *testing.T) {
			t.Parallel()
			l := watchTalk(t, tc.talk)
			west := l.start(l.west, tc.conf, secrets)
			l.start(l.east, tc.conf, secrets)
			l.watch("before up", nil, want{flows, flows, flows})
			l.up()
			up := l.clear()
			if !tc.dropped {
				l.carried("up")
			}
			l.watch("up", up, everythingHidden)
			for _, name := range []string{"net4", "net6"} {
				if out, status := west.Ikectl("down", name); status != 0 {
					t.Fatal(out)
				}
			}
			l.watch("down", nil, want{flows, flows, flows})
			l.up()
			up = l.clear()
			if err := west.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			_ = west.Wait(5 * time.Second) // killed: that is its error
			l.watch("killed", up, everythingHidden)
		})
	}
}

// TestLeaksBeforeTheNameIsKnown has a peer whose name has no address yet: what auto= protects is held all the same, carried once the peer comes by itself, and held
// again when it goes; auto=add holds nothing.
func TestLeaksBeforeTheNameIsKnown(t *testing.T) {
	for _, tc := range []struct {
		auto string
		flow flow
	}{{"add", flows}, {"start", never}, {"ondemand", never}} {
		t.Run("auto="+tc.auto, func(t *testing.T) {
			t.Parallel()
			l := watchLeaks(t)
			if err := l.west.Names("127.0.0.1 localhost\n"); err != nil {
				t.Fatal(err)
			}
			l.start(l.west, strings.ReplaceAll(leakConf(tc.auto), "right="+netns.East, "right=east.test"), secrets)
			begin := l.clear()
			l.watch("loaded", begin, want{tc.flow, flows, tc.flow})
			east := l.start(l.east, leakConf("add"), secrets)
			for _, name := range []string{"net4", "net6"} {
				if out, status := east.Ikectl("up", name); status != 0 {
					t.Fatal(out)
				}
			}
			l.carried("up by the peer")
			l.watch("up by the peer", nil, everythingHidden)
			for _, name := range []string{"net4", "net6"} {
				if out, status := east.Ikectl("down", name); status != 0 {
					t.Fatal(out)
				}
			}
			l.watch("down by the peer", nil, want{tc.flow, flows, tc.flow})
			if tc.flow != never {
				return
			}
			l.watch("from load on", begin, want{never, whatever, never})
			if err := l.west.Names(netns.East + " east.test\n"); err != nil {
				t.Fatal(err)
			}
			netns.Until(t, 20*time.Second, "west is up, with an address", func() bool { // the daemon may have read the old names some seconds ago
				_, net4 := l.daemons["west"].Ikectl("up", "net4")
				_, net6 := l.daemons["west"].Ikectl("up", "net6")
				return net4 == 0 && net6 == 0
			})
			l.carried("up, with an address")
			l.watch("from load on", begin, want{never, whatever, never})
		})
	}
}

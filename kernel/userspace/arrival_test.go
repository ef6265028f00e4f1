package userspace

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/ts"
)

// tunnelOfHosts makes two ends with a tunnel for everything between them, whose policies say that the two hosts are those of the path.
func tunnelOfHosts(t *testing.T, w path.Path) (west, east *end) {
	t.Helper()
	all := anyNet
	if w.Local.Addr().Is6() {
		all = anyNet6
	}
	ends := [2]*end{}
	for i, p := range []path.Path{w, reverse(w)} {
		e := newEnd(t, Config{}, nil)
		e.Route(1, kernel.Policy{ID: "c", Local: all, Remote: all, LocalAddr: p.Local.Addr(), RemoteAddr: p.Remote.Addr()})
		e.Install(2, pairOf("c", gcm256, 1, i == 0, all, all, p))
		e.must()
		ends[i] = e
	}
	return ends[0], ends[1]
}

// TestNoFragmentsBetweenHosts: what the peer itself sends to us leaves the tunnel whole, where the guard lets fragments in from the network that the kernel would put
// beside it. What cannot be taken for those stays as it came.
func TestNoFragmentsBetweenHosts(t *testing.T) {
	for _, tc := range []struct {
		what  string
		path  path.Path
		b     []byte
		whole bool
	}{
		{"UDP", westUDP, udp(westHost, eastHost, 1, 2, payload(5000)), true},
		{"another protocol, which IPv4 tells apart", westUDP, ip4{src: westHost, dst: eastHost, proto: 253, body: payload(5000)}.bytes(), false},
		{"UDP of another host", westUDP, udp("192.0.1.7", eastHost, 1, 2, payload(5000)), false},
		{"UDP for another host", westUDP, udp(westHost, "192.0.2.7", 1, 2, payload(5000)), false},
		{"IPv6", westUDP6, datagramOf(westUDP6, 5000), true},
		{"another protocol, which IPv6 does not tell apart", westUDP6, ip6(westHost6, eastHost6, 253, payload(5000)), true},
		{"the largest", westUDP, udp(westHost, eastHost, 1, 2, payload(65507)), true},
	} {
		west, east := tunnelOfHosts(t, tc.path)
		pieces := fragmentsOf(t, tc.b, 9, 1300)
		slices.Reverse(pieces)
		got := flatten(t, east.in(west.out(pieces...)...))
		if !tc.whole {
			if len(got) != len(pieces) {
				t.Errorf("%s: %d packets of %d", tc.what, len(got), len(pieces))
			}
			continue
		}
		if len(got) != 1 {
			t.Errorf("%s: %d packets; drops %v", tc.what, len(got), east.Drops())
			continue
		}
		p, _, ok := parse(got[0])
		if !ok || p.fragment || !bytes.Equal(p.b[p.transport:], tc.b[len(tc.b)-len(p.b)+p.transport:]) {
			t.Errorf("%s: not what was sent: %x", tc.what, got[0][:60])
		}
	}
}

// TestFragmentsThatStayAlone: what is never whole is given up and counted, and with the last policy between two hosts nothing is put together any more.
func TestFragmentsThatStayAlone(t *testing.T) {
	west, east := tunnelOfHosts(t, westUDP)
	local, remote := netip.MustParseAddr(eastHost), netip.MustParseAddr(westHost)
	pieces := fragmentsOf(t, udp(westHost, eastHost, 1, 2, payload(5000)), 9, 1300)
	for range maxDatagrams + 1 {
		if got := east.in(west.out(pieces[1])...); len(got) != 0 {
			t.Fatalf("a fragment came out: %x", got)
		}
		pieces[1][vnetLen+5]++ // the next identification
	}
	if n := east.dropped(DropReassembly); n != 1 {
		t.Errorf("%d fragments given up, want 1", n)
	}
	again := kernel.Policy{ID: "d", Local: ts.Set{ts.FromAddr(local)}, Remote: ts.Set{ts.FromAddr(remote)}, LocalAddr: local, RemoteAddr: remote}
	for _, do := range []func(){func() { east.Route(3, again) }, func() { east.Route(3, again) }, func() { east.Unroute(3, "c") }} {
		do()
		east.must()
		if !east.ways.has(local, remote) {
			t.Fatal("a policy names the two hosts")
		}
	}
	east.Unroute(3, "d")
	east.must()
	if len(east.ways.m) != 0 {
		t.Errorf("no policy names them any more: %v", east.ways.m)
	}
}

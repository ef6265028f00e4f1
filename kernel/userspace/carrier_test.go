package userspace

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
)

func TestPeerMovedOnlyWhenAuthenticAndNewest(t *testing.T) {
	west, east := tunnel(t, gcm256, westUDP)
	one := west.out(frame(udp("192.0.1.7", "192.0.2.9", 1, 2, nil)))[0]
	two := west.out(frame(udp("192.0.1.7", "192.0.2.9", 1, 2, nil)))[0]
	three := west.out(frame(udp("192.0.1.7", "192.0.2.9", 1, 2, nil)))[0]
	elsewhere := func(s sent) sent { s.path.Local = netip.MustParseAddrPort("198.18.66.1:1024"); return s }
	forged := elsewhere(sent{path: two.path, packets: [][]byte{slices.Clone(two.packets[0])}})
	forged.packets[0][20] ^= 1
	east.in(forged, two, elsewhere(one))
	if ev := east.settle(); len(ev) != 0 {
		t.Fatalf("a forged or an old packet moved the peer: %v", ev)
	}
	east.in(elsewhere(three))
	ev := east.settle()
	want := kernel.PeerMoved{SPI: 0xc0000003, Path: reverse(elsewhere(three).path)}
	if len(ev) != 1 || ev[0] != want {
		t.Fatalf("events %v, want %v", ev, want)
	}
	east.in(elsewhere(west.out(frame(udp("192.0.1.7", "192.0.2.9", 1, 2, nil)))[0]))
	if ev := east.settle(); len(ev) != 0 {
		t.Errorf("told twice: %v", ev)
	}
}

// TestPeerThatMovesAllTheTime: who lets each packet come from another port than the one before gets a few events, not one for each, and none is lost for good.
func TestPeerThatMovesAllTheTime(t *testing.T) {
	west, east := tunnel(t, gcm256, westUDP)
	from := func(port uint16) {
		s := west.out(frame(udp("192.0.1.7", "192.0.2.9", 1, 2, nil)))[0]
		s.path.Local = netip.AddrPortFrom(netip.MustParseAddr("198.18.66.1"), port)
		east.in(s)
	}
	begin := time.Now()
	for i := range uint16(500) {
		from(1024 + i%2)
	}
	most := 2 + int(time.Since(begin)/movedEvery)
	if n := len(east.settle()); n == 0 || n > most {
		t.Errorf("%d events, want 1 to %d", n, most)
	}
	for end := time.Now().Add(5 * time.Second); ; {
		from(2000)
		if ev := east.settle(); len(ev) == 1 && ev[0].(kernel.PeerMoved).Path.Remote.Port() == 2000 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the last move was never told")
		}
	}
}

// TestWithin: no event waits because the clock was set back meanwhile.
func TestWithin(t *testing.T) {
	for _, tc := range []struct {
		now, then int64
		want      bool
	}{{100, 0, false}, {100, 99, true}, {100, 100, true}, {100, 90, false}, {100, 91, true}, {100, 101, false}, {100, 5000, false}} {
		if got := within(tc.now, tc.then, 10); got != tc.want {
			t.Errorf("%d after %d: %t", tc.now, tc.then, got)
		}
	}
}

// TestAnyCarrierTakesAnySPI: what comes by another carrier than the one that is sent on is opened all the same, and that is told once (RFC 7296 2.23: a peer may
// put ESP into UDP or leave it, whatever was found out about NATs).
func TestAnyCarrierTakesAnySPI(t *testing.T) {
	for _, sends := range everyPath {
		for _, gets := range everyPath {
			west, east := tunnel(t, gcm256, sends)
			for i := range 2 {
				s := west.out(frame(udp("192.0.1.7", "192.0.2.9", 1, 2, payload(99))))
				s[0].path = gets
				if got := east.in(s...); len(got) != 1 {
					t.Errorf("%s by %s: %v", sends, gets, east.Drops())
				}
				ev := east.settle()
				if moved := sends != gets && i == 0; moved != (len(ev) == 1) || moved && ev[0] != (kernel.PeerMoved{SPI: 0xc0000003, Path: reverse(gets)}) {
					t.Errorf("%s by %s: events %v", sends, gets, ev)
				}
			}
			if back := east.out(frame(udp("192.0.2.9", "192.0.1.7", 2, 1, nil))); back[0].path != reverse(sends) {
				t.Errorf("%s by %s: answers go to %s", sends, gets, back[0].path)
			}
		}
	}
}

// TestMoveBetweenCarriers: an SA goes on from one carrier to any other with its sequence numbers, and its packets fit there.
func TestMoveBetweenCarriers(t *testing.T) {
	for _, from := range everyPath {
		for _, to := range everyPath {
			west, east := tunnel(t, gcm256, from)
			small := frame(udp("192.0.1.7", "192.0.2.9", 1, 2, payload(99)))
			before := west.out(small)
			west.Move(7, 0xc0000002, kernel.Endpoints{Path: to})
			west.must()
			after := west.out(small)
			if after[0].path != to || after[0].packets[0][7] != before[0].packets[0][7]+1 {
				t.Errorf("%s to %s: sent on %s", from, to, after[0].path)
			}
			if got := east.in(append(before, after...)...); len(got) != 2 {
				t.Errorf("%s to %s: %d frames, drops %v", from, to, len(got), east.Drops())
			}
			want := map[path.Path]int{westUDP: 1438, westTCP: 1410, westESP: 1446, westSix: 1426}[to]
			if mtu := west.control.pairs[0xc0000002].end.Load().mtu; mtu != want {
				t.Errorf("%s to %s: MTU %d, want %d", from, to, mtu, want)
			}
		}
	}
}

// TestNoPlainESP: without raw sockets an SA on plain ESP is refused with the keyword that helps, and one in UDP is not moved to it.
func TestNoPlainESP(t *testing.T) {
	e := newEnd(t, Config{Notes: []string{"a note"}}, nil)
	if f := e.Features(); f.PlainESP || len(f.Notes) != 1 {
		t.Errorf("features %+v", f)
	}
	e.Route(1, kernel.Policy{ID: "c", Local: westNet, Remote: eastNet})
	e.Install(2, pairOf("c", gcm256, 1, true, westNet, eastNet, westUDP))
	e.must()
	e.Move(3, 0xc0000002, kernel.Endpoints{Path: westESP})
	e.Install(4, pairOf("c", gcm256, 2, true, westNet, eastNet, westESP))
	for _, ev := range e.settle() {
		if d := ev.(kernel.Done); d.Err == nil || !strings.Contains(d.Err.Error(), "encapsulation=yes") {
			t.Errorf("request %d: %v", d.Request, d.Err)
		}
	}
	if sent := e.out(frame(udp("192.0.1.7", "192.0.2.9", 1, 2, nil))); len(sent) != 1 || sent[0].path != westUDP {
		t.Errorf("sent %v", sent)
	}
}

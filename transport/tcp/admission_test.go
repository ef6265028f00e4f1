package tcp

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ikegod/ikegod/transport"
)

func TestAdmission(t *testing.T) {
	a := newAdmission(Limits{Streams: 6, Unowned: 4, PerSource: 2})
	admit := func(from string) *Ticket {
		t.Helper()
		k, why, ok := a.admit(netip.MustParseAddr(from))
		if !ok {
			t.Fatalf("%s refused: %s", from, why)
		}
		return k
	}
	refuse := func(from string, want transport.Drop) {
		t.Helper()
		if _, why, ok := a.admit(netip.MustParseAddr(from)); ok || why != want {
			t.Fatalf("%s: admitted %v, or %q, want %q", from, ok, why, want)
		}
	}
	one := admit("192.0.2.1")
	admit("::ffff:192.0.2.1")
	refuse("192.0.2.1", transport.DropStreamSource)
	six := admit("2001:db8:0:1::1")
	admit("2001:db8:0:1:ffff::9")
	refuse("2001:db8:0:1::2", transport.DropStreamSource) // the whole /64 is one source
	one.Own()
	one.Own()
	admit("192.0.2.1") // owned streams do not count for their source
	six.Own()
	admit("192.0.2.2")
	six.Release()
	six.Release()
	six.Own()
	one.Release()
	if n := a.silent.Len() + a.spoken.Len(); a.streams != 4 || n != 4 || a.sources[netip.MustParseAddr("192.0.2.1")] != 2 {
		t.Fatalf("%d streams, %d unowned, sources %v", a.streams, n, a.sources)
	}
	var dialed *Ticket // has no place
	dialed.Own()
	dialed.Spoke()
	dialed.OnCut(nil)
	dialed.Release()
}

func TestSourcesAreForgotten(t *testing.T) {
	a := newAdmission(Limits{})
	for i := range 1000 {
		k, _, ok := a.admit(numbered(i))
		if !ok {
			t.Fatal("refused")
		}
		if i%3 == 0 {
			k.Spoke()
		}
		if i%2 == 0 {
			k.Own()
		}
		k.Release()
	}
	if len(a.sources) != 0 || a.streams != 0 || a.silent.Len()+a.spoken.Len() != 0 {
		t.Fatalf("left: %d sources, %d streams, %d unowned", len(a.sources), a.streams, a.silent.Len()+a.spoken.Len())
	}
}

func numbered(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

// TestStrangersCannotHoldThePlaces: whoever takes places and does nothing with them, from 16 addresses or from a thousand, keeps nobody out.
func TestStrangersCannotHoldThePlaces(t *testing.T) {
	honest := netip.MustParseAddr("203.0.113.5")
	for _, tc := range []struct {
		name    string
		sources int // that the attacker has
		speak   bool
		age     time.Duration
		want    string // of what the victim is told; empty: the honest peer is refused
	}{
		{"16_silent", 16, false, 2 * time.Second, "sent no IKE message for 2s"},
		{"16_silent_at_once", 16, false, 0, "sent no IKE message"},
		{"16_speaking", 16, true, 0, "authenticated no IKE SA for 0s"},
		{"1024_silent", 1024, false, 2 * time.Second, "sent no IKE message for 2s"},
		{"1024_speaking", 1024, true, 11 * time.Second, "authenticated no IKE SA for 11s"},
		{"1024_come_back_at_once", 1024, true, time.Second, ""}, // who is to tell them from honest ones: they go first
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAdmission(Limits{})
				cuts, told := 0, ""
				for i := range 1024 {
					k, why, ok := a.admit(numbered(i % tc.sources))
					if !ok {
						t.Fatalf("stranger %d refused: %s", i, why)
					}
					k.OnCut(func(_ transport.Drop, why error) { cuts, told = cuts+1, why.Error() })
					if tc.speak {
						k.Spoke()
					}
				}
				time.Sleep(tc.age) // the bubble's clock
				k, why, ok := a.admit(honest)
				if tc.want == "" {
					if ok || why != transport.DropStreamLimit || cuts != 0 {
						t.Fatalf("admitted %v, %v, %d cut", ok, why, cuts)
					}
					return
				}
				if !ok || cuts != 1 || !strings.Contains(told, tc.want) {
					t.Fatalf("admitted %v (%v), %d cut, told %q", ok, why, cuts, told)
				}
				if n := a.silent.Len() + a.spoken.Len(); n != 1024 || a.streams != 1024 {
					t.Fatalf("%d unowned of %d", n, a.streams)
				}
				k.Spoke()
				for range 100 { // the attacker goes on
					a.admit(numbered(0))
				}
				if k.gone {
					t.Fatal("the honest peer gave way to the attacker")
				}
			})
		})
	}
}

// TestOneSource: behind one address, too, whoever is silent gives way, and whoever is on the way to an IKE SA does not.
func TestOneSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(Limits{PerSource: 2})
		other, _, _ := a.admit(numbered(2))
		busy, _, _ := a.admit(numbered(1))
		busy.Spoke()
		idle, _, _ := a.admit(numbered(1))
		time.Sleep(2 * time.Second) // the bubble's clock
		late, why, ok := a.admit(numbered(1))
		if !ok || busy.gone || other.gone || !idle.gone {
			t.Fatalf("admitted %v (%v); gone: busy %v, other %v, idle %v", ok, why, busy.gone, other.gone, idle.gone)
		}
		var told error
		idle.OnCut(func(_ transport.Drop, why error) { told = why }) // it was cut before anybody could say how
		if told == nil {
			t.Fatal("the connection that gave way was not cut")
		}
		if _, why, ok := a.admit(numbered(1)); ok || why != transport.DropStreamSource || late.gone {
			t.Fatalf("admitted %v, %v", ok, why)
		}
	})
}

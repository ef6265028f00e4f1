package ladder

import (
	"errors"
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
)

var (
	overUDP = Rung{path.UDP}
	overTCP = Rung{path.TCP}
)

func TestRungs(t *testing.T) {
	for _, tc := range []struct {
		name string
		c    Config
		want []Rung
	}{
		{"no", Config{Mode: UDPOnly, ListenUDP: true}, []Rung{overUDP}},
		{"yes", Config{Mode: TCPOnly, ListenUDP: true}, []Rung{overTCP}},
		{"fallback", Config{Mode: Fallback, ListenUDP: true}, []Rung{overUDP, overTCP}},
		{"fallback_without_udp", Config{Mode: Fallback}, []Rung{overTCP}},
		{"yes_without_udp", Config{Mode: TCPOnly}, []Rung{overTCP}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, err := New(tc.c)
			if err != nil {
				t.Fatal(err)
			}
			got := l.Rungs()
			if len(got) != len(tc.want) {
				t.Fatalf("rungs %v, want %v", got, tc.want)
			}
			for i := range got {
				if got[i] != tc.want[i] {
					t.Fatalf("rungs %v, want %v", got, tc.want)
				}
			}
		})
	}
	if _, err := New(Config{Mode: UDPOnly}); !errors.Is(err, ErrNoRung) {
		t.Fatalf("UDP only without listen-udp: %v, want ErrNoRung", err)
	}
}

func TestFallbackRound(t *testing.T) {
	l, err := New(Config{Mode: Fallback, ListenUDP: true})
	if err != nil {
		t.Fatal(err)
	}
	if r := l.Start(); r != overUDP {
		t.Fatalf("starts with %v", r)
	}
	if s := l.Failed(NoAnswer); s != (Step{Rung: overTCP}) {
		t.Fatalf("UDP without answer: %+v, want TCP at once", s)
	}
	if s := l.Failed(NoAnswer); s != (Step{Rung: overUDP, NewRound: true}) {
		t.Fatalf("TCP failed too: %+v, want a new round from UDP without wait", s)
	}
	if s := l.Failed(Refused); s != (Step{Rung: overUDP, NewRound: true, Wait: 5 * time.Second}) {
		t.Fatalf("refused over UDP: %+v, want a new round, for TCP would be refused too", s)
	}
	l.Failed(NoAnswer)
	if l.Current() != overTCP {
		t.Fatalf("at %v, want TCP", l.Current())
	}
	if r := l.Start(); r != overUDP {
		t.Fatalf("the next up starts with %v, want UDP", r)
	}
	l.Failed(NoAnswer)
	l.Established()
	if s := l.Revive(); s != (Step{Rung: overUDP, NewRound: true}) {
		t.Fatalf("after an SA over TCP was lost: %+v, want UDP first and at once", s)
	}
}

func TestRefusedAtOnceWaits(t *testing.T) {
	l, err := New(Config{Mode: Fallback, ListenUDP: true})
	if err != nil {
		t.Fatal(err)
	}
	if s := l.Failed(Refused); !s.NewRound || s.Wait != 5*time.Second {
		t.Errorf("after a first refusal: %+v, expected a new round after 5 s", s)
	}
	if s := l.Failed(Refused); s.Wait != 10*time.Second {
		t.Errorf("after a second refusal: %+v, expected 10 s", s)
	}
}

func TestBackOff(t *testing.T) {
	l, err := New(Config{Mode: TCPOnly})
	if err != nil {
		t.Fatal(err)
	}
	want := time.Duration(0)
	for i := range 100 {
		s := l.Failed(NoAnswer)
		if !s.NewRound || s.Wait != want {
			t.Fatalf("failure %d: %+v, want a wait of %v", i+1, s, want)
		}
		want = min(want+5*time.Second, 300*time.Second)
	}
}

func TestJitterShortens(t *testing.T) {
	l, err := New(Config{Mode: TCPOnly, Jitter: func() float64 { return 0.5 }})
	if err != nil {
		t.Fatal(err)
	}
	l.Failed(NoAnswer)
	l.Failed(NoAnswer)
	if s := l.Failed(NoAnswer); s.Wait != 9500*time.Millisecond {
		t.Fatalf("wait %v, want 10 s less a twentieth", s.Wait)
	}
}

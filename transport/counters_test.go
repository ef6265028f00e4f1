package transport

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
)

func TestEveryDropHasAName(t *testing.T) {
	if len(drops) != int(NumDrops) {
		t.Fatalf("%d names for %d reasons", len(drops), NumDrops)
	}
	seen := map[string]bool{}
	for d := range NumDrops {
		if s := d.String(); s == "" || seen[s] || strings.HasPrefix(s, "drop(") {
			t.Errorf("reason %d is called %q", uint8(d), s)
		} else {
			seen[s] = true
		}
	}
}

func TestMeterCountsByCarrier(t *testing.T) {
	var m Meter
	m.IKEIn(path.UDP, 100)
	m.IKEOut(path.TCP, 200)
	m.ESPIn(path.TCP, 44, 60000)
	m.ESPOut(path.UDP, 2, 3000)
	m.KeepAlive(path.UDP)
	m.Drop(DropShort, 3)
	m.Drop(NumDrops, 1) // no such reason: nothing happens
	c := m.Snapshot()
	if c.UDP != (Traffic{IKEIn: 1, IKEInBytes: 100, ESPOut: 2, ESPOutBytes: 3000, KeepAlives: 1}) ||
		c.TCP != (Traffic{IKEOut: 1, IKEOutBytes: 200, ESPIn: 44, ESPInBytes: 60000}) || c.Drops[DropShort] != 3 {
		t.Fatalf("%+v", c)
	}
}

func TestNoticesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		n := NewNotices(func(_ Drop, _ path.Path, text string) { told = append(told, text) })
		flood := func() {
			for i := range 1000 {
				if n.Due(DropShort) {
					n.Tell(DropShort, path.Path{}, "short %d", i)
				}
			}
		}
		flood()
		if n.Due(DropLength) {
			n.Tell(DropLength, path.Path{}, "another kind")
		}
		time.Sleep(NoticeInterval) // the bubble's clock
		flood()
		if got := fmt.Sprint(told); got != "[short 0 another kind short 0 (and 999 more of this kind since the last such line)]" {
			t.Fatal(got)
		}
	})
	var nobody *Notices
	if nobody.Due(DropShort) || NewNotices(nil) != nil {
		t.Fatal("notices for nobody")
	}
}

func TestPlausibleIKE(t *testing.T) {
	b := make([]byte, 40)
	b[27] = 40
	if _, ok := PlausibleIKE(b); !ok {
		t.Error("a header with the right length")
	}
	if why, ok := PlausibleIKE(b[:39]); ok || why != DropLength {
		t.Errorf("truncated: %v, %q", ok, why)
	}
	if why, ok := PlausibleIKE(b[:27]); ok || why != DropShort {
		t.Errorf("shorter than a header: %v, %q", ok, why)
	}
}

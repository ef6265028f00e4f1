package twosa

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/iana"
)

// up makes a world whose IKE SA and Child SA are established over UDP.
func up(t *testing.T) *World {
	t.Helper()
	w := Pair(7, nil, nil)
	w.West.Initiate(w.West.UDP())
	w.Settle()
	agreed(t, w)
	return w
}

// upTCP is up over a stream.
func upTCP(t *testing.T) *World {
	t.Helper()
	w := Pair(7, nil, nil)
	w.West.Initiate(w.West.TCP())
	w.Settle()
	agreed(t, w)
	return w
}

// said checks that a host told something at the default log level that contains all the words, in one line.
func said(t *testing.T, h *Host, words ...string) {
	t.Helper()
	for _, l := range h.Lines() {
		if containsAll(l, words) {
			t.Log(l)
			return
		}
	}
	t.Errorf("%s told nothing with %q:\n%s", h.Name, words, strings.Join(h.Lines(), "\n"))
}

func containsAll(s string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(s, w) {
			return false
		}
	}
	return true
}

// closedFor checks why a host's machine has ended: closed, or lingering.
func closedFor(t *testing.T, h *Host, r event.Reason, n iana.Notify) {
	t.Helper()
	c := h.Closed
	if c == nil {
		c = h.Ended
	}
	if c == nil {
		t.Fatalf("%s is %s:\n%s", h.Name, h.M.Snapshot().State, strings.Join(h.Lines(), "\n"))
	}
	if c.Reason != r || c.Notify != n {
		t.Errorf("%s closed for %v (%v), expected %v (%v): %s", h.Name, c.Reason, c.Notify, r, n, c.Detail)
	}
	if len(h.Installed)+len(h.Reserved) != 0 {
		t.Errorf("%s leaves Child SAs behind: %v, %v", h.Name, h.Installed, h.Reserved)
	}
}

// dropped checks that exactly one packet was dropped since before, for this reason.
func dropped(t *testing.T, h *Host, before [event.NumDrops]int, d event.Drop) {
	t.Helper()
	for i := event.DropNone + 1; i < event.NumDrops; i++ {
		want := before[i]
		if i == d {
			want++
		}
		if h.Drops[i] != want {
			t.Errorf("%s dropped %d for %v, expected %d", h.Name, h.Drops[i], i, want)
		}
	}
}

// unchanged runs f and checks that the host's state stays as it is, and that it sends nothing.
func unchanged(t *testing.T, h *Host, f func()) {
	t.Helper()
	before, deadline, sent := h.M.Snapshot(), h.M.Deadline(), len(h.Sent)
	f()
	if after := h.M.Snapshot(); !reflect.DeepEqual(before, after) {
		t.Errorf("%s changed from %+v to %+v", h.Name, before, after)
	}
	if d := h.M.Deadline(); !d.Equal(deadline) {
		t.Errorf("%s changed its deadline from %v to %v", h.Name, deadline, d)
	}
	if len(h.Sent) != sent {
		t.Errorf("%s sent %d messages", h.Name, len(h.Sent)-sent)
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

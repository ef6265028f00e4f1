package engine

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

type clockRadio struct {
	a    alarm
	want time.Duration // what the model says; negative: not set
}

func (c *clockRadio) bell() *alarm   { return &c.a }
func (c *clockRadio) ring(time.Time) {}

// TestAlarms compares the heap with a list over random settings.
func TestAlarms(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	all := make([]*clockRadio, 100)
	for i := range all {
		all[i] = &clockRadio{want: -1}
	}
	var h alarms
	for range 20000 {
		c := all[r.IntN(len(all))]
		switch r.IntN(4) {
		case 0:
			h.unset(c)
			c.want = -1
		case 1:
			earliest := time.Duration(-1)
			for _, o := range all {
				if o.want >= 0 && (earliest < 0 || o.want < earliest) {
					earliest = o.want
				}
			}
			at, ok := h.next()
			if ok != (earliest >= 0) || ok && at != earliest {
				t.Fatalf("next is %v %v, want %v", at, ok, earliest)
			}
			if due := h.due(earliest - 1); due != nil {
				t.Fatalf("due before its time")
			}
			if due := h.due(max(earliest, 0)); ok {
				got := due.(*clockRadio)
				if got.want != earliest {
					t.Fatalf("due %v, want %v", got.want, earliest)
				}
				got.want = -1
			} else if due != nil {
				t.Fatal("due, and nothing is set")
			}
		default:
			c.want = time.Duration(r.IntN(1000))
			h.set(c, c.want)
		}
	}
}

func dg(p path.Path, n int) transport.Datagram {
	return transport.Datagram{Path: p, Data: make([]byte, n)}
}

func TestMailboxBounds(t *testing.T) {
	var b mailbox
	b.init()
	for i := range maxDatagrams {
		if !b.deliver(dg(udp("1.1.1.1:500"), 100), 1) {
			t.Fatalf("full after %d", i)
		}
	}
	if b.deliver(dg(udp("1.1.1.1:500"), 100), 1) {
		t.Error("more than the limit")
	}
	stream := tcp("1.1.1.1:4000", 7)
	if b.deliver(dg(stream, 100), 1) {
		t.Error("more than the limit from a stream")
	}
	if !b.post(func() {}) {
		t.Error("a call found no room")
	}
	if !b.deliverInitial(dg(udp("1.1.1.1:500"), 100)) {
		t.Error("strangers wait behind peers")
	}
	var got batch
	if !b.take(&got) || len(got.main) != maxDatagrams+1 || len(got.initial) != 1 || !slices.Equal(got.paused, []path.Path{stream}) {
		t.Errorf("%d, %d, %v", len(got.main), len(got.initial), got.paused)
	}
	if b.take(&got) {
		t.Error("something is left")
	}
	big := maxMailboxBytes/65535 + 1
	for i := range big {
		if ok := b.deliver(dg(udp("1.1.1.1:500"), 65535), 1); ok == (i == big-1) {
			t.Fatalf("message %d of 64 KiB: taken is %v", i, ok)
		}
	}
	b.close()
	if b.post(func() {}) || b.deliver(dg(stream, 1), 1) {
		t.Error("a closed mailbox takes mail")
	}
}

func TestMailboxOrder(t *testing.T) {
	var b mailbox
	b.init()
	order := ""
	b.post(func() { order += "a" })
	b.deliver(dg(udp("1.1.1.1:500"), 1), 5)
	b.post(func() { order += "c" })
	var got batch
	b.take(&got)
	for _, m := range got.main {
		if m.call != nil {
			m.call()
		} else {
			order += "b"
		}
	}
	if order != "abc" {
		t.Error(order)
	}
}

// TestCookies: bound to SPI, address and nonce, good for one to two periods, and not to any port.
func TestCookies(t *testing.T) {
	var c, other cookies
	if err := errors.Join(c.init(strings.NewReader(strings.Repeat("x", 32))), other.init(strings.NewReader(strings.Repeat("y", 32)))); err != nil {
		t.Fatal(err)
	}
	ni := []byte("sixteen octets..")
	at := 17 * time.Minute
	cookie := c.make(at, 1, them, ni)
	if len(cookie) > 64 {
		t.Errorf("%d octets, RFC 7296 2.6 allows 64", len(cookie))
	}
	if !c.valid(cookie, at, 1, them, ni) || !c.valid(cookie, at+cookieLife, 1, them, ni) {
		t.Error("not accepted with the current and the previous secret")
	}
	for what, ok := range map[string]bool{
		"after two periods": c.valid(cookie, at+2*cookieLife, 1, them, ni),
		"other SPI":         c.valid(cookie, at, 2, them, ni),
		"other address":     c.valid(cookie, at, 1, us, ni),
		"other nonce":       c.valid(cookie, at, 1, them, ni[1:]),
		"cut":               c.valid(cookie[:len(cookie)-1], at, 1, them, ni),
		"none":              c.valid(nil, at, 1, them, ni),
		"other root":        other.valid(cookie, at, 1, them, ni),
	} {
		if ok {
			t.Error("accepted: " + what)
		}
	}
	flipped := bytes.Clone(cookie)
	flipped[5] ^= 1
	if c.valid(flipped, at, 1, them, ni) {
		t.Error("accepted with a flipped bit")
	}
}

func TestBucket(t *testing.T) {
	var b bucket
	let := func(at time.Duration, tries int) (n int) {
		for range tries {
			if b.allow(at, time.Second, 5) {
				n++
			}
		}
		return n
	}
	if n := let(time.Hour, 100); n != 5 {
		t.Errorf("burst of %d, want 5", n)
	}
	if n := let(time.Hour+2*time.Second, 100); n != 2 {
		t.Errorf("%d after two seconds, want 2", n)
	}
	if n := let(2*time.Hour, 100); n != 5 {
		t.Errorf("%d after a long time, want 5", n)
	}
}

func TestSourceRate(t *testing.T) {
	var r sources
	from := netip.MustParseAddr("2001:db8::1")
	n := 0
	for range 2 * sourceBurst {
		if r.allow(time.Hour, from) {
			n++
		}
		from = from.Next() // of one /64: one source
	}
	if n != sourceBurst {
		t.Errorf("%d of one source, want %d", n, sourceBurst)
	}
	if !r.allow(time.Hour, netip.MustParseAddr("192.1.2.45")) {
		t.Error("another source is refused too")
	}
}

// TestPump: a slow consumer loses events, is told how many, and holds up nobody.
func TestPump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var got []string
		p := NewPump(4, func(ev event.Event) {
			<-gate
			got = append(got, ev.Text)
		})
		for range 10 {
			p.Push(event.Event{Text: "x"})
			synctest.Wait()
		}
		close(gate)
		p.Close()
		// One was with the consumer, four waited.
		if len(got) != 6 || p.Dropped() != 5 || !strings.Contains(strings.Join(got, "\n"), "5 events were not logged") {
			t.Errorf("%d dropped; got %q", p.Dropped(), got)
		}
	})
}

// TestWaiter: events come in order, a flood is cut and said to be, the outcome comes last.
func TestWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaiter()
		for range maxProgress + 10 {
			w.push(event.Event{Text: "x"})
		}
		w.finish(errShutdown)
		w.finish(nil)
		var got []event.Event
		err := w.wait(context.Background(), nil, func(ev event.Event) { got = append(got, ev) })
		if !errors.Is(err, errShutdown) {
			t.Errorf("the outcome is %v, want the first one", err)
		}
		if len(got) != maxProgress+1 || !strings.Contains(got[maxProgress].Text, "10 events were not shown") {
			t.Errorf("%d events, the last %q", len(got), got[len(got)-1].Text)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := newWaiter().wait(ctx, nil, nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

package uml_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ikegod/ikegod/transport"
)

// closed: what was sent before the peer closed arrives, and the end is told in words.
func closed(t *testing.T, west, east *gateway) {
	t.Helper()
	for range 10 {
		w, e := connect(t, west, east)
		west.attach(t, w)
		east.attach(t, e)
		n := len(west.messages())
		for i := range 10 {
			east.send(t, e, message(exchangeAuth, fmt.Sprint("bye ", i)))
		}
		east.mux.CloseStream(e)
		if err := west.ends(t, w); !strings.Contains(err.Error(), "the peer closed") {
			t.Fatal(err)
		}
		if got := len(west.messages()) - n; got != 10 {
			t.Fatalf("%d of 10 messages before the end", got)
		}
		east.until(t, "its own end", func() bool { return errors.Is(east.reason(e), transport.ErrClosed) })
	}
}

// reset: a connection that is cut is told in words.
func reset(t *testing.T, west, east *gateway) {
	t.Helper()
	c, p := stranger(t, west, east)
	if err := errors.Join(c.SetLinger(0), c.Close()); err != nil {
		t.Fatal(err)
	}
	if err := east.ends(t, p); !errors.Is(err, syscall.ECONNRESET) || !strings.Contains(err.Error(), "middlebox") {
		t.Error(err)
	}
}

// nonsense: a Length of 1 ends an attached stream, as it ends every other (RFC 9329 3), and no other stream.
func nonsense(t *testing.T, west, east *gateway) {
	t.Helper()
	_, e := connect(t, west, east)
	c, p := stranger(t, west, east)
	if _, err := c.Write([]byte{0, 1, 0xff}); err != nil {
		t.Fatal(err)
	}
	if err := east.ends(t, p); !strings.Contains(err.Error(), "impossible length") {
		t.Error(err)
	}
	if err := east.reason(e); err != nil {
		t.Errorf("the other connection has ended too: %v", err)
	}
}

// closeOrder: SAs, then sockets; and the other way round, which a lost connection leaves no choice about. Nothing stays behind.
func closeOrder(t *testing.T, west, east *gateway, statesFirst bool) {
	t.Helper()
	w, e := attached(t, west, east)
	west.pings(t, east, 3, 10*time.Millisecond)
	if statesFirst {
		if err := errors.Join(west.flush(), east.flush()); err != nil {
			t.Fatal(err)
		}
	}
	west.mux.CloseStream(w)
	_, _ = west.ends(t, w), east.ends(t, e)
	if !statesFirst {
		// Into a socket that is gone: dropped, and no harm.
		if c, err := west.dialUDP(east.inner); err == nil {
			_, _ = c.Write([]byte("lost"))
			c.Close()
		}
		if err := errors.Join(west.flush(), east.flush()); err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range []*gateway{west, east} {
		g.until(t, "no state and no connection", func() bool {
			states, err1 := g.host.Output("ip", "xfrm", "state")
			conns, err2 := g.host.Output("ss", "-Htn", "state", "established", "state", "close-wait", "state", "fin-wait-1", "state", "fin-wait-2")
			return err1 == nil && err2 == nil && states+conns == ""
		})
	}
}

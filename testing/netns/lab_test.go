package netns

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

func TestGateways(t *testing.T) {
	l, west, east := Gateways(t)
	before, err := west.State()
	if err != nil {
		t.Fatal(err)
	}
	if err := west.Run("ping", "-c", "1", "-W", "2", East); err != nil {
		t.Error(err)
	}
	if err := east.Count(); err != nil {
		t.Fatal(err)
	}
	if err := west.Run("ping", "-c", "2", "-i", "0.05", "-W", "2", "-I", WestInner, EastInner); err != nil {
		t.Errorf("without a tunnel packets flow in clear: %v", err)
	}
	c, err := east.Counts()
	if err != nil || c.Clear() != 2 {
		t.Errorf("%v %v, want 2 clear packets", c, err)
	}
	unblock, err := east.Block("icmp", "meta l4proto icmp")
	if err != nil {
		t.Fatal(err)
	}
	if err := west.Run("ping", "-c", "1", "-W", "0.2", East); err == nil {
		t.Error("blocked, but the ping came through")
	}
	if err := unblock(); err != nil {
		t.Error(err)
	}
	if err := west.Run("ping", "-c", "1", "-W", "2", East); err != nil {
		t.Error(err)
	}
	after, err := west.State()
	if err != nil || after != before {
		t.Errorf("the state of a host where nothing was changed differs: %v\n%s\nbefore:\n%s", err, after, before)
	}
	if !strings.HasPrefix(west.Dir(), l.Dir()) {
		t.Error(west.Dir())
	}
}

func TestInside(t *testing.T) {
	_, west, east := Gateways(t)
	l, err := east.Listen(EastInner + ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		io.WriteString(c, c.RemoteAddr().String())
		c.Close()
	}()
	c, err := west.Dial(t.Context(), "tcp4", WestInner, EastInner+":80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	b, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(b), WestInner+":") {
		t.Errorf("%q %v", b, err)
	}
}

// TestCloseWaitsForDo: a dialer that was told to stop may still be inside a host when its test ends.
func TestCloseWaitsForDo(t *testing.T) {
	Need(t)
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	h, err := l.Host("west")
	if err != nil {
		t.Fatal(err)
	}
	entered, release, result := make(chan bool), make(chan bool), make(chan error, 1)
	l.OnClose(func() error { close(release); return nil })
	go func() {
		result <- h.Do(func() error {
			close(entered)
			<-release
			if Poll(200*time.Millisecond, func() bool { _, err := os.Stat("/run/netns/" + h.NS); return err != nil }) {
				return errors.New("the host went while a thread was inside it")
			}
			return nil
		})
	}()
	<-entered
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-result; err != nil {
		t.Error(err)
	}
	if err := h.Do(func() error { return nil }); err == nil {
		t.Error("a closed lab let a thread in")
	}
}

func TestTransfer(t *testing.T) {
	_, west, east := Gateways(t)
	d, err := Transfer(t.Context(), east, EastInner+":0", west, WestInner, 5<<20)
	if err != nil || d.Octets != 5<<20 {
		t.Errorf("%+v %v", d, err)
	}
}

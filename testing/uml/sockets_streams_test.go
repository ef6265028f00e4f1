package uml_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
)

// connect opens a TCP connection from west to east, on which a first message has gone each way and which both own.
func connect(t *testing.T, west, east *gateway) (w, e path.Path) {
	t.Helper()
	var err error
	if err := west.host.Do(func() error {
		w, err = west.mux.Dial(t.Context(), west.addr, netip.AddrPortFrom(east.addr, east.mux.TCPPorts()[0]))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	n := len(east.messages())
	west.send(t, w, message(exchangeInit, "init"))
	east.until(t, "the first message", func() bool { return len(east.messages()) > n })
	e = east.messages()[n].Path
	west.mux.Own(w)
	east.mux.Own(e)
	return w, e
}

// attach hands a stream over and waits.
func (g *gateway) attach(t *testing.T, p path.Path) {
	t.Helper()
	c := make(chan error, 1)
	g.mux.AttachESP(p, func(err error) { c <- err })
	select {
	case err := <-c:
		if err != nil {
			t.Fatalf("%s: %v", g.host.Name, err)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: no answer to AttachESP", g.host.Name)
	}
}

func espintcp(p path.Path) string {
	return fmt.Sprintf("espintcp %d %d", p.Local.Port(), p.Remote.Port())
}

// secured is a connection with SAs that use it, which neither end has attached.
func secured(t *testing.T, west, east *gateway) (w, e path.Path) {
	t.Helper()
	w, e = connect(t, west, east)
	protect(t, west, east, espintcp(w), espintcp(e))
	return w, e
}

// attached is a connection with SAs that use it, which both ends have attached.
func attached(t *testing.T, west, east *gateway) (w, e path.Path) {
	t.Helper()
	w, e = secured(t, west, east)
	west.attach(t, w)
	east.attach(t, e)
	return w, e
}

// stranger is a connection of west's to east by hand, which east owns and has attached.
func stranger(t *testing.T, west, east *gateway) (c *net.TCPConn, p path.Path) {
	t.Helper()
	any, err := west.host.Dial(t.Context(), "tcp", "", netip.AddrPortFrom(east.addr, 4500).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { any.Close() })
	n, first := len(east.messages()), message(exchangeInit, "init")
	b := append([]byte("IKETCP"), binary.BigEndian.AppendUint16(nil, uint16(6+len(first)))...)
	if _, err := any.Write(append(append(b, 0, 0, 0, 0), first...)); err != nil {
		t.Fatal(err)
	}
	east.has(t, n+1, "the first message")
	p = east.messages()[n].Path
	east.mux.Own(p)
	east.attach(t, p)
	return any.(*net.TCPConn), p
}

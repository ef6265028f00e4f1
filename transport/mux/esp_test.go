package mux

import (
	"errors"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
	"github.com/ikegod/ikegod/transport/udp"
)

// startESP starts a Mux with plain ESP on an address of this test's own: a raw socket on the wildcard would see what other tests send.
func startESP(t *testing.T, a string) (*Mux, *recorder) {
	t.Helper()
	m, r := start(t, Options{ListenUDP: true, PlainESP: true, UDPPorts: []udp.Port{{}, {Marker: true}}, Addrs: []netip.Addr{netip.MustParseAddr(a)}})
	if err := m.PlainESP(); errors.Is(err, syscall.EPERM) && os.Getenv("CI") != "true" {
		t.Skipf("NOT TESTED: plain ESP on raw sockets: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	return m, r
}

func TestPlainESPBothWays(t *testing.T) {
	a, gotA := startESP(t, "127.0.51.1")
	b, gotB := startESP(t, "127.0.51.2")
	p, err := a.UDPPath(netip.Addr{}, a.UDPPorts()[0].Number, netip.MustParseAddrPort("127.0.51.2:500"))
	if err != nil {
		t.Fatal(err)
	}
	p = p.PlainESP()
	if !a.RoomESP(p) {
		t.Error("no room on a carrier without a queue")
	}
	if err := a.SendESP(p, espPacket(1, 100), 100); err != nil {
		t.Fatal(err)
	}
	gotB.until(t, "ESP", func() bool { return len(gotB.esp) == 1 })
	back := path.Path{Local: p.Remote, Remote: p.Local, Kind: path.ESP}
	if gotB.espPath != back {
		t.Errorf("came on %v, want %v", gotB.espPath, back)
	}
	if err := b.SendESP(back, espPacket(2, 100), 100); err != nil {
		t.Fatal(err)
	}
	gotA.until(t, "ESP", func() bool { return len(gotA.esp) == 1 })
	if c := a.Counters(); c.ESP.ESPIn != 1 || c.ESP.ESPOut != 1 || c.UDP != (transport.Traffic{}) {
		t.Errorf("counted %+v", c)
	}
}

// TestIKENeverOnPlainESP: it is refused, and there are no keepalives either.
func TestIKENeverOnPlainESP(t *testing.T) {
	a, _ := startESP(t, "127.0.51.3")
	p := path.Path{Local: netip.MustParseAddrPort("127.0.51.3:0"), Remote: netip.MustParseAddrPort("127.0.51.4:0"), Kind: path.ESP}
	if err := a.Send(p, ikeMessage("hello")); !errors.Is(err, transport.ErrNoPath) {
		t.Errorf("got %v", err)
	}
	a.KeepAlive(p, time.Millisecond)
	if c := a.Counters(); c.ESP.KeepAlives != 0 || c.Drops[transport.DropKeepAliveLimit] != 0 {
		t.Errorf("counted %+v", c)
	}
}

// TestWithoutPlainESP: where it is not asked for, or UDP is not listened on, a path of it is refused and PlainESP says so.
func TestWithoutPlainESP(t *testing.T) {
	for _, o := range []Options{{ListenUDP: true, UDPPorts: []udp.Port{{}}}, {PlainESP: true}} {
		o.Addrs = []netip.Addr{loopback}
		m, _ := start(t, o)
		p := path.Path{Local: netip.AddrPortFrom(loopback, 0), Remote: netip.AddrPortFrom(loopback, 0), Kind: path.ESP}
		if err := m.SendESP(p, espPacket(1, 100), 100); !errors.Is(err, transport.ErrNoPath) || m.PlainESP() == nil {
			t.Errorf("got %v, PlainESP says %v", err, m.PlainESP())
		}
	}
}

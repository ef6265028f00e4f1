package twosa

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
)

// TestStreamLostDuringNegotiation: a stream that ends is given up at once, without waiting for a deadline.
func TestStreamLostDuringNegotiation(t *testing.T) {
	for _, delivered := range []int{0, 1, 2, 3} {
		w := Pair(1, nil, nil)
		p := w.West.TCP()
		w.West.Initiate(p)
		for i := range delivered {
			[]*Host{w.West, w.East}[i%2].Deliver()
		}
		w.West.Out, w.East.Out = nil, nil
		w.West.Step(machine.PathLost{Path: p, Err: errors.New("connection reset by peer")})
		if len(w.West.NeedPaths) != 1 || w.West.NeedPaths[0].Why.Reason != event.ReasonPathFailed || w.West.NeedPaths[0].Last != p {
			t.Fatalf("after %d messages: %+v", delivered, w.West.NeedPaths)
		}
		if w.East.M != nil {
			w.East.Step(machine.PathLost{Path: reversed(p)})
		}
		w.West.Step(machine.PathReady{Path: w.West.TCP(), SPI: w.West.SPI()})
		if delivered == 3 {
			w.East.Proved, w.East.Installed = nil, map[uint32]machine.Install{} // of the first IKE SA, which east keeps
		}
		w.Settle()
		agreed(t, w)
	}
}

// TestLostPathOfAnother: the end of a stream that is not the path changes nothing.
func TestLostPathOfAnother(t *testing.T) {
	w := upTCP(t)
	unchanged(t, w.West, func() { w.West.Step(machine.PathLost{Path: w.West.TCP()}) })
	unchanged(t, w.East, func() { w.East.Step(machine.PathLost{Path: w.West.TCP()}) })
}

// TestStreamLostEstablished: the SAs survive, the originator opens a new stream, and both ends go on with it without a new IKE SA (RFC 9329 6.1).
func TestStreamLostEstablished(t *testing.T) {
	w := upTCP(t)
	before := w.West.M.Snapshot()
	old := before.Path
	w.West.Step(machine.PathLost{Path: old, Err: errors.New("EOF")})
	w.East.Step(machine.PathLost{Path: reversed(old), Err: errors.New("EOF")})
	if len(w.West.NeedPaths) != 1 || len(w.East.NeedPaths) != 0 {
		t.Fatal("the originator alone opens another stream")
	}
	for _, h := range []*Host{w.West, w.East} {
		if s := h.M.Snapshot(); s.State != "established" || !s.PathLost || len(h.Installed) != 1 {
			t.Errorf("%s: %+v", h.Name, s)
		}
	}
	w.Run(10 * time.Second)
	fresh := w.West.TCP()
	w.West.Step(machine.PathReady{Path: fresh, SPI: 99})
	w.Settle()
	for _, h := range []*Host{w.West, w.East} {
		s := h.M.Snapshot()
		want := fresh
		if h == w.East {
			want = reversed(fresh)
		}
		if s.PathLost || s.Path != want || s.SPIi != before.SPIi || s.SPIr != before.SPIr {
			t.Errorf("%s: %+v", h.Name, s)
		}
		if len(h.Moves) != 1 || h.Moves[0].Path != want || h.Moves[0].SPIIn != s.Children[0].SPIIn {
			t.Errorf("%s: moves %+v", h.Name, h.Moves)
		}
	}
	agreed(t, w)
}

// TestOutstandingOnNewStream: requests of both ends were under way when the stream ended. Each is sent again on the new one, the same octets, and answered
// (RFC 9329 6.2).
func TestOutstandingOnNewStream(t *testing.T) {
	for _, lost := range []string{"request", "response"} {
		w := upTCP(t)
		old := w.West.M.Snapshot().Path
		id := w.West.M.Snapshot().Children[0].ID
		w.West.Step(machine.CloseChild{Child: id})
		request := w.West.Out[0]
		if lost == "response" {
			w.West.Deliver()
		}
		w.West.Out, w.East.Out = nil, nil
		w.West.Step(machine.PathLost{Path: old})
		w.East.Step(machine.PathLost{Path: reversed(old)})
		w.Run(2 * time.Minute) // no deadline runs without a stream
		w.West.Step(machine.PathReady{Path: w.West.TCP()})
		if string(w.West.Out[0].Data) != string(request.Data) {
			t.Errorf("lost %s: not the same request", lost)
		}
		w.Settle()
		for _, h := range []*Host{w.West, w.East} {
			if s := h.M.Snapshot(); s.State != "established" || len(s.Children) != 0 || len(h.Installed) != 0 || s.Path.Generation == old.Generation {
				t.Errorf("lost %s, %s: %+v", lost, h.Name, s)
			}
		}
	}
}

// TestResponderRequestWaits: the responder has something to say while its stream is gone; it waits for the originator.
func TestResponderRequestWaits(t *testing.T) {
	w := upTCP(t)
	old := w.West.M.Snapshot().Path
	w.West.Step(machine.PathLost{Path: old})
	w.East.Step(machine.PathLost{Path: reversed(old)})
	w.East.Step(machine.CloseChild{Child: w.East.M.Snapshot().Children[0].ID})
	if len(w.East.Out) != 0 {
		t.Fatal("sent on a stream that is gone")
	}
	w.Run(2 * time.Minute)
	w.West.Step(machine.PathReady{Path: w.West.TCP()})
	w.Settle()
	if len(w.West.Installed)+len(w.East.Installed) != 0 {
		t.Error("the Child SA is still there")
	}
}

func TestNoPathForEstablished(t *testing.T) {
	w := upTCP(t)
	w.West.Step(machine.PathLost{Path: w.West.M.Snapshot().Path})
	w.West.Step(machine.NoPath{Err: errors.New("connection refused")})
	closedFor(t, w.West, event.ReasonPathFailed, 0)
	said(t, w.West, "TCP/4500", "ended", "connection refused")
}

// TestCarrierChangeRefused: an IKE SA on a stream stays on streams without MOBIKE (RFC 9329 5).
func TestCarrierChangeRefused(t *testing.T) {
	w := upTCP(t)
	w.West.Step(machine.PathLost{Path: w.West.M.Snapshot().Path})
	w.West.Step(machine.PathReady{Path: w.West.UDP()})
	closedFor(t, w.West, event.ReasonPathFailed, 0)
	said(t, w.West, "MOBIKE")
}

// TestAbandoned: the originator never comes back; the responder gives the SAs up when liveness would have ended.
func TestAbandoned(t *testing.T) {
	for _, tc := range []struct {
		liveness, lifetime, want time.Duration
	}{{20 * time.Second, 8 * time.Hour, 50 * time.Second}, {0, 8 * time.Hour, 8 * time.Hour}, {0, 0, time.Hour}} {
		w := Pair(1, nil, func(c *policy.Connection) { c.Liveness, c.Lifetimes.IKE = tc.liveness, tc.lifetime })
		w.West.Initiate(w.West.TCP())
		w.Settle()
		w.East.Step(machine.PathLost{Path: w.East.M.Snapshot().Path})
		w.West.M = nil
		w.Run(tc.want - 1)
		if w.East.Closed != nil {
			t.Errorf("%v: closed too early", tc.want)
		}
		w.Run(1)
		closedFor(t, w.East, event.ReasonPathFailed, 0)
	}
}

// TestNewStreamNeedsAuthentication: a new stream becomes the path only after a fresh message on it has authenticated; a repeated one does not do
// (RFC 9329 6.1).
func TestNewStreamNeedsAuthentication(t *testing.T) {
	w := upTCP(t)
	before := w.East.M.Snapshot().Path
	stranger := w.West.TCP()
	old := w.West.Sent[1] // IKE_AUTH
	w.West.Inject(Packet{Path: stranger, Data: old.Data})
	if len(w.East.Out) != 1 || w.East.Out[0].Path != reversed(stranger) {
		t.Error("a repeated request is not answered where it came from")
	}
	w.East.Out = nil
	bad := w.West.Forge(iana.INFORMATIONAL, 2, false)
	bad.Data[len(bad.Data)-1] ^= 1
	unchanged(t, w.East, func() { w.West.Inject(Packet{Path: stranger, Data: bad.Data}) })
	if p := w.East.M.Snapshot().Path; p != before {
		t.Errorf("path is %v", p)
	}
	good := w.West.Forge(iana.INFORMATIONAL, 2, false)
	w.West.Inject(Packet{Path: stranger, Data: good.Data})
	if p := w.East.M.Snapshot().Path; p != reversed(stranger) {
		t.Errorf("path is %v", p)
	}
}

// TestNATRebinding: the NAT in front of west forgets its mapping. East, which is not behind a NAT, follows the authenticated message (RFC 7296 2.23).
func TestNATRebinding(t *testing.T) {
	live := func(c *policy.Connection) { c.Liveness = 10 * time.Second }
	w := Pair(1, live, nil)
	nat := NAT{Inside: WestAddr, Outside: addr("203.0.113.9"), First: 30000}
	w.Net = nat.Translate
	w.West.Initiate(w.West.UDP())
	w.Settle()
	agreed(t, w)
	before := w.East.M.Snapshot().Path
	nat.Rebind()
	w.Run(15 * time.Second)
	after := w.East.M.Snapshot().Path
	if after == before || len(w.East.Moves) != 1 || w.East.Moves[0].Path != after {
		t.Errorf("east is at %v (was %v), moves %v", after, before, w.East.Moves)
	}
	said(t, w.East, "peer has moved")
	agreed(t, w)
}

// TestMovedByUnauthenticated: nothing that does not authenticate moves the peer.
func TestMovedByUnauthenticated(t *testing.T) {
	w := up(t)
	elsewhere := w.West.M.Snapshot().Path
	elsewhere.Local = netip.MustParseAddrPort("203.0.113.66:4500")
	for _, p := range w.West.Sent {
		before := w.East.M.Snapshot().Path
		w.West.Inject(Packet{Path: elsewhere, Data: p.Data})
		if after := w.East.M.Snapshot().Path; after != before {
			t.Errorf("replay moved the peer to %v", after)
		}
	}
	p := w.West.Forge(iana.INFORMATIONAL, 2, false)
	p.Data[len(p.Data)-1] ^= 1
	unchanged(t, w.East, func() { w.West.Inject(Packet{Path: elsewhere, Data: p.Data}) })
}

// TestPortsStayWithoutFloat: a peer on a port of its own is not floated away from it.
func TestPortsStayWithoutFloat(t *testing.T) {
	w := Pair(1, nil, nil)
	p := w.West.UDP()
	p.Remote = netip.AddrPortFrom(EastAddr, iana.PortIKENATT)
	p.Local = netip.AddrPortFrom(WestAddr, iana.PortIKENATT)
	w.West.Initiate(p)
	w.Settle()
	agreed(t, w)
	if s := w.West.M.Snapshot(); s.Path != p {
		t.Errorf("path is %v", s.Path)
	}
}

// TestStaysOn500: a peer that does not float wants ESP without UDP; the child is refused with a word, the IKE SA stays.
func TestStaysOn500(t *testing.T) {
	w := Pair(1, nil, nil)
	w.Net = func(p Packet) (Packet, bool) { // what such a peer would send
		p.Path.Local = netip.AddrPortFrom(p.Path.Local.Addr(), iana.PortIKE)
		p.Path.Remote = netip.AddrPortFrom(p.Path.Remote.Addr(), iana.PortIKE)
		return p, true
	}
	w.West.Initiate(w.West.UDP())
	w.Settle()
	if s := w.East.M.Snapshot(); s.State != "established" || len(s.Children) != 0 || s.Path.Kind != path.UDP {
		t.Errorf("east: %+v", s)
	}
	said(t, w.East, "port 500", "encapsulation=yes")
}

// TestKeepAliveNotOnStreams: behind a NAT keepalives are for UDP, and only where the connection wants them (RFC 9329 6.6).
func TestKeepAliveNotOnStreams(t *testing.T) {
	for _, tc := range []struct {
		stream, wanted bool
		want           int
	}{{false, true, 1}, {false, false, 0}, {true, true, 0}} {
		w := Pair(1, func(c *policy.Connection) { c.NATKeepAlive = tc.wanted }, nil)
		nat := NAT{Inside: WestAddr, Outside: addr("203.0.113.9"), First: 30000}
		w.Net = nat.Translate
		p := w.West.UDP()
		if tc.stream {
			p = w.West.TCP()
		}
		w.West.Initiate(p)
		w.Settle()
		agreed(t, w)
		if !w.West.M.Snapshot().NATLocal || len(w.West.KeepAlives) != tc.want {
			t.Errorf("stream %v, wanted %v: %v", tc.stream, tc.wanted, w.West.KeepAlives)
		}
		w.West.Step(machine.CloseIKE{Reason: event.ReasonOperator, Linger: time.Second})
		w.Settle()
		if n := len(w.West.KeepAlives); n != 2*tc.want || n > 0 && w.West.KeepAlives[n-1].On {
			t.Errorf("keepalives are not stopped: %v", w.West.KeepAlives)
		}
	}
}

// TestStreamLostWhileVerifying: the IKE_AUTH response has come and is being verified when the stream ends. The IKE SA is established all the same, and its
// originator opens another stream.
func TestStreamLostWhileVerifying(t *testing.T) {
	for _, good := range []bool{true, false} {
		w := Pair(1, nil, nil)
		w.West.Hold = func(e machine.Effect) bool {
			j, ok := e.(machine.Job)
			_, install := e.(machine.Install)
			return ok && j.Verify != nil || install
		}
		p := w.West.TCP()
		w.West.Initiate(p)
		w.Settle()
		w.West.Step(machine.PathLost{Path: p})
		w.East.Step(machine.PathLost{Path: reversed(p)})
		if !good {
			w.West.Secrets = Store("something else")
			w.West.Complete()
			closedFor(t, w.West, event.ReasonAuthFailed, iana.AUTHENTICATION_FAILED)
			continue
		}
		w.West.Complete() // verified; the installation is held
		if len(w.West.NeedPaths) != 1 {
			t.Fatalf("NeedPath: %v", w.West.NeedPaths)
		}
		fresh := w.West.TCP()
		w.West.Step(machine.PathReady{Path: fresh})
		w.West.Complete() // installed, on the stream that is gone
		w.Settle()
		agreed(t, w)
		if len(w.West.Moves) != 1 || w.West.Moves[0].Path != fresh || w.East.M.Snapshot().Path != reversed(fresh) {
			t.Errorf("moves %v, east at %v", w.West.Moves, w.East.M.Snapshot().Path)
		}
	}
}

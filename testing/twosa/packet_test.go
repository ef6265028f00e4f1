package twosa

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/pkg/wire"
)

// echo is an echo request from one inside host to another, and what stands for it in TSi and TSr.
var (
	echo       = ts.Packet{Src: netip.MustParseAddrPort("192.0.1.7:2048"), Dst: netip.MustParseAddrPort("192.0.2.9:2048"), Protocol: 1}
	echoI      = TS("192.0.1.7/32/icmp/2048")[0]
	echoR      = TS("192.0.2.9/32/icmp/2048")[0]
	westNet    = TS("192.0.1.0/24")
	eastNet    = TS("192.0.2.0/24")
	wideWest   = TS("192.0.0.0/16")
	narrows    = func(c *policy.Connection) { c.Narrowing = true }
	wideAndAll = func(c *policy.Connection) { selectors(c, wideWest, TS("0.0.0.0/0")); c.Narrowing = true }
)

// need makes h initiate on p for a packet.
func (h *Host) need(packet ts.Packet, p path.Path) {
	h.M = machine.NewInitiator(h.config(), h.Conn, []int{0})
	h.Step(machine.Start{Path: p, Packet: packet})
}

// asked are the selectors of the last request of h.
func (h *Host) asked(t *testing.T) (tsi, tsr ts.Set) {
	t.Helper()
	for _, p := range slices.Backward(h.Sent) {
		if !p.Header().Response() && p.Header().Exchange != iana.INFORMATIONAL {
			items := inside(t, h, p)
			i, _ := wire.GetType[wire.TS](items, iana.PayloadTSi)
			r, _ := wire.GetType[wire.TS](items, iana.PayloadTSr)
			return ts.FromWire(i), ts.FromWire(r)
		}
	}
	t.Fatalf("%s has asked for nothing", h.Name)
	return nil, nil
}

// asks checks the selectors of the last request of h, in their order.
func asks(t *testing.T, h *Host, tsi, tsr ts.Set) {
	t.Helper()
	if i, r := h.asked(t); !slices.Equal(i, tsi) || !slices.Equal(r, tsr) {
		t.Errorf("%s asked for %v === %v, want %v === %v", h.Name, i, r, tsi, tsr)
	}
}

// protects checks what the newest Child SA of h is for.
func protects(t *testing.T, h *Host, local, remote ts.Set) {
	t.Helper()
	s := h.M.Snapshot()
	if len(s.Children) == 0 {
		t.Fatalf("%s has no Child SA:\n%v", h.Name, h.Lines())
	}
	c := s.Children[len(s.Children)-1]
	i := h.Installed[c.SPIIn]
	if !slices.Equal(c.Local, local) || !slices.Equal(c.Remote, remote) || !slices.Equal(i.Local, local) || !slices.Equal(i.Remote, remote) {
		t.Errorf("%s protects %v === %v, and its datapath %v === %v; want %v === %v", h.Name, c.Local, c.Remote, i.Local, i.Remote, local, remote)
	}
}

// TestPacketFirst: what a packet has asked for has its selectors first (RFC 7296 2.9), and protects what it would protect without; a successor and other Child SAs do
// not have them.
func TestPacketFirst(t *testing.T) {
	for name, start := range map[string]func(*World){
		"udp": func(w *World) { w.West.need(echo, w.West.UDP()) },
		"tcp": func(w *World) { w.West.need(echo, w.West.TCP()) },
		"fallback": func(w *World) {
			w.Net = Only(path.TCP)
			w.West.Ladder = func(machine.NeedPath) machine.Input { return machine.PathReady{Path: w.West.TCP(), SPI: w.West.SPI()} }
			w.West.need(echo, w.West.UDP())
			w.Run(40 * time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := Pair(5, two, two)
			start(w)
			w.Settle()
			agreedOn(t, w, 1)
			asks(t, w.West, westNet.First(echoI), eastNet.First(echoR))
			said(t, w.West, "sent IKE_AUTH request", "[192.0.1.0/24===192.0.2.0/24] for the packet [192.0.1.7/32/ICMP/2048===192.0.2.9/32/ICMP/2048]")
			protects(t, w.West, westNet, eastNet)
			protects(t, w.East, eastNet, westNet)
			old := w.West.M.Snapshot().Children[0]
			w.West.rekey()
			w.Settle()
			succeeded(t, w, old)
			asks(t, w.West, westNet, eastNet)
			w.West.open()
			w.Settle()
			agreedOn(t, w, 2)
			asks(t, w.West, TS("10.1.0.0/16"), TS("10.2.0.0/16"))
		})
	}
}

// TestPacketFirstOnAnEstablishedIKESA: the same by CREATE_CHILD_SA, also when the request has to be repeated for another key exchange.
func TestPacketFirstOnAnEstablishedIKESA(t *testing.T) {
	w := upTwo(t, false, both(pfs, groups(iana.KE_ECP256, iana.KE_CURVE25519)), both(pfs, groups(iana.KE_CURVE25519)))
	asks(t, w.West, westNet, eastNet)
	sent := len(w.West.Sent)
	w.West.Step(machine.OpenChild{Conn: w.West.Conn, Index: 1, Packet: ts.Packet{
		Src: netip.MustParseAddrPort("10.1.0.1:0"), Dst: netip.MustParseAddrPort("10.2.0.1:22"), Protocol: 6,
	}})
	w.Settle()
	agreedOn(t, w, 2)
	if n := len(w.West.Sent) - sent; n != 2 {
		t.Errorf("%d requests", n)
	}
	local, remote := TS("10.1.0.0/16"), TS("10.2.0.0/16")
	asks(t, w.West, local.First(TS("10.1.0.1/32/tcp")[0]), remote.First(TS("10.2.0.1/32/tcp/22")[0]))
	protects(t, w.West, local, remote)
	protects(t, w.East, remote, local)
}

// TestPacketThatIsNotForIt: what the datapath says of a packet is not asked for if the connection does not protect it, or says as much itself.
func TestPacketThatIsNotForIt(t *testing.T) {
	single := func(c *policy.Connection) { selectors(c, TS("192.0.1.7/32/icmp/2048"), TS("192.0.2.9/32/icmp/2048")) }
	for name, tc := range map[string]struct {
		packet ts.Packet
		change func(*policy.Connection)
	}{
		"none":                {},
		"another source":      {packet: ts.Packet{Src: netip.MustParseAddrPort("192.0.3.7:1"), Dst: echo.Dst, Protocol: 17}},
		"another destination": {packet: ts.Packet{Src: echo.Src, Dst: netip.MustParseAddrPort("192.0.3.7:1"), Protocol: 17}},
		"the other way round": {packet: ts.Packet{Src: echo.Dst, Dst: echo.Src, Protocol: 1}},
		"another family":      {packet: ts.Packet{Src: netip.MustParseAddrPort("[2001:db8::1]:1"), Dst: netip.MustParseAddrPort("[2001:db8::2]:1"), Protocol: 17}},
		"no destination":      {packet: ts.Packet{Src: echo.Src, Protocol: 1}},
		"another port": {packet: ts.Packet{Src: echo.Src, Dst: echo.Dst, Protocol: 17}, change: func(c *policy.Connection) {
			selectors(c, TS("192.0.1.0/24/udp"), TS("192.0.2.0/24/udp/53"))
		}},
		"the same": {packet: echo, change: single},
	} {
		t.Run(name, func(t *testing.T) {
			w := Pair(5, tc.change, tc.change)
			w.West.need(tc.packet, w.West.UDP())
			w.Settle()
			agreed(t, w)
			asks(t, w.West, w.West.Conn.Children[0].Left, w.West.Conn.Children[0].Right)
			plain := Pair(5, tc.change, tc.change)
			plain.West.Initiate(plain.West.UDP())
			plain.Settle()
			if !slices.EqualFunc(w.West.Sent, plain.West.Sent, func(a, b Packet) bool { return string(a.Data) == string(b.Data) }) {
				t.Error("the messages are others than without a packet")
			}
		})
	}
}

// TestPacketFirstTransportMode: in transport mode too, also where a NAT changes our address.
func TestPacketFirstTransportMode(t *testing.T) {
	for _, behind := range []bool{false, true} {
		w := Pair(3, transport(true), transport(true))
		w.East.Conn.RemoteAddr = netip.Addr{} // %any
		seen := WestAddr
		if behind {
			seen = netip.MustParseAddr("203.0.113.1")
			nat := NAT{Inside: WestAddr, Outside: seen, First: 30000}
			w.Net = nat.Translate
		}
		packet := ts.Packet{Src: netip.AddrPortFrom(WestAddr, 33000), Dst: netip.AddrPortFrom(EastAddr, 22), Protocol: 6}
		w.West.need(packet, w.West.UDP())
		w.Settle()
		src, dst, _ := packet.Selectors()
		asks(t, w.West, ts.Set{src, ts.FromAddr(WestAddr)}, ts.Set{dst, ts.FromAddr(EastAddr)})
		protects(t, w.West, ts.Set{ts.FromAddr(WestAddr)}, ts.Set{ts.FromAddr(EastAddr)})
		protects(t, w.East, ts.Set{ts.FromAddr(EastAddr)}, ts.Set{ts.FromAddr(seen)})
		said(t, w.West, "IPsec transport [")
	}
}

// TestFirstChoices: of connections that each allow a part, the packet gets the one that allows it (RFC 7296 2.9): its answer has to hold the first selectors.
func TestFirstChoices(t *testing.T) {
	part := func(name, left, right string) *policy.Connection {
		c := Connection()
		c.Name, c.Children[0].Name, c.Narrowing = name, name, true
		selectors(c, TS(left), TS(right))
		return c
	}
	for name, tc := range map[string]struct {
		packet ts.Packet
		want   string
	}{
		"the second": {packet: echo, want: "second"},
		"the first":  {packet: ts.Packet{Src: netip.MustParseAddrPort("192.0.8.1:1"), Dst: netip.MustParseAddrPort("10.8.0.1:1"), Protocol: 17}, want: "first"},
		"neither":    {packet: ts.Packet{Src: netip.MustParseAddrPort("192.0.8.1:1"), Dst: netip.MustParseAddrPort("192.0.2.1:1"), Protocol: 17}, want: "first"},
		"no packet":  {want: "first"},
	} {
		t.Run(name, func(t *testing.T) {
			w := Pair(1, wideAndAll, nil)
			first, second := part("first", "192.0.8.0/24", "10.8.0.0/16"), part("second", "192.0.1.0/24", "192.0.2.0/24")
			w.East.Candidates = []*policy.Oriented{Oriented(first, false), Oriented(second, false)}
			w.West.need(tc.packet, w.West.UDP())
			w.Settle()
			if c := w.East.M.Snapshot().Children; len(c) != 1 || c[0].Conn != tc.want {
				t.Errorf("answered with %+v\n%v", c, w.East.Lines())
			}
		})
	}
	// One that allows all of it comes before one that would narrow it.
	w := Pair(1, wideAndAll, nil)
	first, second := part("first", "192.0.8.0/24", "10.8.0.0/16"), part("second", "192.0.0.0/16", "0.0.0.0/0")
	w.East.Candidates = []*policy.Oriented{Oriented(first, false), Oriented(second, false)}
	w.West.Initiate(w.West.UDP())
	w.Settle()
	agreed(t, w)
	protects(t, w.West, wideWest, TS("0.0.0.0/0"))
}

// TestNarrowedAroundThePacket: with narrowing=yes at both ends the part that is left has the packet in it, and is taken as without one.
func TestNarrowedAroundThePacket(t *testing.T) {
	w := Pair(1, wideAndAll, narrows)
	w.West.need(echo, w.West.UDP())
	w.Settle()
	agreed(t, w)
	protects(t, w.West, westNet, eastNet)
}

// TestNarrowedToTheHost: a peer that allows nothing but the packet's host says so a second time, and is believed.
func TestNarrowedToTheHost(t *testing.T) {
	host, peer := TS("192.0.1.7/32"), TS("192.0.2.9/32")
	w := Pair(1, wideAndAll, func(c *policy.Connection) { selectors(c, host, peer); c.Narrowing = true })
	w.West.need(echo, w.West.UDP())
	w.Settle()
	said(t, w.West, "narrowed it to the packet's", "asking once more")
	agreed(t, w)
	protects(t, w.West, host, peer)
}

// TestNarrowedToAPart: a peer that allows one host there, or one protocol, answers with that part, in which the packet is, and is not asked again.
func TestNarrowedToAPart(t *testing.T) {
	for name, tc := range map[string]struct{ local, remote ts.Set }{
		"one host there": {westNet, TS("192.0.2.9/32")},
		"one protocol":   {TS("192.0.1.0/24/icmp"), TS("192.0.2.0/24/icmp")},
	} {
		t.Run(name, func(t *testing.T) {
			w := Pair(1, wideAndAll, func(c *policy.Connection) { selectors(c, tc.local, tc.remote); c.Narrowing = true })
			w.West.need(echo, w.West.UDP())
			w.Settle()
			agreed(t, w)
			protects(t, w.West, tc.local, tc.remote)
			if n := w.West.count(event.KindPacketRefused); n != 0 {
				t.Errorf("asked again %d times\n%v", n, w.West.Lines())
			}
		})
	}
}

// onlyFirst makes east answer the request for a packet with these selectors of its own, in the place of its real answer to IKE_AUTH; nil: with TS_UNACCEPTABLE.
func onlyFirst(t *testing.T, change func(*policy.Connection), tsi, tsr ts.Set) *World {
	t.Helper()
	w := Pair(1, change, change)
	w.West.need(echo, w.West.UDP())
	w.West.Deliver()
	w.East.Deliver()
	w.West.Deliver()
	real := inside(t, w.East, w.East.Out[0])
	w.East.Lose()
	if tsi == nil {
		w.East.Inject(w.East.Forge(iana.IKE_AUTH, 1, true, append(real[:2:2], Notify(iana.TS_UNACCEPTABLE))...))
		return w
	}
	for i, item := range real {
		if p, ok := item.Payload.(wire.TS); ok {
			p.Selectors = tsi.ToWire()
			if p.Payload == iana.PayloadTSr {
				p.Selectors = tsr.ToWire()
			}
			real[i].Payload = p
		}
	}
	w.East.Inject(w.East.Forge(iana.IKE_AUTH, 1, true, real...))
	return w
}

// TestPeerThatTakesTheFirstAlone: a peer that knows the first selector alone, refuses it or takes it for all there is, gets the request once more without; so it is no
// worse than without the packet. Whoever waits hears of the outcome alone.
func TestPeerThatTakesTheFirstAlone(t *testing.T) {
	for name, tc := range map[string]struct {
		change   func(*policy.Connection)
		tsi, tsr ts.Set
		says     string
	}{
		"refused":                  {says: "refused it with TS_UNACCEPTABLE"},
		"narrowed to it":           {tsi: ts.Set{echoI}, tsr: ts.Set{echoR}, says: "narrowed it to"},
		"narrowed to its protocol": {tsi: TS("192.0.1.0/24/icmp"), tsr: TS("192.0.2.0/24/icmp"), says: "narrowed it to"},
		"one end narrowed to it":   {tsi: westNet, tsr: ts.Set{echoR}, says: "narrowed it to"},
		"narrowing=yes, to it":     {change: narrows, tsi: ts.Set{echoI}, tsr: ts.Set{echoR}, says: "narrowed it to the packet's"},
		"narrowing=yes, its type":  {change: narrows, tsi: TS("192.0.1.0/24/icmp/2048"), tsr: TS("192.0.2.0/24/icmp/2048"), says: "narrowed it to the packet's"},
		"wider":                    {tsi: wideWest.First(echoI), tsr: eastNet.First(echoR), says: "the wider"},
	} {
		t.Run(name, func(t *testing.T) {
			w := onlyFirst(t, tc.change, tc.tsi, tc.tsr)
			w.Settle()
			said(t, w.West, tc.says, "asking once more, without the selectors of the packet")
			asks(t, w.West, westNet, eastNet)
			protects(t, w.West, westNet, eastNet)
			if len(w.West.Installed) != 1 || len(w.West.Reserved) != 0 || w.West.count(event.KindChildFailed) != 0 || w.West.count(event.KindChildUp) != 1 {
				t.Errorf("installed %v, reserved %v\n%v", w.West.Installed, w.West.Reserved, w.West.Lines())
			}
			if tc.tsi != nil {
				agreed(t, w) // the other is deleted
			}
		})
	}
}

// TestPacketRepeatedInTheAnswer: an answer may hold the packet's selectors beside what they are a part of; they add nothing.
func TestPacketRepeatedInTheAnswer(t *testing.T) {
	for name, tc := range map[string]struct{ tsi, tsr ts.Set }{
		"first": {westNet.First(echoI), eastNet.First(echoR)},
		"last":  {append(TS("192.0.1.0/24"), echoI), append(TS("192.0.2.0/24"), echoR)},
		"once":  {westNet, eastNet.First(echoR)},
	} {
		t.Run(name, func(t *testing.T) {
			w := onlyFirst(t, nil, tc.tsi, tc.tsr)
			if len(w.West.Out) != 0 {
				t.Errorf("asks again: %v", w.West.Lines())
			}
			w.Settle()
			agreed(t, w)
			protects(t, w.West, westNet, eastNet)
		})
	}
}

// TestAskedWithoutThePacketOnce: when that comes to nothing too, it is told, and that is all.
func TestAskedWithoutThePacketOnce(t *testing.T) {
	w := Pair(1, nil, func(c *policy.Connection) { selectors(c, TS("172.16.0.0/12"), TS("172.31.0.0/16")) })
	w.West.need(echo, w.West.UDP())
	w.Settle()
	said(t, w.West, "asking once more")
	asks(t, w.West, westNet, eastNet)
	if n := w.West.count(event.KindChildFailed); n != 1 {
		t.Errorf("west told of %d failures\n%v", n, w.West.Lines())
	}
	childless(t, w, event.ReasonTSUnacceptable, iana.TS_UNACCEPTABLE)

	w = upTwo(t, false, same, func(c *policy.Connection) { c.Children = c.Children[:1] })
	w.West.Step(machine.OpenChild{Conn: w.West.Conn, Index: 1, Packet: ts.Packet{
		Src: netip.MustParseAddrPort("10.1.0.1:0"), Dst: netip.MustParseAddrPort("10.2.0.1:22"), Protocol: 6,
	}})
	w.Settle()
	said(t, w.West, "asking once more")
	unmade(t, w, iana.TS_UNACCEPTABLE)
	if n := w.West.count(event.KindChildFailed); n != 1 {
		t.Errorf("west told of %d failures\n%v", n, w.West.Lines())
	}
}

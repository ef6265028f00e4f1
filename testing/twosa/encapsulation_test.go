package twosa

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
)

var natOutside = addr("203.0.113.9")

// nats are the ways between west and east.
var nats = map[string]func(*World) path.Path{
	"no NAT": func(w *World) path.Path { return w.West.UDP() },
	"west behind a NAT": func(w *World) path.Path {
		nat := NAT{Inside: WestAddr, Outside: natOutside, First: 30000}
		w.Net = nat.Translate
		return w.West.UDP()
	},
	"east behind a NAT": func(w *World) path.Path { // that forwards to it what comes to its ports
		w.Net = func(p Packet) (Packet, bool) {
			if p.Path.Remote.Addr() == natOutside {
				p.Path.Remote = netip.AddrPortFrom(EastAddr, p.Path.Remote.Port())
			}
			if p.Path.Local.Addr() == EastAddr {
				p.Path.Local = netip.AddrPortFrom(natOutside, p.Path.Local.Port())
			}
			return p, true
		}
		p := w.West.UDP()
		p.Remote = netip.AddrPortFrom(natOutside, iana.PortIKE)
		return p
	},
}

// encapsulated is Pair with a value of encapsulation= on each end; both have plain ESP.
func encapsulated(west, east policy.Encapsulation) *World {
	set := func(e policy.Encapsulation) func(*policy.Connection) {
		return func(c *policy.Connection) {
			c.Encapsulation, c.Liveness = e, 10*time.Second
			c.Positions["encapsulation"] = "ipsec.conf:13"
		}
	}
	w := Pair(5, set(west), set(east))
	w.West.PlainESP, w.East.PlainESP = true, true
	return w
}

// childPath is the path of a host's only child, as installed.
func (h *Host) childPath(t *testing.T) path.Path {
	t.Helper()
	for _, c := range h.Installed {
		if s := h.M.Snapshot(); len(s.Children) != 1 || s.Children[0].Path != c.Path {
			t.Errorf("%s: installed on %s, status says %+v", h.Name, c.Path, s.Children)
		}
		return c.Path
	}
	t.Fatalf("%s has no child", h.Name)
	return path.Path{}
}

// TestEncapsulation: every value of encapsulation= on both ends, with and without a NAT on either side (RFC 7296 2.23). ESP goes in UDP where there is a NAT or
// one end asks for it, but never from an end that forbids it; IKE floats to port 4500 in the same cases, and stays on 500 otherwise.
func TestEncapsulation(t *testing.T) {
	values := []policy.Encapsulation{policy.EncapAuto, policy.EncapYes, policy.EncapNo}
	for name, between := range nats {
		for _, west := range values {
			for _, east := range values {
				t.Run(fmt.Sprintf("%s/%s-%s", name, west, east), func(t *testing.T) {
					w := encapsulated(west, east)
					w.West.Initiate(between(w))
					w.Settle()
					agreed(t, w)
					inUDP := name != "no NAT" || west == policy.EncapYes || east == policy.EncapYes
					for _, h := range []*Host{w.West, w.East} {
						checkCarrier(t, h, inUDP, h.Conn.Encapsulation)
						behind := name == h.Name+" behind a NAT"
						if s := h.M.Snapshot(); s.NATLocal != behind || len(h.KeepAlives) > 0 != behind {
							t.Errorf("%s: behind a NAT %v, keepalives %v", h.Name, s.NATLocal, h.KeepAlives)
						}
					}
				})
			}
		}
	}
}

// checkCarrier compares where a host's IKE and ESP are with where they belong.
func checkCarrier(t *testing.T, h *Host, inUDP bool, e policy.Encapsulation) {
	t.Helper()
	ike, esp := h.M.Snapshot().Path, h.childPath(t)
	port, want, carrier := uint16(iana.PortIKE), ike.PlainESP(), "{ESP/ESN=>"
	if inUDP {
		port = iana.PortIKENATT
	}
	if inUDP && e != policy.EncapNo {
		want, carrier = ike, "{ESPinUDP/ESN=>"
	}
	if ike.Kind != path.UDP || ike.Local.Port() != port {
		t.Errorf("%s: IKE is on %s, want port %d", h.Name, ike, port)
	}
	if esp != want {
		t.Errorf("%s: ESP is on %s, want %s", h.Name, esp, want)
	}
	said(t, h, "established Child SA", carrier)
	if inUDP && e == policy.EncapNo {
		said(t, h, "encapsulation=no (encapsulation= of ipsec.conf:13)", "few NATs", "encapsulation=auto")
	}
}

// TestEncapsulationOnStreams: on a stream ESP is on the stream, whatever encapsulation= says (RFC 9329 6.5), and whatever the datapath can do.
func TestEncapsulationOnStreams(t *testing.T) {
	for _, plain := range []bool{true, false} {
		for _, e := range []policy.Encapsulation{policy.EncapAuto, policy.EncapYes, policy.EncapNo} {
			w := encapsulated(e, e)
			w.West.PlainESP, w.East.PlainESP = plain, plain
			p := w.West.TCP()
			w.West.Initiate(p)
			w.Settle()
			agreed(t, w)
			if got := w.West.childPath(t); got != p {
				t.Errorf("encapsulation=%s: ESP is on %s", e, got)
			}
			if s := w.East.M.Snapshot(); s.NATLocal || s.NATRemote || s.Forced {
				t.Errorf("encapsulation=%s: a NAT on a stream without one: %+v", e, s)
			}
		}
	}
}

// TestWithoutPlainESP: where a datapath has none it asks for ESP in UDP, and a peer that could do without follows.
func TestWithoutPlainESP(t *testing.T) {
	for _, who := range []string{"west", "east"} {
		w := encapsulated(policy.EncapAuto, policy.EncapAuto)
		w.West.PlainESP, w.East.PlainESP = who != "west", who != "east"
		w.West.Initiate(w.West.UDP())
		w.Settle()
		agreed(t, w)
		for _, h := range []*Host{w.West, w.East} {
			checkCarrier(t, h, true, policy.EncapAuto)
			if s := h.M.Snapshot(); s.Forced != (h.Name == who) {
				t.Errorf("%s forces encapsulation: %v", h.Name, s.Forced)
			}
		}
	}
}

// TestPlainESPForbiddenAndImpossible: encapsulation=no without plain ESP gets a word that names the line: the initiator looks for another path, which a stream is;
// the responder refuses the child, and keeps the IKE SA.
func TestPlainESPForbiddenAndImpossible(t *testing.T) {
	w := encapsulated(policy.EncapNo, policy.EncapAuto)
	w.West.PlainESP = false
	w.West.Initiate(w.West.UDP())
	if len(w.West.NeedPaths) != 1 || w.West.NeedPaths[0].Why.Reason != event.ReasonPathFailed || len(w.West.Sent) != 0 {
		t.Fatalf("asked for another path %+v, sent %d messages", w.West.NeedPaths, len(w.West.Sent))
	}
	if why := w.West.NeedPaths[0].Why.Detail; !containsAll(why, []string{"encapsulation=no", "ipsec.conf:13", "enable-tcp=yes"}) {
		t.Error(why)
	}
	w.West.Step(machine.PathReady{Path: w.West.TCP(), SPI: w.West.SPI()})
	w.Settle()
	agreed(t, w)

	w = encapsulated(policy.EncapAuto, policy.EncapNo)
	w.East.PlainESP = false
	w.West.Initiate(w.West.UDP())
	w.Settle()
	for _, h := range []*Host{w.West, w.East} {
		if s := h.M.Snapshot(); s.State != "established" || len(s.Children) != 0 {
			t.Errorf("%s: %+v", h.Name, s)
		}
	}
	said(t, w.East, "refused Child SA", "encapsulation=no", "ipsec.conf:13", "enable-tcp=yes")
}

// TestNoNATTraversalButPlainESP: a responder that knows nothing of NAT traversal gets plain ESP, on port 500, unless encapsulation=yes forbids that. To an
// initiator that knows nothing of it nothing is said of NATs either.
func TestNoNATTraversalButPlainESP(t *testing.T) {
	for _, e := range []policy.Encapsulation{policy.EncapAuto, policy.EncapYes} {
		w := encapsulated(e, e)
		w.West.Initiate(w.West.UDP())
		w.West.Deliver()
		w.East.Out[0] = withoutNATDetection(w.East.Out[0])
		w.East.Deliver()
		s := w.West.M.Snapshot()
		if e == policy.EncapYes {
			said(t, w.West, "NAT_DETECTION", "encapsulation=yes (encapsulation= of ipsec.conf:13)", "enable-tcp=yes")
		} else if s.State != "IKE_AUTH sent" || s.Path.Remote.Port() != iana.PortIKE {
			t.Errorf("west is %s, on %s", s.State, s.Path)
		}

		w = encapsulated(policy.EncapAuto, e)
		w.West.Initiate(w.West.UDP())
		w.West.Out[0] = withoutNATDetection(w.West.Out[0])
		w.West.Deliver()
		msg, err := wire.Parse(w.East.Out[0].Data)
		if s := w.East.M.Snapshot(); err != nil || len(msg.Payloads) != 3 || s.Forced || s.NATRemote {
			t.Errorf("east answered with %d payloads: %+v, %v", len(msg.Payloads), s, err)
		}
	}
}

// withoutNATDetection is an IKE_SA_INIT message with its last payloads, the NAT_DETECTION notifications, cut off.
func withoutNATDetection(p Packet) Packet {
	msg, err := wire.Parse(p.Data)
	if err != nil {
		panic(err)
	}
	msg.Payloads = msg.Payloads[:3]
	p.Data = msg.AppendTo(nil)
	return p
}

// TestStaysOn500ButPlainESP: a peer that found a NAT, or was asked for encapsulation, and stays on port 500 all the same gets plain ESP, since UDP carries none there;
// with encapsulation=yes here it is refused.
func TestStaysOn500ButPlainESP(t *testing.T) {
	for _, e := range []policy.Encapsulation{policy.EncapAuto, policy.EncapYes} {
		w := encapsulated(policy.EncapYes, e)
		w.Net = func(p Packet) (Packet, bool) {
			p.Path.Local = netip.AddrPortFrom(p.Path.Local.Addr(), iana.PortIKE)
			p.Path.Remote = netip.AddrPortFrom(p.Path.Remote.Addr(), iana.PortIKE)
			return p, true
		}
		w.West.Initiate(w.West.UDP())
		w.Settle()
		if e == policy.EncapYes {
			said(t, w.East, "refused Child SA", "port 500", "ipsec.conf:13 forbids", "encapsulation=yes there")
			continue
		}
		if p := w.East.childPath(t); p.Kind != path.ESP {
			t.Errorf("ESP is on %s", p)
		}
	}
}

// TestFloatedWithoutNAT: a peer may be on port 4500 although there is no NAT (one with MOBIKE is): its ESP is plain all the same.
func TestFloatedWithoutNAT(t *testing.T) {
	w := encapsulated(policy.EncapAuto, policy.EncapAuto)
	p := w.West.UDP()
	p.Local, p.Remote = netip.AddrPortFrom(WestAddr, iana.PortIKENATT), netip.AddrPortFrom(EastAddr, iana.PortIKENATT)
	w.West.Initiate(p)
	w.Settle()
	agreed(t, w)
	for _, h := range []*Host{w.West, w.East} {
		if s := h.M.Snapshot(); s.Path.Local.Port() != iana.PortIKENATT || h.childPath(t) != s.Path.PlainESP() {
			t.Errorf("%s: IKE on %s, ESP on %s", h.Name, s.Path, h.childPath(t))
		}
	}
}

// TestPlainESPDoesNotMove: authentic IKE from another address moves nothing where no NAT was found; behind one, with encapsulation=no, plain ESP follows the
// address but not the port.
func TestPlainESPDoesNotMove(t *testing.T) {
	w := encapsulated(policy.EncapAuto, policy.EncapAuto)
	w.West.Initiate(w.West.UDP())
	w.Settle()
	w.Net = func(p Packet) (Packet, bool) {
		if p.Path.Local.Addr() == WestAddr {
			p.Path.Local = netip.AddrPortFrom(natOutside, p.Path.Local.Port())
		}
		return p, true
	}
	before := w.East.childPath(t)
	w.Run(15 * time.Second)
	if len(w.East.Moves) != 0 || w.East.M.Snapshot().Children[0].Path != before {
		t.Errorf("moved to %+v", w.East.Moves)
	}

	w = encapsulated(policy.EncapAuto, policy.EncapNo)
	nat := NAT{Inside: WestAddr, Outside: natOutside, First: 30000}
	w.Net = nat.Translate
	w.West.Initiate(w.West.UDP())
	w.Settle()
	nat.Rebind()
	w.Run(15 * time.Second)
	said(t, w.East, "peer has moved")
	if len(w.East.Moves) != 0 {
		t.Errorf("another port moved plain ESP: %+v", w.East.Moves)
	}
	nat.Outside = addr("203.0.113.10")
	nat.Rebind()
	w.Net = func(p Packet) (Packet, bool) {
		if p.Path.Remote.Addr() == natOutside {
			return p, false
		}
		return nat.Translate(p)
	}
	w.Run(15 * time.Second)
	if len(w.East.Moves) != 1 || w.East.Moves[0].Path != w.East.M.Snapshot().Path.PlainESP() || w.East.Moves[0].Path.Remote.Addr() != nat.Outside {
		t.Errorf("another address: moves %+v, IKE on %s", w.East.Moves, w.East.M.Snapshot().Path)
	}
}

// TestEncapsulationOfCandidates: a responder does not know in IKE_SA_INIT which connection it will be. That one of them wants encapsulation is enough.
func TestEncapsulationOfCandidates(t *testing.T) {
	w := encapsulated(policy.EncapAuto, policy.EncapAuto)
	other := Connection()
	other.Name, other.Encapsulation, other.Right.ID.ID = "other", policy.EncapYes, ID("@elsewhere")
	w.East.Candidates = append(w.East.Candidates, Oriented(other, false))
	w.West.Initiate(w.West.UDP())
	w.Settle()
	agreed(t, w)
	if s := w.East.M.Snapshot(); s.Conn != "west-east" || !s.Forced {
		t.Errorf("east: %+v", s)
	}
	checkCarrier(t, w.West, true, policy.EncapAuto)
	checkCarrier(t, w.East, true, policy.EncapAuto)
}

// TestEncapsulationOfLaterChildren: each child of an IKE SA goes as its own connection says. One that was loaded later and wants ESP in UDP cannot have it any more
// where that was not agreed; it is refused, and not sent as plain ESP.
func TestEncapsulationOfLaterChildren(t *testing.T) {
	for later, want := range map[policy.Encapsulation]path.Kind{policy.EncapAuto: path.UDP, policy.EncapYes: path.UDP, policy.EncapNo: path.ESP} {
		for _, first := range []policy.Encapsulation{policy.EncapYes, policy.EncapAuto} {
			w := encapsulated(first, policy.EncapAuto)
			w.West.Initiate(w.West.UDP())
			w.Settle()
			agreed(t, w)
			other := Connection()
			other.Name, other.Children[0].Name, other.Encapsulation, other.Positions["encapsulation"] = "other", "other", later, "ipsec.conf:23"
			selectors(other, TS("10.1.0.0/16"), TS("10.2.0.0/16"))
			w.East.Candidates = append(w.East.Candidates, Oriented(other, false))
			w.West.Step(machine.OpenChild{Conn: Oriented(other, true), Index: 0})
			w.Settle()
			children := w.East.M.Snapshot().Children
			if first == policy.EncapAuto && later == policy.EncapYes {
				said(t, w.East, "made without ESP in UDP", "ipsec.conf:23 forbids")
				if len(children) != 1 {
					t.Errorf("east has %+v", children)
				}
				continue
			}
			if first == policy.EncapAuto {
				want = path.ESP
			}
			if len(children) != 2 || children[1].Path.Kind != want || w.West.M.Snapshot().Children[1].Path.Kind != want {
				t.Errorf("encapsulation=%s after %s: %+v", later, first, children)
			}
		}
	}
}

// TestEncapsulationOnOwnPorts: on a port that an end has for itself ESP goes into UDP, and with encapsulation=no only there it does not. Both ends stay where they began.
func TestEncapsulationOnOwnPorts(t *testing.T) {
	for _, ports := range [][2]uint16{{7000, 0}, {0, 7001}, {7000, 7001}} {
		for _, e := range []policy.Encapsulation{policy.EncapAuto, policy.EncapNo} {
			w := encapsulated(e, e)
			for _, h := range []*Host{w.West, w.East} {
				h.Conn.Left.IKEPort, h.Conn.Right.IKEPort = ports[0], ports[1]
			}
			p := w.West.UDP()
			local, remote := w.West.Conn.UDPPorts()
			p.Local, p.Remote = netip.AddrPortFrom(p.Local.Addr(), local), netip.AddrPortFrom(p.Remote.Addr(), remote)
			w.West.Initiate(p)
			w.Settle()
			agreed(t, w)
			for _, h := range []*Host{w.West, w.East} {
				want := h.M.Snapshot().Path
				if e == policy.EncapNo {
					want = want.PlainESP()
				}
				if got := h.childPath(t); got != want {
					t.Errorf("ports %v, encapsulation=%s: ESP of %s is on %s, IKE on %s", ports, e, h.Name, got, h.M.Snapshot().Path)
				}
			}
			if got := w.West.M.Snapshot().Path; got != p {
				t.Errorf("ports %v: west went from %s to %s", ports, p, got)
			}
		}
	}
}

package twosa

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/pkg/wire"
)

// transport makes a connection one of type=transport between the hosts, or of tunnel mode between them.
func transport(on bool) func(*policy.Connection) {
	return func(c *policy.Connection) {
		selectors(c, nil, nil)
		c.Children[0].Transport = on
		c.Positions["type"] = "ipsec.conf:13"
	}
}

// TestTransportModeBehindNAT is the scenario of RFC 7296 2.23.1 with a NAT on neither side, either, or both; the Child SA is made in IKE_AUTH, and another by
// CREATE_CHILD_SA from either end.
func TestTransportModeBehindNAT(t *testing.T) {
	ipn1, ipn2 := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2")
	for _, kind := range []path.Kind{path.UDP, path.TCP} {
		for _, nats := range []struct{ a, b bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
			for _, asker := range []string{"", "west", "east"} {
				t.Run(fmt.Sprintf("%s,%v,%s", kind, nats, asker), func(t *testing.T) {
					w := Pair(3, both(transport(true), twoProtocols), both(transport(true), twoProtocols))
					westSeen, eastSeen := WestAddr, EastAddr // by the other end
					if nats.a {
						westSeen = ipn1
					}
					if nats.b {
						eastSeen = ipn2
					}
					one := func(a netip.Addr) ts.Set { return ts.Set{{Start: a, End: a, Protocol: 17, EndPort: 65535}} }
					w.West.Conn.Children[1].Left, w.West.Conn.Children[1].Right = one(WestAddr), one(eastSeen)
					w.East.Conn.Children[1].Left, w.East.Conn.Children[1].Right = one(westSeen), one(EastAddr)
					w.West.Conn.RemoteAddr = eastSeen
					w.East.Conn.RemoteAddr = netip.Addr{} // %any
					nat := NAT{Inside: WestAddr, Outside: ipn1, First: 30000}
					w.Net = func(p Packet) (Packet, bool) {
						ok := true
						if nats.a {
							p, ok = nat.Translate(p)
						}
						if p.Path.Remote.Addr() == ipn2 { // NAT B is static
							p.Path.Remote = netip.AddrPortFrom(EastAddr, p.Path.Remote.Port())
						} else if nats.b && p.Path.Local.Addr() == EastAddr {
							p.Path.Local = netip.AddrPortFrom(ipn2, p.Path.Local.Port())
						}
						return p, ok
					}
					p := w.West.UDP()
					if kind == path.TCP {
						p = w.West.TCP()
					}
					p.Remote = netip.AddrPortFrom(eastSeen, p.Remote.Port())
					w.West.Initiate(p)
					w.Settle()
					protocol, children := uint8(0), 1
					if asker != "" {
						h := w.West
						if asker == "east" {
							h = w.East
						}
						h.Step(machine.OpenChild{Conn: h.Conn, Index: 1})
						w.Settle()
						protocol, children = 17, 2
					}
					for _, side := range []struct {
						h                                            *Host
						local, remote, originalLocal, originalRemote netip.Addr
					}{{w.West, WestAddr, eastSeen, westSeen, EastAddr}, {w.East, EastAddr, westSeen, eastSeen, WestAddr}} {
						if len(side.h.Installed) != children {
							t.Fatalf("%s: %d children\n%v\n%v", side.h.Name, len(side.h.Installed), w.West.Lines(), w.East.Lines())
						}
						for _, i := range side.h.Installed {
							if i.Index != children-1 {
								continue
							}
							l, r := i.Local[0], i.Remote[0]
							if !i.Transport || len(i.Local)+len(i.Remote) != 2 || l.Start != side.local || l.End != side.local || r.Start != side.remote || r.End != side.remote ||
								l.Protocol != protocol || r.Protocol != protocol {
								t.Errorf("%s: transport mode %v, %v===%v", side.h.Name, i.Transport, i.Local, i.Remote)
							}
							if i.OriginalLocal != side.originalLocal || i.OriginalRemote != side.originalRemote {
								t.Errorf("%s: originals %v and %v", side.h.Name, i.OriginalLocal, i.OriginalRemote)
							}
						}
					}
					// What one end computes checksums with is what the other takes for the original.
					for _, pair := range [][2]*Host{{w.West, w.East}, {w.East, w.West}} {
						for _, i := range pair[0].Installed {
							j := pair[1].Installed[i.SPIOut]
							if i.OriginalRemote != j.Local[0].Start || i.OriginalLocal != j.Remote[0].Start {
								t.Errorf("%s takes %v and %v for the originals, %s has %v===%v", pair[0].Name, i.OriginalRemote, i.OriginalLocal, pair[1].Name, j.Local, j.Remote)
							}
						}
					}
					said(t, w.West, "IPsec transport [")
					said(t, w.East, "IPsec transport [")
				})
			}
		}
	}
}

// twoProtocols adds a child, whose selectors are set later.
func twoProtocols(c *policy.Connection) {
	second := c.Children[0]
	second.Name = c.Name + "/2"
	c.Children = append(c.Children, second)
}

// TestModesDiffer: who asks for transport mode and gets tunnel mode deletes the child; who insists on it refuses tunnel mode (RFC 7296 1.3.1).
func TestModesDiffer(t *testing.T) {
	t.Run("asked and not got", func(t *testing.T) {
		w := Pair(1, transport(true), transport(false))
		w.West.Initiate(w.West.UDP())
		w.Settle()
		said(t, w.West, "asked for transport mode (type= of ipsec.conf:13)", "tunnel mode", "deleting it at the peer", "the same type= at both ends")
		for _, h := range []*Host{w.West, w.East} {
			if s := h.M.Snapshot(); s.State != "established" || len(s.Children)+len(h.Installed)+len(h.Reserved) != 0 {
				t.Errorf("%s: %+v", h.Name, s)
			}
		}
	})
	t.Run("not asked and wanted", func(t *testing.T) {
		w := Pair(1, transport(false), transport(true))
		w.West.Initiate(w.West.UDP())
		w.Settle()
		said(t, w.East, `"west-east" is type=transport (type= of ipsec.conf:13)`, "asks for tunnel mode", "NO_PROPOSAL_CHOSEN")
		said(t, w.West, "NO_PROPOSAL_CHOSEN", "type=")
		childless(t, w, event.ReasonNoProposal, iana.NO_PROPOSAL_CHOSEN)
	})
	t.Run("asked and nothing fits", func(t *testing.T) {
		w := Pair(1, transport(true), nil)
		w.West.Initiate(w.West.UDP())
		w.Settle()
		said(t, w.East, "asked for transport mode", "no connection for it is type=transport here")
		childless(t, w, event.ReasonTSUnacceptable, iana.TS_UNACCEPTABLE)
	})
	t.Run("not asked and got", func(t *testing.T) {
		w := Pair(1, transport(false), transport(false))
		w.West.Initiate(w.West.UDP())
		w.West.Deliver()
		w.East.Deliver()
		w.West.Deliver()
		real := inside(t, w.East, w.East.Out[0])
		w.East.Out = nil
		p := w.East.Forge(iana.IKE_AUTH, 1, true, append(real, Notify(iana.USE_TRANSPORT_MODE))...)
		p.Path = w.East.Sent[1].Path
		w.East.Inject(p)
		said(t, w.West, "the peer has made it in transport mode, which was not asked for")
		if len(w.West.Installed) != 0 || len(w.West.Out) != 1 {
			t.Errorf("installed %v, %d requests to delete it", w.West.Installed, len(w.West.Out))
		}
	})
}

// TestTransportModeIsBetweenTheHosts: selectors of anything else are refused in transport mode, whatever the connection says.
func TestTransportModeIsBetweenTheHosts(t *testing.T) {
	networks := func(c *policy.Connection) { c.Children[0].Transport = true }
	w := Pair(1, networks, networks)
	w.West.Initiate(w.West.UDP())
	w.Settle()
	said(t, w.East, "is between the two hosts of the IKE SA, here 192.1.2.23 and 192.1.2.45", "192.0.1.0/24")
	childless(t, w, event.ReasonTSUnacceptable, iana.TS_UNACCEPTABLE)
}

// TestTransportModeIsPreferred: who asks for it gets the connection that has it, though another would do in tunnel mode.
func TestTransportModeIsPreferred(t *testing.T) {
	w := Pair(1, transport(true), transport(false))
	second := Connection()
	transport(true)(second)
	second.Name, second.Children[0].Name = "second", "second"
	w.East.Candidates = append(w.East.Candidates, Oriented(second, false))
	w.West.Initiate(w.West.UDP())
	w.Settle()
	if len(w.East.Installed) != 1 {
		t.Fatalf("%v\n%v", w.West.Lines(), w.East.Lines())
	}
	for _, i := range w.East.Installed {
		if !i.Transport || i.Conn.Name != "second" {
			t.Errorf("transport mode %v of %q", i.Transport, i.Conn.Name)
		}
	}
	if _, ok := wire.GetNotify(inside(t, w.East, w.East.Sent[1]), iana.USE_TRANSPORT_MODE); !ok {
		t.Error("not agreed to")
	}
}

package engine

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/ts"
)

// establishes is an initiator whose peer grants what it is asked for.
func establishes(m *script, in machine.Input) []machine.Effect {
	up := func(index int) machine.Effect {
		o := m.candidates[0]
		return machine.Emit{Event: event.Event{Kind: event.KindChildUp, Level: event.Info, Conn: o.Name, Child: o.Children[index].Name}}
	}
	install := func(index int, spi uint32) machine.Effect {
		i := installEffect(m, machine.ChildID(index+1), spi, m.inputs[0].(machine.Start).Path)
		i.Index, i.Local, i.Remote = index, i.Conn.LocalTS(index), i.Conn.RemoteTS(index)
		return i
	}
	switch in := in.(type) {
	case machine.Start:
		return []machine.Effect{
			machine.Authenticated{Conn: m.candidates[0], Local: ident.FromAddr(us), Remote: ident.FromAddr(them), Path: in.Path},
			machine.Emit{Event: event.Event{Kind: event.KindIKEUp, Level: event.Info}},
			machine.ReserveSPI{Child: 1},
		}
	case machine.OpenChild:
		return []machine.Effect{machine.ReserveSPI{Child: machine.ChildID(in.Index + 1)}}
	case machine.SPIReserved:
		return []machine.Effect{install(int(in.Child)-1, in.SPI)}
	case machine.InstallDone:
		return []machine.Effect{up(int(in.Child) - 1)}
	case machine.CloseIKE:
		return []machine.Effect{machine.Close{Close: event.Close{Reason: in.Reason}}}
	}
	return nil
}

// needed is a packet from inside here to inside there.
var needed = ts.Packet{Src: netip.MustParseAddrPort("192.0.2.1:2048"), Dst: netip.MustParseAddrPort("192.0.1.1:2048"), Protocol: 1}

// packetFor is one that meets the trap of a policy.
func (r *rig) packetFor(id kernel.PolicyID) {
	r.dp.Emit(kernel.Acquire{Policy: id, Src: needed.Src, Dst: needed.Dst, Protocol: needed.Protocol})
	synctest.Wait()
}

// carried are the packets that the machines were started and asked with, in order.
func (r *rig) carried() (list []ts.Packet) {
	for _, m := range r.machines() {
		for _, in := range m.inputs {
			switch in := in.(type) {
			case machine.Start:
				list = append(list, in.Packet)
			case machine.OpenChild:
				list = append(list, in.Packet)
			}
		}
	}
	return list
}

// onDemand is a connection of two Child SAs that waits for a packet.
func onDemand(name string) *policy.Connection {
	c := connection(name)
	c.Auto = policy.AutoOnDemand
	second := c.Children[0]
	c.Children[0].Name, second.Name = name+"/1", name+"/2"
	c.Children = append(c.Children, second)
	return c
}

// TestDemand: the packet that a connection comes up for goes with the request for the Child SA that it is for, and with no other; what comes up on an IKE SA that is there
// takes its own along.
func TestDemand(t *testing.T) {
	none := ts.Packet{}
	for name, tc := range map[string]struct {
		policies []kernel.PolicyID
		want     []ts.Packet
	}{
		"for the first":           {[]kernel.PolicyID{"a/1"}, []ts.Packet{needed, none}},
		"for the second":          {[]kernel.PolicyID{"a/2"}, []ts.Packet{none, needed}},
		"another connection too":  {[]kernel.PolicyID{"a/1", "b/2"}, []ts.Packet{needed, none, none, needed}},
		"the same again":          {[]kernel.PolicyID{"a/1", "a/2"}, []ts.Packet{needed, none}},
		"of a policy not its own": {[]kernel.PolicyID{"c/1"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{local: map[netip.Addr]bool{us: true}}
			inWorld(t, w, establishes, []*policy.Connection{onDemand("a"), onDemand("b")}, func(t *testing.T, r *rig) {
				for _, id := range tc.policies {
					r.packetFor(id)
				}
				if got := r.carried(); !slices.Equal(got, tc.want) {
					t.Errorf("carried %v, want %v", got, tc.want)
				}
			})
		})
	}
}

// TestDemandOfAName: it is not forgotten while the peer's name is looked up, and not on the way from one of its addresses to the next.
func TestDemandOfAName(t *testing.T) {
	other := netip.MustParseAddr("192.1.2.99")
	w := &world{local: map[netip.Addr]bool{us: true}}
	inWorld(t, w, refuses, []*policy.Connection{atName("gw.example", policy.AutoOnDemand)}, func(t *testing.T, r *rig) {
		w.set(func() { w.names = map[string][]netip.Addr{"gw.example": {them, other}} })
		r.packetFor("named")
		time.Sleep(time.Second)
		got := r.carried()
		if len(got) == 0 || slices.ContainsFunc(got, func(p ts.Packet) bool { return p != needed }) {
			t.Errorf("asked %v with %v", r.peers(), got)
		}
	})
}

// TestDemandInVain: a round that has failed with a packet may have done so because of it: the next one goes without, and the one after that with it again. Nor does `up`
// have one.
func TestDemandInVain(t *testing.T) {
	w := &world{local: map[netip.Addr]bool{us: true}}
	c := connection("a")
	c.Auto = policy.AutoOnDemand
	inWorld(t, w, refuses, []*policy.Connection{c}, func(t *testing.T, r *rig) {
		none := ts.Packet{}
		for range 3 {
			r.packetFor("a")
		}
		if got, want := r.carried(), []ts.Packet{needed, none, needed}; !slices.Equal(got, want) {
			t.Errorf("carried %v, want %v", got, want)
		}
		if err := r.e.Up(t.Context(), "a", nil); err == nil {
			t.Error("up")
		}
		if got := r.carried(); got[3] != none {
			t.Errorf("up carried %v", got[3])
		}
	})
}

// TestDemandOfAPeerThatDoesNotBearIt: where asking once more without the packet has helped, the next packet is not said at all; where it has not, it was not for the packet.
func TestDemandOfAPeerThatDoesNotBearIt(t *testing.T) {
	none := ts.Packet{}
	refusing := machine.Emit{Event: event.Event{Kind: event.KindPacketRefused, Conn: "a", Child: "a"}}
	for name, tc := range map[string]struct {
		helps bool
		want  []ts.Packet
	}{
		"helps":         {true, []ts.Packet{needed, none, none}},
		"does not help": {false, []ts.Packet{needed, none, needed}},
	} {
		t.Run(name, func(t *testing.T) {
			do := func(m *script, in machine.Input) []machine.Effect {
				_, started := in.(machine.Start)
				switch {
				case !tc.helps && started:
					return append([]machine.Effect{refusing}, refuses(m, in)...)
				case !tc.helps:
					return refuses(m, in)
				case started:
					return append([]machine.Effect{refusing}, establishes(m, in)...)
				}
				return establishes(m, in)
			}
			c := connection("a")
			c.Auto = policy.AutoOnDemand
			w := &world{local: map[netip.Addr]bool{us: true}}
			inWorld(t, w, do, []*policy.Connection{c}, func(t *testing.T, r *rig) {
				for range 3 {
					r.packetFor("a")
					if err := r.e.Down(t.Context(), "a", nil); err != nil {
						t.Fatal(err)
					}
				}
				if got := r.carried(); !slices.Equal(got, tc.want) {
					t.Errorf("carried %v, want %v", got, tc.want)
				}
			})
		})
	}
}

package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/wire"
	"github.com/ikegod/ikegod/transport"
)

// authentic is what a responder does when its peer has proved its identity.
func authentic(m *script, p path.Path) machine.Effect {
	o := m.candidates[0]
	return machine.Authenticated{Conn: o, Local: ident.FromAddr(us), Remote: ident.FromAddr(them), Path: p}
}

func installEffect(m *script, id machine.ChildID, spi uint32, p path.Path) machine.Install {
	o := m.candidates[0]
	return machine.Install{
		Child: id, Conn: o, SPIIn: spi, SPIOut: 0x9000 + spi, Path: p, Local: o.LocalTS(0), Remote: o.RemoteTS(0),
		In: machine.Keys{Encr: fmt.Appendf(nil, "in %d", spi)}, Out: machine.Keys{Encr: fmt.Appendf(nil, "out %d", spi)},
	}
}

// responder scripts a machine that reserves an SPI on its first message, installs a child with it, and closes on CloseIKE.
func responder(m *script, in machine.Input) []machine.Effect {
	switch in := in.(type) {
	case machine.Datagram:
		if len(m.inputs) == 1 {
			return []machine.Effect{authentic(m, in.Path), machine.ReserveSPI{Child: 1}}
		}
	case machine.SPIReserved:
		if in.Err != nil {
			return nil
		}
		return []machine.Effect{installEffect(m, in.Child, in.SPI, m.inputs[0].(machine.Datagram).Path)}
	case machine.InstallDone:
		if in.Err == nil {
			return []machine.Effect{machine.Emit{Event: event.Event{Kind: event.KindIKEUp, Level: event.Info, Text: "established"}}}
		}
	case machine.CloseIKE:
		return []machine.Effect{machine.Close{Close: event.Close{Reason: in.Reason}}}
	}
	return nil
}

func (r *rig) stranger(spi wire.SPI) {
	r.e.IKE(transport.Datagram{Path: udp("192.1.2.45:500"), Data: initRequest(spi, nil)})
	synctest.Wait()
}

// to sends a message to the IKE SA of a script.
func (r *rig) to(m *script, p path.Path) {
	r.e.IKE(transport.Datagram{Path: p, Data: header(wire.Header{InitiatorSPI: 1, ResponderSPI: m.cfg.SPI, Exchange: iana.INFORMATIONAL, Flags: wire.FlagInitiator, MessageID: 2})})
	synctest.Wait()
}

// TestChildLife: reserve, route, install, and everything gone at the end.
func TestChildLife(t *testing.T) {
	inRig(t, policy.Setup{}, responder, func(t *testing.T, r *rig) {
		r.stranger(1)
		if got := strings.Join(r.dp.Calls(), "\n"); !strings.HasPrefix(got, "ReserveSPI \nRoute west-east\nInstall west-east in=0x1000") {
			t.Errorf("calls:\n%s", got)
		}
		if s := r.e.Stats(); s.Established != 1 || s.Children != 1 || s.HalfOpen != 0 || s.ConnectionsUp != 1 {
			t.Errorf("%+v", s)
		}
		if err := r.e.Down(t.Context(), "west-east", nil); err != nil {
			t.Error(err)
		}
		if len(r.dp.Pairs())+len(r.dp.Policies())+len(r.dp.Reserved()) > 0 {
			t.Errorf("left: %v %v %v", r.dp.Pairs(), r.dp.Policies(), r.dp.Reserved())
		}
		if v := r.dp.Violations(); len(v) > 0 {
			t.Error(v)
		}
		if s := r.e.Stats(); s.IKESAs != 0 || s.Children != 0 || s.Closed[event.ReasonOperator] != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestRefusedInstall: each refusal of the datapath reaches the machine as the answer to its Install, and leaves nothing.
func TestRefusedInstall(t *testing.T) {
	for _, op := range []kernel.FakeOp{kernel.OpRoute, kernel.OpInstall, kernel.OpReserveSPI} {
		inRig(t, policy.Setup{}, responder, func(t *testing.T, r *rig) {
			refusal := errors.New("no room: buy a larger kernel")
			r.dp.Refuse(op, refusal)
			r.stranger(1)
			var got error
			switch in := r.machines()[0].inputs[len(r.machines()[0].inputs)-1].(type) {
			case machine.InstallDone:
				got = in.Err
			case machine.SPIReserved:
				got = in.Err
			}
			if !errors.Is(got, refusal) {
				t.Errorf("%s: the machine heard %v", op, got)
			}
			if len(r.dp.Pairs())+len(r.dp.Reserved()) > 0 || r.e.Stats().Children != 0 {
				t.Errorf("%s: left: %v %v", op, r.dp.Pairs(), r.dp.Reserved())
			}
			if p := r.dp.Policies(); len(p) != 0 {
				t.Errorf("%s: a connection that is not up holds traffic: %v", op, p)
			}
		})
	}
}

// TestPanic: a machine that panics loses its own IKE SA and its children; the others and the daemon go on.
func TestPanic(t *testing.T) {
	bomb := func(m *script, in machine.Input) []machine.Effect {
		if d, ok := in.(machine.Datagram); ok && len(m.inputs) > 2 && d.Data[18] == byte(iana.INFORMATIONAL) {
			panic("index out of range")
		}
		return append([]machine.Effect{machine.Emit{Event: event.Event{Text: fmt.Sprintf("got %T", in)}}}, responder(m, in)...)
	}
	inRig(t, policy.Setup{}, bomb, func(t *testing.T, r *rig) {
		r.stranger(1)
		r.stranger(2)
		first, second := r.machines()[0], r.machines()[1]
		r.to(first, udp("192.1.2.45:500"))
		s := r.e.Stats()
		if s.Panics != 1 || s.Established != 1 || s.Children != 1 || s.IKESAs != 1 {
			t.Errorf("%+v", s)
		}
		if len(r.dp.Pairs()) != 1 || len(r.dp.Violations()) > 0 {
			t.Errorf("datapath: %v %v", r.dp.Pairs(), r.dp.Violations())
		}
		told := r.told(event.KindIKEClosed)
		if len(told) != 1 || told[0].Level != event.Error || told[0].Close.Reason != event.ReasonInternal || told[0].SA != first.cfg.SPI {
			t.Fatalf("told: %+v", told)
		}
		for _, want := range []string{"index out of range", "got machine.InstallDone", "exec_test.go"} {
			if !strings.Contains(told[0].Text, want) {
				t.Errorf("the report lacks %q:\n%s", want, told[0].Text)
			}
		}
		before := len(second.inputs)
		second.do = nil
		r.to(second, udp("192.1.2.45:500"))
		if len(second.inputs) != before+1 {
			t.Error("the other IKE SA is dead too")
		}
	})
}

// TestLateCompletions: what the datapath answers after the IKE SA is gone is cleared away.
func TestLateCompletions(t *testing.T) {
	for _, after := range []int{0, 1, 2} { // completions before the end
		inRig(t, policy.Setup{}, responder, func(t *testing.T, r *rig) {
			slow := kernel.NewFake(kernel.FakeOptions{Manual: true, Events: r.e.KernelEvent})
			r.inShard(func() { r.e.dp = slow })
			r.stranger(1)
			for range after {
				slow.CompleteNext()
				synctest.Wait()
			}
			r.inShard(func() {
				for _, a := range r.s.sas {
					r.s.step(a, machine.CloseIKE{Reason: event.ReasonOperator})
				}
			})
			for slow.Complete() > 0 {
				synctest.Wait()
			}
			if len(slow.Pairs())+len(slow.Reserved())+len(slow.Policies()) > 0 {
				t.Errorf("after %d completions: pairs %v, reserved %v, policies %v", after, slow.Pairs(), slow.Reserved(), slow.Policies())
			}
			if len(r.s.requests)+len(r.s.inbound)+len(r.s.sas)+len(r.s.repeats) > 0 {
				t.Errorf("the shard keeps %v %v %v %v", r.s.requests, r.s.inbound, r.s.sas, r.s.repeats)
			}
		})
	}
}

// TestJobOrder: results come in the order of the jobs, also when the first is slow and the second fast, and the shard does not wait.
func TestJobOrder(t *testing.T) {
	slowKE, err := suite.NewExchange(iana.KE_MODP4096, zeros{})
	if err != nil {
		t.Fatal(err)
	}
	fastKE, err := suite.NewExchange(iana.KE_CURVE25519, zeros{})
	if err != nil {
		t.Fatal(err)
	}
	if !suite.Slow(slowKE.Method) || suite.Slow(fastKE.Method) {
		t.Fatal("the methods are not as slow and fast as this test needs")
	}
	works := func(m *script, in machine.Input) []machine.Effect {
		if _, ok := in.(machine.Datagram); !ok {
			return nil
		}
		return []machine.Effect{
			machine.Job{ID: 1, Finish: &machine.FinishJob{Exchange: fastKE, Reply: fastKE.Public}},
			machine.Job{ID: 2, Finish: &machine.FinishJob{Exchange: slowKE, Reply: slowKE.Public}},
			machine.Job{ID: 3, Finish: &machine.FinishJob{Exchange: fastKE, Reply: fastKE.Public}},
			machine.Job{ID: 4, Finish: &machine.FinishJob{Exchange: slowKE, Reply: []byte("not a public value")}},
		}
	}
	inRig(t, policy.Setup{}, works, func(t *testing.T, r *rig) {
		r.stranger(1)
		var got []machine.JobID
		for _, in := range r.machines()[0].inputs[1:] {
			done := in.(machine.JobDone)
			got = append(got, done.ID)
			if (done.Err != nil) != (done.ID == 4) || (len(done.Data) == 0) != (done.ID == 4) {
				t.Errorf("job %d: %d octets, %v", done.ID, len(done.Data), done.Err)
			}
		}
		if !slices.Equal(got, []machine.JobID{1, 2, 3, 4}) {
			t.Errorf("completed in the order %v", got)
		}
	})
}

// zeros is a source of randomness for keys that nobody uses.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 7
	}
	return len(b), nil
}

// TestEffectOrder: effects happen in their order, and those that a completion brings come after the rest of the Step.
func TestEffectOrder(t *testing.T) {
	var order []string
	note := func(s string) machine.Effect { return machine.Emit{Event: event.Event{Kind: event.KindNote, Text: s}} }
	f := func(m *script, in machine.Input) []machine.Effect {
		switch in.(type) {
		case machine.Datagram:
			return []machine.Effect{note("a"), authentic(m, m.inputs[0].(machine.Datagram).Path), machine.ReserveSPI{Child: 1}, machine.ReserveSPI{Child: 2}, note("b")}
		case machine.SPIReserved:
			return []machine.Effect{note("c"), note("d")}
		}
		return nil
	}
	inRig(t, policy.Setup{}, f, func(t *testing.T, r *rig) {
		r.stranger(1)
		for _, ev := range r.told(event.KindNote) {
			if len(ev.Text) == 1 {
				order = append(order, ev.Text)
			}
		}
		if got := strings.Join(order, ""); got != "abcdcd" {
			t.Error(got)
		}
	})
}

// TestUniqueIDs: a second IKE SA of the same identities replaces the first, if uniqueids=yes.
func TestUniqueIDs(t *testing.T) {
	for _, unique := range []bool{true, false} {
		inRig(t, policy.Setup{UniqueIDs: unique}, responder, func(t *testing.T, r *rig) {
			r.stranger(1)
			r.stranger(2)
			want := int64(2)
			if unique {
				want = 1
			}
			if s := r.e.Stats(); s.Established != want || s.Children != want || int64(len(r.dp.Pairs())) != want {
				t.Errorf("uniqueids=%v: %+v", unique, s)
			}
			if p := r.dp.Policies(); len(p) != 1 || p[0].Action != kernel.Protect {
				t.Errorf("policies %v", p)
			}
		})
	}
}

// TestInitialContact: a peer that says INITIAL_CONTACT has no other IKE SA: those of other connections with the same identities go too (RFC 7296 2.4), if
// uniqueids=yes. Without it they stay: a peer may have an IKE SA for each connection.
func TestInitialContact(t *testing.T) {
	for _, tc := range []struct {
		unique, initial bool
		want            int64
	}{{true, true, 1}, {true, false, 2}, {false, true, 2}} {
		second := false
		do := func(m *script, in machine.Input) []machine.Effect {
			effects := responder(m, in)
			if auth, ok := first(effects).(machine.Authenticated); ok && second {
				auth.Conn, auth.InitialContact = m.candidates[1], tc.initial
				return []machine.Effect{auth, machine.Emit{Event: event.Event{Kind: event.KindIKEUp, Text: "established"}}}
			}
			return effects
		}
		inRig(t, policy.Setup{}, do, func(t *testing.T, r *rig) {
			set := &policy.Set{Setup: policy.Setup{UniqueIDs: tc.unique}, Connections: []*policy.Connection{connection("west-east"), connection("other")}}
			if err := r.e.Apply(t.Context(), set); err != nil {
				t.Fatal(err)
			}
			r.stranger(1)
			second = true
			r.stranger(2)
			if s := r.e.Stats(); s.Established != tc.want {
				t.Errorf("%+v: %d IKE SAs", tc, s.Established)
			}
			if gone := tc.want == 1; gone != (len(r.dp.Pairs()) == 0) {
				t.Errorf("%+v: Child SAs %v", tc, r.dp.Pairs())
			}
		})
	}
}

func first(effects []machine.Effect) machine.Effect {
	if len(effects) == 0 {
		return nil
	}
	return effects[0]
}

// TestAddedByHand: what `ikectl add` has loaded of a connection with auto=ignore stays over a reload, changed or not, until the file has it no more. Nothing else of
// auto=ignore is loaded.
func TestAddedByHand(t *testing.T) {
	inRig(t, policy.Setup{}, responder, func(t *testing.T, r *rig) {
		with := func(name string, auto policy.Auto) *policy.Connection {
			c := connection(name)
			c.Auto = auto
			return c
		}
		apply := func(want string, conns ...*policy.Connection) {
			t.Helper()
			if err := r.e.Apply(t.Context(), &policy.Set{Connections: conns}); err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, c := range r.e.Connections() {
				names = append(names, c.Name)
			}
			if got := strings.Join(names, " "); got != want {
				t.Errorf("loaded: %q, want %q", got, want)
			}
		}
		other, hand := with("other", policy.AutoAdd), with("hand", policy.AutoIgnore)
		apply("other", other, hand)
		if err := r.e.Add(t.Context(), hand); err != nil {
			t.Fatal(err)
		}
		apply("other hand", other, with("hand", policy.AutoIgnore))
		changed := with("hand", policy.AutoIgnore)
		changed.Liveness = time.Minute
		apply("other hand", other, changed)
		if c := r.e.Connections(); len(c) != 2 || c[1].Conn.Liveness != time.Minute {
			t.Error("the change of it was not taken")
		}
		apply("other", other)
		apply("other", other, hand)
		apply("", with("other", policy.AutoIgnore), hand)
	})
}

// TestApply: unchanged connections keep their SAs, changed and removed ones lose them, and a bad set changes nothing.
func TestApply(t *testing.T) {
	inRig(t, policy.Setup{}, responder, func(t *testing.T, r *rig) {
		r.stranger(1)
		apply := func(conns ...*policy.Connection) error {
			return r.e.Apply(t.Context(), &policy.Set{Connections: conns})
		}
		up := func() int64 { synctest.Wait(); return r.e.Stats().Established }
		if err := apply(connection("west-east"), connection("other")); err != nil || up() != 1 {
			t.Errorf("an unchanged connection: %v, %d", err, up())
		}
		if err := apply(connection("x"), connection("x")); err == nil || up() != 1 || len(r.e.Connections()) != 2 {
			t.Errorf("two of one name: %v, %d, %d", err, up(), len(r.e.Connections()))
		}
		changed := connection("west-east")
		changed.Liveness = time.Minute
		if err := apply(changed); err != nil || up() != 0 || len(r.e.Connections()) != 1 {
			t.Errorf("a changed connection: %v, %d, %d", err, up(), len(r.e.Connections()))
		}
		r.stranger(2)
		if up() != 1 {
			t.Fatal("not up again")
		}
		if err := r.e.Add(t.Context(), connection("more")); err != nil || up() != 1 || len(r.e.Connections()) != 2 {
			t.Errorf("add: %v", err)
		}
		if err := r.e.Delete(t.Context(), "west-east"); err != nil || up() != 0 || len(r.e.Connections()) != 1 {
			t.Errorf("delete: %v", err)
		}
		if err := r.e.Delete(t.Context(), "west-east"); !errors.Is(err, ErrNoConnection) {
			t.Errorf("delete again: %v", err)
		}
		if err := r.e.Up(t.Context(), "west-east", nil); !errors.Is(err, ErrNoConnection) {
			t.Errorf("up of what is not there: %v", err)
		}
	})
}

// TestCannotInitiate: up of a template, and of a connection that is not ours, says why at once.
func TestCannotInitiate(t *testing.T) {
	inRig(t, policy.Setup{ListenUDP: true}, nil, func(t *testing.T, r *rig) {
		template, foreign := connection("template"), connection("foreign")
		template.Left.Host = policy.Host{Kind: policy.HostAny}
		foreign.Right.Host.Addr = them.Next()
		if err := r.e.Apply(t.Context(), &policy.Set{Connections: []*policy.Connection{template, foreign}}); err != nil {
			t.Fatal(err)
		}
		if err := r.e.Up(t.Context(), "template", nil); err == nil || !strings.Contains(err.Error(), "%any") {
			t.Error(err)
		}
		if err := r.e.Up(t.Context(), "foreign", nil); err == nil || !strings.Contains(err.Error(), "192.1.2.46") {
			t.Error(err)
		}
		if s := r.e.Connections()[1]; s.Oriented != nil || s.Why == "" {
			t.Errorf("%+v", s)
		}
	})
}

// TestStatus: snapshots of all shards, in chunks, and a slow reader holds up nobody.
func TestStatus(t *testing.T) {
	inRig(t, policy.Setup{}, responder, func(t *testing.T, r *rig) {
		n := 2*statusChunk + 5
		for spi := range n {
			r.stranger(wire.SPI(spi + 1))
		}
		seen := map[wire.SPI]bool{}
		r.e.Status(func(s machine.Snapshot, _ []kernel.Usage) bool {
			seen[s.SPIr] = true
			r.inShard(func() {})
			return true
		})
		if len(seen) != n {
			t.Errorf("%d of %d", len(seen), n)
		}
		count := 0
		r.e.Status(func(machine.Snapshot, []kernel.Usage) bool { count++; return count < 3 })
		if count != 3 {
			t.Errorf("%d after being told to stop at 3", count)
		}
	})
}

// TestOnePeerInTransportMode: of two hosts behind one NAT only one can have transport mode, since packets to the other could not be told from its own
// (RFC 3948 5.2). The same peer may come again, and the other once it is gone.
func TestOnePeerInTransportMode(t *testing.T) {
	var p policies
	p.init(nil)
	id := func(s string) ident.ID {
		i, err := ident.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	road, other := id("@road"), id("@other")
	var first, again, second child
	if err := errors.Join(p.claim(&first, us, them, road), p.claim(&again, us, them, road)); err != nil {
		t.Fatal(err)
	}
	err := p.claim(&second, us, them, other)
	if err == nil {
		t.Fatal("two peers have transport mode with one address")
	}
	for _, want := range []string{"@road", "@other", "192.1.2.45", "behind the same NAT", "type=tunnel"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	p.unclaim(&second) // had none
	p.unclaim(&first)
	if p.claim(&second, us, them, other) == nil {
		t.Error("the first peer still has a child")
	}
	p.unclaim(&again)
	if err := p.claim(&second, us, them, other); err != nil {
		t.Error(err)
	}
	if p.unclaim(&second); len(p.hosts) != 0 {
		t.Errorf("left: %v", p.hosts)
	}
}

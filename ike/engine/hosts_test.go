package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ikegod/ikegod/ike/auth"
	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ident"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/suite"
	"github.com/ikegod/ikegod/pkg/wire"
	"github.com/ikegod/ikegod/transport"
)

// world is this host's addresses, its default source, and what DNS says. Tests change them.
type world struct {
	mu      sync.Mutex
	local   map[netip.Addr]bool
	source  netip.Addr
	names   map[string][]netip.Addr
	slow    time.Duration // how long DNS takes
	lookups int
}

func (w *world) IsLocal(a netip.Addr) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.local[a]
}

func (w *world) DefaultSource(netip.Addr) (netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.source.IsValid() {
		return netip.Addr{}, errors.New("network is unreachable")
	}
	return w.source, nil
}

func (w *world) LookupNetIP(ctx context.Context, _, name string) ([]netip.Addr, error) {
	w.mu.Lock()
	w.lookups++
	addrs, slow := slices.Clone(w.names[name]), w.slow
	w.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if addrs == nil {
		return nil, errors.New("no such host")
	}
	return addrs, nil
}

func (w *world) set(f func()) {
	w.mu.Lock()
	f()
	w.mu.Unlock()
}

var (
	them2 = netip.MustParseAddr("192.1.2.46")
	us2   = netip.MustParseAddr("192.1.2.24")
)

// inWorld is inRig for an engine with connections in a world. Machines dial, and say nothing until the test makes them.
func inWorld(t *testing.T, w *world, do func(*script, machine.Input) []machine.Effect, conns []*policy.Connection, f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{mux: &books{}, dp: kernel.NewFake(kernel.FakeOptions{})}
		var err error
		r.e, err = New(Options{Mux: r.mux, Datapath: r.dp, Local: w, Resolver: w, Shards: 1, Events: r.event})
		if err != nil {
			t.Fatal(err)
		}
		r.s = r.e.shards[0]
		r.dp.SetEvents(r.e.KernelEvent)
		r.e.make = makers{
			initiator: func(c machine.Config, o *policy.Oriented, _ []int) stepper {
				return r.newScript(c, true, []*policy.Oriented{o}, do)
			},
			responder: func(c machine.Config, o []*policy.Oriented, _ path.Path) stepper { return r.newScript(c, false, o, do) },
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = r.e.Run(ctx) })
		defer func() { cancel(); running.Wait() }()
		if err := r.e.Apply(ctx, &policy.Set{Setup: policy.Setup{ListenUDP: true}, Connections: conns}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		f(t, r)
	})
}

// refuses is a machine whose peer does not answer: it needs another path at once, and closes when there is none.
func refuses(m *script, in machine.Input) []machine.Effect {
	switch in := in.(type) {
	case machine.Start:
		return []machine.Effect{machine.NeedPath{Conn: m.candidates[0], Last: in.Path, Why: &event.Close{Reason: event.ReasonTimeout}}}
	case machine.NoPath:
		return []machine.Effect{machine.Close{Close: event.Close{Reason: event.ReasonTimeout}}}
	case machine.CloseIKE:
		return []machine.Effect{machine.Close{Close: event.Close{Reason: in.Reason}}}
	}
	return nil
}

// holds is a machine that goes on for ever, and ends when it is told to.
func holds(_ *script, in machine.Input) []machine.Effect {
	if in, ok := in.(machine.CloseIKE); ok {
		return []machine.Effect{machine.Close{Close: event.Close{Reason: in.Reason}}}
	}
	return nil
}

func atName(name string, auto policy.Auto) *policy.Connection {
	c := connection("named")
	c.Auto, c.Left.Host = auto, policy.Host{Kind: policy.HostName, Name: name}
	return c
}

func (r *rig) connOf(name string) ConnectionStatus {
	synctest.Wait()
	for _, c := range r.e.Connections() {
		if c.Name == name {
			return c
		}
	}
	return ConnectionStatus{}
}

// peers are the addresses that machines were made for, in order.
func (r *rig) peers() (out []string) {
	for _, m := range r.machines() {
		for _, in := range m.inputs {
			if s, ok := in.(machine.Start); ok {
				out = append(out, s.Path.Remote.Addr().String())
			}
		}
	}
	return out
}

func (r *rig) heard(t *testing.T, words string) {
	t.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ev := range r.events {
		if strings.Contains(ev.Text, words) {
			return
		}
	}
	var all []string
	for _, ev := range r.events {
		all = append(all, ev.Text)
	}
	t.Errorf("nobody said %q:\n%s", words, strings.Join(all, "\n"))
}

// TestEveryAddressOfAName: all addresses of the peer are rungs of one attempt, in their order; what cannot be reached from our address is left out; the
// error says what each answered.
func TestEveryAddressOfAName(t *testing.T) {
	w := &world{local: map[netip.Addr]bool{us: true}, names: map[string][]netip.Addr{"gw.example": {netip.MustParseAddr("2001:db8::9"), them, them2}}}
	inWorld(t, w, refuses, []*policy.Connection{atName("gw.example", policy.AutoAdd)}, func(t *testing.T, r *rig) {
		err := r.e.Up(t.Context(), "named", nil)
		var up *UpError
		if !errors.As(err, &up) || len(up.Attempts) != 2 || up.Attempts[0].Path.Remote.Addr() != them || up.Attempts[1].Path.Remote.Addr() != them2 {
			t.Errorf("up: %v", err)
		}
		if got := r.peers(); !slices.Equal(got, []string{them.String(), them2.String()}) {
			t.Errorf("asked %v", got)
		}
		r.heard(t, "gw.example is 2001:db8::9, 192.1.2.45, 192.1.2.46")
		r.heard(t, "gw.example has another address: trying 192.1.2.46")
		before := w.lookups
		w.set(func() { w.names["gw.example"] = []netip.Addr{them2} })
		_ = r.e.Up(t.Context(), "named", nil)
		if got := r.peers(); len(got) == 0 || got[len(got)-1] != them2.String() || w.lookups == before {
			t.Errorf("the next attempt asked %v, after %d lookups", got, w.lookups-before)
		}
	})
}

// TestSlowName: nothing else waits for DNS; an attempt ends when it does not answer, and revival asks again.
func TestSlowName(t *testing.T) {
	w := &world{local: map[netip.Addr]bool{us: true}, names: map[string][]netip.Addr{"gw.example": {them}}, slow: time.Hour}
	inWorld(t, w, holds, []*policy.Connection{atName("gw.example", policy.AutoStart), connection("other")}, func(t *testing.T, r *rig) {
		begin := time.Now()
		go func() { _ = r.e.Up(t.Context(), "other", nil) }()
		if got := r.peers(); len(got) != 1 || time.Since(begin) != 0 {
			t.Errorf("the other connection waits for DNS: %v", got)
		}
		time.Sleep(lookupTime + time.Second)
		if s := r.connOf("named"); s.State != "waiting for revival" && s.State != "negotiating" || !strings.Contains(s.LastError, "no answer within 10s") {
			t.Errorf("%+v", s)
		}
		if s := r.connOf("named"); !strings.Contains(s.LastError, "(10.0 s)") {
			t.Errorf("how long it took is not said: %s", s.LastError)
		}
		w.set(func() { w.slow = 0 })
		time.Sleep(time.Minute)
		if s := r.connOf("named"); s.Oriented == nil || s.Oriented.RemoteAddr != them {
			t.Errorf("not resolved after DNS came back: %+v", s)
		}
		if err := r.e.Down(t.Context(), "named", nil); err != nil {
			t.Error(err)
		}
	})
}

// TestExplainNameThatNobodyKnows: a peer may get a connection whose own hosts are not known.
func TestExplainNameThatNobodyKnows(t *testing.T) {
	w := &world{local: map[netip.Addr]bool{us: true}}
	c, template := atName("gw.example", policy.AutoAdd), connection("template")
	c.Left.ID = ident.Pattern{ID: ident.FromAddr(them2)}
	template.Left.Host, template.Left.ID = policy.Host{Kind: policy.HostAny}, ident.Pattern{}
	c.IKE, _ = suite.ParseIKE("")
	template.IKE = c.IKE
	inWorld(t, w, nil, []*policy.Connection{c, template}, func(t *testing.T, r *rig) {
		r.e.SetSecrets(auth.NewStore(nil))
		x, err := r.e.Explain("template", them2, ident.FromAddr(them2))
		if err != nil || x.Chosen != "named" || !strings.Contains(x.Fails, "no PSK record") {
			t.Errorf("chosen %q, fails %q; %+v, %v", x.Chosen, x.Fails, x.Candidates, err)
		}
	})
}

// TestNameThatNobodyKnows is no reason to refuse a peer that proves who it is; and it takes what it had before.
func TestNameThatNobodyKnows(t *testing.T) {
	w := &world{local: map[netip.Addr]bool{us: true}}
	c := atName("gw.example", policy.AutoAdd)
	c.Left.ID = ident.Pattern{ID: ident.FromAddr(them2)}
	inWorld(t, w, nil, []*policy.Connection{c}, func(t *testing.T, r *rig) {
		r.heard(t, "gw.example could not be looked up: no such host")
		r.e.IKE(transport.Datagram{Path: udp("198.51.100.7:500"), Data: initRequest(1, nil), At: time.Now()})
		if m := r.machines(); len(m) != 1 || m[0].candidates[0].RemoteAddr.IsValid() {
			t.Errorf("machines: %d", len(m))
		}
		w.set(func() { w.names = map[string][]netip.Addr{"gw.example": {them}} })
		time.Sleep(namesInterval + time.Second)
		if s := r.connOf("named"); s.Oriented == nil || s.Oriented.RemoteAddr != them {
			t.Errorf("not looked up again: %+v", s)
		}
		r.e.IKE(transport.Datagram{Path: udp("198.51.100.7:500"), Data: initRequest(2, nil), At: time.Now()})
		r.e.IKE(transport.Datagram{Path: udp("192.1.2.45:500"), Data: initRequest(3, nil), At: time.Now()})
		if n := r.drops(event.DropNoConnection); n != 1 || len(r.machines()) != 2 {
			t.Errorf("%d drops, %d machines: it is to come from its address once that is known", n, len(r.machines()))
		}
		// A stranger that meets nothing makes us look again.
		w.set(func() { w.names["gw.example"] = []netip.Addr{them2} })
		time.Sleep(missInterval)
		r.e.IKE(transport.Datagram{Path: udp("192.1.2.46:500"), Data: initRequest(4, nil), At: time.Now()})
		if s := r.connOf("named"); s.Oriented == nil || s.Oriented.RemoteAddr != them2 {
			t.Errorf("a stranger did not make us look: %+v", s)
		}
	})
}

// TestAddressComes: a connection whose address was not there is started when it comes, and is left alone when others change.
func TestAddressComes(t *testing.T) {
	w := &world{local: map[netip.Addr]bool{us2: true}}
	auto, manual, other := connection("auto"), connection("manual"), connection("other")
	auto.Auto, other.Right.Host.Addr = policy.AutoStart, us2
	inWorld(t, w, holds, []*policy.Connection{auto, manual, other}, func(t *testing.T, r *rig) {
		if s := r.connOf("auto"); s.Oriented != nil || s.Why == "" {
			t.Errorf("%+v", s)
		}
		untouched := r.e.view.Load().byName["other"]
		w.set(func() { w.local[us] = true })
		r.e.AddressesChanged()
		if s := r.connOf("auto"); s.Oriented == nil || s.State != "negotiating" || s.Why != "" {
			t.Errorf("auto=start: %+v", s)
		}
		if s := r.connOf("manual"); s.Oriented == nil || s.State != "down" {
			t.Errorf("auto=add: %+v", s)
		}
		if r.e.view.Load().byName["other"] != untouched {
			t.Error("a connection that is not concerned was replaced")
		}
	})
}

// TestAddressGoes: what is to remain up waits for its address and goes on with it; the rest is unoriented; in the end nothing of either is left.
func TestAddressGoes(t *testing.T) {
	w := &world{local: map[netip.Addr]bool{us: true}}
	auto, manual := connection("auto"), connection("manual")
	auto.Auto, auto.Negotiation = policy.AutoStart, policy.ShuntHold
	inWorld(t, w, holds, []*policy.Connection{auto, manual}, func(t *testing.T, r *rig) {
		if n := len(r.machines()); n != 1 {
			t.Fatalf("%d machines", n)
		}
		w.set(func() { w.local = map[netip.Addr]bool{} })
		r.e.AddressesChanged()
		s := r.connOf("auto")
		if s.State != "waiting for revival" || !s.Wanted || !strings.Contains(s.Why, "neither left=192.1.2.45") || r.e.Stats().IKESAs != 0 {
			t.Errorf("auto: %+v, %d IKE SAs", s, r.e.Stats().IKESAs)
		}
		if s := r.connOf("manual"); s.Oriented != nil || s.Why == "" {
			t.Errorf("manual: %+v", s)
		}
		r.heard(t, `connection "auto" has lost its hosts`)
		time.Sleep(2 * time.Minute) // rounds fail with words, and nothing is sent
		if n := len(r.machines()); n != 1 {
			t.Errorf("%d machines were made without an address", n-1)
		}
		w.set(func() { w.local[us] = true })
		r.e.AddressesChanged()
		if s := r.connOf("auto"); s.State != "negotiating" || s.Why != "" || len(r.machines()) != 2 {
			t.Errorf("with its address again: %+v, %d machines", s, len(r.machines()))
		}
		if s := r.connOf("manual"); s.Oriented == nil {
			t.Errorf("manual, with its address again: %+v", s)
		}
	})
}

// TestDefaultRouteComesAndChanges: %defaultroute without a route is no error for ever, and another source makes a new attempt from there.
func TestDefaultRouteComesAndChanges(t *testing.T) {
	w := &world{}
	c := connection("roaming")
	c.Auto, c.Right.Host = policy.AutoStart, policy.Host{Kind: policy.HostDefaultRoute}
	inWorld(t, w, holds, []*policy.Connection{c}, func(t *testing.T, r *rig) {
		if s := r.connOf("roaming"); s.Oriented != nil || !strings.Contains(s.Why, "no address of this host leads to the peer") {
			t.Errorf("%+v", s)
		}
		for i, source := range []netip.Addr{us, us2} {
			w.set(func() { w.source, w.local = source, map[netip.Addr]bool{source: true} })
			r.e.AddressesChanged()
			if s := r.connOf("roaming"); s.Oriented == nil || s.Oriented.LocalAddr != source || s.State != "negotiating" || len(r.machines()) != i+1 {
				t.Errorf("from %s: %+v, %d machines", source, s, len(r.machines()))
			}
		}
		if n := r.e.Stats().IKESAs; n != 1 {
			t.Errorf("%d IKE SAs", n)
		}
	})
}

// TestManyConnectionsAndOneChange bounds what a change of addresses costs: each address is asked for once, and nothing is made anew.
func TestManyConnectionsAndOneChange(t *testing.T) {
	const n = 10000
	asked := 0
	w := &world{local: map[netip.Addr]bool{us: true}}
	var conns []*policy.Connection
	for i := range n {
		c := connection(fmt.Sprintf("c%d", i))
		c.Left.Host.Addr = netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)})
		conns = append(conns, c)
	}
	inWorld(t, w, holds, conns, func(t *testing.T, r *rig) {
		before := r.e.view.Load()
		here := r.e.here(netip.Addr{})
		is := here.IsLocal
		here.IsLocal = func(a netip.Addr) bool { asked++; return is(a) }
		r.e.AddressesChanged()
		synctest.Wait()
		if r.e.view.Load() != before {
			t.Error("a change that concerns nobody made a new view")
		}
		for _, c := range before.list {
			if c.look(here, before.setup, seek{}, true) != nil {
				t.Fatal("an heir without need")
			}
		}
		if asked > 4*n {
			t.Errorf("asked %d times for %d connections", asked, n)
		}
	})
}

// TestInstances: each peer of a template has a number, which events and snapshots carry, and one can be taken down without the others.
func TestInstances(t *testing.T) {
	w := &world{local: map[netip.Addr]bool{us: true}}
	road := connection("road")
	road.Left = policy.End{Host: policy.Host{Kind: policy.HostAny}, Subnets: road.Left.Subnets}
	do := func(m *script, in machine.Input) []machine.Effect {
		switch in := in.(type) {
		case machine.Datagram:
			id := ident.FromAddr(in.Path.Remote.Addr())
			return []machine.Effect{
				machine.Authenticated{Conn: m.candidates[0], Local: ident.FromAddr(us), Remote: id, Path: in.Path},
				machine.Emit{Event: event.Event{Kind: event.KindIKEUp, Text: "established"}},
			}
		case machine.CloseIKE:
			return []machine.Effect{machine.Close{Close: event.Close{Reason: in.Reason}}}
		}
		return nil
	}
	inWorld(t, w, do, []*policy.Connection{road}, func(t *testing.T, r *rig) {
		for i, from := range []string{"198.51.100.1:500", "198.51.100.2:500", "198.51.100.2:1024"} {
			r.e.IKE(transport.Datagram{Path: udp(from), Data: initRequest(wire.SPI(i+1), nil), At: time.Now()})
		}
		numbers := func() (out []int) {
			synctest.Wait()
			r.e.Status(func(s machine.Snapshot, _ []kernel.Usage) bool {
				out = append(out, s.Instance)
				return true
			})
			slices.Sort(out)
			return out
		}
		if got := numbers(); !slices.Equal(got, []int{1, 2, 3}) {
			t.Fatalf("instances %v", got)
		}
		var told []int
		for _, ev := range r.told(event.KindIKEUp) {
			told = append(told, ev.Instance)
		}
		if !slices.Equal(told, []int{1, 2, 3}) {
			t.Errorf("events of instances %v", told)
		}
		if err := r.e.Down(t.Context(), "road[2]", nil); err != nil {
			t.Error(err)
		}
		if got := numbers(); !slices.Equal(got, []int{1, 3}) {
			t.Errorf("after the second went: %v", got)
		}
		for _, name := range []string{"road[2]", "road[0]", "road[x]", "nobody[1]"} {
			if err := r.e.Down(t.Context(), name, nil); !errors.Is(err, ErrNoConnection) {
				t.Errorf("down %s: %v", name, err)
			}
		}
		if err := r.e.Down(t.Context(), "road", nil); err != nil || len(numbers()) != 0 {
			t.Errorf("down of the template: %v, left %v", err, numbers())
		}
	})
}

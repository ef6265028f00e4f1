package kernel

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/ts"
)

var splitMark = Mark{Value: 0x10, Mask: 0x10}

// splitRig is a Split between two fakes.
type splitRig struct {
	*testing.T
	s            *Split
	kernel, user *Fake

	mu    sync.Mutex
	last  Request
	done  map[Request]chan Done
	other []Event
	log   []string // what both halves were asked for, in order
}

// witness writes down what one half is asked for.
type witness struct {
	*Fake
	rig  *splitRig
	name string
}

func (w witness) note(format string, args ...any) {
	w.rig.mu.Lock()
	w.rig.log = append(w.rig.log, w.name+" "+fmt.Sprintf(format, args...))
	w.rig.mu.Unlock()
}

func (w witness) Route(r Request, p Policy) {
	out := "out"
	if p.InboundOnly {
		out = "inbound only"
	}
	w.note("route %s %s", p.ID, out)
	w.Fake.Route(r, p)
}

func (w witness) Install(r Request, p SAPair) {
	w.note("install %#x", uint32(p.In.SPI))
	w.Fake.Install(r, p)
}

func (w witness) Remove(r Request, spis ...SPI) {
	w.note("remove %#x", spis)
	w.Fake.Remove(r, spis...)
}

func newSplitRig(t *testing.T) *splitRig { return newSplitRigOf(t, Features{}) }

// newSplitRigOf is one whose kernel carries ESP in TCP, or has packets wait for an SA, as of says.
func newSplitRigOf(t *testing.T, of Features) *splitRig {
	r := &splitRig{T: t, done: map[Request]chan Done{}}
	r.s = NewSplit(r.event, splitMark)
	r.kernel = NewFake(FakeOptions{Events: r.s.Event, Features: Features{Name: "xfrm", UDP: true, TCP: of.TCP, Waits: of.Waits, PlainESP: true, Transport: true, ESN: true, Notes: []string{"k"}}})
	r.user = NewFake(FakeOptions{Events: r.s.Event, Features: Features{Name: "userspace", UDP: true, TCP: true, Transport: true, ESN: true, MoveCarrier: true, Notes: []string{"u"}}})
	r.user.next = 0xc0000000
	if err := r.s.Join(witness{r.kernel, r, "kernel"}, witness{r.user, r, "user"}); err != nil {
		t.Fatal(err)
	}
	r.log = nil
	t.Cleanup(func() {
		if err := r.s.Close(); err != nil {
			t.Error(err)
		}
		for _, f := range []*Fake{r.kernel, r.user} {
			for _, v := range f.Violations() {
				t.Errorf("%s: %s", f.Features().Name, v)
			}
		}
	})
	return r
}

func (r *splitRig) event(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := e.(Done)
	if !ok {
		r.other = append(r.other, e)
		return
	}
	r.done[d.Request] <- d
}

// ask makes a request and waits for its end.
func (r *splitRig) ask(do func(Request)) Done {
	r.mu.Lock()
	r.last++
	id, c := r.last, make(chan Done, 1)
	r.done[id] = c
	r.mu.Unlock()
	do(id)
	return <-c
}

func (r *splitRig) must(do func(Request)) Done {
	r.Helper()
	d := r.ask(do)
	if d.Err != nil {
		r.Fatal(d.Err)
	}
	return d
}

func (r *splitRig) route(id PolicyID) {
	r.Helper()
	r.must(func(q Request) { r.s.Route(q, splitPol(id)) })
}

func splitPol(id PolicyID) Policy {
	set := func(p string) ts.Set { return ts.Set{ts.FromPrefix(netip.MustParsePrefix(p))} }
	return Policy{ID: id, Local: set("10.1.0.0/16"), Remote: set("10.2.0.0/16"), Action: Protect}
}

var splitPaths = map[path.Kind]path.Path{
	path.UDP: {Kind: path.UDP, Local: netip.MustParseAddrPort("192.1.2.45:4500"), Remote: netip.MustParseAddrPort("192.1.2.23:4500")},
	path.ESP: {Kind: path.ESP, Local: netip.MustParseAddrPort("192.1.2.45:0"), Remote: netip.MustParseAddrPort("192.1.2.23:0")},
	path.TCP: {Kind: path.TCP, Local: netip.MustParseAddrPort("192.1.2.45:40000"), Remote: netip.MustParseAddrPort("192.1.2.23:4500"), Generation: 7},
}

func (r *splitRig) pair(id PolicyID, kind path.Kind, standby bool) SAPair {
	r.Helper()
	return r.pairOn(id, Endpoints{Path: splitPaths[kind]}, standby)
}

func (r *splitRig) pairOn(id PolicyID, e Endpoints, standby bool) SAPair {
	r.Helper()
	spi := r.must(func(q Request) { r.s.ReserveSPI(q, e) }).SPI
	p := splitPol(id)
	key := func(way string) []byte { return fmt.Appendf(nil, "%s %08x 0123456789", way, uint32(spi)) }
	return SAPair{
		Policy: id, In: SA{SPI: spi, EncrKey: key("in")}, Out: SA{SPI: spi + 0x1000, EncrKey: key("out")}, Local: p.Local, Remote: p.Remote, Endpoints: e, Standby: standby,
	}
}

func (r *splitRig) install(id PolicyID, kind path.Kind, standby bool) SPI {
	r.Helper()
	p := r.pair(id, kind, standby)
	r.must(func(q Request) { r.s.Install(q, p) })
	return p.In.SPI
}

func (r *splitRig) remove(spis ...SPI) {
	r.Helper()
	r.must(func(q Request) { r.s.Remove(q, spis...) })
}

// kernelPolicies are those of the kernel, without the two that let packets of the userspace half pass.
func (r *splitRig) kernelPolicies() []Policy {
	return slices.DeleteFunc(r.kernel.Policies(), func(p Policy) bool { return p.MarkIn == splitMark })
}

// out reports whether the kernel takes outbound packets of a policy.
func (r *splitRig) out(id PolicyID) bool {
	r.Helper()
	for _, p := range r.kernelPolicies() {
		if p.ID == id {
			return !p.InboundOnly
		}
	}
	r.Fatalf("the kernel has no policy %q", id)
	return false
}

// TestSplitByCarrier: a pair goes to the half of its carrier, with an SPI of its range; the policy is with both.
func TestSplitByCarrier(t *testing.T) {
	for _, tc := range []struct {
		kind path.Kind
		half string
	}{{path.ESP, "xfrm"}, {path.UDP, "xfrm"}, {path.TCP, "userspace"}} {
		t.Run(tc.kind.String(), func(t *testing.T) {
			r := newSplitRig(t)
			r.route("c")
			if r.out("c") || len(r.user.Policies()) != 1 {
				t.Error("without an SA its packets have to go to the TUN, to be held there")
			}
			spi := r.install("c", tc.kind, false)
			if got := len(r.kernel.Pairs()) == 1; got != (tc.half == "xfrm") || len(r.user.Pairs())+len(r.kernel.Pairs()) != 1 {
				t.Errorf("kernel %v, userspace %v", r.kernel.Pairs(), r.user.Pairs())
			}
			if r.out("c") != (tc.half == "xfrm") {
				t.Errorf("the kernel takes outbound packets: %v", r.out("c"))
			}
			if u := r.s.Usage(0x5, spi)[1]; u.Datapath != tc.half || u.SPI != spi {
				t.Errorf("usage: %+v", u)
			}
			r.remove(spi)
			if r.out("c") || len(r.kernel.Reserved())+len(r.user.Reserved()) != 0 {
				t.Error("something is left of the pair")
			}
			r.must(func(q Request) { r.s.Unroute(q, "c") })
			if len(r.kernelPolicies())+len(r.user.Policies()) != 0 {
				t.Error("a policy is left")
			}
		})
	}
}

// TestSplitOpened: what the userspace half has decrypted passes the kernel's policies by its mark, before anything else is there, and whatever is refused later.
func TestSplitOpened(t *testing.T) {
	r := newSplitRig(t)
	var got []string
	for _, p := range r.kernel.Policies() {
		if p.Action != Pass || !p.InboundOnly || p.MarkIn != splitMark || p.Priority != 1 || len(r.user.Policies()) != 0 {
			t.Errorf("%+v", p)
		}
		got = append(got, p.Remote.String())
	}
	if !slices.Equal(got, []string{"0.0.0.0/0", "::/0"}) {
		t.Errorf("for %q", got)
	}
	refusal := errors.New("refused")
	for n, fails := range []bool{true, false} { // the first is IPv4, without which nothing works
		kernel, user := NewFake(FakeOptions{Features: Features{Name: "xfrm"}}), NewFake(FakeOptions{Features: Features{Name: "userspace"}})
		s := NewSplit(func(Event) {}, splitMark)
		kernel.SetEvents(s.Event)
		if n == 1 {
			kernel.SetEvents(func(e Event) {
				if d := e.(Done); d.Err == nil {
					kernel.Refuse(OpRoute, refusal)
				}
				s.Event(e)
			})
		} else {
			kernel.Refuse(OpRoute, refusal)
		}
		err := s.Join(kernel, user)
		if (err != nil) != fails {
			t.Errorf("%d: %v", n, err)
		}
		if err == nil {
			if notes := s.Features().Notes; len(notes) != 1 || !strings.Contains(notes[0], "IPv6") {
				t.Errorf("notes %q", notes)
			}
			s.Close()
		}
	}
}

// TestSplitOverlap: a Child SA that is replaced by one of another carrier is never without an SA, and the newest one leads, unless it stands by.
func TestSplitOverlap(t *testing.T) {
	for _, tc := range []struct {
		name               string
		first, second      path.Kind
		standby            bool
		overlap, afterward bool // the kernel takes outbound packets
		log                string
	}{
		{"UDP to TCP", path.UDP, path.TCP, false, false, false, "user install, kernel route inbound only, kernel remove"},
		{"UDP to TCP, standing by", path.UDP, path.TCP, true, true, false, "user install, kernel route inbound only, kernel remove"},
		{"TCP to UDP", path.TCP, path.UDP, false, true, true, "kernel install, kernel route out, user remove"},
		{"TCP to UDP, standing by", path.TCP, path.UDP, true, false, true, "kernel install, kernel route out, user remove"},
		{"plain ESP to UDP", path.ESP, path.UDP, false, true, true, "kernel install, kernel remove"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newSplitRig(t)
			r.route("c")
			old := r.install("c", tc.first, false)
			r.log = nil
			r.install("c", tc.second, tc.standby)
			if got := r.out("c"); got != tc.overlap {
				t.Errorf("with both, the kernel takes outbound packets: %v", got)
			}
			if n := len(r.kernel.Pairs()) + len(r.user.Pairs()); n != 2 {
				t.Errorf("%d pairs accept packets, want both", n)
			}
			r.remove(old)
			if got := r.out("c"); got != tc.afterward {
				t.Errorf("with the new one alone, the kernel takes outbound packets: %v", got)
			}
			var got []string
			for _, l := range r.log {
				words := strings.Fields(l)
				if words[1] == "route" {
					got = append(got, words[0]+" route "+strings.Join(words[3:], " "))
				} else {
					got = append(got, words[0]+" "+words[1])
				}
			}
			if strings.Join(got, ", ") != tc.log {
				t.Errorf("the halves were asked for\n%s, want\n%s", strings.Join(got, ", "), tc.log)
			}
		})
	}
}

func TestSplitMove(t *testing.T) {
	r := newSplitRig(t)
	r.route("c")
	udp, tcp := r.install("c", path.UDP, false), r.install("c", path.TCP, true)
	move := func(spi SPI, kind path.Kind, generation uint64) error {
		p := splitPaths[kind]
		p.Generation = generation
		return r.ask(func(q Request) { r.s.Move(q, spi, Endpoints{Path: p}) }).Err
	}
	if err := move(tcp, path.TCP, 8); err != nil {
		t.Errorf("to another TCP connection: %v", err)
	}
	if err := move(udp, path.UDP, 0); err != nil {
		t.Errorf("UDP to UDP: %v", err)
	}
	for _, tc := range []struct {
		spi SPI
		to  path.Kind
	}{{udp, path.TCP}, {udp, path.ESP}, {tcp, path.UDP}, {tcp, path.ESP}} {
		if err := move(tc.spi, tc.to, 8); !errors.Is(err, ErrCarrier) {
			t.Errorf("%#x to %s: %v, want an error that asks for a rekey", uint32(tc.spi), tc.to, err)
		}
	}
	if err := move(0x999, path.UDP, 0); err == nil || errors.Is(err, ErrCarrier) {
		t.Errorf("an unknown SPI: %v", err)
	}
	if f := r.s.Features(); f.MoveCarrier || !f.UDP || !f.TCP || !f.PlainESP || f.Name != "xfrm and userspace" || !slices.Equal(f.Notes, []string{"k", "u"}) {
		t.Errorf("%+v", f)
	}
}

// TestSplitRefused: a half that refuses leaves nothing in the other.
func TestSplitRefused(t *testing.T) {
	refusal := errors.New("refused")
	t.Run("policy in userspace", func(t *testing.T) {
		r := newSplitRig(t)
		r.user.Refuse(OpRoute, refusal)
		if d := r.ask(func(q Request) { r.s.Route(q, splitPol("c")) }); !errors.Is(d.Err, refusal) || len(r.kernelPolicies()) != 0 {
			t.Errorf("%v, %v", d.Err, r.kernel.Policies())
		}
	})
	t.Run("policy in the kernel", func(t *testing.T) {
		r := newSplitRig(t)
		r.kernel.Refuse(OpRoute, refusal)
		if d := r.ask(func(q Request) { r.s.Route(q, splitPol("c")) }); !errors.Is(d.Err, refusal) || len(r.user.Policies()) != 0 {
			t.Errorf("%v, %v", d.Err, r.user.Policies())
		}
	})
	t.Run("policy replaced", func(t *testing.T) {
		r := newSplitRig(t)
		r.route("c")
		r.kernel.Refuse(OpRoute, refusal)
		next := splitPol("c")
		next.Action = Hold
		if d := r.ask(func(q Request) { r.s.Route(q, next) }); !errors.Is(d.Err, refusal) || r.user.Policies()[0].Action != Protect {
			t.Errorf("%v, %v", d.Err, r.user.Policies())
		}
	})
	t.Run("pair", func(t *testing.T) {
		r := newSplitRig(t)
		r.route("c")
		r.kernel.Refuse(OpInstall, refusal)
		p := r.pair("c", path.UDP, false)
		if d := r.ask(func(q Request) { r.s.Install(q, p) }); !errors.Is(d.Err, refusal) || r.out("c") {
			t.Errorf("%v, out %v", d.Err, r.out("c"))
		}
		r.remove(p.In.SPI)
		if len(r.kernel.Reserved()) != 0 {
			t.Error("the SPI is still reserved")
		}
	})
	t.Run("lead", func(t *testing.T) {
		r := newSplitRig(t)
		r.route("c")
		r.kernel.Refuse(OpRoute, refusal) // of the policy that would take outbound packets
		p := r.pair("c", path.UDP, false)
		if d := r.ask(func(q Request) { r.s.Install(q, p) }); !errors.Is(d.Err, refusal) || len(r.kernel.Pairs()) != 0 || r.out("c") {
			t.Errorf("%v, %v", d.Err, r.kernel.Pairs())
		}
	})
	t.Run("not routed", func(t *testing.T) {
		r := newSplitRig(t)
		p := r.pair("c", path.UDP, false)
		if d := r.ask(func(q Request) { r.s.Install(q, p) }); d.Err == nil {
			t.Error("a pair without a policy was installed")
		}
		r.remove(p.In.SPI)
	})
}

// TestSplitKernelOnly: what only XFRM can do stays out of the userspace half, which says so.
func TestSplitKernelOnly(t *testing.T) {
	r := newSplitRig(t)
	p := splitPol("c")
	p.Interface = Interface{Name: "ipsec1", ID: 1}
	r.must(func(q Request) { r.s.Route(q, p) })
	if len(r.user.Policies()) != 0 || !r.out("c") {
		t.Errorf("userspace %v, kernel %v", r.user.Policies(), r.kernel.Policies())
	}
	r.install("c", path.UDP, false)
	tcp := r.pair("c", path.TCP, false)
	if d := r.ask(func(q Request) { r.s.Install(q, tcp) }); d.Err == nil || !strings.Contains(d.Err.Error(), "ipsec-interface=") {
		t.Errorf("%v", d.Err)
	}
	r.route("c") // the interface is gone from the configuration
	if len(r.user.Policies()) != 1 {
		t.Error("a policy without an interface is not with the userspace half")
	}
}

// TestSplitBackend: a pair goes to the half that its connection asks for, a policy that has no pair in userspace is the kernel's alone, and what a half cannot have is
// refused with the cure.
func TestSplitBackend(t *testing.T) {
	own := path.Path{Kind: path.UDP, Local: netip.MustParseAddrPort("192.1.2.45:7000"), Remote: netip.MustParseAddrPort("192.1.2.23:4500")}
	first := path.Path{Kind: path.UDP, Local: netip.MustParseAddrPort("192.1.2.45:500"), Remote: netip.MustParseAddrPort("192.1.2.23:500")}
	udp, esp, tcp := splitPaths[path.UDP], splitPaths[path.ESP], splitPaths[path.TCP]
	for _, tc := range []struct {
		backend   Backend
		p         path.Path
		kernelTCP bool
		want      string // "kernel", "user", or the error
		alone     bool   // the policy is the kernel's alone
	}{
		{BackendAuto, udp, false, "kernel", false},
		{BackendAuto, own, false, "kernel", false},
		{BackendAuto, tcp, false, "user", false},
		{BackendAuto, udp, true, "kernel", true},
		{BackendAuto, tcp, true, "kernel", true},
		{BackendXFRM, udp, false, "kernel", true},
		{BackendXFRM, tcp, true, "kernel", true},
		{BackendXFRM, tcp, false, "remove backend=xfrm", true},
		{BackendUserspace, own, true, "user", false},
		{BackendUserspace, own, false, "user", false},
		{BackendUserspace, tcp, true, "user", false},
		{BackendUserspace, udp, true, "a port of its own", false},
		{BackendUserspace, first, true, "a port of its own", false},
		{BackendUserspace, esp, true, "remove encapsulation=no", false},
	} {
		t.Run(fmt.Sprintf("%s/%s-%v/%v", tc.backend, tc.p.Kind, tc.p.Local.Port(), tc.kernelTCP), func(t *testing.T) {
			r := newSplitRigOf(t, Features{TCP: tc.kernelTCP})
			pol := splitPol("c")
			pol.Backend = tc.backend
			r.must(func(q Request) { r.s.Route(q, pol) })
			if alone := len(r.user.Policies()) == 0; alone != tc.alone {
				t.Errorf("the policy is the kernel's alone: %v", alone)
			}
			p := r.pairOn("c", Endpoints{Path: tc.p, Backend: tc.backend}, false)
			err := r.ask(func(q Request) { r.s.Install(q, p) }).Err
			if tc.want != "kernel" && tc.want != "user" {
				if err == nil || !strings.Contains(err.Error(), tc.want) || len(r.kernel.Pairs())+len(r.user.Pairs()) != 0 {
					t.Errorf("%v; want %q", err, tc.want)
				}
				return
			}
			if k, u := len(r.kernel.Pairs()), len(r.user.Pairs()); err != nil || k != map[string]int{"kernel": 1}[tc.want] || u != map[string]int{"user": 1}[tc.want] {
				t.Errorf("%v; %d pairs in the kernel, %d in userspace, want it in %s", err, k, u, tc.want)
			}
			if r.out("c") != (tc.want == "kernel") && !tc.alone {
				t.Errorf("the kernel takes outbound packets: %v", r.out("c"))
			}
			r.remove(p.In.SPI)
			r.must(func(q Request) { r.s.Unroute(q, "c") })
			if n := len(r.kernelPolicies()) + len(r.user.Policies()); n != 0 {
				t.Errorf("%d policies are left", n)
			}
		})
	}
}

// TestSplitBackendChanges: a policy whose connection is loaded with another backend leaves the userspace half, or comes to it.
func TestSplitBackendChanges(t *testing.T) {
	r := newSplitRigOf(t, Features{TCP: true})
	for _, b := range []Backend{BackendAuto, BackendUserspace, BackendXFRM, BackendUserspace, BackendAuto} {
		pol := splitPol("c")
		pol.Backend = b
		r.must(func(q Request) { r.s.Route(q, pol) })
		if with := len(r.user.Policies()) == 1; with != (b == BackendUserspace) {
			t.Errorf("backend=%s: with the userspace half %v", b, with)
		}
	}
}

// TestSplitEvents: what is no answer to the Split goes on.
func TestSplitEvents(t *testing.T) {
	r := newSplitRig(t)
	r.kernel.Emit(SoftExpire{SPI: 1})
	r.user.Emit(Acquire{Policy: "c"})
	if len(r.other) != 2 {
		t.Errorf("%v", r.other)
	}
	if err := r.s.Close(); err != nil {
		t.Error(err)
	}
	if d := r.ask(func(q Request) { r.s.Route(q, splitPol("c")) }); d.Err == nil {
		t.Error("a closed datapath took a policy")
	}
}

// TestSplitRandom: whatever comes and goes, from several sides at once, outbound packets go to the half of the pair that leads, and nothing is left at the end.
func TestSplitRandom(t *testing.T) {
	r := newSplitRig(t)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(g)))
			id := PolicyID(fmt.Sprint("c", g))
			r.route(id)
			type leader struct {
				spi    SPI
				kernel bool
			}
			var order []leader
			for step := range 300 {
				if len(order) > 0 && rng.IntN(2) == 0 {
					i := rng.IntN(len(order))
					r.remove(order[i].spi)
					order = slices.Delete(order, i, i+1)
				} else {
					kind, standby := []path.Kind{path.UDP, path.TCP, path.ESP}[rng.IntN(3)], rng.IntN(2) == 0
					l := leader{r.install(id, kind, standby), kind != path.TCP}
					if standby {
						order = append(order, l)
					} else {
						order = slices.Insert(order, 0, l)
					}
				}
				if want := len(order) > 0 && order[0].kernel; r.out(id) != want {
					t.Errorf("%s step %d: the kernel takes outbound packets %v, of %v", id, step, r.out(id), order)
					return
				}
			}
			for _, l := range order {
				r.remove(l.spi)
			}
			r.must(func(q Request) { r.s.Unroute(q, id) })
		})
	}
	wg.Wait()
	if n := len(r.kernel.Pairs()) + len(r.user.Pairs()) + len(r.kernelPolicies()) + len(r.user.Policies()) + len(r.kernel.Reserved()) + len(r.user.Reserved()); n != 0 {
		t.Errorf("%d things are left", n)
	}
}

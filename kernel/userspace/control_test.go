package userspace

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/ts"
)

// fakeHost writes down what it is asked.
type fakeHost struct {
	log    []string
	refuse error
	mtu    int
}

func (h *fakeHost) Route(p kernel.Policy, mtu int) error {
	if h.refuse != nil {
		return h.refuse
	}
	h.log = append(h.log, fmt.Sprintf("route %s mtu %d", p.ID, mtu))
	return nil
}

func (h *fakeHost) Unroute(id kernel.PolicyID) error {
	h.log = append(h.log, fmt.Sprintf("unroute %s", id))
	return nil
}
func (h *fakeHost) PathMTU(local, remote netip.Addr) int { return h.mtu }
func (h *fakeHost) ClearDropped() (uint64, error)        { return 3, nil }
func (h *fakeHost) Sweep() error                         { return nil }
func (h *fakeHost) Notes() []string                      { return nil }
func (h *fakeHost) Close() error                         { h.log = append(h.log, "close"); return nil }

func (h *fakeHost) take() []string { l := h.log; h.log = nil; return l }

func errOf(t *testing.T, ev []kernel.Event) error {
	t.Helper()
	if len(ev) != 1 {
		t.Fatalf("%d events, want one: %v", len(ev), ev)
	}
	d, ok := ev[0].(kernel.Done)
	if !ok {
		t.Fatalf("event %v, want Done", ev[0])
	}
	return d.Err
}

func TestMTUFollowsTheCarrier(t *testing.T) {
	h := &fakeHost{mtu: 1400}
	e := newEnd(t, Config{}, h)
	e.Route(1, kernel.Policy{ID: "c", Local: westNet, Remote: eastNet})
	e.Install(2, pairOf("c", gcm256, 1, true, westNet, eastNet, westUDP))
	e.must()
	e.Move(3, 0xc0000002, kernel.Endpoints{Path: westTCP})
	e.must()
	e.Move(4, 0xc0000002, kernel.Endpoints{Path: westTCP}) // the same again tells the kernel nothing
	e.must()
	want := []string{"route c mtu 0", "route c mtu 1338", "route c mtu 1310"}
	if got := h.take(); !slices.Equal(got, want) {
		t.Errorf("host was asked %q, want %q", got, want)
	}
	e.Route(5, kernel.Policy{ID: "c", Local: westNet, Remote: eastNet, MTU: 1000})
	e.Install(6, pairOf("c", gcm256, 2, true, westNet, eastNet, westUDP))
	e.must()
	if got := h.take(); !slices.Equal(got, []string{"route c mtu 1000"}) {
		t.Errorf("host was asked %q", got)
	}
	if mtu := e.control.pairs[0xc0000004].end.Load().mtu; mtu != 1000 {
		t.Errorf("MTU %d", mtu)
	}
}

func TestNothingStaysOfAFailedInstall(t *testing.T) {
	h := &fakeHost{}
	e := newEnd(t, Config{}, h)
	e.Route(1, kernel.Policy{ID: "c", Local: westNet, Remote: eastNet})
	e.must()
	h.refuse = errors.New("no buffer space")
	sa := pairOf("c", gcm256, 1, true, westNet, eastNet, westUDP)
	e.Install(2, sa)
	if err := errOf(t, e.settle()); err == nil || !strings.Contains(err.Error(), "no buffer space") {
		t.Fatal(err)
	}
	if e.spis.get(sa.In.SPI) != nil || len(e.control.pairs) != 0 {
		t.Error("an SA stayed")
	}
	if sent := e.out(frame(udp("192.0.1.7", "192.0.2.9", 1, 2, nil))); len(sent) != 0 || e.waiting.count != 1 {
		t.Errorf("sent %v, %d wait", sent, e.waiting.count)
	}
	h.refuse = nil
	e.Install(3, sa)
	e.must()
}

func TestInstallRefuses(t *testing.T) {
	e := newEnd(t, Config{}, nil)
	e.Route(1, kernel.Policy{ID: "c", Local: westNet, Remote: eastNet})
	e.Install(2, pairOf("c", gcm256, 1, true, westNet, eastNet, westUDP))
	e.must()
	base := pairOf("c", gcm256, 2, true, westNet, eastNet, westUDP)
	for name, change := range map[string]func(*kernel.SAPair){
		"policy":    func(p *kernel.SAPair) { p.Policy = "x" },
		"in use":    func(p *kernel.SAPair) { p.In.SPI = 0xc0000002 },
		"reserved":  func(p *kernel.SAPair) { p.Out.SPI = 255 },
		"key":       func(p *kernel.SAPair) { p.Out.EncrKey = p.Out.EncrKey[1:] },
		"transport": func(p *kernel.SAPair) { p.Transport = true },
		"selectors": func(p *kernel.SAPair) { p.Local = nil },
	} {
		sa := base
		change(&sa)
		e.Install(3, sa)
		if err := errOf(t, e.settle()); err == nil {
			t.Errorf("%s: installed", name)
		}
	}
	e.Move(4, 99, kernel.Endpoints{Path: westUDP})
	if errOf(t, e.settle()) == nil {
		t.Error("an unknown SA moved")
	}
	e.Route(5, kernel.Policy{ID: "d"})
	if errOf(t, e.settle()) == nil {
		t.Error("a policy without selectors was routed")
	}
}

func TestSPIsComeFromTheirRange(t *testing.T) {
	e := newEnd(t, Config{MinSPI: 0x1000, MaxSPI: 0x100f}, nil)
	seen := map[kernel.SPI]bool{}
	for i := range 8 {
		e.ReserveSPI(kernel.Request(i), kernel.Endpoints{})
		d := e.settle()[0].(kernel.Done)
		if d.Err != nil || d.SPI < 0x1000 || d.SPI > 0x100f || seen[d.SPI] || d.Request != kernel.Request(i) {
			t.Fatalf("reservation %d: %+v", i, d)
		}
		seen[d.SPI] = true
	}
	e.ReserveSPI(9, kernel.Endpoints{})
	if errOf(t, e.settle()) == nil {
		t.Error("a crowded range gave an SPI")
	}
	for spi := range seen {
		e.Remove(10, spi)
		break
	}
	e.settle()
	e.ReserveSPI(11, kernel.Endpoints{})
	if err := errOf(t, e.settle()); err != nil {
		t.Error(err)
	}
}

func TestNewestSASendsAndOldStillReceives(t *testing.T) {
	west, east := tunnel(t, gcm256, westUDP)
	f := frame(udp("192.0.1.7", "192.0.2.9", 1, 2, nil))
	old := west.out(f)
	west.Install(3, pairOf("c", gcm256, 2, true, westNet, eastNet, westUDP))
	west.must()
	east.Install(3, pairOf("c", gcm256, 2, false, eastNet, westNet, eastUDP))
	east.must()
	fresh := west.out(f)
	if fresh[0].packets[0][3] == old[0].packets[0][3] {
		t.Error("the old SA was used after a new one was installed")
	}
	if got := east.in(old[0], fresh[0]); len(got) != 2 {
		t.Errorf("%d of 2 packets", len(got))
	}
	west.Remove(4, 0xc0000004)
	west.must()
	if again := west.out(f); again[0].packets[0][3] != old[0].packets[0][3] {
		t.Error("without the new SA the old one was not used")
	}
	west.Remove(5, 0xc0000002, 12345)
	west.must()
	if sent := west.out(f); len(sent) != 0 || west.waiting.count != 1 {
		t.Errorf("without any SA: sent %v, %d wait", sent, west.waiting.count)
	}
}

// TestStandby: a successor that stands by receives at once, and sends when the one that it replaces is gone (RFC 7296 2.8).
func TestStandby(t *testing.T) {
	west, east := tunnel(t, gcm256, westUDP)
	f := frame(udp("192.0.1.7", "192.0.2.9", 1, 2, nil))
	old := west.out(f)
	next := pairOf("c", gcm256, 2, true, westNet, eastNet, westUDP)
	next.Standby = true
	west.Install(3, next)
	west.must()
	east.Install(3, pairOf("c", gcm256, 2, false, eastNet, westNet, eastUDP))
	east.must()
	if again := west.out(f); again[0].packets[0][3] != old[0].packets[0][3] {
		t.Error("the successor sends before the old one is gone")
	}
	back := frame(udp("192.0.2.9", "192.0.1.7", 2, 1, nil))
	fresh := east.out(back)
	if got := west.in(fresh[0]); len(got) != 1 {
		t.Error("the successor does not receive")
	}
	west.Remove(4, 0xc0000002)
	west.must()
	sent := west.out(f)
	if len(sent) != 1 || sent[0].packets[0][3] == old[0].packets[0][3] {
		t.Fatalf("without the old one %v was sent", sent)
	}
	if got := east.in(sent[0]); len(got) != 1 {
		t.Error("what the successor sends does not open")
	}
}

func TestMoveChangesTheCarrier(t *testing.T) {
	west, east := tunnel(t, gcm256, westUDP)
	f := frame(udp("192.0.1.7", "192.0.2.9", 1, 2, nil))
	west.out(f)
	west.Move(3, 0xc0000002, kernel.Endpoints{Path: westTCP})
	west.must()
	sent := west.out(f)
	if len(sent) != 1 || sent[0].path != westTCP {
		t.Fatalf("sent %v", sent)
	}
	if got := east.in(sent...); len(got) != 1 {
		t.Errorf("an SPI is accepted on any carrier; drops %v", east.Drops())
	}
	if ev := east.settle(); len(ev) != 1 || ev[0] != (kernel.PeerMoved{SPI: 0xc0000003, Path: eastTCP}) {
		t.Errorf("events %v", ev)
	}
}

func TestActions(t *testing.T) {
	e := newEnd(t, Config{}, nil)
	f := frame(udp("192.0.1.7", "192.0.2.9", 1000, 53, nil))
	for _, c := range []struct {
		action kernel.Action
		why    Drop
		icmp   int
		events int
	}{
		{kernel.Protect, DropHeld, 0, 0},
		{kernel.Hold, DropHeld, 0, 0},
		{kernel.Drop, DropByPolicy, 0, 0},
		{kernel.Reject, DropByPolicy, 1, 0},
		{kernel.Trap, DropTrapped, 0, 1},
	} {
		e.Route(1, kernel.Policy{ID: "c", Local: westNet, Remote: eastNet, Action: c.action})
		e.must()
		if mayWait(c.action) {
			e.out(f, f, f, f) // as many wait
		}
		before := e.dropped(c.why)
		if sent := e.out(f); len(sent) != 0 || e.dropped(c.why) != before+1 {
			t.Errorf("action %d: sent %v, drops %v", c.action, sent, e.Drops())
		}
		if got := e.q.taken(); len(got) != c.icmp || c.icmp == 1 && (got[0][vnetLen+20] != 3 || got[0][vnetLen+21] != 13) {
			t.Errorf("action %d: %d ICMP errors: %x", c.action, len(got), got)
		}
		if ev := e.settle(); len(ev) != c.events {
			t.Errorf("action %d: events %v", c.action, ev)
		} else if c.events == 1 {
			want := kernel.Acquire{Policy: "c", Src: netip.MustParseAddrPort("192.0.1.7:1000"), Dst: netip.MustParseAddrPort("192.0.2.9:53"), Protocol: protoUDP}
			if ev[0] != want {
				t.Errorf("%v, want %v", ev[0], want)
			}
		}
	}
	e.out(f, f)
	if ev := e.settle(); len(ev) != 0 {
		t.Errorf("Acquire again within a second: %v", ev)
	}
	e.Install(2, pairOf("c", gcm256, 1, true, westNet, eastNet, westUDP))
	e.must()
	e.wire.take()
	if sent := e.out(f); len(sent) != 1 {
		t.Error("a trap with an SA does not send")
	}
}

func TestStrongestPolicyWins(t *testing.T) {
	prefix := func(s string) ts.Set { return ts.Set{ts.FromPrefix(netip.MustParsePrefix(s))} }
	port := func(s string, port uint16) ts.Set {
		sel := prefix(s)[0]
		sel.Protocol, sel.StartPort, sel.EndPort = protoUDP, port, port
		return ts.Set{sel}
	}
	var p policies
	p.init()
	p.put(kernel.Policy{ID: "all", Local: prefix("0.0.0.0/0"), Remote: prefix("0.0.0.0/0")})
	p.put(kernel.Policy{ID: "net", Local: prefix("10.1.0.0/16"), Remote: prefix("10.2.0.0/16")})
	p.put(kernel.Policy{ID: "dns", Local: prefix("10.1.0.0/16"), Remote: port("10.2.0.0/16", 53)})
	p.put(kernel.Policy{ID: "host", Local: prefix("10.1.9.9/32"), Remote: prefix("10.2.0.1/32")})
	p.put(kernel.Policy{ID: "two", Local: prefix("10.1.0.0/16"), Remote: slices.Concat(prefix("10.8.0.0/16"), prefix("10.9.0.0/16"))})
	ask := func(src, dst string, dport uint16) string {
		r := p.lookup(&flow{src: netip.MustParseAddr(src), dst: netip.MustParseAddr(dst), dport: dport, protocol: protoUDP})
		if r == nil {
			return ""
		}
		return string(r.policy.ID)
	}
	check := func(src, dst string, dport uint16, want string) {
		t.Helper()
		if got := ask(src, dst, dport); got != want {
			t.Errorf("%s -> %s:%d: %q, want %q", src, dst, dport, got, want)
		}
	}
	check("10.1.0.1", "10.2.0.1", 80, "net") // host has another source
	check("10.1.9.9", "10.2.0.1", 80, "host")
	check("10.1.0.1", "10.2.3.4", 53, "dns")
	check("10.9.0.1", "10.2.3.4", 53, "all")
	check("10.1.0.1", "10.9.3.4", 1, "two")
	check("10.1.0.1", "2001:db8::1", 1, "")
	p.put(kernel.Policy{ID: "two", Local: prefix("10.1.0.0/16"), Remote: prefix("10.8.0.0/16")}) // replaced
	check("10.1.0.1", "10.9.3.4", 1, "all")
	check("10.1.0.1", "10.8.3.4", 1, "two")
	p.drop("all")
	p.drop("none")
	check("10.1.0.1", "10.9.3.4", 1, "")
	for _, id := range []kernel.PolicyID{"net", "dns", "host", "two"} {
		p.drop(id)
	}
	if n := p.table.Load().Size(); n != 0 {
		t.Errorf("%d prefixes left", n)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	h := &fakeHost{}
	q := newFakeQueue()
	events := make(chan kernel.Event, 10)
	d := newDatapath(Config{}, &wire{t: t}, func(e kernel.Event) { events <- e }, []queue{q}, true)
	d.host = h
	d.start()
	d.Route(1, kernel.Policy{ID: "c", Local: westNet, Remote: eastNet})
	if e := (<-events).(kernel.Done); e.Err != nil {
		t.Fatal(e.Err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	d.ReserveSPI(2, kernel.Endpoints{})
	if e := (<-events).(kernel.Done); !errors.Is(e.Err, errClosed) || e.Request != 2 {
		t.Errorf("after Close: %+v", e)
	}
	d.InputESP(eastUDP, [][]byte{{1}})
	if len(d.Drops()) != 0 {
		t.Errorf("after Close packets are still handled: %v", d.Drops())
	}
	if got := h.take(); !slices.Equal(got, []string{"route c mtu 0", "close"}) {
		t.Errorf("host was asked %q", got)
	}
}

func TestManySAs(t *testing.T) {
	e := newEnd(t, Config{}, nil)
	const n = 2000
	for i := range n {
		remote := ts.Set{ts.FromPrefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), 32))}
		id := kernel.PolicyID(fmt.Sprint("road/", i))
		e.Route(1, kernel.Policy{ID: id, Local: westNet, Remote: remote})
		sa := pairOf(id, gcm256, 0, true, westNet, remote, westUDP)
		sa.In.SPI, sa.Out.SPI = kernel.SPI(0xc0000000+2*i), kernel.SPI(0xc0000001+2*i)
		e.Install(2, sa)
	}
	e.must()
	for i := range n {
		dst := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}).String()
		sent := e.out(frame(udp("192.0.1.7", dst, 1, 2, nil)))
		if len(sent) != 1 || sent[0].path.Kind != path.UDP {
			t.Fatalf("%s: %v", dst, sent)
		}
		if spi := uint32(sent[0].packets[0][2])<<8 | uint32(sent[0].packets[0][3]); spi != uint32(2*i+1)&0xffff {
			t.Fatalf("%s went out with SPI %#x", dst, spi)
		}
	}
}

// What only the kernel's IPsec has is refused, not left out: it says which traffic is protected, or how long a key may be used.
func TestKernelKeywordsAreRefused(t *testing.T) {
	e := newEnd(t, Config{}, nil)
	for word, p := range map[string]kernel.Policy{
		"ipsec-interface=": {Interface: kernel.Interface{Name: "ipsec1", ID: 1}},
		"mark=":            {MarkIn: kernel.Mark{Value: 1, Mask: 1}},
	} {
		p.ID, p.Local, p.Remote = "p", ts.Set{ts.FromPrefix(netip.MustParsePrefix("10.0.0.0/8"))}, ts.Set{ts.FromPrefix(netip.MustParsePrefix("172.16.0.0/12"))}
		if err := e.control.route(p); err == nil || !strings.Contains(err.Error(), word) || !strings.Contains(err.Error(), "--backend xfrm") {
			t.Errorf("%s %v", word, err)
		}
	}
}

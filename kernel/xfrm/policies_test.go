package xfrm

import (
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/xfrm/message"
	"github.com/ikegod/ikegod/pkg/ts"
	"github.com/ikegod/ikegod/testing/subnets"
)

// policies lists the kernel's policies, each on a line, sorted.
func policies(t *testing.T, s *share) []string {
	t.Helper()
	var out []string
	for block := range strings.SplitSeq(strings.TrimSpace(tidy(sh(t, "ip xfrm policy"), s)), "\nsrc ") {
		if block != "" {
			out = append(out, "src "+strings.TrimPrefix(strings.ReplaceAll(block, "\n", " "), "src "))
		}
	}
	slices.Sort(out)
	return out
}

func westEast(t *testing.T, a kernel.Action) kernel.Policy {
	return kernel.Policy{ID: "west-east", Local: subnets.Of("192.0.1.0/24"), Remote: subnets.Of("192.0.2.0/24"), Action: a}
}

func TestActions(t *testing.T) {
	namespace(t)
	r := open(t, Config{})
	block := []string{
		"src 192.0.1.0/24 dst 192.0.2.0/24 dir out action block priority 1757393",
		"src 192.0.2.0/24 dst 192.0.1.0/24 dir fwd action block priority 1757393",
		"src 192.0.2.0/24 dst 192.0.1.0/24 dir in action block priority 1757393",
	}
	pass := []string{
		"src 192.0.1.0/24 dst 192.0.2.0/24 dir out priority 1757393",
		"src 192.0.2.0/24 dst 192.0.1.0/24 dir fwd priority 1757393",
		"src 192.0.2.0/24 dst 192.0.1.0/24 dir in priority 1757393",
	}
	trap := slices.Clone(block)
	trap[0] = "src 192.0.1.0/24 dst 192.0.2.0/24 dir out priority 1757393 tmpl src 0.0.0.0 dst 0.0.0.0 proto esp reqid REQID+1 mode transport"
	for _, c := range []struct {
		action kernel.Action
		want   []string
	}{{kernel.Protect, block}, {kernel.Trap, trap}, {kernel.Hold, block}, {kernel.Pass, pass}, {kernel.Drop, block}, {kernel.Reject, block}} {
		r.route(westEast(t, c.action))
		if diff := cmp.Diff(c.want, policies(t, r.worker.share)); diff != "" {
			t.Errorf("action %d (-want +got):\n%s", c.action, diff)
		}
	}
	r.must(func(n kernel.Request) { r.Unroute(n, "west-east") })
	r.must(func(n kernel.Request) { r.Unroute(n, "unknown") })
	if left := policies(t, r.worker.share); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// What carries outbound packets elsewhere leaves inbound policies with marks to this datapath.
func TestInboundOnly(t *testing.T) {
	namespace(t)
	r := open(t, Config{})
	p := westEast(t, kernel.Protect)
	p.InboundOnly = true
	r.route(p)
	if got := policies(t, r.worker.share); !slices.Equal(got, []string{"src 192.0.1.0/24 dst 192.0.2.0/24 dir out priority 1757393"}) {
		t.Errorf("without an SA: %q", got)
	}
	p.Action, p.MarkIn, p.Priority = kernel.Pass, kernel.Mark{Value: 0x10, Mask: 0xff}, 7
	r.route(p)
	want := []string{
		"src 192.0.2.0/24 dst 192.0.1.0/24 dir fwd priority 7 mark 0x10/0xff", "src 192.0.2.0/24 dst 192.0.1.0/24 dir in priority 7 mark 0x10/0xff",
	}
	if diff := cmp.Diff(want, policies(t, r.worker.share)); diff != "" {
		t.Error(diff)
	}
}

func TestSelectorsInTheKernel(t *testing.T) {
	namespace(t)
	r := open(t, Config{})
	for _, c := range []struct {
		local, remote ts.Set
		want          []string // of direction out
	}{
		{subnets.Of("192.0.1.0/24/tcp/80"), subnets.Of("192.0.2.0/24/tcp"), []string{"src 192.0.1.0/24 dst 192.0.2.0/24 proto tcp sport 80 dir out action block priority 1364177"}},
		{subnets.Of("192.0.1.0/24", "192.0.3.0/24"), subnets.Of("192.0.2.0/24", "10.0.0.0/8"), []string{
			"src 192.0.1.0/24 dst 10.0.0.0/8 dir out action block priority 1757425",
			"src 192.0.1.0/24 dst 192.0.2.0/24 dir out action block priority 1757393",
			"src 192.0.3.0/24 dst 10.0.0.0/8 dir out action block priority 1757425",
			"src 192.0.3.0/24 dst 192.0.2.0/24 dir out action block priority 1757393",
		}},
		{subnets.Of("192.0.1.0-192.0.1.2"), subnets.Of("192.0.2.1/32"), []string{
			"src 192.0.1.0/31 dst 192.0.2.1/32 dir out action block priority 1753793",
			"src 192.0.1.2/32 dst 192.0.2.1/32 dir out action block priority 1753281",
		}},
		{
			ts.Set{{Start: addr("192.0.1.1"), End: addr("192.0.1.1"), Protocol: 1, StartPort: 0x0800, EndPort: 0x08ff}},
			ts.Set{{Start: addr("192.0.2.1"), End: addr("192.0.2.1"), Protocol: 1, EndPort: 65535}},
			[]string{"src 192.0.1.1/32 dst 192.0.2.1/32 proto icmp type 8 dir out action block priority 1360065"},
		},
	} {
		r.route(kernel.Policy{ID: "c", Local: c.local, Remote: c.remote, Action: kernel.Drop})
		got := slices.DeleteFunc(policies(t, r.worker.share), func(l string) bool { return !strings.Contains(l, " dir out ") })
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s to %s (-want +got):\n%s", c.local, c.remote, diff)
		}
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// Two connections that want the same place share it: the stronger has it, the other follows when it goes.
func TestTwoPoliciesInOnePlace(t *testing.T) {
	namespace(t)
	r := open(t, Config{})
	trap, pass := westEast(t, kernel.Trap), westEast(t, kernel.Pass)
	pass.ID = "other"
	r.route(pass)
	r.route(trap)
	reqid := func() bool {
		return strings.Contains(strings.Join(policies(t, r.worker.share), "\n"), "dir out priority 1757393 tmpl")
	}
	if !reqid() {
		t.Errorf("the trap is not in place: %q", policies(t, r.worker.share))
	}
	r.must(func(n kernel.Request) { r.Unroute(n, "west-east") })
	if reqid() || len(policies(t, r.worker.share)) != 3 {
		t.Errorf("the other policy is not in place: %q", policies(t, r.worker.share))
	}
}

// A policy of somebody else is neither replaced nor removed, and the error names it.
func TestForeignPolicy(t *testing.T) {
	namespace(t)
	sh(t, "ip xfrm policy add src 192.0.2.0/24 dst 192.0.1.0/24 dir in priority 7 tmpl proto esp reqid 5 mode transport")
	r := open(t, Config{})
	d := r.await(func(n kernel.Request) { r.Route(n, westEast(t, kernel.Hold)) })
	if d.Err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"route west-east", "192.0.2.0/24 to 192.0.1.0/24 (in)", "priority 7", "reqid 5", "somebody else", "ip xfrm policy"} {
		if !strings.Contains(d.Err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, d.Err)
		}
	}
	if got := policies(t, r.worker.share); len(got) != 1 || !strings.Contains(got[0], "reqid 5") {
		t.Errorf("left behind, or theirs is gone: %q", got)
	}
	if n := len(r.worker.share.reqids) + len(r.worker.share.indices); n != 0 {
		t.Errorf("%d numbers are still taken", n)
	}
}

// What somebody has put in the place of a policy of ours, after a flush, is theirs: it is neither replaced nor removed. What was flushed comes back with the next change.
func TestFlushedByOthers(t *testing.T) {
	namespace(t)
	r := open(t, Config{})
	p := westEast(t, kernel.Hold)
	r.route(p)
	had := len(policies(t, r.worker.share))
	r.stalled(func() { // before it hears of it
		sh(t, "ip xfrm policy flush")
		p.Action = kernel.Pass
		r.Route(1<<32, p)
	})
	r.route(p)
	if got := len(policies(t, r.worker.share)); got != had || had == 0 {
		t.Errorf("%d policies after the flush and a change, want %d", got, had)
	}
	theirs, before := "ip xfrm policy add src 192.0.1.0/24 dst 192.0.2.0/24 dir out priority 7 tmpl proto esp reqid 16388 mode transport", ""
	r.stalled(func() {
		sh(t, "ip xfrm policy flush")
		sh(t, theirs)
		before = sh(t, "ip xfrm policy")
	})
	p.Action = kernel.Hold
	if d := r.await(func(n kernel.Request) { r.Route(n, p) }); d.Err == nil {
		t.Error("no error names the other's policy")
	}
	r.must(func(n kernel.Request) { r.Unroute(n, p.ID) })
	if got := sh(t, "ip xfrm policy"); got != before {
		t.Errorf("of another:\n%swas\n%s", got, before)
	}
}

func TestNeighbourDiscovery(t *testing.T) {
	namespace(t)
	r := open(t, Config{})
	r.route(kernel.Policy{ID: "six", Local: subnets.Of("2001:db8:1:2::45/128"), Remote: subnets.Of("2001:db8:1:2::23/128"), Action: kernel.Hold})
	want := []string{
		"src ::/0 dst ::/0 proto ipv6-icmp type 135 dir in priority 1",
		"src ::/0 dst ::/0 proto ipv6-icmp type 135 dir out priority 1",
		"src ::/0 dst ::/0 proto ipv6-icmp type 136 dir in priority 1",
		"src ::/0 dst ::/0 proto ipv6-icmp type 136 dir out priority 1",
	}
	got := slices.DeleteFunc(policies(t, r.worker.share), func(l string) bool { return !strings.Contains(l, "icmp") })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	r.must(func(n kernel.Request) { r.Unroute(n, "six") })
	if left := policies(t, r.worker.share); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// Everything remote is not the link, nor the local subnet itself.
func TestSpared(t *testing.T) {
	namespace(t)
	r := open(t, Config{})
	r.route(kernel.Policy{ID: "road", Local: subnets.Of("192.0.1.0/24"), Remote: subnets.Of("0.0.0.0/0"), Action: kernel.Hold})
	all := strings.Join(policies(t, r.worker.share), "\n")
	for _, want := range []string{
		"src 192.0.1.0/24 dst 0.0.0.0/0 dir out action block", "src 192.0.1.0/24 dst 192.0.1.0/24 dir out priority", "src 192.0.1.0/24 dst 224.0.0.0/4 dir out priority",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
}

// knock sends a packet that meets the policy of westEast.
func knock(t *testing.T) {
	t.Helper()
	sh(t, "ip route replace 192.0.2.0/24 dev eth0 src 192.0.1.254")
	_ = exec.Command("ping", "-c1", "-W1", "192.0.2.1").Run() // it gets no answer
}

// A packet for a trap is told once, with what it is, and again once the trap is set again.
func TestAcquire(t *testing.T) {
	namespace(t)
	r := open(t, Config{})
	r.route(westEast(t, kernel.Trap))
	for round := range 2 {
		knock(t)
		r.until("acquire", func() bool { return len(r.heard) > round })
		a, ok := r.heard[round].(kernel.Acquire)
		if !ok || a.Policy != "west-east" || a.Protocol != 1 && a.Protocol != 17 || a.Src.Addr() != addr("192.0.1.254") || a.Dst.Addr() != addr("192.0.2.1") {
			t.Fatalf("%+v", r.heard)
		}
		if got := sh(t, "ip xfrm state count"); !strings.Contains(got, "SAD count 1") {
			t.Errorf("after an acquire: %s", got)
		}
		r.route(westEast(t, kernel.Hold))
		if got := sh(t, "ip xfrm state count"); !strings.Contains(got, "SAD count 0") {
			t.Errorf("after the trap is gone: %s", got)
		}
		r.route(westEast(t, kernel.Trap))
	}
}

// The policies go in place: at no moment is one of them missing.
func TestClosedDatapathAnswers(t *testing.T) {
	namespace(t)
	r := open(t, Config{})
	r.route(westEast(t, kernel.Hold))
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if d := r.await(func(n kernel.Request) { r.Route(n, westEast(t, kernel.Hold)) }); d.Err == nil {
		t.Error("no error")
	}
	if left := policies(t, r.worker.share); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestMasks(t *testing.T) {
	for first := 0; first < 70000; first = first*3 + 1 {
		for last := first; last < 65536; last = last*2 + 1 {
			for _, probe := range []int{0, 1, first - 1, first, (first + last) / 2, last, last + 1, 65535} {
				want, got := probe >= first && probe <= last, 0
				for _, m := range maskRange(uint32(first), uint32(last), 16) {
					if uint16(probe)&m.Mask == m.Port {
						got++
					}
				}
				if probe >= 0 && probe < 65536 && (got == 1) != want {
					t.Fatalf("%d to %d: %d is covered %d times", first, last, probe, got)
				}
			}
		}
	}
}

func TestTypesAndCodes(t *testing.T) {
	for _, c := range []struct{ first, last uint16 }{{0, 65535}, {0x0800, 0x08ff}, {0x0803, 0x0805}, {0x0301, 0x0d04}, {0x0300, 0x0d04}, {0x0005, 0xff03}, {0x8700, 0x88ff}} {
		for probe := range 65536 {
			n := 0
			for _, p := range typesAndCodes(c.first, c.last) {
				if uint16(probe>>8)&p[0].Mask == p[0].Port && uint16(probe&0xff)&p[1].Mask == p[1].Port {
					n++
				}
			}
			want := 0
			if probe >= int(c.first) && probe <= int(c.last) {
				want = 1
			}
			if n != want {
				t.Fatalf("%#x to %#x: %#x is covered %d times", c.first, c.last, probe, n)
			}
		}
	}
}

// What a wide connection spares is still protected by a narrower one, and stands where no other claims it.
func TestSparedBesideOthers(t *testing.T) {
	namespace(t)
	r := open(t, Config{})
	r.route(kernel.Policy{ID: "road", Local: subnets.Of("192.0.1.0/24"), Remote: subnets.Of("0.0.0.0/0"), Action: kernel.Hold})
	r.route(kernel.Policy{ID: "hosts", Local: subnets.Of("192.0.1.5/32"), Remote: subnets.Of("192.0.1.6/32"), Action: kernel.Hold})
	r.route(kernel.Policy{ID: "groups", Local: subnets.Of("192.0.1.0/24"), Remote: subnets.Of("0.0.0.0/0", "224.0.0.0/4"), Action: kernel.Hold})
	claim := func(src, dst string) message.Policy {
		t.Helper()
		s := message.Selector{Src: netip.MustParsePrefix(src), Dst: netip.MustParsePrefix(dst)}
		at := r.worker.spd.places[place{selector: s, direction: message.Out}]
		if at == nil || at.kernel == nil {
			t.Fatalf("no policy %s to %s in\n%s", src, dst, strings.Join(policies(t, r.worker.share), "\n"))
		}
		return at.kernel.Policy
	}
	wide, spare, narrow := claim("192.0.1.0/24", "0.0.0.0/0"), claim("192.0.1.0/24", "192.0.1.0/24"), claim("192.0.1.5/32", "192.0.1.6/32")
	if spare.Action == message.Block || spare.Priority >= wide.Priority {
		t.Errorf("spared %+v beside %+v", spare, wide)
	}
	if narrow.Action != message.Block || narrow.Priority >= spare.Priority {
		t.Errorf("the narrower %+v beside what is spared, %+v", narrow, spare)
	}
	for _, p := range spared([]message.Selector{
		{Src: netip.MustParsePrefix("192.0.1.0/24"), Dst: netip.MustParsePrefix("0.0.0.0/0")}, {Src: netip.MustParsePrefix("192.0.1.0/24"), Dst: netip.MustParsePrefix("224.0.0.0/4")},
	}) {
		if p.Dst.String() == "224.0.0.0/4" {
			t.Error("what the policy names is spared")
		}
	}
	ports := message.Ports{Port: 53, Mask: 0xffff}
	for _, p := range spared([]message.Selector{{Src: netip.MustParsePrefix("192.0.1.0/24"), Dst: netip.MustParsePrefix("0.0.0.0/0"), Protocol: 17, DstPorts: ports}}) {
		if p.Protocol != 17 || p.DstPorts != ports {
			t.Errorf("more is spared than the policy has: %+v", p)
		}
	}
}

// What waits at a policy goes on to the other half when that has the SA, if it is led there, and is dropped before it could leave in clear if not: at a policy of an earlier daemon, or
// from before the policy was led.
func TestWaitsForOtherHalf(t *testing.T) {
	p := westEast(t, kernel.Hold)
	p.LocalAddr, p.RemoteAddr = westAddr, eastAddr
	led, passes := p, p
	led.Led, passes.Led, passes.InboundOnly, passes.Action = true, true, true, kernel.Protect
	for _, tc := range []struct {
		name   string
		killed bool // the first was an earlier daemon's
		first  []kernel.Policy
		drops  bool
	}{
		{"led", false, []kernel.Policy{led}, false},
		{"led after it passed", false, []kernel.Policy{p, passes, led}, false},
		{"not led", false, []kernel.Policy{p}, true},
		{"led since", false, []kernel.Policy{p, led}, true},
		{"of an earlier daemon", true, []kernel.Policy{led}, true},
		{"of an earlier daemon, led since", true, []kernel.Policy{p, led}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			namespace(t)
			rest, dir := tc.first, t.TempDir()
			if tc.killed {
				killed := openUnclosed(t, Config{RunDir: dir})
				killed.route(rest[0])
				killed.kill()
				rest = rest[1:]
			}
			r := open(t, Config{RunDir: dir})
			for _, q := range rest {
				r.route(q)
			}
			out := func() string { return sh(t, "ip xfrm policy list dir out") }
			if !strings.Contains(out(), "tmpl") {
				t.Fatalf("nothing waits there: %s", out())
			}
			var removed int
			r.requests.tell(func() {
				r.conn.refuse = func(kind message.Type) error {
					if kind == message.DELPOLICY && removed == 0 {
						all, err := policiesInKernel(r.conn)
						if err == nil && slices.ContainsFunc(all, func(p *message.Policy) bool { return p.Direction == message.Out && p.Template != nil }) {
							removed = 1
						}
					}
					return nil
				}
			})
			r.route(passes)
			r.must(func(n kernel.Request) { r.Unroute(n, "behind it") })
			if (removed == 1) != tc.drops || strings.Contains(out(), "tmpl") {
				t.Errorf("it was removed before: %v, want %v; %s", removed == 1, tc.drops, out())
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

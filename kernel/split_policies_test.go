package kernel

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/pkg/path"
)

// TestSplitActions: what happens without an SA is the userspace half's; the kernel lets such packets pass to it, so that a wider policy of the kernel does not take
// them, and Pass passes in both.
func TestSplitActions(t *testing.T) {
	for action := Protect; action <= Reject; action++ {
		r := newSplitRig(t)
		p := splitPol("c")
		p.Action = action
		r.must(func(q Request) { r.s.Route(q, p) })
		k, u := r.kernelPolicies()[0], r.user.Policies()[0]
		if u.Action != action || u.InboundOnly {
			t.Errorf("action %d: userspace %+v", action, u)
		}
		if action == Pass && k.Action != Pass || action != Pass && (k.Action != Protect || !k.InboundOnly) {
			t.Errorf("action %d: kernel %+v", action, k)
		}
	}
}

// TestSplitWaits: packets wait for their SA in the kernel, whichever half gets it: that of the userspace half lets them go on to the TUN.
func TestSplitWaits(t *testing.T) {
	known := func(a Action) Policy {
		p := splitPol("c")
		p.Action, p.LocalAddr, p.RemoteAddr = a, splitPaths[path.ESP].Local.Addr(), splitPaths[path.ESP].Remote.Addr()
		return p
	}
	sprung := []Policy{known(Trap), known(Drop)}
	nowhere := known(Hold)
	nowhere.RemoteAddr = netip.Addr{}
	trapOfAll := known(Trap)
	trapOfAll.RemoteAddr = netip.Addr{}
	other := known(Trap)
	other.Backend = BackendUserspace
	for _, tc := range []struct {
		name     string
		policies []Policy
		want     Action // of the kernel; what is InboundOnly there protects
		out      bool
	}{
		{"trap", []Policy{known(Trap)}, Trap, true},
		{"trap without a peer", []Policy{trapOfAll}, Trap, true},
		{"hold", []Policy{known(Hold)}, Hold, true},
		{"hold without a peer", []Policy{nowhere}, Protect, false},
		{"protect", []Policy{known(Protect)}, Protect, true},
		{"drop", []Policy{known(Drop)}, Protect, false},
		{"drop behind a trap", sprung, Drop, true},
		{"reject behind a trap", []Policy{known(Trap), known(Reject)}, Protect, false},
		{"drop long after a trap", []Policy{known(Trap), known(Reject), known(Drop)}, Protect, false},
		{"backend=userspace", []Policy{other}, Protect, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newSplitRigOf(t, Features{Waits: true})
			expect := func(when string, want Action, out bool) {
				t.Helper()
				if k := r.kernelPolicies()[0]; k.Action != want || k.InboundOnly == out {
					t.Errorf("%s: %+v", when, k)
				}
			}
			for _, p := range tc.policies {
				r.must(func(q Request) { r.s.Route(q, p) })
			}
			last := tc.policies[len(tc.policies)-1]
			expect("at first", tc.want, tc.out)
			if u := r.user.Policies()[0]; u.Action != last.Action {
				t.Errorf("userspace: %+v", u)
			}
			if last.Backend == BackendUserspace {
				return
			}
			r.log = nil
			tcp := r.install("c", path.TCP, false)
			expect("over TCP", Protect, false)
			if len(r.log) == 0 || !strings.HasPrefix(r.log[0], "user install") {
				t.Errorf("what waits has gone on before there was an SA: %q", r.log)
			}
			r.remove(tcp)
			expect("after TCP", tc.want, tc.out)
			udp := r.install("c", path.UDP, false)
			if k := r.kernelPolicies()[0]; k.InboundOnly {
				t.Errorf("over UDP: %+v", k)
			}
			r.must(func(q Request) { r.s.Route(q, known(Protect)) })
			expect("over UDP", Protect, true)
			r.must(func(q Request) { r.s.Route(q, last) })
			r.remove(udp)
		})
	}
}

// TestSplitActionsWithKernelTCP: where the kernel carries ESP in TCP too, a policy without backend= is its own, but what is to pass has to pass beside a wider policy of the
// userspace half, also when that is what comes of another action or turns into one.
func TestSplitActionsWithKernelTCP(t *testing.T) {
	for _, backend := range []Backend{BackendAuto, BackendXFRM} {
		r := newSplitRigOf(t, Features{TCP: true})
		for _, action := range []Action{Hold, Pass, Protect, Trap, Pass, Reject} {
			p := splitPol("c")
			p.Action, p.Backend = action, backend
			r.must(func(q Request) { r.s.Route(q, p) })
			if k := r.kernelPolicies()[0]; k.Action != action || k.InboundOnly {
				t.Errorf("%s, action %d: kernel %+v", backend, action, k)
			}
			if u := r.user.Policies(); action == Pass != (len(u) == 1) || len(u) == 1 && u[0].Action != Pass {
				t.Errorf("%s, action %d: userspace %+v", backend, action, u)
			}
		}
		r.must(func(q Request) { r.s.Unroute(q, "c") })
		if k, u := r.kernelPolicies(), r.user.Policies(); len(k)+len(u) != 0 {
			t.Errorf("%s: left %v, %v", backend, k, u)
		}
	}
}

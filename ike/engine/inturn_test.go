package engine

import (
	"testing"
	"testing/synctest"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/wire"
)

// deleter is a responder that removes its child on the second message, and answers that one and all others.
func deleter(m *script, in machine.Input) []machine.Effect {
	d, ok := in.(machine.Datagram)
	if !ok || len(m.inputs) == 1 {
		return responder(m, in)
	}
	reply := machine.Send{Path: d.Path, Data: header(wire.Header{InitiatorSPI: 1, ResponderSPI: m.cfg.SPI, Exchange: iana.INFORMATIONAL, Flags: wire.FlagResponse})}
	return []machine.Effect{machine.Remove{Child: 1, SPIIn: 0x1000}, reply}
}

// TestDeleteIsAnsweredWhenDone: the peer takes its half of a Child SA away when its Delete is answered, so that the answer has to wait until nothing is sealed with ours
// any more. A datapath that does not answer at all holds up neither what the peer repeats nor the end of the IKE SA.
func TestDeleteIsAnsweredWhenDone(t *testing.T) {
	for name, tc := range map[string]struct {
		more int // messages of the peer after its Delete
		then func(*rig, *kernel.Fake)
	}{
		"done":           {0, func(_ *rig, dp *kernel.Fake) { dp.Complete() }},
		"done, repeated": {2, func(_ *rig, dp *kernel.Fake) { dp.Complete() }},
		"never done":     {maxHeld, func(*rig, *kernel.Fake) {}},
		"ended": {0, func(r *rig, _ *kernel.Fake) {
			r.inShard(func() {
				for _, a := range r.s.sas {
					r.s.step(a, machine.CloseIKE{Reason: event.ReasonOperator})
				}
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, policy.Setup{}, deleter, func(t *testing.T, r *rig) {
				slow := kernel.NewFake(kernel.FakeOptions{Manual: true, Events: r.e.KernelEvent})
				r.inShard(func() { r.e.dp = slow })
				r.stranger(1)
				for slow.Complete() > 0 {
					synctest.Wait()
				}
				m := r.machines()[0]
				for i := range tc.more + 1 {
					r.to(m, udp("192.1.2.45:500"))
					if n := len(r.mux.replies(t)); n > 0 && i < maxHeld {
						t.Fatalf("%d replies after %d messages, and the datapath is still at it: %v", n, i+1, slow.Calls())
					}
				}
				tc.then(r, slow)
				if n := len(r.mux.replies(t)); n != tc.more+1 {
					t.Errorf("%d replies to %d messages", n, tc.more+1)
				}
			})
		})
	}
}

package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
	"github.com/ikegod/ikegod/transport"
)

// attacher is a transport that is asked to hand streams to the kernel.
type attacher struct {
	*books
	asked  []path.Path
	kept   []path.Path
	answer func(p path.Path, done func(error))
}

func (a *attacher) KeepESP(p path.Path) { a.kept = append(a.kept, p) }

func (a *attacher) AttachESP(p path.Path, done func(error)) {
	a.asked = append(a.asked, p)
	a.answer(p, done)
}

// stranger on a stream, as rig.stranger is on UDP.
func (r *rig) strangerOn(p path.Path) {
	r.e.Accepted(p)
	r.e.IKE(transport.Datagram{Path: p, Data: initRequest(1, nil)})
	synctest.Wait()
}

// installDone is what the machine heard about its child, if anything.
func installDone(m *script) (done machine.InstallDone, ok bool) {
	for _, in := range m.inputs {
		if in, is := in.(machine.InstallDone); is {
			return in, true
		}
	}
	return done, false
}

// TestHandOver: the SAs, then the socket, and only then are packets let out and does the machine hear that they are there. A socket that the kernel does not take takes them away again; with a stream that is lost they wait for the next.
func TestHandOver(t *testing.T) {
	p := tcp("192.1.2.45:41000", 1)
	refusal := errors.New("this kernel cannot carry ESP in TCP")
	for _, tc := range []struct {
		name   string
		answer error
		want   error
	}{{"taken", nil, nil}, {"refused", refusal, refusal}, {"stream lost meanwhile", fmt.Errorf("x: %w", transport.ErrNoPath), nil}} {
		t.Run(tc.name, func(t *testing.T) {
			inRig(t, policy.Setup{}, responder, func(t *testing.T, r *rig) {
				var done func(error)
				a := &attacher{books: r.mux}
				a.answer = func(_ path.Path, f func(error)) {
					if pairs := r.dp.Pairs(); len(pairs) != 1 || !pairs[0].Endpoints.Held {
						t.Errorf("asked with %+v in place", pairs)
					}
					done = f
				}
				r.e.attach = a.AttachESP
				r.strangerOn(p)
				m := r.machines()[0]
				if _, told := installDone(m); told || done == nil {
					t.Fatalf("told %v before the answer; asked %v", told, a.asked)
				}
				done(tc.answer)
				synctest.Wait()
				if in, told := installDone(m); !told || !errors.Is(in.Err, tc.want) || tc.want == nil && in.Err != nil {
					t.Errorf("told %v: %v", told, in.Err)
				}
				pairs := r.dp.Pairs()
				if len(pairs) != map[bool]int{true: 1, false: 0}[tc.want == nil] {
					t.Errorf("%d pairs", len(pairs))
				}
				if len(pairs) > 0 && pairs[0].Endpoints.Held != errors.Is(tc.answer, transport.ErrNoPath) {
					t.Errorf("held: %v", pairs[0].Endpoints.Held)
				}
				if len(a.asked) != 1 || a.asked[0] != p {
					t.Errorf("asked for %v", a.asked)
				}
			})
		})
	}
}

// TestNoHandOverOfDatagrams: UDP has no socket of its own to give away.
func TestNoHandOverOfDatagrams(t *testing.T) {
	inRig(t, policy.Setup{}, responder, func(t *testing.T, r *rig) {
		r.e.attach = func(p path.Path, _ func(error)) { t.Errorf("asked for %s", p) }
		r.stranger(1)
		if pairs := r.dp.Pairs(); len(pairs) != 1 || pairs[0].Endpoints.Held {
			t.Errorf("in place: %+v", pairs)
		}
		if in, told := installDone(r.machines()[0]); !told || in.Err != nil {
			t.Errorf("told %v: %v", told, in.Err)
		}
	})
}

// moverTo is a responder whose Child SA goes to a stream with the first message on it.
func moverTo(p path.Path) func(*script, machine.Input) []machine.Effect {
	return func(m *script, in machine.Input) []machine.Effect {
		if d, ok := in.(machine.Datagram); ok && d.Path == p {
			for _, in := range m.inputs {
				if got, is := in.(machine.SPIReserved); is {
					return []machine.Effect{machine.Move{Child: 1, SPIIn: got.SPI, Path: p}}
				}
			}
		}
		return responder(m, in)
	}
}

// peerMoves has the peer send a message on another stream.
func (r *rig) peerMoves(m *script, p path.Path) {
	r.e.Accepted(p)
	r.inShard(func() { r.s.ownStream(r.s.sas[m.cfg.SPI], p) }) // as after a dial of our own
	r.e.IKE(transport.Datagram{Path: p, Data: header(wire.Header{
		InitiatorSPI: 1, ResponderSPI: m.cfg.SPI, Exchange: iana.INFORMATIONAL, Flags: wire.FlagInitiator, MessageID: 2,
	})})
	synctest.Wait()
}

// TestMoveDuringHandOver: SAs that have moved while the first stream was handed over stay where they are.
func TestMoveDuringHandOver(t *testing.T) {
	first, second := tcp("192.1.2.45:41000", 1), tcp("192.1.2.45:41001", 2)
	inRig(t, policy.Setup{}, moverTo(second), func(t *testing.T, r *rig) {
		var late func(error)
		a := &attacher{books: r.mux}
		a.answer = func(p path.Path, done func(error)) {
			if p == first {
				late = done
				return
			}
			done(nil)
		}
		r.e.attach = a.AttachESP
		r.strangerOn(first)
		r.peerMoves(r.machines()[0], second)
		late(nil)
		synctest.Wait()
		if pairs := r.dp.Pairs(); len(pairs) != 1 || pairs[0].Endpoints.Held || pairs[0].Endpoints.Path != second {
			t.Errorf("in place: %+v", pairs)
		}
	})
}

// TestHandOverAfterMove: a new stream is handed over when the SAs are on it; if the kernel does not take it, the Child SA goes, for it can send nowhere.
func TestHandOverAfterMove(t *testing.T) {
	first, second := tcp("192.1.2.45:41000", 1), tcp("192.1.2.45:41001", 2)
	mover := moverTo(second)
	for _, refused := range []bool{false, true} {
		inRig(t, policy.Setup{}, mover, func(t *testing.T, r *rig) {
			a := &attacher{books: r.mux}
			a.answer = func(p path.Path, done func(error)) {
				if p == second && refused {
					done(errors.New("no room for another"))
					return
				}
				done(nil)
			}
			r.e.attach = a.AttachESP
			r.strangerOn(first)
			m := r.machines()[0]
			r.peerMoves(m, second)
			if len(a.asked) != 2 || a.asked[1] != second {
				t.Fatalf("asked for %v", a.asked)
			}
			if !slices.Contains(r.mux.owned, second) {
				t.Errorf("the transport does not know that the IKE SA owns its new stream; it knows of %v", r.mux.owned)
			}
			closed := false
			for _, in := range m.inputs {
				if in, ok := in.(machine.CloseChild); ok && in.Child == 1 {
					closed = true
				}
			}
			told := false
			for _, ev := range r.events {
				told = told || ev.Level == event.Warn && strings.Contains(ev.Text, "no room for another")
			}
			if closed != refused || told != refused {
				t.Errorf("refused %v: Child SA closed %v, told %v", refused, closed, told)
			}
		})
	}
}

// TestHeldUntilItsNewStream: packets that wait since their first stream was lost go on waiting until the next one carries ESP, not only until the SAs are on it.
func TestHeldUntilItsNewStream(t *testing.T) {
	first, second := tcp("192.1.2.45:41000", 1), tcp("192.1.2.45:41001", 2)
	noMemory := fmt.Errorf("outbound: %w", kernel.ErrMemory)
	for _, tc := range []struct {
		name    string
		refused int // which Move the kernel has no memory for; zero: none
	}{{"taken", 0}, {"not moved", 1}, {"not let go", 2}} {
		t.Run(tc.name, func(t *testing.T) {
			inRig(t, policy.Setup{}, moverTo(second), func(t *testing.T, r *rig) {
				a := &attacher{books: r.mux}
				a.answer = func(p path.Path, done func(error)) {
					if p == first {
						done(transport.ErrNoPath)
						return
					}
					if pairs := r.dp.Pairs(); len(pairs) != 1 || !pairs[0].Endpoints.Held || pairs[0].Endpoints.Path != second {
						t.Errorf("asked with %+v in place", pairs)
					}
					if tc.refused == 2 {
						r.dp.Refuse(kernel.OpMove, noMemory)
					}
					done(nil)
				}
				r.e.attach = a.AttachESP
				r.strangerOn(first)
				if tc.refused == 1 {
					r.dp.Refuse(kernel.OpMove, noMemory)
				}
				m := r.machines()[0]
				r.peerMoves(m, second)
				if pairs := r.dp.Pairs(); len(pairs) != 1 || pairs[0].Endpoints.Held != (tc.refused > 0) {
					t.Errorf("in place: %+v", pairs)
				}
				rekeyed := slices.Contains(m.inputs, machine.Input(machine.RekeyChild{Child: 1, OrClose: true}))
				told := slices.ContainsFunc(r.events, func(ev event.Event) bool {
					return ev.Level == event.Warn && strings.Contains(ev.Text, kernel.ErrMemory.Error())
				})
				if rekeyed != (tc.refused > 0) || told != rekeyed {
					t.Errorf("rekeyed %v, told %v", rekeyed, told)
				}
			})
		})
	}
}

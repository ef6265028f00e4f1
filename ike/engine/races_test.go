package engine

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/wire"
)

// slowToClose is responder, but CloseIKE is only noted: the IKE SA ends when the test says so.
func slowToClose(m *script, in machine.Input) []machine.Effect {
	switch in.(type) {
	case machine.CloseIKE:
		return nil
	case machine.Tick:
		return []machine.Effect{machine.Close{Close: event.Close{Reason: event.ReasonOperator}}}
	}
	return responder(m, in)
}

// end ends the IKE SA of a script.
func (r *rig) end(m *script) { r.inShard(func() { r.s.step(r.s.sas[m.cfg.SPI], machine.Tick{}) }) }

func (r *rig) status(t *testing.T) ConnectionStatus {
	t.Helper()
	synctest.Wait()
	return r.e.Connections()[0]
}

// TestPanicWhileInstalled: an IKE SA that ends in the very Step that hears of its Child SA is not counted in its connection, neither up nor down.
func TestPanicWhileInstalled(t *testing.T) {
	bomb := true
	do := func(m *script, in machine.Input) []machine.Effect {
		if _, ok := in.(machine.InstallDone); ok && bomb {
			bomb = false
			panic("index out of range")
		}
		return responder(m, in)
	}
	inRig(t, policy.Setup{}, do, func(t *testing.T, r *rig) {
		r.stranger(1)
		c := r.e.view.Load().byName["west-east"]
		if c.children != 0 || c.sas != 0 || r.e.Stats().Panics != 1 {
			t.Errorf("%d children, %d IKE SAs, %+v", c.children, c.sas, r.e.Stats())
		}
		r.stranger(2)
		if c.children != 1 || r.status(t).State != "up" {
			t.Errorf("%d children, %+v", c.children, r.status(t))
		}
	})
}

// TestRefusedBesideThePeers: both ends initiate, the peer's IKE SA gets its Child SA first, and ours stays without one. When the peer's goes, the
// connection is revived: nothing is on its way.
func TestRefusedBesideThePeers(t *testing.T) {
	do := func(m *script, in machine.Input) []machine.Effect {
		if !m.initiator {
			return slowToClose(m, in)
		}
		switch in.(type) {
		case machine.Start:
			h := wire.Header{InitiatorSPI: m.cfg.SPI, Exchange: iana.IKE_AUTH, Flags: wire.FlagInitiator, MessageID: 1}
			return []machine.Effect{machine.Send{Path: udp("192.1.2.45:500"), Data: header(h)}}
		case machine.Tick:
			why := event.Close{Reason: event.ReasonPeerError, Notify: iana.NO_ADDITIONAL_SAS}
			return []machine.Effect{
				machine.Emit{Event: event.Event{Kind: event.KindIKEUp}}, machine.Emit{Event: event.Event{Kind: event.KindChildFailed, Close: &why}},
			}
		case machine.CloseIKE:
			return []machine.Effect{machine.Close{}}
		}
		return nil
	}
	inRig(t, policy.Setup{ListenUDP: true}, do, func(t *testing.T, r *rig) {
		up := make(chan error, 1)
		go func() { up <- r.e.Up(t.Context(), "west-east", nil) }()
		synctest.Wait()
		r.stranger(1)
		if err := <-up; err != nil {
			t.Fatal(err)
		}
		ours, theirs := r.machines()[0], r.machines()[1]
		r.end(ours) // its Child SA is refused
		if s := r.status(t); s.State != "up" {
			t.Errorf("%+v", s)
		}
		r.end(theirs)
		time.Sleep(time.Second)
		if n := len(r.machines()); n != 3 {
			t.Errorf("%d IKE SAs were made, want a third: %+v", n, r.status(t))
		}
	})
}

// TestUpWhileGoingDown: whoever waits for a Down that an Up overtakes is told so.
func TestUpWhileGoingDown(t *testing.T) {
	inRig(t, policy.Setup{ListenUDP: true}, slowToClose, func(t *testing.T, r *rig) {
		r.stranger(1)
		down := make(chan error, 1)
		go func() { down <- r.e.Down(t.Context(), "west-east", nil) }()
		synctest.Wait()
		if err := r.e.Up(t.Context(), "west-east", nil); err != nil {
			t.Error(err)
		}
		r.end(r.machines()[0])
		select {
		case err := <-down:
			if err == nil || !strings.Contains(err.Error(), "west-east") {
				t.Error(err)
			}
		default:
			t.Error("the Down has no end")
		}
		if s := r.status(t); s.State != "negotiating" && s.State != "waiting for revival" {
			t.Errorf("%+v", s)
		}
	})
}

// TestDownWhileDialing: a Down stops the dial; an Up right after it begins anew, although another IKE SA of the connection is still there.
func TestDownWhileDialing(t *testing.T) {
	inRig(t, policy.Setup{}, slowToClose, func(t *testing.T, r *rig) {
		c := connection("west-east")
		c.TCP = policy.TCP{Mode: policy.TCPYes, RemotePort: 4500}
		if err := r.e.Apply(t.Context(), &policy.Set{Connections: []*policy.Connection{c}}); err != nil {
			t.Fatal(err)
		}
		hung := make(chan struct{})
		defer close(hung)
		r.mux.dial = func() (path.Path, error) { <-hung; return path.Path{}, errors.New("given up") }
		r.stranger(1)
		control := r.e.view.Load().byName["west-east"]
		theirs := r.machines()[0]
		r.inShard(func() { r.s.removeChildren(r.s.sas[theirs.cfg.SPI]) }) // the peer's IKE SA is there, without a Child SA
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = r.e.Up(ctx, "west-east", nil) }()
		synctest.Wait()
		go func() { _ = r.e.Down(ctx, "west-east", nil) }()
		synctest.Wait()
		go func() { _ = r.e.Up(ctx, "west-east", nil) }()
		synctest.Wait()
		r.inShard(func() {
			if control.phase == phaseNegotiating && control.dial == nil && control.attempt == nil {
				t.Error("it is being negotiated, and nothing is on its way")
			}
		})
	})
}

// TestChangedWhileNobodyWaits: the client that asked for a change goes away. What the old connection leaves is cleared before the new one is loaded, and
// not after it.
func TestChangedWhileNobodyWaits(t *testing.T) {
	inRig(t, policy.Setup{}, slowToClose, func(t *testing.T, r *rig) {
		r.stranger(1)
		c := connection("west-east")
		c.Auto = policy.AutoOnDemand
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.e.Apply(ctx, &policy.Set{Connections: []*policy.Connection{c}}) }()
		synctest.Wait()
		cancel()
		<-done
		r.end(r.machines()[0])
		if p := r.dp.Policies(); len(p) != 1 || p[0].Action != kernel.Trap {
			t.Errorf("the trap of the new connection is not there: %v", p)
		}
		if err := r.e.Delete(t.Context(), "west-east"); err != nil {
			t.Error(err)
		}
		if p := r.dp.Policies(); len(p) != 0 {
			t.Errorf("left: %v", p)
		}
	})
}

// TestLostBeforeOwned: a stream that ends between the dial's end and its shard hearing of it is a failed rung at once, not a silent peer.
func TestLostBeforeOwned(t *testing.T) {
	inRig(t, policy.Setup{}, nil, func(t *testing.T, r *rig) {
		c := connection("west-east")
		c.TCP = policy.TCP{Mode: policy.TCPYes, RemotePort: 4500}
		if err := r.e.Apply(t.Context(), &policy.Set{Connections: []*policy.Connection{c}}); err != nil {
			t.Fatal(err)
		}
		p, dialing := tcp("192.1.2.45:4500", 7), make(chan struct{})
		r.mux.dial = func() (path.Path, error) { <-dialing; return p, nil }
		up := make(chan error, 1)
		go func() { up <- r.e.Up(t.Context(), "west-east", nil) }()
		synctest.Wait()
		r.inShard(func() {
			close(dialing)
			for !r.e.streams.alive(p) {
				time.Sleep(time.Millisecond)
			}
			r.e.Lost(p, errors.New("reset by the peer"))
		})
		time.Sleep(10 * time.Millisecond)
		select {
		case err := <-up:
			if err == nil || !strings.Contains(err.Error(), errLostEarly.Error()) {
				t.Error(err)
			}
		default:
			t.Error("an IKE_SA_INIT waits for its answer on a stream that has ended")
		}
	})
}

// TestGoneWithoutLadder: a connection that has nothing to try by itself is planned again all the same when its peer's Child SA goes.
func TestGoneWithoutLadder(t *testing.T) {
	inRig(t, policy.Setup{}, slowToClose, func(t *testing.T, r *rig) {
		if err := r.e.Up(t.Context(), "west-east", nil); err == nil {
			t.Fatal("up without any carrier")
		}
		r.stranger(1)
		r.end(r.machines()[0])
		if s := r.status(t); s.State != "waiting for revival" || r.e.Stats().Panics != 0 {
			t.Errorf("%+v, %d panics", s, r.e.Stats().Panics)
		}
	})
}

// TestAcquireOfTemplate: a packet cannot bring up a connection whose peer is not known.
func TestAcquireOfTemplate(t *testing.T) {
	inRig(t, policy.Setup{ListenUDP: true}, responder, func(t *testing.T, r *rig) {
		c := connection("west-east")
		c.Left.Host = policy.Host{Kind: policy.HostAny}
		if err := r.e.Apply(t.Context(), &policy.Set{Setup: policy.Setup{ListenUDP: true}, Connections: []*policy.Connection{c}}); err != nil {
			t.Fatal(err)
		}
		control := r.e.view.Load().byName["west-east"]
		r.inShard(func() { control.acquire(kernel.Acquire{}) })
		if n := len(r.machines()); n != 0 || r.status(t).State != "down" {
			t.Errorf("%d machines, %+v", n, r.status(t))
		}
	})
}

// brittle is a datapath that panics on Remove.
type brittle struct{ *kernel.Fake }

func (brittle) Remove(kernel.Request, ...kernel.SPI) { panic("the datapath is broken") }

// TestPanicInCleanup: when even taking an IKE SA away panics, the shard goes on with the others.
func TestPanicInCleanup(t *testing.T) {
	first := true
	bomb := func(m *script, in machine.Input) []machine.Effect {
		switch in := in.(type) {
		case machine.SPIReserved:
			if first {
				return []machine.Effect{installEffect(m, in.Child, in.SPI+1, udp("192.1.2.45:500"))} // refused at once: the answer waits for its turn
			}
		case machine.InstallDone:
			if first {
				first = false
				panic("index out of range")
			}
		}
		return responder(m, in)
	}
	inRig(t, policy.Setup{}, bomb, func(t *testing.T, r *rig) {
		whole := r.e.dp
		r.inShard(func() { r.e.dp = brittle{r.dp} })
		r.stranger(1)
		r.inShard(func() { r.e.dp = whole })
		r.stranger(2)
		if s := r.e.Stats(); s.Established != 1 || s.Panics != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// TestCookiesWhileWorkersAreBusy: key exchanges that wait for a worker make strangers prove their addresses, long before there are many of them; and what nobody
// waits for any more is not computed.
func TestCookiesWhileWorkersAreBusy(t *testing.T) {
	inRig(t, policy.Setup{}, nil, func(t *testing.T, r *rig) {
		hung, computed := make(chan struct{}), false
		for range maxBacklog + runtime.GOMAXPROCS(0) {
			r.e.workers.submit(func() { <-hung })
		}
		r.stranger(1)
		if n := len(r.machines()); n != 0 {
			t.Errorf("%d IKE SAs without a cookie", n)
		}
		if sent := r.mux.replies(t); len(sent) != 1 || notifyOf(t, sent[0]).Notify != iana.COOKIE {
			t.Errorf("%v", sent)
		}
		a := &sa{s: r.s, m: &script{}}
		r.inShard(func() {
			r.s.add(a)
			r.s.toWorker(a, machine.Job{})
			r.s.forget(a, event.Close{})
			a.m = &script{do: func(*script, machine.Input) []machine.Effect { computed = true; return nil }}
			a.closed = false // so that a result would be seen
		})
		close(hung)
		synctest.Wait()
		if computed {
			t.Error("a job was done for an IKE SA that has ended")
		}
		r.stranger(2)
		if n := len(r.machines()); n != 1 {
			t.Errorf("%d IKE SAs, want 1", n)
		}
	})
}

// TestNATRebinds: authentic ESP from another address of a peer behind a NAT is answered there at once (RFC 7296 2.23), and not if it is behind none.
func TestNATRebinds(t *testing.T) {
	inRig(t, policy.Setup{}, responder, func(t *testing.T, r *rig) {
		r.stranger(1)
		m, spi, now := r.machines()[0], kernel.SPI(0x1000), udp("192.1.2.45:61000")
		moves := func() (n int) {
			synctest.Wait()
			for _, c := range r.dp.Calls() {
				if strings.HasPrefix(c, "Move") {
					n++
				}
			}
			return n
		}
		r.e.KernelEvent(kernel.PeerMoved{SPI: spi, Path: now})
		if n := moves(); n != 0 {
			t.Errorf("a peer without NAT was followed")
		}
		r.inShard(func() { m.natRemote = true })
		r.e.KernelEvent(kernel.PeerMoved{SPI: spi, Path: tcp("192.1.2.45:61000", 3)})
		if n := moves(); n != 0 {
			t.Errorf("ESP moved to a stream")
		}
		r.e.KernelEvent(kernel.PeerMoved{SPI: spi, Path: now.PlainESP()})
		if n := moves(); n != 0 {
			t.Errorf("ESP in UDP followed a peer that leaves the UDP out")
		}
		carries := func(k path.Kind) {
			r.inShard(func() { r.s.inbound[spi].children[0].carrier = k })
		}
		carries(path.ESP)
		for _, p := range []path.Path{now, now.PlainESP(), udp("198.51.100.1:4500").PlainESP()} {
			r.e.KernelEvent(kernel.PeerMoved{SPI: spi, Path: p})
			if n := moves(); n != 0 {
				t.Errorf("plain ESP followed to %s", p)
			}
		}
		carries(path.UDP)
		r.e.KernelEvent(kernel.PeerMoved{SPI: spi, Path: now})
		if n := moves(); n != 1 {
			t.Errorf("%d moves: %v", n, r.dp.Calls())
		}
	})
}

package userspace

import (
	"bytes"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/ts"
)

func packetTo(n byte) []byte { return udp("192.0.1.7", "192.0.2.9", 1000, 53, []byte{n}) }

// waitingEnd has a policy without an SA.
func waitingEnd(t *testing.T, action kernel.Action) *end {
	t.Helper()
	e := newEnd(t, Config{}, nil)
	e.Route(1, kernel.Policy{ID: "c", Local: westNet, Remote: eastNet, Action: action})
	e.must()
	return e
}

func (e *end) come(id kernel.PolicyID, n byte) [][]byte {
	e.t.Helper()
	e.Install(2, pairOf(id, gcm256, n, true, westNet, eastNet, westUDP))
	e.must()
	var all [][]byte
	for _, s := range e.wire.take() {
		all = append(all, s.packets...)
	}
	return all
}

// TestFirstPacketIsSent: what made a connection come up is sent when it is up, once, whatever its policy has become meanwhile, and the other end gets it.
func TestFirstPacketIsSent(t *testing.T) {
	for _, between := range [][]kernel.Action{nil, {kernel.Hold, kernel.Protect}, {kernel.Drop, kernel.Protect}, {kernel.Protect}} {
		e := waitingEnd(t, kernel.Trap)
		if sent := e.out(frame(packetTo(1)), frame(packetTo(2))); len(sent) != 0 {
			t.Fatal("sent without an SA")
		}
		if ev := e.settle(); len(ev) != 1 {
			t.Fatalf("events %v, want one Acquire", ev)
		}
		for _, action := range between {
			e.Route(3, kernel.Policy{ID: "c", Local: westNet, Remote: eastNet, Action: action})
			e.must()
		}
		e.Install(2, pairOf("c", gcm256, 1, true, westNet, eastNet, westUDP))
		e.must()
		east := newEnd(t, Config{}, nil)
		east.Route(1, kernel.Policy{ID: "c", Local: eastNet, Remote: westNet})
		east.Install(2, pairOf("c", gcm256, 1, false, eastNet, westNet, eastUDP))
		east.must()
		got := flatten(t, east.in(e.wire.take()...))
		if len(got) != 2 || !bytes.Equal(got[0][20:], packetTo(1)[20:]) || !bytes.Equal(got[1][20:], packetTo(2)[20:]) {
			t.Errorf("%v: the other end got %s", between, describe(got))
		}
		if len(e.Drops()) != 0 || e.waiting.count != 0 || e.waiting.octets != 0 {
			t.Errorf("%v: drops %v, %d wait, %d octets", between, e.Drops(), e.waiting.count, e.waiting.octets)
		}
		if again := e.come("c", 2); len(again) != 0 {
			t.Errorf("%v: sent again: %d", between, len(again))
		}
	}
}

// TestWaitingIsBounded: few of one policy, few of all, not much memory; the oldest stay, the others are counted.
func TestWaitingIsBounded(t *testing.T) {
	e := waitingEnd(t, kernel.Hold)
	for n := range byte(20) {
		e.out(frame(packetTo(n)))
	}
	if e.dropped(DropHeld) != 20-waitingPackets {
		t.Errorf("%d dropped", e.dropped(DropHeld))
	}
	e.Route(2, kernel.Policy{ID: "c", Local: westNet, Remote: eastNet})
	if got := e.come("c", 1); len(got) != waitingPackets {
		t.Errorf("%d sent", len(got))
	}
	many := newEnd(t, Config{}, nil)
	for i := range 300 {
		one := ts.FromPrefix(eastNet.Prefixes()[0])
		one.Protocol, one.StartPort, one.EndPort = protoUDP, uint16(i+1), uint16(i+1)
		many.Route(kernel.Request(i), kernel.Policy{ID: kernel.PolicyID(fmt.Sprint(i)), Local: westNet, Remote: ts.Set{one}, Action: kernel.Trap})
	}
	many.must()
	for i := range 300 {
		many.out(frame(udp("192.0.1.7", "192.0.2.9", 1, uint16(i+1), nil)))
	}
	if many.waiting.count != waitingMost || many.dropped(DropTrapped) != 300-waitingMost {
		t.Errorf("%d wait, %d dropped", many.waiting.count, many.dropped(DropTrapped))
	}
	large := newEnd(t, Config{}, nil)
	for i := range 10 {
		one := ts.FromPrefix(eastNet.Prefixes()[0])
		one.Protocol, one.StartPort, one.EndPort = protoTCP, uint16(i+1), uint16(i+1)
		large.Route(kernel.Request(i), kernel.Policy{ID: kernel.PolicyID(fmt.Sprint(i)), Local: westNet, Remote: ts.Set{one}, Action: kernel.Hold})
	}
	large.must()
	for i := range 10 {
		for range waitingPackets {
			large.out(super(tcp("192.0.1.7", "192.0.2.9", 1, uint16(i+1), 1, 0x10, nil, make([]byte, 60000)), unix.VIRTIO_NET_HDR_GSO_TCPV4, 1400))
		}
	}
	if large.waiting.octets > waitingOctets || large.dropped(DropHeld) == 0 {
		t.Errorf("%d octets wait, %d dropped", large.waiting.octets, large.dropped(DropHeld))
	}
}

// TestWaitingMakesRoom: packets of connections that never came up do not keep the room for ever.
func TestWaitingMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnd(t, Config{}, nil)
		for i := range waitingMost + 1 {
			one := ts.FromPrefix(eastNet.Prefixes()[0])
			one.Protocol, one.StartPort, one.EndPort = protoUDP, uint16(i+1), uint16(i+1)
			e.Route(kernel.Request(i), kernel.Policy{ID: kernel.PolicyID(fmt.Sprint(i)), Local: westNet, Remote: ts.Set{one}, Action: kernel.Trap})
		}
		e.must()
		for i := range waitingMost {
			e.out(frame(udp("192.0.1.7", "192.0.2.9", 1, uint16(i+1), nil)))
		}
		time.Sleep(waitingTime)
		e.out(frame(udp("192.0.1.7", "192.0.2.9", 1, waitingMost+1, nil)))
		if got := len(e.waiting.of[kernel.PolicyID(fmt.Sprint(waitingMost))]); got != 1 || e.waiting.count != 1 {
			t.Errorf("%d of the last connection wait, %d in all", got, e.waiting.count)
		}
	})
}

// TestWaitingEnds: after some time, or when nobody waits for an SA any more, packets are dropped and counted.
func TestWaitingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := waitingEnd(t, kernel.Trap)
		e.out(frame(packetTo(1)))
		time.Sleep(waitingTime / 2)
		e.out(frame(packetTo(2)))
		time.Sleep(waitingTime / 2)
		if got := e.Drops(); got[DropTrapped] != 1 || e.waiting.count != 1 {
			t.Errorf("drops %v, %d wait", got, e.waiting.count)
		}
		time.Sleep(waitingTime)
		if got := e.come("c", 1); len(got) != 0 || e.dropped(DropTrapped) != 2 {
			t.Errorf("%d sent after twice the time, %d dropped", len(got), e.dropped(DropTrapped))
		}
	})
	for _, next := range []kernel.Action{kernel.Pass, kernel.Reject} {
		e := waitingEnd(t, kernel.Hold)
		e.out(frame(packetTo(1)))
		e.Route(2, kernel.Policy{ID: "c", Local: westNet, Remote: eastNet, Action: next})
		e.must()
		if e.waiting.count != 0 || e.dropped(DropHeld) != 1 {
			t.Errorf("action %d: %d wait, %d dropped", next, e.waiting.count, e.dropped(DropHeld))
		}
	}
	e := waitingEnd(t, kernel.Hold)
	e.out(frame(packetTo(1)))
	e.Unroute(2, "c")
	e.must()
	if e.waiting.count != 0 || e.dropped(DropHeld) != 1 {
		t.Errorf("without the policy %d wait, %d dropped", e.waiting.count, e.dropped(DropHeld))
	}
}

// TestWaitingOutsideOfTheSA: an SA that was narrowed takes only what it is for; the rest is dropped, not kept for ever.
func TestWaitingOutsideOfTheSA(t *testing.T) {
	e := waitingEnd(t, kernel.Trap)
	e.out(frame(packetTo(1)), frame(udp("192.0.1.7", "192.0.2.10", 1000, 53, nil)))
	e.settle()
	one := ts.FromPrefix(eastNet.Prefixes()[0])
	one.Start = netip.MustParseAddr("192.0.2.9")
	one.End = one.Start
	e.Install(2, pairOf("c", gcm256, 1, true, westNet, ts.Set{one}, westUDP))
	e.must()
	if n := len(e.wire.take()); n != 1 || e.waiting.count != 0 || e.dropped(DropTrapped) != 1 {
		t.Errorf("%d sent, %d wait, %d dropped", n, e.waiting.count, e.dropped(DropTrapped))
	}
}

// lockedWire counts what is sent, by several goroutines.
type lockedWire struct {
	mu    sync.Mutex
	sends int
}

func (w *lockedWire) SendESP(path.Path, []byte, int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sends++
	return nil
}

// TestNoPacketStaysBehind: a packet that comes at the very moment of its SA is sent, whichever is first.
func TestNoPacketStaysBehind(t *testing.T) {
	for round := range 200 {
		e := newEnd(t, Config{}, nil)
		e.Route(1, kernel.Policy{ID: "c", Local: westNet, Remote: eastNet, Action: kernel.Trap})
		e.must()
		w := &lockedWire{}
		e.sender = w
		e.worker = newWorker(e.Datapath, e.q)
		e.Datapath.events = func(kernel.Event) {}
		e.Install(2, pairOf("c", gcm256, 1, true, westNet, eastNet, westUDP))
		var wg sync.WaitGroup
		wg.Go(func() {
			e.worker.frame(frame(packetTo(byte(round))))
			e.worker.flush()
		})
		wg.Go(func() { e.control.pending[0]() })
		wg.Wait()
		if w.sends != 1 || e.waiting.count != 0 {
			t.Fatalf("round %d: %d sent, %d wait", round, w.sends, e.waiting.count)
		}
	}
}

package userspace

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/pkg/ts"
)

// slowWire is a wire whose streams have room at certain times only.
type slowWire struct {
	wire
	room func(path.Path) bool
}

func (w *slowWire) RoomESP(p path.Path) bool { return w.room(p) }

func TestHoldsBackForAFullStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		west, _ := tunnel(t, gcm256, westTCP)
		far := ts.Set{ts.FromPrefix(eastNet.Prefixes()[0])}
		far[0].Start, far[0].End = far[0].Start.Prev(), far[0].Start.Prev() // 192.0.1.255, another peer by UDP
		west.Route(3, kernel.Policy{ID: "far", Local: westNet, Remote: far})
		west.Install(4, pairOf("far", gcm256, 5, true, westNet, far, westUDP))
		west.must()
		begin := time.Now()
		full := begin // without room until then
		w := &slowWire{wire: wire{t: t}, room: func(path.Path) bool { return !time.Now().Before(full) }}
		west.sender, west.wire = w, &w.wire
		west.worker = newWorker(west.Datapath, west.q)
		f := frame(udp("192.0.1.7", "192.0.2.9", 1, 2, nil))
		other := frame(udp("192.0.1.7", "192.0.1.255", 1, 2, nil))
		took := func(frame []byte) time.Duration {
			before := time.Now()
			if n := len(west.out(frame)); n != 1 {
				t.Fatalf("%d batches sent", n)
			}
			return time.Since(before)
		}
		if d := took(f); d != 0 {
			t.Errorf("with room it waited %s", d)
		}
		full = time.Now().Add(5 * time.Millisecond)
		if d := took(f); d < 5*time.Millisecond || d > 6*time.Millisecond {
			t.Errorf("waited %s for 5 ms without room", d)
		}
		full = time.Now().Add(time.Hour)
		if d := took(f); d < holdMost || d > holdMost+time.Millisecond {
			t.Errorf("waited %s for a stream that stands still", d)
		}
		if d := took(f); d != 0 {
			t.Errorf("waited again, %s, for a stream that stands still", d)
		}
		full = time.Now()
		took(f)
		full = time.Now().Add(time.Hour)
		if d := took(other); d != 0 {
			t.Errorf("UDP waited %s", d)
		}
		if d := took(f); d != 0 {
			t.Errorf("waited %s although another path is in use", d)
		}
		time.Sleep(2 * aloneTime)
		if d := took(f); d < holdMost {
			t.Errorf("waited only %s once it was alone again", d)
		}
	})
}

package xfrm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/xfrm/message"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/subnets"
)

// notices keeps what an operator is told.
type notices struct {
	mu   sync.Mutex
	said []string
}

func (n *notices) add(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.said = append(n.said, text)
}

func (n *notices) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.said)
}

// stalled does something while the worker does nothing.
func (r *rig) stalled(f func()) {
	stalled, on := make(chan struct{}), make(chan struct{})
	r.requests.tell(func() { close(stalled); <-on })
	<-stalled
	f()
	close(on)
}

// What others remove of our policies is back at once, without a change of ours, and it is said once.
func TestRemovedByOthers(t *testing.T) {
	namespace(t)
	var told notices
	r := open(t, Config{Notice: told.add})
	r.route(westEast(t, kernel.Trap))
	r.route(kernel.Policy{ID: "clear", Local: subnets.Of("192.0.1.0/24"), Remote: subnets.Of("192.0.2.64/28"), Action: kernel.Pass})
	r.route(kernel.Policy{ID: "marked", Local: subnets.Of("192.0.1.0/24"), Remote: subnets.Of("192.0.2.0/24"), Action: kernel.Hold, MarkOut: kernel.Mark{Value: 5, Mask: 0xff}})
	r.route(kernel.Policy{ID: "six", Local: subnets.Of("2001:db8:1:2::45/128"), Remote: subnets.Of("2001:db8:1:2::23/128"), Action: kernel.Drop})
	before := policies(t, r.worker.share)
	for _, command := range []string{
		"xfrm policy flush", "xfrm policy deleteall", "xfrm policy delete src 192.0.1.0/24 dst 192.0.2.0/24 dir out",
		"xfrm policy delete src 192.0.1.0/24 dst 192.0.2.0/24 dir out mark 5 mask 0xff",
		fmt.Sprintf("xfrm policy delete index %d dir out", r.worker.spd.owned["clear"][0].Index),
	} {
		if strings.Contains(command, "index 0") {
			command = "xfrm policy delete src 192.0.1.0/24 dst 192.0.2.64/28 dir out"
		}
		sh(t, "ip "+command)
		if !netns.Poll(10*time.Second, func() bool { return cmp.Equal(before, policies(t, r.worker.share)) }) {
			t.Errorf("after ip %s (-before +after):\n%s", command, cmp.Diff(before, policies(t, r.worker.share)))
		}
	}
	said := told.all()
	if len(said) != 1 || !strings.Contains(said[0], "somebody has removed policies of ikegod") || !strings.Contains(said[0], `"clear", "marked", "neighbour discovery", "six"`) {
		t.Errorf("told %q", said)
	}
}

// What somebody else has put in the place of ours meanwhile is left alone, and named; when it goes ours is back.
func TestRemovedAndReplacedByOthers(t *testing.T) {
	namespace(t)
	var told notices
	r := open(t, Config{Notice: told.add})
	p := westEast(t, kernel.Hold)
	r.route(p)
	before := policies(t, r.worker.share)
	theirs := "src 192.0.1.0/24 dst 192.0.2.0/24 dir out"
	r.stalled(func() {
		sh(t, "ip xfrm policy flush")
		sh(t, "ip xfrm policy add "+theirs+" priority 7 tmpl proto esp reqid 16388 mode transport")
	})
	if !netns.Poll(10*time.Second, func() bool { return len(policies(t, r.worker.share)) == len(before) }) {
		t.Errorf("policies: %q", policies(t, r.worker.share))
	}
	if got := sh(t, "ip xfrm policy"); !strings.Contains(got, "reqid 16388") {
		t.Errorf("of another:\n%s", got)
	}
	said := strings.Join(told.all(), "\n")
	if !strings.Contains(said, "could not be put back: "+string(p.ID)+": policy 192.0.1.0/24 to 192.0.2.0/24 (out): somebody else has a policy (priority 7, reqid 16388)") {
		t.Errorf("told %q", said)
	}
	sh(t, "ip xfrm policy delete "+theirs)
	if !netns.Poll(10*time.Second, func() bool { return cmp.Equal(before, policies(t, r.worker.share)) }) {
		t.Errorf("(-before +after):\n%s", cmp.Diff(before, policies(t, r.worker.share)))
	}
}

// What the kernel refuses is tried again; what was told in messages that were lost is found out.
func TestRemovedWithoutMemory(t *testing.T) {
	namespace(t)
	var told notices
	r := open(t, Config{Notice: told.add})
	r.route(westEast(t, kernel.Hold))
	before := policies(t, r.worker.share)
	r.requests.tell(func() {
		r.conn.refuse = func(kind message.Type) error {
			if kind != message.NEWPOLICY {
				return nil
			}
			r.conn.refuse = nil
			return unix.ENOBUFS
		}
	})
	sh(t, "ip xfrm policy flush")
	if !netns.Poll(10*time.Second, func() bool { return cmp.Equal(before, policies(t, r.worker.share)) }) {
		t.Errorf("(-before +after):\n%s", cmp.Diff(before, policies(t, r.worker.share)))
	}
	if said := strings.Join(told.all(), "\n"); !strings.Contains(said, "could not be put back") || !strings.Contains(said, "the kernel has no memory for it") {
		t.Errorf("told %q", said)
	}
	r.stalled(func() {
		r.news.close() // deaf
		sh(t, "ip xfrm policy flush")
		r.requests.tell(r.worker.resync)
	})
	if !netns.Poll(10*time.Second, func() bool { return cmp.Equal(before, policies(t, r.worker.share)) }) {
		t.Errorf("(-before +after):\n%s", cmp.Diff(before, policies(t, r.worker.share)))
	}
	var err error
	if r.news, err = listen(r.Datapath); err != nil {
		t.Fatal(err)
	}
	go r.news.run()
}

// What this daemon does itself does not fill the socket of the kernel's messages.
func TestOwnChangesAreNotHeard(t *testing.T) {
	namespace(t)
	r := open(t, Config{})
	l, err := listen(r.Datapath)
	if err != nil {
		t.Fatal(err)
	}
	defer l.socket.Close()
	p := westEast(t, kernel.Hold)
	for _, a := range []kernel.Action{kernel.Hold, kernel.Drop, kernel.Pass} {
		p.Action = a
		r.route(p)
	}
	spi := r.must(func(n kernel.Request) { r.ReserveSPI(n, kernel.Endpoints{Path: westPath(path.UDP)}) }).SPI
	r.must(func(n kernel.Request) { r.Remove(n, spi) })
	r.must(func(n kernel.Request) { r.Unroute(n, p.ID) })
	sh(t, "ip xfrm policy add src 10.0.0.0/24 dst 10.0.1.0/24 dir out action block")
	sh(t, "ip xfrm policy flush")
	if err := l.socket.SetReceiveTimeout(&unix.Timeval{Sec: 5}); err != nil {
		t.Fatal(err)
	}
	messages, _, err := l.socket.Receive()
	if err != nil || len(messages) != 1 || message.Type(messages[0].Header.Type) != message.FLUSHPOLICY {
		t.Errorf("the first: %+v %v", messages, err)
	}
	if err := l.socket.SetReceiveTimeout(&unix.Timeval{Usec: 1000}); err != nil {
		t.Fatal(err)
	}
	if messages, _, err := l.socket.Receive(); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("and then: %+v %v", messages, err)
	}
}

// testRemoved: SAs that others remove are told to IKE.
func testRemoved(t *testing.T, west, east *gateway) {
	var told notices
	west.start(t, Config{Notice: told.add})
	east.start(t, Config{})
	c := tunnel{suite: gcm, carrier: path.ESP, window: 32}
	for i, remove := range []func(p *pair) string{
		func(*pair) string { return "xfrm state flush" },
		func(*pair) string { return "xfrm state deleteall" },
		func(p *pair) string {
			return fmt.Sprintf("xfrm state delete src %s dst %s proto esp spi %d", p.out.Src, p.out.Dst, p.out.SPI)
		},
		func(p *pair) string {
			return fmt.Sprintf("xfrm state delete src %s dst %s proto esp spi %d", p.in.Src, p.in.Dst, p.in.SPI)
		},
	} {
		c.generation = byte(i)
		w, e := c.install(t, west, east)
		before := west.policies(t)
		var command string
		west.stalled(func() { command = remove(west.worker.pairs[w]) })
		west.ip(t, command)
		west.until("HardExpire after ip "+command, func() bool { return slices.Contains(west.heard, kernel.Event(kernel.HardExpire{SPI: w})) })
		if diff := cmp.Diff(before, west.policies(t)); diff != "" {
			t.Errorf("ip %s (-before +after):\n%s", command, diff)
		}
		west.must(func(n kernel.Request) { west.Remove(n, w) })
		east.must(func(n kernel.Request) { east.Remove(n, e) })
	}
	if len(west.heard) != 4 {
		t.Errorf("heard %+v", west.heard)
	}
	if said := told.all(); len(said) != 1 || !strings.Contains(said[0], "somebody has removed SAs of ikegod") {
		t.Errorf("told %q", said)
	}
}

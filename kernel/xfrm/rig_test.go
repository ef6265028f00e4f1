package xfrm

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/testing/netns"
)

// namespace puts the test into a network namespace of its own, with interface eth0 (192.0.1.254/24, 192.1.2.45/24 and 2001:db8:1:2::45/64).
func namespace(t *testing.T) {
	t.Helper()
	netns.Alone(t, "policies and SAs of a network namespace", []string{"ip"},
		"ip link set lo up", "ip link add eth0 type veth peer name wire", "ip addr add 192.0.1.254/24 dev eth0", "ip addr add 192.1.2.45/24 dev eth0",
		"ip addr add 2001:db8:1:2::45/64 dev eth0 nodad", "ip link set eth0 up", "ip link set wire up", "ip route add default via 192.1.2.254")
}

func sh(t *testing.T, command string) string { t.Helper(); return netns.Sh(t, command) }

// rig is a Datapath with its events.
type rig struct {
	*Datapath
	t  *testing.T
	mu sync.Mutex
	// What came, but for Done.
	heard   []kernel.Event
	done    map[kernel.Request]kernel.Done
	changed chan struct{}
	last    kernel.Request
}

func open(t *testing.T, cfg Config) *rig {
	t.Helper()
	r := &rig{t: t, done: map[kernel.Request]kernel.Done{}, changed: make(chan struct{}, 1)}
	if cfg.Notice == nil {
		cfg.Notice = func(text string) { t.Log("notice: " + text) }
	}
	cfg.UDP, cfg.TCP, cfg.ESP = true, true, true
	var err error
	if r.Datapath, err = New(cfg, r.event); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) event(ev kernel.Event) {
	r.mu.Lock()
	if d, ok := ev.(kernel.Done); ok {
		r.done[d.Request] = d
	} else {
		r.heard = append(r.heard, ev)
	}
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// until waits for f, which is called with the rig locked.
func (r *rig) until(what string, f func() bool) {
	r.t.Helper()
	for deadline := time.After(20 * time.Second); ; {
		r.mu.Lock()
		ok := f()
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-r.changed:
		case <-deadline:
			r.t.Fatalf("%s did not come; heard %+v", what, r.heard)
		}
	}
}

// await makes a request and waits for its completion.
func (r *rig) await(ask func(kernel.Request)) (d kernel.Done) {
	r.t.Helper()
	r.last++
	n := r.last
	ask(n)
	r.until("completion", func() (ok bool) { d, ok = r.done[n]; return ok })
	return d
}

func (r *rig) must(ask func(kernel.Request)) kernel.Done {
	r.t.Helper()
	d := r.await(ask)
	if d.Err != nil {
		r.t.Fatal(d.Err)
	}
	return d
}

func (r *rig) route(p kernel.Policy) { r.t.Helper(); r.must(func(n kernel.Request) { r.Route(n, p) }) }

var (
	westAddr = netip.MustParseAddr("192.1.2.45")
	eastAddr = netip.MustParseAddr("192.1.2.23")
)

func westPath(k path.Kind) path.Path {
	p := path.Path{Local: netip.AddrPortFrom(westAddr, 4500), Remote: netip.AddrPortFrom(eastAddr, 4500), Kind: k}
	if k == path.ESP {
		return p.PlainESP()
	}
	return p
}

// tidy makes the lines of a command's output comparable: numbers that differ from run to run get names.
func tidy(text string, s *share) string {
	for i := range uint32(8) {
		text = strings.ReplaceAll(text, fmt.Sprintf("reqid %d ", s.firstReqid()+i), fmt.Sprintf("reqid REQID+%d ", i))
	}
	var out []string
	for l := range strings.Lines(text) {
		l = strings.TrimSuffix(strings.TrimSpace(l), "ptype main") // said by kernels with sub-policies
		out = append(out, strings.Join(strings.Fields(l), " "))
	}
	return strings.Join(out, "\n")
}

// openUnclosed opens a Datapath as a daemon does that is killed in the end: what it has put into the kernel stays.
func openUnclosed(t *testing.T, cfg Config) *rig {
	t.Helper()
	r := &rig{t: t, done: map[kernel.Request]kernel.Done{}, changed: make(chan struct{}, 1)}
	cfg.UDP, cfg.TCP, cfg.ESP = true, true, true
	var err error
	if r.Datapath, err = New(cfg, r.event); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.kill)
	return r
}

// kill ends a Datapath as the end of its process does.
func (r *rig) kill() {
	if r.requests.close() {
		r.news.close()
		r.closeSockets()
	}
}

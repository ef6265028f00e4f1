package xfrm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/xfrm/message"
	"github.com/ikegod/ikegod/testing/subnets"
)

// What a daemon leaves behind when it is killed the next one with its run directory removes, the policies when its own are in place, and nothing else.
func TestLeftovers(t *testing.T) {
	namespace(t)
	dir, notices := t.TempDir(), []string{}
	cfg := Config{RunDir: dir}
	first := openUnclosed(t, cfg)
	first.route(westEast(t, kernel.Trap))
	first.route(kernel.Policy{ID: "drop", Local: subnets.Of("192.0.1.0/24"), Remote: subnets.Of("10.0.0.0/8"), Action: kernel.Drop, MarkOut: kernel.Mark{Value: 5, Mask: 0xff}})
	spi := first.must(func(n kernel.Request) { first.ReserveSPI(n, kernel.Endpoints{Path: westPath(0)}) }).SPI
	if spi < 0x10000000 || spi > 0xbfffffff {
		t.Errorf("SPI %#x", uint32(spi))
	}
	sh(t, "ip xfrm policy add src 192.0.1.0/24 dst 192.168.0.0/16 dir out priority 7 tmpl proto esp reqid 16388 mode transport")
	// Another daemon of this host takes other numbers.
	other := open(t, Config{RunDir: t.TempDir()})
	if other.worker.share.number == first.worker.share.number {
		t.Errorf("both have share %d", first.worker.share.number)
	}
	other.route(kernel.Policy{ID: "other", Local: subnets.Of("192.0.1.0/24"), Remote: subnets.Of("172.16.0.0/12"), Action: kernel.Trap})
	theirs := func() (n int) {
		for _, l := range policies(t, first.worker.share) {
			if strings.Contains(l, "192.168.0.0") || strings.Contains(l, "172.16.0.0") {
				n++
			}
		}
		return n
	}
	if n, all := theirs(), len(policies(t, first.worker.share)); n != 4 || all != 10 {
		t.Fatalf("%d of %d policies are others'", n, all)
	}
	first.kill()
	cfg.Left = func(text string) { notices = append(notices, text) }
	second := open(t, cfg)
	if n, all := theirs(), len(policies(t, first.worker.share)); n != 4 || all != 10 {
		t.Errorf("before anything has replaced them, %d of %d policies are others': %q", n, all, policies(t, first.worker.share))
	}
	if err := second.Sweep(); err != nil {
		t.Error(err)
	}
	if len(notices) != 2 || !strings.Contains(notices[0], "removed 1 SAs that") || !strings.Contains(notices[0], "6 policies stay") || !strings.Contains(notices[1], "0 were replaced in place, and 6 were removed") {
		t.Errorf("notices %q", notices)
	}
	if n, all := theirs(), len(policies(t, first.worker.share)); n != 4 || all != 4 {
		t.Errorf("%d of %d policies are others': %q", n, all, policies(t, first.worker.share))
	}
	if n := len(second.worker.share.reqids) + len(second.worker.share.indices); n != 0 {
		t.Errorf("%d numbers are still taken", n)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, recordName)); !os.IsNotExist(err) {
		t.Errorf("the record is left: %v", err)
	}
}

// A record that cannot be read keeps nobody from using the kernel: what is left in the share that the run directory tries first is taken for its own.
func TestDamagedRecord(t *testing.T) {
	for name, damage := range map[string]func(name string) error{
		"cut":         func(name string) error { return os.Truncate(name, 1) },
		"empty":       func(name string) error { return os.Truncate(name, 0) },
		"other share": func(name string) error { return os.WriteFile(name, []byte(`{"share": 64}`), 0o600) },
		"directory":   func(name string) error { return errors.Join(os.Remove(name), os.Mkdir(name, 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			namespace(t)
			dir, said := t.TempDir(), ""
			name := filepath.Join(dir, recordName)
			first := openUnclosed(t, Config{RunDir: dir})
			first.route(westEast(t, kernel.Hold))
			first.kill()
			if err := damage(name); err != nil {
				t.Fatal(err)
			}
			second := open(t, Config{RunDir: dir, Notice: func(text string) { said += text }})
			if second.worker.share.number != first.worker.share.number {
				t.Errorf("share %d, was %d", second.worker.share.number, first.worker.share.number)
			}
			for _, want := range []string{name + " is damaged (", "is " + name + ".damaged now", "ip xfrm policy"} {
				if !strings.Contains(said, want) {
					t.Errorf("no %q in %q", want, said)
				}
			}
			if _, err := os.Stat(name + ".damaged"); err != nil {
				t.Error(err)
			}
			if err := second.Sweep(); err != nil {
				t.Error(err)
			}
			if left := policies(t, second.worker.share); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
	t.Run("without the kernel's IPsec", func(t *testing.T) {
		namespace(t)
		dir := t.TempDir()
		first := openUnclosed(t, Config{RunDir: dir})
		first.route(westEast(t, kernel.Hold))
		first.kill()
		if err := os.Truncate(filepath.Join(dir, recordName), 1); err != nil {
			t.Fatal(err)
		}
		if text, err := SweepLeft(dir); err != nil || !strings.Contains(text, recordName+" is damaged") || !strings.Contains(text, "0 SAs and 3 policies") {
			t.Errorf("%q %v", text, err)
		}
	})
}

// A run directory that outlives the kernel says nothing about the next one: there the numbers may be another daemon's.
func TestRecordOfAnotherBoot(t *testing.T) {
	namespace(t)
	dir, theirs := t.TempDir(), t.TempDir()
	gone := openUnclosed(t, Config{RunDir: dir})
	number := gone.worker.share.number
	gone.kill()
	name := filepath.Join(dir, recordName)
	text, err := os.ReadFile(name)
	if err != nil || !strings.Contains(string(text), boot()) {
		t.Fatalf("%v %s", err, text)
	}
	before := strings.Replace(string(text), boot(), "00000000-0000-0000-0000-000000000000", 1)
	if err := os.WriteFile(name, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(theirs, recordName), text, 0o600); err != nil { // of this boot
		t.Fatal(err)
	}
	other := openUnclosed(t, Config{RunDir: theirs})
	other.route(westEast(t, kernel.Hold))
	held := len(policies(t, other.worker.share))
	second := open(t, Config{RunDir: dir})
	if err := second.Sweep(); err != nil {
		t.Error(err)
	}
	if second.worker.share.number == number {
		t.Error("it has taken the numbers of another")
	}
	if got := len(policies(t, other.worker.share)); got != held || held == 0 {
		t.Errorf("%d policies of another, were %d", got, held)
	}
	other.kill()
	if text, err := SweepLeft(theirs); err != nil || text == "" {
		t.Errorf("%q %v", text, err)
	}
}

// withIndices lists the kernel's policies with their indices.
func withIndices(t *testing.T) []string {
	t.Helper()
	var out []string
	for l := range strings.Lines(strings.ReplaceAll(sh(t, "ip -d xfrm policy"), "\n\t", " ")) {
		out = append(out, strings.Join(strings.Fields(l), " "))
	}
	slices.Sort(out)
	return out
}

// There is no moment in which a policy of the killed daemon is missing before one of the new daemon is in its place.
func TestLeftPoliciesAreReplacedInPlace(t *testing.T) {
	namespace(t)
	cfg := Config{RunDir: t.TempDir()}
	four, six := westEast(t, kernel.Trap), kernel.Policy{ID: "six", Local: subnets.Of("2001:db8:1:2::45/128"), Remote: subnets.Of("2001:db8:1:2::23/128"), Action: kernel.Hold}
	old := kernel.Policy{ID: "old", Local: subnets.Of("192.0.1.0/24"), Remote: subnets.Of("10.0.0.0/8"), Action: kernel.Hold}
	first := openUnclosed(t, cfg)
	for _, p := range []kernel.Policy{old, four, six} {
		first.route(p)
	}
	places := slices.Collect(func(yield func(place) bool) {
		for pl := range first.worker.spd.places {
			if pl.selector.Dst.Addr().Is6() || strings.Contains(pl.selector.Src.String()+pl.selector.Dst.String(), "192.0.2.") {
				if !yield(pl) {
					return
				}
			}
		}
	})
	asker, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer asker.close()
	stop, stopped, missed, asked := make(chan struct{}), make(chan struct{}), 0, 0
	go func() {
		defer close(stopped)
		for {
			for _, pl := range places {
				asked++
				id := message.PolicyID{Selector: pl.selector, Direction: pl.direction}
				if _, err := asker.get(message.GETPOLICY, &message.GetPolicy{ID: id}); errors.Is(err, unix.ENOENT) {
					missed++
				}
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	first.kill()
	before := withIndices(t)
	second := open(t, cfg)
	for _, p := range []kernel.Policy{six, four} {
		p.Action = kernel.Drop
		second.route(p)
	}
	second.must(func(n kernel.Request) { second.Unroute(n, four.ID) })
	if err := second.Close(); err != nil { // it fails before all are in place
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, withIndices(t)); diff != "" {
		t.Errorf("after a daemon that could not start (-killed +now):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(cfg.RunDir, recordName)); err != nil {
		t.Errorf("nobody finds them again: %v", err)
	}
	third := open(t, cfg)
	for _, p := range []kernel.Policy{six, four} {
		p.Action = kernel.Drop
		third.route(p)
	}
	if got := len(policies(t, third.worker.share)); got != len(before) {
		t.Errorf("%d policies, before the kill %d", got, len(before))
	}
	if err := third.Sweep(); err != nil {
		t.Fatal(err)
	}
	close(stop)
	<-stopped
	if missed > 0 || asked == 0 {
		t.Errorf("%d of %d times a policy was missing", missed, asked)
	}
	after := policies(t, third.worker.share)
	fresh := func() []string {
		if err := third.Close(); err != nil {
			t.Fatal(err)
		}
		if left := policies(t, third.worker.share); len(left) > 0 {
			t.Errorf("after the stop: %q", left)
		}
		r := open(t, Config{})
		for _, p := range []kernel.Policy{six, four} {
			p.Action = kernel.Drop
			r.route(p)
		}
		return policies(t, r.worker.share)
	}()
	if diff := cmp.Diff(fresh, after); diff != "" {
		t.Errorf("(-without a crash +after one):\n%s", diff)
	}
}

// A packet that meets a trap of the killed daemon has the kernel ask for an SA that nobody makes; that is not in the way of the new one.
func TestLeftTrapIsAskedFor(t *testing.T) {
	namespace(t)
	cfg := Config{RunDir: t.TempDir()}
	killed := openUnclosed(t, cfg)
	killed.route(westEast(t, kernel.Trap))
	killed.kill()
	r := open(t, cfg)
	knock(t)
	_, asked, _ := strings.Cut(sh(t, "ip xfrm state"), "reqid ")
	if asked, _, _ = strings.Cut(asked, " "); asked == "" {
		t.Fatal("the trap has not asked")
	}
	r.route(westEast(t, kernel.Trap))
	if err := r.Sweep(); err != nil {
		t.Error(err)
	}
	if got := sh(t, "ip xfrm state"); strings.Contains(got, "reqid "+asked) {
		t.Errorf("still there: %s", got)
	}
	knock(t)
	r.until("the acquire", func() bool { return len(r.heard) > 0 }) // for this packet, or for the one that waits
}

// The routes and the rule of a killed daemon stay until those of the new one are in place.
func TestLeftRoutes(t *testing.T) {
	namespace(t)
	cfg := Config{RunDir: t.TempDir()}
	first := openUnclosed(t, cfg)
	p, other := westEast(t, kernel.Hold), westEast(t, kernel.Hold)
	p.SourceIP, other.SourceIP = addr("192.0.1.254"), addr("192.0.1.254")
	other.ID, other.Remote = "other", subnets.Of("192.0.3.0/24")
	first.route(p)
	first.route(other)
	first.kill()
	sh(t, "ip route replace default via 192.1.2.253")
	before := routesOfOurs(t)
	second := open(t, cfg)
	second.route(p)
	if got := routesOfOurs(t); !strings.Contains(got, "192.0.2.0/24 via 192.1.2.253") || !strings.Contains(got, "192.0.3.0/24 via 192.1.2.254") {
		t.Errorf("one of two is this daemon's: %s", got)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if got := routesOfOurs(t); got != before || sh(t, "ip rule show pref 4499") == "" {
		t.Errorf("after a daemon that could not start: %s, before: %s", got, before)
	}
	third := open(t, cfg)
	third.route(p)
	if err := third.Sweep(); err != nil {
		t.Error(err)
	}
	if got := routesOfOurs(t); strings.Count(got, "\n") != 1 || !strings.Contains(got, "192.0.2.0/24 via 192.1.2.253") || sh(t, "ip rule show pref 4499") == "" {
		t.Errorf("routes: %s", got)
	}
	if err := third.Close(); err != nil {
		t.Error(err)
	}
	if got := routesOfOurs(t) + sh(t, "ip rule show pref 4499"); got != "" {
		t.Errorf("left: %q", got)
	}
}

// What a daemon has left for single ports stays until the next one has taken over, beside what that one makes anew for the same.
func TestLeftPortRoutes(t *testing.T) {
	namespace(t)
	cfg := Config{RunDir: t.TempDir()}
	first := openUnclosed(t, cfg)
	p, other := westEast(t, kernel.Hold), westEast(t, kernel.Hold)
	p.SourceIP, other.SourceIP = addr("192.0.1.254"), addr("192.0.1.254")
	p.Remote[0].Protocol, p.Remote[0].StartPort, p.Remote[0].EndPort = 6, 22, 22
	other.ID, other.Remote[0].Protocol = "other", 17
	first.route(p)
	first.route(other)
	first.kill()
	theirs := fmt.Sprintf("pref 4100 ipproto tcp dport 99 lookup %d", first.worker.sources.ports.first)
	sh(t, "ip rule add "+theirs)
	second := open(t, cfg)
	second.route(p)
	asked := func(protocol string) string { return sh(t, "ip route get 192.0.2.1 ipproto "+protocol+" dport 22") }
	for _, protocol := range []string{"tcp", "udp"} {
		if got := asked(protocol); !strings.Contains(got, "src 192.0.1.254") {
			t.Errorf("before the sweep, %s: %s", protocol, got)
		}
	}
	if err := second.Sweep(); err != nil {
		t.Error(err)
	}
	if got := asked("tcp") + asked("udp"); !strings.Contains(got, "src 192.0.1.254") || !strings.Contains(got, "src 192.1.2.45") {
		t.Errorf("after the sweep: %s", got)
	}
	if rules := portRules(t); strings.Count(rules, "\n") != 1 || strings.Count(routesOfOurs(t), "\n") != 1 {
		t.Errorf("rules %q, routes %q", rules, routesOfOurs(t))
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if got := routesOfOurs(t) + portRules(t); got != "" {
		t.Errorf("left: %q", got)
	}
	sh(t, "ip rule del "+theirs) // fails if it is not there
}

// A daemon that does without the kernel's IPsec takes away what one with it has left, and nothing of anybody else.
func TestSweepLeft(t *testing.T) {
	namespace(t)
	dir := t.TempDir()
	if text, err := SweepLeft(dir); text != "" || err != nil {
		t.Errorf("nothing was left: %q %v", text, err)
	}
	first := openUnclosed(t, Config{RunDir: dir})
	p := westEast(t, kernel.Trap)
	p.SourceIP = addr("192.0.1.254")
	first.route(p)
	first.must(func(n kernel.Request) { first.ReserveSPI(n, kernel.Endpoints{Path: westPath(0)}) })
	first.kill()
	other := open(t, Config{RunDir: t.TempDir()})
	theirs := p
	theirs.Remote = subnets.Of("172.16.0.0/12")
	other.route(theirs)
	sh(t, "ip xfrm policy add src 192.0.1.0/24 dst 192.168.0.0/16 dir out priority 7 tmpl proto esp reqid 16388 mode transport")
	text, err := SweepLeft(dir)
	if err != nil || !strings.Contains(text, "1 SAs and 3 policies") {
		t.Errorf("%q %v", text, err)
	}
	if got := policies(t, other.worker.share); len(got) != 4 || !strings.Contains(strings.Join(got, " "), "192.168.0.0") {
		t.Errorf("policies: %q", got)
	}
	if got := routesOfOurs(t); strings.Contains(got, "192.0.2.0/24") || !strings.Contains(got, "172.16.0.0/12") || strings.Count(sh(t, "ip rule show pref 4499"), "\n") != 1 {
		t.Errorf("routes: %q", got)
	}
	if _, err := os.Stat(filepath.Join(dir, recordName)); !os.IsNotExist(err) {
		t.Errorf("the record is left: %v", err)
	}
}

package updown

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/ts"
)

// book collects what a Runner tells and answers.
type book struct {
	mu     sync.Mutex
	output []string
	failed []string
}

func (b *book) tell(failed bool, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if failed {
		b.failed = append(b.failed, text)
	} else {
		b.output = append(b.output, text)
	}
}

func (b *book) said() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.output, "\n")
}

func set(prefixes ...string) (s ts.Set) {
	for _, p := range prefixes {
		s = append(s, ts.FromPrefix(netip.MustParsePrefix(p)))
	}
	return s
}

// of is a tunnel west-east with a script.
func (b *book) of(script string) kernel.Tunnel {
	return kernel.Tunnel{
		Policy: "west-east", Order: "west-east", Script: script, Connection: "west-east", Words: "IKEv2+PSK+ENCRYPT+TUNNEL",
		LocalAddr: netip.MustParseAddr("192.1.2.45"), RemoteAddr: netip.MustParseAddr("192.1.2.23"), LocalID: "@west", RemoteID: "@east",
		Local: set("192.0.1.0/24"), Remote: set("192.0.2.0/24"), SPIIn: 0x11, SPIOut: 0x22, Added: time.Unix(1000, 0), Tell: b.tell,
	}
}

func runner(t *testing.T, o Options) *Runner {
	t.Helper()
	r := New(o)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = r.Close(ctx)
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.lines) != 0 || r.waiting != 0 || r.workers != 0 {
			t.Errorf("left: %d lines, %d waiting, %d workers", len(r.lines), r.waiting, r.workers)
		}
	})
	return r
}

// bring is Up, waited for.
func bring(t *testing.T, r *Runner, spec kernel.Tunnel) error {
	t.Helper()
	done := make(chan error, 1)
	r.Up(spec, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("no answer")
		return nil
	}
}

func settle(t *testing.T, r *Runner, connection string) {
	t.Helper()
	done := make(chan struct{})
	r.After(connection, func() { close(done) })
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("the scripts do not end")
	}
}

// TestVerbs: what runs, in which order, and that nothing runs twice.
func TestVerbs(t *testing.T) {
	var b book
	r := runner(t, Options{})
	spec := b.of("echo $PLUTO_VERB $SPI_IN $SPI_OUT $PLUTO_INBYTES $PLUTO_OUTBYTES")
	r.Down(spec.Policy, kernel.LastPair{}) // nothing of it is there
	r.Unroute(spec.Policy)
	r.Route(spec)
	r.Route(spec)
	for range 2 { // the second is a rekeying
		if err := bring(t, r, spec); err != nil {
			t.Fatal(err)
		}
	}
	r.Down(spec.Policy, kernel.LastPair{SPIIn: 0x33, SPIOut: 0x44, InBytes: 5, OutBytes: 6})
	r.Down(spec.Policy, kernel.LastPair{})
	if err := bring(t, r, spec); err != nil {
		t.Fatal(err)
	}
	r.Unroute(spec.Policy)
	settle(t, r, spec.Connection)
	want := `command "prepare" output: prepare-client 0x0 0x0
command "route" output: route-client 0x0 0x0
command "up" output: up-client 0x11 0x22 0 0
command "down" output: down-client 0x33 0x44 5 6
command "up" output: up-client 0x11 0x22 0 0
command "down" output: down-client 0x11 0x22 0 0
command "unroute" output: unroute-client 0x0 0x0`
	if got := b.said(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.tunnels) != 0 {
		t.Errorf("%d tunnels are kept", len(r.tunnels))
	}
}

// TestMoved: a peer that comes from elsewhere, or a Child SA for other traffic, is another tunnel for a script, which sees the old one go as it came.
func TestMoved(t *testing.T) {
	var b book
	r := runner(t, Options{})
	spec := b.of("echo $PLUTO_VERB $PLUTO_PEER $PLUTO_PEER_CLIENT")
	if err := bring(t, r, spec); err != nil {
		t.Fatal(err)
	}
	b.output = nil
	wider := spec
	wider.Remote = set("192.0.2.0/23")
	elsewhere := wider
	elsewhere.RemoteAddr = netip.MustParseAddr("192.1.3.209")
	for _, s := range []kernel.Tunnel{wider, wider, elsewhere} {
		if err := bring(t, r, s); err != nil {
			t.Fatal(err)
		}
	}
	want := `down-client 192.1.2.23 192.0.2.0/24
up-client 192.1.2.23 192.0.2.0/23
down-client 192.1.2.23 192.0.2.0/23
unroute-client 192.1.2.23 192.0.2.0/23
prepare-client 192.1.3.209 192.0.2.0/23
route-client 192.1.3.209 192.0.2.0/23
up-client 192.1.3.209 192.0.2.0/23`
	var got []string
	for _, line := range b.output {
		_, line, _ = strings.Cut(line, " output: ")
		got = append(got, line)
	}
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
}

// TestFailure: prepare is told and ignored, route and up are not; what has failed is not undone, and is tried again.
func TestFailure(t *testing.T) {
	for _, tc := range []struct{ verb, ran string }{
		{"prepare", "prepare route up down unroute"},
		{"route", "prepare route"},
		{"up", "prepare route up unroute"},
	} {
		t.Run(tc.verb, func(t *testing.T) {
			var b book
			r := runner(t, Options{})
			spec := b.of("echo ${PLUTO_VERB%-client}; test $PLUTO_VERB != " + tc.verb + "-client || exit 3")
			err := bring(t, r, spec)
			if (err != nil) != (tc.verb != "prepare") {
				t.Errorf("error %v", err)
			}
			r.Down(spec.Policy, kernel.LastPair{})
			r.Unroute(spec.Policy)
			settle(t, r, spec.Connection)
			var ran []string
			for _, line := range b.output {
				ran = append(ran, line[strings.LastIndexByte(line, ' ')+1:])
			}
			if got := strings.Join(ran, " "); got != tc.ran {
				t.Errorf("ran %s, want %s", got, tc.ran)
			}
			if want := fmt.Sprintf("command %q: exited with status 3", tc.verb); len(b.failed) != 1 || b.failed[0] != want {
				t.Errorf("told %q, want %q", b.failed, want)
			}
		})
	}
}

// TestTimeLimit: the script and what it has started are killed; the others go on.
func TestTimeLimit(t *testing.T) {
	var b book
	r := runner(t, Options{Limit: 300 * time.Millisecond})
	pids := filepath.Join(t.TempDir(), "pids")
	spec := b.of("test $PLUTO_VERB = up-client || exit 0; trap '' TERM; sleep 60 & echo $! >" + pids + "; echo $$ >>" + pids + "; wait")
	err := bring(t, r, spec)
	if err == nil || !strings.Contains(err.Error(), `command "up": killed with all that it had started, as it ran for more than 300ms`) {
		t.Errorf("%v", err)
	}
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	list := strings.Fields(string(text))
	if len(list) != 2 {
		t.Fatalf("%q", text)
	}
	for _, s := range list {
		pid, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(5 * time.Second); alive(pid); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("process %d lives", pid)
			}
		}
	}
}

// alive reports whether a process runs; one that nobody has waited for does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// TestBackground: what a script leaves running does not hold us up.
func TestBackground(t *testing.T) {
	var b book
	r := runner(t, Options{})
	begin := time.Now()
	if err := bring(t, r, b.of("sleep 5 & echo said")); err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d > 4*time.Second {
		t.Errorf("it took %v", d)
	}
	if !strings.Contains(b.said(), `command "up" output: said`) {
		t.Error(b.said())
	}
}

// TestOutput: lines are bounded in number and length, and hold no control characters.
func TestOutput(t *testing.T) {
	var b book
	r := runner(t, Options{})
	if err := bring(t, r, b.of(`test $PLUTO_VERB = up-client || exit 0; i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done >&2`)); err != nil {
		t.Fatal(err)
	}
	if n := len(b.output); n != maxLines+1 || b.output[n-1] != `command "up" output: (2900 more lines were dropped)` || b.output[n-2] != `command "up" output: line 99` {
		t.Errorf("%d lines: %q", n, b.output[n-1])
	}
	var lines []string
	o := output{tell: func(s string) { lines = append(lines, s) }}
	for _, part := range []string{"a\x1b[31m\tb", "\r\n\n", strings.Repeat("x", 700), "y\nlast\x00\xff"} {
		if n, err := o.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	o.end()
	if want := []string{"a?[31m b", "", strings.Repeat("x", maxLine) + " ...", "last??"}; !slices.Equal(lines, want) {
		t.Errorf("%q", lines)
	}
}

// TestNoInjection: what a peer calls itself reaches a script as a value and nowhere else.
func TestNoInjection(t *testing.T) {
	dir := t.TempDir()
	evil := "@east'; touch " + dir + "/a; $(touch " + dir + "/b) `touch " + dir + "/c`\nPLUTO_ME=6.6.6.6\x00\x1b]0;x\x07\" | touch " + dir + "/d #"
	var b book
	r := runner(t, Options{})
	spec := b.of(`test $PLUTO_VERB = up-client || exit 0; echo "$PLUTO_PEER_ID"; echo "$PLUTO_ME"`)
	spec.RemoteID = evil
	if err := bring(t, r, spec); err != nil {
		t.Fatal(err)
	}
	clean := strings.NewReplacer("\n", "?", "\x00", "?", "\x1b", "?", "\x07", "?").Replace(evil)
	if want := `command "up" output: ` + clean + "\n" + `command "up" output: 192.1.2.45`; b.said() != want {
		t.Errorf("got\n%s\nwant\n%s", b.said(), want)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v %v", left, err)
	}
}

// TestEnvironment: all that a script sees, and nothing else of ours: no variable, no file, no input.
func TestEnvironment(t *testing.T) {
	t.Setenv("SECRET", "of the daemon")
	f, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	inherited, err := syscall.Dup(int(f.Fd())) // not close-on-exec, as what a careless parent leaves
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(inherited)
	var b book
	r := runner(t, Options{
		Towards: func(netip.Addr) (string, netip.Addr) { return "eth1", netip.MustParseAddr("192.1.2.254") },
		Reqid:   func(id kernel.PolicyID) uint32 { return uint32(len(id)) },
	})
	spec := b.of("test $PLUTO_VERB = up-client || exit 0; tr '\\0' '\\n' </proc/self/environ; cat; pwd; ls /proc/self/fd | wc -l")
	spec.SourceIP, spec.MTU = netip.MustParseAddr("192.0.1.254"), 1400
	if err := bring(t, r, spec); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range b.output {
		got = append(got, strings.TrimPrefix(line, `command "up" output: `))
	}
	want := append([]string{
		"PATH=" + searchPath, "PLUTO_VERB=up-client", "PLUTO_CONNECTION=west-east", "PLUTO_CONNECTION_TYPE=tunnel", "PLUTO_VIRT_INTERFACE=NULL", "PLUTO_XFRMI_ROUTE=",
		"PLUTO_INTERFACE=eth1", "PLUTO_NEXT_HOP=192.1.2.254", "PLUTO_ME=192.1.2.45", "PLUTO_MY_ID=@west", "PLUTO_PEER=192.1.2.23", "PLUTO_PEER_ID=@east",
		"PLUTO_CONN_ADDRFAMILY=ipv4", "PLUTO_CLIENT_FAMILY=ipv4", "PLUTO_MY_CLIENT=192.0.1.0/24", "PLUTO_MY_CLIENT_NET=192.0.1.0",
		"PLUTO_MY_CLIENT_MASK=255.255.255.0", "PLUTO_MY_PORT=0", "PLUTO_MY_PROTOCOL=0", "PLUTO_PEER_CLIENT=192.0.2.0/24", "PLUTO_PEER_CLIENT_NET=192.0.2.0",
		"PLUTO_PEER_CLIENT_MASK=255.255.255.0", "PLUTO_PEER_PORT=0", "PLUTO_PEER_PROTOCOL=0", "PLUTO_SA_REQID=9", "PLUTO_SA_TYPE=ESP", "PLUTO_STACK=xfrm",
		"PLUTO_ADDTIME=1000", "PLUTO_CONN_POLICY=IKEv2+PSK+ENCRYPT+TUNNEL", "PLUTO_CONN_KIND=CK_PERMANENT", "PLUTO_MY_SOURCEIP=192.0.1.254", "PLUTO_MTU=1400",
		"PLUTO_INBYTES=0", "PLUTO_OUTBYTES=0", "SPI_IN=0x11", "SPI_OUT=0x22",
	}, without...)
	var vars []string
	for _, v := range got[:max(len(got)-2, 0)] {
		if !strings.HasPrefix(v, "PWD=") && !strings.HasPrefix(v, "OLDPWD=") && !strings.HasPrefix(v, "_=") { // the shell's own
			vars = append(vars, v)
		}
	}
	slices.Sort(vars)
	slices.Sort(want)
	if !slices.Equal(vars, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(vars, "\n"), strings.Join(want, "\n"))
	}
	if rest := got[max(len(got)-2, 0):]; !slices.Equal(rest, []string{"/", "4"}) { // 0, 1, 2, and the directory that ls reads
		t.Errorf("directory and number of open files: %q", rest)
	}
}

// TestPairs: a script is run for each pair of prefixes of one family, with the suffix that libreswan has for it.
func TestPairs(t *testing.T) {
	var b book
	r := runner(t, Options{})
	spec := b.of(`test ${PLUTO_VERB%%-*} = up || exit 0; echo $PLUTO_VERB $PLUTO_MY_CLIENT $PLUTO_MY_CLIENT_MASK $PLUTO_PEER_CLIENT $PLUTO_PEER_PORT $PLUTO_PEER_PROTOCOL`)
	spec.Local = append(set("192.1.2.45/32", "2001:db8::/64"), ts.Selector{Start: netip.MustParseAddr("10.0.0.1"), End: netip.MustParseAddr("10.0.0.2"), EndPort: 0xffff})
	spec.Remote = set("192.0.2.0/24", "2001:db8:1::/48")
	spec.Remote[0].Protocol, spec.Remote[0].StartPort, spec.Remote[0].EndPort = 6, 80, 80
	spec.Remote[1].Protocol, spec.Remote[1].StartPort, spec.Remote[1].EndPort = 17, 1000, 2000
	if err := bring(t, r, spec); err != nil {
		t.Fatal(err)
	}
	want := `command "up" output: up-host 192.1.2.45/32 255.255.255.255 192.0.2.0/24 80 6
command "up" output: up-client-v6 2001:db8::/64 ffff:ffff:ffff:ffff:: 2001:db8:1::/48 1000:2000 17
command "up" output: up-client 10.0.0.1/32 255.255.255.255 192.0.2.0/24 80 6
command "up" output: up-client 10.0.0.2/32 255.255.255.255 192.0.2.0/24 80 6`
	if b.said() != want {
		t.Errorf("got\n%s\nwant\n%s", b.said(), want)
	}
	spec.Policy, spec.Local = "wide", set("10.0.0.0/8")
	spec.Remote = nil
	for i := range maxPairs + 1 {
		spec.Remote = append(spec.Remote, set(fmt.Sprintf("192.0.2.%d/32", 2*i))...)
	}
	if err := bring(t, r, spec); err == nil || !strings.Contains(err.Error(), "more than 64 pairs") {
		t.Errorf("%v", err)
	}
}

// TestBounds: so many run at once, so many wait, and what takes tunnels down is not refused.
func TestBounds(t *testing.T) {
	var b book
	r := runner(t, Options{AtOnce: 2, Waiting: 4})
	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	spec := b.of("test $PLUTO_VERB != up-client || read x <" + gate)
	results := make(chan error, 5)
	for i := range 5 {
		s := spec
		s.Policy = kernel.PolicyID(fmt.Sprint("c", i))
		s.Order = string(s.Policy)
		r.Up(s, func(err error) { results <- err })
	}
	if err := <-results; err == nil || !strings.Contains(err.Error(), "4 tunnels wait for it already") {
		t.Errorf("the fifth: %v", err)
	}
	r.mu.Lock()
	if r.workers != 2 || r.waiting != 4 {
		t.Errorf("%d workers, %d waiting", r.workers, r.waiting)
	}
	r.mu.Unlock()
	r.Unroute("c0")
	w, err := os.OpenFile(gate, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for range 4 {
		if _, err := w.WriteString("x\n"); err != nil {
			t.Fatal(err)
		}
	}
	for range 4 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	settle(t, r, spec.Connection)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tunnels["c0"] != nil || r.tunnels["c1"] == nil {
		t.Errorf("%v", r.tunnels)
	}
}

// TestClose: what takes a tunnel down is waited for, for so long; then it is killed, and nothing new is run.
func TestClose(t *testing.T) {
	var b book
	r := New(Options{})
	spec := b.of("case $PLUTO_VERB in down-*) echo down;; unroute-*) sleep 60;; esac")
	if err := bring(t, r, spec); err != nil {
		t.Fatal(err)
	}
	r.Down(spec.Policy, kernel.LastPair{})
	r.Unroute(spec.Policy)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := r.Close(ctx); err == nil {
		t.Error("no error")
	}
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("it took %v", d)
	}
	if !strings.Contains(b.said(), `command "down" output: down`) || len(b.failed) != 1 || !strings.Contains(b.failed[0], `command "unroute": killed, as the daemon shuts down`) {
		t.Errorf("%s\n%q", b.said(), b.failed)
	}
	if err := bring(t, r, spec); err == nil {
		t.Error("something runs after the end")
	}
}

// TestAfterAllPeers: whoever waits for a connection waits for each peer of its template, whose scripts do not wait for each other.
func TestAfterAllPeers(t *testing.T) {
	var b book
	r := runner(t, Options{})
	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	spec := b.of("test $PLUTO_VERB != down-client || test $PLUTO_PEER != 192.0.2.9 || read x <" + gate)
	slow, other := spec, spec
	slow.Policy, slow.Order, slow.RemoteAddr = "peer 1", "peer 1", netip.MustParseAddr("192.0.2.9")
	other.Policy, other.Order, other.Connection = "other", "other", "other"
	for _, s := range []kernel.Tunnel{slow, spec, other} {
		if err := bring(t, r, s); err != nil {
			t.Fatal(err)
		}
	}
	r.Down(slow.Policy, kernel.LastPair{})
	r.Down(spec.Policy, kernel.LastPair{})
	var downs atomic.Bool
	done := make(chan struct{})
	r.After(spec.Connection, func() {
		if !downs.Load() {
			t.Error("the script of a peer still runs")
		}
		close(done)
	})
	settle(t, r, "other")
	w, err := os.OpenFile(gate, os.O_WRONLY, 0) // as soon as the script reads
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	downs.Store(true)
	if _, err := w.WriteString("x\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody says that the scripts have ended")
	}
}

package xfrm

import (
	"net"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
)

// sameWish is two run directories whose daemons try the same share first.
func sameWish(t *testing.T) (a, b string) {
	t.Helper()
	parent, seen := t.TempDir(), map[uint32]string{}
	for i := 0; ; i++ {
		dir := filepath.Join(parent, strconv.Itoa(i))
		n := preferred(dir)
		if seen[n] != "" {
			sh(t, "mkdir "+dir+" "+seen[n])
			return seen[n], dir
		}
		seen[n] = dir
	}
}

// A share is somebody's from its daemon's start on, before that has anything in the kernel.
func TestShareWithNothingInTheKernel(t *testing.T) {
	namespace(t)
	first, second := sameWish(t)
	a := open(t, Config{RunDir: first})
	b := open(t, Config{RunDir: second})
	if a.worker.share.number == b.worker.share.number {
		t.Errorf("both have share %d", a.worker.share.number)
	}
	a.route(westEast(t, kernel.Hold))
	if err := b.Sweep(); err != nil {
		t.Error(err)
	}
	if got := len(policies(t, a.worker.share)); got != 3 {
		t.Errorf("%d policies of the first, want 3", got)
	}
}

// Where a daemon that was killed has left nothing in the kernel, another may have its share by the time when the next one starts.
func TestShareIsAnothersNow(t *testing.T) {
	namespace(t)
	first, second := sameWish(t)
	killed := openUnclosed(t, Config{RunDir: first})
	killed.kill()
	b := open(t, Config{RunDir: second})
	if killed.worker.share.number != b.worker.share.number {
		t.Fatalf("share %d was free, and %d taken", killed.worker.share.number, b.worker.share.number)
	}
	b.route(westEast(t, kernel.Hold))
	b.must(func(n kernel.Request) { b.ReserveSPI(n, kernel.Endpoints{Path: westPath(0)}) })
	before := sh(t, "ip xfrm state") + sh(t, "ip xfrm policy")
	a := open(t, Config{RunDir: first})
	if a.worker.share.number == b.worker.share.number {
		t.Errorf("both have share %d", a.worker.share.number)
	}
	if err := a.Sweep(); err != nil {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := b.worker.share.write(first); err != nil { // as before a is the last with this run directory
		t.Fatal(err)
	}
	if text, err := SweepLeft(first); text != "" || err != nil {
		t.Errorf("%q %v", text, err)
	}
	if got := sh(t, "ip xfrm state") + sh(t, "ip xfrm policy"); got != before {
		t.Errorf("of another:\n%swas\n%s", got, before)
	}
}

// A claim is there for all who ask, however many have asked before.
func TestClaimIsAnswered(t *testing.T) {
	namespace(t)
	s := newShare(3)
	if who, err := s.claim(); who != nobody || err != nil {
		t.Fatal(who, err)
	}
	for range 100 {
		if who, err := newShare(3).claim(); who != daemon || err != nil {
			t.Fatal(who, err)
		}
	}
	s.unclaim()
	again := newShare(3)
	if who, err := again.claim(); who != nobody || err != nil {
		t.Fatal(who, err)
	}
	again.unclaim()
}

// Whoever may not change the kernel's IPsec cannot keep a daemon from it by taking its names.
func TestNamesOfStrangers(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("NOT TESTED: sockets of another user; it needs root")
	}
	namespace(t)
	dir := t.TempDir()
	killed := openUnclosed(t, Config{RunDir: dir})
	killed.route(westEast(t, kernel.Hold))
	killed.kill()
	for i := range uint32(shares) {
		s := newShare(i)
		if who, err := s.claim(); who != nobody || err != nil {
			t.Fatal(who, err)
		}
		defer s.unclaim()
		c, err := s.claimed.(*net.UnixListener).SyscallConn()
		if err == nil {
			err = c.Control(func(fd uintptr) { asAnother(t, int(fd)) })
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	a := open(t, Config{RunDir: dir})
	if a.worker.share.number != killed.worker.share.number {
		t.Errorf("share %d, was %d", a.worker.share.number, killed.worker.share.number)
	}
	b := open(t, Config{RunDir: t.TempDir()})
	if b.worker.share.number == a.worker.share.number {
		t.Errorf("both have share %d", a.worker.share.number)
	}
}

// asAnother makes a socket one of another user, on which it listens from now on.
func asAnother(t *testing.T, fd int) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		const user = 65534
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, user, user, user); errno != 0 { // of this thread alone
			done <- errno
			return
		}
		done <- unix.Listen(fd, 16)
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

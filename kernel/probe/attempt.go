package probe

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel/xfrm/message"
)

// trial is one round of attempts on the thread that they belong to.
type trial struct {
	machine

	found chan<- Finding
	own   bool // the namespace is ours alone
	ns    int  // its descriptor; zero: that of ikegod, which whoever may make none may not enter either
	xfrm  *conn
	esp   bool // the kernel has ESP over IPv4
}

// attempt makes all attempts, on a thread that ends with it: its network namespace, and all that was made there, goes too.
func attempt(found chan<- Finding, inPlace chan<- string) {
	runtime.LockOSThread() // and never unlocked, so that the thread is not used again
	if unix.Gettid() == unix.Getpid() {
		// The first thread cannot end before the process does, and /proc/self would show the namespace of its attempts ever after. It waits here, so that it cannot be
		// the one that the next goroutine gets.
		done := make(chan struct{})
		go func() {
			defer close(done)
			attempt(found, inPlace)
		}()
		<-done
		runtime.UnlockOSThread()
		return
	}
	t := &trial{machine: machine{release: release()}, found: found, own: true}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.own = false
		inPlace <- fmt.Sprintf("no network namespace can be made for attempts (%v; CAP_SYS_ADMIN is needed): they were made in that of ikegod, and some were left out", err)
	}
	if t.own {
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			inPlace <- fmt.Sprintf("what this kernel can do was not tried: %v", err)
			return
		}
		defer f.Close()
		t.ns = int(f.Fd())
	}
	t.tryXFRM()
	t.tryTUN()
	t.tryNFT()
}

// tell reports an attempt.
func (t *trial) tell(f Feature, err error) bool {
	if err != nil {
		t.found <- t.failed(f, err)
		return false
	}
	t.found <- Finding{Feature: f, Outcome: Yes}
	return true
}

// skip reports attempts that were not made.
func (t *trial) skip(why string, fs ...Feature) {
	for _, f := range fs {
		t.found <- untried(f, why)
	}
}

// The addresses of attempts: those for documentation.
var (
	from4, to4 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	from6, to6 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
)

func (t *trial) tryXFRM() {
	const noXFRM, noESP = "the kernel's IPsec cannot be configured", "there is no ESP for it"
	all := []Feature{ESP4, ESP6, UDPEncap, TCPEncap, TCPEncap6, ESN, Direction, Migrate, Interface, AESGCM, AESCCM, ChaCha20, AESCBC, SHA2_256, SHA2_384, SHA2_512, SHA1}
	var err error
	if t.xfrm, err = dialXFRM(t.own); err == nil {
		defer t.xfrm.close()
		err = t.xfrm.none()
	}
	if !t.tell(XFRM, err) {
		t.skip(noXFRM, all...)
		return
	}
	spare, err := t.xfrm.spare(false)
	if t.esp = t.tell(ESP4, err); !t.esp {
		t.skip(noESP, UDPEncap, TCPEncap, ESN, Direction, AESGCM, AESCCM, ChaCha20, AESCBC, SHA2_256, SHA2_384, SHA2_512, SHA1)
	} else {
		t.tryESP(spare)
	}
	spare6, err := t.xfrm.spare(true)
	if t.tell(ESP6, err) {
		t.tell(TCPEncap6, t.xfrm.try(sa{algs: spare6, encap: message.ESPinTCP, v6: true}))
	} else {
		t.skip(noESP, TCPEncap6)
	}
	t.tell(Migrate, t.xfrm.migrate())
	if t.own {
		t.tell(Interface, addXFRMInterface())
	} else {
		t.skip("an interface would be seen by others", Interface)
	}
}

// tryESP asks for more than an SA of the algorithms that an attempt has shown to be there.
func (t *trial) tryESP(spare algorithms) {
	err := t.xfrm.try(sa{algs: spare, encap: message.ESPinUDP})
	if err == nil {
		err = udpEncap()
	}
	t.tell(UDPEncap, err)
	err = t.xfrm.try(sa{algs: spare, encap: message.ESPinTCP})
	if err == nil {
		err = t.tcpULP()
	}
	t.tell(TCPEncap, err)
	t.tell(ESN, t.xfrm.try(sa{algs: spare, esn: true}))
	if known, err := t.xfrm.direction(spare); err != nil || !known {
		t.found <- Finding{Feature: Direction, Outcome: No, Means: features[Direction].without}
	} else {
		t.tell(Direction, nil)
	}
	for f := AESGCM; f <= SHA1; f++ {
		t.tell(f, t.xfrm.try(sa{algs: needs(f)}))
	}
}

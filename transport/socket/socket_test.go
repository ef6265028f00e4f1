package socket

import (
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/transport"
)

// TestSendErrorsSayWhatToDo: the number of the system is there, and what it means here.
func TestSendErrorsSayWhatToDo(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{
		syscall.EPERM: "a firewall on this host", syscall.EINVAL: "is it still an address of this host", syscall.ENETUNREACH: "routing table", syscall.EHOSTUNREACH: "routing table",
	} {
		if why, err := SendFailed(errno); why != transport.DropSendFailed || !errors.Is(err, errno) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, %v", errno, why, err)
		}
	}
	if why, err := SendFailed(syscall.ENOBUFS); why != transport.DropSendBuffer || !errors.Is(err, transport.ErrQueueFull) {
		t.Errorf("no buffer: %v, %v", why, err)
	}
}

// TestPacketInfo: what PutInfo writes for a datagram to leave from is what Info would read of one that came there; the wildcard asks for nothing.
func TestPacketInfo(t *testing.T) {
	for _, a := range []string{"192.1.2.45", "2001:db8:1:2::45"} {
		var oob [InfoSpace]byte
		n := PutInfo(oob[:], netip.MustParseAddr(a))
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob[:n])
		if err != nil || len(rest) != 0 {
			t.Fatalf("%s: %v, %d octets behind", a, err, len(rest))
		}
		if got, ok := Info(h, data); !ok || got.String() != a {
			t.Errorf("%s: read %v", a, got)
		}
	}
	for _, a := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if n := PutInfo(make([]byte, InfoSpace), a); n != 0 {
			t.Errorf("%s: %d octets", a, n)
		}
	}
}

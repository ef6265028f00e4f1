package xfrm

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
)

// What the kernel has refused is said with the cure, and in a class where the peer is told something else for it.
func TestRefused(t *testing.T) {
	said := func(errno error, text string) error {
		if text == "" {
			return errno
		}
		return fmt.Errorf("%w: %s", errno, text)
	}
	for _, c := range []struct {
		errno   error
		text    string // the kernel's own
		carrier path.Kind
		class   error
		words   string
	}{
		{unix.ENOSYS, "Requested AEAD algorithm not found", path.ESP, kernel.ErrAlgorithm, "this kernel has no gcm: modprobe esp4"},
		{unix.ENOENT, "", path.ESP, kernel.ErrAlgorithm, "look at /proc/crypto"},
		{unix.EINVAL, "Requested COMP algorithm not found", path.ESP, kernel.ErrAlgorithm, "choose another esp="},
		{unix.ENOBUFS, "", path.ESP, kernel.ErrMemory, "look at free memory"},
		{unix.ENOMEM, "", path.UDP, kernel.ErrMemory, "ip xfrm state count"},
		{unix.EPERM, "", path.ESP, nil, "needs CAP_NET_ADMIN"},
		{unix.EEXIST, "", path.ESP, nil, "ip xfrm policy"},
		{unix.EPROTONOSUPPORT, "", path.TCP, nil, "no ESP in TCP"},
		{unix.EPROTONOSUPPORT, "Requested type not found", path.TCP, nil, "no ESP: modprobe esp4"},
	} {
		err := fmt.Errorf("install: %w", refusedSA("outbound", "gcm", false, c.carrier, said(c.errno, c.text)))
		for _, class := range []error{kernel.ErrAlgorithm, kernel.ErrMemory} {
			if errors.Is(err, class) != errors.Is(c.class, class) {
				t.Errorf("%v %q: %v is of class %v", c.errno, c.text, err, class)
			}
		}
		if text := err.Error(); !errors.Is(err, c.errno) || !strings.Contains(text, c.words) || strings.Contains(text, "this datapath") {
			t.Errorf("%v: %v, want %q in it", c.errno, err, c.words)
		}
	}
}

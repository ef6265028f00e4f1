package xfrm

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/path"
)

const elsewhere = "or use --backend userspace"

// classed is an error that says by one of package kernel's, which is not in its words, what IKE has to know of it.
type classed struct {
	error
	class error
}

func (c classed) Unwrap() []error { return []error{c.error, c.class} }

// refused puts what the kernel refused, and what helps, into an operator's words; what says what was tried.
func refused(what string, err error) error {
	if err == nil {
		return nil
	}
	said := fmt.Errorf("%s: %w%s", what, err, cure(err))
	if errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM) {
		return classed{said, kernel.ErrMemory}
	}
	return said
}

// cure is what helps, with "; " before it; empty if nobody knows.
func cure(err error) string {
	text := strings.ToLower(err.Error())
	switch {
	case errors.Is(err, unix.EPERM):
		return "; changing the kernel's IPsec needs CAP_NET_ADMIN in the user namespace of this network namespace: run the daemon as root, " + elsewhere
	case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
		return "; the kernel has no memory for it: look at free memory and at net.core.rmem_max, and count what is there with: ip xfrm state count; ip xfrm policy count"
	case errors.Is(err, unix.EEXIST):
		return "; look who has it: ip xfrm state; ip xfrm policy. Two IKE daemons cannot protect the same in one network namespace"
	case errors.Is(err, unix.ESRCH):
		return "; somebody has removed it: is something running ip xfrm state flush, or another IKE daemon?"
	case errors.Is(err, unix.EINVAL) && strings.Contains(text, "esn"), errors.Is(err, unix.EINVAL) && strings.Contains(text, "replay"):
		return "; choose replay-window= between 1 and 4096 (or 0 with esn=no)"
	}
	return ""
}

// refusedSA is refused for adding an SA, where the kernel may lack ESP or an algorithm.
func refusedSA(what string, algorithms string, ipv6 bool, carrier path.Kind, err error) error {
	if err == nil {
		return nil
	}
	module := "esp4"
	if ipv6 {
		module = "esp6"
	}
	text := strings.ToLower(err.Error())
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT) && carrier == path.TCP && !strings.Contains(text, "type not found"):
		return fmt.Errorf("%s: this kernel has no ESP in TCP (options INET_ESPINTCP and INET6_ESPINTCP), %s: %w", what, elsewhere, err)
	case errors.Is(err, unix.EPROTONOSUPPORT):
		return fmt.Errorf("%s: this kernel has no ESP: modprobe %s (is it blacklisted in /etc/modprobe.d?), %s: %w", what, module, elsewhere, err)
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOENT), strings.Contains(text, "algorithm"):
		return classed{fmt.Errorf("%s: this kernel has no %s: modprobe %s and the module of the algorithm (look at /proc/crypto), choose another esp=, %s: %w",
			what, algorithms, module, elsewhere, err), kernel.ErrAlgorithm}
	}
	return refused(what, err)
}

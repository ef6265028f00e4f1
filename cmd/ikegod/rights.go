package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// errNoNetAdmin names all that ikegod needs, so that nobody has to ask three times.
var errNoNetAdmin = errors.New("ikegod has no CAP_NET_ADMIN, without which it can neither give SAs to the kernel nor make a TUN, routes or rules: run it as root, or give it " +
	"CAP_NET_ADMIN, CAP_NET_BIND_SERVICE for its ports and CAP_NET_RAW for plain ESP (in a systemd unit AmbientCapabilities=CAP_NET_ADMIN CAP_NET_BIND_SERVICE CAP_NET_RAW; " +
	"for a container --cap-add NET_ADMIN --cap-add NET_RAW --device /dev/net/tun)")

// mayChangeNetworks is the right without which every datapath fails, each in its own words. Where the right is there but not for this network namespace, as in some
// containers, those words are what there is.
func mayChangeNetworks() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData // of 32 capabilities each
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("read the capabilities of this process: %w", err)
	}
	if sets[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		return errNoNetAdmin
	}
	return nil
}

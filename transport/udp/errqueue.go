package udp

import (
	"fmt"
	"net/netip"
	"syscall"

	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
	"github.com/ikegod/ikegod/transport/socket"
)

// readErrors counts and tells the ICMP errors that came for a socket's datagrams. They change nothing.
func (t *Transport) readErrors(s *bound) {
	socket.ReadErrors(s.raw, s.local, func(local netip.Addr, remote netip.AddrPort, cause syscall.Errno) {
		p := path.Path{Local: netip.AddrPortFrom(local, s.port), Remote: remote, Kind: path.UDP}
		t.meter.Drop(transport.DropUnreachable, 1)
		if t.notices.Due(transport.DropUnreachable) {
			t.notices.Tell(transport.DropUnreachable, p, "%s: %s", p.Peer(), socket.ICMPText(cause))
		}
		if t.unreachable != nil {
			t.unreachable.Unreachable(p, fmt.Errorf("%s (%w)", socket.ICMPText(cause), cause))
		}
	})
}

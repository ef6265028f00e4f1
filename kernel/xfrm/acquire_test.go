package xfrm

import (
	"net/netip"
	"os/exec"
	"testing"

	"github.com/ikegod/ikegod/kernel"
)

// What the kernel says of the packet for a trap is what stands for it in traffic selectors: for ICMP type and code, in both ports (RFC 7296 3.13.1).
func TestAcquireSaysWhatSelectorsHave(t *testing.T) {
	for name, tc := range map[string]struct {
		command  []string
		protocol uint8
		dst      uint16
	}{
		"ping": {[]string{"ping", "-n", "-c1", "-W1", "-I", "192.0.1.254", "192.0.2.1"}, protoICMP, 8 << 8},
		"tcp":  {[]string{"timeout", "1", "bash", "-c", "exec 3<>/dev/tcp/192.0.2.1/443"}, 6, 443},
		"udp":  {[]string{"bash", "-c", "echo > /dev/udp/192.0.2.1/53"}, 17, 53},
	} {
		t.Run(name, func(t *testing.T) {
			namespace(t)
			r := open(t, Config{})
			r.route(westEast(t, kernel.Trap))
			sh(t, "ip route replace 192.0.2.0/24 dev eth0 src 192.0.1.254")
			_ = exec.Command(tc.command[0], tc.command[1:]...).Run() // it gets no answer
			r.until("acquire", func() bool { return len(r.heard) > 0 })
			a, ok := r.heard[0].(kernel.Acquire)
			src, dst := netip.MustParseAddr("192.0.1.254"), netip.MustParseAddr("192.0.2.1")
			if !ok || a.Protocol != tc.protocol || a.Src.Addr() != src || a.Dst != netip.AddrPortFrom(dst, tc.dst) || tc.protocol == protoICMP && a.Src.Port() != tc.dst {
				t.Errorf("%+v", r.heard)
			}
			t.Logf("%+v", r.heard[0])
		})
	}
}

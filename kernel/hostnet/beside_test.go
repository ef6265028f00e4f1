package hostnet

import (
	"strings"
	"testing"

	"github.com/ikegod/ikegod/kernel"
)

// TestBesideKernel: beside the kernel's IPsec what it has decrypted passes the guard, and what comes from the TUN has a bit that its policies know, until it is forwarded.
// Without it there is neither. That packets flow is shown on a kernel with ESP (testing/uml).
func TestBesideKernel(t *testing.T) {
	namespace(t)
	const secpath, mark, forward, unmark = "meta ipsec exists accept", "meta mark set meta mark | 0x40000000", "type filter hook forward priority raw", "meta mark set meta mark & 0xbfffffff"
	for _, beside := range []bool{false, true} {
		var s Settings
		if beside {
			s.Opened = kernel.Mark{Value: 1 << 30, Mask: 1 << 30}
		}
		n := open(t, s)
		table := strings.Join(strings.Fields(sh(t, "nft list table inet "+DefaultNFTable)), " ")
		for _, want := range []string{secpath, mark, forward, unmark} {
			if strings.Contains(table, want) != beside {
				t.Errorf("beside the kernel %v, %q in the table %v:\n%s", beside, want, !beside, table)
			}
		}
		if at := strings.Index(table, secpath); beside && at > strings.Index(table, "fib saddr oifname") {
			t.Errorf("the guard asks first:\n%s", table)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}

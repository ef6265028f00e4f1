package uml_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/uml"
)

// onlyProtected counts what arrives on the wire of a host that is neither IKE nor ESP, in any carrier, and came without passing an SA. Neighbour discovery has to
// be in clear, and so does what a host says to one without a tunnel: that nobody takes ESP in UDP any more.
const onlyProtected = `table netdev wire {
	counter clear { }
	counter carried { }
	chain in {
		type filter hook ingress device "` + netns.Outer + `" priority -500;
		meta protocol != { ip, ip6 } return
		meta secpath exists return
		icmp type destination-unreachable ip daddr { 192.1.2.0/24, 192.1.3.0/24 } return
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld2-listener-report, mld-listener-report } return
		meta l4proto esp counter name carried return
		udp dport { 500, 4500 } counter name carried return
		udp sport { 500, 4500 } counter name carried return
		tcp dport 4500 counter name carried return
		tcp sport 4500 counter name carried return
		ip frag-off & 0x1fff != 0 return
		counter name clear
	}
}
`

// watched does something while the wires of hosts are watched, and wants protected packets on them and nothing in clear.
func watched(t *testing.T, do func(), hosts ...*netns.Host) {
	t.Helper()
	for _, h := range hosts {
		if err := h.RunInput(onlyProtected, "nft", "-f", "-"); err != nil {
			t.Fatal(err)
		}
	}
	do()
	for _, h := range hosts {
		clear, carried, out := counted(t, h)
		if clear != 0 || carried <= 0 {
			t.Errorf("%s saw %d packets in clear and %d protected ones: %s", h.Name, clear, carried, out)
		}
		if err := h.Run("nft", "delete", "table", "netdev", "wire"); err != nil {
			t.Error(err)
		}
	}
}

// counted is what a host that is watched has seen.
func counted(t *testing.T, h *netns.Host) (clear, carried int, text string) {
	t.Helper()
	out, err := h.Output("nft", "list", "counters", "table", "netdev", "wire")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return nftCounter(out, "clear"), nftCounter(out, "carried"), out
}

func nftCounter(list, name string) int {
	_, after, _ := strings.Cut(list, "counter "+name+" {")
	f := strings.Fields(after)
	if len(f) < 2 || f[0] != "packets" {
		return -1
	}
	n, _ := strconv.Atoi(f[1])
	return n
}

// captured keeps the last packets on the wires of hosts, if the test fails, in captures/ of Dir under its name.
func captured(t *testing.T, hosts ...*netns.Host) {
	t.Helper()
	dir := filepath.Join(uml.Dir(), "captures", t.Name())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		file := filepath.Join(dir, h.Name+".pcap")
		stop, err := h.Record(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := stop(); err != nil {
				t.Error(err)
			}
			if !t.Failed() {
				_ = errors.Join(os.Remove(file+"0"), os.Remove(file+"1")) // there may be one alone
			}
		})
	}
}

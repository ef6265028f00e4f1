package probe

import (
	"os"
	"path/filepath"
	"strings"
)

// FlowLabels says what an operator must know about IPv6 flow labels in the calling thread's namespace; empty: nothing. A new TCP connection of an IKE SA has to keep that of
// the one before (RFC 9329 6.1). Ours have none, unless the system insists: then each connection gets another, whatever its socket says.
func FlowLabels() string { return flowLabels("/proc") }

func flowLabels(proc string) string {
	b, err := os.ReadFile(filepath.Join(proc, "sys/net/ipv6/auto_flowlabels"))
	if err != nil || strings.TrimSpace(string(b)) != "3" {
		return ""
	}
	return "net.ipv6.auto_flowlabels is 3: each TCP connection over IPv6 has another flow label, and routers that choose the way by it may lead a peer that connects again to another gateway " +
		"(RFC 9329 6.1); sysctl -w net.ipv6.auto_flowlabels=1 leaves it to ikegod, whose connections have none"
}

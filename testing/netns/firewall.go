package netns

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Block drops what matches an nft expression on the way in and out of a host's outer interface, e.g. "meta l4proto udp". It returns the way to undo it.
func (h *Host) Block(name, match string) (unblock func() error, err error) {
	script := fmt.Sprintf(`table inet block-%s {
	chain in {
		type filter hook prerouting priority -400;
		iifname %q %s drop
	}
	chain out {
		type filter hook postrouting priority 400;
		oifname %q %s drop
	}
}
`, name, Outer, match, Outer, match)
	if err := h.RunInput(script, "nft", "-f", "-"); err != nil {
		return nil, err
	}
	return func() error { return h.Run("nft", "delete", "table", "inet", "block-"+name) }, nil
}

// Counter counts packets that arrive on the outer interface before anything else sees them.
type Counter struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// What Count counts. A packet that holds an inner address in clear has bypassed the tunnel.
var counted = map[string]string{
	"clear": "ip saddr { " + WestNet + ", " + EastNet + " }",
	// Both kinds of selectors may hit the same packet; the second counts what only goes to an inner network.
	"cleardst":  "ip saddr != { " + WestNet + ", " + EastNet + " } ip daddr { " + WestNet + ", " + EastNet + " }",
	"clear6":    "ip6 saddr { " + WestNet6 + ", " + EastNet6 + " }",
	"clear6dst": "ip6 saddr != { " + WestNet6 + ", " + EastNet6 + " } ip6 daddr { " + WestNet6 + ", " + EastNet6 + " }",
	// A label that is not zero changes with each connection, if Linux makes it (RFC 9329 6.1).
	"labelled": "ip6 flowlabel != 0 meta l4proto tcp",
	"tcp4500":  "tcp dport 4500",
	"tcp4500r": "tcp sport 4500",
	"alludp":   "meta l4proto udp ip version 4",
	"plainesp": "meta l4proto esp", // over IPv4 and IPv6
}

// Count starts counting on a host.
func (h *Host) Count() error {
	var script strings.Builder
	script.WriteString("table netdev count {\n")
	for name := range counted {
		script.WriteString("\tcounter " + name + " { }\n")
	}
	fmt.Fprintf(&script, "\tchain in {\n\t\ttype filter hook ingress device %q priority -500;\n", Outer)
	for name, match := range counted {
		script.WriteString("\t\t" + match + " counter name " + name + "\n")
	}
	script.WriteString("\t}\n}\n")
	return h.RunInput(script.String(), "nft", "-f", "-")
}

// Uncount stops counting.
func (h *Host) Uncount() error { return h.Run("nft", "delete", "table", "netdev", "count") }

// Counts are the counters of a host.
type Counts map[string]Counter

// Clear is the number of packets that held an inner address.
func (c Counts) Clear() uint64 {
	return c["clear"].Packets + c["cleardst"].Packets + c["clear6"].Packets + c["clear6dst"].Packets
}

// TCP is the number of bytes of packets from or to TCP port 4500.
func (c Counts) TCP() uint64 { return c["tcp4500"].Bytes + c["tcp4500r"].Bytes }

// Counts reads the counters.
func (h *Host) Counts() (Counts, error) {
	out, err := h.Output("nft", "-j", "list", "counters", "table", "netdev", "count")
	if err != nil {
		return nil, fmt.Errorf("nft: %w: %s", err, out)
	}
	var list struct {
		Nftables []struct {
			Counter *struct {
				Name string `json:"name"`
				Counter
			} `json:"counter"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, err
	}
	counts := Counts{}
	for _, n := range list.Nftables {
		if n.Counter != nil {
			counts[n.Counter.Name] = n.Counter.Counter
		}
	}
	return counts, nil
}

package netns_test

import (
	"bytes"
	hexadecimal "encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/testing/netns"
)

// TestRecord: a record of the wire can be read, is bounded, and ends with the last packet.
func TestRecord(t *testing.T) {
	_, w, e := netns.Gateways(t)
	base := filepath.Join(t.TempDir(), "east.pcap")
	stop, err := e.Record(base)
	if err != nil {
		t.Fatal(err)
	}
	last := "the last packet"
	for _, args := range [][]string{{"-f", "-q", "-c", "6000", "-s", "400"}, {"-c", "1", "-p", hexadecimal.EncodeToString([]byte(last)), "-s", "64"}} {
		if out, err := w.Output("ping", append(args, "-n", netns.East)...); err != nil {
			t.Fatalf("ping: %v: %s", err, out)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	found := false
	for _, n := range []string{"0", "1"} {
		b, err := os.ReadFile(base + n)
		if err != nil || len(b) > 1<<20 {
			t.Errorf("%v; %d octets", err, len(b))
		}
		found = found || bytes.Contains(b, []byte(last))
		out, err := e.Output("tcpdump", "-n", "-r", base+n)
		if err != nil || !strings.Contains(out, "ICMP echo request") || !strings.Contains(out, "ICMP echo reply") {
			t.Errorf("tcpdump: %v: %.500s", err, out)
		}
	}
	if !found {
		t.Error("the last packet is not there")
	}
}

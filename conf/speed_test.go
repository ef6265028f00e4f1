package conf

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// many is a configuration of n connections, each with its own subnet, identity and a shared base.
func many(n int) string {
	var b strings.Builder
	b.WriteString("config setup\n\tlisten-tcp=yes\n\nconn %default\n\tauthby=secret\n\tike=aes256-sha2_512;dh19\n\nconn base\n\tright=192.1.2.23\n\trightid=@east\n\trightsubnet=192.0.2.0/24\n\tenable-tcp=fallback\n\tretransmit-timeout=5s\n")
	for i := range n {
		fmt.Fprintf(&b, "\nconn c%d\n\talso=base\n\tleft=192.1.2.45\n\tleftid=@host%d.example.com\n\tleftsubnet=10.%d.%d.0/24\n\tdpddelay=30s\n\tpfs=yes\n\tauto=add\n", i, i, i>>8, i&0xff)
	}
	return b.String()
}

// cpu is the processor time of this process: unlike the clock it does not count what else the machine does.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// Ten thousand connections load in well under a second on the machine this was written on (0.2 s); the limit leaves room for a slow one and for -race.
func TestTenThousandConnections(t *testing.T) {
	name := filepath.Join(t.TempDir(), "ipsec.conf")
	if err := os.WriteFile(name, []byte(many(10000)), 0o600); err != nil {
		t.Fatal(err)
	}
	start := cpu(t)
	c, _ := Load(name, Options{})
	set, ds := c.Compile()
	took := cpu(t) - start
	if len(ds) > 0 || len(set.Connections) != 10000 {
		t.Fatalf("%d connections, %v", len(set.Connections), ds)
	}
	ch := Diff(set, set)
	t.Logf("loaded in %v, compared with itself in %v", took, cpu(t)-start-took)
	if !ch.Empty() {
		t.Errorf("%+v", ch)
	}
	if limit := 5 * time.Second; took > limit {
		t.Errorf("loading took %v of processor time, more than %v", took, limit)
	}
}

func BenchmarkLoad10000(b *testing.B) {
	fs := mapFiles{"ipsec.conf": many(10000)}
	b.ReportAllocs()
	for b.Loop() {
		c, _ := load("ipsec.conf", Options{}, fs)
		if set, ds := c.Compile(); set == nil || len(set.Connections) != 10000 {
			b.Fatal(ds)
		}
	}
}

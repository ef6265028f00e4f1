package peer

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// need gets strongSwan, or skips loudly; in CI it must be there.
func need(t *testing.T) {
	t.Helper()
	netns.Need(t, "nsenter")
	if _, err := Fetched(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("NOT TESTED, and required in CI: strongSwan: %v", err)
		}
		t.Skipf("NOT TESTED: strongSwan as a peer: %v", err)
	}
}

// TestStrongSwanItself shows that the harness works, so that a failure of the other tests is ours. It also shows what kernel-libipsec of 5.9.8 cannot do: nobody
// asks for UDP encapsulation, and no NAT is there, but its ESP is in UDP all the same, for which it pretends a NAT.
func TestStrongSwanItself(t *testing.T) {
	need(t)
	s := sites[0].make(t)
	u := modern()
	e, err := Start(s.theirs.host, s.swanctl([]tunnel{u}))
	if err != nil {
		t.Fatal(err)
	}
	other := site{ours: s.theirs, theirs: s.ours}
	swapped := strings.NewReplacer("id = theirs-", "id = west-", "id = ours-", "id = theirs-").Replace(other.swanctl([]tunnel{u}))
	w, err := Start(s.ours.host, strings.ReplaceAll(swapped, "id = west-", "id = ours-"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := w.Swanctl("--initiate", "--child", u.name, "--timeout", "20"); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, e.Log())
	}
	if out, err := s.ours.host.Output("ping", "-c", "2", "-i", "0.1", "-W", "2", "-I", netns.WestInner, netns.EastInner); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := netns.Transfer(t.Context(), s.theirs.host, netns.EastInner+":0", s.ours.host, netns.WestInner, 2<<20); err != nil {
		t.Error(err)
	}
	if out, err := e.Swanctl("--list-sas"); err != nil || !strings.Contains(out, "INSTALLED, TUNNEL-in-UDP") {
		t.Errorf("%v: %s", err, out)
	}
	if log := w.Log(); !strings.Contains(log, "remote host is behind NAT") {
		t.Errorf("strongSwan does not pretend a NAT any more; test plain ESP with it:\n%s", log)
	}
	begin := time.Now()
	if err := w.Stop(); err != nil || time.Since(begin) > 8*time.Second {
		t.Errorf("stopping took %s: %v", time.Since(begin), err)
	}
}

package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestWithoutNetAdmin: whoever starts ikegod without the right to change networks hears at once what is missing and how to give it, whatever the backend.
func TestWithoutNetAdmin(t *testing.T) {
	if backend := os.Getenv("WITHOUT_NET_ADMIN"); backend != "" {
		if err := serve(t.Context(), Settings{Backend: backend, RunDir: t.TempDir()}, nil); err != nil {
			t.Log("serve: " + err.Error())
		}
		return
	}
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: a start without CAP_NET_ADMIN; this needs root, to be able to do without")
	}
	for _, backend := range []string{"auto", "xfrm", "userspace"} {
		cmd := exec.Command("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", os.Args[0], "-test.run=^TestWithoutNetAdmin$", "-test.v")
		cmd.Env = append(os.Environ(), "WITHOUT_NET_ADMIN="+backend)
		out, err := cmd.CombinedOutput()
		for _, want := range []string{"serve: ikegod has no CAP_NET_ADMIN", "run it as root", "AmbientCapabilities=CAP_NET_ADMIN", "--cap-add NET_ADMIN"} {
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("backend=%s: %v, want %q in\n%s", backend, err, want, out)
			}
		}
	}
}

package uml

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// TestKernels shows what the two kernels are for: a state with ESP in TCP is possible on the one and refused by the other.
func TestKernels(t *testing.T) {
	for _, k := range []Kernel{Full, Stock} {
		t.Run(string(k), func(t *testing.T) {
			if Outside(t, k) {
				return
			}
			state := func(encap ...string) error {
				args := []string{
					"xfrm", "state", "add", "src", "127.0.0.1", "dst", "127.0.0.2", "proto", "esp", "spi", "0x1234", "mode", "tunnel",
					"aead", "rfc4106(gcm(aes))", "0x" + strings.Repeat("ab", 36), "128",
				}
				out, err := exec.Command("ip", append(args, encap...)...).CombinedOutput()
				t.Logf("%v: %s%v", encap, out, err)
				exec.Command("ip", "xfrm", "state", "flush").Run()
				return err
			}
			if err := state(); err != nil {
				t.Error("no ESP")
			}
			if err := state("encap", "espinudp", "4500", "4500", "0.0.0.0"); err != nil {
				t.Error("no ESP in UDP")
			}
			if err := state("encap", "espintcp", "4500", "4500", "0.0.0.0"); (err == nil) != (k == Full) {
				t.Error("ESP in TCP is not as it should be")
			}
		})
	}
}

// TestVictim is what TestResultsComeBack looks at.
func TestVictim(t *testing.T) {
	if os.Getenv("VICTIM") == "" {
		t.Skip("this runs as part of TestResultsComeBack")
	}
	for name, inside := range map[string]func(t *testing.T){
		"passes": func(t *testing.T) {
			t.Run("below", func(t *testing.T) { t.Logf("uid %d in the guest", os.Getuid()) })
			if err := os.WriteFile(filepath.Join(Dir(), "capture"), []byte("brought back"), 0o600); err != nil {
				t.Error(err)
			}
			if err := os.WriteFile("/etc/ikegod-guest", nil, 0o600); err != nil {
				t.Error(err)
			}
		},
		"fails": func(t *testing.T) { t.Error("a reason to fail") },
		"below": func(t *testing.T) { t.Run("deep", func(t *testing.T) { t.Error("a reason to fail") }) },
		"skips": func(t *testing.T) { t.Skip("NOT TESTED: a reason to skip") },
		"hangs": func(*testing.T) { select {} },
		"dies": func(t *testing.T) {
			if err := os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			if Outside(t, Full) {
				return
			}
			inside(t)
		})
	}
}

// TestResultsComeBack runs insides that pass, fail, skip, hang and kill the machine, and looks at what the outside makes of them.
func TestResultsComeBack(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	prepare(t, Full, nil)
	for name, want := range map[string][]string{
		"passes": {"--- PASS: TestVictim/passes", "--- PASS: TestVictim/passes/below", "uid 0 in the guest"},
		"fails":  {"--- FAIL: TestVictim/fails", "a reason to fail", "exit status 1 inside", "the guest's files are in "},
		"below":  {"--- FAIL: TestVictim/below/deep", "a reason to fail"},
		"skips":  {"--- SKIP: TestVictim/skips", "NOT TESTED: a reason to skip"},
		"hangs":  {"--- FAIL: TestVictim/hangs", "panic: test timed out"},
		"dies":   {"--- FAIL: TestVictim/dies", "the guest ended before its command", "sysrq triggered crash"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(self, "-test.v", "-test.run=^TestVictim$/^"+name+"$", "-test.timeout=70s")
			cmd.Env = append(os.Environ(), "VICTIM=yes", "TMPDIR="+t.TempDir())
			out, _ := cmd.CombinedOutput()
			for _, w := range want {
				if !strings.Contains(string(out), w) {
					t.Errorf("not said: %q", w)
				}
			}
			if t.Failed() {
				t.Logf("%s", out)
			}
		})
	}
	if _, err := os.Stat("/etc/ikegod-guest"); err == nil {
		t.Error("the guest wrote to the host's files")
	}
}

// TestBoot brings a file, a status and output back from a script, and ends one that takes too long, with all its processes.
func TestBoot(t *testing.T) {
	kernel, _ := prepare(t, Full, nil)
	dir := t.TempDir()
	r, err := Boot(t.Context(), kernel, dir, []string{"GREETING=it's me"}, "echo \"$GREETING\"; echo of the guest >$"+dirVar+"/file; exit 7")
	if err != nil || r.Status != 7 || r.Output != "it's me\n" {
		t.Errorf("%+v: %v", r, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(b) != "of the guest\n" {
		t.Errorf("%q: %v", b, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	dir = t.TempDir()
	go func() {
		netns.Poll(time.Minute, func() bool { _, err := os.Stat(filepath.Join(dir, "begun")); return err == nil })
		cancel(errors.New("enough"))
	}()
	r, err = Boot(ctx, kernel, dir, nil, "echo begun; touch $"+dirVar+"/begun; sync; sleep 1000 & sleep 1000")
	if err == nil || !strings.Contains(err.Error(), "enough") || r.Output != "begun\n" {
		t.Errorf("%+v: %v", r, err)
	}
	if out, err := exec.Command("pgrep", "-f", dir).CombinedOutput(); err == nil {
		t.Errorf("of the guest still run: %s", out)
	}
}

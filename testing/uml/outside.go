package uml

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// limit is how long a guest may take, unless the deadline of the tests comes first.
const limit = 15 * time.Minute

// Need is something that a test needs inside and only the host can get, for the guest has no network: it returns variables for the guest. An error is that of
// a missing capability.
type Need func() (env []string, err error)

// Programs is a Need: ikegod and ikectl, where netns.Bin finds them.
func Programs() ([]string, error) {
	dir, err := netns.Bin()
	return []string{"TEST_BIN=" + dir}, err
}

// Outside reports whether the test runs on the host. If so, it has booted the kernel and run the test inside, and the results of the test and of its
// subtests are those from inside. It skips loudly where the guest cannot be had; in CI (CI=true) it fails instead.
func Outside(t *testing.T, k Kernel, needs ...Need) bool {
	t.Helper()
	if Inside() {
		return false
	}
	kernel, env := prepare(t, k, needs)
	dir := directory(t)
	script, err := command(t)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience(t), errors.New("its time limit is over"))
	defer cancel()
	r, err := Boot(ctx, kernel, dir, append(os.Environ(), env...), script, strings.Fields(string(k))[1:]...)
	if werr := os.WriteFile(filepath.Join(dir, "console"), []byte(r.Kernel), 0o600); werr != nil {
		t.Error(werr)
	}
	if testing.Verbose() {
		t.Logf("inside, on the kernel %s:\n%s", k, r.Output)
	}
	why := reasons(r.Output)
	result := mirror(t, r.Output, why)
	switch { // what has gone wrong comes last, where it is seen
	case err != nil:
		t.Errorf("%v\nthe kernel's last words:\n%s\nthe test's:\n%s\n%s", err, tail(r.Kernel, 60), tail(r.Output, 20), why[t.Name()])
	case r.Status != 0:
		t.Errorf("exit status %d inside, on the kernel %s\n%s", r.Status, k, why[t.Name()])
	case result == "":
		t.Errorf("no result of %s came back; its last words:\n%s", t.Name(), tail(r.Output, 20))
	case result == "SKIP" && !testing.Verbose():
		t.Logf("inside, on the kernel %s:\n%s", k, tail(r.Output, 20))
	}
	if result == "SKIP" {
		t.Skip("skipped inside")
	}
	return true
}

// prepare finds the kernel and what else is needed.
func prepare(t *testing.T, k Kernel, needs []Need) (kernel string, env []string) {
	t.Helper()
	kernel, err := find(k)
	if err == nil && os.Geteuid() != 0 {
		err = errors.New("it needs root")
	}
	for _, need := range needs {
		if err != nil {
			break
		}
		var more []string
		more, err = need()
		env = append(env, more...)
	}
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("NOT TESTED, and required in CI: %s in a guest: %v", t.Name(), err)
	default:
		t.Skipf("NOT TESTED: %s in a guest: %v", t.Name(), err)
	}
	return kernel, env
}

// find asks kernel/build where it puts the kernel for its source and these options.
func find(k Kernel) (string, error) {
	tree, err := os.Getwd() // of the package that is tested
	if err != nil {
		return "", err
	}
	for tree != "/" {
		if _, err := os.Stat(filepath.Join(tree, "go.mod")); err == nil {
			break
		}
		tree = filepath.Dir(tree)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(tree, "testing/uml/kernel/build"), "path", strings.Fields(string(k))[0])
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("no source of the kernel (make kernel kernel-newer gets and builds it): %w", err)
	}
	kernel := strings.TrimSpace(string(out))
	if _, err := os.Stat(kernel); err != nil {
		return "", fmt.Errorf("the kernel is not built (make kernel kernel-newer builds it): %w", err)
	}
	return kernel, nil
}

// directory makes the guest's Dir. It is removed with the test, unless that failed.
func directory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "uml-"+strings.ReplaceAll(t.Name(), "/", "-")+"-") //nolint:usetesting // stays when the test failed
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the guest's files are in %s, all that the test has said in output", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func patience(t *testing.T) time.Duration {
	p := limit
	if end, ok := t.Deadline(); ok {
		p = min(p, time.Until(end)-5*time.Second)
	}
	return p
}

// insideLimit is how much of the patience the test inside has: it is to say where it hangs, before it is killed, and a slow guest takes long to boot.
func insideLimit(patience time.Duration) time.Duration {
	return min(patience*3/4, patience-30*time.Second)
}

// command makes the script that runs this test, and it alone, from this test binary in this directory.
func command(t *testing.T) (string, error) {
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	args := []string{
		self, "-test.v", "-test.paniconexit0", "-test.count=1", "-test.run=" + pattern(t.Name(), flag.Lookup("test.run").Value.String()),
		fmt.Sprintf("-test.timeout=%s", insideLimit(patience(t)).Round(time.Second)),
	}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	return "export TMPDIR=/guest\ncd " + quote(here) + " && exec " + words(args...) + "\n", nil
}

// pattern is the value of -test.run for a test; what was asked for below it holds inside too.
func pattern(name, asked string) string {
	var b strings.Builder
	for i, part := range strings.Split(name, "/") {
		if i > 0 {
			b.WriteByte('/')
		}
		b.WriteString("^" + regexp.QuoteMeta(part) + "$")
	}
	parts := strings.Split(asked, "/")
	if n := strings.Count(name, "/") + 1; len(parts) > n {
		b.WriteString("/" + strings.Join(parts[n:], "/"))
	}
	return b.String()
}

// mirror repeats the results of subtests from the output of a test binary with -test.v, with the reasons of failures, and returns the result of the test itself,
// PASS, FAIL, SKIP or nothing.
func mirror(t *testing.T, output string, why map[string]string) (own string) {
	t.Helper()
	results := map[string]string{}
	var names []string
	for in := bufio.NewScanner(strings.NewReader(output)); in.Scan(); {
		f := strings.Fields(in.Text())
		if len(f) != 4 || f[0] != "---" || !strings.HasPrefix(f[3], "(") {
			continue
		}
		result, name := strings.TrimSuffix(f[1], ":"), f[2]
		if name == t.Name() {
			own = result
			continue
		}
		if _, known := results[name]; !known {
			names = append(names, name)
		}
		results[name] = result
	}
	for _, name := range names {
		below, ok := strings.CutPrefix(name, t.Name()+"/")
		if !ok {
			continue
		}
		t.Run(below, func(t *testing.T) {
			switch results[name] {
			case "FAIL":
				t.Errorf("failed inside:\n%s", why[name])
			case "SKIP":
				t.Skip("skipped inside: see the output of the test")
			}
		})
	}
	return own
}

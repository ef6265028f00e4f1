package netns

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Alone puts a test into a network namespace of its own, where it runs the commands; what names what is tested, tools what that needs. The namespace ends with
// the test. Where none can be had it is as with Need.
func Alone(t testing.TB, what string, tools []string, commands ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		Missing(t, what, "root")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			Missing(t, what, tool)
		}
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test, and the namespace with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		Missing(t, what, "network namespaces ("+err.Error()+")")
	}
	for _, c := range commands {
		Sh(t, c)
	}
}

// Missing skips a test loudly, or fails it where CI promises what is missing.
func Missing(t testing.TB, what, needs string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI must have %s", needs)
	}
	t.Skipf("NOT TESTED: %s; this needs %s", what, needs)
}

// Sh runs a command on the thread of the test and returns what it prints. Its words are parted by blanks; there is no shell.
func Sh(t testing.TB, command string) string {
	t.Helper()
	args := strings.Fields(command)
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

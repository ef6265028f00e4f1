package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/pkg/ctl"
)

func TestRunDirBelongsToOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "run")
	r, err := takeRunDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info, err)
	}
	if _, err := takeRunDir(dir); err == nil || !strings.Contains(err.Error(), "another ikegod (pid ") || !strings.Contains(err.Error(), "--rundir") {
		t.Errorf("a second daemon: %v", err)
	}
	r.release()
	if _, err := os.Stat(filepath.Join(dir, ctl.LockName)); !os.IsNotExist(err) {
		t.Errorf("the lock file stays: %v", err)
	}
	again, err := takeRunDir(dir)
	if err != nil {
		t.Fatalf("after the first one has gone: %v", err)
	}
	again.release()
}

// TestRunDirAfterACrash finds a lock file whose owner is gone.
func TestRunDirAfterACrash(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ctl.LockName), []byte("4194304\nand more\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := takeRunDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.release()
	b, err := os.ReadFile(filepath.Join(dir, ctl.LockName))
	if err != nil || strings.Contains(string(b), "more") || strings.TrimSpace(string(b)) == "" {
		t.Errorf("%q %v", b, err)
	}
}

func TestNotify(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	notify("READY=1")
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 100)
	n, err := c.Read(b)
	if err != nil || string(b[:n]) != "READY=1" {
		t.Errorf("%q %v", b[:n], err)
	}
	t.Setenv("NOTIFY_SOCKET", "")
	notify("READY=1") // nobody listens, and nothing happens
	c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if n, err := c.Read(b); err == nil {
		t.Errorf("%q came without NOTIFY_SOCKET", b[:n])
	}
}

// TestRunDirOfOthers: a directory that others may write to, such as /tmp, is neither used nor taken away from them.
func TestRunDirOfOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shared")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	const mode = os.ModeSticky | 0o777
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
	if _, err := takeRunDir(dir); err == nil || !strings.Contains(err.Error(), "others may write to it") {
		t.Error(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode()&(os.ModeSticky|os.ModePerm) != mode {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

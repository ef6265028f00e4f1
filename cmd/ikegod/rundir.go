package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ikegod/ikegod/pkg/ctl"
)

// runDir is a run directory that this process alone uses.
type runDir struct {
	path string
	lock *os.File
}

// takeRunDir makes the directory with mode 0700, unless it is there, and locks it. The lock lives as long as the process, however that ends. The mode of a
// directory that is there is its owner's business: it may be /run itself. Only where others could put files of theirs in our place is it refused.
func takeRunDir(path string) (*runDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("run directory %s: others may write to it (mode %04o): choose one of ikegod's own, or type: chmod go-w %s", path, info.Mode().Perm(), path)
	}
	for {
		r, err := lockRunDir(path)
		if r != nil || err != nil {
			return r, err
		}
	}
}

// lockRunDir returns nothing when the daemon before this one removed the lock file at this very moment.
func lockRunDir(path string) (*runDir, error) {
	f, err := os.OpenFile(filepath.Join(path, ctl.LockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			b := make([]byte, 32)
			n, _ := f.Read(b)
			return nil, fmt.Errorf("another ikegod (pid %s) runs with run directory %s: stop it with \"ikectl --rundir %s shutdown\", or give this one its own --rundir",
				orUnknown(strings.TrimSpace(string(b[:n]))), path, path)
		}
		return nil, fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	mine, err := f.Stat()
	there, thereErr := os.Stat(f.Name())
	if err != nil || thereErr != nil || !os.SameFile(mine, there) {
		return nil, f.Close()
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, fmt.Sprintf("%d\n", os.Getpid()))); err != nil {
		f.Close()
		return nil, fmt.Errorf("run directory: %w", err)
	}
	return &runDir{path: path, lock: f}, nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// release gives the directory up. The lock file is removed before it is unlocked, by its owner only.
func (r *runDir) release() {
	_ = os.Remove(r.lock.Name()) // a file that stays is no obstacle: the lock counts
	_ = r.lock.Close()
}

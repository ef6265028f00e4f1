package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// bundle is a peer from Debian packages: unpacked, not installed, so that nothing starts and nothing conflicts.
type bundle struct {
	name     string
	packages []string
	depends  bool     // what they depend on comes with them, where it is not installed
	files    []string // without one of these it is not complete
}

// fetched returns the bundle's directory, in the user's cache directory; the first call downloads it.
func (b *bundle) fetched() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = filepath.Join(os.TempDir(), "cache")
	}
	dir := filepath.Join(cache, "ikegod", b.name)
	if b.complete(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), b.name+"-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh)
	if err := b.fetch(fresh); err != nil {
		return "", err
	}
	if err := os.Rename(fresh, dir); err != nil && !b.complete(dir) { // another process may have been first
		return "", err
	}
	return dir, nil
}

func (b *bundle) complete(dir string) bool {
	for _, f := range b.files {
		if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
			return false
		}
	}
	return true
}

// fetch downloads and unpacks the packages into dir.
func (b *bundle) fetch(dir string) error {
	download := func() error {
		args := []string{"-q", "-o", "APT::Sandbox::User=root", "download"}
		if b.depends {
			if err := os.MkdirAll(filepath.Join(dir, "partial"), 0o755); err != nil {
				return err
			}
			args = []string{"-q", "-y", "-o", "APT::Sandbox::User=root", "-o", "Dir::Cache::archives=" + dir, "--no-install-recommends", "--download-only", "--reinstall", "install"}
		}
		return run(dir, "apt-get", append(args, b.packages...)...)
	}
	if err := download(); err != nil {
		if err := errors.Join(run(dir, "apt-get", "-q", "update"), download()); err != nil {
			return err
		}
	}
	archives, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	for _, a := range archives {
		if err := errors.Join(run(dir, "dpkg", "-x", a, dir), os.Remove(a)); err != nil {
			return err
		}
	}
	// Some packages still put files into /lib, which is a link to usr/lib.
	if _, err := os.Stat(filepath.Join(dir, "lib")); err == nil {
		if err := errors.Join(run(dir, "cp", "-a", "lib/.", "usr/lib/"), os.RemoveAll(filepath.Join(dir, "lib"))); err != nil {
			return err
		}
	}
	if !b.complete(dir) {
		return fmt.Errorf("the packages %s do not hold what they should: is this Debian 12?", strings.Join(b.packages, ", "))
	}
	return os.Chmod(dir, 0o755)
}

func run(dir, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

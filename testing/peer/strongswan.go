// Package peer runs other IKE daemons beside ours. strongSwan with kernel-libipsec carries ESP in userspace, so it needs no kernel option.
package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// The Debian packages that make a charon with kernel-libipsec, its plugins and swanctl.
var packages = []string{
	"libstrongswan", "libstrongswan-standard-plugins", "libstrongswan-extra-plugins", "strongswan-libcharon",
	"strongswan-charon", "libcharon-extra-plugins", "strongswan-swanctl",
}

// Fetched returns the directory with strongSwan unpacked: not installed, so that nothing starts and nothing conflicts. It is kept in the user's cache
// directory; the first call downloads it.
var Fetched = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = filepath.Join(os.TempDir(), "cache")
	}
	dir := filepath.Join(cache, "ikegod", "strongswan")
	if complete(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "strongswan-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh)
	if err := fetch(fresh); err != nil {
		return "", err
	}
	if err := os.Rename(fresh, dir); err != nil && !complete(dir) { // another process may have been first
		return "", err
	}
	return dir, nil
})

func complete(dir string) bool {
	for _, f := range []string{
		"usr/lib/ipsec/charon", "usr/sbin/swanctl", "usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so",
		"usr/lib/ipsec/plugins/libstrongswan-openssl.so",
	} {
		if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
			return false
		}
	}
	return true
}

// fetch downloads and unpacks the packages into dir.
func fetch(dir string) error {
	download := func() error {
		return run(dir, "apt-get", append([]string{"-q", "-o", "APT::Sandbox::User=root", "download"}, packages...)...)
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
	if !complete(dir) {
		return fmt.Errorf("the packages %s do not hold what they should: is this Debian 12?", strings.Join(packages, ", "))
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

// StrongSwan is a charon on a host.
type StrongSwan struct {
	host *netns.Host
	dir  string // of this instance
	root string // unpacked packages
	cmd  *exec.Cmd
	done chan struct{}
}

// strongswanConf turns everything off that reaches outside of this instance.
const strongswanConf = `charon {
  load = random nonce aes sha1 sha2 hmac kdf gmp curve25519 openssl gcm ctr ccm chapoly drbg kernel-libipsec kernel-netlink socket-default vici updown
  filelog {
    log {
      path = %[1]s/charon.log
      default = 1
      ike = 2
      flush_line = yes
    }
  }
  plugins {
    vici {
      socket = unix://%[1]s/vici
    }
  }
}
swanctl {
  load = random openssl
}
`

// Start starts charon on a host and loads a swanctl.conf. The caller stops it; the end of the lab does too.
func Start(h *netns.Host, swanctlConf string) (*StrongSwan, error) {
	root, err := Fetched()
	if err != nil {
		return nil, err
	}
	s := &StrongSwan{host: h, dir: filepath.Join(h.Dir(), "strongswan"), root: root, done: make(chan struct{})}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(filepath.Join(s.dir, "vici")); err != nil { // of an earlier one: it must not be taken for this one's
		return nil, err
	}
	for name, text := range map[string]string{"strongswan.conf": fmt.Sprintf(strongswanConf, s.dir), "swanctl.conf": swanctlConf} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	// ip netns exec gives a mount namespace: in it the packages lie over /usr/lib, where charon looks for its plugins, and /run is its own.
	script := `set -e
mount -t overlay overlay -o lowerdir="$0"/usr/lib:/usr/lib /usr/lib
mount -t tmpfs tmpfs /run
exec /usr/lib/ipsec/charon`
	s.cmd = h.Command(context.Background(), "sh", "-c", script, root)
	s.cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+filepath.Join(s.dir, "strongswan.conf"))
	out, err := os.Create(filepath.Join(s.dir, "output"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	s.cmd.Stdout, s.cmd.Stderr = out, out
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s.cmd.Wait()
		close(s.done)
	}()
	h.Lab().OnClose(s.Stop)
	ready := netns.Poll(10*time.Second, func() bool {
		_, err := os.Stat(filepath.Join(s.dir, "vici"))
		return err == nil || s.ended()
	})
	if !ready || s.ended() {
		return s, fmt.Errorf("charon on %s did not start: %s", h.Name, s.Log())
	}
	if out, err := s.Swanctl("--load-all", "--noprompt"); err != nil {
		return s, fmt.Errorf("swanctl --load-all: %w: %s", err, out)
	}
	return s, nil
}

func (s *StrongSwan) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// Swanctl runs swanctl against this instance.
func (s *StrongSwan) Swanctl(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	args = append([]string{"-t", fmt.Sprint(s.cmd.Process.Pid), "-m", "-n", filepath.Join(s.root, "usr/sbin/swanctl")}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", append(args, "--uri", "unix://"+s.dir+"/vici")...)
	cmd.Env = append(os.Environ(), "SWANCTL_DIR="+s.dir, "STRONGSWAN_CONF="+filepath.Join(s.dir, "strongswan.conf"))
	out, err := cmd.CombinedOutput()
	var lines []string
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "opening directory") && !strings.HasPrefix(line, "plugin '") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, ""), err
}

// Log is what charon has said so far.
func (s *StrongSwan) Log() string {
	var b strings.Builder
	for _, f := range []string{"output", "charon.log"} {
		text, _ := os.ReadFile(filepath.Join(s.dir, f))
		b.Write(text)
	}
	return b.String()
}

// Stop ends charon: it deletes its SAs first.
func (s *StrongSwan) Stop() error {
	if s.ended() {
		return nil
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		s.cmd.Process.Kill()
		<-s.done
	}
	return nil
}

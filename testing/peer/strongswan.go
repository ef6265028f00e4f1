// Package peer runs other IKE daemons beside ours. strongSwan with kernel-libipsec carries ESP in userspace, so it needs no kernel option; with kernel-netlink
// it and libreswan need a kernel with ESP.
package peer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// strongswan is a charon with kernel-libipsec, its plugins and swanctl.
var strongswan = bundle{
	name: "strongswan",
	packages: []string{
		"libstrongswan", "libstrongswan-standard-plugins", "libstrongswan-extra-plugins", "strongswan-libcharon",
		"strongswan-charon", "libcharon-extra-plugins", "strongswan-swanctl",
	},
	files: []string{
		"usr/lib/ipsec/charon", "usr/sbin/swanctl", "usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so",
		"usr/lib/ipsec/plugins/libstrongswan-openssl.so",
	},
}

// Fetched returns the directory with strongSwan unpacked.
var Fetched = sync.OnceValues(strongswan.fetched)

// StrongSwan is a charon on a host.
type StrongSwan struct{ *process }

// strongswanConf turns everything off that reaches outside of this instance.
const strongswanConf = `charon {
  load = random nonce aes sha1 sha2 hmac kdf gmp curve25519 openssl gcm ctr ccm chapoly drbg %[2]skernel-netlink socket-default vici updown
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

// ESP is where strongSwan does ESP.
type ESP string

const (
	ESPLibipsec ESP = "kernel-libipsec " // in userspace
	ESPKernel   ESP = ""                 // in the kernel, which must have it
)

// Start starts charon on a host and loads a swanctl.conf. The caller stops it; the end of the lab does too.
func Start(h *netns.Host, swanctlConf string) (*StrongSwan, error) {
	return StartWith(h, ESPLibipsec, swanctlConf)
}

// StartWith is Start with ESP where the caller wants it.
func StartWith(h *netns.Host, esp ESP, swanctlConf string) (*StrongSwan, error) {
	root, err := Fetched()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(h.Dir(), "strongswan")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(filepath.Join(dir, "vici")); err != nil { // of an earlier one: it must not be taken for this one's
		return nil, err
	}
	for name, text := range map[string]string{"strongswan.conf": fmt.Sprintf(strongswanConf, dir, esp), "swanctl.conf": swanctlConf} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	p, err := launch(h, "strongswan", root, "exec /usr/lib/ipsec/charon", "STRONGSWAN_CONF="+filepath.Join(dir, "strongswan.conf"))
	if err != nil {
		return nil, err
	}
	s := &StrongSwan{p}
	ready := netns.Poll(time.Minute, func() bool {
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

// Swanctl runs swanctl against this instance.
func (s *StrongSwan) Swanctl(args ...string) (string, error) {
	env := []string{"SWANCTL_DIR=" + s.dir, "STRONGSWAN_CONF=" + filepath.Join(s.dir, "strongswan.conf")}
	out, err := s.exec(env, append(append([]string{filepath.Join(s.root, "usr/sbin/swanctl")}, args...), "--uri", "unix://"+s.dir+"/vici")...)
	var lines []string
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "opening directory") && !strings.HasPrefix(line, "plugin '") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, ""), err
}

// Begin initiates a child and waits until it is there.
func (s *StrongSwan) Begin(child string) (string, error) {
	return s.Swanctl("--initiate", "--child", child, "--timeout", "20")
}

// End deletes an IKE SA.
func (s *StrongSwan) End(ike string) (string, error) {
	return s.Swanctl("--terminate", "--ike", ike, "--timeout", "10")
}

// Log is what charon has said so far.
func (s *StrongSwan) Log() string { return s.log("output", "charon.log") }

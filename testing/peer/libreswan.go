package peer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// libreswan is pluto 4.10 with what it runs, and certutil, which makes the database that it insists on.
var libreswan = bundle{
	name:     "libreswan",
	packages: []string{"libreswan", "libnss3-tools"},
	depends:  true,
	files:    []string{"usr/libexec/ipsec/pluto", "usr/libexec/ipsec/whack", "usr/sbin/ipsec", "usr/bin/certutil"},
}

// FetchedLibreswan returns the directory with libreswan unpacked.
var FetchedLibreswan = sync.OnceValues(libreswan.fetched)

// Libreswan is a pluto on a host. It does ESP in the kernel, which must have it: the host must be in a guest of testing/uml.
type Libreswan struct{ *process }

// StartLibreswan starts pluto on a host with these contents of ipsec.conf and ipsec.secrets, and waits until it has loaded the connections with auto=add. The
// caller stops it; the end of the lab does too.
func StartLibreswan(h *netns.Host, conf, secrets string) (*Libreswan, error) {
	root, err := FetchedLibreswan()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(h.Dir(), "libreswan")
	if err := os.MkdirAll(filepath.Join(dir, "nss"), 0o700); err != nil {
		return nil, err
	}
	err = errors.Join(os.WriteFile(filepath.Join(dir, "ipsec.conf"), []byte(conf), 0o600),
		os.WriteFile(filepath.Join(dir, "ipsec.secrets"), []byte(secrets), 0o600), os.RemoveAll(filepath.Join(dir, "pluto.log")))
	if err != nil {
		return nil, err
	}
	script := fmt.Sprintf(`cd %[1]q
[ -e nss/cert9.db ] || "$0/usr/bin/certutil" -N -d sql:nss --empty-password
mkdir -p /run/pluto
exec /usr/libexec/ipsec/pluto --nofork --config %[1]s/ipsec.conf --secretsfile %[1]s/ipsec.secrets --nssdir %[1]s/nss --ipsecdir %[1]s --logfile %[1]s/pluto.log
`, dir)
	p, err := launch(h, "libreswan", root, script)
	if err != nil {
		return nil, err
	}
	l := &Libreswan{p}
	ready := netns.Poll(time.Minute, func() bool {
		return strings.Contains(l.Log(), "listening for IKE messages") && strings.Contains(l.Log(), "loading secrets from") || l.ended()
	})
	if !ready || l.ended() {
		return l, fmt.Errorf("pluto on %s did not start: %s", h.Name, l.Log())
	}
	return l, nil
}

// Whack gives pluto a command, such as --status or --initiate --name NAME, and returns what it said. It returns when the command is done.
func (l *Libreswan) Whack(args ...string) (string, error) {
	return l.exec(nil, append([]string{"/usr/libexec/ipsec/whack"}, args...)...)
}

// Begin initiates a connection and waits until its Child SA is there. With enable-tcp=fallback pluto gives up when UDP has not answered, and goes on over TCP
// by itself.
func (l *Libreswan) Begin(name string) (string, error) { return l.Whack("--initiate", "--name", name) }

// End terminates a connection: pluto sends its deletes.
func (l *Libreswan) End(name string) (string, error) { return l.Whack("--terminate", "--name", name) }

// Log is what pluto has said so far, without the list of its algorithms and their tests.
func (l *Libreswan) Log() string {
	log := l.log("output", "pluto.log")
	if _, after, ok := strings.Cut(log, "using Linux xfrm kernel support code"); ok {
		return after
	}
	return log
}

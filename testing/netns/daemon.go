package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ikegod/ikegod/pkg/ctl"
)

// Bin returns the directory with the programs ikegod and ikectl: TEST_BIN, or else they are built once per process.
func Bin() (string, error) {
	if dir := os.Getenv("TEST_BIN"); dir != "" {
		return filepath.Abs(dir)
	}
	return build()
}

var build = sync.OnceValues(func() (string, error) {
	dir, err := tempDir("bin")
	if err != nil {
		return "", err
	}
	return dir, command("", "go", "build", "-o", dir+"/", "github.com/ikegod/ikegod/cmd/ikegod", "github.com/ikegod/ikegod/cmd/ikectl")
})

// Daemon is an ikegod on a host.
type Daemon struct {
	*ctl.Client
	Host   *Host
	RunDir string
	Config string
	bin    string
	cmd    *exec.Cmd
	log    *lockedBuffer
	done   chan error // closed when the process has ended
	err    error
}

// lockedBuffer collects a log while it is read.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Ikegod starts the daemon on a host with these contents of ipsec.conf and ipsec.secrets, and waits until it answers.
func (h *Host) Ikegod(conf, secrets string, args ...string) (*Daemon, error) {
	confFile, secretsFile := filepath.Join(h.dir, "ipsec.conf"), filepath.Join(h.dir, "ipsec.secrets")
	if err := errors.Join(os.WriteFile(confFile, []byte(conf), 0o600), os.WriteFile(secretsFile, []byte(secrets), 0o600)); err != nil {
		return nil, err
	}
	return h.IkegodFiles(confFile, secretsFile, args...)
}

// IkegodFiles is Ikegod with files that exist.
func (h *Host) IkegodFiles(conf, secrets string, args ...string) (*Daemon, error) {
	bin, err := Bin()
	if err != nil {
		return nil, err
	}
	d := &Daemon{Host: h, RunDir: filepath.Join(h.dir, "run"), Config: conf, bin: bin, log: &lockedBuffer{}, done: make(chan error)}
	d.Client = ctl.NewClient(d.RunDir)
	args = append([]string{"start", "--config", conf, "--secrets", secrets, "--settings", "", "--rundir", d.RunDir, "--metrics-listen", ""}, args...)
	d.cmd = h.Command(context.Background(), filepath.Join(bin, "ikegod"), args...)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.done)
	}()
	h.lab.OnClose(d.end)
	answered := Poll(time.Minute, func() bool {
		// Its own answer: another daemon may run with the same run directory.
		st, err := d.Status(context.Background())
		return err == nil && st.PID == d.PID() || d.Ended()
	})
	if d.Ended() || !answered {
		return d, fmt.Errorf("ikegod on %s did not start: %s", h.Name, d.Log())
	}
	return d, nil
}

// Log is what the daemon has printed so far.
func (d *Daemon) Log() string { return d.log.String() }

// Ended reports whether the process has ended.
func (d *Daemon) Ended() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// Signal sends a signal.
func (d *Daemon) Signal(s syscall.Signal) error { return d.cmd.Process.Signal(s) }

// Stop ends the daemon cleanly and returns what its process returned.
func (d *Daemon) Stop() error {
	if !d.Ended() {
		if err := d.Signal(syscall.SIGTERM); err != nil {
			return err
		}
	}
	select {
	case <-d.done:
		return d.err
	case <-time.After(20 * time.Second):
		d.Signal(syscall.SIGQUIT) // the log gets the goroutines
		select {
		case <-d.done:
		case <-time.After(5 * time.Second):
		}
		return fmt.Errorf("ikegod on %s did not stop within 20 s: %s", d.Host.Name, d.Log())
	}
}

// Wait waits for the end of the process.
func (d *Daemon) Wait(patience time.Duration) error {
	select {
	case <-d.done:
		return d.err
	case <-time.After(patience):
		return fmt.Errorf("ikegod on %s still runs after %s", d.Host.Name, patience)
	}
}

// end ends the daemon without ceremony.
func (d *Daemon) end() error {
	if !d.Ended() {
		d.Signal(syscall.SIGKILL)
		<-d.done
	}
	return nil
}

// Ikectl runs ikectl against the daemon and returns what it printed and its exit status.
func (d *Daemon) Ikectl(args ...string) (output string, status int) {
	return d.IkectlTo(io.Discard, args...)
}

// IkectlTo is Ikectl that also shows what it prints while it prints it.
func (d *Daemon) IkectlTo(w io.Writer, args ...string) (output string, status int) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(d.bin, "ikectl"), append([]string{"--rundir", d.RunDir}, args...)...)
	var out lockedBuffer
	both := io.MultiWriter(&out, w)
	cmd.Stdout, cmd.Stderr = both, both
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		return err.Error(), -1
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// RSS is the resident memory of the daemon in bytes.
func (d *Daemon) RSS() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.PID()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("no VmRSS")
}

// PID is the process number; `ip netns exec` becomes the daemon.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Package netns builds small networks of network namespaces for tests and the demo: hosts, the cables between them, firewalls, counters, and the
// daemons on them. Everything has a name of its own, and goes away with Close. It needs root.
package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// prefix starts the name of every namespace that this package makes; the process number follows, so that what a killed run left can be told from
// what is in use.
const prefix = "ikegod"

// Lab is a set of hosts. Methods are safe for concurrent use.
type Lab struct {
	name string
	dir  string

	mu      sync.Mutex
	hosts   []*Host
	cleanup []func() error
	closed  bool
	inside  sync.WaitGroup // threads of this process in a host's namespace
}

// Host is one network namespace.
type Host struct {
	Name string // as in the topology: "west"
	NS   string // the namespace
	lab  *Lab
	dir  string
}

var labs atomic.Int32

// New makes an empty lab with a directory for its files. Close removes both.
func New() (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces need root")
	}
	sweep()
	dir, err := tempDir("lab")
	if err != nil {
		return nil, err
	}
	return &Lab{name: fmt.Sprintf("%s-%d-%d", prefix, os.Getpid(), labs.Add(1)), dir: dir}, nil
}

// tempDir makes a directory whose name says which process it belongs to.
func tempDir(what string) (string, error) {
	return os.MkdirTemp("", fmt.Sprintf("%s-%s-%d-", prefix, what, os.Getpid()))
}

// sweep removes namespaces and directories of processes that no longer run.
func sweep() {
	spaces, _ := os.ReadDir("/run/netns")
	for _, n := range spaces {
		if orphan(n.Name(), prefix+"-%d-") {
			endAll(n.Name())
			exec.Command("ip", "netns", "del", n.Name()).Run()
		}
	}
	etc, _ := os.ReadDir("/etc/netns")
	for _, n := range etc {
		if orphan(n.Name(), prefix+"-%d-") {
			os.RemoveAll(filepath.Join("/etc/netns", n.Name()))
		}
	}
	dirs, _ := os.ReadDir(os.TempDir())
	for _, n := range dirs {
		if orphan(n.Name(), prefix+"-lab-%d-") || orphan(n.Name(), prefix+"-bin-%d-") {
			os.RemoveAll(filepath.Join(os.TempDir(), n.Name()))
		}
	}
}

// orphan reports whether a name holds the number of a process that no longer runs.
func orphan(name, format string) bool {
	var pid int
	if _, err := fmt.Sscanf(name, format, &pid); err != nil {
		return false
	}
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return errors.Is(err, os.ErrNotExist)
}

// endAll ends the processes that run inside a namespace of ours.
func endAll(ns string) {
	out, err := exec.Command("ip", "netns", "pids", ns).Output()
	if err != nil {
		return
	}
	for pid := range strings.FieldsSeq(string(out)) {
		exec.Command("kill", "-9", pid).Run()
	}
}

// Dir is the lab's directory.
func (l *Lab) Dir() string { return l.dir }

// OnClose runs f when the lab closes, before the hosts go; the last one first.
func (l *Lab) OnClose(f func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cleanup = append(l.cleanup, f)
}

// enter counts one more thread inside a host, unless the lab is closed.
func (l *Lab) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.inside.Add(1)
	}
	return !l.closed
}

// Close ends what runs on the hosts and removes them and all files. It waits for every Do: while the first thread of this process is inside a host,
// the whole process counts as running there, and would be ended with the others.
func (l *Lab) Close() error {
	l.mu.Lock()
	l.closed = true
	cleanup := l.cleanup
	l.cleanup = nil
	l.mu.Unlock()
	var errs []error
	for _, f := range slices.Backward(cleanup) {
		errs = append(errs, f())
	}
	l.inside.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.hosts {
		endAll(h.NS)
		errs = append(errs, command("", "ip", "netns", "del", h.NS))
	}
	l.hosts = nil
	return errors.Join(append(errs, os.RemoveAll(l.dir))...)
}

// Host makes a host: a namespace with lo up, forwarding on and no reverse path filter.
func (l *Lab) Host(name string) (*Host, error) {
	h := &Host{Name: name, NS: l.name + "-" + name, lab: l, dir: filepath.Join(l.dir, name)}
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return nil, err
	}
	if err := command("", "ip", "netns", "add", h.NS); err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.hosts = append(l.hosts, h)
	l.mu.Unlock()
	// No duplicate address detection: addresses are there at once, and the state of a host does not change by itself.
	return h, errors.Join(
		h.Run("ip", "link", "set", "lo", "up"),
		h.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0",
			"net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0",
			"net.ipv4.ping_group_range=0 0"))
}

// Cable joins two hosts with a veth pair; each end gets its interface name and addresses.
func (l *Lab) Cable(a *Host, ifA string, addrsA []string, b *Host, ifB string, addrsB []string) error {
	if err := command("", "ip", "link", "add", ifA, "netns", a.NS, "type", "veth", "peer", "name", ifB, "netns", b.NS); err != nil {
		return err
	}
	return errors.Join(a.configure(ifA, addrsA), b.configure(ifB, addrsB))
}

// Stub gives a host an interface with nobody behind it: its inner network.
func (h *Host) Stub(name string, addrs ...string) error {
	if err := h.Run("ip", "link", "add", name, "type", "veth", "peer", "name", name+"-far"); err != nil {
		return err
	}
	return errors.Join(h.Run("ip", "link", "set", name+"-far", "up"), h.configure(name, addrs))
}

func (h *Host) configure(name string, addrs []string) error {
	errs := []error{h.Run("ip", "link", "set", name, "up")}
	for _, a := range addrs {
		errs = append(errs, h.Run("ip", "addr", "add", a, "dev", name))
	}
	return errors.Join(errs...)
}

// Names gives a host an /etc/hosts of its own, which holds for commands that begin from now on, and for those that run when it changes: `ip netns exec` puts
// /etc/netns/NS/hosts in the place of /etc/hosts. No name server is asked.
func (h *Host) Names(hosts string) error {
	dir := filepath.Join("/etc/netns", h.NS)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		h.lab.OnClose(func() error { return os.RemoveAll(dir) })
	}
	return errors.Join(os.MkdirAll(dir, 0o755),
		os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "hosts"), []byte(hosts), 0o644))
}

// Dir is the host's directory for files.
func (h *Host) Dir() string { return h.dir }

// Command makes a command that runs inside the host. It is killed when ctx ends.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", h.NS, name}, args...)...)
}

// Run runs a command inside the host; an error holds what it printed.
func (h *Host) Run(name string, args ...string) error { return h.RunInput("", name, args...) }

// RunInput is Run with a standard input.
func (h *Host) RunInput(stdin, name string, args ...string) error {
	return command(stdin, "ip", append([]string{"netns", "exec", h.NS, name}, args...)...)
}

// Output runs a command inside the host and returns what it printed on both outputs.
func (h *Host) Output(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := h.Command(ctx, name, args...).CombinedOutput()
	return string(out), err
}

func command(stdin, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// Lab is the lab that the host belongs to.
func (h *Host) Lab() *Lab { return h.lab }

package probe

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// machine is where hints are looked for. Tests have a directory of their own.
type machine struct {
	root    string // "" on a real machine
	release string
}

// failed makes the finding of an attempt that the kernel refused.
func (m machine) failed(f Feature, err error) Finding {
	out := Finding{Feature: f, Outcome: No, Said: said(err), Means: features[f].without}
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		out.Outcome, out.Means = Untried, "we may not ask the kernel"
		out.Hint = "run ikegod as root, or give it the capability CAP_NET_ADMIN (AmbientCapabilities= of its unit, --cap-add of a container)"
		if f == TUN {
			out.Hint += " and the device /dev/net/tun"
		}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return untried(f, fmt.Sprintf("the kernel did not answer within %s", netlinkTimeout))
	case f == TUN && errors.Is(err, unix.ENOENT):
		out.Hint = m.hint(f)
		if out.Hint == "" {
			out.Hint = "make the device: mkdir -p /dev/net; mknod /dev/net/tun c 10 200; in a container pass it in (--device /dev/net/tun)"
		}
	default:
		out.Hint = m.hint(f)
	}
	return out
}

// untried makes the finding of an attempt that was not made.
func untried(f Feature, why string) Finding { return Finding{Feature: f, Means: why} }

// said is an error with the name that people search for.
func said(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		if name := unix.ErrnoName(errno); name != "" {
			return fmt.Sprintf("%s: %v", name, err)
		}
	}
	return err.Error()
}

// hint says what would help: it looks for the option in the kernel's configuration and for the module that holds it.
func (m machine) hint(f Feature) string {
	about := features[f]
	if about.option == "" {
		return ""
	}
	for _, option := range []string{about.option, about.option6} {
		if option == "" {
			continue
		}
		switch value, known := m.option(option); {
		case !known:
			return m.moduleHint(about.module, fmt.Sprintf("this kernel's configuration is not to be found; it needs %s", option))
		case value == "n":
			return fmt.Sprintf("this kernel was built without %s; another kernel is needed", option)
		case value == "m":
			if h := m.moduleHint(about.module, ""); h != "" {
				return h
			}
		}
	}
	return ""
}

// option is the value of an option of the running kernel: y, m or n.
func (m machine) option(name string) (value string, known bool) {
	r, err := m.config()
	if err != nil {
		return "", false
	}
	defer r.Close()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if v, ok := strings.CutPrefix(lines.Text(), name+"="); ok {
			return v, true
		}
	}
	return "n", lines.Err() == nil
}

// config opens the configuration that the running kernel was built with.
func (m machine) config() (io.ReadCloser, error) {
	if f, err := os.Open(m.root + "/proc/config.gz"); err == nil {
		z, err := gzip.NewReader(f)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return struct {
			io.Reader
			io.Closer
		}{z, f}, nil
	}
	f, err := os.Open(m.root + "/boot/config-" + m.release)
	if err != nil {
		return os.Open(m.root + "/lib/modules/" + m.release + "/config")
	}
	return f, nil
}

// moduleHint says why a module is not there; otherwise what is said if there is nothing to say about it.
func (m machine) moduleHint(name, otherwise string) string {
	dir := m.root + "/lib/modules/" + m.release
	switch {
	case name == "" || exists(m.root+"/sys/module/"+name):
		return otherwise
	case m.builtin(dir, name):
		return otherwise
	}
	if file, line := m.blacklist(name); file != "" {
		return fmt.Sprintf("the module %s is kept from loading by %q in %s: remove that line, then modprobe %s", name, line, file, name)
	}
	b, err := os.ReadFile(m.root + "/proc/sys/kernel/modules_disabled")
	switch {
	case err == nil && strings.TrimSpace(string(b)) == "1":
		return fmt.Sprintf("the module %s is not loaded, and kernel.modules_disabled=1 keeps any from loading until the next boot", name)
	case !exists(dir):
		return joined(otherwise, fmt.Sprintf("there are no modules for kernel %s here (%s is missing): after an upgrade of the kernel, reboot; in a container, load %s on its host",
			m.release, strings.TrimPrefix(dir, m.root), name))
	case !m.hasModule(dir, name):
		return joined(otherwise, fmt.Sprintf("the module %s is not among those of %s: install the package that has it (linux-modules-extra or the like)", name,
			strings.TrimPrefix(dir, m.root)))
	}
	return fmt.Sprintf("the module %s is there but not loaded: modprobe %s says why", name, name)
}

func joined(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

func (m machine) builtin(dir, name string) bool { return m.lists(dir+"/modules.builtin", name) }

func (m machine) hasModule(dir, name string) bool { return m.lists(dir+"/modules.dep", name) }

// lists reports whether one of the lists of modules that depmod makes has a module. In the names of files _ and - are the same.
func (m machine) lists(file, name string) bool {
	b, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		path, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		base, _, _ := strings.Cut(filepath.Base(path), ".ko")
		if strings.ReplaceAll(base, "-", "_") == name {
			return true
		}
	}
	return false
}

// blacklist finds the line that keeps a module from being loaded when it is needed.
func (m machine) blacklist(name string) (file, line string) {
	var files []string
	for _, dir := range []string{"/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"} {
		found, _ := filepath.Glob(m.root + dir + "/*.conf") // the pattern is well-formed
		files = append(files, found...)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for l := range strings.Lines(string(b)) {
			words := strings.Fields(l)
			if len(words) < 2 || strings.ReplaceAll(words[1], "-", "_") != name {
				continue
			}
			if words[0] == "blacklist" || words[0] == "install" && slices.ContainsFunc(words[2:], func(w string) bool { return w == "/bin/false" || w == "/bin/true" || w == "false" || w == "true" }) {
				return strings.TrimPrefix(f, m.root), strings.Join(words, " ")
			}
		}
	}
	if b, err := os.ReadFile(m.root + "/proc/cmdline"); err == nil {
		for w := range strings.FieldsSeq(string(b)) {
			if list, ok := strings.CutPrefix(w, "module_blacklist="); ok && slices.Contains(strings.Split(list, ","), name) {
				return "/proc/cmdline", w
			}
		}
	}
	return "", ""
}

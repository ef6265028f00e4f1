package probe

import (
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRun asks the kernel under the test. What it can do depends on the machine; that each "no" says why, that it is quick, and that nothing stays behind, does not.
func TestRun(t *testing.T) {
	before := traces(t)
	r := Run()
	for _, f := range r.Findings {
		t.Log(f)
		if f.Outcome != Yes && f.Means == "" {
			t.Errorf("%s: %s without a reason", f.Feature, f.Outcome)
		}
		if f.Outcome == Yes && (f.Said != "" || f.Means != "" || f.Hint != "") {
			t.Errorf("%s is there and has a reason not to be: %v", f.Feature, f)
		}
		if strings.Contains(f.Means, "cut off") {
			t.Errorf("%s was not tried in time", f.Feature)
		}
	}
	took := r.Took
	for range 3 { // other tests may run beside this one
		if took > time.Second {
			took = min(took, Run().Took)
		}
	}
	if took > time.Second {
		t.Errorf("it took %s", took)
	}
	if os.Getuid() == 0 && r.InPlace != "" {
		t.Errorf("no namespace for root: %s", r.InPlace)
	}
	if after := traces(t); after != before {
		t.Errorf("it left something behind:\n%s\nwas\n%s", after, before)
	}
	if r.Can(TCPEncap) && !r.Can(ESP4) || r.Can(AESGCM) && !r.Can(ESP4) {
		t.Errorf("something that needs ESP is there without it: %s", r.Summary())
	}
}

// TestTCPAttempt: a connection with itself gets as far as the question for the ULP, which this kernel may not have.
func TestTCPAttempt(t *testing.T) {
	if err := (&trial{}).tcpULP(); err != nil && !strings.Contains(err.Error(), "TCP_ULP espintcp") {
		t.Error(err)
	}
}

// TestRunInPlace: where no namespace can be made the attempts are made beside what is there, and leave nothing either.
func TestRunInPlace(t *testing.T) {
	if !apart(t, "setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin") {
		return
	}
	before := traces(t)
	r := Run()
	if r.InPlace == "" {
		t.Fatal("the capability is gone, and a namespace was made all the same")
	}
	for _, f := range r.Findings {
		t.Log(f)
		if f.Outcome != Yes && f.Means == "" {
			t.Errorf("%s: %s without a reason", f.Feature, f.Outcome)
		}
	}
	if !r.Can(XFRM) || !r.Can(TUN) {
		t.Error("CAP_NET_ADMIN is there, and should be enough")
	}
	if r.Findings[Interface].Outcome != Untried {
		t.Errorf("an interface was made where others see it: %v", r.Findings[Interface])
	}
	if after := traces(t); after != before {
		t.Errorf("it left something behind:\n%s\nwas\n%s", after, before)
	}
}

// TestWithoutRights: whoever may not ask gets the capability named, not a "no".
func TestWithoutRights(t *testing.T) {
	for _, f := range []Feature{XFRM, NFT, TUN} {
		got := machine{root: t.TempDir()}.failed(f, fmt.Errorf("attempt: %w", unix.EPERM))
		if got.Outcome != Untried || !strings.Contains(got.Hint, "CAP_NET_ADMIN") || !strings.Contains(got.Said, "EPERM") {
			t.Errorf("%v", got)
		}
	}
}

// TestRunOnFirstThread: the first thread of a process lives as long as it does, and /proc/self shows its namespace, so no attempt may have it.
func TestRunOnFirstThread(t *testing.T) {
	if !apart(t) {
		return
	}
	before := traces(t)
	for range 6 {
		Run() // on whatever thread is free
	}
	if after := traces(t); after != before {
		t.Errorf("/proc/self is in another namespace now:\n%s\nwas\n%s", after, before)
	}
}

// TestRunIsRepeated: the thread of an attempt ends with it, and so does its namespace.
func TestRunIsRepeated(t *testing.T) {
	Run()
	threads := len(entries(t, "/proc/self/task"))
	files := len(entries(t, "/proc/self/fd"))
	for range 5 {
		Run()
	}
	runtime.GC()
	if now := len(entries(t, "/proc/self/task")); now > threads+3 {
		t.Errorf("%d threads, after five more attempts %d", threads, now)
	}
	deadline := time.Now().Add(5 * time.Second)
	for len(entries(t, "/proc/self/fd")) > files {
		if time.Now().After(deadline) {
			t.Fatalf("%d open files, after five more attempts %d", files, len(entries(t, "/proc/self/fd")))
		}
		time.Sleep(time.Millisecond)
	}
}

// apart reports whether this process runs a test in a network namespace of its own, where nobody else makes anything meanwhile. If not, it has run the test in one
// that does, by the command with.
func apart(t *testing.T, with ...string) bool {
	t.Helper()
	if os.Getenv("PROBE_APART") != "" {
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: what attempts leave behind; this needs root, to be where nobody else leaves anything")
	}
	cmd := exec.Command("unshare", slices.Concat([]string{"--net"}, with, []string{os.Args[0], "-test.run=^" + t.Name() + "$", "-test.v"})...)
	cmd.Env = append(os.Environ(), "PROBE_APART=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("%v", err)
	}
	return false
}

// traces is what attempts could leave in this namespace.
func traces(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, file := range []string{"/proc/net/dev", "/proc/net/xfrm_stat"} {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			name, _, _ := strings.Cut(strings.TrimSpace(line), ":")
			fmt.Fprintln(&b, strings.Fields(name)[0])
		}
	}
	for _, args := range [][]string{{"ip", "xfrm", "state", "count"}, {"ip", "xfrm", "policy", "count"}, {"nft", "list", "tables"}} {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		fmt.Fprintf(&b, "%v: %v %s\n", args, err, out)
	}
	return b.String()
}

func entries(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestHints: for each way in which a kernel can lack something, the words that name the cure.
func TestHints(t *testing.T) {
	const release = "6.1.0-test"
	modules := "/lib/modules/" + release
	for _, tc := range []struct {
		name    string
		files   map[string]string
		feature Feature
		err     error
		want    []string
	}{
		{"not built", map[string]string{"/boot/config-" + release: "# CONFIG_INET_ESPINTCP is not set\n"}, TCPEncap, unix.EINVAL, []string{"EINVAL", "built without CONFIG_INET_ESPINTCP", "espintcp"}},
		{"not built, compressed", map[string]string{"/proc/config.gz": "CONFIG_INET_ESP=n\n"}, ESP4, unix.EPROTONOSUPPORT, []string{"EPROTONOSUPPORT", "built without CONFIG_INET_ESP"}},
		{
			"blacklisted",
			map[string]string{
				"/boot/config-" + release: "CONFIG_INET_ESP=m\n", modules + "/modules.dep": "kernel/net/ipv4/esp4.ko.xz:\n",
				"/etc/modprobe.d/hardening.conf": "# no IPsec here\ninstall esp4 /bin/false\n",
			},
			ESP4, unix.EPROTONOSUPPORT,
			[]string{`"install esp4 /bin/false" in /etc/modprobe.d/hardening.conf`, "modprobe esp4"},
		},
		{
			"blacklisted at boot",
			map[string]string{"/boot/config-" + release: "CONFIG_INET6_ESP=m\n", "/proc/cmdline": "quiet module_blacklist=esp4,esp6\n"},
			ESP6, unix.EPROTONOSUPPORT,
			[]string{"module_blacklist=esp4,esp6", "/proc/cmdline"},
		},
		{
			"not installed",
			map[string]string{"/boot/config-" + release: "CONFIG_XFRM_INTERFACE=m\n", modules + "/modules.dep": "kernel/net/ipv4/esp4.ko:\n"},
			Interface, unix.EOPNOTSUPP,
			[]string{"xfrm_interface is not among those of " + modules},
		},
		{"no modules", map[string]string{"/proc/config.gz": "CONFIG_INET_ESP=m\n"}, ESP4, unix.EPROTONOSUPPORT, []string{"no modules for kernel " + release, "reboot"}},
		{
			"no more modules",
			map[string]string{"/proc/config.gz": "CONFIG_TUN=m\n", "/proc/sys/kernel/modules_disabled": "1\n"},
			TUN, unix.ENODEV,
			[]string{"kernel.modules_disabled=1"},
		},
		{
			"could be loaded",
			map[string]string{"/boot/config-" + release: "CONFIG_CRYPTO_CCM=m\nCONFIG_CRYPTO_SEQIV=y\n", modules + "/modules.dep": "kernel/crypto/ccm.ko: kernel/crypto/ctr.ko\n"},
			AESCCM,
			unix.ENOSYS,
			[]string{"ENOSYS", "modprobe ccm"},
		},
		{"second option", map[string]string{"/proc/config.gz": "CONFIG_CRYPTO_GCM=y\n"}, AESGCM, unix.ENOENT, []string{"built without CONFIG_CRYPTO_SEQIV"}},
		{"no device", map[string]string{"/proc/config.gz": "CONFIG_TUN=y\n"}, TUN, fmt.Errorf("/dev/net/tun: %w", unix.ENOENT), []string{"mknod /dev/net/tun c 10 200"}},
		{"nothing known", nil, ESP4, unix.EPROTONOSUPPORT, []string{"CONFIG_INET_ESP", "not to be found"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := machine{root: t.TempDir(), release: release}
			for name, text := range tc.files {
				m.write(t, name, text)
			}
			got := m.failed(tc.feature, tc.err)
			for _, w := range tc.want {
				if !strings.Contains(got.String(), w) {
					t.Errorf("%q lacks %q", got, w)
				}
			}
		})
	}
}

func (m machine) write(t *testing.T, name, text string) {
	t.Helper()
	name = m.root + name
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if filepath.Ext(name) == ".gz" {
		z := gzip.NewWriter(f)
		defer z.Close()
		_, err = z.Write([]byte(text))
	} else {
		_, err = f.WriteString(text)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestStrict(t *testing.T) {
	m := machine{root: t.TempDir()}
	for name, value := range map[string]string{"all": "0", "default": "1", "lo": "1", "eth0": "1", "eth1": "2"} {
		m.write(t, "/sys/net/ipv4/conf/"+name+"/rp_filter", value+"\n")
	}
	if got := strict(m.root); !slices.Equal(got, []string{"eth0"}) {
		t.Errorf("strict: %v", got)
	}
	m.write(t, "/sys/net/ipv4/conf/all/rp_filter", "1\n")
	if got := strict(m.root); !slices.Equal(got, []string{"all interfaces"}) {
		t.Errorf("strict: %v", got)
	}
}

// TestFlowLabels: labels that nobody can switch off are told.
func TestFlowLabels(t *testing.T) {
	m := machine{root: t.TempDir()}
	if got := flowLabels(m.root); got != "" {
		t.Errorf("without IPv6: %q", got)
	}
	for value, told := range map[string]bool{"0": false, "1": false, "2": false, "3": true} {
		m.write(t, "/sys/net/ipv6/auto_flowlabels", value+"\n")
		if got := flowLabels(m.root); (got != "") != told || told && !strings.Contains(got, "net.ipv6.auto_flowlabels=1") {
			t.Errorf("%s: %q", value, got)
		}
	}
}

// TestWords: the report's lines, for a kernel like Debian's.
func TestWords(t *testing.T) {
	r := &Report{Release: "6.1.0-test"}
	for f := range r.Findings {
		r.Findings[f] = Finding{Feature: Feature(f), Outcome: Yes}
	}
	m := machine{root: t.TempDir(), release: r.Release}
	m.write(t, "/boot/config-6.1.0-test", "CONFIG_INET_ESP=y\n")
	for _, f := range []Feature{TCPEncap, TCPEncap6, Direction} {
		r.Findings[f] = m.failed(f, unix.EINVAL)
	}
	if s := r.Summary(); !strings.HasPrefix(s, "kernel 6.1.0-test can: XFRM, ESP, ESP over IPv6, ESP in UDP, ESN") || !strings.HasSuffix(s, "; cannot: ESP in TCP, ESP in TCP over IPv6, SA direction") {
		t.Errorf("summary: %s", s)
	}
	if got := r.Surprises(); len(got) != 0 {
		t.Errorf("that Debian's kernel has no espintcp is no surprise: %q", got)
	}
	r.Findings[ESP4] = m.failed(ESP4, unix.EPROTONOSUPPORT)
	if got := r.Surprises(); len(got) != 1 || !strings.Contains(got[0], "ESP: no, the kernel cannot carry ESP between IPv4 addresses (EPROTONOSUPPORT") {
		t.Errorf("surprises: %q", got)
	}
	if got := r.Lacking(ESP4, ESP6, TCPEncap); len(got) != 2 || got[0].Feature != ESP4 || got[1].Feature != TCPEncap {
		t.Errorf("lacking: %v", got)
	}
}

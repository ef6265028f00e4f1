package uml_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/uml"
)

// golden compares what `ip xfrm state` and `ip xfrm policy` say at both ends with testdata/TEST.WHEN.golden. What it found is in Dir, under golden/, if it differs:
// copy it to testdata when it is right. What ikectl has told may be done in the kernel a moment later. An edit takes out what differs from run to run.
func (p *pairOfOurs) golden(t *testing.T, when string, edits ...func(string) string) {
	t.Helper()
	name := strings.ReplaceAll(strings.TrimPrefix(t.Name(), "Test"), "/", "-") + "." + when + ".golden"
	want, err := os.ReadFile(filepath.Join("testdata", name))
	var found string
	look := func() bool {
		found = p.kernels(t)
		for _, edit := range edits {
			found = edit(found)
		}
		return err != nil || found == string(want)
	}
	if netns.Poll(patience/3, look) && err == nil {
		return
	}
	t.Errorf("%s: %v; -want +found:\n%s", name, err, cmp.Diff(strings.Split(string(want), "\n"), strings.Split(found, "\n")))
	dir := filepath.Join(uml.Dir(), "golden")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(found), 0o600); err != nil {
		t.Fatal(err)
	}
}

// kernels is what the kernels of both ends have.
func (p *pairOfOurs) kernels(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	names := names{}
	for _, g := range p.both() {
		maps.DeleteFunc(names, func(key, _ string) bool { return strings.HasPrefix(key, "reqid") }) // one host's are nothing to the other: the two may be the same
		fmt.Fprintf(&b, "# %s: ip xfrm state list nokeys\n%s# %s: ip xfrm policy\n%s", g.name, names.clean(xfrmBlocks(t, g.host, "state", "list", "nokeys")),
			g.name, names.clean(xfrmBlocks(t, g.host, "policy")))
		if p.iface != "" {
			fmt.Fprintf(&b, "# %s: XFRM interfaces, their addresses and routes\n%s", g.name, names.clean(xfrmLinks(t, g)))
		}
	}
	return b.String()
}

// xfrmLinks is the XFRM interfaces of a gateway, without what the kernel adds to each, its addresses and the routes through it.
func xfrmLinks(t *testing.T, g *kernelGateway) string {
	t.Helper()
	out, err := g.host.Output("sh", "-c", "ip -d link show type xfrm; ip -4 -br addr show type xfrm; ip route show proto 73; ip -6 route show proto 73")
	if err != nil {
		t.Fatalf("ip link: %v: %s", err, out)
	}
	out = strings.ReplaceAll(out, g.RunDir, "RUNDIR")
	return linkIndex.ReplaceAllString(added.ReplaceAllString(out, ""), "N: ")
}

var (
	linkIndex = regexp.MustCompile(`(?m)^[0-9]+: `)
	added     = regexp.MustCompile(`(?m) +(addrgenmode|promiscuity|allmulti) .*$| +$`)
)

// xfrmBlocks is the output of ip xfrm in its blocks, one for each state or policy, in the order of the text.
func xfrmBlocks(t *testing.T, h *netns.Host, args ...string) string {
	t.Helper()
	out, err := h.Output("ip", append([]string{"xfrm"}, args...)...)
	if err != nil {
		t.Fatalf("ip xfrm: %v: %s", err, out)
	}
	var blocks []string
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "\t") || len(blocks) == 0 {
			blocks = append(blocks, "")
		}
		blocks[len(blocks)-1] += strings.TrimRight(line, " \n") + "\n"
	}
	// Each socket of IKE has policies of its own, which say no more than that it goes past all others.
	blocks = slices.DeleteFunc(blocks, func(b string) bool { return strings.Contains(b, "\n\tsocket ") })
	slices.Sort(blocks)
	return strings.Join(blocks, "")
}

// inUse takes out how far the sequence numbers of SAs are that carry packets.
func inUse(text string) string {
	return bitmap.ReplaceAllString(sequence.ReplaceAllString(text, "$1 N"), "\t N\n")
}

var (
	sequence = regexp.MustCompile(`\b(seq-hi|seq|oseq-hi|oseq) 0x[0-9a-f]+`)
	bitmap   = regexp.MustCompile(`(?m)^\t [0-9a-f]{8}( [0-9a-f]{8})*\n`)
)

// names gives what differs from run to run a name by its turn: the same number has the same name everywhere.
type names map[string]string

var changing = regexp.MustCompile(`(spi|reqid|sport|dport) (0x[0-9a-f]+|[0-9]+)(\([0-9]+\)|\(0x[0-9a-f]+\))?`)

func (n names) clean(text string) string {
	return changing.ReplaceAllStringFunc(text, func(s string) string {
		f := strings.SplitN(s, " ", 2)
		kind, value := f[0], f[1]
		value, _, _ = strings.Cut(value, "(")
		if kind == "sport" || kind == "dport" {
			kind = "port"
			if value == "4500" || value == "500" {
				return s
			}
		}
		if value == "0x00000000" || value == "0" {
			return s
		}
		key := kind + value
		if n[key] == "" {
			count := 1
			for k := range n {
				if strings.HasPrefix(k, kind) {
					count++
				}
			}
			n[key] = fmt.Sprintf("%s-%d", strings.ToUpper(kind), count)
		}
		return f[0] + " " + n[key]
	})
}

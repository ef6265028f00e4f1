package probe

import (
	"os"
	"path/filepath"
	"strings"
)

// StrictReversePath names the interfaces of the calling thread's namespace with strict reverse path filtering (rp_filter=1): "all interfaces", or each by itself. The
// kernel takes the larger of the values for all and for one.
func StrictReversePath() []string { return strict("/proc") }

func strict(proc string) []string {
	value := func(name string) string {
		b, err := os.ReadFile(filepath.Join(proc, "sys/net/ipv4/conf", name, "rp_filter"))
		if err != nil {
			return "0"
		}
		return strings.TrimSpace(string(b))
	}
	if value("all") == "1" {
		return []string{"all interfaces"}
	}
	files, _ := filepath.Glob(filepath.Join(proc, "sys/net/ipv4/conf/*/rp_filter")) // the pattern is well-formed
	var names []string
	for _, f := range files {
		name := filepath.Base(filepath.Dir(f))
		if name != "all" && name != "default" && name != "lo" && value(name) == "1" {
			names = append(names, name)
		}
	}
	return names
}

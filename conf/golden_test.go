package conf

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files and the manual page")

// Each testdata/*.conf is checked as `ikectl check` does it, and what an operator sees is compared with the golden file beside it. After a change,
// read the difference that `go test ./conf -update` makes.
func TestGolden(t *testing.T) {
	names, err := filepath.Glob("testdata/*.conf")
	if err != nil || len(names) < 5 {
		t.Fatalf("%q, %v", names, err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			c, _ := Load(name, Options{})
			set, ds := c.Compile()
			var b strings.Builder
			if err := ds.Print(&b); err != nil {
				t.Fatal(err)
			}
			if set == nil {
				b.WriteString("\nnothing is loaded\n")
			} else {
				fmt.Fprintf(&b, "\n%d of %d connections are loaded\n", len(set.Connections), len(c.Names()))
				for _, p := range set.Connections {
					fmt.Fprintf(&b, "%s: %s\n", p.Name, p)
				}
			}
			compareGolden(t, strings.TrimSuffix(name, ".conf")+".golden", b.String())
		})
	}
}

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("line %d of %s differs; `go test ./conf -update` writes it anew.\ngot:\n%s", i+1, name, strings.Join(g[min(i, len(g)):min(i+4, len(g))], "\n"))
		}
	}
}

// The cases of testing/cases that are meant to load do so without a remark.
func TestCasesLoad(t *testing.T) {
	for _, host := range []string{"west", "east"} {
		name := "../testing/cases/tcp-fallback/" + host
		c, _ := Load(name+".conf", Options{})
		set, ds := c.Compile()
		if len(ds) > 0 || len(set.Connections) != 1 || set.Connections[0].Name != "westnet-eastnet" {
			t.Errorf("%s: %v", name, ds)
		}
		text, err := os.ReadFile(name + ".secrets")
		if err != nil {
			t.Fatal(err)
		}
		if secrets, ds := loadSecrets("s", mapFiles{"s": string(text)}); len(ds) > 0 || len(secrets) != 1 || len(secrets[0].IDs) != 2 {
			t.Errorf("%s: %v", name, ds)
		}
	}
}

package arch

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// walk lists the files below a directory entry of root.
func walk(t *testing.T, root fs.FS, name string) []string {
	t.Helper()
	var out []string
	err := fs.WalkDir(root, name, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// expect checks that there is exactly one fault for each wanted text, in order.
func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d faults %q, want %q", len(got), got, want)
	}
	for i := range got {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("fault %q, want %q", got[i], want[i])
		}
	}
}

func made(name string, imports ...string) pkg {
	return pkg{ImportPath: module + name, Imports: imports}
}

func TestLayersAreChecked(t *testing.T) {
	expect(t, checkLayers([]pkg{
		made("cmd/ikegod", module+"kernel/userspace", module+"conf"),
		made("conf", module+"ike/policy", module+"pkg/ts", "os"),
		made("transport/mux", module+"transport/udp", module+"transport"),
		made("pkg/suite", module+"pkg/wire"),
		made("testing/simnet", module+"ike/engine", module+"testing/twosa"),
	}))
	expect(t, checkLayers([]pkg{made("ike/machine", module+"transport/udp")}), "ike/machine imports transport/udp")
	expect(t, checkLayers([]pkg{made("ike/engine", module+"kernel/userspace")}), "never what is below them")
	expect(t, checkLayers([]pkg{made("transport/udp", module+"ike/event")}), "transport/udp imports ike/event")
	expect(t, checkLayers([]pkg{made("pkg/wire", module+"pkg/suite")}), "pkg/wire imports pkg/suite")
	expect(t, checkLayers([]pkg{made("cmd/ikegod", module+"testing/netns")}), "cmd/ikegod imports testing/netns")
	expect(t, checkLayers([]pkg{made("misc")}), "in no layer")
	leaf := made("pkg/ts")
	leaf.TestImports = []string{module + "pkg/wire", module + "testing/netns", "testing"}
	leaf.XTestImports = []string{module + "ike/policy"}
	expect(t, checkLayers([]pkg{leaf}), "a test of pkg/ts imports ike/policy")
	conf := made("conf")
	conf.TestImports = []string{module + "cmd/ikectl", module + "kernel"}
	expect(t, checkLayers([]pkg{conf}), "a test of conf imports cmd/ikectl")
}

func TestLibrariesAreChecked(t *testing.T) {
	ok := made("pkg/suite", "filippo.io/bigmod", "golang.org/x/crypto/chacha20poly1305", "crypto/aes")
	ok.TestImports = []string{"github.com/google/go-cmp/cmp"}
	expect(t, checkLibraries([]pkg{ok, made("testing/netns", "golang.org/x/sys/unix", "github.com/google/go-cmp/cmp")}))
	expect(t, checkLibraries([]pkg{made("ike/engine", "go.uber.org/zap")}), "ike/engine imports go.uber.org/zap")
	expect(t, checkLibraries([]pkg{made("conf", "github.com/google/go-cmp/cmp")}), "conf imports github.com/google/go-cmp/cmp")
	expect(t, checkLibraries([]pkg{made("conf", "example.org/new/thing")}), "without a wrapper")
	test := made("conf")
	test.XTestImports = []string{"go.uber.org/zap"}
	expect(t, checkLibraries([]pkg{test}), "conf imports go.uber.org/zap")
}

func TestBansAreChecked(t *testing.T) {
	expect(t, checkBans([]pkg{made("ike/machine", "net/netip", "time", "fmt"), made("cmd/ikegod", "net", "os"), made("pkg/suite", "crypto/aes")}))
	for _, imp := range []string{"net", "net/http", "os", "os/exec", "sync", "sync/atomic", "context", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand"} {
		expect(t, checkBans([]pkg{made("ike/machine", imp)}), "ike/machine imports "+imp)
	}
	expect(t, checkBans([]pkg{made("pkg/wire", "crypto/sha256")}), "pkg/wire imports crypto/sha256")
}

func TestNamesAreChecked(t *testing.T) {
	var all []pkg
	for _, l := range layers {
		all = append(all, made(strings.Replace(l.pkgs, "*", "x", 1)))
	}
	for _, extra := range []string{"pkg/ctl", "pkg/esp", "pkg/suite", "pkg/ts", "pkg/ident", "transport/ladder", "kernel/userspace"} {
		all = append(all, made(extra))
	}
	expect(t, checkNames(all))
	expect(t, checkNames(all[1:]), "the rules name cmd/ikegod")
	expect(t, checkNames(all[:len(all)-1]), "the rules name kernel/userspace")
}

func TestPurityIsChecked(t *testing.T) {
	faults := func(body string) []string {
		t.Helper()
		got, err := checkPure("x.go", "package x\n"+body)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	expect(t, faults("import \"time\"\nvar d = time.Second\nfunc f(now time.Time) time.Time { return now.Add(d) }"))
	expect(t, faults("func f() { go f() }"), "a go statement")
	for _, name := range clockBan {
		expect(t, faults("import \"time\"\nvar v = time."+name), "time."+name)
		expect(t, faults("import clock \"time\"\nvar v = clock."+name), "time."+name)
	}
	expect(t, faults("import . \"time\"\nvar v = Now"), "import .")
	expect(t, faults("type q struct{}\nfunc (q) Now() int { return 1 }\nvar time q\nvar v = time.Now()"))
	if _, err := checkPure("x.go", "no go"); err == nil {
		t.Error("a file that does not parse is pure")
	}
}

func TestPackageCommentsAreChecked(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	faults := func(name string, files ...string) []string {
		t.Helper()
		got, err := checkDoc(name, files)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	good := write("a.go", "// Package x does.\npackage x\n")
	none := write("b.go", "package x\n")
	command := write("c.go", "// Command x does.\npackage main\n")
	expect(t, faults("x", good, none))
	expect(t, faults("x", command))
	expect(t, faults("x", none), "0 package comments")
	expect(t, faults("x", good, good), "2 package comments")
	expect(t, faults("y", good), "the package comment starts")
	expect(t, faults("y", command), "\"Command y \"")
	if _, err := checkDoc("x", []string{filepath.Join(dir, "missing.go")}); err == nil {
		t.Error("a file that cannot be read has a good comment")
	}
}

func TestTextIsChecked(t *testing.T) {
	words := []string{"proxy.internal.example"}
	expect(t, checkText("f", []byte("all is well\nTODOS are not one, /workload nor\n/rooted\n"), words))
	expect(t, checkText("f", []byte("fine\n// TO"+"DO later"), words), "f:2: TO"+"DO")
	expect(t, checkText("f", []byte("FIX"+"ME"), words), "f:1: FIX"+"ME")
	expect(t, checkText("f", []byte("see /wo"+"rk/x"), words), "a path of some machine")
	expect(t, checkText("f", []byte("see /ho"+"me/joe"), words), "a path of some machine")
	expect(t, checkText("f", []byte("GOPROXY=https://proxy.internal.example/"), words), "a host that it gets packages from")
	expect(t, checkText("f", []byte("\x00 TO"+"DO"), words))
	expect(t, checkLength("f", []byte(strings.Repeat("\n", maxLines))))
	expect(t, checkLength("f", []byte(strings.Repeat("\n", maxLines+1))), "601 lines")
}

func TestDocumentIsChecked(t *testing.T) {
	good := `## Who may import whom

    cmd/ikegod   -> everything            cmd/ikectl   -> pkg/ctl, conf
    ike/policy   -> pkg/*
    kernel/*     -> kernel, pkg/{esp,iana,suite,ts,path}  never ike
    pkg/*        -> other pkg leaves

## Next
    x -> y
`
	expect(t, checkDocument(good))
	expect(t, checkDocument(strings.Replace(good, "pkg/ctl, conf", "pkg/ctl", 1)), "cmd/ikectl -> [pkg/ctl] is drawn")
	expect(t, checkDocument(strings.Replace(good, "ike/policy ", "ike/x      ", 1)), "ike/x has a rule")
	expect(t, checkDocument("nothing"), "no section")
	expect(t, checkDocument("## Who may import whom\n"), "only 0 rules")
}

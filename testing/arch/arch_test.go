package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// golang runs the go command at the module's root.
func golang(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Logf("%s", exit.Stderr)
		}
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// list is every package of the module.
func list(t *testing.T) []pkg {
	t.Helper()
	var pkgs []pkg
	for d := json.NewDecoder(bytes.NewReader(golang(t, "list", "-e", "-json", "./..."))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if p.Error != nil {
			t.Errorf("%s: %s", p.ImportPath, p.Error.Err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) < 10 {
		t.Fatalf("only %d packages found", len(pkgs))
	}
	return pkgs
}

func report(t *testing.T, faults []string) {
	t.Helper()
	for _, f := range faults {
		t.Error(f)
	}
}

func TestImports(t *testing.T) {
	pkgs := list(t)
	t.Run("layers", func(t *testing.T) { report(t, checkLayers(pkgs)) })
	t.Run("libraries", func(t *testing.T) { report(t, checkLibraries(pkgs)) })
	t.Run("standard-library", func(t *testing.T) { report(t, checkBans(pkgs)) })
	t.Run("named-packages-exist", func(t *testing.T) { report(t, checkNames(pkgs)) })
}

func TestPure(t *testing.T) {
	for _, p := range list(t) {
		if !fitsAny(pure, p.name()) {
			continue
		}
		for _, f := range p.goFiles() {
			faults, err := checkPure(f, nil)
			if err != nil {
				t.Error(err)
			}
			report(t, faults)
		}
	}
}

func TestPackageComments(t *testing.T) {
	for _, p := range list(t) {
		files := p.goFiles()
		if len(files) == 0 {
			for _, f := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
				files = append(files, path.Join(p.Dir, f))
			}
		}
		faults, err := checkDoc(path.Base(p.ImportPath), files)
		if err != nil {
			t.Error(err)
		}
		report(t, faults)
	}
}

func TestFiles(t *testing.T) {
	words := machineWords(t)
	for _, name := range tracked(t) {
		text, err := os.ReadFile(filepath.Join("../..", name))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed, not yet committed
		}
		if err != nil {
			t.Error(err)
			continue
		}
		report(t, checkText(name, text, words))
		if strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			report(t, checkLength(name, text))
		}
	}
}

func TestArchitectureDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range checkDocument(string(text)) {
		t.Error("docs/ARCHITECTURE.md: " + f)
	}
}

// tracked is what git knows, or without git what is there.
func tracked(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z")
	cmd.Dir = "../.."
	if out, err := cmd.Output(); err == nil && len(out) > 0 {
		return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	}
	var out []string
	root := os.DirFS("../..")
	entries, err := filepath.Glob("../../*")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if base := filepath.Base(e); base != "bin" && base != "out" {
			out = append(out, walk(t, root, base)...)
		}
	}
	return out
}

// machineWords are strings of this machine that no file may hold: where the tree and the user's home are, and hosts that packages come from,
// other than those everybody uses.
func machineWords(t *testing.T) []string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	words := []string{root + "/"}
	if home, err := os.UserHomeDir(); err == nil && len(home) > 1 {
		words = append(words, home+"/")
	}
	for _, variable := range []string{"GOPROXY", "GOSUMDB", "GONOSUMDB"} {
		value := strings.TrimSpace(string(golang(t, "env", variable)))
		for _, w := range strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(",| ", r) }) {
			u, err := url.Parse(w)
			if err == nil && strings.Contains(u.Hostname(), ".") && !strings.HasSuffix(u.Hostname(), "golang.org") {
				words = append(words, u.Hostname())
			}
		}
	}
	return words
}

// Package ledger checks that what docs/rfc says is tested, is.
package ledger

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

var named = regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz|Benchmark)[A-Za-z0-9_]+)`")

// TestLedger reads every table of docs/rfc: each row has a section, a demand, and tests that exist or a reason why there is none.
func TestLedger(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(root, "docs/rfc/rfc*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages in docs/rfc: %v", err)
	}
	tests := map[string]map[string]bool{}
	for _, page := range pages {
		rows := 0
		for n, line := range lines(t, page) {
			if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| section") {
				continue
			}
			rows++
			where := filepath.Base(page) + ":" + strings.TrimSpace(strings.Split(line, "|")[1])
			cells := strings.Split(strings.Trim(line, "| "), " | ")
			if len(cells) != 3 {
				t.Errorf("%s (line %d): %d columns, expected 3", where, n+1, len(cells))
				continue
			}
			found := named.FindAllStringSubmatch(cells[2], -1)
			if len(found) == 0 && !strings.HasPrefix(cells[2], "not yet: ") {
				t.Errorf("%s (line %d): no test and no \"not yet: reason\"", where, n+1)
			}
			for _, m := range found {
				if tests[m[1]] == nil {
					tests[m[1]] = testsOf(t, filepath.Join(root, m[1]))
				}
				if !tests[m[1]][m[2]] {
					t.Errorf("%s (line %d): there is no %s in %s", where, n+1, m[2], m[1])
				}
			}
		}
		if rows == 0 {
			t.Errorf("%s has no rows", page)
		}
	}
}

func lines(t *testing.T, name string) (all []string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		all = append(all, s.Text())
	}
	return all
}

// testsOf lists the test functions of a directory.
func testsOf(t *testing.T, dir string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				all[fn.Name.Name] = true
			}
		}
	}
	return all
}

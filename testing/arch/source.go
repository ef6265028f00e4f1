package arch

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// checkPure says where a source file reads the clock or starts a goroutine. src may be nil: the file is read.
func checkPure(filename string, src any) ([]string, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, filename, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	clock := "" // the name under which time is imported
	for _, imp := range f.Imports {
		if p, err := strconv.Unquote(imp.Path.Value); err == nil && p == "time" {
			clock = "time"
			if imp.Name != nil {
				clock = imp.Name.Name
			}
		}
	}
	var out []string
	say := func(at token.Pos, what string) {
		out = append(out, fmt.Sprintf("%v: %s: the machine takes the time as an argument and one goroutine owns it", fset.Position(at), what))
	}
	if clock == "." {
		say(f.Pos(), "import . \"time\"")
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			say(n.Pos(), "a go statement")
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if ok && clock != "" && x.Name == clock && slices.Contains(clockBan, n.Sel.Name) {
				say(n.Pos(), "time."+n.Sel.Name)
			}
		}
		return true
	})
	return out, nil
}

// checkDoc says what is wrong with the package comments of one package: exactly one, which starts "Package x " or, for a main, "Command x ".
// files are those that may hold it, name is the directory's last element.
func checkDoc(name string, files []string) ([]string, error) {
	var out, docs []string
	word := "Package"
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			return nil, err
		}
		if f.Name.Name == "main" {
			word = "Command"
		}
		if f.Doc == nil {
			continue
		}
		docs = append(docs, path.Base(file))
		if text := f.Doc.Text(); !strings.HasPrefix(text, word+" "+name+" ") {
			first, _, _ := strings.Cut(text, "\n")
			out = append(out, fmt.Sprintf("%s: the package comment starts %q, not %q", file, first, word+" "+name+" "))
		}
	}
	if len(files) > 0 && len(docs) != 1 {
		out = append(out, fmt.Sprintf("%s: %d package comments %v, there must be exactly one", name, len(docs), docs))
	}
	return out, nil
}

// unfinished are the words for work left undone; the pieces are joined here so that this file does not hold them.
var unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)

// homes are the places where people and machines keep their trees.
var homes = regexp.MustCompile(`(^|[\s"'=(:` + "`" + `])/(ho` + `me/[a-z]|Us` + `ers/[A-Za-z]|ro` + `ot/|wo` + `rk/)`)

// checkText says what a tracked file must not hold: unfinished work, and words of the machine it was written on (secret ones are not
// printed).
func checkText(name string, text []byte, words []string) []string {
	if bytes.IndexByte(text, 0) >= 0 {
		return nil // not a text
	}
	var out []string
	for i, line := range strings.Split(string(text), "\n") {
		if m := unfinished.FindString(line); m != "" {
			out = append(out, fmt.Sprintf("%s:%d: %s: finish it or open an issue", name, i+1, m))
		}
		if homes.MatchString(line) {
			out = append(out, fmt.Sprintf("%s:%d: a path of some machine", name, i+1))
		}
		for _, w := range words {
			if strings.Contains(line, w) {
				out = append(out, fmt.Sprintf("%s:%d: a path of this machine, or a host that it gets packages from", name, i+1))
			}
		}
	}
	return out
}

// checkLength says whether a source file is too long.
func checkLength(name string, text []byte) []string {
	if lines := bytes.Count(text, []byte("\n")); lines > maxLines {
		return []string{fmt.Sprintf("%s: %d lines, split it at %d", name, lines, maxLines)}
	}
	return nil
}

package arch

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// pkg is what go list says of one package.
type pkg struct {
	ImportPath     string
	Dir            string
	GoFiles        []string
	CgoFiles       []string
	IgnoredGoFiles []string
	TestGoFiles    []string
	XTestGoFiles   []string
	Imports        []string
	TestImports    []string
	XTestImports   []string
	Error          *struct{ Err string }
}

// name is the path in the module.
func (p pkg) name() string { return strings.TrimPrefix(p.ImportPath, module) }

// fits reports whether a package of ours is named by a pattern.
func fits(pattern, name string) bool {
	switch below, isTree := strings.CutSuffix(pattern, "/*"); {
	case pattern == "*":
		return !fits("testing/*", name)
	case isTree:
		return strings.HasPrefix(name, below+"/")
	}
	return pattern == name
}

func fitsAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return fits(p, name) })
}

// layerOf is the first layer that fits.
func layerOf(name string) (layer, bool) {
	i := slices.IndexFunc(layers, func(l layer) bool { return fits(l.pkgs, name) })
	if i < 0 {
		return layer{}, false
	}
	return layers[i], true
}

// checkLayers says which imports of our own packages break the layers. Test files may import more, but never a command, and the tests of
// leaves no more than leaves and test benches.
func checkLayers(pkgs []pkg) []string {
	var out []string
	for _, p := range pkgs {
		l, ok := layerOf(p.name())
		if !ok {
			out = append(out, fmt.Sprintf("%s is in no layer: add it to testing/arch/rules.go, with a reason", p.name()))
			continue
		}
		for _, imp := range ours(p.Imports) {
			sibling := strings.HasSuffix(l.pkgs, "/*") && fits(l.pkgs, imp)
			if !sibling && !fitsAny(l.may, imp) {
				out = append(out, fmt.Sprintf("%s imports %s; allowed are %v: %s", p.name(), imp, l.may, l.reason))
			}
		}
		for _, imp := range ours(slices.Concat(p.TestImports, p.XTestImports)) {
			leaf := fits("pkg/*", p.name())
			if fits("cmd/*", imp) && !fits("cmd/*", p.name()) || leaf && !fits("pkg/*", imp) && !fits("testing/*", imp) {
				out = append(out, fmt.Sprintf("a test of %s imports %s: %s", p.name(), imp, l.reason))
			}
		}
	}
	return out
}

// ours keeps the imports of this module, as names.
func ours(imports []string) []string {
	var out []string
	for _, imp := range imports {
		if name, ok := strings.CutPrefix(imp, module); ok {
			out = append(out, name)
		}
	}
	return out
}

// checkLibraries says which third-party imports are outside their wrapper. Test benches may look at everything.
func checkLibraries(pkgs []pkg) []string {
	var out []string
	for _, p := range pkgs {
		bench := fits("testing/*", p.name())
		for _, imp := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if first, _, _ := strings.Cut(imp, "/"); !strings.Contains(first, ".") || strings.HasPrefix(imp, module) {
				continue
			}
			lib, ok := libraryOf(imp)
			forTests := slices.Contains(lib.only, testOnly) && !slices.Contains(p.Imports, imp)
			switch {
			case !ok:
				out = append(out, fmt.Sprintf("%s imports %s, a library without a wrapper: add it to testing/arch/rules.go, with a reason", p.name(), imp))
			case !bench && !forTests && !fitsAny(lib.only, p.name()):
				out = append(out, fmt.Sprintf("%s imports %s; allowed are %v: %s", p.name(), imp, lib.only, lib.reason))
			}
		}
	}
	return out
}

func libraryOf(imp string) (library, bool) {
	var best library
	for _, l := range libraries {
		if (imp == l.path || strings.HasPrefix(imp, l.path+"/")) && len(l.path) > len(best.path) {
			best = l
		}
	}
	return best, best.path != ""
}

// checkBans says which packages import what the standard library has and they must not use.
func checkBans(pkgs []pkg) []string {
	var out []string
	for _, p := range pkgs {
		for _, imp := range p.Imports {
			for _, b := range bans {
				below := slices.ContainsFunc(b.paths, func(banned string) bool { return imp == banned || strings.HasPrefix(imp, banned+"/") })
				if fits(b.pkgs, p.name()) && below {
					out = append(out, fmt.Sprintf("%s imports %s: %s", p.name(), imp, b.reason))
				}
			}
			for _, b := range netBans {
				if fits(b.pkgs, p.name()) && (imp == "net" || strings.HasPrefix(imp, "net/")) && imp != "net/netip" {
					out = append(out, fmt.Sprintf("%s imports %s: %s", p.name(), imp, b.reason))
				}
			}
		}
	}
	return out
}

// checkNames says which packages the rules name that do not exist: a rule about nothing holds for ever.
func checkNames(pkgs []pkg) []string {
	named := slices.Clone(pure)
	for _, l := range layers {
		named = append(append(named, l.pkgs), l.may...)
	}
	for _, l := range libraries {
		named = append(named, l.only...)
	}
	for _, b := range slices.Concat(bans, netBans) {
		named = append(named, b.pkgs)
	}
	slices.Sort(named)
	var out []string
	for _, pattern := range slices.Compact(named) {
		exists := slices.ContainsFunc(pkgs, func(p pkg) bool { return fits(pattern, p.name()) })
		if !exists && pattern != testOnly {
			out = append(out, fmt.Sprintf("the rules name %s, which does not exist any more", pattern))
		}
	}
	return out
}

// goFiles are the package's files that are not tests, whatever they are built for.
func (p pkg) goFiles() []string {
	var out []string
	for _, f := range slices.Concat(p.GoFiles, p.CgoFiles, p.IgnoredGoFiles) {
		if !strings.HasSuffix(f, "_test.go") {
			out = append(out, path.Join(p.Dir, f))
		}
	}
	return out
}

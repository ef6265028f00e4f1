package arch

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// arrow is one rule in docs/ARCHITECTURE.md: "ike/policy -> pkg/*". Two blanks end it.
var arrow = regexp.MustCompile(`(\S+) +-> (\S+(?: \S+)*)`)

// checkDocument compares the rules that docs/ARCHITECTURE.md draws with layers; the section must be there, and every rule in it true.
func checkDocument(text string) []string {
	_, section, ok := strings.Cut(text, "## Who may import whom\n")
	if !ok {
		return []string{"no section \"Who may import whom\""}
	}
	section, _, _ = strings.Cut(section, "\n## ")
	rules := arrow.FindAllStringSubmatch(section, -1)
	if len(rules) < 5 {
		return []string{fmt.Sprintf("only %d rules found", len(rules))}
	}
	var out []string
	for _, r := range rules {
		i := slices.IndexFunc(layers, func(l layer) bool { return l.pkgs == r[1] })
		if i < 0 {
			out = append(out, fmt.Sprintf("%s has a rule, which testing/arch does not enforce", r[1]))
			continue
		}
		drawn, enforced := drawnPatterns(r[2]), slices.Clone(layers[i].may)
		slices.Sort(drawn)
		slices.Sort(enforced)
		if !slices.Equal(drawn, enforced) {
			out = append(out, fmt.Sprintf("%s -> %v is drawn, %v is enforced", r[1], drawn, enforced))
		}
	}
	return out
}

// drawnPatterns reads "kernel, pkg/{esp,ts}", "everything" and "other pkg leaves" (siblings, which need no rule).
func drawnPatterns(s string) []string {
	switch s {
	case "everything":
		return []string{"*"}
	case "other pkg leaves":
		return nil
	}
	var out []string
	for s != "" {
		var word string
		if open := strings.IndexByte(s, '{'); open >= 0 && open < strings.IndexByte(s+",", ',') {
			end := strings.IndexByte(s, '}')
			for w := range strings.SplitSeq(s[open+1:end], ",") {
				out = append(out, strings.TrimSpace(s[:open])+strings.TrimSpace(w))
			}
			_, s, _ = strings.Cut(s[end:], ",")
			continue
		}
		word, s, _ = strings.Cut(s, ",")
		out = append(out, strings.TrimSpace(word))
	}
	return out
}

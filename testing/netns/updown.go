package netns

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Updown writes a script for leftupdown=, and makes a directory for what it writes on each of two hosts.
func Updown(t testing.TB, text string) (script, west, east string) {
	t.Helper()
	dir := t.TempDir()
	script, west, east = filepath.Join(dir, "updown"), filepath.Join(dir, "west"), filepath.Join(dir, "east")
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{west, east} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return script, west, east
}

// UpdownRuns reads what a script has written that puts its environment into a file of dir, "ORDER VERB", at each run: the verbs in order, and the environment of each.
func UpdownRuns(t testing.TB, dir string) (verbs []string, env map[string]map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	env = map[string]map[string]string{}
	for _, e := range entries {
		_, verb, _ := strings.Cut(e.Name(), " ")
		verbs = append(verbs, verb)
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		env[verb] = map[string]string{}
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			env[verb][name] = value
		}
	}
	return verbs, env
}

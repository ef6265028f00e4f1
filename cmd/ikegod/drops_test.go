package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/kernel/userspace"
	"github.com/ikegod/ikegod/transport"
)

const dropsDocument = "../../docs/drops.md"

// TestDropsDocument: every reason has a sentence that says what it means and one that says what to do, and docs/drops.md has them all.
func TestDropsDocument(t *testing.T) {
	text, err := os.ReadFile(dropsDocument)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, part := range dropParts {
		fmt.Fprintf(&b, "\n## %s: `ikegod_%s`\n\n%s\n\n| reason | meaning | what to do |\n| --- | --- | --- |\n", strings.ToUpper(part.name[:1])+part.name[1:], part.metric.name, part.metric.help)
		seen := map[string]bool{}
		for _, r := range part.reasons {
			for _, sentence := range []string{r.meaning, r.todo} {
				if len(sentence) < 20 || !strings.HasSuffix(sentence, ".") || sentence[:1] != strings.ToUpper(sentence[:1]) {
					t.Errorf("%s drop %q lacks its sentences: %q", part.name, r.name, sentence)
				}
			}
			if seen[r.name] || r.name == "" || strings.HasPrefix(r.name, "drop(") {
				t.Errorf("%s drop %q: the name is not one of its own", part.name, r.name)
			}
			seen[r.name] = true
			fmt.Fprintf(&b, "| %s | %s | %s |\n", r.name, r.meaning, r.todo)
		}
	}
	place := regexp.MustCompile(`(?s)(<!-- generated: drops -->\n).*(<!-- end -->\n)`)
	want := place.ReplaceAllString(string(text), "${1}"+strings.ReplaceAll(b.String(), "$", "$$")+"\n${2}")
	switch {
	case want == string(text):
	case !*update:
		t.Fatalf("%s is not what the code says; `go test ./cmd/ikegod -run TestDropsDocument -update` writes it anew", dropsDocument)
	default:
		if err := os.WriteFile(dropsDocument, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDrops: status shows what has occurred, under the reason that was counted, with its sentences.
func TestDrops(t *testing.T) {
	var s sample
	if got := s.drops(); got != nil {
		t.Errorf("nothing was dropped, and status says %v", got)
	}
	s.engine.Drops[event.DropRate] = 3
	s.engine.Drops[event.DropDuplicate] = 1
	s.transport.Drops[transport.DropKeepAlive] = 5
	s.datapath = map[userspace.Drop]uint64{userspace.DropReplay: 7}
	var got []string
	for _, d := range s.drops() {
		got = append(got, fmt.Sprint(d.Part, " ", d.Reason, " ", d.Count, " ", d.Harmless))
		if d.Meaning == "" || d.Todo == "" {
			t.Errorf("%+v", d)
		}
	}
	if want := "IKE rate 3 false, IKE duplicate 1 true, transport NAT keepalive 5 true, datapath replay 7 false"; strings.Join(got, ", ") != want {
		t.Errorf("%s\nwant %s", strings.Join(got, ", "), want)
	}
}

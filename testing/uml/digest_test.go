package uml

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReasons finds in the output of a test binary what the failed tests have said, and no more of it than a person reads.
func TestReasons(t *testing.T) {
	var log strings.Builder
	for i := range 30 {
		fmt.Fprintf(&log, "        line %d of a log\n", i)
	}
	output := "=== RUN   TestA\n=== RUN   TestA/good\n    a_test.go:1: nobody asks\n=== RUN   TestA/bad\n    a_test.go:2: a reason\n        in two lines\n" +
		"    a_test.go:3: log of west:\n" + log.String() + "=== NAME  TestA\n    a_test.go:4: " + strings.Repeat("x", 400) + "\n" +
		"--- FAIL: TestA (1.0s)\n    --- PASS: TestA/good (0.1s)\n    --- FAIL: TestA/bad (0.2s)\nFAIL\n"
	bad := "    a_test.go:2: a reason\n        in two lines\n    a_test.go:3: log of west:\n        line 0 of a log\n        line 1 of a log\n        line 2 of a log\n" +
		"\t... 19 lines ...\n"
	for i := 22; i < 30; i++ {
		bad += fmt.Sprintf("        line %d of a log\n", i)
	}
	want := map[string]string{
		"TestA":     "    a_test.go:4: " + strings.Repeat("x", maxWidth-len("    a_test.go:4: ")) + "...",
		"TestA/bad": strings.TrimSuffix(bad, "\n"),
	}
	if d := cmp.Diff(want, reasons(output)); d != "" {
		t.Error(d)
	}
	if got := reasons("=== RUN   TestB\n    b_test.go:1: waits\npanic: test timed out after 30s\n\ngoroutine 1:\n"); !strings.Contains(got["TestB"], "waits\npanic: test timed out") {
		t.Errorf("of a test that hangs: %q", got)
	}
	var many strings.Builder
	for range 100 {
		many.WriteString("    a_test.go:2: a reason\n")
	}
	if got := reasons("=== RUN   TestC\n" + many.String() + "--- FAIL: TestC (1.0s)\n")["TestC"]; strings.Count(got, "\n") != maxLines || !strings.HasSuffix(got, "... 60 lines ...") {
		t.Errorf("of a test with many reasons:\n%s", got)
	}
}

package uml

import (
	"fmt"
	"regexp"
	"strings"
)

// How much of a failure is shown: whoever reads it may see little more than the end of a long report.
const (
	maxLines = 40  // for a test
	headOf   = 4   // lines of one thing that a test says
	tailOf   = 8   // and its last lines: what it says may be a log
	maxWidth = 300 // octets of a line
)

var (
	turn   = regexp.MustCompile(`^=== (RUN|NAME|CONT) +(\S+)$`)
	ended  = regexp.MustCompile(`^ *--- ([A-Z]+): (\S+) \(`)
	saying = regexp.MustCompile(`^ *\w+\.go:\d+: `)
	dying  = regexp.MustCompile(`^(panic|fatal error|SIG[A-Z]+|runtime): `)
)

// reasons is what the tests that failed have said, by their names, cut short: output is that of a test binary with -test.v. Only what a test has said itself is
// there, not what those below it did.
func reasons(output string) map[string]string {
	said, results := map[string][][]string{}, map[string]string{}
	current, open := "", false
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, "\n")
		if m := turn.FindStringSubmatch(line); m != nil {
			current, open = m[2], false
			continue
		}
		if m := ended.FindStringSubmatch(line); m != nil {
			results[m[2]], open = m[1], false
			continue
		}
		switch {
		case dying.MatchString(line):
			results[current] = "FAIL"
			said[current], open = append(said[current], nil), true
		case saying.MatchString(line):
			said[current], open = append(said[current], nil), true
		case !open:
			continue
		}
		last := len(said[current]) - 1
		said[current][last] = append(said[current][last], line)
	}
	out := map[string]string{}
	for name, result := range results {
		if result == "FAIL" {
			out[name] = shortened(said[name])
		}
	}
	return out
}

// shortened keeps the beginning and the end of each block, and of all blocks the first.
func shortened(blocks [][]string) string {
	var lines []string
	for _, b := range blocks {
		if left := len(b) - headOf - tailOf; left > 1 {
			lines = append(append(append(lines, b[:headOf]...), fmt.Sprintf("\t... %d lines ...", left)), b[len(b)-tailOf:]...)
		} else {
			lines = append(lines, b...)
		}
	}
	if left := len(lines) - maxLines; left > 0 {
		lines = append(lines[:maxLines:maxLines], fmt.Sprintf("\t... %d lines ...", left))
	}
	for i, l := range lines {
		if len(l) > maxWidth {
			lines[i] = l[:maxWidth] + "..."
		}
	}
	return strings.Join(lines, "\n")
}

// tail is the end of something long.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

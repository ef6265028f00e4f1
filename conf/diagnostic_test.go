package conf

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestLong(t *testing.T) {
	tests := []struct {
		name string
		d    Diagnostic
		want string
	}{
		{
			"tab",
			Diagnostic{Severity: Error, File: "f", Line: 3, Col: 2, Width: 4, Conn: "a", Text: "no", Suggestion: "yes", Source: "\tword=x"},
			"f:3:2: error: conn a: no\n    \tword=x\n    \t^~~~\n  yes\n",
		},
		{"no column", Diagnostic{Severity: Warning, File: "f", Line: 3, Text: "no", Source: "x"}, "f:3: warning: no\n"},
		{"no line", Diagnostic{Severity: Note, File: "f", Text: "no"}, "f: note: no\n"},
		{
			"letters of several octets",
			Diagnostic{Severity: Error, File: "f", Line: 1, Col: 5, Width: 2, Text: "no", Source: "äö xy"},
			"f:1:5: error: no\n    äö xy\n      ^~\n",
		},
		{
			"terminal commands",
			Diagnostic{Severity: Error, File: "f", Line: 1, Col: 1, Width: 1, Text: "no", Source: "\x1b[31mred\x07\xff"},
			"f:1:1: error: no\n    ?[31mred??\n    ^\n",
		},
		{"width beyond the line", Diagnostic{Severity: Error, File: "f", Line: 1, Col: 3, Width: 99, Text: "no", Source: "abc"}, "f:1:3: error: no\n    abc\n      ^\n"},
		{"column beyond the line", Diagnostic{Severity: Error, File: "f", Line: 1, Col: 9, Width: 1, Text: "no", Source: "abc"}, "f:1:9: error: no\n    abc\n       ^\n"},
	}
	for _, tt := range tests {
		if got := tt.d.Long(); got != tt.want {
			t.Errorf("%s:\n%q\nexpected\n%q", tt.name, got, tt.want)
		}
	}
}

// A very long line is shown around the place only, and the caret stands below the place.
func TestLongLine(t *testing.T) {
	source := strings.Repeat("a", 5000) + "HERE" + strings.Repeat("b", 5000)
	d := Diagnostic{File: "f", Line: 1, Col: 5001, Width: 4, Text: "no", Source: source}
	lines := strings.Split(d.Long(), "\n")
	at := strings.Index(lines[1], "HERE")
	if len(lines[1]) > 300 || at < 0 || lines[2][at:] != "^~~~" || strings.Trim(lines[2][:at], " ") != "" {
		t.Errorf("%q\n%q", lines[1], lines[2])
	}
}

func TestJSON(t *testing.T) {
	in := Diagnostics{{Severity: Error, Fatal: true, File: "f", Line: 3, Col: 2, Width: 4, Conn: "a", Text: "no", Suggestion: "yes", Source: "\tword=x"}, {Severity: Note, File: "g", Text: "t"}}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"severity":"error","fatal":true,"file":"f","line":3,"col":2,"width":4,"conn":"a","text":"no","suggestion":"yes","source":"\tword=x"},{"severity":"note","file":"g","text":"t"}]`
	if string(text) != want {
		t.Errorf("%s", text)
	}
	var out Diagnostics
	if err := json.Unmarshal(text, &out); err != nil || len(out) != 2 || out[0] != in[0] || out[1] != in[1] {
		t.Errorf("%v %v", out, err)
	}
	if err := json.Unmarshal([]byte(`[{"severity":"grave"}]`), &out); err == nil {
		t.Error("an unknown severity is accepted")
	}
}

// A file of nothing but errors yields a bounded report that says so, in bounded time.
func TestReportIsBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("conn a\n")
	for i := range 20000 {
		fmt.Fprintf(&b, "\tlefsubne%d=1\n", i)
	}
	_, ds := compileText(b.String())
	if len(ds) != maxDiagnostics+1 || !strings.Contains(ds[maxDiagnostics].Text, "18000 more messages") || ds.Fatal() {
		t.Errorf("%d diagnostics, the last is %v", len(ds), ds[len(ds)-1])
	}
	if _, ds := compileText(b.String() + "foo\n"); !ds.Fatal() {
		t.Error("a fatal error got lost among many")
	}
}

func TestErr(t *testing.T) {
	if err := (Diagnostics{{Severity: Warning, Text: "w"}}).Err(); err != nil {
		t.Errorf("a warning is an error: %v", err)
	}
	err := Diagnostics{{Severity: Warning, Text: "w"}, {Severity: Error, File: "f", Text: "one"}, {Severity: Error, File: "f", Text: "two"}}.Err()
	if err == nil || err.Error() != "f: error: one\nf: error: two" {
		t.Errorf("%v", err)
	}
}

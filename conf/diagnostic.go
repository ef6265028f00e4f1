package conf

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ikegod/ikegod/pkg/suggest"
)

// Severity says how bad a Diagnostic is.
type Severity uint8

// Severities. A Note needs no action: a keyword has no meaning here. With a Warning the configuration loads, perhaps not quite as written. An Error
// leaves something out: a connection or, if Fatal, everything.
const (
	Note Severity = iota
	Warning
	Error
)

// String returns "note", "warning" or "error".
func (s Severity) String() string {
	switch s {
	case Note:
		return "note"
	case Warning:
		return "warning"
	case Error:
		return "error"
	}
	return fmt.Sprintf("severity(%d)", uint8(s))
}

// MarshalText makes the severity a word in JSON.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *Severity) UnmarshalText(b []byte) error {
	for _, v := range []Severity{Note, Warning, Error} {
		if v.String() == string(b) {
			*s = v
			return nil
		}
	}
	return fmt.Errorf("%q is not a severity", b)
}

// Diagnostic is one remark about a configuration, with its place.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	// Fatal says that the configuration as a whole must not be used. Without it an Error concerns the connection Conn alone.
	Fatal      bool   `json:"fatal,omitempty"`
	File       string `json:"file"`
	Line       int    `json:"line,omitempty"` // from 1; zero: the file as a whole
	Col        int    `json:"col,omitempty"`  // in octets, from 1
	Width      int    `json:"width,omitempty"`
	Conn       string `json:"conn,omitempty"`
	Text       string `json:"text"`
	Suggestion string `json:"suggestion,omitempty"`
	Source     string `json:"source,omitempty"` // the line itself; never given for ipsec.secrets

	order int // of its file in the order of loading
}

// Position is "file:line:col" as far as they are known, fit for a terminal.
func (d Diagnostic) Position() string {
	file := printable(d.File)
	switch {
	case d.Line == 0:
		return file
	case d.Col == 0:
		return fmt.Sprintf("%s:%d", file, d.Line)
	}
	return fmt.Sprintf("%s:%d:%d", file, d.Line, d.Col)
}

// String is the diagnostic on one line, with the suggestion.
func (d Diagnostic) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s: ", d.Position(), d.Severity)
	if d.Conn != "" {
		fmt.Fprintf(&b, "conn %s: ", printable(d.Conn))
	}
	b.WriteString(d.Text)
	if d.Suggestion != "" {
		b.WriteString("; " + d.Suggestion)
	}
	return b.String()
}

// Error makes a Diagnostic an error.
func (d Diagnostic) Error() string { return d.String() }

// Long is the diagnostic on several lines: the text, the source line with a caret below the place, the suggestion. It ends with a newline.
func (d Diagnostic) Long() string {
	short := d
	short.Suggestion = ""
	var b strings.Builder
	b.WriteString(short.String() + "\n")
	if d.Source != "" && d.Col > 0 {
		line, pad, under := caret(d.Source, d.Col-1, d.Width)
		fmt.Fprintf(&b, "    %s\n    %s%s\n", line, pad, under)
	}
	if d.Suggestion != "" {
		b.WriteString("  " + d.Suggestion + "\n")
	}
	return b.String()
}

// caretContext is how much of a long line is shown on either side of the caret.
const caretContext = 60

// caret cuts the source line around octets at to at+width, and makes the padding and the underline that fit below it in a terminal.
func caret(source string, at, width int) (line, pad, under string) {
	at = min(at, len(source))
	end := min(at+max(width, 1), len(source))
	from, to := max(0, at-caretContext), min(len(source), max(end, at+caretContext))
	to = min(to, at+2*caretContext)
	end = min(end, to)
	for from > 0 && from < len(source) && !utf8.RuneStart(source[from]) {
		from--
	}
	for to < len(source) && !utf8.RuneStart(source[to]) {
		to++
	}
	blank := func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}
	pad = strings.Map(blank, printable(source[from:at]))
	under = "^" + strings.Repeat("~", max(0, utf8.RuneCountInString(printable(source[at:end]))-1))
	return printable(source[from:to]), pad, under
}

// printable replaces what a terminal could take for a command by question marks. A tab stays.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r != utf8.RuneError && unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// quoted is a piece of a configuration inside a message: quoted, escaped, and not too long.
func quoted(s string) string {
	const most = 80
	if len(s) > most {
		s = s[:most] + "..."
	}
	return fmt.Sprintf("%q", s)
}

// Diagnostics are all remarks of a load, in the order of files and lines.
type Diagnostics []Diagnostic

// Count returns how many have the severity.
func (ds Diagnostics) Count(s Severity) int {
	n := 0
	for _, d := range ds {
		if d.Severity == s {
			n++
		}
	}
	return n
}

// HasErrors reports whether there is any Error.
func (ds Diagnostics) HasErrors() bool { return ds.Count(Error) > 0 }

// Fatal reports whether the configuration as a whole must not be used.
func (ds Diagnostics) Fatal() bool {
	return slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Fatal })
}

// AtLeast returns those with the severity or a worse one.
func (ds Diagnostics) AtLeast(s Severity) Diagnostics {
	var out Diagnostics
	for _, d := range ds {
		if d.Severity >= s {
			out = append(out, d)
		}
	}
	return out
}

// Err is nil without errors, else one error that holds all errors, a line each.
func (ds Diagnostics) Err() error {
	if bad := ds.AtLeast(Error); len(bad) > 0 {
		return bad
	}
	return nil
}

// Error joins the one-line forms.
func (ds Diagnostics) Error() string {
	lines := make([]string, len(ds))
	for i, d := range ds {
		lines[i] = d.String()
	}
	return strings.Join(lines, "\n")
}

// Print writes the long forms.
func (ds Diagnostics) Print(w io.Writer) error {
	for _, d := range ds {
		if _, err := io.WriteString(w, d.Long()); err != nil {
			return err
		}
	}
	return nil
}

// maxDiagnostics bounds what one load reports: a file that is something else altogether has an error on each of its lines.
const maxDiagnostics = 2000

// report collects diagnostics.
type report struct {
	list    Diagnostics
	dropped int
	fatal   bool // also true when a fatal one was dropped
	noted   map[*keyword]bool

	suggestions int
}

func (r *report) add(d Diagnostic) {
	d.Text, d.Suggestion = printable(d.Text), printable(d.Suggestion)
	r.fatal = r.fatal || d.Fatal
	if len(r.list) >= maxDiagnostics {
		r.dropped++
		return
	}
	r.list = append(r.list, d)
}

// maxSuggestions bounds the searches for what was probably meant: each compares a word with all that it could be.
const maxSuggestions = 100

// suggest is suggest.DidYouMean while there are not too many.
func (r *report) suggest(word string, candidates func() []string) string {
	if r.suggestions++; r.suggestions > maxSuggestions {
		return ""
	}
	return suggest.DidYouMean(word, candidates())
}

// sorted returns the diagnostics by file and line, and a last one if some were dropped.
func (r *report) sorted() Diagnostics {
	out := slices.Clone(r.list)
	slices.SortStableFunc(out, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col), cmp.Compare(b.Severity, a.Severity), strings.Compare(a.Text, b.Text))
	})
	if r.dropped > 0 {
		out = append(out, Diagnostic{
			Severity: Error, Fatal: r.fatal, File: out[len(out)-1].File,
			Text: fmt.Sprintf("%d more messages are not shown", r.dropped),
		})
	}
	return out
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ikegod/ikegod/conf"
	"github.com/ikegod/ikegod/pkg/ctl"
)

// width is what human output fits into.
const width = 100

// printf prints one paragraph: wrapped at width, continued lines indented below the first one's text. What came from elsewhere cannot move the cursor.
func printf(w io.Writer, format string, args ...any) { wrap(w, clean(fmt.Sprintf(format, args...))) }

func (a *app) printf(format string, args ...any) { printf(a.out, format, args...) }
func (a *app) errorf(format string, args ...any) { printf(a.err, format, args...) }

// object prints one JSON object with indentation.
func (a *app) object(v any) {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	enc.Encode(v)
}

func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

func wrap(w io.Writer, line string) {
	hang := len(line) - len(strings.TrimLeft(line, " ")) + 4
	for utf8.RuneCountInString(line) > width {
		runes := []rune(line)
		cut := -1
		for i := width; i > hang; i-- {
			if runes[i] == ' ' {
				cut = i
				break
			}
		}
		if cut < 0 {
			break // one long word: leave it whole, so that it can be copied
		}
		fmt.Fprintln(w, strings.TrimRight(string(runes[:cut]), " "))
		line = strings.Repeat(" ", hang) + strings.TrimLeft(string(runes[cut:]), " ")
	}
	fmt.Fprintln(w, line)
}

// peer prints the far end of a path: "192.1.2.23:TCP/4500".
func peer(p ctl.Path) string {
	ap, err := netip.ParseAddrPort(p.Remote)
	if err != nil {
		return p.Carrier
	}
	host := ap.Addr().String()
	if ap.Addr().Is6() {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("%s:%s/%d", host, p.Carrier, ap.Port())
}

// carrierPort prints "TCP/4500": the carrier with the port of the end that listens.
func carrierPort(p ctl.Path, initiator bool) string {
	end := p.Remote
	if !initiator && p.Carrier == "TCP" {
		end = p.Local
	}
	ap, err := netip.ParseAddrPort(end)
	if err != nil {
		return p.Carrier
	}
	return fmt.Sprintf("%s/%d", p.Carrier, ap.Port())
}

// ago prints how long ago a moment was, to the second.
func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := time.Since(t)
	if d < time.Second {
		return "just now"
	}
	return short(d) + " ago"
}

func short(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %s", n, many)
}

// printDiagnostics prints findings as compilers do, with a caret below the place. The text is wrapped; the source line is not.
func printDiagnostics(w io.Writer, ds []ctl.Diagnostic) {
	for _, d := range ds {
		one := conf.Diagnostic{
			File: d.File, Line: d.Line, Col: d.Column, Width: d.Width, Conn: d.Connection, Text: d.Text, Suggestion: d.Suggestion,
			Source: d.Source,
		}
		// An unknown severity, from a newer daemon, counts as a note.
		_ = one.Severity.UnmarshalText([]byte(d.Severity))
		for line := range strings.Lines(one.Long()) {
			line = strings.TrimRight(line, "\n")
			if strings.HasPrefix(line, "    ") {
				fmt.Fprintln(w, line)
				continue
			}
			wrap(w, clean(line))
		}
	}
}

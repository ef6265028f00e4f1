package conf

import "strings"

// token is a piece of a line: its text after quotes or braces are taken away, and where text begins and ends in the line.
type token struct {
	text     string
	from, to int
	next     int // where lexing goes on
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// skipBlanks returns the first place from at on that is not a blank or tab.
func skipBlanks(s string, at int) int {
	for at < len(s) && isBlank(s[at]) {
		at++
	}
	return at
}

// run returns the end of the longest run from at on without an octet of stop and blanks.
func run(s string, at int, stop string) int {
	for at < len(s) && !isBlank(s[at]) && strings.IndexByte(stop, s[at]) < 0 {
		at++
	}
	return at
}

// lexValue reads a value at at, which is not a blank. Four forms compete as in libreswan's scanner and the longest wins, of equal ones the earlier:
// "..." without quotes inside; {...} to the last brace of the line without quotes between; a run without quotes and blanks; a run without
// braces and blanks, which may hold quotes. So x"y" and "abc"def are what they look like, quotes and all.
func lexValue(s string, at int) (token, bool) {
	best := token{next: at}
	if s[at] == '"' {
		if n := strings.IndexByte(s[at+1:], '"'); n >= 0 {
			best = token{s[at+1 : at+1+n], at + 1, at + 1 + n, at + n + 2}
		}
	}
	if s[at] == '{' {
		body := s[at+1:]
		if n := strings.IndexByte(body, '"'); n >= 0 {
			body = body[:n]
		}
		if n := strings.LastIndexByte(body, '}'); n >= 0 && at+n+2 > best.next {
			best = token{s[at+1 : at+1+n], at + 1, at + 1 + n, at + n + 2}
		}
	}
	for _, stop := range []string{`"`, "{}"} {
		if end := run(s, at, stop); end > best.next {
			best = token{s[at:end], at, end, end}
		}
	}
	return best, best.next > at
}

// endOfLine reports whether nothing but blanks or a comment follows from at on. If not, it returns where the unexpected begins.
func endOfLine(s string, at int) (int, bool) {
	at = skipBlanks(s, at)
	return at, at == len(s) || s[at] == '#'
}

// lexKey reads the name of a keyword at at: everything up to a quote, an equals sign or a blank.
func lexKey(s string, at int) token {
	end := run(s, at, `"=`)
	return token{s[at:end], at, end, end}
}

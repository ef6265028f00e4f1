package conf

import "fmt"

// file is one file that was read.
type file struct {
	name  string
	order int
}

// pos is a place in a file.
type pos struct {
	file             *file
	line, col, width int    // from 1; width in octets
	source           string // the line
}

// short is "file:line".
func (p pos) short() string { return fmt.Sprintf("%s:%d", p.file.name, p.line) }

func (p pos) diagnostic(s Severity, conn, text, suggestion string) Diagnostic {
	return Diagnostic{
		Severity: s, File: p.file.name, Line: p.line, Col: p.col, Width: p.width, Conn: conn, Text: text, Suggestion: suggestion,
		Source: p.source, order: p.file.order,
	}
}

// entry is a keyword with its value.
type entry struct {
	key   *keyword // canonical
	side  side
	word  string // as written
	value string
	at    pos // of the word
	vcol  int // column of the value, from 1
	sect  *section

	parsed bool // value and fault are set
	result any
	fault  error
}

// label is the canonical name with its side.
func (e *entry) label() string { return e.key.label(e.side) }

// valuePos is the place of a part of the value; width zero means all of it.
func (e *entry) valuePos(from, width int) pos {
	p := e.at
	p.col, p.width = e.vcol+from, width
	if width == 0 {
		p.col, p.width = e.vcol, len(e.value)
	}
	return p
}

// section is "config setup" or a conn.
type section struct {
	name    string // of a conn
	setup   bool
	at      pos // of the name
	entries []*entry
	broken  bool // has an error of its own that leaves its connections out
	foreign bool // is none of ours: its lines are skipped
	used    bool // another section takes it in with also=
	seen    map[entryKey]*entry
}

// entryKey tells keywords of one connection apart.
type entryKey struct {
	key  *keyword
	side side
}

func (e *entry) id() entryKey { return entryKey{e.key, e.side} }

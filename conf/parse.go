package conf

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/ikegod/ikegod/pkg/suggest"
)

// loader reads files into sections.
type loader struct {
	fs      files
	caps    caps
	opts    Options
	report  report
	files   int
	lines   int
	octets  int
	stack   []string // files being read, for loops of includes
	setup   []*entry
	conns   []*section
	section *section
	started bool // the first significant line was seen
	stopped bool // a cap was reached
}

func newLoader(fs files, o Options) *loader { return &loader{fs: fs, caps: defaultCaps, opts: o} }

// loadMain reads the main file. That it cannot be read is fatal.
func (l *loader) loadMain(path string) {
	text, err := l.opts.Stdin, error(nil)
	if path != "-" || text == nil {
		text, err = l.fs.read(path)
	}
	if err != nil {
		l.report.add(Diagnostic{Severity: Error, Fatal: true, File: path, Text: "cannot read it: " + err.Error()})
		return
	}
	l.parseFile(path, text)
}

// parseFile parses one file. The section of the including file ends here, and the included one's last section ends with it.
func (l *loader) parseFile(name string, text []byte) {
	f := &file{name: name, order: l.files}
	l.files++
	l.octets += len(text)
	l.section = nil
	if l.octets > l.caps.octets {
		l.stop(pos{file: f}, fmt.Sprintf("all files together have more than %d octets", l.caps.octets))
		return
	}
	l.stack = append(l.stack, name)
	defer func() { l.stack = l.stack[:len(l.stack)-1] }()

	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // a byte order mark of an editor
	all, crlf := string(text), false
	for n := 1; len(all) > 0 && !l.stopped; n++ {
		line, rest, _ := strings.Cut(all, "\n")
		all = rest
		if cut, ok := strings.CutSuffix(line, "\r"); ok {
			line = cut
			if !crlf {
				crlf = true
				p := pos{file: f, line: n, col: len(line) + 1, width: 1, source: line}
				l.report.add(p.diagnostic(Warning, "", "lines end with CR LF as on Windows; the CR is ignored", "dos2unix takes them away"))
			}
		}
		l.parseLine(pos{file: f, line: n, col: 1, source: line})
	}
	l.section = nil
}

// stop ends the loading because a cap is reached.
func (l *loader) stop(p pos, text string) {
	d := p.diagnostic(Error, "", text, "")
	d.Fatal = true
	l.report.add(d)
	l.stopped = true
}

// parseLine sorts out what a line is.
func (l *loader) parseLine(p pos) {
	line := p.source
	if l.lines++; l.lines > l.caps.lines {
		l.stop(p, fmt.Sprintf("more than %d lines", l.caps.lines))
		return
	}
	if len(line) > l.caps.lineLength {
		p.source = line[:min(len(line), caretContext)]
		l.stop(p, fmt.Sprintf("the line is longer than %d octets", l.caps.lineLength))
		return
	}
	if n := strings.IndexByte(line, 0); n >= 0 {
		p.col = n + 1
		l.stop(p, "the file is not text: it holds a NUL octet")
		return
	}
	at := skipBlanks(line, 0)
	if at == len(line) || line[at] == '#' {
		return
	}
	if at == 0 {
		l.sectionLine(p, 0)
	} else {
		l.keywordLine(p, at)
	}
	l.started = true
}

// place makes the position of octets from to to of p's line.
func (p pos) place(from, to int) pos {
	p.col, p.width = from+1, max(1, to-from)
	return p
}

// syntax reports an error of the grammar: inside a conn it spoils that conn, elsewhere everything.
func (l *loader) syntax(p pos, text, suggestion string) {
	s := l.section
	if s != nil && !s.setup && s.name != defaultName {
		s.broken = true
		l.report.add(p.diagnostic(Error, s.name, text, suggestion))
		return
	}
	d := p.diagnostic(Error, "", text, suggestion)
	d.Fatal = true
	l.report.add(d)
}

func (l *loader) warn(p pos, text, suggestion string) {
	conn := ""
	if l.section != nil {
		conn = l.section.name
	}
	l.report.add(p.diagnostic(Warning, conn, text, suggestion))
}

// defaultName is the section that all connections take their defaults from.
const defaultName = "%default"

var sectionWords = []string{"config", "conn", "include", "version"}

// sectionLine parses a line whose first word stands at at: column 0, or further in by mistake.
func (l *loader) sectionLine(p pos, at int) {
	word := lexKey(p.source, at)
	rest := skipBlanks(p.source, word.next)
	here := p.place(word.from, word.to)
	if rest < len(p.source) && p.source[rest] == '=' {
		if slices.Contains(sectionWords, word.text) {
			l.syntax(here, quoted(word.text)+" begins a section and takes no equals sign", "write "+word.text+" and a name after a blank")
			return
		}
		l.syntax(here, "keyword "+quoted(word.text)+" stands in the first column", "put a blank before it")
		if l.section != nil {
			l.keywordLine(p, at)
		}
		return
	}
	switch word.text {
	case "version":
		l.versionLine(p, here, rest)
	case "config":
		l.configLine(p, rest)
	case "conn":
		if name, ok := l.argument(p, "conn", "a name", rest, here); ok {
			l.beginConn(p, name)
		} else {
			l.skipSection(false)
		}
	case "include":
		if pattern, ok := l.argument(p, "include", "a file name or pattern", rest, here); ok {
			l.include(p.place(pattern.from, pattern.to), pattern.text)
		}
	default:
		l.unknownSection(p, word, here)
	}
}

// skipSection makes the lines that follow belong to a section that is thrown away, after an error in its first line. They are checked unless it
// is foreign.
func (l *loader) skipSection(foreign bool) { l.section = &section{broken: true, foreign: foreign} }

func (l *loader) unknownSection(p pos, word token, here pos) {
	l.section = nil
	meant := suggest.Nearest(word.text, sectionWords)
	suggestion := suggest.DidYouMean(word.text, sectionWords)
	switch word.text {
	case "ca":
		meant, suggestion = "", "sections of strongSwan's for CAs have no counterpart; remove it"
	case "setup":
		meant, suggestion = "config", "write config setup"
	}
	if word.text == "" {
		l.syntax(here, "a line begins with "+quoted(p.source[word.from:word.from+1]), "")
	} else {
		l.syntax(here, quoted(word.text)+" is not one of version, config setup, conn, include", suggestion)
	}
	l.skipSection(meant != "conn" && meant != "config")
	l.section.setup = meant == "config"
}

func (l *loader) versionLine(p, here pos, rest int) {
	if l.started {
		l.warn(here, "version is ignored: it belongs on the first line", "")
	}
	if _, ok := endOfLine(p.source, rest); ok {
		l.warn(here, "version without a number", "")
	}
}

func (l *loader) configLine(p pos, at int) {
	word := lexKey(p.source, at)
	l.section = nil
	if word.text != "setup" {
		l.syntax(p.place(0, len("config")), "config is not followed by setup", "write config setup")
	} else if end, ok := endOfLine(p.source, word.next); !ok {
		l.syntax(p.place(end, len(p.source)), "config setup takes nothing after it", "")
	}
	l.section = &section{setup: true, at: p.place(0, word.to)}
}

// argument reads the one value after conn or include.
func (l *loader) argument(p pos, word, what string, at int, here pos) (token, bool) {
	if _, end := endOfLine(p.source, at); end {
		l.section = nil
		l.syntax(here, word+" without "+what, "")
		return token{}, false
	}
	t, ok := lexValue(p.source, at)
	if !ok {
		l.section = nil
		l.syntax(p.place(at, at+1), "unexpected "+quoted(p.source[at:at+1]), "")
		return token{}, false
	}
	if end, ok := endOfLine(p.source, t.next); !ok {
		l.section = nil
		l.syntax(p.place(end, len(p.source)), fmt.Sprintf("unexpected %s after the name", quoted(p.source[end:])),
			fmt.Sprintf(`write %s "%s" if blanks belong to it`, word, strings.TrimSpace(p.source[at:])))
	}
	return t, true
}

func (l *loader) beginConn(p pos, name token) {
	s := &section{name: name.text, at: p.place(name.from, name.to), seen: map[entryKey]*entry{}}
	l.section = s
	if name.text == "" {
		l.section = nil
		l.syntax(s.at, "a conn needs a name", "")
		l.skipSection(false)
		return
	}
	if strings.ContainsFunc(name.text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		l.syntax(s.at, "the name of the conn holds a control character", "")
	}
	l.conns = append(l.conns, s)
}

// include reads the files that a pattern names (LIBRESWAN.md 1.1: problems are warnings, never more).
func (l *loader) include(p pos, pattern string) {
	l.section = nil
	if len(l.stack) >= maxIncludeDepth {
		l.warn(p, fmt.Sprintf("%s is not included: includes are nested deeper than %d", quoted(pattern), maxIncludeDepth), "")
		return
	}
	var found []string
	for _, c := range candidates(p.file.name, pattern) {
		var err error
		if found, err = l.fs.glob(c); err != nil {
			l.warn(p, fmt.Sprintf("%s is not included: %v", quoted(pattern), err), "")
			return
		}
		if len(found) > 0 {
			break
		}
	}
	if len(found) == 0 && !strings.Contains(pattern, "*") {
		l.warn(p, fmt.Sprintf("there is no file %s to include", quoted(pattern)), "")
	}
	for _, name := range found {
		if l.stopped {
			return
		}
		l.includeFile(p, name)
	}
	l.section = nil
}

func (l *loader) includeFile(p pos, name string) {
	if slices.Contains(l.stack, name) {
		l.warn(p, fmt.Sprintf("%s is not included: it includes itself", quoted(name)), "")
		return
	}
	if l.files >= l.caps.files {
		l.stop(p, fmt.Sprintf("more than %d files are included", l.caps.files))
		return
	}
	text, err := l.fs.read(name)
	if err != nil {
		l.section = nil
		l.warn(p, fmt.Sprintf("%s is not included: %v", quoted(name), err), "")
		return
	}
	l.parseFile(name, text)
}

// keywordLine parses an indented line whose first word stands at at.
func (l *loader) keywordLine(p pos, at int) {
	line := p.source
	if l.section != nil && l.section.foreign {
		return
	}
	for at < len(line) && (line[at] == '"' || isBlank(line[at])) { // as libreswan's scanner drops what it does not know
		if line[at] == '"' {
			l.warn(p.place(at, at+1), "a quote before a keyword is ignored", "remove it")
		}
		at++
	}
	if at == len(line) {
		return
	}
	if line[at] == '=' {
		l.syntax(p.place(at, at+1), "no keyword before the equals sign", "")
		return
	}
	word := lexKey(line, at)
	if len(word.text) > 2 && strings.EqualFold(word.text[:1], "x") && (word.text[1] == '-' || word.text[1] == '_') {
		l.report.add(p.place(word.from, word.to).diagnostic(Note, l.sectionName(), "a keyword that begins with "+word.text[:2]+" is a comment", ""))
		return
	}
	equals := strings.IndexByte(line[word.next:], '=')
	here := p.place(word.from, word.to)
	if slices.Contains(sectionWords, word.text) && equals < 0 {
		l.syntaxOutside(here, quoted(word.text)+" must stand in the first column", "remove the blanks before it")
		l.sectionLine(p, at)
		if l.section != nil {
			l.section.broken = true
		}
		return
	}
	if equals < 0 {
		l.syntax(here, "keyword "+quoted(word.text)+" without an equals sign", "write "+word.text+"=value")
		return
	}
	equals += word.next
	if junk := strings.TrimSpace(line[word.next:equals]); junk != "" {
		from := skipBlanks(line, word.next)
		l.warn(p.place(from, from+len(junk)), fmt.Sprintf("%s before the equals sign is ignored", quoted(junk)), "remove it")
	}
	l.keywordValue(p, word, equals+1)
}

func (l *loader) sectionName() string {
	if l.section == nil {
		return ""
	}
	return l.section.name
}

// syntaxOutside is syntax for an error that is not about the present section.
func (l *loader) syntaxOutside(p pos, text, suggestion string) {
	l.section = nil
	l.syntax(p, text, suggestion)
}

// keywordValue reads what follows the equals sign.
func (l *loader) keywordValue(p pos, word token, at int) {
	line := p.source
	start := skipBlanks(line, at)
	value := token{from: start, to: start, next: start}
	switch {
	case start == len(line):
	case start > at && line[start] == '#' && !aloneHash(line, start):
		l.warn(p.place(start, len(line)), "keyword "+quoted(word.text)+" has no value: a comment follows the equals sign", "")
		value.next = len(line)
	default:
		t, ok := lexValue(line, start)
		if !ok {
			l.syntax(p.place(start, start+1), fmt.Sprintf("unexpected %s after the equals sign", quoted(line[start:start+1])), "")
			return
		}
		if value = t; start > at && line[start] == '#' {
			l.warn(p.place(start, t.next), fmt.Sprintf("the value of %q is %s, which is not a comment here", word.text, quoted(t.text)), "put a blank after the #, or quotes around the value")
		}
	}
	if end, ok := endOfLine(line, value.next); !ok {
		l.syntax(p.place(end, len(line)), fmt.Sprintf("unexpected %s after the value", quoted(line[end:])),
			fmt.Sprintf(`write %s="%s" if it belongs to the value`, word.text, strings.ReplaceAll(strings.TrimSpace(line[start:]), `"`, "")))
		return
	}
	l.keyword(p, word, value)
}

// aloneHash reports whether "#text" at at is the last word of the line: then libreswan takes it for the value.
func aloneHash(line string, at int) bool {
	end := run(line, at, "")
	return end > at+1 && skipBlanks(line, end) == len(line)
}

// keyword puts a keyword with its value into the present section.
func (l *loader) keyword(p pos, word, value token) {
	here := p.place(word.from, word.to)
	s := l.section
	if s == nil {
		l.syntax(here, "keyword "+quoted(word.text)+" outside of every section", "write config setup or conn NAME in a line before it")
		return
	}
	key, sd := table().lookup(word.text, s.setup)
	if key == nil {
		text, suggestion := table().explainUnknown(word.text, s.setup, l.report.suggest)
		l.syntax(here, text, suggestion)
		return
	}
	switch key.state {
	case Obsolete:
		l.warn(here, "obsolete keyword "+quoted(word.text)+" is ignored", key.why)
		return
	case CommandLine:
		l.syntax(here, "keyword "+quoted(word.text)+" cannot be set in a file", key.why)
		return
	case Implemented, NoEffect, NotYet, Refused: // the compiler knows whether it counts
	}
	l.put(&entry{key: table().canonical(key), side: sd, word: word.text, value: value.text, at: here, vcol: value.from + 1, sect: s})
}

// put adds an entry to its section. In a conn the first of two wins, in config setup the last (LIBRESWAN.md 1.2).
func (l *loader) put(e *entry) {
	s := l.section
	if s.setup {
		for i, old := range l.setup {
			if old.id() == e.id() {
				if old.value != e.value {
					l.warn(e.at, fmt.Sprintf("%s=%s takes the place of %s=%s in %s", e.word, printable(e.value), old.word, printable(old.value), old.at.short()), "")
				}
				l.setup[i] = e
				return
			}
		}
		l.setup = append(l.setup, e)
		return
	}
	if e.key.kind != kindAlso && !e.key.append && s.seen != nil {
		if old := s.seen[e.id()]; old != nil {
			l.warn(e.at, fmt.Sprintf("%s=%s is ignored: %s=%s in %s comes first", e.word, printable(e.value), old.word, printable(old.value), old.at.short()), "")
			return
		}
		s.seen[e.id()] = e
	}
	s.entries = append(s.entries, e)
}

// finish makes the Config.
func (l *loader) finish() *Config {
	c := &Config{setup: l.setup, byName: map[string]*section{}, report: l.report}
	for _, s := range l.conns {
		s.seen = nil
		if s.name == defaultName {
			c.defaults = append(c.defaults, s)
			continue
		}
		if first := c.byName[s.name]; first != nil {
			c.report.add(s.at.diagnostic(Warning, s.name, "this conn is ignored: "+first.at.short()+" has one of the same name", "rename one of them"))
			continue
		}
		c.byName[s.name] = s
		c.conns = append(c.conns, s)
	}
	for _, s := range c.conns {
		for _, e := range s.entries {
			if target := c.byName[e.value]; e.key.kind == kindAlso && target != nil {
				target.used = true
			}
		}
	}
	return c
}

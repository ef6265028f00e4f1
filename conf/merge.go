package conf

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ikegod/ikegod/pkg/suite"
)

// compiler turns a Config into policies. One run.
type compiler struct {
	*Config
	report    report
	reported  map[remark]bool
	defaulted map[*keyword]any // parsed defaults
	inherited map[entryKey]*entry
	proposals map[string]suite.Proposals
	scripts   map[string]string // file of leftupdown=: why it cannot be run, empty if it can
	asked     func(*keyword)    // told of each keyword that is asked for; for a test
}

// remark is what was said about an entry. It is said once, however many connections the entry is part of.
type remark struct {
	e    *entry
	text string
}

// first reports whether this is said for the first time.
func (r *compiler) first(e *entry, text string) bool {
	k := remark{e, text}
	said := r.reported[k]
	r.reported[k] = true
	return !said
}

func newCompiler(c *Config) *compiler {
	r := &compiler{
		Config: c, reported: map[remark]bool{}, defaulted: map[*keyword]any{}, inherited: map[entryKey]*entry{},
		proposals: map[string]suite.Proposals{},
	}
	r.report = report{list: append(Diagnostics(nil), c.report.list...), dropped: c.report.dropped, fatal: c.report.fatal}
	for _, s := range c.defaults {
		for _, e := range s.entries {
			if e.key.kind == kindAlso {
				d := e.at.diagnostic(Error, s.name, "also= is not allowed in conn %default", "")
				d.Fatal = true
				r.report.add(d)
				continue
			}
			r.inherited[e.id()] = e // a later %default overrides an earlier one
		}
	}
	return r
}

// build is one connection (or config setup) on its way.
type build struct {
	*compiler
	sect    *section
	own     map[entryKey]*entry
	order   []*entry // of own, for messages that come in the same order each time
	visited map[*section]bool
	failed  bool
	broken  bool      // a section has an error of grammar: what seems to be missing may stand in a line that could not be read
	named   bool      // leftOut has spoken
	parts   [3][]part // by side: what leftsubnet= and leftsubnets= protect
	listed  bool      // leftsubnets= or rightsubnets= is written
	lenient bool      // auto=ignore: what would refuse the connection is a warning
}

func (r *compiler) newBuild(s *section, lenient bool) *build {
	b := &build{compiler: r, sect: s, own: map[entryKey]*entry{}, visited: map[*section]bool{}, lenient: lenient}
	b.take(s, nil)
	return b
}

// isIgnored reports whether a connection is not to be loaded at start: its auto= is ignore, or not written. Where one section says ignore and another something
// else, it is to be loaded: that they differ is then an error, as with any keyword, and not a reason to leave it out without a word.
func (r *compiler) isIgnored(s *section) bool {
	list := r.findAuto(s, map[*section]bool{})
	if e := r.inherited[entryKey{table().plain["auto"], noSide}]; len(list) == 0 && e != nil {
		list = append(list, e)
	}
	return !slices.ContainsFunc(list, func(e *entry) bool {
		v, err := e.parse()
		return err != nil || v != "ignore"
	})
}

// findAuto finds each auto= of a section and of those it takes in, and reports nothing.
func (r *compiler) findAuto(s *section, visited map[*section]bool) []*entry {
	if visited[s] || len(visited) > maxAlso {
		return nil
	}
	visited[s] = true
	var list []*entry
	for _, e := range s.entries {
		switch {
		case e.key.name == "auto":
			list = append(list, e)
		case e.key.kind == kindAlso && r.byName[e.value] != nil:
			list = append(list, r.findAuto(r.byName[e.value], visited)...)
		}
	}
	return list
}

// maxAlso bounds how many sections one connection takes in.
const maxAlso = 1000

// take puts the entries of a section in, in place and depth first; sections that were taken in already are skipped (LIBRESWAN.md 1.2).
func (b *build) take(s *section, via *entry) {
	if b.visited[s] {
		return
	}
	b.visited[s] = true
	if len(b.visited) > maxAlso {
		b.refuse(via.at, fmt.Sprintf("more than %d sections are taken in with also=", maxAlso), "")
		return
	}
	if s.broken {
		b.failed, b.broken = true, true
		if s != b.sect {
			b.leftOut(fmt.Sprintf("conn %s, which it takes in with also=, has errors", printable(s.name)))
		}
	}
	for _, e := range s.entries {
		if e.key.kind != kindAlso {
			b.put(e)
			continue
		}
		target := b.byName[e.value]
		if target == nil {
			if b.first(e, "also") {
				b.report.add(e.valuePos(0, 0).diagnostic(Error, s.name, "there is no conn "+quoted(e.value)+" to take in", b.report.suggest(e.value, b.Names)))
			}
			b.failed, b.broken = true, true
			if s != b.sect {
				b.leftOut(fmt.Sprintf("conn %s, which it takes in with also=, has errors", printable(s.name)))
			}
			continue
		}
		b.take(target, e)
	}
}

// put sets a keyword. Two sections that say different things are an error, as in libreswan, because either could be meant.
func (b *build) put(e *entry) {
	old := b.own[e.id()]
	switch {
	case old == nil || e.key.append:
		b.own[e.id()] = e
		b.order = append(b.order, e)
	case old.value == e.value:
		if old.sect != e.sect && b.first(e, "twice") {
			b.report.add(e.at.diagnostic(Note, e.sect.name, fmt.Sprintf("conn %s has %s=%s twice, also in %s", printable(b.sect.name), e.label(), printable(e.value), old.at.short()), ""))
		}
	default:
		b.refuse(e.at, fmt.Sprintf("%s=%s differs from %s=%s in %s (conn %s)", e.word, printable(e.value), old.word, printable(old.value), old.at.short(), printable(old.sect.name)),
			"remove one of them; a value that connections may override belongs into conn %default")
	}
}

// key finds the row of a keyword by its canonical name.
func (b *build) key(name string, s side) *keyword {
	switch {
	case b.sect.setup:
		return table().setup[name]
	case s != noSide:
		return table().sided[name]
	}
	return table().plain[name]
}

// get returns the effective entry of a keyword, nil if it is not written.
func (b *build) get(name string, s side) *entry {
	k := b.key(name, s)
	if b.asked != nil {
		b.asked(k)
	}
	if e := b.own[entryKey{k, s}]; e != nil {
		return e
	}
	return b.inherited[entryKey{k, s}]
}

// all returns every entry of a keyword whose repetitions are joined, those of %default first.
func (b *build) all(name string, s side) []*entry {
	id := entryKey{b.key(name, s), s}
	if b.asked != nil {
		b.asked(id.key)
	}
	var list []*entry
	for _, d := range b.defaults {
		for _, e := range d.entries {
			if e.id() == id {
				list = append(list, e)
			}
		}
	}
	for _, e := range b.order {
		if e.id() == id {
			list = append(list, e)
		}
	}
	return list
}

// effective calls f for all entries that count for the connection.
func (b *build) effective(f func(*entry)) {
	for _, e := range b.order {
		f(e)
	}
	if b.sect.setup {
		return
	}
	for _, s := range b.defaults {
		for _, e := range s.entries {
			if b.inherited[e.id()] == e && b.own[e.id()] == nil {
				f(e)
			}
		}
	}
}

// value returns the parsed value of a keyword, or of its default if it is not written or wrong.
func value[T any](b *build, name string, s side) T {
	if e := b.get(name, s); e != nil {
		v, err := e.parse()
		if err == nil {
			return v.(T)
		}
		b.fault(e, err)
	}
	k := b.key(name, s)
	v, ok := b.defaulted[k]
	if !ok {
		v, _ = parseValue(k, k.def) // a test parses all defaults
		b.defaulted[k] = v
	}
	t, _ := v.(T)
	return t
}

// fault reports a value that cannot be used. One that cannot be read is an error even in a connection that is not loaded.
func (b *build) fault(e *entry, err error) {
	b.failed = true
	if b.first(e, err.Error()) {
		b.report.add(b.faultDiagnostic(e, err, b.lenient))
	}
	b.leftOutBy(e)
}

func (r *compiler) faultDiagnostic(e *entry, err error, lenient bool) Diagnostic {
	p, suggestion, severity := e.valuePos(0, 0), "", Error
	if v, ok := errors.AsType[*badValue](err); ok {
		p, suggestion = e.valuePos(v.from, v.width), v.suggestion
		if v.lacking && lenient {
			severity = Warning
		}
	}
	d := p.diagnostic(severity, e.sect.name, e.word+": "+err.Error(), suggestion)
	d.Fatal = e.sect.setup
	return d
}

// refuseEntry reports, at a keyword's value, why the connection cannot be loaded.
func (b *build) refuseEntry(e *entry, text, suggestion string) {
	b.failed = true
	if b.first(e, text) {
		b.report.add(b.soften(e.valuePos(0, 0).diagnostic(Error, e.sect.name, text, suggestion)))
	}
	b.leftOutBy(e)
}

// refuse reports, at a place, why the connection cannot be loaded.
func (b *build) refuse(p pos, text, suggestion string) {
	b.failed = true
	b.report.add(b.soften(p.diagnostic(Error, b.sect.name, text, suggestion)))
}

// soften makes a warning of an error that leaves out a connection which is not to be loaded anyway.
func (b *build) soften(d Diagnostic) Diagnostic {
	if b.lenient {
		d.Severity = Warning
	}
	if b.sect.setup {
		d.Fatal = true
	}
	return d
}

// warn remarks once on a keyword.
func (b *build) warn(e *entry, s Severity, text, suggestion string) {
	if b.first(e, text) {
		b.report.add(e.at.diagnostic(s, e.sect.name, text, suggestion))
	}
}

// leftOutBy names the connection that is left out because of a line in another section.
func (b *build) leftOutBy(e *entry) {
	if e.sect != b.sect && !b.sect.setup {
		b.leftOut(fmt.Sprintf("%s= in %s (conn %s)", e.word, e.at.short(), printable(e.sect.name)))
	}
}

func (b *build) leftOut(why string) {
	if b.named {
		return
	}
	b.named = true
	b.report.add(b.soften(b.sect.at.diagnostic(Error, b.sect.name, "it is not loaded because of "+why, "")))
}

// remarks reports on all effective keywords that are not implemented.
func (b *build) remarks() {
	b.effective(func(e *entry) {
		k := e.key
		if k.state == Implemented || k.isHarmless(e.value) {
			return
		}
		if _, err := e.parse(); err != nil {
			b.fault(e, err)
			return
		}
		switch k.state {
		case NoEffect:
			if b.report.noted == nil {
				b.report.noted = map[*keyword]bool{}
			}
			if !b.report.noted[k] { // once for each keyword, however often it is written
				b.report.noted[k] = true
				b.warn(e, Note, fmt.Sprintf("%s= has no effect: %s", e.word, k.why), "")
			}
		case NotYet:
			b.warn(e, Warning, fmt.Sprintf("%s=%s is not supported yet: %s", e.word, printable(e.value), k.why), "")
		case Refused:
			b.refuseEntry(e, fmt.Sprintf("%s=%s is not supported: %s", e.word, printable(e.value), k.why), "")
		case Implemented, Obsolete, CommandLine: // nothing to say, or the parser has said it
		}
	})
}

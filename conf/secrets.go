package conf

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/ikegod/ikegod/ike/auth"
	"github.com/ikegod/ikegod/pkg/ident"
)

// LoadSecrets reads ipsec.secrets (LIBRESWAN.md 1.3) and all that it includes. A file that others than its owner can read, or that belongs to somebody
// else than root or us, is refused: for the main file that is Fatal. A record with an error is left out. No diagnostic holds any text of
// a file.
func LoadSecrets(path string) ([]auth.Secret, Diagnostics) {
	return loadSecrets(path, secretFiles{})
}

func loadSecrets(path string, fs files) ([]auth.Secret, Diagnostics) {
	l := &secretsLoader{fs: fs, caps: defaultCaps}
	return l.load(path)
}

func (l *secretsLoader) load(path string) ([]auth.Secret, Diagnostics) {
	text, err := l.fs.read(path)
	if err != nil {
		d := refusedFile(path, err)
		d.Fatal = true
		l.report.add(d)
		return nil, l.report.sorted()
	}
	l.parseFile(path, text)
	return l.secrets, l.report.sorted()
}

// secretFiles is the file system for files that must be private.
type secretFiles struct{ osFiles }

// unsafeFile says why a file of secrets is not used, and what to type.
type unsafeFile struct{ text, command string }

func (e *unsafeFile) Error() string { return e.text }

// read opens the file and then judges what it has opened, so that nobody can exchange it in between.
func (secretFiles) read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, plainPathError(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, plainPathError(err)
	}
	if err := checkPrivate(path, info, os.Geteuid()); err != nil {
		return nil, err
	}
	return readRegular(f)
}

// checkPrivate refuses a regular file that others can read or write, or that somebody else owns.
func checkPrivate(path string, info os.FileInfo, us int) error {
	if !info.Mode().IsRegular() {
		return nil // readRegular has its own opinion
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 && int(stat.Uid) != us {
		return &unsafeFile{fmt.Sprintf("it belongs to user %d, who is neither root nor the user of this process", stat.Uid), "chown root " + shellQuote(path)}
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return &unsafeFile{fmt.Sprintf("others than its owner have access to it (mode %04o)", mode), "chmod 600 " + shellQuote(path)}
	}
	return nil
}

// shellQuote writes a path so that it can be typed.
func shellQuote(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@") == "" && s != "" {
		return s
	}
	return "'" + strings.ReplaceAll(printable(s), "'", `'\''`) + "'"
}

func refusedFile(path string, err error) Diagnostic {
	d := Diagnostic{Severity: Error, File: path, Text: "the secrets in it are not used: " + err.Error()}
	if u, ok := errors.AsType[*unsafeFile](err); ok {
		d.Suggestion = "type: " + u.command
	}
	return d
}

// secretsLoader reads files of secrets.
type secretsLoader struct {
	fs      files
	caps    caps
	report  report
	secrets []auth.Secret
	files   int
	octets  int
	lines   int
	stack   []string
}

// secretToken is a token of a record. Its text may be a secret: it never goes into a message.
type secretToken struct {
	text      []byte
	quoted    bool
	line, col int
}

// parseFile parses one file and overwrites its text afterwards.
func (l *secretsLoader) parseFile(name string, text []byte) {
	f := &file{name: name, order: l.files}
	l.files++
	l.octets += len(text)
	l.stack = append(l.stack, name)
	defer func() {
		l.stack = l.stack[:len(l.stack)-1]
		clear(text)
	}()
	var record []secretToken
	damaged := false
	flush := func() {
		if len(record) > 0 && !damaged {
			l.record(f, record)
		}
		record, damaged = record[:0], false
	}
	rest := bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	for n := 1; len(rest) > 0; n++ {
		if l.lines++; l.lines > l.caps.lines || l.octets > l.caps.octets {
			l.error(f, n, 0, "the files of secrets are too long", "")
			return
		}
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		rest = after
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) == 0 {
			continue
		}
		if !isBlank(line[0]) && line[0] != '#' {
			flush()
		}
		tokens, ok := l.tokens(f, n, line)
		record = append(record, tokens...)
		damaged = damaged || !ok
	}
	flush()
}

func (l *secretsLoader) error(f *file, line, col int, text, suggestion string) {
	l.report.add(Diagnostic{Severity: Error, File: f.name, Line: line, Col: col, Text: text, Suggestion: suggestion, order: f.order})
}

func (l *secretsLoader) warn(f *file, line, col int, text, suggestion string) {
	l.report.add(Diagnostic{Severity: Warning, File: f.name, Line: line, Col: col, Text: text, Suggestion: suggestion, order: f.order})
}

// tokens cuts a line into tokens: separated by blanks, a colon at the end of one is one of its own, # begins a comment, quotes hold blanks together, and a
// token that begins with 0t takes the rest of the line.
func (l *secretsLoader) tokens(f *file, n int, line []byte) (out []secretToken, ok bool) {
	for at := 0; ; {
		for at < len(line) && isBlank(line[at]) {
			at++
		}
		if at == len(line) || line[at] == '#' {
			return out, true
		}
		t := secretToken{line: n, col: at + 1}
		if c := line[at]; c == '"' || c == '\'' || c == '`' {
			end := bytes.IndexByte(line[at+1:], c)
			if end < 0 {
				l.error(f, n, at+1, "the quote is not closed on this line", "")
				return out, false
			}
			t.text, t.quoted = line[at+1:at+1+end], true
			at += end + 2
			if at < len(line) && !isBlank(line[at]) {
				l.error(f, n, at+1, "there is no blank after the closing quote", "a secret that holds a quote is written in the other kind of quotes, or as 0x...")
				return out, false
			}
			out = append(out, t)
			continue
		}
		end := at
		for end < len(line) && !isBlank(line[end]) {
			end++
		}
		if bytes.HasPrefix(bytes.ToLower(line[at:end]), []byte("0t")) {
			end = len(bytes.TrimRight(line, " \t"))
		}
		t.text = line[at:end]
		out = append(out, splitColon(t)...)
		at = end
	}
}

// splitColon makes a token of its own of a colon at the end, or before a word: "@east:" and ":PSK".
func splitColon(t secretToken) []secretToken {
	if len(t.text) < 2 {
		return []secretToken{t}
	}
	if last := len(t.text) - 1; t.text[last] == ':' {
		return []secretToken{{text: t.text[:last], line: t.line, col: t.col}, {text: t.text[last:], line: t.line, col: t.col + last}}
	}
	if t.text[0] == ':' && t.text[1] != ':' {
		return []secretToken{{text: t.text[:1], line: t.line, col: t.col}, {text: t.text[1:], line: t.line, col: t.col + 1}}
	}
	return []secretToken{t}
}

func (t secretToken) is(word string) bool {
	return !t.quoted && strings.EqualFold(string(t.text), word)
}

// record takes one record: ids, a colon, a kind, what the kind needs; or an include.
func (l *secretsLoader) record(f *file, r []secretToken) {
	if r[0].is("include") {
		l.include(f, r)
		return
	}
	colon := slices.IndexFunc(r, func(t secretToken) bool { return !t.quoted && string(t.text) == ":" })
	if colon < 0 {
		l.error(f, r[0].line, r[0].col, "a record without a colon; it is left out", "write identities, a colon, PSK and the secret in quotes")
		return
	}
	if colon+1 < len(r) && l.otherKind(f, r[colon+1]) {
		return
	}
	var ids []ident.Pattern
	for _, t := range r[:colon] {
		id, err := parseSecretID(string(t.text))
		if err != nil {
			l.error(f, t.line, t.col, "this is not an identity; the record is left out", "write an address, @name, user@domain, %any")
			return
		}
		ids = append(ids, id)
	}
	if colon+1 == len(r) {
		l.error(f, r[colon].line, r[colon].col, "nothing follows the colon; the record is left out", "write PSK and the secret in quotes")
		return
	}
	l.kind(f, ids, r[0], r[colon+1:])
}

// parseSecretID reads an identity. %any and %any6 both stand for anybody, whatever the type of the identity, as in libreswan, whose lookup takes the zero address of either family
// for a match of both ends: a pair of names has no family, and a peer that comes over IPv6 with an address as its identity is not locked out by a record that says %any.
func parseSecretID(s string) (ident.Pattern, error) {
	switch strings.ToLower(s) {
	case "%any", "%any6", "0.0.0.0", "::":
		return ident.Pattern{Any: true}, nil
	}
	id, err := ident.Parse(s)
	return ident.Pattern{ID: id}, err
}

// otherKinds are the kinds that exist elsewhere, with what to say. A word that is not among them is not repeated: it could be the secret itself.
var otherKinds = map[string]string{
	"rsa":    "private keys are not read from here, and certificates are not supported yet",
	"ecdsa":  "private keys are not read from here, and certificates are not supported yet",
	"pubkey": "private keys are not read from here, and certificates are not supported yet",
	"pkcs8":  "private keys are not read from here, and certificates are not supported yet",
	"pkcs12": "private keys are not read from here, and certificates are not supported yet",
	"p12":    "private keys are not read from here, and certificates are not supported yet",
	"pin":    "smart cards are not supported",
	"xauth":  "XAUTH belongs to IKEv1, which is not spoken",
	"eap":    "EAP is not supported yet",
	"ntlm":   "EAP is not supported yet",
	"ppks":   "postquantum preshared keys are not supported yet",
}

// otherKind warns of a record of another kind. Its identities do not matter.
func (l *secretsLoader) otherKind(f *file, t secretToken) bool {
	name := strings.ToLower(string(t.text))
	why := otherKinds[name]
	if why == "" || t.quoted {
		return false
	}
	l.warn(f, t.line, t.col, fmt.Sprintf("a record of kind %s is left out: %s", strings.ToUpper(name), why), "")
	return true
}

// kind takes what follows the colon.
func (l *secretsLoader) kind(f *file, ids []ident.Pattern, first secretToken, r []secretToken) {
	if !r[0].is("psk") {
		l.error(f, r[0].line, r[0].col, "the word after the colon is not a kind of secret; the record is left out", "write PSK before the secret")
		return
	}
	switch {
	case len(r) == 1:
		l.error(f, r[0].line, r[0].col, "PSK without a secret; the record is left out", "write the secret in quotes after it")
		return
	case len(r) > 2:
		l.error(f, r[2].line, r[2].col, "more text follows the secret; the record is left out", "put quotes around a secret with blanks")
		return
	}
	key, err := decodeSecret(r[1])
	if err != nil {
		l.error(f, r[1].line, r[1].col, err.Error()+"; the record is left out", "write it in quotes, or as 0x and hexadecimal digits, or 0s and base 64")
		return
	}
	if len(key) < 8 {
		l.warn(f, r[1].line, r[1].col, "the secret is weak: it is shorter than 8 octets", "make one with: openssl rand -base64 33")
	}
	l.secrets = append(l.secrets, auth.Secret{IDs: ids, Key: key, Position: fmt.Sprintf("%s:%d", f.name, first.line)})
}

// decodeSecret reads a quoted text, 0x hexadecimal, 0s base 64 or 0t text. Underscores may stand between digits.
func decodeSecret(t secretToken) ([]byte, error) {
	if t.quoted {
		if len(t.text) == 0 {
			return nil, bad("the secret is empty")
		}
		return bytes.Clone(t.text), nil
	}
	if len(t.text) < 3 || t.text[0] != '0' {
		return nil, bad("the secret is neither in quotes nor begins with 0x, 0s or 0t")
	}
	digits := string(bytes.ReplaceAll(t.text[2:], []byte("_"), nil))
	switch t.text[1] | 0x20 {
	case 'x':
		if key, err := hex.DecodeString(digits); err == nil && len(key) > 0 {
			return key, nil
		}
		return nil, bad("the secret is not an even number of hexadecimal digits")
	case 's':
		if key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(digits, "=")); err == nil && len(key) > 0 {
			return key, nil
		}
		return nil, bad("the secret is not base 64")
	case 't':
		return bytes.Clone(t.text[2:]), nil
	}
	return nil, bad("the secret is neither in quotes nor begins with 0x, 0s or 0t")
}

// include reads further files, relative to the one that includes.
func (l *secretsLoader) include(f *file, r []secretToken) {
	line, col := r[0].line, r[0].col
	if len(r) != 2 {
		l.error(f, line, col, "include takes one file name or pattern", "")
		return
	}
	if len(l.stack) >= maxIncludeDepth {
		l.error(f, line, col, fmt.Sprintf("includes are nested deeper than %d; this one is left out", maxIncludeDepth), "")
		return
	}
	pattern := string(r[1].text)
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(filepath.Dir(f.name), pattern)
	}
	found, err := l.fs.glob(pattern)
	switch {
	case err != nil:
		l.error(f, line, col, "the pattern is malformed", "")
		return
	case len(found) == 0 && !strings.Contains(pattern, "*"):
		l.warn(f, line, col, "there is no such file to include", "")
	}
	for _, name := range found {
		if slices.Contains(l.stack, name) {
			l.warn(f, line, col, "the file includes itself", "")
			continue
		}
		if l.files >= l.caps.files {
			l.error(f, line, col, fmt.Sprintf("more than %d files are included", l.caps.files), "")
			return
		}
		text, err := l.fs.read(name)
		if err != nil {
			d := refusedFile(name, err)
			d.order = l.files
			l.report.add(d)
			continue
		}
		l.parseFile(name, text)
	}
}

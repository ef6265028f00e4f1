package suite

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ikegod/ikegod/pkg/iana"
)

// ParseError says what is wrong in a value of ike= or esp=: the word, where it stands, and what could stand there instead.
type ParseError struct {
	Word   string
	Column int // of the word in the value, counted in octets from 1
	Reason string
	Hint   string // what to write instead; may be empty

	lacking bool
}

// Error is one line.
func (e *ParseError) Error() string {
	msg := fmt.Sprintf("%q at column %d %s", e.Word, e.Column, e.Reason)
	if e.Hint != "" {
		msg += "; " + e.Hint
	}
	return msg
}

// Is makes errors.Is(err, ErrUnsupported) true where the word is an algorithm that is known but not implemented.
func (e *ParseError) Is(target error) bool { return target == ErrUnsupported && e.lacking }

// word is a part of a value and its column.
type word struct {
	text   string
	column int
}

// errorf makes the error about w. A very long word is cut.
func (w word) errorf(format string, args ...any) *ParseError {
	const longest = 64
	text := w.text
	if len(text) > longest {
		text = text[:longest] + "..."
	}
	return &ParseError{Word: text, Column: w.column, Reason: fmt.Sprintf(format, args...)}
}

// split cuts w at every separator and trims blanks, keeping columns.
func split(w word, separator string) []word {
	var parts []word
	rest := w
	for {
		before, after, more := strings.Cut(rest.text, separator)
		parts = append(parts, word{before, rest.column}.trim())
		if !more {
			return parts
		}
		rest = word{after, rest.column + len(before) + len(separator)}
	}
}

// cut splits TYPE=LIST.
func cut(w word) (key, list word, ok bool) {
	before, after, ok := strings.Cut(w.text, "=")
	return word{before, w.column}.trim(), word{after, w.column + len(before) + 1}.trim(), ok
}

func (w word) trim() word {
	text := strings.TrimLeft(w.text, " \t")
	w.column += len(w.text) - len(text)
	w.text = strings.TrimRight(text, " \t")
	return w
}

// encr reads the name of an encryption algorithm with or without a key length: aes_gcm_16_256, aes_gcm256, aes256, aes, and strongSwan's
// aes256gcm16. Without a length the two usual ones are meant.
func (w word) encr() ([]Encr, error) {
	const what = "encryption algorithm"
	alg, bits, ok := findEncr(strings.ToLower(w.text))
	switch {
	case !ok:
		return nil, w.unknown(what, encrs)
	case !alg.supported:
		return nil, w.unsupported(alg, what, encrs)
	case bits == 0 && len(alg.keyBits) > 0:
		return []Encr{alg.encr(alg.keyBits[0]), alg.encr(alg.keyBits[1])}, nil
	case bits == int(alg.fixed):
		bits = 0
	}
	if bits > 0xffff || !alg.allowsKeyBits(uint16(bits)) {
		return nil, w.errorf("asks %s for a key of %d bits; it has keys of %s", alg.name, bits, alg.lengths())
	}
	return []Encr{alg.encr(uint16(bits))}, nil
}

// icvOctets is strongSwan's modes with the size of the ICV in bits.
var icvOctets = map[string]string{
	"gcm64": "gcm8", "gcm96": "gcm12", "gcm128": "gcm16",
	"ccm64": "ccm8", "ccm96": "ccm12", "ccm128": "ccm16",
}

// findEncr takes a name apart. bits is zero when it holds no key length.
func findEncr(name string) (alg *algorithm, bits int, ok bool) {
	if alg, ok = encrs.byName(name); ok {
		return alg, 0, true
	}
	if rest, isAES := strings.CutPrefix(name, "aes"); isAES && len(rest) > 3 {
		if n, err := strconv.ParseUint(rest[:3], 10, 16); err == nil {
			mode := rest[3:]
			if octets, ok := icvOctets[mode]; ok {
				mode = octets
			}
			alg, ok = encrs.byName("aes" + mode)
			return alg, int(n), ok
		}
	}
	base := strings.TrimRight(name, "0123456789")
	n, err := strconv.ParseUint(name[len(base):], 10, 31)
	if err != nil {
		return nil, 0, false
	}
	alg, ok = encrs.byName(strings.TrimSuffix(base, "_"))
	return alg, int(n), ok
}

// encr makes the value for a key length.
func (a *algorithm) encr(bits uint16) Encr { return Encr{ID: iana.Encr(a.id), KeyBits: bits} }

// lengths lists the key lengths in words.
func (a *algorithm) lengths() string {
	if len(a.keyBits) == 0 {
		return fmt.Sprintf("%d bits only", a.fixed)
	}
	var names []string
	for _, b := range a.keyBits {
		names = append(names, strconv.Itoa(int(b)))
	}
	return orList(names) + " bits"
}

// unknown is the error about a name that no table has.
func (w word) unknown(what string, tables ...table) *ParseError {
	if w.text == "" {
		err := w.errorf("is empty: a name is missing")
		err.Hint = "known: " + knownNames(tables)
		return err
	}
	err := w.errorf("is not a known %s", what)
	if near := nearest(w.text, tables); near != "" {
		err.Hint = fmt.Sprintf("did you mean %q?", near)
	} else {
		err.Hint = "known: " + knownNames(tables)
	}
	return err
}

// unsupported is the error about an algorithm that has a row but no code.
func (w word) unsupported(alg *algorithm, what string, t table) *ParseError {
	err := w.errorf("is %s, a known %s, which ikegod does not implement", alg.name, what)
	err.lacking = true
	err.Hint = "implemented: " + knownNames([]table{t})
	return err
}

func knownNames(tables []table) string {
	var names []string
	for _, t := range tables {
		for _, n := range t.supportedNames() {
			names = appendNew(names, n)
		}
	}
	return strings.Join(names, ", ")
}

// nearest is the spelling closest to text among what is implemented, or empty when nothing is close: at most two octets inserted, removed or
// changed, and fewer than half of the word.
func nearest(text string, tables []table) string {
	text = strings.ToLower(text)
	best, limit := "", min(2, (len(text)-1)/2)
	if len(text) > 40 {
		return ""
	}
	try := func(candidate string) {
		if d := distance(text, candidate); d <= limit && (best == "" || d < limit) {
			best, limit = candidate, d
		}
	}
	for _, t := range tables {
		for i := range t {
			if !t[i].supported {
				continue
			}
			for _, name := range append([]string{strings.ToLower(t[i].name)}, t[i].aliases...) {
				try(name)
				for _, b := range t[i].keyBits {
					try(fmt.Sprintf("%s%d", name, b))
					try(fmt.Sprintf("%s_%d", name, b))
				}
			}
		}
	}
	return best
}

// distance is the Levenshtein distance in octets.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := diagonal
			if a[i] != b[j] {
				next = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

package conf

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ikegod/ikegod/pkg/suggest"
)

// badValue says what is wrong with a value and where in it.
type badValue struct {
	from, width int // in the value; width zero: all of it
	text        string
	suggestion  string
	lacking     bool // it is well-formed, but not supported yet
}

func (e *badValue) Error() string { return e.text }

func bad(format string, args ...any) error { return &badValue{text: fmt.Sprintf(format, args...)} }

// lacking is bad for what libreswan would accept.
func lacking(format string, args ...any) error {
	return &badValue{text: fmt.Sprintf(format, args...), lacking: true}
}

// parseBool reads a boolean (LIBRESWAN.md 1.2): yes/no/true/false/on/off/y/n/1/0 in any case.
func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "yes", "true", "on", "y", "1":
		return true, nil
	case "no", "false", "off", "n", "0":
		return false, nil
	}
	return false, bad("%s is neither yes nor no", quoted(s))
}

// parseEnum reads one of the words, in any case, and returns it as the table writes it.
func parseEnum(s string, words []string) (string, error) {
	for _, w := range words {
		if strings.EqualFold(s, w) {
			return w, nil
		}
	}
	return "", &badValue{text: fmt.Sprintf("%s is not one of %s", quoted(s), strings.Join(words, ", ")), suggestion: suggest.DidYouMean(s, words)}
}

// parseUnsigned reads a whole number, decimal or 0x, between least and most.
func parseUnsigned(s string, least, most uint64) (uint64, error) {
	digits, base := s, 10
	if len(s) > 2 && (s[:2] == "0x" || s[:2] == "0X") {
		digits, base = s[2:], 16
	}
	n, err := strconv.ParseUint(digits, base, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || strings.ContainsAny(s, "+_") {
		return 0, bad("%s is not a whole number", quoted(s))
	}
	if err != nil || n < least || n > most {
		return 0, bad("%s is not between %d and %d", s, least, most)
	}
	return n, nil
}

// unit is a suffix and its factor.
type unit struct {
	name   string
	factor int64
}

// timeUnits are libreswan's (lib/libswan/timescale.c), in any case.
var timeUnits = []unit{
	{"us", int64(time.Microsecond)},
	{"ms", int64(time.Millisecond)},
	{"s", int64(time.Second)},
	{"m", int64(time.Minute)},
	{"h", int64(time.Hour)},
	{"d", 24 * int64(time.Hour)},
	{"w", 7 * 24 * int64(time.Hour)},
	{"second", int64(time.Second)},
	{"seconds", int64(time.Second)},
	{"minute", int64(time.Minute)},
	{"minutes", int64(time.Minute)},
	{"hour", int64(time.Hour)},
	{"hours", int64(time.Hour)},
	{"day", 24 * int64(time.Hour)},
	{"days", 24 * int64(time.Hour)},
	{"week", 7 * 24 * int64(time.Hour)},
	{"weeks", 7 * 24 * int64(time.Hour)},
}

// binaryUnits are the scales of numbers, byteUnits those of octets.
var (
	binaryUnits = []unit{{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"Ti", 1 << 40}, {"Pi", 1 << 50}, {"Ei", 1 << 60}}
	byteUnits   = []unit{{"B", 1}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"PiB", 1 << 50}, {"EiB", 1 << 60}}
)

// parseDuration reads a time: a decimal number, perhaps with a fraction, blanks, a unit; without a unit it is in units of unit.
func parseDuration(s string, without time.Duration) (time.Duration, error) {
	n, err := parseScaled(s, timeUnits, int64(without))
	if err != nil {
		return 0, bad("%s is not a time such as 30s, 500ms, 1.5h or 1d", quoted(s))
	}
	if !n.IsInt64() {
		return 0, bad("%s is too long a time", s)
	}
	return time.Duration(n.Int64()), nil
}

// parseSize reads a number with a binary scale.
func parseSize(s string, units []unit, most uint64) (uint64, error) {
	n, err := parseScaled(s, units, 1)
	if err != nil {
		return 0, bad("%s is not a number, plain or with one of %s", quoted(s), unitNames(units))
	}
	if !n.IsUint64() || n.Uint64() > most {
		return 0, bad("%s is more than %d", s, most)
	}
	return n.Uint64(), nil
}

func unitNames(units []unit) string {
	names := make([]string, len(units))
	for i, u := range units {
		names[i] = u.name
	}
	return strings.Join(names, ", ")
}

// parseScaled reads "digits[.digits][blanks][unit]" exactly, rounding down to a whole result.
func parseScaled(s string, units []unit, without int64) (*big.Int, error) {
	whole := leadingDigits(s)
	rest := s[len(whole):]
	fraction := ""
	if strings.HasPrefix(rest, ".") {
		fraction = leadingDigits(rest[1:])
		rest = rest[1+len(fraction):]
		if fraction == "" {
			return nil, bad("no digits after the point")
		}
	}
	if whole == "" || len(whole)+len(fraction) > 40 {
		return nil, bad("not a number")
	}
	factor := without
	if name := strings.TrimLeft(rest, " \t"); name != "" {
		i := slices.IndexFunc(units, func(u unit) bool { return strings.EqualFold(u.name, name) })
		if i < 0 {
			return nil, bad("no such unit")
		}
		factor = units[i].factor
	}
	n, ok := new(big.Int).SetString(whole+fraction, 10)
	if !ok {
		return nil, bad("not a number")
	}
	n.Mul(n, big.NewInt(factor))
	return n.Quo(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(len(fraction))), nil)), nil
}

func leadingDigits(s string) string {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return s[:n]
}

// parsePercent reads "N%".
func parsePercent(s string) (uint64, error) {
	digits, ok := strings.CutSuffix(s, "%")
	if !ok {
		return 0, bad("%s has no %% at its end", quoted(s))
	}
	return parseUnsigned(digits, 0, math.MaxInt32)
}

// splitList cuts a value at commas and blanks and returns the elements with their places. Empty elements fall out.
func splitList(s string) []token {
	var out []token
	for at := 0; at < len(s); {
		if s[at] == ',' || isBlank(s[at]) {
			at++
			continue
		}
		end := run(s, at, ",")
		out = append(out, token{s[at:end], at, end, end})
		at = end
	}
	return out
}

// within puts an error about an element at the element's place in the whole value.
func within(t token, err error) error {
	if err == nil {
		return nil
	}
	out := &badValue{from: t.from, width: t.to - t.from, text: err.Error()}
	if b, ok := errors.AsType[*badValue](err); ok {
		out.suggestion, out.lacking = b.suggestion, b.lacking
		if b.width > 0 {
			out.from, out.width = t.from+b.from, b.width
		}
	}
	return out
}

package conf

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

//go:generate go test . -run ^TestManualPage$ -update

// The manual page is made from the table, so that it cannot say anything else than the parser does.
func TestManualPage(t *testing.T) {
	head, err := os.ReadFile("testdata/man-head.md")
	if err != nil {
		t.Fatal(err)
	}
	table()
	var b strings.Builder
	b.Write(head)
	manSection(&b, "CONFIG SETUP", "Keywords of the section `config setup`.", setupKeywords)
	manSection(&b, "CONN", "Keywords of `conn` sections.", connKeywords)
	manSection(&b, "CONN: ENDS", "Keywords of `conn` sections that take `left` or `right` before them.", endKeywords)
	b.WriteString(`DIFFERENCES FROM LIBRESWAN
--------------------------

- Accepted here, an error there: a comment of one word after a value, comments after the first line of a section, lines that end with CR LF, a byte order mark,
  ` + "`listen-tcp=`" + ` with ports, ranges of addresses in ` + "`leftsubnet=`" + `.
- ` + "`rightikeport=`" + ` is also where TCP goes, unless ` + "`tcp-remoteport=`" + ` is written; there it is 4500 then. A connection with a port of its own is met on that port alone.
- An error in one conn does not keep the others from loading.
- ` + "`authby=`" + ` must be written: the default there is signatures, which ikegod does not have yet.
- Relative patterns of ` + "`include`" + ` are looked for beside the including file first.

SEE ALSO
--------

ipsec.secrets(5), ikegod(8), ikectl(1)
`)
	compareGolden(t, "../docs/man/ipsec.conf.5.md", b.String())
}

func manSection(b *strings.Builder, title, intro string, rows []keyword) {
	fmt.Fprintf(b, "%s\n%s\n\n%s\n\n| keyword | value | default | state | meaning |\n|---|---|---|---|---|\n", title, strings.Repeat("-", len(title)), intro)
	for i := range rows {
		k := &rows[i]
		name := k.name
		if k.sided && k.name != hostKeyword {
			name = "left" + k.name
		}
		if k.alias != "" {
			c := table().canonical(k)
			fmt.Fprintf(b, "| %s | | | %s | %s |\n", name, c.state, cell(k.doc))
			continue
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", name, cell(manValue(k)), cell(k.def), k.state, cell(manMeaning(k)))
	}
	b.WriteString("\n")
}

func manValue(k *keyword) string {
	switch {
	case k.state == Obsolete || k.state == CommandLine:
		return ""
	case k.kind == kindEnum:
		return strings.Join(k.words, ", ")
	case k.kind == kindNumber:
		return fmt.Sprintf("%d to %d", k.min, k.max)
	case k.kind == kindSize:
		return fmt.Sprintf("%d to %d, scaled", k.min, k.max)
	case k.kind == kindDuration && k.min > 1e6 && k.max > 0:
		return fmt.Sprintf("time, %v to %v", time.Duration(k.min), time.Duration(k.max))
	}
	return k.kind.String()
}

func manMeaning(k *keyword) string {
	text := k.doc
	harmless := slices.DeleteFunc(slices.Clone(k.harmless), func(s string) bool { return s == "" })
	if k.state != Implemented && len(harmless) > 0 {
		text += "; harmless: " + strings.Join(harmless, ", ")
	}
	if k.why != "" && text != "" {
		text += ". "
	}
	if k.why != "" {
		text += strings.ToUpper(k.why[:1]) + k.why[1:]
	}
	return text
}

// cell escapes what would end a cell or be taken for markup.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`, "_", `\_`).Replace(s)
}

package conf

import (
	"errors"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/ike/policy"
)

// mapFiles are files in memory.
type mapFiles map[string]string

func (m mapFiles) read(name string) ([]byte, error) {
	if text, ok := m[name]; ok {
		return []byte(text), nil
	}
	return nil, errors.New("no such file or directory")
}

func (m mapFiles) glob(pattern string) ([]string, error) {
	var out []string
	for name := range m {
		ok, err := path.Match(pattern, name)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// compileText compiles one file in memory.
func compileText(text string) (*policy.Set, Diagnostics) {
	c, _ := load("ipsec.conf", Options{}, mapFiles{"ipsec.conf": text})
	return c.Compile()
}

// good is a connection that loads. Its lines begin in column 0: a test adds the section before and more keywords after.
const good = `
	left=192.1.2.45
	right=192.1.2.23
	authby=secret
	auto=add
`

// one compiles good with more lines in it, and config setup before it.
func one(t *testing.T, more string) (*policy.Connection, Diagnostics) {
	t.Helper()
	set, ds := compileText("conn a" + good + more)
	if set == nil {
		t.Fatalf("fatal: %v", ds)
	}
	if len(set.Connections) == 0 {
		return nil, ds
	}
	return set.Connections[0], ds
}

// mustOne is one without any diagnostic but notes.
func mustOne(t *testing.T, more string) *policy.Connection {
	t.Helper()
	c, ds := one(t, more)
	if c == nil || len(ds.AtLeast(Warning)) > 0 {
		t.Fatalf("%q: %v", more, ds)
	}
	return c
}

// find returns the diagnostics whose line holds all of the pieces.
func find(ds Diagnostics, pieces ...string) Diagnostics {
	var out Diagnostics
	for _, d := range ds {
		all := true
		for _, p := range pieces {
			all = all && strings.Contains(d.String(), p)
		}
		if all {
			out = append(out, d)
		}
	}
	return out
}

// entriesOf reads a file and lists what it understood: "name: word=value" for conns, "setup: word=value".
func entriesOf(fs mapFiles, name string) ([]string, Diagnostics) {
	c, ds := load(name, Options{}, fs)
	var out []string
	for _, e := range c.setup {
		out = append(out, "setup: "+e.key.label(e.side)+"="+e.value)
	}
	for _, list := range [][]*section{c.defaults, c.conns} {
		for _, s := range list {
			out = append(out, s.name+":")
			for _, e := range s.entries {
				out[len(out)-1] += " " + e.label() + "=[" + e.value + "]"
			}
		}
	}
	return out, ds
}

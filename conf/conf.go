// Package conf reads ipsec.conf and ipsec.secrets: lexing, parsing with positions, the schema of all keywords, checks, and compilation into
// ike/policy. What libreswan accepts means the same here; what is wrong is reported all at once, each with file, line and column.
//
// Which errors spoil what: an error inside a conn section leaves out that connection and those that take it in with also=; an error anywhere else
// (config setup, conn %default, a line outside every section, a file that cannot be read) is Fatal, and nothing of the configuration may be used.
package conf

import (
	"sync"

	"github.com/ikegod/ikegod/ike/policy"
)

// Options steers Load. The zero value is right for a daemon.
type Options struct {
	// Stdin is read for the path "-"; nil: the path "-" is an error.
	Stdin []byte
}

// Config is a configuration as it was read: sections and their keywords with positions. Its methods are safe for concurrent use.
type Config struct {
	lock     sync.Mutex // compiling parses each value once and keeps it
	setup    []*entry   // effective keywords of config setup
	defaults []*section // conn %default, in the order of reading
	conns    []*section // first of each name, in the order of reading
	byName   map[string]*section
	report   report // of loading
	name     string
}

// Load reads a configuration file and all that it includes. The Config is never nil; with Fatal diagnostics it must not be used for more than
// listing further errors by Compile. Diagnostics are complete only with those of Compile; Check gives both.
func Load(path string, o Options) (*Config, Diagnostics) {
	return load(path, o, osFiles{})
}

func load(path string, o Options, fs files) (*Config, Diagnostics) {
	l := newLoader(fs, o)
	l.loadMain(path)
	c := l.finish()
	c.name = path
	return c, c.report.sorted()
}

// Check reads and compiles a file and returns every diagnostic.
func Check(path string, o Options) Diagnostics {
	c, _ := Load(path, o)
	_, ds := c.Compile()
	return ds
}

// Names returns the names of all connections of the file, also those that are not loaded at start, in file order.
func (c *Config) Names() []string {
	names := make([]string, len(c.conns))
	for i, s := range c.conns {
		names[i] = s.name
	}
	return names
}

// Changes says what differs between two sets, by name, in file order.
type Changes struct {
	Added, Removed, Changed []string
	Setup                   bool // config setup differs
}

// Empty reports whether nothing differs.
func (c Changes) Empty() bool {
	return len(c.Added)+len(c.Removed)+len(c.Changed) == 0 && !c.Setup
}

// Diff compares two sets by name and policy.Connection.Hash. Positions do not count. Old may be nil.
func Diff(old, new *policy.Set) Changes {
	var ch Changes
	before := map[string]*policy.Connection{}
	if old != nil {
		for _, c := range old.Connections {
			before[c.Name] = c
		}
		ch.Setup = !old.Setup.Equal(new.Setup)
	}
	kept := map[string]bool{}
	for _, c := range new.Connections {
		kept[c.Name] = true
		switch b := before[c.Name]; {
		case b == nil:
			ch.Added = append(ch.Added, c.Name)
		case b.Hash() != c.Hash():
			ch.Changed = append(ch.Changed, c.Name)
		}
	}
	if old != nil {
		for _, c := range old.Connections {
			if !kept[c.Name] {
				ch.Removed = append(ch.Removed, c.Name)
			}
		}
	}
	return ch
}

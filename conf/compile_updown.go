package conf

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ikegod/ikegod/ike/policy"
)

// builtIn are the values of leftupdown= that ask for nothing but what the datapaths do themselves: the routes and source addresses of libreswan's own script, or nothing.
var builtIn = []string{"", "%disabled", "ipsec _updown", "ipsec _updown.xfrm"}

// updown reads leftupdown= and rightupdown=.
func (b *build) updown(c *policy.Connection) {
	for _, end := range []struct {
		end  *policy.End
		side side
	}{{&c.Left, left}, {&c.Right, right}} {
		e := b.get("updown", end.side)
		if e == nil {
			continue
		}
		script := strings.TrimSpace(e.value)
		if builtInScript(script) {
			continue
		}
		if strings.ContainsRune(script, 0) {
			b.refuseEntry(e, e.word+"= has an octet of value zero", "remove it")
			continue
		}
		end.end.Updown = script
		if why := b.notRunnable(script); why != "" {
			b.warn(e, Warning, fmt.Sprintf("%s=%s: %s; if it is this host's end no Child SA of the connection comes up", e.word, printable(e.value), why),
				`write the path of a script that can be run, or "" for none`)
		}
	}
}

func builtInScript(script string) bool {
	for _, s := range builtIn {
		if strings.EqualFold(script, s) {
			return true
		}
	}
	return false
}

// notRunnable says why the first word of a command cannot be run, if it is the path of a file; what a shell has to read is left to the shell.
func (b *build) notRunnable(script string) string {
	name, _, _ := strings.Cut(strings.ReplaceAll(script, "\t", " "), " ")
	if !filepath.IsAbs(name) || strings.ContainsAny(name, "\"'`$\\;&|<>()*?[]{}~#!=") {
		return ""
	}
	why, known := b.scripts[name]
	if known {
		return why
	}
	switch info, err := os.Stat(name); {
	case os.IsNotExist(err):
		why = name + " does not exist"
	case err != nil:
		why = err.Error()
	case info.IsDir():
		why = name + " is a directory"
	case info.Mode().Perm()&0o111 == 0:
		why = name + " is not executable"
	}
	if b.scripts == nil {
		b.scripts = map[string]string{}
	}
	b.scripts[name] = why
	return why
}

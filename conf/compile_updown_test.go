package conf

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestUpdown: the command goes to the end that it is written for, as it is written; values that ask for what is built in are no script.
func TestUpdown(t *testing.T) {
	for value, want := range map[string]string{
		"": "", "%disabled": "", "%Disabled": "", "ipsec _updown": "", " ipsec _updown.xfrm ": "",
		"ipsec _updown --debug": "ipsec _updown --debug", "/bin/sh -c true": "/bin/sh -c true", "a='b c'; $d": "a='b c'; $d",
	} {
		c, ds := one(t, "\trightupdown=\""+value+"\"\n")
		if c.Right.Updown != want || c.Left.Updown != "" || len(ds.AtLeast(Warning)) > 0 {
			t.Errorf("%q: left %q, right %q, %v", value, c.Left.Updown, c.Right.Updown, ds)
		}
	}
	a, _ := one(t, "\tleftupdown=/bin/true\n")
	b, _ := one(t, "\tleftupdown=/bin/false\n")
	if a.Hash() == b.Hash() {
		t.Error("a reload would not notice another script")
	}
}

// TestUpdownCannotRun: a file that cannot be run is a warning, which names the place; the connection loads.
func TestUpdownCannotRun(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for script, why := range map[string]string{
		dir + "/none": " does not exist", dir + "/none --arg": " does not exist", plain: " is not executable", dir: " is a directory", plain + "/x": "not a directory",
	} {
		_, ds := one(t, "\tleftupdown=\""+script+"\"\n")
		if found := find(ds, why); len(found) != 1 || found[0].Severity != Warning || found[0].Line == 0 || found[0].Suggestion == "" {
			t.Errorf("%s: %v", script, ds)
		}
	}
	if err := os.Chmod(plain, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{plain, plain + "\tx", dir + "/none$x", "none"} {
		if _, ds := one(t, "\tleftupdown=\""+script+"\"\n"); len(ds.AtLeast(Warning)) > 0 {
			t.Errorf("%s: %v", script, ds)
		}
	}
	text := ""
	for i := range 3 {
		text += fmt.Sprintf("conn c%d%s\talso=x\n", i, good)
	}
	_, ds := compileText(text + "conn x\n\tleftupdown=" + dir + "/none\n")
	if n := len(find(ds, "does not exist")); n != 1 {
		t.Errorf("said %d times for one line: %v", n, ds)
	}
}

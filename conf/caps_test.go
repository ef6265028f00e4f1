package conf

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each cap ends the loading with a fatal error that names it.
func TestCaps(t *testing.T) {
	fs := mapFiles{"/a": "include /b*\nconn a\n\tauto=add\n", "/b1": "conn b\n", "/b2": "conn c\n\tleftcert=a-long-line\n"}
	for _, tt := range []struct {
		name string
		cap  func(*caps)
		want string
	}{
		{"files", func(c *caps) { c.files = 2 }, "/a:1:9: error: more than 2 files"},
		{"lines", func(c *caps) { c.lines = 3 }, "/b2:2:1: error: more than 3 lines"},
		{"octets", func(c *caps) { c.octets = 40 }, "/b2: error: all files together have more than 40 octets"},
		{"line length", func(c *caps) { c.lineLength = 20 }, "/b2:2:1: error: the line is longer than 20 octets"},
		{"none", func(*caps) {}, ""},
	} {
		l := newLoader(fs, Options{})
		tt.cap(&l.caps)
		l.loadMain("/a")
		ds := l.finish().report.sorted()
		if tt.want == "" && len(ds) > 0 || tt.want != "" && (len(ds) != 1 || !ds.Fatal() || !strings.HasPrefix(ds[0].String(), tt.want)) {
			t.Errorf("%s: %v, expected %q", tt.name, ds, tt.want)
		}
	}
}

func TestCapsOfSecrets(t *testing.T) {
	fs := mapFiles{"/a": "include /b*\n: PSK \"0123456789\"\n", "/b1": ": PSK \"0123456789\"\n", "/b2": ": PSK \"0123456789\"\n"}
	for _, tt := range []struct {
		name string
		cap  func(*caps)
		want string
	}{
		{"files", func(c *caps) { c.files = 2 }, "/a:1:1: error: more than 2 files"},
		{"lines", func(c *caps) { c.lines = 3 }, "/b2:1: error: the files of secrets are too long"},
		{"octets", func(c *caps) { c.octets = 60 }, "/b2:1: error: the files of secrets are too long"},
	} {
		l := &secretsLoader{fs: fs, caps: defaultCaps}
		tt.cap(&l.caps)
		_, ds := l.load("/a")
		if len(find(ds, tt.want)) != 1 {
			t.Errorf("%s: %v, expected %q", tt.name, ds, tt.want)
		}
	}
}

// A file that is too large is not read, however it is given.
func TestFileSize(t *testing.T) {
	name := filepath.Join(t.TempDir(), "large")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(maxFileSize + 1); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ds := Load(name, Options{}); !ds.Fatal() || len(find(ds, "more than 67108864 octets")) != 1 {
		t.Errorf("%v", ds)
	}
	if _, ds := LoadSecrets(name); !ds.Fatal() || len(find(ds, "more than 67108864 octets")) != 1 {
		t.Errorf("%v", ds)
	}
}

// Real files: includes are found beside the including file, hidden ones are not matched by a star, /dev/null is an empty configuration.
func TestRealFiles(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "a.conf"), "conn a"+good, 0o644)
	writeFile(t, filepath.Join(dir, ".hidden.conf"), "junk\n", 0o644)
	writeFile(t, filepath.Join(dir, "b[1].conf"), "conn b"+good, 0o644)
	name := writeFile(t, filepath.Join(dir, "main"), "include *.conf\ninclude .hid*\ninclude [!a]*.conf\n", 0o644)
	c, ds := Load(name, Options{})
	if got := strings.Join(c.Names(), " "); got != "a b" {
		t.Errorf("connections %q", got)
	}
	if len(find(ds, ".hidden.conf:1:1: error")) != 1 {
		t.Errorf("a hidden file that is named is not read: %v", ds)
	}
	if _, ds := Load(os.DevNull, Options{}); len(ds) > 0 {
		t.Errorf("%v", ds)
	}
	for name, want := range map[string]string{filepath.Join(dir, "nowhere"): "no such file", dir: "it is a directory", "-": "no such file"} {
		if ds := Check(name, Options{}); !ds.Fatal() || len(find(ds, want)) != 1 {
			t.Errorf("%s: %v", name, ds)
		}
	}
	if c, ds := Load("-", Options{Stdin: []byte("conn x" + good)}); len(ds) > 0 || strings.Join(c.Names(), "") != "x" {
		t.Errorf("%v", ds)
	}
}

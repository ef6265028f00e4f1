package conf

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// placed reports whether every diagnostic is at a place that exists in its file.
func placed(t *testing.T, fs mapFiles, ds Diagnostics) {
	t.Helper()
	for _, d := range ds {
		text, ok := fs[d.File]
		if !ok {
			t.Fatalf("%v is about a file that was not read", d)
		}
		if d.Line == 0 {
			continue
		}
		lines := strings.Split(text, "\n")
		if d.Line > len(lines) || d.Col > len(lines[d.Line-1])+1 || d.Col < 0 || d.Width < 0 {
			t.Fatalf("%+v is outside of its file", d)
		}
		if d.Source != "" && !strings.Contains(lines[d.Line-1], d.Source) && !strings.HasPrefix(d.Source, strings.TrimPrefix(lines[d.Line-1], "\xef\xbb\xbf")) {
			t.Fatalf("%+v does not show its line %q", d, lines[d.Line-1])
		}
		if strings.ContainsFunc(d.Long(), func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0x7f }) {
			t.Fatalf("a control character reaches the terminal: %q", d.Long())
		}
	}
}

// Whatever a file holds: no panic, diagnostics inside of the file, the same result each time.
func FuzzConf(f *testing.F) {
	names, err := filepath.Glob("testdata/*.conf")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), "conn included\n\tauto=add\n")
	}
	f.Add("conn a"+good+"\talso=included\ninclude other", "conn included\n\talso=a\n")
	f.Fuzz(func(t *testing.T, text, other string) {
		if len(text)+len(other) > 1<<16 {
			return
		}
		fs := mapFiles{"ipsec.conf": text, "other": other}
		c, _ := load("ipsec.conf", Options{}, fs)
		set, ds := c.Compile()
		placed(t, fs, ds)
		if (set == nil) != ds.Fatal() {
			t.Fatalf("the set is %v, fatal is %v", set, ds.Fatal())
		}
		if _, err := json.Marshal(ds); err != nil {
			t.Fatal(err)
		}
		again, _ := load("ipsec.conf", Options{}, fs)
		set2, ds2 := again.Compile()
		if !reflect.DeepEqual(ds, ds2) {
			t.Fatalf("a second load says\n%v\nafter\n%v", ds2, ds)
		}
		if set == nil {
			return
		}
		if ch := Diff(set, set2); !ch.Empty() {
			t.Fatalf("a second load differs: %+v", ch)
		}
		for _, p := range set.Connections {
			if p.Name == "" || len(p.Children) == 0 || len(p.IKE) == 0 || p.Retransmit.Timeout <= 0 || p.Lifetimes.IKE <= 0 {
				t.Fatalf("connection %+v is incomplete", p)
			}
			if one, ds := c.Connection(p.Name); one == nil || one.Hash() != p.Hash() {
				t.Fatalf("connection %q alone: %v", p.Name, ds)
			}
		}
	})
}

// Whatever the value of a keyword: it is taken, or every refusal has a place inside of it.
func FuzzValue(f *testing.F) {
	for i, v := range []string{"yes", "30s", "1.5 h", "10.0.0.0/8,10.1.0.0/16/tcp/80", "aes256-sha2_512;dh19,aes_gcm128-sha2", "@#0102", "4500,443", "%any", "udp/%opaque", "tcp/1-2", "secret,psk", "1KiB", "0x10"} {
		f.Add(uint16(i*17), v)
	}
	all := rows()
	f.Fuzz(func(t *testing.T, n uint16, value string) {
		k := &all[int(n)%len(all)]
		if len(value) > 1<<14 || k.alias != "" {
			return
		}
		_, err := parseValue(k, value)
		if err == nil {
			return
		}
		v, ok := errors.AsType[*badValue](err)
		if !ok {
			t.Fatalf("%s=%q: the error %v has no place", k.name, value, err)
		}
		if v.from < 0 || v.width < 0 || v.from+v.width > len(value) || v.text == "" {
			t.Fatalf("%s=%q: the place of %+v is outside", k.name, value, v)
		}
	})
}

// Whatever a file holds: no panic, diagnostics inside of the file, never a word of a secret in them.
func FuzzSecrets(f *testing.F) {
	for _, s := range []string{
		"@west @east : PSK \"for-tests-only\"\n", ": PSK 0x30_31\n\t# c\n: RSA {\n\tModulus: 1\n\t}\n", "include other\n: PSK 0sMDEyMzQ1Njc4OQ==\n", "%any: PSK 0ttext\n",
		"@a : XAUTH 'x'\r\n@b PSK `y`\n",
	} {
		f.Add(s, ": PSK \"other secret\"\n")
	}
	f.Fuzz(func(t *testing.T, text, other string) {
		if len(text)+len(other) > 1<<16 {
			return
		}
		fs := mapFiles{"s": text, "other": other}
		got, ds := loadSecrets("s", fs)
		placed(t, fs, ds)
		var messages bytes.Buffer
		if err := ds.Print(&messages); err != nil {
			t.Fatal(err)
		}
		for _, s := range got {
			if len(s.Key) == 0 {
				t.Fatalf("an empty key at %s", s.Position)
			}
			if len(s.Key) >= 12 && bytes.Contains(messages.Bytes(), s.Key) && !strings.Contains(allTexts, string(s.Key)) {
				t.Fatalf("the messages hold the key %q:\n%s", s.Key, messages.Bytes())
			}
		}
		again, ds2 := loadSecrets("s", fs)
		if !reflect.DeepEqual(ds, ds2) || !reflect.DeepEqual(got, again) {
			t.Fatal("a second load differs")
		}
	})
}

// allTexts are words of the messages themselves, which a fuzzer may happen to choose for a key.
const allTexts = "the secrets in it are not used: the record is left out the word after the colon is not a kind of secret"

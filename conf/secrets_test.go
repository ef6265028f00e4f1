package conf

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/auth"
)

// show prints what was read, keys included: a test may.
func show(secrets []auth.Secret) string {
	var out []string
	for _, s := range secrets {
		var ids []string
		for _, id := range s.IDs {
			ids = append(ids, id.String())
		}
		out = append(out, fmt.Sprintf("%s[%s]=%s", s.Position, strings.Join(ids, " "), s.Key))
	}
	return strings.Join(out, "\n")
}

func TestSecrets(t *testing.T) {
	tests := []struct{ name, text, want, diag string }{
		{"plain", "@west @east : PSK \"0123456789\"\n", "s:1[@west @east]=0123456789", ""},
		{"colon at the end of an id", "@west @east: PSK \"0123456789\"\n", "s:1[@west @east]=0123456789", ""},
		{"colon before the kind", "@west :PSK \"0123456789\"\n", "s:1[@west]=0123456789", ""},
		{"for everybody", ": psk \"0123456789\"\n", "s:1[]=0123456789", ""},
		{"addresses", "192.1.2.45 192.1.2.23 : PSK \"0123456789\"\n", "s:1[192.1.2.45 192.1.2.23]=0123456789", ""},
		{"IPv6", "2001:db8::1 : PSK \"0123456789\"\n", "s:1[2001:db8::1]=0123456789", ""},
		{"any", "%any @east: PSK \"0123456789\"\n0.0.0.0 %any6 : PSK \"0123456789\"\n", "s:1[%any @east]=0123456789\ns:2[%any %any]=0123456789", ""},
		{"distinguished names", "\"C=CA, O=x, CN=west\" '/C=CA/CN=east' C=CA,CN=north: PSK \"0123456789\"\n", "s:1[C=CA, O=x, CN=west C=CA, CN=east C=CA, CN=north]=0123456789", ""},
		{"key ids", "@#0102 @[router-7] user@road.example.com : PSK \"0123456789\"\n", "s:1[@#0102 @[router-7] user@road.example.com]=0123456789", ""},
		{"continuation", "@west\n\t@east\n\n# c\n : PSK\n\t\"0123456789\"\n: PSK \"abcdefghi\"\n", "s:1[@west @east]=0123456789\ns:7[]=abcdefghi", ""},
		{"comments", "# c\n: PSK \"0123 # 6789\" # c\n\t# c\n", "s:2[]=0123 # 6789", ""},
		{"hash in a word", "@a#b : PSK \"0123456789\"\n", "s:1[@a#b]=0123456789", ""},
		{"other quotes", ": PSK '012\"45678'\n: PSK `a'b\"cdefg`\n", "s:1[]=012\"45678\ns:2[]=a'b\"cdefg", ""},
		{"hexadecimal", ": PSK 0x3031_32333435_36373839\n", "s:1[]=0123456789", ""},
		{"base 64", ": PSK 0sMDEyMzQ1_Njc4OQ==\n: PSK 0SMDEyMzQ1Njc4OQ\n", "s:1[]=0123456789\ns:2[]=0123456789", ""},
		{"text to the end of the line", ": PSK 0tthe whole # line \n", "s:1[]=the whole # line", ""},
		{"CR LF", ": PSK \"0123456789\"\r\n: PSK 0tabcdefgh\r\n", "s:1[]=0123456789\ns:2[]=abcdefgh", ""},
		{"no newline at the end", ": PSK \"0123456789\"", "s:1[]=0123456789", ""},
		{"empty", "", "", ""},
		{"short", ": PSK \"0123456\"\n", "s:1[]=0123456", "s:1:7: warning: the secret is weak"},
		{"short in hexadecimal", ": PSK 0x30\n", "s:1[]=0", "s:1:7: warning: the secret is weak"},
		{"nothing in it", ": PSK \"\"\n", "", "s:1:7: error: the secret is empty"},
		{"no quotes", ": PSK hunter2hunter2\n", "", "s:1:7: error: the secret is neither in quotes nor begins with 0x"},
		{"odd hexadecimal", ": PSK 0x303\n", "", "s:1:7: error: the secret is not an even number of hexadecimal digits"},
		{"no hexadecimal", ": PSK 0x30zz\n", "", "s:1:7: error: the secret is not an even number"},
		{"no base 64", ": PSK 0s****\n", "", "s:1:7: error: the secret is not base 64"},
		{"open quote", ": PSK \"hunter2\n: PSK \"0123456789\"\n", "s:2[]=0123456789", "s:1:7: error: the quote is not closed on this line"},
		{"text behind the quote", ": PSK \"hunter2\"hunter2\n", "", "s:1:16: error: there is no blank after the closing quote"},
		{"two secrets", ": PSK \"hunter2hunter2\" hunter2\n", "", "s:1:24: error: more text follows the secret"},
		{"no colon", "@west @east PSK \"hunter2hunter2\"\n", "", "s:1:1: error: a record without a colon"},
		{"no kind", "@west @east: \"hunter2hunter2\"\n", "", "s:1:14: error: the word after the colon is not a kind"},
		{"nothing after the colon", "@west :\n", "", "s:1:7: error: nothing follows the colon"},
		{"no secret", "@west : PSK\n", "", "s:1:9: error: PSK without a secret"},
		{"no identity", "west : PSK \"hunter2hunter2\"\n", "", "s:1:1: error: this is not an identity"},
		{"other records load", "west : PSK \"hunter2hunter2\"\n: PSK \"0123456789\"\n", "s:2[]=0123456789", "s:1:1: error: this is not an identity"},
		{"RSA", ": RSA {\n\t# old\n\tModulus: 0xhunter2\n\t}\n: PSK \"0123456789\"\n", "s:5[]=0123456789", "s:1:3: warning: a record of kind RSA is left out"},
		{"identities of another kind", "C=ca, O=x, CN=east %any : RSA /etc/ipsec.d/private/west.key \"hunter2\"\n", "", "s:1:27: warning: a record of kind RSA is left out"},
		{"XAUTH", "@west : XAUTH \"hunter2\"\n", "", "s:1:9: warning: a record of kind XAUTH is left out"},
		{"PPKS", "@west : PPKS \"id\" \"hunter2\"\n", "", "s:1:9: warning: a record of kind PPKS is left out"},
		{"PIN", ": PIN %smartcard hunter2\n", "", "s:1:3: warning: a record of kind PIN is left out"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ds := loadSecrets("s", mapFiles{"s": tt.text})
			if show(got) != tt.want {
				t.Errorf("read %q\nexpected %q", show(got), tt.want)
			}
			if tt.diag == "" && len(ds) > 0 || tt.diag != "" && (len(ds) != 1 || !strings.HasPrefix(ds[0].String(), tt.diag)) {
				t.Errorf("diagnostics %v, expected %q", ds, tt.diag)
			}
			for _, d := range ds {
				if strings.Contains(d.Long(), "hunter2") || strings.Contains(d.Long(), "0123") || d.Source != "" {
					t.Errorf("the message shows text of the file: %s", d.Long())
				}
			}
		})
	}
}

func TestSecretsInclude(t *testing.T) {
	fs := mapFiles{
		"/etc/ipsec.secrets":     "include ipsec.d/*.secrets\nINCLUDE nothing*\ninclude nothing\n: PSK \"main secret\"\n",
		"/etc/ipsec.d/b.secrets": ": PSK \"secret of b\"\n",
		"/etc/ipsec.d/a.secrets": "include ../ipsec.secrets\n@a : PSK \"secret of a\"\n",
	}
	got, ds := loadSecrets("/etc/ipsec.secrets", fs)
	want := "/etc/ipsec.d/a.secrets:2[@a]=secret of a\n/etc/ipsec.d/b.secrets:1[]=secret of b\n/etc/ipsec.secrets:4[]=main secret"
	if show(got) != want {
		t.Errorf("read %q", show(got))
	}
	if len(ds) != 2 || len(find(ds, "ipsec.secrets:3:1: warning: there is no such file")) != 1 || len(find(ds, "a.secrets:1:1: warning: the file includes itself")) != 1 {
		t.Errorf("%v", ds)
	}
	for _, tt := range []struct{ text, want string }{
		{"include\n", "include takes one file name"},
		{"include a b\n", "include takes one file name"},
		{"include [x\n", "the pattern is malformed"},
	} {
		if _, ds := loadSecrets("s", mapFiles{"s": tt.text}); len(find(ds, tt.want)) != 1 {
			t.Errorf("%q: %v", tt.text, ds)
		}
	}
}

func writeFile(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
	return name
}

// Files that others can get at are refused, with the command that mends it.
func TestSecretsArePrivate(t *testing.T) {
	dir := t.TempDir()
	text := ": PSK \"0123456789\"\n"
	for _, tt := range []struct {
		mode os.FileMode
		ok   bool
	}{{0o600, true}, {0o400, true}, {0o700, true}, {0o640, false}, {0o604, false}, {0o620, false}, {0o602, false}, {0o644, false}, {0o610, false}} {
		name := writeFile(t, filepath.Join(dir, fmt.Sprintf("s%o", tt.mode)), text, tt.mode)
		got, ds := LoadSecrets(name)
		if (len(got) == 1) != tt.ok || ds.Fatal() == tt.ok {
			t.Errorf("mode %o: %d secrets, %v", tt.mode, len(got), ds)
		}
		if !tt.ok && (!strings.Contains(ds.Error(), "type: chmod 600 "+name) || !strings.Contains(ds.Error(), fmt.Sprintf("mode %04o", tt.mode))) {
			t.Errorf("mode %o: %v", tt.mode, ds)
		}
	}
	odd := writeFile(t, filepath.Join(dir, "it's $(here)"), text, 0o644)
	if _, ds := LoadSecrets(odd); !strings.Contains(ds.Error(), `'\''s $(here)'`) {
		t.Errorf("the command cannot be typed: %v", ds)
	}
	for name, want := range map[string]string{filepath.Join(dir, "nowhere"): "no such file", dir: "it is a directory"} {
		if got, ds := LoadSecrets(name); len(got) > 0 || !ds.Fatal() || !strings.Contains(ds.Error(), want) {
			t.Errorf("%s: %v", name, ds)
		}
	}
}

// An included file that others can read is left out; the rest is used.
func TestIncludedSecretsArePrivate(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "open.secrets"), ": PSK \"0123456789\"\n", 0o644)
	name := writeFile(t, filepath.Join(dir, "main"), "include *.secrets\n: PSK \"abcdefghij\"\n", 0o600)
	got, ds := LoadSecrets(name)
	if len(got) != 1 || ds.Fatal() || len(find(ds, "open.secrets", "type: chmod 600 ")) != 1 {
		t.Errorf("%d secrets, %v", len(got), ds)
	}
}

// The owner is root or the user of the process: stat information is made up, so that no root is needed.
func TestSecretsOwner(t *testing.T) {
	name := writeFile(t, filepath.Join(t.TempDir(), "s"), "", 0o600)
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		owner uint32
		us    int
		ok    bool
	}{{0, 0, true}, {0, 1000, true}, {1000, 1000, true}, {1000, 0, false}, {1001, 1000, false}} {
		err := checkPrivate("/etc/s", ownedBy{info, tt.owner}, tt.us)
		if (err == nil) != tt.ok {
			t.Errorf("owner %d, we are %d: %v", tt.owner, tt.us, err)
		}
		if err != nil && !strings.Contains(refusedFile("/etc/s", err).String(), "chown root /etc/s") {
			t.Errorf("%v", refusedFile("/etc/s", err))
		}
	}
}

type ownedBy struct {
	os.FileInfo
	owner uint32
}

func (o ownedBy) Sys() any { return &syscall.Stat_t{Uid: o.owner} }

// A pipe in place of a file is refused at once instead of waited for.
func TestPipesDoNotBlock(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan Diagnostics, 2)
	go func() {
		_, ds := LoadSecrets(name)
		done <- ds
		_, ds = Load(name, Options{})
		done <- ds
	}()
	for range 2 {
		select {
		case ds := <-done:
			if !ds.Fatal() || !strings.Contains(ds.Error(), "not a regular file") {
				t.Errorf("%v", ds)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("reading a pipe blocks")
		}
	}
}

// TestSecretsManualPage: the example of ipsec.secrets(5) is one.
func TestSecretsManualPage(t *testing.T) {
	page, err := os.ReadFile("../docs/man/ipsec.secrets.5.md")
	if err != nil {
		t.Fatal(err)
	}
	var example strings.Builder
	for line := range strings.Lines(string(page)) {
		if text, ok := strings.CutPrefix(line, "    "); ok {
			example.WriteString(text)
		}
	}
	got, ds := loadSecrets("/etc/ipsec.secrets", mapFiles{"/etc/ipsec.secrets": example.String()})
	if len(got) != 4 || len(ds) != 0 {
		t.Errorf("%d secrets, %v", len(got), ds)
	}
}

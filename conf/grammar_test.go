package conf

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The behaviours of LIBRESWAN.md 1.1 that were executed there. want is what is understood; diag a piece of each diagnostic, in order, after its
// severity. Where libreswan fails on something harmless, the file loads here: the comment says so.
func TestGrammar(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
		diag       []string
	}{
		{"indented section word", " config setup\n", nil, []string{"error 1:2 must stand in the first column"}},
		{"section words are case-sensitive", "Conn a\n\tauto=add\n", nil, []string{`error 1:1 "Conn" is not one of`}},
		{"blanks and tabs between config and setup", "config \t setup\n listen-udp=no\n", []string{"setup: listen-udp=no"}, nil},
		{"unindented keyword", "conn a\nauto=add\n", []string{"a: auto=[add]"}, []string{"error 2:1 stands in the first column"}},
		{"any indentation, blank lines inside", "conn a\n\n \tauto=add\n\n          esn=no\n", []string{"a: auto=[add] esn=[no]"}, nil},
		{"conn with an equals sign", "conn=a\n", nil, []string{"error 1:1 takes no equals sign"}},
		{"include inside a section", "conn a\n include foo\n", []string{"a:"}, []string{"error 2:2 must stand in the first column", "warning 2:10 there is no file"}},
		{"section words as values", "conn a\n leftcert=conn\n", []string{"a: leftcert=[conn]"}, nil},
		{"keywords in any case", "conn a\n AUTO=add\n LeftID=@a\n", []string{"a: auto=[add] leftid=[@a]"}, nil},
		{"left-id", "conn a\n left-id=@a\n RIGHT-subnet=1.0.0.0/8\n", []string{"a: leftid=[@a] rightsubnet=[1.0.0.0/8]"}, nil},
		{"blanks around the equals sign", "conn a\n leftid = @a\n rightid= @b\n", []string{"a: leftid=[@a] rightid=[@b]"}, nil},
		{"two equals signs", "conn a\n leftcert==b\n", []string{"a: leftcert=[=b]"}, nil},
		{"equals sign in the value", "conn a\n leftcert=b=c\n", []string{"a: leftcert=[b=c]"}, nil},
		{"empty value", "conn a\n leftcert=\n", []string{"a: leftcert=[]"}, nil},
		{"quotes", "conn a\n leftcert=\"x y\"\n", []string{"a: leftcert=[x y]"}, nil},
		{"empty quotes", "conn a\n leftcert=\"\"\n", []string{"a: leftcert=[]"}, nil},
		{"hash in quotes", "conn a\n leftcert=\"x # y\"\n", []string{"a: leftcert=[x # y]"}, nil},
		{"braces", "conn a\n leftcert={x y}\n", []string{"a: leftcert=[x y]"}, nil},
		{"braces are greedy", "conn a\n leftcert={x y} {z}\n", []string{"a: leftcert=[x y} {z]"}, nil},
		{"braces with more after them", "conn a\n leftcert={x}y\n", []string{"a: leftcert=[{x}y]"}, nil},
		{"open brace", "conn a\n leftcert={x\n", []string{"a: leftcert=[{x]"}, nil},
		{"quotes inside", "conn a\n leftcert=x\"y\"\n", []string{`a: leftcert=[x"y"]`}, nil},
		{"text after quotes", "conn a\n leftcert=\"abc\"def\n", []string{`a: leftcert=["abc"def]`}, nil},
		{"open quote", "conn a\n leftcert=\"unterminated\n", []string{`a: leftcert=["unterminated]`}, nil},
		{"quote with a blank inside a word", "conn a\n leftcert=x\"y z\"\n", []string{"a:"}, []string{`error 2:15 unexpected "z\"" after the value`}},
		{"trailing word", "conn a\n leftcert=x y\n", []string{"a:"}, []string{`error 2:13 unexpected "y" after the value`}},
		{"quoted section name", "conn \"a b\"\n auto=add\n", []string{"a b: auto=[add]"}, nil},
		{"braced section name", "conn {a b}\n auto=add\n", []string{"a b: auto=[add]"}, nil},
		{"two names", "conn a b\n auto=add\n", []string{"a: auto=[add]"}, []string{`error 1:8 unexpected "b" after the name`}},
		{"no name", "conn\n auto=add\n", nil, []string{"error 1:1 conn without a name"}},
		{"whole-line comments", "# one\n\t # two\nconn a\n #three\n auto=add\n#four\n esn=no\n", []string{"a: auto=[add] esn=[no]"}, nil},
		{"comment after a value", "conn a\n auto=add # c\n esn=no #c d\n", []string{"a: auto=[add] esn=[no]"}, nil},
		{"comment of one word after a value (libreswan: error)", "conn a\n auto=add #c\n", []string{"a: auto=[add]"}, nil},
		{"comment after a section (libreswan: error)", "config setup #x\nconn a #foo\n auto=add\n", []string{"a: auto=[add]"}, nil},
		{"hash inside a word", "conn a\n leftcert=b#c\n", []string{"a: leftcert=[b#c]"}, nil},
		{"hash at the start of a value", "conn a\n leftcert=#c\n", []string{"a: leftcert=[#c]"}, nil},
		{"hash after the blank behind the equals sign", "conn a\n leftcert= #c\n", []string{"a: leftcert=[#c]"}, []string{"warning 2:12 which is not a comment here"}},
		{"comment instead of a value (libreswan: error)", "conn a\n leftcert= # c\n", []string{"a: leftcert=[]"}, []string{"warning 2:12 has no value"}},
		{"comment at the end without newline (libreswan: error)", "conn a\n auto=add\n#foo", []string{"a: auto=[add]"}, nil},
		{"no continuation", "conn a\n leftcert=x\\\n esn=no\n", []string{`a: leftcert=[x\] esn=[no]`}, nil},
		{"CR LF (libreswan: error)", "conn a\r\n auto=add\r\n", []string{"a: auto=[add]"}, []string{"warning 1:7 CR LF"}},
		{"no final newline", "conn a\n auto=add", []string{"a: auto=[add]"}, nil},
		{"byte order mark (libreswan: error)", "\xef\xbb\xbfconn a\n auto=add\n", []string{"a: auto=[add]"}, nil},
		{"x- comments", "conn a\n x-foo=bar \"baz\n X_y\n auto=add\n", []string{"a: auto=[add]"}, []string{"note 2:2 is a comment", "note 3:2 is a comment"}},
		{"x- in column 0", "conn a\nx-foo=bar\n", []string{"a:"}, []string{"error 2:1 stands in the first column", "note 2:1 is a comment"}},
		{"text before the equals sign", "conn a\n auto bar=add\n", []string{"a: auto=[add]"}, []string{`warning 2:7 "bar" before the equals sign is ignored`}},
		{"quotes around a keyword", "conn a\n \"auto\"=add\n", []string{"a: auto=[add]"}, []string{"warning 2:2 a quote before a keyword", `warning 2:7 "\"" before the equals sign`}},
		{"keyword alone", "conn a\n auto\n esn=no\n", []string{"a: esn=[no]"}, []string{`error 2:2 keyword "auto" without an equals sign`}},
		{"version", "version 2.0\nconn a\n auto=add\n", []string{"a: auto=[add]"}, nil},
		{"version after a comment", "# c\n\nversion \"2\"\nconn a\n auto=add\n", []string{"a: auto=[add]"}, nil},
		{"version later", "conn a\n auto=add\nversion 2\n", []string{"a: auto=[add]"}, []string{"warning 3:1 version is ignored"}},
		{"first value wins in a conn", "conn a\n esn=no\n esn=yes\n", []string{"a: esn=[no]"}, []string{"warning 3:2 esn=yes is ignored: esn=no in ipsec.conf:2"}},
		{"aliases are the same keyword", "conn a\n salifetime=1h\n keylife=2h\n", []string{"a: ipsec-lifetime=[1h]"}, []string{"warning 3:2 keylife=2h is ignored: salifetime=1h"}},
		{"left and right are different keywords", "conn a\n leftid=@a\n rightid=@b\n", []string{"a: leftid=[@a] rightid=[@b]"}, nil},
		{"also may be repeated", "conn a\n also=b\n also=c\n", []string{"a: also=[b] also=[c]"}, nil},
		{"last value wins in config setup", "config setup\n listen-udp=no\nconfig setup\n uniqueids=no\n listen-udp=yes\n", []string{"setup: listen-udp=yes", "setup: uniqueids=no"}, []string{"warning 5:2 takes the place of listen-udp=no in ipsec.conf:2"}},
		{"first of two conns", "conn a\n esn=no\nconn a\n esn=yes\n", []string{"a: esn=[no]"}, []string{"warning 3:6 ipsec.conf:1 has one of the same name"}},
		{"several defaults", "conn %default\n esn=no\nconn a\nconn %default\n esn=yes\n", []string{"%default: esn=[no]", "%default: esn=[yes]", "a:"}, nil},
		{"unknown keyword", "conn a\n lefsubnet=x\n", []string{"a:"}, []string{`error 2:2 unknown keyword "lefsubnet"; did you mean leftsubnet?`}},
		{"unknown keyword in config setup", "config setup\n listentcp=yes\n", nil, []string{`error 2:2 unknown keyword "listentcp"; did you mean listen-tcp?`}},
		{"missing prefix", "conn a\n subnet=1.0.0.0/8\n", []string{"a:"}, []string{`error 2:2 keyword "subnet" needs left or right before it; write leftsubnet or rightsubnet`}},
		{"prefix too much", "conn a\n leftauto=add\n", []string{"a:"}, []string{`error 2:2 keyword "auto" takes no left before it; write auto`}},
		{"keyword of the other section", "conn a\n listen-tcp=yes\nconfig setup\n auto=add\n", []string{"a:"}, []string{"error 2:2 it belongs into config setup", "error 4:2 it belongs into a conn section"}},
		{"underscore for hyphen", "conn a\n replay_window=0\n", []string{"a:"}, []string{"error 2:2 did you mean replay-window?"}},
		{"command line only", "config setup\n rundir=/tmp\n", nil, []string{`error 2:2 keyword "rundir" cannot be set in a file`}},
		{"obsolete", "conn a\n keyingtries=3\n", []string{"a:"}, []string{`warning 2:2 obsolete keyword "keyingtries" is ignored`}},
		{"keyword outside of every section", " auto=add\n", nil, []string{"error 1:2 outside of every section"}},
		{"NUL", "conn a\n au\x00to=add\n esn=no\n", []string{"a:"}, []string{"error 2:4 the file is not text"}},
		{"equals sign alone", "conn a\n =x\n", []string{"a:"}, []string{"error 2:2 no keyword before the equals sign"}},
		{"line of junk", "\"foo\nconn a\n auto=add\n", []string{"a: auto=[add]"}, []string{"error 1:1 a line begins with"}},
		{"a section of strongSwan's", "ca foo\n cacert=x\nconn a\n auto=add\n", []string{"a: auto=[add]"}, []string{"error 1:1 sections of strongSwan's"}},
		{"setup without config", "setup\n listen-udp=no\n foo=1\n", []string{"setup: listen-udp=no"}, []string{"error 1:1 write config setup", "error 3:2 unknown keyword"}},
		{"empty file", "", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ds := entriesOf(mapFiles{"ipsec.conf": tt.text}, "ipsec.conf")
			if !slices.Equal(got, tt.want) {
				t.Errorf("understood %q\nexpected   %q", got, tt.want)
			}
			if len(ds) != len(tt.diag) {
				t.Fatalf("%d diagnostics, expected %d:\n%v", len(ds), len(tt.diag), ds)
			}
			for i, d := range ds {
				place, text, _ := strings.Cut(tt.diag[i], ":")
				col, text, _ := strings.Cut(text, " ")
				if fmt.Sprintf("%v %d:%d", d.Severity, d.Line, d.Col) != place+":"+col || !strings.Contains(d.String(), text) {
					t.Errorf("diagnostic %d is %q, expected %q", i, d, tt.diag[i])
				}
			}
		})
	}
}

// An error in a conn leaves out that conn; outside of conns it is fatal.
func TestScopeOfErrors(t *testing.T) {
	rest := "conn b" + good
	for _, tt := range []struct {
		name, text string
		fatal      bool
		loaded     []string
	}{
		{"unknown keyword in a conn", "conn a" + good + "\tfoo=1\n" + rest, false, []string{"b"}},
		{"trailing word in a conn", "conn a" + good + "\tesn=no yes\n" + rest, false, []string{"b"}},
		{"bad value in a conn", "conn a" + good + "\tesn=maybe\n" + rest, false, []string{"b"}},
		{"unindented keyword in a conn", "conn a" + good + "esn=no\n" + rest, false, []string{"b"}},
		{"missing also", "conn a" + good + "\talso=nowhere\n" + rest, false, []string{"b"}},
		{"broken also", "conn a" + good + "\talso=c\nconn c\n\tfoo=1\n" + rest, false, []string{"b"}},
		{"unknown section", "con a" + good + rest, true, nil},
		{"config setup", "config setup\n\tfoo=1\n" + rest, true, nil},
		{"bad value in config setup", "config setup\n\tlisten=here\n" + rest, true, nil},
		{"unknown keyword in %default", "conn %default\n\tfoo=1\n" + rest, true, nil},
		{"also in %default", "conn %default\n\talso=b\n" + rest, true, nil},
		{"outside of sections", "\tesn=no\n" + rest, true, nil},
		{"missing include", "include nowhere.conf\n" + rest, false, []string{"b"}},
		{"overridden bad value in %default", "conn %default\n\tesn=maybe\n" + rest + "\tesn=no\n", false, []string{"b"}},
		{"bad value in %default", "conn %default\n\tesn=maybe\n" + rest, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set, ds := compileText(tt.text)
			if ds.Fatal() != tt.fatal || (set == nil) != tt.fatal {
				t.Fatalf("fatal is %v, expected %v:\n%v", ds.Fatal(), tt.fatal, ds)
			}
			var loaded []string
			if set != nil {
				for _, c := range set.Connections {
					loaded = append(loaded, c.Name)
				}
			}
			if !slices.Equal(loaded, tt.loaded) {
				t.Errorf("loaded %q, expected %q:\n%v", loaded, tt.loaded, ds)
			}
		})
	}
}

func TestInclude(t *testing.T) {
	deep := mapFiles{"ipsec.conf": "include d1.conf\n"}
	for i := range 12 {
		deep[fmt.Sprintf("d%d.conf", i+1)] = fmt.Sprintf("conn c%d\ninclude d%d.conf\n", i+1, i+2)
	}
	tests := []struct {
		name string
		fs   mapFiles
		main string
		want []string
		diag []string
	}{
		{
			"pattern, sorted",
			mapFiles{"/etc/ipsec.conf": "include /etc/ipsec.d/*.conf\n", "/etc/ipsec.d/b.conf": "conn b\n esn=no\n", "/etc/ipsec.d/a.conf": "conn a\n"},
			"/etc/ipsec.conf",
			[]string{"a:", "b: esn=[no]"},
			nil,
		},
		{
			"beside the including file",
			mapFiles{"/etc/ipsec.conf": "include more.conf\n", "/etc/more.conf": "conn beside\n", "more.conf": "conn here\n"},
			"/etc/ipsec.conf",
			[]string{"beside:"},
			nil,
		},
		{
			"then in the working directory",
			mapFiles{"/etc/ipsec.conf": "include more.conf\n", "more.conf": "conn here\n"},
			"/etc/ipsec.conf",
			[]string{"here:"},
			nil,
		},
		{
			"a section does not go on behind an include",
			mapFiles{"/a": "conn a\n auto=add\ninclude /b\n esn=no\n", "/b": "conn b\n"},
			"/a",
			[]string{"a: auto=[add]", "b:"},
			[]string{"/a:4:2: error: keyword \"esn\" outside of every section"},
		},
		{"order of sections", mapFiles{"/a": "conn a\ninclude /b\nconn c\n", "/b": "conn b\n"}, "/a", []string{"a:", "b:", "c:"}, nil},
		{"missing, plain", mapFiles{"/a": "include /b\n"}, "/a", nil, []string{`/a:1:9: warning: there is no file "/b"`}},
		{"missing, with a star", mapFiles{"/a": "include /b*\n"}, "/a", nil, nil},
		{"malformed pattern", mapFiles{"/a": "include /[b\n"}, "/a", nil, []string{"/a:1:9: warning: \"/[b\" is not included"}},
		{"itself", mapFiles{"/a": "include /b\nconn a\n", "/b": "include /a\nconn b\n"}, "/a", []string{"b:", "a:"}, []string{`/b:1:9: warning: "/a" is not included: it includes itself`}},
		{"too deep", deep, "ipsec.conf", strings.Fields("c1: c2: c3: c4: c5: c6: c7: c8: c9:"), []string{`d9.conf:2:9: warning: "d10.conf" is not included: includes are nested deeper than 10`}},
		{"twice is not a loop", mapFiles{"/a": "include /b\ninclude /b\n", "/b": "config setup\n"}, "/a", nil, nil},
		{"quoted", mapFiles{"/a": "include \"/b c\"\n", "/b c": "conn b\n"}, "/a", []string{"b:"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ds := entriesOf(tt.fs, tt.main)
			if !slices.Equal(got, tt.want) {
				t.Errorf("understood %q, expected %q", got, tt.want)
			}
			if len(ds) != len(tt.diag) {
				t.Fatalf("diagnostics:\n%v\nexpected %q", ds, tt.diag)
			}
			for i, d := range ds {
				if !strings.HasPrefix(d.String(), tt.diag[i]) {
					t.Errorf("diagnostic %q, expected %q", d, tt.diag[i])
				}
			}
		})
	}
}

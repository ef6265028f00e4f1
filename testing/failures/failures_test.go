// Package failures holds the table of failures: what goes wrong between two gateways and in their configurations, and the words that an operator then sees at the
// default log level.
//
// The rule by which the words are judged. A side of a failure either can know what to change, or it cannot.
//
//   - One that can says so in one line: the keyword (or the secret), where it stands (file:line), and the value that is at fault. Whoever reads that line alone
//     can mend it. What else has to be there, such as what was offered, what was allowed and the first difference, is in the same line.
//   - One that cannot, because it never hears of the failure or sees only silence, has its reason in the table, and what it says instead, if anything.
//
// A row without both sides is no row.
package failures

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ikegod/ikegod/conf"
	"github.com/ikegod/ikegod/ike/auth"
	"github.com/ikegod/ikegod/testing/simnet"
)

// says is a line that must be there.
type says struct {
	setting string   // "ike=", "leftid=", "secret"
	at      string   // where it stands
	value   string   // the value at fault, as the line prints it
	also    []string // what else is in the same line
}

// unaware is why a side cannot name the cure.
type unaware struct {
	why  string
	says string // a phrase of what it says all the same; empty: it says nothing about it
}

// side is what one gateway says: exactly one of both.
type side struct {
	says    *says
	unaware *unaware
}

func tells(setting, at, value string, also ...string) side {
	return side{says: &says{setting, at, value, also}}
}

func cannot(why, phrase string) side { return side{unaware: &unaware{why, phrase}} }

// position is where a setting stands: in one of the files of the test, with a line.
var position = regexp.MustCompile(`^(west|east)\.(conf|secrets)(:[0-9]+)?$`)

// judge holds the lines of a side against what it must say.
func (s side) judge(t *testing.T, who string, lines []string) {
	t.Helper()
	for _, line := range lines {
		if strings.Contains(line, " in 0s") { // this says a number where it means a word
			t.Errorf("%s says %q", who, line)
		}
	}
	var phrases []string
	want := s.says
	switch {
	case (s.says == nil) == (s.unaware == nil):
		t.Fatalf("%s: the table must say what it tells, or why it cannot", who)
	case want != nil:
		if want.setting == "" || want.value == "" || !position.MatchString(want.at) {
			t.Fatalf("%s: %+v names no setting, position and value", who, *want)
		}
		phrases = append([]string{want.setting, want.at, want.value}, want.also...)
	case s.unaware.why == "":
		t.Fatalf("%s: why can it not name the cure?", who)
	case s.unaware.says == "":
		return
	default:
		phrases = []string{s.unaware.says}
	}
	for _, line := range lines {
		if holds(line, phrases) {
			return
		}
	}
	t.Errorf("%s: no line has all of %q; it says:\n\t%s", who, phrases, strings.Join(lines, "\n\t"))
}

func holds(line string, phrases []string) bool {
	for _, p := range phrases {
		if !strings.Contains(line, p) {
			return false
		}
	}
	return true
}

// base is the connection that works; a row changes it on one side or both.
const base = `conn west-east
	left=192.1.2.45
	leftid=@west
	leftsubnet=192.0.1.0/24
	right=192.1.2.23
	rightid=@east
	rightsubnet=192.0.2.0/24
	authby=secret
	ike=aes_gcm256-sha2_256-dh31
	esp=aes_gcm256
	enable-tcp=no
	auto=add
`

const secret = "@west @east : PSK \"the same on both sides\"\n"

// edit changes lines of a configuration: "ike=x" takes the place of the line with ike=, or comes behind the last; "-ike" takes it away.
func edit(text string, changes ...string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for _, c := range changes {
		word, _, _ := strings.Cut(strings.TrimPrefix(c, "-"), "=")
		at := -1
		for i, l := range lines {
			if strings.HasPrefix(strings.TrimSpace(l), word+"=") {
				at = i
			}
		}
		switch {
		case strings.HasPrefix(c, "-"):
			lines = append(lines[:at], lines[at+1:]...)
		case at < 0:
			lines = append(lines, "\t"+c)
		default:
			lines[at] = "\t" + c
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

// files are what the two gateways have on their disks, by name.
type files map[string]string

// gateway loads a node's files as the daemon does, and returns what is told about them.
func gateway(t *testing.T, n *simnet.Node, f files) (lines []string) {
	t.Helper()
	for _, kind := range []string{".conf", ".secrets"} {
		if err := os.WriteFile(n.Name+kind, []byte(f[n.Name+kind]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file, _ := conf.Load(n.Name+".conf", conf.Options{})
	set, found := file.Compile()
	secrets, more := conf.LoadSecrets(n.Name + ".secrets")
	for _, d := range append(found, more...) {
		if d.Severity >= conf.Warning {
			lines = append(lines, d.String())
		}
	}
	n.Engine.SetSecrets(auth.NewStore(secrets))
	if found.Fatal() {
		return lines
	}
	if set.Setup.ListenTCP == nil {
		n.Host.Start(n.Engine, 0)
	}
	if err := n.Engine.Apply(context.Background(), set); err != nil {
		lines = append(lines, err.Error())
	}
	return lines
}

// situation is two gateways, loaded, and what they have said so far.
type situation struct {
	*simnet.World
	west, east []string
}

// run loads both sides, does what the row does, and gives time for every deadline.
func run(t *testing.T, f files, act func(*situation)) (west, east []string) {
	t.Helper()
	t.Chdir(t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		w, err := simnet.NewWorld(1, simnet.Faults{Delay: 10 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		s := &situation{World: w}
		s.east = gateway(t, w.East, f)
		s.west = gateway(t, w.West, f)
		act(s)
		time.Sleep(2 * time.Minute)
		west, east = told(s.west, w.West), told(s.east, w.East)
	})
	return west, east
}

// told adds what a node has said to what was told about its files, each line once: an attempt is repeated again and again.
func told(lines []string, n *simnet.Node) []string {
	for _, ev := range n.Said() {
		if !slices.Contains(lines, ev.Text) {
			lines = append(lines, ev.Text)
		}
	}
	return lines
}

// up is `ikectl up` on west, which must fail; its error is shown to the operator, and so is all that the log has.
func up(s *situation) {
	if err := s.West.Engine.Up(context.Background(), "west-east", nil); err != nil {
		s.west = append(s.west, err.Error())
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ikegod/ikegod/pkg/ctl"
)

// daemon is a ctl.Service with long names, so that lines have to be wrapped.
type daemon struct{ begin time.Time }

const longName = "a-connection-with-a-rather-long-name-as-people-write-them-in-large-networks"

func (d daemon) Status(context.Context) (ctl.Status, error) {
	return ctl.Status{
		Version: "1", PID: 7, Started: d.begin.Add(-90 * time.Minute), RunDir: "/run/ikegod", Config: "/etc/ipsec.conf", Backend: "userspace",
		Notes:     []string{"nft is not usable (exec: \"nft\": executable file not found): clear packets from the network that claim a protected source are not dropped"},
		Listening: []ctl.Socket{{Carrier: "UDP", Address: "*:500"}, {Carrier: "UDP", Address: "*:4500"}, {Carrier: "ESP", Address: "*"}, {Carrier: "TCP", Address: "*:4500"}}, Loaded: 2,
		Drops: []ctl.Drop{
			{Part: "IKE", Reason: "rate", Count: 3, Meaning: "One address sent too many.", Todo: "Look at it."},
			{Part: "IKE", Reason: "syntax", Count: 1},
			{Part: "transport", Reason: "NAT keepalive", Count: 5, Harmless: true},
			{Part: "datapath", Reason: "replay", Count: 7},
		},
		IKESAs: 2, HalfOpen: 1, ChildSAs: 1, Diagnostics: []ctl.Diagnostic{{Severity: "warning"}},
	}, nil
}

func (d daemon) Doctor(context.Context) (ctl.Doctor, error) {
	return ctl.Doctor{
		Kernel: "6.1.0-test", Running: true, Backend: "auto", Datapath: "xfrm and userspace", Why: "the kernel has ESP and ESP in UDP, but no ESP in TCP, which the userspace datapath carries",
		StrictRP: []string{"eth0"}, Findings: []ctl.Finding{
			{Feature: "ESP", Outcome: "yes"},
			{
				Feature: "ESP in TCP", Outcome: "no", Said: "EINVAL: invalid argument: Unsupported encapsulation type for ESP", Means: "the kernel cannot carry ESP in TCP (espintcp)",
				Hint: "this kernel was built without CONFIG_INET_ESPINTCP; another kernel is needed",
			},
			{Feature: "AES_CBC", Outcome: "not tried", Means: "there is no ESP for it"},
			{Feature: "AES_CCM_16", Outcome: "not tried", Means: "there is no ESP for it"},
		},
	}, nil
}

func (d daemon) SAs(_ context.Context, yield func(ctl.IKESA) bool) error {
	ok := yield(ctl.IKESA{
		Connection: longName, State: "established", Initiator: true, SPIi: "0011223344556677", SPIr: "8899aabbccddeeff",
		LocalID: "C=CH, O=An Organisation with a Long Name, OU=Networks and more, CN=gateway.example.com", RemoteID: "@east",
		Path:       ctl.Path{Carrier: "TCP", Local: "192.1.2.45:40000", Remote: "192.1.2.23:4500"},
		Algorithms: "AES_GCM_16_256-HMAC_SHA2_512-DH19", NATLocal: true, Established: d.begin.Add(-65 * time.Second),
		Children: []ctl.ChildSA{{
			Name:       "a-connection-with-a-rather-long-name-as-people-write-them-in-large-networks",
			Connection: longName, SPIIn: "0xe1", SPIOut: "0xe2", Local: "192.0.1.0/24", Remote: "192.0.2.0/24,10.0.0.0/8,172.16.0.0/12,2001:db8::/32",
			Algorithms: "AES_GCM_16_256", Carrier: "ESPinTCP", Installed: d.begin.Add(-65 * time.Second), InPackets: 1, InBytes: 84, OutPackets: 2, OutBytes: 1 << 40,
			LastIn: d.begin,
		}},
	})
	if ok {
		yield(ctl.IKESA{
			State: "half-open", Path: ctl.Path{Carrier: "UDP", Local: "[2001:db8::1]:500", Remote: "[2001:db8::2]:500"}, Retransmits: 2,
			Children: []ctl.ChildSA{},
		})
	}
	return nil
}

func (d daemon) Connections(context.Context) ([]ctl.Connection, error) {
	return []ctl.Connection{{
		Name: longName, State: "waiting for revival", Position: "/etc/ipsec.conf:3", Auto: "start", TCP: "fallback",
		Local: ctl.End{Host: "192.1.2.45", ID: "@west", Subnets: "192.0.1.0/24"}, Remote: ctl.End{Host: "192.1.2.23", ID: "@east", Subnets: "192.0.2.0/24"},
		Why: "neither left= nor right= is an address of this host", LastError: "no answer\x1b[2J", NextTry: d.begin.Add(time.Hour + 10*time.Second), Algorithms: "AES_GCM_16_256-HMAC_SHA2_512-DH19",
	}}, nil
}

func (d daemon) Up(ctx context.Context, name string, progress func(ctl.Event)) error {
	progress(ctl.Event{At: time.Now(), Level: "info", Text: "sent IKE_SA_INIT request to 192.1.2.23:UDP/500"})
	progress(ctl.Event{At: time.Now(), Level: "debug", Text: "a detail that nobody needs"})
	switch name {
	case "bad":
		return &ctl.Error{Code: ctl.CodeFailed, Message: "\"bad\" is not up: tried 192.1.2.23:UDP/500, then 192.1.2.23:TCP/4500", Attempts: []ctl.Attempt{
			{Path: ctl.Path{Carrier: "UDP", Remote: "192.1.2.23:500"}, Reason: "timeout", Detail: "no answer within 5 s", Took: 5 * time.Second},
			{Path: ctl.Path{Carrier: "TCP", Remote: "192.1.2.23:4500"}, Reason: "path failed", Took: 2 * time.Millisecond},
		}}
	case "slow":
		<-ctx.Done()
		return ctx.Err()
	case "unknown":
		return &ctl.Error{Code: ctl.CodeNotFound, Message: "no connection named \"unknown\""}
	}
	progress(ctl.Event{At: time.Now(), Level: "info", Text: "established Child SA"})
	return nil
}

func (d daemon) Down(_ context.Context, _ string, progress func(ctl.Event)) error {
	progress(ctl.Event{At: time.Now(), Level: "info", Text: "deleting IKE SA"})
	return nil
}

func (d daemon) RekeyChild(_ context.Context, name string, progress func(ctl.Event)) error {
	progress(ctl.Event{At: time.Now(), Level: "info", Text: "sending CREATE_CHILD_SA request"})
	if name == "none" {
		return &ctl.Error{Code: ctl.CodeFailed, Message: "connection \"none\" has no Child SA to rekey"}
	}
	return nil
}

func (d daemon) Add(_ context.Context, name string) (ctl.LoadReport, error) {
	return ctl.LoadReport{Added: []string{name}, Diagnostics: []ctl.Diagnostic{{
		Severity: "warning", File: "/etc/ipsec.conf", Line: 4, Column: 2, Width: 4,
		Connection: name, Text: "something", Suggestion: "do this", Source: "\tleft=1",
	}}}, nil
}
func (d daemon) Delete(context.Context, string) error { return nil }
func (d daemon) Explain(_ context.Context, name, peer, id string) (ctl.Explanation, error) {
	x := ctl.Explanation{
		Connection: name, Position: "/etc/ipsec.conf:3", Local: ctl.End{Host: "192.1.2.45", ID: "@west"}, Remote: ctl.End{Host: peer, ID: id},
		Settings: []ctl.Setting{{Keyword: "ike", Value: "AES_GCM_16_256", Position: "/etc/ipsec.conf:9"}, {Keyword: "narrowing", Value: "no"}},
		Secret:   ctl.SecretUsed{Position: "/etc/ipsec.secrets:4", Why: "names both", Others: []string{"/etc/ipsec.secrets:1 (has %any)"}},
		Chosen:   "other", Candidates: []ctl.Candidate{
			{Connection: "first", Position: "/etc/ipsec.conf:20", Fits: "address", Why: "its peer must be @road"},
			{Connection: "other", Position: "/etc/ipsec.conf:30", Fits: "template"},
			{Connection: "elsewhere", Position: "/etc/ipsec.conf:40", Why: "is for the peer right=192.0.2.1"},
		},
	}
	if name == "secretless" {
		x.Chosen, x.Fails = name, "authentication will fail: no PSK record is for both"
	}
	if name == "unusable" {
		return ctl.Explanation{Connection: name, Position: "/etc/ipsec.conf:3", Why: "neither end is this host"}, nil
	}
	return x, nil
}

func (d daemon) Reload(context.Context) (ctl.LoadReport, error) {
	return ctl.LoadReport{}, &ctl.Error{Code: ctl.CodeConfig, Message: "/etc/ipsec.conf cannot be used", Report: &ctl.LoadReport{Diagnostics: []ctl.Diagnostic{{
		Severity: "error", File: "/etc/ipsec.conf", Line: 9, Column: 2, Text: "unknown keyword",
	}}}}
}

func (d daemon) RereadSecrets(context.Context) (ctl.LoadReport, error) {
	return ctl.LoadReport{Secrets: 3}, nil
}
func (d daemon) Shutdown(context.Context) error { return nil }

// ask runs ikectl against a daemon.
func ask(t *testing.T, args ...string) (out, errOut string, status int) {
	t.Helper()
	return askOf(t, daemon{time.Now()}, args...)
}

func askOf(t *testing.T, d ctl.Service, args ...string) (out, errOut string, status int) {
	t.Helper()
	dir := t.TempDir()
	l, err := ctl.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := ctl.NewServer(d, log.New(io.Discard, "", 0))
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		s.Shutdown(ctx)
		<-done
	}()
	var o, e bytes.Buffer
	status = run(t.Context(), append([]string{"--rundir", dir}, args...), &o, &e)
	return o.String(), e.String(), status
}

func TestExitStatus(t *testing.T) {
	for _, tc := range []struct {
		args   []string
		status int
		out    []string // on standard output
		err    []string // on standard error
	}{
		{[]string{"up", "good"}, 0, []string{"sent IKE_SA_INIT", "established Child SA", "\"good\" is up"}, nil},
		{[]string{"up", "bad"}, 1, []string{"sent IKE_SA_INIT"}, []string{"is not up", "attempt 1  192.1.2.23:UDP/500", "5.00s  no answer within 5 s", "attempt 2  192.1.2.23:TCP/4500", "path failed"}},
		{[]string{"explain", "w-e", "192.0.2.7", "@east"}, 0, []string{
			`"w-e" of /etc/ipsec.conf:3`, "peer        192.0.2.7[@east]", "the record of /etc/ipsec.secrets:4, which names both; less fitting: /etc/ipsec.secrets:1", `gets        "other", and not this one`,
			`not         "first" (/etc/ipsec.conf:20), which is for its address, but its peer must be @road`, `fits        "other" (/etc/ipsec.conf:30), which is for any address`,
			`"elsewhere" (/etc/ipsec.conf:40): it is for the peer right=192.0.2.1`, "ike=AES_GCM_16_256", "/etc/ipsec.conf:9", "default",
		}, nil},
		{[]string{"doctor"}, 0, []string{
			"kernel    6.1.0-test", "datapath  ikegod runs with xfrm and userspace (backend=auto): the kernel has ESP and ESP in UDP", "rp_filter is 1 (strict) on eth0",
			"net.ipv4.conf.eth0.rp_filter=2", "ESP                   yes", "ESP in TCP            no: the kernel cannot carry", "CONFIG_INET_ESPINTCP", "not tried, there is no ESP for it: AES_CBC, AES_CCM_16",
		}, nil},
		{[]string{"explain", "secretless"}, 0, []string{"gets        this connection, but authentication will fail: no PSK record is for both\n"}, nil},
		{[]string{"explain", "unusable"}, 0, []string{"not usable  neither end is this host"}, nil},
		{[]string{"explain"}, 2, nil, []string{"explain wants the name of a connection"}},
		{[]string{"up", "unknown"}, 1, nil, []string{"no connection named"}},
		{[]string{"up", "--timeout", "50ms", "slow"}, 4, nil, []string{"\"slow\" is not up after 50ms"}},
		{[]string{"up"}, 2, nil, []string{"up wants one argument, the name of a connection"}},
		{[]string{"up", "--nonsense", "x"}, 2, nil, []string{"--nonsense"}},
		{[]string{"fly"}, 2, nil, []string{"unknown verb \"fly\""}},
		{nil, 2, nil, []string{"a verb is missing"}},
		{[]string{"down", "good"}, 0, []string{"deleting IKE SA", "\"good\" is down"}, nil},
		{[]string{"rekey-child", "good/1x2"}, 0, []string{"CREATE_CHILD_SA", "\"good/1x2\" is rekeyed"}, nil},
		{[]string{"rekey-child", "none"}, 1, nil, []string{"no Child SA to rekey"}},
		{[]string{"add", "new"}, 0, []string{"added: new"}, []string{"/etc/ipsec.conf:4:2: warning", "^~~~", "do this"}},
		{[]string{"delete", "old"}, 0, []string{"\"old\" is deleted"}, nil},
		{[]string{"reload"}, 1, nil, []string{"cannot be used", "/etc/ipsec.conf:9:2: error"}},
		{[]string{"rereadsecrets"}, 0, []string{"secrets: 3"}, nil},
		{[]string{"shutdown"}, 0, []string{"ikegod has stopped"}, nil},
		{[]string{"status"}, 0, []string{
			"TCP/4500  192.1.2.45:40000 -> 192.1.2.23:4500", "@east (peer)", "UDP *:4500", "1 half-open", "this host is behind one",
			"no connection chosen yet", "SPI 0xe1", "last never", "up 1h30m", "established 1m05s ago", "1 finding in /etc/ipsec.conf",
		}, nil},
		{[]string{"status"}, 0, []string{"dropped      IKE: 3 rate, 1 syntax\n", "dropped      datapath: 7 replay\n", "ikectl status --drops"}, nil},
		{[]string{"status", "--drops"}, 0, []string{"IKE: 3 rate\n    One address sent too many.\n    What to do: Look at it.\n", "transport: 5 NAT keepalive"}, nil},
		{[]string{"connections"}, 0, []string{"192.0.1.0/24===192.1.2.45[@west]...192.1.2.23[@east]===192.0.2.0/24", "enable-tcp=fallback", "not usable", "in 1h00m"}, nil},
		{[]string{"trafficstatus"}, 0, []string{"\"" + longName + "\", type=ESP, add_time=", "inBytes=84, outBytes=1099511627776, id='@east'"}, nil},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			out, errOut, status := ask(t, tc.args...)
			if status != tc.status {
				t.Errorf("status %d, want %d\n%s%s", status, tc.status, out, errOut)
			}
			for text, wants := range map[string][]string{out: tc.out, errOut: tc.err} {
				flat := strings.Join(strings.Fields(text), " ")
				for _, w := range wants {
					if !strings.Contains(text, w) && !strings.Contains(flat, w) {
						t.Errorf("%q is missing in:\n%s", w, text)
					}
				}
			}
			for line := range strings.Lines(out + errOut) {
				if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > width {
					t.Errorf("%d columns: %s", n, line)
				}
				if strings.Contains(line, "\x1b") || strings.Contains(line, "nobody needs") {
					t.Errorf("this must not be shown: %q", line)
				}
			}
		})
	}
}

// TestJSON reads what --json prints, as a script would.
func TestJSON(t *testing.T) {
	for _, args := range [][]string{
		{"status"},
		{"connections"},
		{"trafficstatus"},
		{"reload"},
		{"rereadsecrets"},
		{"delete", "x"},
		{"add", "x"},
		{"up", "good"},
		{"up", "bad"},
		{"down", "good"},
		{"rekey-child", "good"},
	} {
		out, _, _ := ask(t, append([]string{"--json"}, args...)...)
		in := json.NewDecoder(strings.NewReader(out))
		n := 0
		for {
			var v any
			if err := in.Decode(&v); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%v: %v:\n%s", args, err, out)
			}
			n++
		}
		if n == 0 {
			t.Errorf("%v prints nothing", args)
		}
	}
	out, _, _ := ask(t, "--json", "status")
	var s struct {
		Daemon ctl.Status  `json:"daemon"`
		SAs    []ctl.IKESA `json:"sas"`
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil || s.Daemon.PID != 7 || len(s.SAs) != 2 || s.SAs[0].Path.Carrier != "TCP" {
		t.Errorf("%v %+v", err, s)
	}
}

// idle is a daemon with nothing to show.
type idle struct{ daemon }

func (idle) SAs(context.Context, func(ctl.IKESA) bool) error       { return nil }
func (idle) Connections(context.Context) ([]ctl.Connection, error) { return []ctl.Connection{}, nil }

// TestJSONOfNothing: a list without elements is a list, so that scripts need no special case.
func TestJSONOfNothing(t *testing.T) {
	for _, verb := range []string{"trafficstatus", "connections"} {
		if out, _, status := askOf(t, idle{}, "--json", verb); status != 0 || strings.TrimSpace(out) != "[]" {
			t.Errorf("%s: %d %q, want []", verb, status, out)
		}
	}
}

func TestNoDaemon(t *testing.T) {
	var out, errOut bytes.Buffer
	dir := t.TempDir()
	if status := run(t.Context(), []string{"--rundir", dir, "status"}, &out, &errOut); status != 3 || !strings.Contains(errOut.String(), dir) {
		t.Errorf("status %d: %s", status, errOut.String())
	}
}

func TestCheck(t *testing.T) {
	name := filepath.Join(t.TempDir(), "ipsec.conf")
	check := func(text string, args ...string) (string, int) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errOut bytes.Buffer
		status := run(t.Context(), append(append(args, "check"), name), &out, &errOut)
		return out.String() + errOut.String(), status
	}
	good := "conn a\n\tleft=192.0.2.1\n\tright=192.0.2.2\n\tauthby=secret\n\tauto=add\n"
	if out, status := check(good); status != 0 || !strings.Contains(out, "0 errors") {
		t.Errorf("%d %s", status, out)
	}
	out, status := check(good + "\tleftt=3\n\trigth=4\n")
	if status != 1 {
		t.Errorf("status %d", status)
	}
	for _, want := range []string{name + ":6:2: error", name + ":7:2: error", "leftt=3\n", "^~~~~", "did you mean", "2 errors"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	out, status = check(good+"\tleftt=3\n", "--json")
	var ds []map[string]any
	if err := json.Unmarshal([]byte(out), &ds); err != nil || status != 1 || len(ds) != 1 || ds[0]["line"] != 6.0 {
		t.Errorf("%d %v %s", status, err, out)
	}
	if _, status := check("", "--rundir", "/nowhere"); status != 0 {
		t.Errorf("an empty file: %d", status)
	}
	var none bytes.Buffer
	if status := run(t.Context(), []string{"check", "/nowhere/ipsec.conf"}, &none, &none); status != 1 || !strings.Contains(none.String(), "/nowhere/ipsec.conf") {
		t.Errorf("a file that is not there: %d %s", status, none.String())
	}
}

func TestWrap(t *testing.T) {
	var b bytes.Buffer
	wrap(&b, "    "+strings.Repeat("word ", 40)+"end")
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	if len(lines) < 3 || !strings.HasPrefix(lines[0], "    word") || !strings.HasPrefix(lines[1], "        word") || !strings.HasSuffix(lines[len(lines)-1], "end") {
		t.Errorf("%q", lines)
	}
	if words := strings.Fields(b.String()); len(words) != 41 {
		t.Errorf("%d words of 41", len(words))
	}
	b.Reset()
	long := strings.Repeat("x", 150)
	wrap(&b, long)
	if b.String() != long+"\n" {
		t.Errorf("a long word was cut: %q", b.String())
	}
}

// TestPartlyUp: a connection with some of its Child SAs does not look like one with all.
func TestPartlyUp(t *testing.T) {
	children := func(up ...bool) (list []ctl.Child) {
		for _, u := range up {
			list = append(list, ctl.Child{Name: "site/1x1", Up: u})
		}
		return list
	}
	for _, tc := range []struct {
		conn ctl.Connection
		want string
	}{
		{ctl.Connection{Name: "site", State: "up", Children: children(false, true, false), ChildrenUp: 1}, "\"site\"  up 1/3\n"},
		{ctl.Connection{Name: "site", State: "up", Children: children(true, true), ChildrenUp: 2}, "\"site\"  up\n"},
		{ctl.Connection{Name: "site", State: "up", Children: children(true), ChildrenUp: 1}, "\"site\"  up\n"},
		{ctl.Connection{Name: "site", State: "down", Children: children(false, false)}, "\"site\"  down\n"},
		{ctl.Connection{Name: "site", State: "negotiating", Children: children(false, true), ChildrenUp: 1}, "\"site\"  negotiating 1/2\n"},
		{ctl.Connection{Name: "site", State: "up", Remote: ctl.End{Host: "%any"}, Children: children(false, false)}, "\"site\"  up\n"},
	} {
		var out strings.Builder
		(&app{out: &out}).printConnection(tc.conn)
		if !strings.HasPrefix(out.String(), tc.want) {
			t.Errorf("%q, want %q", out.String(), tc.want)
		}
	}
}

// TestHostInPart: a connection for one port of the hosts does not look like one for all that goes between them.
func TestHostInPart(t *testing.T) {
	var out strings.Builder
	(&app{out: &out}).printConnection(ctl.Connection{
		Name: "web", State: "down", Local: ctl.End{Host: "192.1.2.45", ID: "@west", ProtoPort: "TCP/443"},
		Remote: ctl.End{Host: "192.1.2.23", ID: "@east", ProtoPort: "TCP"},
	})
	if want := "192.1.2.45[@west]:TCP/443...192.1.2.23[@east]:TCP\n"; !strings.Contains(out.String(), want) {
		t.Errorf("%q does not have %q", out.String(), want)
	}
}

// TestTemplateOfSeveralChildren: the children of a template have no state of their own, and an instance stands with each template whose Child SAs its IKE SA carries.
func TestTemplateOfSeveralChildren(t *testing.T) {
	var out strings.Builder
	a := &app{out: &out}
	a.printConnection(ctl.Connection{Name: "road", State: "up", Remote: ctl.End{Host: "%any"}, Children: []ctl.Child{
		{Name: "road/1x1", Local: "10.0.1.0/24", Remote: "10.1.0.0/24"}, {Name: "road/2x1", Local: "10.0.2.0/24", Remote: "10.1.0.0/24"},
	}})
	if got := out.String(); strings.Contains(got, "down") || !strings.Contains(got, `child "road/1x1"  10.0.1.0/24 === 10.1.0.0/24`) {
		t.Errorf("%s", got)
	}
	texts := instanceTexts(ctl.IKESA{
		Connection: "road", Instance: 2, State: "established", RemoteID: "@r", Path: ctl.Path{Remote: "192.0.2.7:500"},
		Children: []ctl.ChildSA{
			{Connection: "road", Instance: 2, Local: "10.0.1.0/24", Remote: "10.1.0.0/24"},
			{Connection: "other", Instance: 5, Local: "10.0.9.0/24", Remote: "10.1.0.0/24"},
			{Connection: "fixed", Local: "10.0.8.0/24", Remote: "10.1.0.0/24"},
		},
	})
	for name, want := range map[string]string{
		"road":  `"road"[2] 192.0.2.7  established, @r, 10.0.1.0/24 === 10.1.0.0/24`,
		"other": `"other"[5] 192.0.2.7  established, @r, 10.0.9.0/24 === 10.1.0.0/24`,
		"fixed": "",
	} {
		if texts[name] != want {
			t.Errorf("%s: %q, want %q", name, texts[name], want)
		}
	}
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// settle loads settings from arguments, variables and a settings file.
func settle(t *testing.T, args, environ []string, file string) (Settings, []string, error) {
	t.Helper()
	flags := settingsFlags(pflag.NewFlagSet("test", pflag.ContinueOnError))
	name := filepath.Join(t.TempDir(), "ikegod.yaml")
	if err := os.WriteFile(name, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := flags.Parse(append([]string{"--settings", name}, args...)); err != nil {
		t.Fatal(err)
	}
	return flags.load(environ)
}

func TestSettingsDefaults(t *testing.T) {
	s, warnings, err := settle(t, nil, nil, "")
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	want := Settings{
		Config: "/etc/ipsec.conf", Secrets: "/etc/ipsec.secrets", RunDir: "/run/ikegod", Backend: "auto", LogLevel: "info",
		LogFormat: "console", MetricsListen: "127.0.0.1:9500", Mark: 0x494b45, Table: 4500, Preference: 4500,
	}
	if s.given["config"] || s.given["metrics-listen"] {
		t.Errorf("given: %v", s.given)
	}
	s.given = nil
	if s.Config != want.Config || s.RunDir != want.RunDir || s.Backend != want.Backend || s.MetricsListen != want.MetricsListen || s.Mark != want.Mark ||
		s.Table != want.Table || s.Preference != want.Preference || s.LogLevel != want.LogLevel || s.LogFormat != want.LogFormat {
		t.Errorf("got %+v, want %+v", s, want)
	}
}

// TestSettingsOrder gives the same key in every place: flag, variable, file, default, in this order.
func TestSettingsOrder(t *testing.T) {
	file := "log-level: error\nrundir: /file\ntable: 7\nmark: 0x10\n"
	environ := []string{"IKEGOD_LOG_LEVEL=warn", "IKEGOD_RUNDIR=/variable", "PATH=/bin"}
	s, _, err := settle(t, []string{"--log-level", "debug"}, environ, file)
	if err != nil {
		t.Fatal(err)
	}
	if s.LogLevel != "debug" || s.RunDir != "/variable" || s.Table != 7 || s.Mark != 16 || s.LogFormat != "console" {
		t.Errorf("%+v", s)
	}
	for key, want := range map[string]bool{"log-level": true, "rundir": true, "table": true, "log-format": false} {
		if s.given[key] != want {
			t.Errorf("given[%s] = %v", key, s.given[key])
		}
	}
}

func TestSettingsRefused(t *testing.T) {
	for _, tc := range []struct {
		name          string
		args, environ []string
		file          string
		want          []string
	}{
		{"unknown-key", nil, nil, "log-levl: debug\n", []string{"log-levl", "ikegod.yaml", "log-level"}},
		{"nested-key", nil, nil, "log:\n  level: debug\n", []string{`"log"`}},
		{"not-yaml", nil, nil, "{", []string{"ikegod.yaml"}},
		{"bad-level", nil, []string{"IKEGOD_LOG_LEVEL=loud"}, "", []string{"log-level", "loud", "debug, info, warn, error"}},
		{"bad-number", nil, []string{"IKEGOD_TABLE=many"}, "", []string{"IKEGOD_TABLE", "many"}},
		{"bad-number-in-file", nil, nil, "table: many\n", []string{"ikegod.yaml", "table: many is not a whole number"}},
		{"fraction-in-file", nil, nil, "table: 300.7\n", []string{"table: 300.7 is not a whole number"}},
		{"number-too-large-in-file", nil, nil, "mark: 99999999999\n", []string{"mark: 99999999999 is out of range"}},
		{"negative-in-file", nil, nil, "mark: -1\n", []string{"mark: -1 is out of range"}},
		{"number-as-text-in-file", nil, nil, "mark: \"5\"\n", []string{"mark: 5 is not a whole number"}},
		{"number-for-text-in-file", nil, nil, "log-level: 5\n", []string{"log-level: 5 is not text"}},
		{"list-in-file", nil, nil, "rundir: [a]\n", []string{"rundir: [a] is not text"}},
		{"nothing-in-file", nil, nil, "rundir:\n", []string{"rundir has no value"}},
		{"unknown-key-with-nothing", nil, nil, "log-levl:\n", []string{`"log-levl"`}},
		{"settings-in-file", nil, nil, "settings: x\n", []string{`"settings"`}},
		{"twice-in-file", nil, nil, "table: 300\ntable: 400\n", []string{"ikegod.yaml", "table"}},
		{"no-mark", []string{"--mark", "0"}, nil, "", []string{"mark=0"}},
		{"backend", []string{"--backend", "kernel"}, nil, "", []string{"backend", "auto, xfrm, userspace"}},
		{"no-config", []string{"--config", ""}, nil, "", []string{"config"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := settle(t, tc.args, tc.environ, tc.file)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not mention %q", err, w)
				}
			}
		})
	}
}

func TestSettingsFileMustBeThereWhenNamed(t *testing.T) {
	flags := settingsFlags(pflag.NewFlagSet("test", pflag.ContinueOnError))
	if err := flags.Parse([]string{"--settings", "/nowhere/ikegod.yaml"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := flags.load(nil); err == nil || !strings.Contains(err.Error(), "/nowhere/ikegod.yaml") {
		t.Errorf("%v", err)
	}
}

func TestUnknownVariableIsMentioned(t *testing.T) {
	_, warnings, err := settle(t, nil, []string{"IKEGOD_LOGLEVEL=debug"}, "")
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "IKEGOD_LOGLEVEL") || !strings.Contains(warnings[0], "IKEGOD_LOG_LEVEL") {
		t.Errorf("%v %v", warnings, err)
	}
}

// TestSettingsKeys holds the three places where the keys are written together.
func TestSettingsKeys(t *testing.T) {
	flags := settingsFlags(pflag.NewFlagSet("test", pflag.ContinueOnError))
	var names []string
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != "settings" {
			names = append(names, f.Name)
		}
	})
	if len(names) != len(settingKeys) {
		t.Errorf("flags %v, keys %v", names, settingKeys)
	}
	for _, k := range settingKeys {
		if flags.Lookup(k) == nil {
			t.Errorf("key %s has no flag", k)
		}
	}
}

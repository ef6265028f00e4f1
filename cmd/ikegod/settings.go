package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/ikegod/ikegod/kernel/hostnet"
)

// Settings are about this process and this host. What IKE does comes from ipsec.conf.
type Settings struct {
	Config        string `mapstructure:"config"`
	Secrets       string `mapstructure:"secrets"`
	RunDir        string `mapstructure:"rundir"`
	Backend       string `mapstructure:"backend"`
	LogLevel      string `mapstructure:"log-level"`
	LogFormat     string `mapstructure:"log-format"`
	MetricsListen string `mapstructure:"metrics-listen"`
	Mark          uint32 `mapstructure:"mark"`
	Table         int    `mapstructure:"table"`
	Preference    int    `mapstructure:"preference"`

	// given holds the keys that somebody set; the others have their defaults.
	given map[string]bool
}

const (
	envPrefix       = "IKEGOD_"
	defaultSettings = "/etc/ikegod/ikegod.yaml"
)

// flagSet is where settings come from.
type flagSet struct{ *pflag.FlagSet }

func settingsFlags(f *pflag.FlagSet) flagSet {
	f.String("settings", defaultSettings, "settings file; empty: none")
	f.String("config", "/etc/ipsec.conf", "configuration of connections")
	f.String("secrets", "/etc/ipsec.secrets", "pre-shared keys")
	f.String("rundir", "/run/ikegod", "run directory: control socket and lock; one per daemon")
	f.String("backend", "auto", "what carries ESP: auto, xfrm or userspace")
	f.String("log-level", "info", "debug, info, warn or error")
	f.String("log-format", "console", "console or json")
	f.String("metrics-listen", "127.0.0.1:9500", "address for Prometheus; empty: none")
	f.Uint32("mark", hostnet.DefaultMark, "SO_MARK of the daemon's own sockets")
	f.Int("table", hostnet.DefaultTable, "first of the routing tables for protected prefixes: it and the 257 after it")
	f.Int("preference", hostnet.DefaultPreference, "preference of the first of five routing rules")
	return flagSet{f}
}

// load brings flags, variables, file and defaults together, in this order, and refuses what it does not know.
func (f flagSet) load(environ []string) (s Settings, warnings []string, err error) {
	v := viper.New()
	if err := v.BindPFlags(f.FlagSet); err != nil {
		return s, nil, err
	}
	s.given = map[string]bool{}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}
		key := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, envPrefix)), "_", "-")
		flag := f.Lookup(key)
		if flag == nil {
			warnings = append(warnings, fmt.Sprintf("the variable %s is not one of ikegod's; they are %s", name, f.variables()))
			continue
		}
		// Kept apart from viper's own reading of the environment, which sees only names that it is asked for.
		if !flag.Changed {
			if err := flag.Value.Set(value); err != nil {
				return s, nil, fmt.Errorf("variable %s=%q: %w", name, value, err)
			}
			flag.Changed = true
		}
	}
	if err := f.readFile(v); err != nil {
		return s, nil, err
	}
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Changed || v.InConfig(flag.Name) {
			s.given[flag.Name] = true
		}
	})
	all := v.AllSettings()
	for _, other := range []string{"settings", "help", "json"} {
		delete(all, other)
	}
	if err := decodeExactly(all, &s); err != nil {
		return s, nil, err
	}
	return s, warnings, s.check()
}

// readFile reads the settings file. The default one need not be there.
func (f flagSet) readFile(v *viper.Viper) error {
	name := v.GetString("settings")
	if name == "" {
		return nil
	}
	v.SetConfigFile(name)
	v.SetConfigType("yaml")
	err := v.ReadInConfig()
	if errors.Is(err, fs.ErrNotExist) && !f.Changed("settings") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("settings file %s: %w", name, err)
	}
	// viper hides keys it was not asked for: compare with what the file holds.
	file := viper.New()
	file.SetConfigFile(name)
	file.SetConfigType("yaml")
	if err := file.ReadInConfig(); err != nil {
		return fmt.Errorf("settings file %s: %w", name, err)
	}
	values := file.AllSettings()
	for _, key := range file.AllKeys() { // those without a value are not in AllSettings
		if key, _, _ = strings.Cut(key, "."); values[key] == nil {
			values[key] = nil
		}
	}
	if err := checkFile(values); err != nil {
		return fmt.Errorf("settings file %s: %w", name, err)
	}
	return nil
}

// checkFile refuses keys that are not settings, and values that are not what their setting takes. A flag checks what it is given; what a file holds
// would be converted until it fits.
func checkFile(values map[string]any) error {
	scratch := settingsFlags(pflag.NewFlagSet("", pflag.ContinueOnError))
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if !slices.Contains(settingKeys, key) {
			return fmt.Errorf("unknown key %q; the keys are %s", key, strings.Join(settingKeys, ", "))
		}
		want := "text"
		if scratch.Lookup(key).Value.Type() != "string" {
			want = "a whole number"
		}
		fits := false
		switch values[key].(type) {
		case string:
			fits = want == "text"
		case int, int64, uint64:
			fits = want != "text"
		}
		switch {
		case values[key] == nil:
			return fmt.Errorf("%s has no value; expected %s", key, want)
		case !fits:
			return fmt.Errorf("%s: %v is not %s (it is read as %T)", key, values[key], want, values[key])
		}
		if err := scratch.Set(key, fmt.Sprint(values[key])); err != nil {
			return fmt.Errorf("%s: %v is out of range", key, values[key])
		}
	}
	return nil
}

// decodeExactly is viper's UnmarshalExact for a map: unknown keys are errors. Numbers may come as text, from flags and variables.
func decodeExactly(values map[string]any, s *Settings) error {
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{ErrorUnused: true, WeaklyTypedInput: true, Result: s})
	if err != nil {
		return err
	}
	return d.Decode(values)
}

var settingKeys = []string{"config", "secrets", "rundir", "backend", "log-level", "log-format", "metrics-listen", "mark", "table", "preference"}

func (f flagSet) variables() string {
	var names []string
	for _, k := range append([]string{"settings"}, settingKeys...) {
		names = append(names, envPrefix+strings.ToUpper(strings.ReplaceAll(k, "-", "_")))
	}
	return strings.Join(names, ", ")
}

func (s Settings) check() error {
	for _, one := range []struct {
		key, value string
		allowed    []string
	}{
		{"backend", s.Backend, []string{"auto", "xfrm", "userspace"}},
		{"log-level", s.LogLevel, []string{"debug", "info", "warn", "error"}},
		{"log-format", s.LogFormat, []string{"console", "json"}},
	} {
		if !slices.Contains(one.allowed, one.value) {
			return fmt.Errorf("%s=%q is not one of %s", one.key, one.value, strings.Join(one.allowed, ", "))
		}
	}
	switch {
	case s.Config == "" || s.Secrets == "" || s.RunDir == "":
		return errors.New("config, secrets and rundir may not be empty")
	case s.Mark == 0:
		return errors.New("mark=0 marks nothing: IKE's own packets would be routed into the tunnel; choose another number")
	}
	if info, err := os.Stat(s.Config); err == nil && info.IsDir() {
		return fmt.Errorf("config=%s is a directory", s.Config)
	}
	return nil
}

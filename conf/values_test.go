package conf

import (
	"testing"
	"time"
)

// The typed values of LIBRESWAN.md 1.2.
func TestParseBool(t *testing.T) {
	for s, want := range map[string]bool{"yes": true, "no": false, "true": true, "false": false, "on": true, "off": false, "y": true, "n": false, "1": true, "0": false, "YES": true, "Off": false} {
		if got, err := parseBool(s); err != nil || got != want {
			t.Errorf("%q is %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "2", "yess", "ja", " yes"} {
		if _, err := parseBool(s); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"1": time.Second, "30s": 30 * time.Second, "500ms": 500 * time.Millisecond, "7us": 7 * time.Microsecond, "2m": 2 * time.Minute, "1h": time.Hour, "1d": 24 * time.Hour,
		"1w": 168 * time.Hour, "1 second": time.Second, "2  seconds": 2 * time.Second, "1minute": time.Minute, "3 minutes": 3 * time.Minute, "1 Hour": time.Hour,
		"2 HOURS": 2 * time.Hour, "1day": 24 * time.Hour, "2days": 48 * time.Hour, "1week": 168 * time.Hour, "2 weeks": 336 * time.Hour, "1.5h": 90 * time.Minute,
		"0.25": 250 * time.Millisecond, "0": 0, "00010": 10 * time.Second, "0.0000000001s": 0, "1\ts": time.Second,
	} {
		if got, err := parseDuration(s, time.Second); err != nil || got != want {
			t.Errorf("%q is %v, %v, expected %v", s, got, err, want)
		}
	}
	if got, err := parseDuration("250", time.Millisecond); err != nil || got != 250*time.Millisecond {
		t.Errorf("the default unit does not count: %v, %v", got, err)
	}
	for _, s := range []string{"", "s", "-1", "+1", "1x", "1.h", ".5", "1,5", "1h30m", "1e3", "0x10", "99999999999999w", "1 s ", "ten"} {
		if got, err := parseDuration(s, time.Second); err == nil {
			t.Errorf("%q is accepted as %v", s, got)
		}
	}
}

func TestParseUnsigned(t *testing.T) {
	for s, want := range map[string]uint64{"0": 0, "128": 128, "0x80": 128, "0XfF": 255, "007": 7} {
		if got, err := parseUnsigned(s, 0, 1000); err != nil || got != want {
			t.Errorf("%q is %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "-1", "+1", "1_000", "0x", "1001", "1.0", "0b1", "18446744073709551616", "a"} {
		if _, err := parseUnsigned(s, 0, 1000); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]uint64{"1400": 1400, "1KiB": 1024, "2 mib": 2 << 20, "1.5GiB": 3 << 29, "1PiB": 1 << 50, "7B": 7} {
		if got, err := parseSize(s, byteUnits, 1<<60); err != nil || got != want {
			t.Errorf("%q is %v, %v", s, got, err)
		}
	}
	if got, err := parseSize("2Ki", binaryUnits, 1<<60); err != nil || got != 2048 {
		t.Errorf("2Ki is %v, %v", got, err)
	}
	for _, s := range []string{"", "1KB", "1Ki", "-1", "2EiB", "x"} {
		if _, err := parseSize(s, byteUnits, 1<<60); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}

func TestParsePercent(t *testing.T) {
	if got, err := parsePercent("150%"); err != nil || got != 150 {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{"150", "%", "-1%", "1.5%", ""} {
		if _, err := parsePercent(s); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}

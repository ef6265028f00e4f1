package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/iana"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

var vocabulary = []string{"time", "level", "message", keySA, keyPeer, keyConn, keyChild, keyKind, keyWhy, keyNotify, keyPart, keyFile}

func buffer(format string) (*zap.Logger, *bytes.Buffer) {
	var b bytes.Buffer
	return zap.New(zapcore.NewCore(encoder(format), zapcore.AddSync(&b), zapcore.DebugLevel)), &b
}

// TestLogVocabulary logs every kind of event with everything in it: no line has a key outside the vocabulary, and each is there once.
func TestLogVocabulary(t *testing.T) {
	z, out := buffer("json")
	l := &eventLog{z: z}
	p := path.Path{Local: netip.MustParseAddrPort("192.1.2.45:500"), Remote: netip.MustParseAddrPort("192.1.2.23:500")}
	for kind := range event.KindPathLost + 1 {
		l.write(event.Event{
			At: time.Unix(1, 0), Level: event.Info, Kind: kind, SA: 0xabc, Conn: "c", Child: "c/1", Path: p, Text: "text",
			Drop: event.DropRate, Close: &event.Close{Reason: event.ReasonTimeout, Notify: iana.Notify(24)},
		})
	}
	logNotice(z)(transport.DropStreamSlow, p, "slow")
	for line := range strings.Lines(out.String()) {
		var have map[string]any
		if err := json.Unmarshal([]byte(line), &have); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		for k := range have {
			if !slices.Contains(vocabulary, k) {
				t.Errorf("key %q is not in the vocabulary: %s", k, line)
			}
			if strings.Count(line, `"`+k+`":`) != 1 {
				t.Errorf("key %q is there more than once: %s", k, line)
			}
		}
		if have["peer"] != "192.1.2.23:UDP/500" {
			t.Errorf("peer: %s", line)
		}
	}
}

func TestLogLine(t *testing.T) {
	z, out := buffer("console")
	(&eventLog{z: z}).write(event.Event{At: time.Unix(0, 0).UTC(), Level: event.Warn, Conn: "office", Child: "office", Text: "one line"})
	if got, want := out.String(), "1970-01-01T00:00:00.000Z warn one line {\"conn\": \"office\"}\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLogLevels(t *testing.T) {
	for level, want := range map[event.Level]string{event.Debug: "debug", event.Info: "info", event.Warn: "warn", event.Error: "error", event.Level(9): "error"} {
		z, out := buffer("json")
		(&eventLog{z: z}).write(event.Event{At: time.Now(), Level: level, Text: "x"})
		if !strings.Contains(out.String(), `"level":"`+want+`"`) {
			t.Errorf("level %d: %s", level, out)
		}
	}
	if _, err := newLogger("loud", "console"); err == nil {
		t.Error("an unknown level is accepted")
	}
}

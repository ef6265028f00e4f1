package main

import (
	"fmt"
	"log"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/pkg/path"
	"github.com/ikegod/ikegod/transport"
)

// The vocabulary of the log: no line has another key. The message stands by itself; the keys are for machines.
const (
	keySA     = "sa"     // our SPI of the IKE SA
	keyPeer   = "peer"   // "192.1.2.23:UDP/500"
	keyConn   = "conn"   // connection
	keyChild  = "child"  // Child SA's connection, where it is another one
	keyKind   = "kind"   // kind of event
	keyWhy    = "why"    // reason of a drop or an end
	keyNotify = "notify" // notify that was sent or received
	keyPart   = "part"   // which part of the daemon speaks, where it is no IKE SA
	keyFile   = "file"   // file:line:column of a configuration
)

// newLogger makes the log, which goes to standard error.
func newLogger(level, format string) (*zap.Logger, error) {
	var min zapcore.Level
	if err := min.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log-level: %w", err)
	}
	out := zapcore.Lock(zapcore.AddSync(os.Stderr))
	return zap.New(zapcore.NewCore(encoder(format), out, min)), nil
}

func encoder(format string) zapcore.Encoder {
	c := zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", MessageKey: "message", LineEnding: "\n",
		EncodeTime: zapcore.ISO8601TimeEncoder, EncodeLevel: zapcore.LowercaseLevelEncoder, EncodeDuration: zapcore.StringDurationEncoder,
	}
	if format == "json" {
		c.EncodeTime = zapcore.RFC3339NanoTimeEncoder
		return zapcore.NewJSONEncoder(c)
	}
	c.ConsoleSeparator = " "
	return zapcore.NewConsoleEncoder(c)
}

// standardLog is for libraries that want a *log.Logger.
func standardLog(z *zap.Logger, part string) *log.Logger {
	l, err := zap.NewStdLogAt(z.With(zap.String(keyPart, part)), zapcore.WarnLevel)
	if err != nil {
		return log.Default()
	}
	return l
}

var levels = map[event.Level]zapcore.Level{
	event.Debug: zapcore.DebugLevel, event.Info: zapcore.InfoLevel, event.Warn: zapcore.WarnLevel, event.Error: zapcore.ErrorLevel,
}

// eventLog writes events. The engine's pump calls it; what strangers can cause, the engine limits.
type eventLog struct {
	z *zap.Logger
}

// write logs one event.
func (l *eventLog) write(e event.Event) {
	level, known := levels[e.Level]
	if !known {
		level = zapcore.ErrorLevel
	}
	if entry := l.z.Check(level, e.Text); entry != nil {
		entry.Time = e.At
		entry.Write(eventFields(e)...)
	}
}

func eventFields(e event.Event) []zap.Field {
	f := make([]zap.Field, 0, 6)
	if e.Conn != "" {
		name := e.Conn
		if e.Instance > 0 {
			name = fmt.Sprintf("%s[%d]", e.Conn, e.Instance)
		}
		f = append(f, zap.String(keyConn, name))
	}
	if e.Child != "" && e.Child != e.Conn {
		f = append(f, zap.String(keyChild, e.Child))
	}
	if !e.Path.IsZero() {
		f = append(f, zap.String(keyPeer, e.Path.Peer()))
	}
	if e.SA != 0 {
		f = append(f, zap.String(keySA, fmt.Sprintf("%016x", uint64(e.SA))))
	}
	if e.Kind != event.KindNote {
		f = append(f, zap.String(keyKind, e.Kind.String()))
	}
	switch {
	case e.Kind == event.KindDrop:
		f = append(f, zap.Stringer(keyWhy, e.Drop))
	case e.Close != nil:
		f = append(f, zap.Stringer(keyWhy, e.Close.Reason))
		if e.Close.Notify != 0 {
			f = append(f, zap.Stringer(keyNotify, e.Close.Notify))
		}
	}
	return f
}

// logNotice is the transport's voice.
func logNotice(z *zap.Logger) func(transport.Drop, path.Path, string) {
	return func(d transport.Drop, p path.Path, text string) {
		f := []zap.Field{zap.String(keyPart, "transport"), zap.Stringer(keyWhy, d)}
		if !p.IsZero() {
			f = append(f, zap.String(keyPeer, p.Peer()))
		}
		z.Info(text, f...)
	}
}

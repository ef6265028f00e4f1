package ctl

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// daemon is a Service with behaviour by connection name.
type daemon struct {
	cancelled chan string
	release   chan struct{}
	stopped   chan struct{}
}

func (d *daemon) Status(context.Context) (Status, error) {
	return Status{Version: "test", PID: 1, Backend: "userspace", Listening: []Socket{{"UDP", "0.0.0.0:500"}}}, nil
}

func (d *daemon) SAs(_ context.Context, yield func(IKESA) bool) error {
	for i := range 5000 {
		if !yield(IKESA{Connection: fmt.Sprint("c", i), Children: []ChildSA{{InBytes: 1 << 60}}}) {
			return nil
		}
	}
	return nil
}

func (d *daemon) Connections(context.Context) ([]Connection, error) {
	return []Connection{{Name: "a/b c", State: "down"}}, nil
}

func (d *daemon) Up(ctx context.Context, name string, progress func(Event)) error {
	progress(Event{Text: "sent IKE_SA_INIT", Connection: name})
	switch name {
	case "wait":
		select {
		case <-ctx.Done():
			d.cancelled <- name
			return ctx.Err()
		case <-d.release:
			return nil
		}
	case "refused":
		return &Error{Code: CodeFailed, Message: "every rung failed", Attempts: []Attempt{{Path: Path{Carrier: "UDP"}, Reason: "timeout", Took: 5 * time.Second}}}
	case "plain":
		return errors.New("a plain error")
	}
	progress(Event{Text: "installed"})
	return nil
}

func (d *daemon) Down(_ context.Context, name string, progress func(Event)) error {
	return &Error{Code: CodeNotFound, Message: "no connection " + name}
}

func (d *daemon) RekeyChild(_ context.Context, name string, progress func(Event)) error {
	progress(Event{Text: "rekeying " + name})
	return nil
}

func (d *daemon) Add(context.Context, string) (LoadReport, error) {
	return LoadReport{Added: []string{"x"}}, nil
}
func (d *daemon) Delete(context.Context, string) error { return nil }
func (d *daemon) Explain(_ context.Context, name, peer, id string) (Explanation, error) {
	return Explanation{Connection: name, Remote: End{Host: peer, ID: id}}, nil
}

func (d *daemon) Reload(context.Context) (LoadReport, error) {
	return LoadReport{}, &Error{Code: CodeConfig, Message: "2 errors", Report: &LoadReport{Diagnostics: []Diagnostic{{File: "f", Line: 3}}}}
}

func (d *daemon) RereadSecrets(context.Context) (LoadReport, error) {
	return LoadReport{Secrets: 2}, nil
}

func (d *daemon) Doctor(context.Context) (Doctor, error) {
	return Doctor{Kernel: "6.1", Findings: []Finding{{Feature: "ESP", Outcome: "yes"}}}, nil
}
func (d *daemon) Shutdown(context.Context) error { close(d.stopped); return nil }

func start(t *testing.T) (*daemon, string) {
	t.Helper()
	dir := t.TempDir()
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{cancelled: make(chan string, 1), release: make(chan struct{}), stopped: make(chan struct{})}
	s := NewServer(d, log.New(io.Discard, "", 0))
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return d, dir
}

func codeOf(t *testing.T, err error) Code {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is not an *Error", err)
	}
	return e.Code
}

func TestSocketMode(t *testing.T) {
	_, dir := start(t)
	info, err := os.Stat(filepath.Join(dir, SocketName))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %o, want 600", info.Mode().Perm())
	}
}

func TestUpStreams(t *testing.T) {
	d, dir := start(t)
	c := NewClient(dir)
	var texts []string
	if err := c.Up(t.Context(), "good", func(e Event) { texts = append(texts, e.Text) }); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(texts, "|"); got != "sent IKE_SA_INIT|installed" {
		t.Errorf("progress %q", got)
	}
	// The first line must be there while the verb still works.
	first := make(chan struct{})
	go func() {
		select {
		case <-first:
			close(d.release)
		case <-time.After(5 * time.Second):
		}
	}()
	if err := c.Up(t.Context(), "wait", func(Event) { close(first) }); err != nil {
		t.Fatal(err)
	}
}

func TestUpFails(t *testing.T) {
	_, dir := start(t)
	c := NewClient(dir)
	err := c.Up(t.Context(), "refused", func(Event) {})
	var e *Error
	if !errors.As(err, &e) || e.Code != CodeFailed || len(e.Attempts) != 1 || e.Attempts[0].Took != 5*time.Second {
		t.Errorf("%#v", err)
	}
	if err := c.Up(t.Context(), "plain", func(Event) {}); codeOf(t, err) != CodeFailed || err.Error() != "a plain error" {
		t.Errorf("%#v", err)
	}
	if err := c.Down(t.Context(), "x/y z", func(Event) {}); codeOf(t, err) != CodeNotFound || err.Error() != "no connection x/y z" {
		t.Errorf("%v", err)
	}
	_, err = c.Reload(t.Context())
	if !errors.As(err, &e) || e.Code != CodeConfig || e.Report == nil || e.Report.Diagnostics[0].Line != 3 {
		t.Errorf("%#v", err)
	}
}

func TestClientLeaves(t *testing.T) {
	d, dir := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := NewClient(dir).Up(ctx, "wait", func(Event) { cancel() })
	if codeOf(t, err) != CodeFailed {
		t.Errorf("%v", err)
	}
	select {
	case <-d.cancelled:
	case <-time.After(5 * time.Second):
		t.Error("the service was not told that its client left")
	}
	ctx, cancel = context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := NewClient(dir).Up(ctx, "wait", func(Event) {}); codeOf(t, err) != CodeTimeout {
		t.Errorf("%v", err)
	}
}

func TestManySAs(t *testing.T) {
	_, dir := start(t)
	c := NewClient(dir)
	n := 0
	if err := c.SAs(t.Context(), func(sa IKESA) bool {
		if sa.Children[0].InBytes != 1<<60 {
			t.Fatal("counter lost precision")
		}
		n++
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if n != 5000 {
		t.Errorf("%d SAs", n)
	}
	n = 0
	if err := c.SAs(t.Context(), func(IKESA) bool { n++; return n < 3 }); err != nil || n != 3 {
		t.Errorf("stopped after %d: %v", n, err)
	}
}

func TestSimpleCalls(t *testing.T) {
	d, dir := start(t)
	c := NewClient(dir)
	if s, err := c.Status(t.Context()); err != nil || s.Listening[0].Address != "0.0.0.0:500" {
		t.Errorf("%v %v", s, err)
	}
	if s, err := c.Connections(t.Context()); err != nil || s[0].Name != "a/b c" {
		t.Errorf("%v %v", s, err)
	}
	if r, err := c.Add(t.Context(), "x"); err != nil || r.Added[0] != "x" {
		t.Errorf("%v %v", r, err)
	}
	if r, err := c.RereadSecrets(t.Context()); err != nil || r.Secrets != 2 {
		t.Errorf("%v %v", r, err)
	}
	if err := c.Delete(t.Context(), "x"); err != nil {
		t.Error(err)
	}
	if err := c.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	<-d.stopped
}

func TestNoDaemon(t *testing.T) {
	dir := t.TempDir()
	_, err := NewClient(dir).Status(t.Context())
	if codeOf(t, err) != CodeNoDaemon || !strings.Contains(err.Error(), dir) {
		t.Error(err)
	}
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.(*listener).SetUnlinkOnClose(false)
	l.Close()
	if _, err := NewClient(dir).Status(t.Context()); codeOf(t, err) != CodeNoDaemon {
		t.Error(err)
	}
	if l, err = Listen(dir); err != nil {
		t.Fatalf("a socket left behind must not stop the next daemon: %v", err)
	}
	l.Close()
}

func TestRefusals(t *testing.T) {
	_, dir := start(t)
	ask := func(request string) (int, string) {
		c, err := net.Dial("unix", filepath.Join(dir, SocketName))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(c, request)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%q: %v", request[:20], err)
		}
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	for _, tc := range []struct {
		request string
		status  int
	}{
		{"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		{"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 400},
		{"POST /v1/reload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"GET /v1/status HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", 431},
	} {
		if status, body := ask(tc.request); status != tc.status {
			t.Errorf("%q: %d %s, want %d", tc.request[:20], status, body, tc.status)
		}
	}
}

func TestTurnAway(t *testing.T) {
	dir := t.TempDir()
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	inner := l.(*listener)
	inner.allow = func(uint32) bool { return false }
	s := NewServer(&daemon{}, log.New(io.Discard, "", 0))
	go s.Serve(l)
	defer s.Shutdown(t.Context())
	if _, err := NewClient(dir).Status(t.Context()); codeOf(t, err) != CodeDenied || !strings.Contains(err.Error(), fmt.Sprint("user ", os.Getuid())) {
		t.Error(err)
	}
}

// TestTurnAwaySlowClient: on a busy machine a client's request may come seconds after its connection. It is told all the same.
func TestTurnAwaySlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &listener{}
		client, server := net.Pipe()
		defer client.Close()
		l.turnAway(server, &Error{Code: CodeDenied, Message: "ask as root"})
		time.Sleep(headerTimeout - time.Second)
		if _, err := io.WriteString(client, "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusForbidden {
			t.Error(resp.Status)
		}
	})
}

// TestTurnedAwayWithoutAWord: a client that there was not even room to turn away gets a sentence from its own side.
func TestTurnedAwayWithoutAWord(t *testing.T) {
	dir := t.TempDir()
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	inner := l.(*listener)
	inner.allow = func(uint32) bool { return false }
	inner.turnedAway.Store(maxTurnedAway)
	s := NewServer(&daemon{}, log.New(io.Discard, "", 0))
	go s.Serve(l)
	defer s.Shutdown(t.Context())
	for range 100 {
		_, err = NewClient(dir).Status(t.Context())
		if codeOf(t, err) != CodeConnection || !strings.HasPrefix(err.Error(), "ikegod closed the connection without an answer") || strings.Contains(err.Error(), "http://") {
			t.Fatal(err)
		}
	}
}

func TestTooManyClients(t *testing.T) {
	_, dir := start(t)
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for range maxClients {
		c, err := net.Dial("unix", filepath.Join(dir, SocketName))
		if err != nil {
			t.Fatal(err)
		}
		// One whole request, so that this one has certainly been accepted before the next comes.
		io.WriteString(c, "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	if _, err := NewClient(dir).Status(t.Context()); codeOf(t, err) != CodeBusy {
		t.Error(err)
	}
	held[0].Close()
	deadline := time.Now().Add(5 * time.Second)
	for {
		_, err := NewClient(dir).Status(t.Context())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestErrorsKeepTheirCode(t *testing.T) {
	for _, c := range []Code{CodeFailed, CodeNotFound, CodeUsage, CodeDenied, CodeBusy, CodeTimeout, CodeStopping, CodeConfig, CodeInternal} {
		e := &Error{Code: c, Message: "m"}
		if e.httpStatus() < 400 {
			t.Errorf("%s gives status %d", c, e.httpStatus())
		}
		b, err := json.Marshal(Result{Error: e})
		var back Result
		if err != nil || json.Unmarshal(b, &back) != nil || back.Error.Code != c {
			t.Errorf("%s does not survive: %s", c, b)
		}
	}
}

// TestExplain: names, addresses and identities arrive as they are, whatever is in them.
func TestExplain(t *testing.T) {
	_, dir := start(t)
	c := NewClient(dir)
	for _, q := range [][3]string{{"a/b c", "2001:db8::1", "C=CH, O=a&b=c?, CN=x y"}, {"plain", "", ""}} {
		x, err := c.Explain(t.Context(), q[0], q[1], q[2])
		if err != nil || x.Connection != q[0] || x.Remote.Host != q[1] || x.Remote.ID != q[2] {
			t.Errorf("%q: %+v, %v", q, x, err)
		}
	}
}

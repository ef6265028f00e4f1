package ctl

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"syscall"
)

// maxLine bounds one line of a stream.
const maxLine = 4 << 20

// Client asks a daemon. Safe for concurrent use. All errors are *Error.
type Client struct {
	rundir string
	http   *http.Client
}

// NewClient makes a client of the daemon whose run directory is rundir. It does not connect yet.
func NewClient(rundir string) *Client {
	socket := filepath.Join(rundir, SocketName)
	return &Client{rundir: rundir, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}}}
}

// Status returns the daemon's description.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.call(ctx, http.MethodGet, "status", &s)
}

// Doctor says what this kernel can do, and which datapath was chosen because of it.
func (c *Client) Doctor(ctx context.Context) (Doctor, error) {
	var d Doctor
	return d, c.call(ctx, http.MethodGet, "doctor", &d)
}

// Connections returns the loaded connections.
func (c *Client) Connections(ctx context.Context) ([]Connection, error) {
	var s []Connection
	return s, c.call(ctx, http.MethodGet, "connections", &s)
}

// Explain asks with what a connection would be negotiated, and which connection a peer would get. peer and id may be empty.
func (c *Client) Explain(ctx context.Context, name, peer, id string) (Explanation, error) {
	var x Explanation
	q := url.Values{}
	for key, value := range map[string]string{"peer": peer, "id": id} {
		if value != "" {
			q.Set(key, value)
		}
	}
	return x, c.call(ctx, http.MethodGet, "connections/"+url.PathEscape(name)+"/explain?"+q.Encode(), &x)
}

// SAs calls yield for each IKE SA until it returns false.
func (c *Client) SAs(ctx context.Context, yield func(IKESA) bool) error {
	return c.lines(ctx, http.MethodGet, "sas", func(line []byte) (bool, error) {
		var sa IKESA
		if err := json.Unmarshal(line, &sa); err != nil {
			return false, err
		}
		return yield(sa), nil
	})
}

// Up brings a connection up; progress sees every event. It returns when the Child SA is installed, or an error when it cannot be.
func (c *Client) Up(ctx context.Context, name string, progress func(Event)) error {
	return c.follow(ctx, "connections/"+url.PathEscape(name)+"/up", progress)
}

// Down takes a connection down.
func (c *Client) Down(ctx context.Context, name string, progress func(Event)) error {
	return c.follow(ctx, "connections/"+url.PathEscape(name)+"/down", progress)
}

// RekeyChild replaces the Child SAs of a connection, or the one of this name, by new ones.
func (c *Client) RekeyChild(ctx context.Context, name string, progress func(Event)) error {
	return c.follow(ctx, "connections/"+url.PathEscape(name)+"/rekey-child", progress)
}

// Add reads the configuration again and loads one connection of it.
func (c *Client) Add(ctx context.Context, name string) (LoadReport, error) {
	var r LoadReport
	return r, c.call(ctx, http.MethodPost, "connections/"+url.PathEscape(name)+"/add", &r)
}

// Delete takes a connection down and unloads it.
func (c *Client) Delete(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, "connections/"+url.PathEscape(name), &Result{})
}

// Reload reads the configuration and the secrets again.
func (c *Client) Reload(ctx context.Context) (LoadReport, error) {
	var r LoadReport
	return r, c.call(ctx, http.MethodPost, "reload", &r)
}

// RereadSecrets reads the secrets again.
func (c *Client) RereadSecrets(ctx context.Context) (LoadReport, error) {
	var r LoadReport
	return r, c.call(ctx, http.MethodPost, "rereadsecrets", &r)
}

// Shutdown asks for a clean stop; it is done when the daemon's process is gone.
func (c *Client) Shutdown(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "shutdown", &Result{})
}

// follow reads a stream of events to its Result.
func (c *Client) follow(ctx context.Context, what string, progress func(Event)) error {
	var result *Result
	err := c.lines(ctx, http.MethodPost, what, func(line []byte) (bool, error) {
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			return false, err
		}
		if e.Result != nil {
			result = e.Result
			return false, nil
		}
		progress(e)
		return true, nil
	})
	switch {
	case err != nil:
		return err
	case result == nil:
		return &Error{Code: CodeConnection, Message: "ikegod closed the connection before it said how it ended"}
	case result.OK:
		return nil
	case result.Error == nil:
		return &Error{Code: codeUnset, Message: "ikegod reports a failure without a reason"}
	}
	return result.Error
}

func (c *Client) call(ctx context.Context, method, what string, v any) error {
	body, err := c.do(ctx, method, what)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(v); err != nil {
		return c.broken(ctx, err)
	}
	return nil
}

func (c *Client) lines(ctx context.Context, method, what string, each func([]byte) (more bool, err error)) error {
	body, err := c.do(ctx, method, what)
	if err != nil {
		return err
	}
	defer body.Close()
	in := bufio.NewScanner(body)
	in.Buffer(make([]byte, 0, 64<<10), maxLine)
	for in.Scan() {
		more, err := each(in.Bytes())
		if err != nil {
			return &Error{Code: CodeProtocol, Message: "ikegod's answer is not what this ikectl understands: " + err.Error()}
		}
		if !more {
			return nil
		}
	}
	if err := in.Err(); err != nil {
		return c.broken(ctx, err)
	}
	return nil
}

// do sends a request and returns the body of a 200.
func (c *Client) do(ctx context.Context, method, what string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://ikegod/v1/"+what, nil) //nolint:gosec // the host is a name for a Unix socket of the operator's
	if err != nil {
		return nil, &Error{Code: CodeUsage, Message: err.Error()}
	}
	resp, err := c.http.Do(req) //nolint:gosec // as above
	if err != nil {
		return nil, c.unreached(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var r Result
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxLine)).Decode(&r); err != nil || r.Error == nil {
		return nil, &Error{Code: CodeProtocol, Message: "ikegod answered " + resp.Status}
	}
	return nil, r.Error
}

func (c *Client) unreached(ctx context.Context, err error) *Error {
	socket := filepath.Join(c.rundir, SocketName)
	switch {
	case ctx.Err() != nil:
		return timedOut(ctx)
	case errors.Is(err, fs.ErrNotExist):
		return &Error{Code: CodeNoDaemon, Message: fmt.Sprintf("no ikegod runs with run directory %s: %s is not there", c.rundir, socket)}
	case errors.Is(err, syscall.ECONNREFUSED):
		return &Error{Code: CodeNoDaemon, Message: fmt.Sprintf("no ikegod runs with run directory %s: nobody listens on %s any more", c.rundir, socket)}
	case errors.Is(err, fs.ErrPermission):
		return &Error{Code: CodeDenied, Message: fmt.Sprintf("%s: permission denied; ask as root", socket)}
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // without the address that stands for the socket
	}
	return &Error{Code: CodeConnection, Message: "ikegod closed the connection without an answer; it is on its way down, or too many clients ask at once (" + err.Error() + ")"}
}

func (c *Client) broken(ctx context.Context, err error) *Error {
	if ctx.Err() != nil {
		return timedOut(ctx)
	}
	return &Error{Code: CodeConnection, Message: "the connection to ikegod broke: " + err.Error()}
}

func timedOut(ctx context.Context) *Error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &Error{Code: CodeTimeout, Message: "no answer in time"}
	}
	return &Error{Code: CodeFailed, Message: "interrupted"}
}

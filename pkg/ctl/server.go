package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net"
	"net/http"
	"time"
)

// Limits of the server. The socket belongs to root, so they guard against mistakes (a script that forks clients, a client that was stopped in the
// middle), not against strangers.
const (
	maxClients    = 64
	maxTurnedAway = 16
	maxHeader     = 16 << 10
	headerTimeout = 5 * time.Second
	idleTimeout   = time.Minute
	// writeTimeout is how long one line may take to go out; a client that does not read for that long is cut off.
	writeTimeout = 10 * time.Second
)

// Service is what the daemon can do. Every method is called on a goroutine of its own and may block until ctx ends. Errors that are an *Error keep
// their code; all others are CodeFailed.
type Service interface {
	Status(ctx context.Context) (Status, error)
	// Doctor tries anew what this kernel can do.
	Doctor(ctx context.Context) (Doctor, error)
	// SAs calls yield for each IKE SA until it returns false.
	SAs(ctx context.Context, yield func(IKESA) bool) error
	Connections(ctx context.Context) ([]Connection, error)
	// Explain says what a connection would be negotiated with, and what a peer would get. peer is an address, id an identity as ipsec.conf writes it; either may be empty.
	Explain(ctx context.Context, name, peer, id string) (Explanation, error)
	Up(ctx context.Context, name string, progress func(Event)) error
	Down(ctx context.Context, name string, progress func(Event)) error
	// RekeyChild replaces the Child SAs of a connection, or one by its own name.
	RekeyChild(ctx context.Context, name string, progress func(Event)) error
	// Add reads the configuration again and loads the one connection.
	Add(ctx context.Context, name string) (LoadReport, error)
	Delete(ctx context.Context, name string) error
	Reload(ctx context.Context) (LoadReport, error)
	RereadSecrets(ctx context.Context) (LoadReport, error)
	// Shutdown starts a clean stop and returns.
	Shutdown(ctx context.Context) error
}

// Server answers on a control socket.
type Server struct {
	service Service
	http    *http.Server
}

// NewServer makes a server. Complaints about broken clients go to errorLog.
func NewServer(s Service, errorLog *log.Logger) *Server {
	srv := &Server{service: s}
	srv.http = &http.Server{
		Handler:           srv.routes(),
		ReadHeaderTimeout: headerTimeout,
		// No ReadTimeout: it would go on during the answer and cancel a long `up` (net/http reads ahead to notice a client that leaves). No request
		// has a body, so the header timeout bounds all reading.
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       errorLog,
	}
	return srv
}

// Serve answers on l, which Listen made, until Shutdown or Close.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown stops listening and waits until every client has its answer, at most until ctx ends; then it cuts the rest off.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return s.http.Close()
	}
	return nil
}

func (s *Server) routes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /v1/status", reply(func(r *http.Request) (Status, error) { return s.service.Status(r.Context()) }))
	m.HandleFunc("GET /v1/doctor", reply(func(r *http.Request) (Doctor, error) { return s.service.Doctor(r.Context()) }))
	m.HandleFunc("GET /v1/sas", s.sas)
	m.HandleFunc("GET /v1/connections", reply(func(r *http.Request) ([]Connection, error) { return s.service.Connections(r.Context()) }))
	m.HandleFunc("GET /v1/connections/{name}/explain", reply(func(r *http.Request) (Explanation, error) {
		q := r.URL.Query()
		return s.service.Explain(r.Context(), r.PathValue("name"), q.Get("peer"), q.Get("id"))
	}))
	m.HandleFunc("POST /v1/connections/{name}/up", stream(s.service.Up))
	m.HandleFunc("POST /v1/connections/{name}/down", stream(s.service.Down))
	m.HandleFunc("POST /v1/connections/{name}/rekey-child", stream(s.service.RekeyChild))
	m.HandleFunc("POST /v1/connections/{name}/add", reply(func(r *http.Request) (LoadReport, error) {
		return s.service.Add(r.Context(), r.PathValue("name"))
	}))
	m.HandleFunc("DELETE /v1/connections/{name}", reply(func(r *http.Request) (Result, error) {
		return Result{OK: true}, s.service.Delete(r.Context(), r.PathValue("name"))
	}))
	m.HandleFunc("POST /v1/reload", reply(func(r *http.Request) (LoadReport, error) { return s.service.Reload(r.Context()) }))
	m.HandleFunc("POST /v1/rereadsecrets", reply(func(r *http.Request) (LoadReport, error) { return s.service.RereadSecrets(r.Context()) }))
	m.HandleFunc("POST /v1/shutdown", reply(func(r *http.Request) (Result, error) {
		return Result{OK: true}, s.service.Shutdown(r.Context())
	}))
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, &Error{Code: CodeNotFound, Message: "no such request: " + r.Method + " " + r.URL.Path})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			w.Header().Set("Connection", "close")
			writeError(w, &Error{Code: CodeUsage, Message: "requests to ikegod have no body"})
			return
		}
		m.ServeHTTP(w, r)
	})
}

// reply answers with one JSON object.
func reply[T any](do func(*http.Request) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := do(r)
		if err != nil {
			writeError(w, asError(err))
			return
		}
		writeJSON(w, http.StatusOK, v)
	}
}

func writeError(w http.ResponseWriter, e *Error) { writeJSON(w, e.httpStatus(), Result{Error: e}) }

func writeJSON(w http.ResponseWriter, status int, v any) {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// lines writes NDJSON. After the first write that fails, it cancels the work and swallows the rest.
type lines struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	enc    *json.Encoder
	cancel context.CancelFunc
	failed bool
}

func newLines(w http.ResponseWriter, cancel context.CancelFunc) *lines {
	w.Header().Set("Content-Type", "application/x-ndjson")
	return &lines{w: w, rc: http.NewResponseController(w), enc: json.NewEncoder(w), cancel: cancel}
}

func (l *lines) write(v any, flush bool) bool {
	if l.failed {
		return false
	}
	l.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	err := l.enc.Encode(v)
	if err == nil && flush {
		err = l.rc.Flush()
	}
	if err != nil {
		l.failed = true
		l.cancel()
	}
	return err == nil
}

// stream runs a verb on a connection and writes its progress as it comes; the last line is the Result.
func stream(do func(ctx context.Context, name string, progress func(Event)) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		out := newLines(w, cancel)
		err := do(ctx, r.PathValue("name"), func(e Event) { out.write(e, true) })
		last := Result{OK: err == nil}
		if err != nil {
			last.Error = asError(err)
		}
		out.write(Event{At: time.Now(), Result: &last}, true)
	}
}

func (s *Server) sas(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	out := newLines(w, cancel)
	if err := s.service.SAs(ctx, func(sa IKESA) bool { return out.write(sa, false) }); err != nil && !out.failed {
		// Whole objects have gone out already: break the stream, so that half a list cannot pass for all of it.
		panic(http.ErrAbortHandler)
	}
}

package ctl

import (
	"errors"
	"net/http"
	"time"
)

// Code says what kind of failure an Error is; ikectl's exit status follows from it.
type Code string

// Codes.
const (
	CodeFailed     Code = "failed"      // tried, and it did not work
	CodeNotFound   Code = "not-found"   // no such connection, no such path
	CodeUsage      Code = "usage"       // the request itself is wrong
	CodeDenied     Code = "denied"      // this user may not ask
	CodeBusy       Code = "busy"        // too many clients
	CodeTimeout    Code = "timeout"     // nothing came of it in time
	CodeStopping   Code = "stopping"    // the daemon is on its way down
	CodeNoDaemon   Code = "no-daemon"   // made by the client: nobody listens
	CodeConnection Code = "disconnect"  // made by the client: the daemon went away in the middle
	CodeProtocol   Code = "protocol"    // made by the client: what came is not this protocol
	CodeConfig     Code = "config"      // the configuration has errors; Report says which
	CodeInternal   Code = "internal"    // a bug in the daemon
	codeUnset      Code = "unspecified" // a server that said nothing
)

// Error is a failure as it goes over the wire. Message stands by itself.
type Error struct {
	Code     Code        `json:"code"`
	Message  string      `json:"message"`
	Attempts []Attempt   `json:"attempts,omitempty"` // of an up: what each rung answered
	Report   *LoadReport `json:"report,omitempty"`   // of a reload
}

func (e *Error) Error() string { return e.Message }

// Attempt is one try of an `up` on one path.
type Attempt struct {
	Path   Path          `json:"path"`
	Reason string        `json:"reason"`
	Detail string        `json:"detail,omitempty"`
	Took   time.Duration `json:"took_ns"`
}

// asError makes what a Service returned fit for the wire.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: CodeFailed, Message: err.Error()}
}

func (e *Error) httpStatus() int {
	switch e.Code {
	case CodeNotFound:
		return http.StatusNotFound
	case CodeUsage:
		return http.StatusBadRequest
	case CodeDenied:
		return http.StatusForbidden
	case CodeBusy, CodeStopping:
		return http.StatusServiceUnavailable
	case CodeTimeout:
		return http.StatusGatewayTimeout
	case CodeFailed, CodeConfig:
		return http.StatusConflict
	case CodeNoDaemon, CodeConnection, CodeProtocol, CodeInternal, codeUnset:
	}
	return http.StatusInternalServerError
}

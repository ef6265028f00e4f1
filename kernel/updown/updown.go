// Package updown runs the scripts of leftupdown=, with libreswan's verbs and variables, when tunnels come and go.
//
// The scripts of one connection run one after the other, in the order of the changes, on goroutines of this package: nobody waits for them. What a peer has chosen, such
// as its identity, reaches a script in the environment alone, never in a command, and without control characters.
package updown

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
)

// Verb is a change of a tunnel.
type Verb uint8

// Verbs. A script hears of preparing before the first Route, and of Route before the first Up; what it has heard already it does not hear again.
const (
	Route   Verb = iota // packets are led to the tunnel, or bring it up (auto=ondemand)
	Up                  // the first Child SA is there
	Down                // the last one has gone
	Unroute             // packets go on as if there were no connection
)

// Tunnel is what a script is told. Addresses and identities are empty where they are not known, as before the first Child SA.
type Tunnel struct {
	Key        string // tells tunnels of a connection apart
	Connection string
	Script     string // for /bin/sh -c
	Local      End
	Remote     End
	SourceIP   netip.Addr
	MTU        int
	Transport  bool
	SPIIn      uint32
	SPIOut     uint32
}

// End is one side of a tunnel.
type End struct {
	Host     netip.Addr
	ID       string
	Client   netip.Prefix
	Protocol uint8
	Port     uint16 // zero: any
}

const (
	// limit is how long a script may take: what comes after it for the same connection waits.
	limit = 30 * time.Second
	// closeTime is how long the scripts may take together that run when the daemon stops.
	closeTime = 5 * time.Second
	// grace is for what a script has left running in the background and still has its output.
	grace = 500 * time.Millisecond
	// outputLines and outputLine bound what is told of one script's output.
	outputLines, outputLine = 100, 400
	// together is how many scripts run at a time.
	together = 8
	// most is how many changes of one connection may wait.
	most = 4096
)

// Runner runs scripts. Safe for concurrent use.
type Runner struct {
	notice func(connection string, failed bool, text string)
	limit  time.Duration
	slots  chan struct{}
	ctx    context.Context //nolint:containedctx // the life of what runs on the runner's goroutines
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex // guards what follows
	queues  map[string][]job
	tunnels map[string]*state // by key
	closed  bool
}

type job struct {
	verb   string
	tunnel Tunnel
}

type state struct {
	tunnel Tunnel
	up     bool
}

// New makes a Runner. notice takes what scripts print, and what became of those that failed: a line that stands by itself. It is called on several goroutines.
func New(notice func(connection string, failed bool, text string)) *Runner {
	r := &Runner{notice: notice, limit: limit, slots: make(chan struct{}, together), queues: map[string][]job{}, tunnels: map[string]*state{}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Change tells the script of a tunnel what has changed. It does not block.
func (r *Runner) Change(v Verb, t Tunnel) {
	if t.Script == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.change(v, t)
	}
}

// change works out what a script has to hear. The caller has the lock.
func (r *Runner) change(v Verb, t Tunnel) {
	key := t.Connection + "\x00" + t.Key
	st := r.tunnels[key]
	switch {
	case v == Route || v == Up:
		if st == nil {
			st = &state{}
			r.tunnels[key] = st
			r.push("prepare", t)
			r.push("route", t)
		}
		st.tunnel = t
		if v == Up && !st.up {
			st.up = true
			r.push("up", t)
		}
	case st == nil:
	default:
		if st.up {
			st.up = false
			r.push("down", st.tunnel)
		}
		if v == Unroute {
			delete(r.tunnels, key)
			r.push("unroute", st.tunnel)
		}
	}
}

// push queues a script. The caller has the lock.
func (r *Runner) push(verb string, t Tunnel) {
	waiting, running := r.queues[t.Connection]
	if len(waiting) >= most {
		go r.notice(t.Connection, true, fmt.Sprintf("updown %s of connection %q is left out: %d others wait for scripts that do not end", verb, t.Connection, most))
		return
	}
	r.queues[t.Connection] = append(waiting, job{verb, t})
	if !running {
		r.wg.Go(func() { r.work(t.Connection) })
	}
}

// work runs the scripts of a connection until there is none.
func (r *Runner) work(connection string) {
	for {
		r.mu.Lock()
		list := r.queues[connection]
		if len(list) == 0 {
			delete(r.queues, connection)
			r.mu.Unlock()
			return
		}
		j := list[0]
		r.queues[connection] = list[1:]
		r.mu.Unlock()
		r.slots <- struct{}{}
		r.run(j)
		<-r.slots
	}
}

func (r *Runner) run(j job) {
	t := &j.tunnel
	verb := j.verb + t.suffix()
	fail := func(format string, args ...any) {
		r.notice(t.Connection, true, fmt.Sprintf("updown %s of connection %q: leftupdown=%s ", verb, t.Connection, clean(t.Script))+fmt.Sprintf(format, args...))
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", t.Script)
	cmd.Env, cmd.Dir, cmd.WaitDelay = t.environment(verb), "/", grace
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // with all that it has started
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	told := make(chan struct{})
	go func() {
		defer close(told)
		r.tell(t.Connection, verb, out)
	}()
	err := cmd.Run()
	in.Close()
	<-told
	exit, exited := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay): // something of it goes on in the background
	case r.ctx.Err() != nil:
		fail("was ended, since ikegod stops")
	case ctx.Err() != nil:
		fail("was ended, since it took longer than %s; let it start what takes long in the background", r.limit)
	case exited && exit.Exited():
		fail("exited with status %d", exit.ExitCode())
	default:
		fail("failed: %v", err)
	}
}

// tell passes on what a script prints, and reads all of it.
func (r *Runner) tell(connection, verb string, out io.Reader) {
	in := bufio.NewReaderSize(out, outputLine)
	for n := 0; ; {
		line, more, err := in.ReadLine()
		if err != nil {
			return
		}
		if n++; n <= outputLines {
			r.notice(connection, false, fmt.Sprintf("updown %s of connection %q: %s", verb, connection, clean(string(line))))
		}
		for more && err == nil { // the rest of a long line
			_, more, err = in.ReadLine()
		}
	}
}

// clean takes control characters out.
func clean(s string) string {
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, s)
}

// Close takes down and unroutes what is there, waits for the scripts, and ends those that take too long.
func (r *Runner) Close() {
	r.mu.Lock()
	for _, st := range r.tunnels {
		r.change(Unroute, st.tunnel)
	}
	r.closed = true
	r.mu.Unlock()
	late := time.AfterFunc(closeTime, r.cancel)
	defer late.Stop()
	r.wg.Wait()
	r.cancel()
}

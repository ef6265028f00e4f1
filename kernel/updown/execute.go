package updown

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/ikegod/ikegod/kernel"
)

const (
	// maxLines and maxLine, in octets, bound what is kept of the output of one run. The rest is read and dropped.
	maxLines = 100
	maxLine  = 512
	// lastOutput is how long the output is read after the script has ended: what it left in the background may hold it open.
	lastOutput = 200 * time.Millisecond
)

// execute runs a script. The command is the configuration's own text; what comes from peers is in the environment. The error says how it has failed.
func (r *Runner) execute(t kernel.Tunnel, verb string, env []string) error {
	ctx, cancel := context.WithTimeout(r.life, r.o.Limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", t.Script)
	cmd.Env, cmd.Dir = env, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = lastOutput
	out := &output{tell: func(line string) { t.Tell(false, fmt.Sprintf("command %q output: %s", verb, line)) }}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	out.end()
	exit, exited := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return nil
	case r.life.Err() != nil:
		return fmt.Errorf("command %q: killed, as the daemon shuts down", verb)
	case ctx.Err() != nil:
		return fmt.Errorf("command %q: killed with all that it had started, as it ran for more than %v", verb, r.o.Limit)
	case exited && exit.Exited():
		return fmt.Errorf("command %q: exited with status %d", verb, exit.ExitCode())
	case exited:
		return fmt.Errorf("command %q: ended by %w", verb, exit)
	}
	return fmt.Errorf("command %q: not run: %w", verb, err)
}

// output cuts what a script writes into lines. One goroutine writes, end is called after it.
type output struct {
	tell    func(string)
	line    []byte
	cut     bool // the line goes on; the rest of it is dropped
	told    int
	dropped int
}

// Write never fails: a script must not block or die because it says too much.
func (o *output) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		part := p
		if i >= 0 {
			part = p[:i]
		}
		room := maxLine - len(o.line)
		o.cut = o.cut || len(part) > room
		o.line = append(o.line, part[:min(len(part), room)]...)
		if i < 0 {
			break
		}
		o.flush()
		p = p[i+1:]
	}
	return n, nil
}

func (o *output) flush() {
	if o.told < maxLines {
		text := clean(strings.ReplaceAll(strings.TrimRight(string(o.line), "\r"), "\t", " "), maxLine)
		if o.cut {
			text += " ..."
		}
		o.tell(text)
		o.told++
	} else {
		o.dropped++
	}
	o.line, o.cut = o.line[:0], false
}

// end tells a last line without an end, and what was dropped.
func (o *output) end() {
	if len(o.line) > 0 {
		o.flush()
	}
	if o.dropped > 0 {
		o.tell(fmt.Sprintf("(%d more lines were dropped)", o.dropped))
	}
}

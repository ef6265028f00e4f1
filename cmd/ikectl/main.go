// Command ikectl controls ikegod: it brings connections up and down, shows their state, and checks configuration files. A verb is a file.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ikegod/ikegod/pkg/ctl"
)

// The exit status.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNoDaemon = 3
	exitTimeout  = 4
)

// one makes a verb want exactly one argument, and say so in words.
func one(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			return nil
		}
		return fmt.Errorf("%s wants one argument, %s; it got %d", c.Name(), what, len(args))
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// app is what every verb needs.
type app struct {
	rundir   string
	json     bool
	started  time.Time
	out, err io.Writer
}

func (a *app) client() *ctl.Client { return ctl.NewClient(a.rundir) }

// run is ikectl as a function of its arguments.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a := &app{started: time.Now(), out: stdout, err: stderr}
	root := a.command()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return a.exit(root.ExecuteContext(ctx))
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "ikectl [--rundir DIR] [--json] VERB",
		Short: "Control ikegod",
		Long: "ikectl controls the ikegod that runs with a run directory.\n\n" +
			"Exit status: 0 done; 1 failed, with the reason; 2 usage; 3 no daemon; 4 timed out.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown verb %q", args[0])
			}
			return errors.New("a verb is missing")
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().StringVar(&a.rundir, "rundir", envOr("IKEGOD_RUNDIR", "/run/ikegod"), "run directory of the daemon")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON, one object or one object a line")
	root.AddCommand(a.up(), a.down(), a.rekeyChild(), a.add(), a.delete(), a.status(), a.connections(), a.explain(), a.doctor(), a.trafficStatus(), a.check(), a.reload(),
		a.rereadSecrets(), a.shutdown())
	return root
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// silentError is an error whose text the verb has printed already.
type silentError struct{ status int }

func (silentError) Error() string { return "" }

// exit prints err and turns it into the exit status. What does not come from a verb's work is cobra's: a question of usage.
func (a *app) exit(err error) int {
	var silent silentError
	var e *ctl.Error
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &silent):
		return silent.status
	case !errors.As(err, &e):
		fmt.Fprintf(a.err, "ikectl: %v\nTry \"ikectl --help\".\n", err)
		return exitUsage
	}
	if a.json {
		json.NewEncoder(a.out).Encode(ctl.Result{Error: e})
	}
	a.printError(e)
	switch e.Code {
	case ctl.CodeNoDaemon:
		return exitNoDaemon
	case ctl.CodeTimeout:
		return exitTimeout
	case ctl.CodeUsage:
		return exitUsage
	default:
		return exitFailed
	}
}

func (a *app) printError(e *ctl.Error) {
	a.errorf("ikectl: %s", e.Message)
	for i, t := range e.Attempts {
		a.errorf("    attempt %d  %-22s %6.2fs  %s", i+1, peer(t.Path), t.Took.Seconds(), attemptText(t))
	}
	if e.Report != nil {
		printDiagnostics(a.err, e.Report.Diagnostics)
	}
}

// attemptText is the reason with the detail, unless the detail says it all.
func attemptText(t ctl.Attempt) string {
	if t.Detail == "" {
		return t.Reason
	}
	return t.Detail
}

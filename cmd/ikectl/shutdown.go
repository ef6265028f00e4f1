package main

import (
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ikegod/ikegod/pkg/ctl"
)

func (a *app) shutdown() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "shutdown",
		Short: "Stop the daemon cleanly: peers are told, routes and rules and the TUN device are removed",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.client().Shutdown(cmd.Context()); err != nil {
				return err
			}
			deadline := time.Now().Add(timeout)
			for {
				if !a.running() {
					return a.done("ikegod has stopped")
				}
				if time.Now().After(deadline) {
					return &ctl.Error{Code: ctl.CodeTimeout, Message: "ikegod still runs after " + timeout.String()}
				}
				select {
				case <-cmd.Context().Done():
					return &ctl.Error{Code: ctl.CodeFailed, Message: "interrupted; ikegod goes on stopping"}
				case <-time.After(20 * time.Millisecond):
				}
			}
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "stop waiting after this time, with exit status 4")
	return cmd
}

// running reports whether a daemon holds the lock of the run directory.
func (a *app) running() bool {
	f, err := os.Open(filepath.Join(a.rundir, ctl.LockName))
	if err != nil {
		return false
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil
}

// done ends a verb that has nothing to show.
func (a *app) done(format string, args ...any) error {
	if a.json {
		a.object(ctl.Result{OK: true})
		return nil
	}
	a.printf(format, args...)
	return nil
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ikegod/ikegod/pkg/ctl"
)

func (a *app) up() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "up NAME",
		Short: "Bring a connection up, showing every step, until its Child SA is installed",
		Long: "up brings a connection up and shows every step with its time, until the Child SA is installed. With enable-tcp=fallback\n" +
			"the attempts over UDP and TCP both show. When it fails, it says what each of them was answered.",
		Args: one("the name of a connection"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := within(cmd.Context(), timeout)
			defer cancel()
			err := a.follow(ctx, a.client().Up, args[0])
			if err != nil {
				return lateError(err, timeout, "%q is not up after %s; ikegod goes on trying in the background", args[0])
			}
			if !a.json {
				a.printf("%8s  %q is up", a.clock(time.Now()), args[0])
			}
			return nil
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "stop waiting after this time, with exit status 4; 0 waits until it is up or has failed")
	return cmd
}

func within(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}

// follow runs a verb that reports its progress, and prints each event as it comes.
func (a *app) follow(ctx context.Context, verb func(context.Context, string, func(ctl.Event)) error, name string) error {
	lines := json.NewEncoder(a.out)
	err := verb(ctx, name, func(e ctl.Event) {
		if a.json {
			lines.Encode(e)
			return
		}
		if e.Level == "debug" || e.Text == "" {
			return
		}
		a.printf("%8s  %s", a.clock(e.At), e.Text)
	})
	if err == nil && a.json {
		lines.Encode(ctl.Event{At: time.Now(), Result: &ctl.Result{OK: true}})
	}
	return err
}

// clock prints a moment as seconds since ikectl started.
func (a *app) clock(t time.Time) string {
	return fmt.Sprintf("%.3fs", max(0, t.Sub(a.started).Seconds()))
}

// lateError says what a timeout means for this verb.
func lateError(err error, timeout time.Duration, format, name string) error {
	var e *ctl.Error
	if errors.As(err, &e) && e.Code == ctl.CodeTimeout {
		return &ctl.Error{Code: ctl.CodeTimeout, Message: fmt.Sprintf(format, name, timeout)}
	}
	return err
}

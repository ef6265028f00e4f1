package main

import (
	"time"

	"github.com/spf13/cobra"
)

func (a *app) down() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "down NAME",
		Short: "Take a connection down: the peer is told, revival stops",
		Args:  one("the name of a connection"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := within(cmd.Context(), timeout)
			defer cancel()
			if err := a.follow(ctx, a.client().Down, args[0]); err != nil {
				return lateError(err, timeout, "%q is not down after %s; ikegod goes on in the background", args[0])
			}
			if !a.json {
				a.printf("%8s  %q is down", a.clock(time.Now()), args[0])
			}
			return nil
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "stop waiting after this time, with exit status 4; 0 waits until it is done")
	return cmd
}

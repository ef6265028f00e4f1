package main

import (
	"time"

	"github.com/spf13/cobra"
)

func (a *app) rekeyChild() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "rekey-child NAME",
		Short: "Replace the Child SAs of a connection, one of them (NAME/1x2), or those with one peer of a template ('NAME[2]'), by new ones",
		Args:  one("the name of a connection or of one of its Child SAs"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := within(cmd.Context(), timeout)
			defer cancel()
			if err := a.follow(ctx, a.client().RekeyChild, args[0]); err != nil {
				return lateError(err, timeout, "%q is not rekeyed after %s; ikegod goes on in the background", args[0])
			}
			if !a.json {
				a.printf("%8s  %q is rekeyed", a.clock(time.Now()), args[0])
			}
			return nil
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "stop waiting after this time, with exit status 4; 0 waits until it is done")
	return cmd
}

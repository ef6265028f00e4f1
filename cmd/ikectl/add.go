package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/ikegod/ikegod/pkg/ctl"
)

func (a *app) add() *cobra.Command {
	return &cobra.Command{
		Use:   "add NAME",
		Short: "Read the configuration again and load (or replace) one connection of it",
		Args:  one("the name of a connection"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.client().Add(cmd.Context(), args[0])
			return a.report(r, err)
		},
	}
}

// report prints what a load did.
func (a *app) report(r ctl.LoadReport, err error) error {
	if err != nil {
		return err
	}
	if a.json {
		a.object(r)
		return nil
	}
	printDiagnostics(a.err, r.Diagnostics)
	for _, line := range []struct {
		what  string
		names []string
	}{{"added", r.Added}, {"changed", r.Changed}, {"removed", r.Removed}, {"refused because of errors", r.Refused}} {
		if len(line.names) > 0 {
			a.printf("%s: %s", line.what, strings.Join(line.names, ", "))
		}
	}
	if r.Unchanged > 0 {
		a.printf("unchanged: %d", r.Unchanged)
	}
	if r.Secrets > 0 {
		a.printf("secrets: %d", r.Secrets)
	}
	return nil
}

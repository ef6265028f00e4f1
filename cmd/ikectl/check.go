package main

import (
	"github.com/spf13/cobra"

	"github.com/ikegod/ikegod/conf"
	"github.com/ikegod/ikegod/pkg/ctl"
)

func (a *app) check() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Check a configuration file without a daemon: every error and warning with its place",
		Long: "check reads a configuration file with all that it includes, as the daemon would, and prints every finding with file, line and\n" +
			"column, all at once. It needs no daemon. The exit status is 1 if there are errors.",
		Args: one("a configuration file"),
		RunE: func(_ *cobra.Command, args []string) error {
			found := conf.Check(args[0], conf.Options{})
			if a.json {
				if found == nil {
					found = conf.Diagnostics{}
				}
				a.object(found)
			} else {
				printDiagnostics(a.out, fromConf(found))
				a.printf("%s: %s, %s, %s", args[0], plural(found.Count(conf.Error), "error", "errors"), plural(found.Count(conf.Warning), "warning", "warnings"),
					plural(found.Count(conf.Note), "note", "notes"))
			}
			if found.HasErrors() {
				return silentError{exitFailed}
			}
			return nil
		},
	}
}

func fromConf(ds conf.Diagnostics) []ctl.Diagnostic {
	var out []ctl.Diagnostic
	for _, d := range ds {
		out = append(out, ctl.Diagnostic{
			Severity: d.Severity.String(), File: d.File, Line: d.Line, Column: d.Col, Width: d.Width, Connection: d.Conn,
			Text: d.Text, Suggestion: d.Suggestion, Source: d.Source,
		})
	}
	return out
}

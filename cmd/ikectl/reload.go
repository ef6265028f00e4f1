package main

import "github.com/spf13/cobra"

func (a *app) reload() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Read the configuration and the secrets again; connections that did not change keep their SAs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.client().Reload(cmd.Context())
			return a.report(r, err)
		},
	}
}

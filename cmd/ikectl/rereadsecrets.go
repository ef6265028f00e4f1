package main

import "github.com/spf13/cobra"

func (a *app) rereadSecrets() *cobra.Command {
	return &cobra.Command{
		Use:   "rereadsecrets",
		Short: "Read the secrets again",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.client().RereadSecrets(cmd.Context())
			return a.report(r, err)
		},
	}
}

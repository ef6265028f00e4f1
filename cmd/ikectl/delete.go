package main

import "github.com/spf13/cobra"

func (a *app) delete() *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME",
		Short: "Take a connection down and unload it",
		Args:  one("the name of a connection"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.client().Delete(cmd.Context(), args[0]); err != nil {
				return err
			}
			return a.done("%q is deleted", args[0])
		},
	}
}

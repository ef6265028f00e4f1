package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func (a *app) check() *cobra.Command {
	return &cobra.Command{
		Use:  "check FILE",
		Args: cobra.ExactArgs(1),
		RunE: func(*cobra.Command, []string) error { return errors.New("not yet") },
	}
}

package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ikegod/ikegod/pkg/ctl"
)

func (a *app) doctor() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say what this kernel can do for IPsec, which datapath ikegod runs with, and why",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.client().Doctor(cmd.Context())
			if e, ok := errors.AsType[*ctl.Error](err); ok && e.Code == ctl.CodeNoDaemon {
				return &ctl.Error{Code: e.Code, Message: fmt.Sprintf("%s; without a daemon ask `ikegod doctor`", e.Message)}
			}
			if err != nil {
				return err
			}
			if a.json {
				a.object(d)
				return nil
			}
			for _, line := range d.Lines() {
				a.printf("%s", line)
			}
			return nil
		},
	}
}

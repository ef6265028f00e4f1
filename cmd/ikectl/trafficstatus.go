package main

import (
	"github.com/spf13/cobra"

	"github.com/ikegod/ikegod/pkg/ctl"
)

func (a *app) trafficStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "trafficstatus",
		Short: "Show the traffic of every Child SA, a line each",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := []ctl.ChildSA{}
			err := a.client().SAs(cmd.Context(), func(sa ctl.IKESA) bool {
				for _, c := range sa.Children {
					if c.Installed.IsZero() {
						continue
					}
					if a.json {
						all = append(all, c)
						continue
					}
					// The words of libreswan's line, which scripts look for.
					a.printf("%s, type=ESP, add_time=%d, inBytes=%d, outBytes=%d, id='%s'", instanceName(c.Name, c.Instance, sa), c.Installed.Unix(), c.InBytes, c.OutBytes,
						sa.RemoteID)
				}
				return true
			})
			if err == nil && a.json {
				a.object(all)
			}
			return err
		},
	}
}

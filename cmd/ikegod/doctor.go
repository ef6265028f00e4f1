package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/ikegod/ikegod/conf"
	"github.com/ikegod/ikegod/pkg/ctl"
)

// doctorCommand tries what this kernel can do, without a daemon and beside one.
func doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this kernel can do for IPsec, which datapath start would choose, and why",
		Long: "doctor tries what the kernel can do, in a network namespace of its own, and says for each thing that it cannot do why, and what helps.\n" +
			"It disturbs no daemon that runs; `ikectl doctor` asks that one what it has chosen. What connections of the configuration ask for with backend= counts as it does for start.\n\n" +
			"Exit status: 0 if start could choose a datapath, 1 if it could not.",
		Args: cobra.NoArgs,
	}
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	// The other settings come with it, so that IKEGOD_* variables and the settings file count as they do for start.
	flags := settingsFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, _, err := flags.load(os.Environ())
		if err != nil {
			return err
		}
		return doctor(cmd.OutOrStdout(), s, *asJSON)
	}
	return cmd
}

func doctor(w io.Writer, s Settings, asJSON bool) error {
	// A connection may ask for a datapath of its own. Where there is no configuration yet, none does.
	file, _ := conf.Load(s.Config, conf.Options{})
	set, _ := file.Compile()
	report, _, choice, failed := probeKernel(s.Backend, asker(set))
	if report == nil {
		return failed
	}
	d := ctlDoctor(report, choice)
	if failed != nil {
		d.Datapath, d.Why = "", failed.Error()
	}
	if err := printDoctor(w, d, asJSON); err != nil {
		return err
	}
	return failed
}

func printDoctor(w io.Writer, d ctl.Doctor, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(d)
	}
	for _, line := range d.Lines() {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// Command ikegod is the daemon: it reads its settings, makes the parts, joins them, and runs until it is told to stop.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the Makefile.
var version = "unreleased"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "ikegod: %v\n", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "ikegod",
		Short:         "IKEv2 daemon with TCP fallback",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       buildVersion(),
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	start := &cobra.Command{
		Use:   "start",
		Short: "Run in the foreground until SIGTERM; SIGHUP reloads",
		Long: "start runs ikegod in the foreground (systemd Type=notify). SIGTERM and SIGINT stop it cleanly: peers are told, and routes, rules,\n" +
			"nft tables and the TUN device are removed. SIGHUP reads the configuration and the secrets again.\n\n" +
			"Every flag is also a key of the settings file and a variable IKEGOD_NAME (--log-level: log-level, IKEGOD_LOG_LEVEL).\n" +
			"A flag wins over a variable, a variable over the file.",
		Args: cobra.NoArgs,
	}
	flags := settingsFlags(start.Flags())
	start.RunE = func(cmd *cobra.Command, _ []string) error {
		s, warnings, err := flags.load(os.Environ())
		if err != nil {
			return err
		}
		return serve(cmd.Context(), s, warnings)
	}
	root.AddCommand(start, doctorCommand())
	return root
}

// buildVersion is the version with the commit, when Go recorded one.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return version + "-" + s.Value[:12]
		}
	}
	return version
}

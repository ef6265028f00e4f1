package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ikegod/ikegod/pkg/ctl"
)

func (a *app) explain() *cobra.Command {
	return &cobra.Command{
		Use:   "explain CONNECTION [PEER [ID]]",
		Short: "Say with what a connection is negotiated, and which connection a peer would get and why not the others",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 3 {
				return errors.New("explain wants the name of a connection, and perhaps the peer's address and its identity")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			args = append(args, "", "")
			x, err := a.client().Explain(cmd.Context(), args[0], args[1], args[2])
			if err != nil {
				return err
			}
			if a.json {
				a.object(x)
				return nil
			}
			a.printExplanation(x)
			return nil
		},
	}
}

func (a *app) printExplanation(x ctl.Explanation) {
	a.printf("%q of %s", x.Connection, x.Position)
	if x.Why != "" {
		a.printf("    not usable  %s", x.Why)
	} else if x.Shunt != "" {
		a.printf("    does        %s", x.Shunt)
		a.printf("    gets        no peer: it is a policy without IKE")
	} else {
		a.printf("    here        %s[%s]", x.Local.Host, x.Local.ID)
		a.printf("    peer        %s[%s]", x.Remote.Host, x.Remote.ID)
		a.printf("    secret      %s", secretText(x.Secret))
		a.printFate(x)
	}
	a.printf("")
	a.printf("settings, and where they stand")
	for _, s := range x.Settings {
		a.printf("    %-34s %s", s.Keyword+"="+s.Value, orDefault(s.Position))
	}
}

// printFate says which connection the peer gets, and why not the others.
func (a *app) printFate(x ctl.Explanation) {
	switch {
	case len(x.Candidates) == 0:
		a.printf("    gets        it depends on the peer, whose address is not given: ikectl explain %s ADDRESS [ID]", x.Connection)
	case x.Chosen == "":
		a.printf("    gets        no connection: AUTHENTICATION_FAILED, or NO_PROPOSAL_CHOSEN where none is for its address")
	case x.Chosen != x.Connection:
		a.printf("    gets        %q, and not this one%s", x.Chosen, but(x.Fails))
	default:
		a.printf("    gets        this connection%s", but(x.Fails))
	}
	for _, c := range x.Candidates {
		switch {
		case c.Connection == x.Chosen:
			a.printf("    fits        %q (%s), %s", c.Connection, c.Position, fitText(c.Fits))
		case c.Fits == "":
			a.printf("    not         %q (%s): it %s", c.Connection, c.Position, c.Why)
		default:
			a.printf("    not         %q (%s), %s, but %s", c.Connection, c.Position, fitText(c.Fits), c.Why)
		}
	}
}

// but joins what speaks against it to a sentence.
func but(fails string) string {
	if fails == "" {
		return ""
	}
	return ", but " + fails
}

// fitText says in which way a connection is for the peer's address.
func fitText(fits string) string {
	if fits == "template" {
		return "which is for any address"
	}
	return "which is for its address"
}

func secretText(s ctl.SecretUsed) string {
	if s.Position == "" {
		return "none: " + s.Lacking
	}
	text := fmt.Sprintf("the record of %s, which %s", s.Position, s.Why)
	if len(s.Others) > 0 {
		text += "; less fitting: " + strings.Join(s.Others, ", ")
	}
	return text
}

func orDefault(position string) string {
	if position == "" {
		return "default"
	}
	return position
}

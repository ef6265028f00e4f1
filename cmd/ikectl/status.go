package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ikegod/ikegod/pkg/ctl"
)

func (a *app) status() *cobra.Command {
	drops := false
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the daemon and every IKE SA with its Child SAs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := a.client()
			d, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.statusJSON(cmd, c, d)
			}
			a.printDaemon(d)
			if drops {
				a.explainDrops(d.Drops)
				return nil
			}
			return c.SAs(cmd.Context(), func(sa ctl.IKESA) bool {
				a.printSA(sa)
				return true
			})
		},
	}
	cmd.Flags().BoolVar(&drops, "drops", false, "instead of the IKE SAs: what was dropped, what each reason means and what to do about it")
	return cmd
}

// statusJSON streams, so that a hundred thousand SAs need no memory here.
func (a *app) statusJSON(cmd *cobra.Command, c *ctl.Client, d ctl.Status) error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "{\"daemon\":%s,\"sas\":[", b)
	separator := "\n"
	err = c.SAs(cmd.Context(), func(sa ctl.IKESA) bool {
		b, err := json.Marshal(sa)
		if err != nil {
			return false
		}
		fmt.Fprintf(a.out, "%s%s", separator, b)
		separator = ",\n"
		return true
	})
	fmt.Fprintln(a.out, "]}")
	return err
}

func (a *app) printDaemon(d ctl.Status) {
	a.printf("ikegod %s, pid %d, up %s, run directory %s", d.Version, d.PID, short(time.Since(d.Started)), d.RunDir)
	var sockets []string
	for _, s := range d.Listening {
		sockets = append(sockets, s.Carrier+" "+s.Address)
	}
	if len(sockets) == 0 {
		sockets = []string{"nothing: see listen-udp= and listen-tcp="}
	}
	a.printf("listening    %s", strings.Join(sockets, ", "))
	if d.BackendWhy == "" {
		a.printf("datapath     %s", d.Backend)
	} else {
		a.printf("datapath     %s: %s", d.Backend, d.BackendWhy)
	}
	for _, n := range d.Notes {
		a.printf("note         %s", n)
	}
	a.printf("connections  %d loaded; %s, %d half-open; %s", d.Loaded, plural(d.IKESAs, "IKE SA", "IKE SAs"), d.HalfOpen,
		plural(d.ChildSAs, "Child SA", "Child SAs"))
	a.printDrops(d.Drops)
	if n := len(d.Diagnostics); n > 0 {
		a.printf("config       %s in %s: see \"ikectl check %s\"", plural(n, "finding", "findings"), d.Config, d.Config)
	}
}

// printDrops prints a line for each part that has dropped something which is not part of normal work.
func (a *app) printDrops(drops []ctl.Drop) {
	var parts []string
	reasons := map[string][]string{}
	for _, d := range drops {
		if d.Harmless {
			continue
		}
		if reasons[d.Part] == nil {
			parts = append(parts, d.Part)
		}
		reasons[d.Part] = append(reasons[d.Part], fmt.Sprintf("%d %s", d.Count, d.Reason))
	}
	for _, part := range parts {
		a.printf("dropped      %s: %s", part, strings.Join(reasons[part], ", "))
	}
	if len(parts) > 0 {
		a.printf("             what they mean: ikectl status --drops")
	}
}

// explainDrops prints each reason with its sentences.
func (a *app) explainDrops(drops []ctl.Drop) {
	for _, d := range drops {
		a.printf("")
		a.printf("%s: %d %s", d.Part, d.Count, d.Reason)
		a.printf("    %s", d.Meaning)
		a.printf("    What to do: %s", d.Todo)
	}
	if len(drops) == 0 {
		a.printf("")
		a.printf("nothing was dropped")
	}
}

func (a *app) printSA(sa ctl.IKESA) {
	role := "responder"
	if sa.Initiator {
		role = "initiator"
	}
	state := sa.State
	if !sa.Established.IsZero() {
		state += " " + ago(sa.Established)
	}
	name := saName(sa)
	a.printf("")
	a.printf("%s  %s, %s", name, state, role)
	a.printf("    path        %s  %s -> %s", carrierPort(sa.Path, sa.Initiator), sa.Path.Local, sa.Path.Remote)
	if sa.LocalID != "" || sa.RemoteID != "" {
		a.printf("    identities  %s (here), %s (peer)", orNone(sa.LocalID), orNone(sa.RemoteID))
	}
	if sa.Algorithms != "" {
		a.printf("    algorithms  %s", sa.Algorithms)
	}
	a.printf("    NAT         %s", natText(sa))
	a.printf("    SPIs        %s (initiator), %s (responder)", sa.SPIi, sa.SPIr)
	if sa.Retransmits > 0 {
		a.printf("    retransmits %d", sa.Retransmits)
	}
	for _, c := range sa.Children {
		a.printChild(c)
	}
}

// saName is the name of the connection, with number and address for an instance of a template, as libreswan writes it: "road"[1] 192.1.3.209.
func saName(sa ctl.IKESA) string {
	if sa.Connection == "" {
		return `"no connection chosen yet"`
	}
	return instanceName(sa.Connection, sa.Instance, sa)
}

// instanceName is the same for one of several connections that use an IKE SA.
func instanceName(name string, number int, sa ctl.IKESA) string {
	if number == 0 {
		return strconv.Quote(name)
	}
	host := sa.Path.Remote
	if ap, err := netip.ParseAddrPort(host); err == nil {
		host = ap.Addr().String()
	}
	return fmt.Sprintf("%q[%d] %s", name, number, host)
}

func (a *app) printChild(c ctl.ChildSA) {
	name := strconv.Quote(c.Name)
	if c.Instance > 0 {
		name += fmt.Sprintf("[%d]", c.Instance)
	}
	if c.Installed.IsZero() {
		a.printf("    child %s is being negotiated", name)
		return
	}
	carrier := ""
	if c.Carrier != "" {
		carrier = ", " + c.Carrier
	}
	if c.Datapath != "" {
		carrier += " (" + c.Datapath
		if c.Why != "" {
			carrier += ": " + c.Why
		}
		carrier += ")"
	}
	if c.Mode == "transport" {
		carrier += ", transport mode"
	}
	a.printf("    child %s  installed %s%s", name, ago(c.Installed), carrier)
	a.printf("        selectors   %s === %s", c.Local, c.Remote)
	a.printf("        algorithms  %s", c.Algorithms)
	a.printf("        in          SPI %s  %d packets, %d bytes, last %s", c.SPIIn, c.InPackets, c.InBytes, ago(c.LastIn))
	a.printf("        out         SPI %s  %d packets, %d bytes, last %s", c.SPIOut, c.OutPackets, c.OutBytes, ago(c.LastOut))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func natText(sa ctl.IKESA) string {
	switch {
	case sa.NATLocal && sa.NATRemote:
		return "this host is behind one; the peer is too, or asks for encapsulation"
	case sa.NATLocal:
		return "this host is behind one"
	case sa.NATRemote:
		return "the peer is behind one, or asks for encapsulation"
	case sa.Forced:
		return "none seen; this host asks for encapsulation"
	}
	return "none"
}

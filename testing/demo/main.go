// Command demo shows ikegod at work: two gateways in network namespaces, UDP blocked between them, a tunnel that comes up over TCP, traffic through it,
// and the counts that prove it. It needs root, and no network. Its last line is "demo: PASS", and its exit status 0, or else it says what went wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

func main() {
	cases := flag.String("case", "testing/cases/tcp-fallback", "directory with west.conf, west.secrets, east.conf and east.secrets")
	size := flag.Int64("mb", 50, "size of the download in MB")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	begin := time.Now()
	d := &demo{ctx: ctx, cases: *cases, size: *size * 1e6}
	err := d.run()
	if err != nil {
		d.showLogs()
	}
	err = errors.Join(err, d.close())
	if err != nil {
		fmt.Printf("\n%s\ndemo: FAIL\n", indent("what went wrong: "+err.Error()))
		os.Exit(1)
	}
	fmt.Printf("\n(%.0f s)\ndemo: PASS\n", time.Since(begin).Seconds())
}

// The connection of the case, and its retransmit-timeout.
const (
	conn              = "westnet-eastnet"
	retransmitTimeout = 5 * time.Second
	allowance         = 300 * time.Millisecond
)

type demo struct {
	ctx   context.Context
	cases string
	size  int64

	lab        *netns.Lab
	west, east *netns.Host
	w, e       *netns.Daemon
	before     map[*netns.Host]string
	undo       []func() error // of firewalls and counters, to compare the state at the end
}

func (d *demo) run() error {
	for _, step := range []struct {
		title string
		do    func() error
	}{
		{"Two gateways, west and east, in namespaces; an ikegod on each", d.start},
		{"UDP between them is dropped from now on (nft), and every packet is counted", d.block},
		{"ikectl up " + conn + ": UDP first, then TCP, until a ping comes back", d.fallback},
		{"ikectl status, on both sides", d.status},
		{"Ping through the tunnel", d.ping},
		{fmt.Sprintf("A download of %d MB through the tunnel, with checksum", d.size/1e6), d.download},
		{"What went over the wire between them", d.prove},
		{"The control: ikectl down, TCP is blocked too, ikectl up again. It must fail, and say why", d.control},
		{"Clean stop: nothing stays behind", d.stop},
	} {
		if err := d.ctx.Err(); err != nil {
			return errors.New("interrupted")
		}
		fmt.Printf("\n== %s\n", step.title)
		if err := step.do(); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) start() (err error) {
	if d.lab, d.west, d.east, err = netns.WestEast(); err != nil {
		return err
	}
	d.before = map[*netns.Host]string{}
	for _, h := range []*netns.Host{d.west, d.east} {
		if d.before[h], err = h.State(); err != nil {
			return err
		}
	}
	if d.w, err = d.daemon(d.west, "west"); err != nil {
		return err
	}
	if d.e, err = d.daemon(d.east, "east"); err != nil {
		return err
	}
	fmt.Printf("   %s===%s (west) ... %s (east)===%s\n", netns.WestNet, netns.West, netns.East, netns.EastNet)
	fmt.Printf("   configurations: %s/{west,east}.conf\n", d.cases)
	return nil
}

// daemon starts an ikegod with copies of the case's files: secrets must not be readable by others, and a checkout does not keep that.
func (d *demo) daemon(h *netns.Host, name string) (*netns.Daemon, error) {
	config, err := os.ReadFile(d.cases + "/" + name + ".conf")
	if err != nil {
		return nil, err
	}
	secrets, err := os.ReadFile(d.cases + "/" + name + ".secrets")
	if err != nil {
		return nil, err
	}
	return h.Ikegod(string(config), string(secrets))
}

func (d *demo) block() error {
	for _, h := range []*netns.Host{d.west, d.east} {
		if err := h.Count(); err != nil {
			return err
		}
		d.undo = append(d.undo, h.Uncount)
	}
	return d.drop("udp", "meta l4proto udp")
}

// drop blocks on both sides.
func (d *demo) drop(name, match string) error {
	for _, h := range []*netns.Host{d.west, d.east} {
		undo, err := h.Block(name, match)
		if err != nil {
			return err
		}
		d.undo = append(d.undo, undo)
	}
	return nil
}

func (d *demo) fallback() error {
	begin := time.Now()
	_, status := d.w.IkectlTo(&indenter{fresh: true}, "up", conn)
	if status != 0 {
		return fmt.Errorf("ikectl up: exit status %d", status)
	}
	up := time.Since(begin)
	if err := d.pingOnce(); err != nil {
		return err
	}
	took := time.Since(begin)
	fmt.Printf("   retransmit-timeout            %6.3f s\n   up after                      %6.3f s\n   first ping back after         %6.3f s (at most %.3f s)\n",
		retransmitTimeout.Seconds(), up.Seconds(), took.Seconds(), (retransmitTimeout + allowance).Seconds())
	switch {
	case took < retransmitTimeout:
		return errors.New("that was too fast: was UDP not tried?")
	case took > retransmitTimeout+allowance:
		return fmt.Errorf("that is %.3f s more than retransmit-timeout", (took - retransmitTimeout).Seconds())
	}
	return nil
}

func (d *demo) pingOnce() error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		out, err := d.west.Output("ping", "-n", "-c", "1", "-W", "0.1", "-I", netns.WestInner, netns.EastInner)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no ping came back through the tunnel: %s", out)
		}
	}
}

func (d *demo) status() error {
	for _, one := range []*netns.Daemon{d.w, d.e} {
		fmt.Printf("   -- %s\n", one.Host.Name)
		out, status := one.Ikectl("status")
		show(out)
		if status != 0 || !strings.Contains(out, "TCP/4500") || !strings.Contains(out, "established") {
			return fmt.Errorf("%s does not show an established IKE SA with path TCP/4500 (exit status %d)", one.Host.Name, status)
		}
	}
	return nil
}

func (d *demo) ping() error {
	out, err := d.west.Output("ping", "-n", "-c", "5", "-i", "0.2", "-W", "1", "-I", netns.WestInner, netns.EastInner)
	show(out)
	if err != nil || !strings.Contains(out, " 0% packet loss") {
		return errors.Join(errors.New("ping lost packets"), err)
	}
	return nil
}

func (d *demo) download() error {
	ctx, cancel := context.WithTimeout(d.ctx, 30*time.Second)
	defer cancel()
	got, err := netns.Transfer(ctx, d.east, netns.EastInner+":0", d.west, netns.WestInner, d.size)
	if err != nil {
		return fmt.Errorf("download: %w", err)
	}
	fmt.Printf("   %d octets in %.2f s (%.0f Mbit/s)\n   SHA-256 %s, as sent\n", got.Octets, got.Took.Seconds(),
		float64(got.Octets)*8/1e6/got.Took.Seconds(), got.SHA256)
	return nil
}

func (d *demo) prove() error {
	fmt.Printf("   %-6s %22s %22s %16s %18s\n", "on", "TCP port 4500, octets", "packets in clear", "UDP, packets", "plain ESP, packets")
	for _, h := range []*netns.Host{d.west, d.east} {
		c, err := h.Counts()
		if err != nil {
			return err
		}
		fmt.Printf("   %-6s %22d %22d %16d %18d\n", h.Name, c.TCP(), c.Clear(), c["alludp"].Packets, c["plainesp"].Packets)
		if c.Clear() != 0 {
			return fmt.Errorf("%s saw %d packets with inner addresses in clear", h.Name, c.Clear())
		}
		if h == d.west && c.TCP() < uint64(d.size) {
			return fmt.Errorf("%s saw %d octets of TCP, less than the download of %d: where did that go?", h.Name, c.TCP(), d.size)
		}
		if c["plainesp"].Packets != 0 {
			return fmt.Errorf("%s saw plain ESP", h.Name)
		}
	}
	return nil
}

func (d *demo) control() error {
	out, status := d.w.Ikectl("down", conn)
	show(out)
	if status != 0 {
		return fmt.Errorf("ikectl down: exit status %d", status)
	}
	if err := d.drop("tcp", "meta l4proto tcp"); err != nil {
		return err
	}
	out, status = d.w.IkectlTo(&indenter{fresh: true}, "up", "--timeout", "20s", conn)
	fmt.Printf("   exit status %d\n", status)
	if status != 1 {
		return fmt.Errorf("with UDP and TCP blocked, ikectl up ended with status %d, not 1", status)
	}
	for _, want := range []string{netns.East + ":UDP/500", netns.East + ":TCP/4500"} {
		if !strings.Contains(out, want) {
			return fmt.Errorf("the message does not say what came of %s", want)
		}
	}
	return nil
}

func (d *demo) stop() error {
	for _, one := range []*netns.Daemon{d.w, d.e} {
		out, status := one.Ikectl("shutdown")
		if status != 0 {
			return fmt.Errorf("ikectl shutdown on %s: exit status %d: %s", one.Host.Name, status, out)
		}
		if err := one.Wait(10 * time.Second); err != nil {
			return fmt.Errorf("ikegod on %s: %w", one.Host.Name, err)
		}
	}
	for _, undo := range slices.Backward(d.undo) {
		if err := undo(); err != nil {
			return err
		}
	}
	d.undo = nil
	for _, h := range []*netns.Host{d.west, d.east} {
		after, err := h.State()
		if err != nil {
			return err
		}
		if after != d.before[h] {
			return fmt.Errorf("ikegod left something behind on %s. Before:\n%s\nAfter:\n%s", h.Name, d.before[h], after)
		}
		fmt.Printf("   %s: interfaces, addresses, routes, rules, nft tables and sockets are as before\n", h.Name)
	}
	return nil
}

// close removes the namespaces.
func (d *demo) close() error {
	if d.lab == nil {
		return nil
	}
	return d.lab.Close()
}

func (d *demo) showLogs() {
	for _, one := range []*netns.Daemon{d.w, d.e} {
		if one != nil {
			fmt.Printf("\n-- log of %s\n%s", one.Host.Name, indent(one.Log()))
		}
	}
}

// indenter shows output as it comes, indented.
type indenter struct{ fresh bool }

// Write implements io.Writer.
func (i *indenter) Write(p []byte) (int, error) {
	for _, b := range p {
		if i.fresh {
			os.Stdout.WriteString("   ")
		}
		os.Stdout.Write([]byte{b})
		i.fresh = b == '\n'
	}
	return len(p), nil
}

func show(out string) { fmt.Print(indent(out)) }

func indent(s string) string {
	if s == "" {
		return ""
	}
	return "   " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n   ") + "\n"
}

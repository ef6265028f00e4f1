package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// How long each measurement takes and how often it is repeated: BENCH_SECONDS and BENCH_ROUNDS change that. Rounds are interleaved, so that what else
// the machine does meets all alike.
const (
	defaultSeconds = 4
	defaultRounds  = 3
)

// carrier is one thing that carries TCP from west to east.
type carrier struct {
	name     string
	from     *netns.Host
	to       *netns.Host
	src, dst string
	daemons  []pid
	gbits    []float64 // by round
	rtt      []float64 // microseconds, likewise
}

type pid struct {
	name string
	id   int
}

// datapath measures TCP throughput of the userspace datapath beside wireguard-go and the bare cable, all in one run on this machine.
func datapath() ([]row, error) {
	var labs []*netns.Lab
	defer func() {
		for _, l := range labs {
			if err := l.Close(); err != nil {
				fmt.Fprintln(os.Stderr, "bench: datapath:", err)
			}
		}
		for _, name := range wireguardNames() {
			_ = os.Remove(wireguardSocket(name)) // a wireguard-go that is killed leaves it
		}
	}()
	gateways := func() (west, east *netns.Host, err error) {
		l, west, east, err := netns.WestEast()
		if l != nil {
			labs = append(labs, l)
		}
		return west, east, err
	}
	west, east, err := gateways()
	if err != nil {
		return nil, err
	}
	carriers := []*carrier{{name: "no tunnel, bare veth", from: west, to: east, src: netns.West, dst: netns.East}}
	wg, err := wireguard(west, east)
	if err != nil {
		return nil, err
	}
	carriers = append(carriers, wg)
	for _, c := range []struct{ name, keywords string }{
		{"ESP in UDP, AES-256-GCM", "\tesp=aes_gcm256\n\tenable-tcp=no\n\tencapsulation=yes\n"},
		{"plain ESP, AES-256-GCM", "\tesp=aes_gcm256\n\tenable-tcp=no\n\tencapsulation=auto\n"},
		{"ESP in TCP, AES-256-GCM", "\tesp=aes_gcm256\n\tenable-tcp=yes\n"},
		{"ESP in UDP, ChaCha20-Poly1305", "\tesp=chacha20_poly1305\n\tenable-tcp=no\n\tencapsulation=yes\n"},
	} {
		west, east, err := gateways()
		if err != nil {
			return nil, err
		}
		tunnel, err := tunnel(c.name, c.keywords, west, east)
		if err != nil {
			return nil, err
		}
		carriers = append(carriers, tunnel)
	}
	if err := compare(carriers); err != nil {
		return nil, err
	}
	return report(carriers, wg), nil
}

// tunnel brings up a connection between two ikegods.
func tunnel(name, keywords string, west, east *netns.Host) (*carrier, error) {
	conf := "config setup\n\tlisten-tcp=yes\n\nconn bench\n\tleft=" + netns.West + "\n\tleftsubnet=" + netns.WestNet + "\n\tright=" + netns.East +
		"\n\trightsubnet=" + netns.EastNet + "\n\tauthby=secret\n\tauto=add\n" + keywords
	secrets := netns.West + " " + netns.East + " : PSK \"only for this benchmark\"\n"
	c := &carrier{name: name, from: west, to: east, src: netns.WestInner, dst: netns.EastInner}
	var daemons []*netns.Daemon
	for _, h := range []*netns.Host{west, east} {
		d, err := h.Ikegod(conf, secrets)
		if err != nil {
			return nil, err
		}
		daemons = append(daemons, d)
		c.daemons = append(c.daemons, pid{"ikegod " + h.Name, d.PID()})
	}
	if out, status := daemons[0].Ikectl("up", "bench"); status != 0 {
		return nil, fmt.Errorf("%s: ikectl up: %s", name, out)
	}
	return c, nil
}

// compare measures all carriers in turn.
func compare(carriers []*carrier) error {
	seconds, rounds := setting("BENCH_SECONDS", defaultSeconds), setting("BENCH_ROUNDS", defaultRounds)
	for range rounds {
		for _, c := range carriers {
			rate, err := c.iperf(seconds)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			rtt, err := c.ping()
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			c.gbits, c.rtt = append(c.gbits, rate/1e9), append(c.rtt, rtt)
		}
	}
	return nil
}

func setting(name string, value int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return value
}

// iperf measures one TCP stream in bits per second, as received.
func (c *carrier) iperf(seconds int) (float64, error) {
	server := make(chan error, 1)
	go func() { server <- c.to.Run("iperf3", "-s", "-1", "-B", c.dst) }()
	listens := func() bool {
		out, err := c.to.Output("ss", "-Hltn", "src", c.dst+":5201")
		return err == nil && out != ""
	}
	if !netns.Poll(5*time.Second, listens) {
		return 0, errors.New("iperf3 does not listen")
	}
	out, err := c.from.Output("iperf3", "-J", "-c", c.dst, "-B", c.src, "-t", strconv.Itoa(seconds))
	if err != nil {
		return 0, err
	}
	if err := <-server; err != nil {
		return 0, err
	}
	var result struct {
		End struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		return 0, err
	}
	return result.End.Received.BitsPerSecond, nil
}

// ping measures the mean round trip of single small packets in microseconds: what waiting for more to send would cost.
func (c *carrier) ping() (float64, error) {
	out, err := c.from.Output("ping", "-n", "-q", "-f", "-c", "5000", "-I", c.src, c.dst)
	if err != nil {
		return 0, err
	}
	_, times, ok := strings.Cut(out, "min/avg/max/mdev = ")
	if f := strings.Split(times, "/"); ok && len(f) > 1 {
		ms, err := strconv.ParseFloat(f[1], 64)
		return ms * 1000, err
	}
	return 0, fmt.Errorf("ping printed no times: %s", out)
}

// report makes the table. The ratio is the figure that means something on another machine.
func report(carriers []*carrier, wg *carrier) (rows []row) {
	for _, c := range carriers {
		rate, other := median(c.gbits), median(wg.gbits)
		r := row{What: c.name, Measured: fmt.Sprintf("%.2f Gbit/s, %.2f x wireguard-go, round trip %.0f us", rate, rate/other, median(c.rtt))}
		if strings.Contains(c.name, "ESP") && strings.HasSuffix(c.name, "GCM") {
			r.Bar, r.Peer = "at least 1.00 x", fmt.Sprintf("wireguard-go %.2f", other)
		}
		rows = append(rows, r)
		for _, d := range c.daemons {
			r := row{What: "  peak memory, " + d.name, Measured: peak(d.id)}
			if strings.HasPrefix(d.name, "ikegod") {
				r.Bar = "below 100 MB"
			}
			rows = append(rows, r)
		}
	}
	return rows
}

// peak reads the largest resident size that a process ever had.
func peak(id int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", id))
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(b)) {
		if kb, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseFloat(strings.Fields(kb)[0], 64)
			if err != nil {
				return err.Error()
			}
			return fmt.Sprintf("%.1f MB", n/1000)
		}
	}
	return "unknown"
}

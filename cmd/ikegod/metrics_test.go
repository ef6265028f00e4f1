package main

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/ikegod/ikegod/ike/engine"
	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/userspace"
	"github.com/ikegod/ikegod/transport"
)

var update = flag.Bool("update", false, "write the table of docs/metrics.md anew")

const metricsDocument = "../../docs/metrics.md"

// nowhere is a host without addresses.
type nowhere struct{}

func (nowhere) IsLocal(netip.Addr) bool                      { return false }
func (nowhere) DefaultSource(netip.Addr) (netip.Addr, error) { return netip.Addr{}, nil }

// atStart is what a daemon publishes that has done nothing yet.
func atStart(t *testing.T) map[string]int {
	t.Helper()
	e, err := engine.New(engine.Options{Mux: struct{ transport.Mux }{}, Datapath: kernel.NewFake(kernel.FakeOptions{}), Local: nowhere{}})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(collector(func() sample { return sample{engine: e.Stats()} }))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	series := map[string]int{}
	for _, f := range families {
		series[f.GetName()] = len(f.GetMetric())
		i := slices.IndexFunc(metrics, func(m *metric) bool { return "ikegod_"+m.name == f.GetName() })
		if want := strings.ToUpper(string(metrics[i].kind)); f.GetType().String() != want {
			t.Errorf("%s is a %s, the table says %s", f.GetName(), f.GetType(), want)
		}
	}
	return series
}

// TestEverySeriesIsThereFromTheStart counts the series of a daemon that has done nothing.
func TestEverySeriesIsThereFromTheStart(t *testing.T) {
	reasons := int(event.NumReasons)
	want := map[string]int{
		"ikegod_build_info": 1, "ikegod_ike_sas": 4, "ikegod_child_sas": 1, "ikegod_connections": 4, "ikegod_handshakes_total": 2 * 2 * reasons,
		"ikegod_handshake_duration_seconds": 2 * 2, "ikegod_fallbacks_total": 2, "ikegod_fallback_duration_seconds": 1,
		"ikegod_ike_sas_closed_total": reasons - 1, "ikegod_revivals_total": 1, "ikegod_retransmits_total": 1, "ikegod_drops_total": int(event.NumDrops) - 1,
		"ikegod_cookies_total": 1, "ikegod_internal_errors_total": 1, "ikegod_ike_packets_total": 4, "ikegod_esp_packets_total": 6, "ikegod_esp_bytes_total": 6,
		"ikegod_connection_esp_packets_total": 2, "ikegod_connection_esp_bytes_total": 2, "ikegod_transport_drops_total": int(transport.NumDrops),
		"ikegod_tcp_streams": 2, "ikegod_datapath_drops_total": int(userspace.NumDrops),
	}
	got := atStart(t)
	for _, m := range metrics {
		name := "ikegod_" + m.name
		if got[name] != want[name] || want[name] == 0 {
			t.Errorf("%s: %d series, want %d", name, got[name], want[name])
		}
	}
	if len(got) != len(metrics) {
		t.Errorf("%d metrics are published, the table has %d", len(got), len(metrics))
	}
}

//go:generate go test . -run ^TestMetricsDocument$ -update

// TestMetricsDocument compares the table of docs/metrics.md with the code.
func TestMetricsDocument(t *testing.T) {
	text, err := os.ReadFile(metricsDocument)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| name | type | labels | meaning |\n| --- | --- | --- | --- |\n")
	for _, m := range metrics {
		labels := strings.Join(m.labels, ", ")
		if m.values != "" {
			labels += " (" + m.values + ")"
		}
		fmt.Fprintf(&b, "| `ikegod_%s` | %s | %s | %s |\n", m.name, m.kind, labels, m.help)
	}
	table := regexp.MustCompile(`(?s)(<!-- generated: metrics -->\n).*(<!-- end -->\n)`)
	if !table.Match(text) {
		t.Fatalf("%s has no place for the table", metricsDocument)
	}
	want := table.ReplaceAllString(string(text), "${1}"+strings.ReplaceAll(b.String(), "$", "$$")+"${2}")
	if !strings.Contains(want, fmt.Sprintf("%d connections", engine.MaxNamed)) {
		t.Errorf("%s does not say that %d connections have a label of their own", metricsDocument, engine.MaxNamed)
	}
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the code says; `go test ./cmd/ikegod -run TestMetricsDocument -update` writes it anew", metricsDocument)
	}
	if err := os.WriteFile(metricsDocument, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

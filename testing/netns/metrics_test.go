package netns_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// scrape is the metrics of ikegod itself.
func scrape(t *testing.T, h *netns.Host) map[string]float64 {
	t.Helper()
	all, err := h.Scrape(t.Context(), "127.0.0.1:9500")
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(all, func(name string, _ float64) bool { return !strings.HasPrefix(name, "ikegod_") })
	return all
}

// expectSeries compares some series with what they should be; those that count packets need a minimum only.
func expectSeries(t *testing.T, h *netns.Host, when string, exact, atLeast map[string]float64) {
	t.Helper()
	var got map[string]float64
	wrong := func() (bad []string) {
		for name, want := range exact {
			if v, ok := got["ikegod_"+name]; !ok || v != want {
				bad = append(bad, fmt.Sprintf("%s is %v, want %v", name, v, want))
			}
		}
		for name, want := range atLeast {
			if v := got["ikegod_"+name]; v < want {
				bad = append(bad, fmt.Sprintf("%s is %v, want %v or more", name, v, want))
			}
		}
		return bad
	}
	netns.Poll(3*time.Second, func() bool {
		got = scrape(t, h)
		return len(wrong()) == 0
	})
	for _, bad := range wrong() {
		t.Errorf("%s, %s: %s", h.Name, when, bad)
	}
}

// TestMetrics scrapes both daemons through the life of a connection: before it, up with traffic, after a fallback, and after a refusal.
func TestMetrics(t *testing.T) {
	_, w, e := netns.Gateways(t)
	listen := []string{"--metrics-listen", "127.0.0.1:9500"}
	stranger := strings.NewReplacer("conn "+conn, "conn refused", "@west", "@stranger").Replace(config(nil, "retransmit-timeout=2s"))
	westConf := config(nil, "enable-tcp=fallback", "retransmit-timeout=1s") + stranger[strings.Index(stranger, "conn refused"):]
	west := start(t, w, westConf, secrets+"@stranger @east : PSK \"another secret, of a stranger\"\n", listen...)
	east := start(t, e, config(nil), secrets, listen...)

	before := scrape(t, w)
	for name, v := range before {
		gauge := strings.HasPrefix(name, "ikegod_build_info{") || name == `ikegod_connections{state="loaded"}`
		if v != 0 && !gauge && !strings.HasPrefix(name, "ikegod_datapath_drops_total{") { // the kernel sends group reports into every new interface
			t.Errorf("before anything happened %s is %v", name, v)
		}
	}
	expectSeries(t, w, "before", map[string]float64{
		`connections{state="loaded"}`: 2, `connections{state="up"}`: 0, `ike_sas{state="established"}`: 0, `ike_sas{state="half_open"}`: 0, "child_sas": 0,
		`handshakes_total{result="established",role="initiator",transport="UDP"}`: 0, `ike_sas_closed_total{reason="timeout"}`: 0,
		`drops_total{reason="integrity"}`: 0, `datapath_drops_total{reason="replay"}`: 0, `transport_drops_total{reason="empty"}`: 0,
		`connection_esp_bytes_total{connection="` + conn + `",direction="in"}`: 0, `connection_esp_bytes_total{connection="other",direction="in"}`: 0,
		`handshake_duration_seconds_count{role="responder",transport="TCP"}`: 0, "fallback_duration_seconds_count": 0,
	}, nil)

	up(t, west)
	carries(t, west, east)
	const megabytes = 4 << 20
	for h, role := range map[*netns.Host]string{w: "initiator", e: "responder"} {
		expectSeries(t, h, "up", map[string]float64{
			`connections{state="up"}`: 1, `ike_sas{state="established"}`: 1, `ike_sas{state="negotiating"}`: 0, `ike_sas{state="half_open"}`: 0, "child_sas": 1,
			`handshakes_total{result="established",role="` + role + `",transport="UDP"}`:       1,
			`handshake_duration_seconds_count{role="` + role + `",transport="UDP"}`:            1,
			`handshake_duration_seconds_bucket{role="` + role + `",transport="UDP",le="+Inf"}`: 1,
			`handshake_duration_seconds_bucket{role="` + role + `",transport="UDP",le="60"}`:   1,
			`handshakes_total{result="established",role="` + role + `",transport="TCP"}`:       0,
			`connection_esp_packets_total{connection="other",direction="in"}`:                  0,
			"fallback_duration_seconds_count":                                                  0,
		}, map[string]float64{
			`connection_esp_bytes_total{connection="` + conn + `",direction="in"}`:   megabytes,
			`connection_esp_bytes_total{connection="` + conn + `",direction="out"}`:  megabytes,
			`connection_esp_packets_total{connection="` + conn + `",direction="in"}`: 100,
			`esp_bytes_total{direction="in",transport="UDP"}`:                        megabytes,
			`esp_packets_total{direction="out",transport="UDP"}`:                     100,
			`ike_packets_total{direction="in",transport="UDP"}`:                      2,
		})
	}
	if s := scrape(t, w)[`ikegod_handshake_duration_seconds_sum{role="initiator",transport="UDP"}`]; s <= 0 || s > 2 {
		t.Errorf("the handshake took %v s", s)
	}
	carried := scrape(t, w)[`ikegod_connection_esp_bytes_total{connection="`+conn+`",direction="in"}`]

	if out, status := west.Ikectl("down", conn); status != 0 {
		t.Fatalf("down: %d %s", status, out)
	}
	expectSeries(t, w, "down", map[string]float64{
		`ike_sas{state="established"}`: 0, "child_sas": 0, `ike_sas_closed_total{reason="operator"}`: 1, `connections{state="wanted"}`: 0,
	}, map[string]float64{`connection_esp_bytes_total{connection="` + conn + `",direction="in"}`: carried})
	expectSeries(t, e, "down", map[string]float64{`ike_sas{state="established"}`: 0, `ike_sas_closed_total{reason="deleted by peer"}`: 1}, nil)

	unblock, err := w.Block("udp", "meta l4proto udp")
	if err != nil {
		t.Fatal(err)
	}
	up(t, west)
	expectSeries(t, w, "after a fallback", map[string]float64{
		`fallbacks_total{transport="TCP"}`: 1, `fallbacks_total{transport="UDP"}`: 0, "fallback_duration_seconds_count": 1, `tcp_streams{owner="ike"}`: 1,
		`fallback_duration_seconds_bucket{le="0.5"}`: 0, `fallback_duration_seconds_bucket{le="10"}`: 1,
		`handshakes_total{result="timeout",role="initiator",transport="UDP"}`:     1,
		`handshakes_total{result="established",role="initiator",transport="TCP"}`: 1, `handshake_duration_seconds_count{role="initiator",transport="TCP"}`: 1,
	}, map[string]float64{"retransmits_total": 1, "fallback_duration_seconds_sum": 1, `ike_packets_total{direction="out",transport="TCP"}`: 2})

	if err := unblock(); err != nil {
		t.Fatal(err)
	}
	if out, status := west.Ikectl("up", "refused"); status != 1 {
		t.Fatalf("a stranger came up: %d %s", status, out)
	}
	expectSeries(t, w, "refused", map[string]float64{
		`handshakes_total{result="authentication rejected by peer",role="initiator",transport="UDP"}`: 1, `ike_sas{state="established"}`: 1, `ike_sas{state="negotiating"}`: 0,
	}, nil)
	expectSeries(t, e, "refused", map[string]float64{
		`handshakes_total{result="no connection for these identities",role="responder",transport="UDP"}`: 1, `ike_sas{state="half_open"}`: 0,
	}, nil)
	after := scrape(t, w)
	if m := metrics(t, w); m["go_goroutines"] == 0 || m["process_resident_memory_bytes"] == 0 {
		t.Error("Go's and the process's own metrics are missing")
	}
	if a, b := slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)); !slices.Equal(a, b) {
		t.Errorf("the series of a daemon change while it works: %v, then %v", a, b)
	}
}

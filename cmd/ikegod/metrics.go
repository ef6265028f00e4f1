package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/transport"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("ikegod_"+name, help, labels, nil)
}

// What ikegod tells. All of it is read from counters that the parts keep anyway; nothing is counted twice.
var (
	descIKE         = desc("ike_sas", "IKE SAs, by state: established, or negotiating.", "state")
	descChildren    = desc("child_sas", "Installed Child SAs.")
	descHandshakes  = desc("handshakes_total", "Handshakes that ended, by role, transport and result (established, or the reason of the failure).", "role", "transport", "result")
	descClosed      = desc("ike_sas_closed_total", "Established IKE SAs that ended, by reason.", "reason")
	descConnections = desc("connections", "Connections, by state: loaded, wanted (somebody asked for it), up.", "state")
	descRetransmits = desc("retransmits_total", "Requests sent again.")
	descFallbacks   = desc("fallbacks_total", "Changes to the next rung of the ladder, such as from UDP to TCP.")
	descDrops       = desc("drops_total", "Dropped IKE messages, by reason.", "reason")
	descCookies     = desc("cookies_total", "IKE_SA_INIT requests answered with a cookie.")
	descIKEPackets  = desc("ike_packets_total", "IKE messages, by transport and direction.", "transport", "direction")
	descESPPackets  = desc("esp_packets_total", "ESP packets, by transport and direction.", "transport", "direction")
	descESPBytes    = desc("esp_bytes_total", "Octets of ESP packets, by transport and direction.", "transport", "direction")
	descTransport   = desc("transport_drops_total", "Packets and streams that the transport dropped or refused, by reason.", "reason")
	descStreams     = desc("tcp_streams", "Open TCP streams, by whether an authenticated IKE SA owns them.", "owner")
	descDatapath    = desc("datapath_drops_total", "Packets that the datapath dropped, by reason.", "reason")
	descPanics      = desc("internal_errors_total", "IKE SAs closed because of a bug. Please report what the log says.")
)

// collector reads the parts when Prometheus asks.
type collector struct{ d *daemon }

// Describe implements prometheus.Collector.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descIKE, descChildren, descHandshakes, descClosed, descConnections, descRetransmits, descFallbacks, descDrops, descCookies, descIKEPackets,
		descESPPackets, descESPBytes, descTransport, descStreams, descDatapath, descPanics,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	c.engine(counter, gauge)
	t := c.d.mux.Counters()
	for name, traffic := range map[string]transport.Traffic{"UDP": t.UDP, "TCP": t.TCP} {
		counter(descIKEPackets, traffic.IKEIn, name, "in")
		counter(descIKEPackets, traffic.IKEOut, name, "out")
		counter(descESPPackets, traffic.ESPIn, name, "in")
		counter(descESPPackets, traffic.ESPOut, name, "out")
		counter(descESPBytes, traffic.ESPInBytes, name, "in")
		counter(descESPBytes, traffic.ESPOutBytes, name, "out")
	}
	for why, n := range t.Drops {
		counter(descTransport, n, transport.Drop(why).String())
	}
	gauge(descStreams, t.Streams-t.Unowned, "ike")
	gauge(descStreams, t.Unowned, "none")
	for why, n := range c.d.datapath.Drops() {
		counter(descDatapath, n, why.String())
	}
}

func (c collector) engine(counter func(*prometheus.Desc, uint64, ...string), gauge func(*prometheus.Desc, int64, ...string)) {
	st := c.d.engine.Stats()
	gauge(descIKE, st.Established, "established")
	gauge(descIKE, max(0, st.IKESAs-st.Established), "negotiating")
	gauge(descChildren, st.Children)
	gauge(descConnections, int64(st.Connections), "loaded")
	gauge(descConnections, int64(st.ConnectionsWanted), "wanted")
	gauge(descConnections, int64(st.ConnectionsUp), "up")
	for _, h := range st.Handshakes {
		role, result := "responder", "established"
		if h.Initiator {
			role = "initiator"
		}
		if h.Result != event.ReasonNone {
			result = h.Result.String()
		}
		counter(descHandshakes, h.Count, role, h.Kind.String(), result)
	}
	for why, n := range st.Closed {
		counter(descClosed, n, why.String())
	}
	counter(descRetransmits, st.Retransmits)
	counter(descFallbacks, st.Fallbacks)
	counter(descCookies, st.Cookies)
	counter(descPanics, st.Panics)
	for why, n := range st.Drops {
		if event.Drop(why) != event.DropNone {
			counter(descDrops, n, event.Drop(why).String())
		}
	}
}

// serveMetrics listens for Prometheus. A busy default address is not worth dying for: several daemons may run on one machine.
func (d *daemon) serveMetrics() (stop func(), err error) {
	if d.settings.MetricsListen == "" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", d.settings.MetricsListen)
	if err != nil {
		err = fmt.Errorf("metrics-listen=%s: %w", d.settings.MetricsListen, err)
		if d.settings.given["metrics-listen"] {
			return nil, err
		}
		d.z.Warn(err.Error() + "; ikegod runs without metrics")
		return func() {}, nil
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collector{d}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	handler := promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
	m := http.NewServeMux()
	m.Handle("GET /metrics", handler)
	srv := &http.Server{
		Handler: m, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 20 * time.Second, IdleTimeout: time.Minute,
		ErrorLog: standardLog(d.z, "metrics"),
	}
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			d.z.Warn("metrics: " + err.Error())
		}
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			_ = srv.Close() // a scrape that takes longer is cut off
		}
	}, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ikegod/ikegod/ike/engine"
	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/kernel/userspace"
	"github.com/ikegod/ikegod/transport"
)

// metric is one name that ikegod publishes. Names, types and labels are stable: docs/metrics.md has the table of them, and a test keeps it true.
type metric struct {
	name   string // without the prefix "ikegod_"
	kind   metricKind
	help   string
	labels []string
	values string // what the labels may be, for the table
}

// metricKind is the type of a metric, as Prometheus names it.
type metricKind string

// What ikegod tells. All of it is read from counters that the parts keep anyway; nothing is counted twice.
var (
	mBuild = &metric{
		"build_info", gauge, "Constant 1; which ikegod runs.", []string{"version", "goversion"}, "",
	}
	mIKE = &metric{
		"ike_sas", gauge, "IKE SAs now, by state.", []string{"state"}, stateValues,
	}
	mChildren = &metric{
		"child_sas", gauge, "Child SAs installed now.", nil, "",
	}
	mConnections = &metric{
		"connections", gauge, "Connections now, by state.", []string{"state"}, "`loaded`: all; of these `wanted`: must remain up; `up`; `missing`: wanted and not up",
	}
	mHandshakes = &metric{
		"handshakes_total", counter, "Negotiations of an IKE SA that ended, by role, transport and result.", []string{"role", "transport", "result"}, roleValues + "; result: `established`, or the reason of the failure",
	}
	mHandshakeTimes = &metric{
		"handshake_duration_seconds", histogram, "How long negotiations took that succeeded, from the first message to the IKE SA; " + "on TCP as initiator from the connection attempt.", []string{"role", "transport"}, roleValues,
	}
	mFallbackTimes = &metric{
		"fallback_duration_seconds", histogram, "How long it took from the first attempt on the first transport to an IKE SA on another.", nil, "",
	}
	mFallbacks = &metric{
		"fallbacks_total", counter, "Changes to the next rung of the ladder, by the transport that is tried then.", []string{"transport"}, transportValues,
	}
	mClosed = &metric{
		"ike_sas_closed_total", counter, "Established IKE SAs that ended, by reason.", []string{"reason"}, "the reason of the end",
	}
	mRevivals = &metric{
		"revivals_total", counter, "Attempts to bring a connection back that must remain up.", nil, "",
	}
	mRetransmits = &metric{
		"retransmits_total", counter, "Requests sent again.", nil, "",
	}
	mDrops = &metric{
		"drops_total", counter, "IKE messages dropped, by reason.", []string{"reason"}, "the reason of the drop",
	}
	mCookies = &metric{
		"cookies_total", counter, "IKE_SA_INIT requests answered with a cookie.", nil, "",
	}
	mPanics = &metric{
		"internal_errors_total", counter, "IKE SAs closed because of a bug; the log has a report.", nil, "",
	}
	mIKEPackets = &metric{
		"ike_packets_total", counter, "IKE messages, by transport and direction.", []string{"transport", "direction"}, transportValues + "; " + directionValues,
	}
	mESPPackets = &metric{
		"esp_packets_total", counter, "ESP packets, by transport and direction.", []string{"transport", "direction"}, carrierValues + "; " + directionValues,
	}
	mESPBytes = &metric{
		"esp_bytes_total", counter, "Octets of ESP packets, by transport and direction.", []string{"transport", "direction"}, carrierValues + "; " + directionValues,
	}
	mConnPackets = &metric{
		"connection_esp_packets_total", counter, "Packets through the Child SAs of a connection.", []string{"connection", "direction"}, connValues,
	}
	mConnBytes = &metric{
		"connection_esp_bytes_total", counter, "Octets of the packets inside the Child SAs of a connection.", []string{"connection", "direction"}, connValues,
	}
	mTransport = &metric{
		"transport_drops_total", counter, "Packets and streams that the transport dropped or refused, by reason.", []string{"reason"}, "the reason of the drop",
	}
	mStreams = &metric{
		"tcp_streams", gauge, "TCP streams open now, by whether an authenticated IKE SA owns them.", []string{"owner"}, "`ike`, `none`",
	}
	mDatapath = &metric{
		"datapath_drops_total", counter, "Packets that the datapath dropped, by reason.", []string{"reason"}, "the reason of the drop",
	}
)

const (
	gauge     metricKind = "gauge"
	counter   metricKind = "counter"
	histogram metricKind = "histogram" // of seconds

	stateValues     = "`established`; `half_open`: the responder waits for IKE_AUTH; `negotiating`: all others on their way; `closing`: only repeats its last reply"
	roleValues      = "role: `initiator`, `responder`; transport: `UDP`, `TCP`"
	transportValues = "transport: `UDP`, `TCP`"
	carrierValues   = "transport: `UDP`, `TCP`, `ESP` (plain ESP, IP protocol 50)"
	directionValues = "direction: `in`, `out`"
	connValues      = "connection: its name, or `other`; " + directionValues
)

// metrics are all of them, in the order of the table.
var metrics = []*metric{
	mBuild, mIKE, mChildren, mConnections, mHandshakes, mHandshakeTimes, mFallbacks, mFallbackTimes, mClosed, mRevivals, mRetransmits, mDrops, mCookies, mPanics,
	mIKEPackets, mESPPackets, mESPBytes, mConnPackets, mConnBytes, mTransport, mStreams, mDatapath,
}

// descs are what Prometheus calls them.
var descs = func() map[*metric]*prometheus.Desc {
	out := map[*metric]*prometheus.Desc{}
	for _, m := range metrics {
		out[m] = prometheus.NewDesc("ikegod_"+m.name, m.help, m.labels, nil)
	}
	return out
}()

// sample is the counters of all parts at one time.
type sample struct {
	engine    engine.Stats
	transport transport.Counters
	datapath  map[userspace.Drop]uint64
}

func (d *daemon) sample() sample {
	s := sample{engine: d.engine.Stats(), transport: d.mux.Counters()}
	if d.user != nil {
		s.datapath = d.user.Drops()
	}
	return s
}

// collector takes a sample when Prometheus asks.
type collector func() sample

// Describe implements prometheus.Collector.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range metrics {
		ch <- descs[m]
	}
}

// Collect implements prometheus.Collector. Every series is there from the start, with zero: what is missing from a scrape has no rate.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c()
	out := sink(ch)
	out.put(mBuild, 1, buildVersion(), runtime.Version())
	out.engine(&s.engine)
	out.transport(&s.transport)
	for why := range userspace.NumDrops {
		out.put(mDatapath, s.datapath[why], why.String())
	}
}

// sink takes what is collected.
type sink chan<- prometheus.Metric

func (ch sink) put(m *metric, v uint64, labels ...string) {
	kind := prometheus.CounterValue
	if m.kind == gauge {
		kind = prometheus.GaugeValue
	}
	ch <- prometheus.MustNewConstMetric(descs[m], kind, float64(v), labels...)
}

func (ch sink) level(m *metric, v int64, labels ...string) { ch.put(m, uint64(max(v, 0)), labels...) }

func (ch sink) times(m *metric, h engine.Histogram, labels ...string) {
	buckets, n := map[float64]uint64{}, uint64(0)
	for i, bound := range engine.HistogramBounds {
		n += h.Counts[i]
		buckets[bound.Seconds()] = n
	}
	ch <- prometheus.MustNewConstHistogram(descs[m], h.Total(), h.Sum.Seconds(), buckets, labels...)
}

func (ch sink) engine(st *engine.Stats) {
	ch.level(mIKE, st.Established, "established")
	ch.level(mIKE, st.HalfOpen, "half_open")
	ch.level(mIKE, st.IKESAs-st.Established-st.HalfOpen-st.Closing, "negotiating")
	ch.level(mIKE, st.Closing, "closing")
	ch.level(mChildren, st.Children)
	ch.level(mConnections, int64(st.Connections), "loaded")
	ch.level(mConnections, int64(st.ConnectionsWanted), "wanted")
	ch.level(mConnections, int64(st.ConnectionsUp), "up")
	ch.level(mConnections, int64(st.ConnectionsMissing), "missing")
	for _, h := range st.Handshakes {
		result := "established"
		if h.Result != event.ReasonNone {
			result = h.Result.String()
		}
		ch.put(mHandshakes, h.Count, roleLabel(h.Initiator), h.Kind.String(), result)
	}
	for _, h := range st.HandshakeTimes {
		ch.times(mHandshakeTimes, h.Took, roleLabel(h.Initiator), h.Kind.String())
	}
	ch.times(mFallbackTimes, st.FallbackTimes)
	for kind, n := range st.FallbacksTo {
		ch.put(mFallbacks, n, kind.String())
	}
	for why, n := range st.Closed {
		if why := event.Reason(why); why != event.ReasonNone {
			ch.put(mClosed, n, why.String())
		}
	}
	ch.put(mRevivals, st.Revivals)
	ch.put(mRetransmits, st.Retransmits)
	ch.put(mCookies, st.Cookies)
	ch.put(mPanics, st.Panics)
	for why, n := range st.Drops {
		if why := event.Drop(why); why != event.DropNone {
			ch.put(mDrops, n, why.String())
		}
	}
	for _, t := range st.Traffic {
		ch.put(mConnPackets, t.InPackets, t.Conn, "in")
		ch.put(mConnPackets, t.OutPackets, t.Conn, "out")
		ch.put(mConnBytes, t.InBytes, t.Conn, "in")
		ch.put(mConnBytes, t.OutBytes, t.Conn, "out")
	}
}

func roleLabel(initiator bool) string {
	if initiator {
		return "initiator"
	}
	return "responder"
}

func (ch sink) transport(t *transport.Counters) {
	for name, traffic := range map[string]transport.Traffic{"UDP": t.UDP, "TCP": t.TCP, "ESP": t.ESP} {
		if name != "ESP" { // IKE never travels on plain ESP
			ch.put(mIKEPackets, traffic.IKEIn, name, "in")
			ch.put(mIKEPackets, traffic.IKEOut, name, "out")
		}
		ch.put(mESPPackets, traffic.ESPIn, name, "in")
		ch.put(mESPPackets, traffic.ESPOut, name, "out")
		ch.put(mESPBytes, traffic.ESPInBytes, name, "in")
		ch.put(mESPBytes, traffic.ESPOutBytes, name, "out")
	}
	for why, n := range t.Drops {
		ch.put(mTransport, n, transport.Drop(why).String())
	}
	ch.level(mStreams, t.Streams-t.Unowned, "ike")
	ch.level(mStreams, t.Unowned, "none")
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
	reg.MustRegister(collector(d.sample), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
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

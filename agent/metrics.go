//go:build metrics

package agent

import (
	"context"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"nigh/agent/control"
)

// metrics are what GET /metrics tells, in Prometheus' text format. Nothing in them names a device, a file or an address: labels
// are words of ours, so that neither who is near nor how many series there are depends on others.
type metrics struct {
	a        *Agent
	registry *prometheus.Registry
	bytes    *prometheus.CounterVec // by direction
	finished *prometheus.CounterVec // by direction and state
}

var (
	agentInfo     = prometheus.NewDesc("nigh_info", "The version of the agent; always 1.", []string{"version"}, nil)
	agentUptime   = prometheus.NewDesc("nigh_uptime_seconds", "For how long the agent has run.", nil, nil)
	peersNow      = prometheus.NewDesc("nigh_peers", "Devices that are known or near.", []string{"trust", "state"}, nil)
	transfersNow  = prometheus.NewDesc("nigh_transfers", "Transfers that the agent knows, those that ended included.", []string{"direction", "state"}, nil)
	questionsNow  = prometheus.NewDesc("nigh_questions", "What waits for an answer of the user.", nil, nil)
	linksNow      = prometheus.NewDesc("nigh_links_usable", "Network links that are used.", nil, nil)
	groupsNow     = prometheus.NewDesc("nigh_groups", "Wi-Fi Direct groups.", []string{"role"}, nil)
	freeNow       = prometheus.NewDesc("nigh_inbox_free_bytes", "What is left on the disk that is received to.", nil, nil)
	noticesNow    = prometheus.NewDesc("nigh_notices", "Notices of nigh status.", nil, nil)
	allDirections = []string{"send", "receive"}
)

func newMetrics(a *Agent) *metrics {
	m := &metrics{
		a: a, registry: prometheus.NewRegistry(),
		bytes:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "nigh_transfer_bytes_total", Help: "Bytes of files that were moved since the agent started."}, []string{"direction"}),
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "nigh_transfers_ended_total", Help: "Transfers that ended since the agent started."}, []string{"direction", "state"}),
	}
	for _, d := range allDirections {
		m.bytes.WithLabelValues(d)
	}
	m.registry.MustRegister(m, m.bytes, m.finished, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Describe implements [prometheus.Collector].
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{agentInfo, agentUptime, peersNow, transfersNow, questionsNow, linksNow, groupsNow, freeNow, noticesNow} {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	s := m.a.status()
	gauge(agentInfo, 1, s.Version)
	gauge(agentUptime, int(s.Agent.Uptime))
	gauge(questionsNow, len(m.a.inbox()))
	gauge(freeNow, int(s.Agent.Free))
	gauge(noticesNow, len(s.Notices))
	usable := 0
	for _, l := range s.Links {
		if l.Usable {
			usable++
		}
	}
	gauge(linksNow, usable)
	counts := map[[3]string]int{}
	for _, g := range s.Groups {
		counts[[3]string{"group", g.Role}]++
	}
	for _, p := range m.a.table.views() {
		counts[[3]string{"peer", p.Trust, p.State}]++
	}
	for _, t := range m.a.transferViews() {
		counts[[3]string{"transfer", t.Direction, t.State}]++
	}
	for of, n := range counts {
		switch of[0] {
		case "group":
			gauge(groupsNow, n, of[1])
		case "peer":
			gauge(peersNow, n, of[1], of[2])
		case "transfer":
			gauge(transfersNow, n, of[1], of[2])
		}
	}
}

// metering is the metrics of an agent, made at the first use.
type metering struct {
	once sync.Once
	m    *metrics
}

func (a *Agent) meter() *metrics {
	a.metering.once.Do(func() { a.metering.m = newMetrics(a) })
	return a.metering.m
}

// metricsHandler serves GET /metrics.
func (a *Agent) metricsHandler() http.Handler {
	return promhttp.HandlerFor(a.meter().registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2, DisableCompression: true})
}

// followMetrics counts what happens, until ctx ends: it watches as any face does.
func (a *Agent) followMetrics(ctx context.Context) error {
	m := a.meter()
	moved := map[string]int64{} // by transfer, those that go on
	over := map[string]bool{}   // transfers that were counted as ended
	for ctx.Err() == nil {
		events, cancel, err := a.watchers.watch(false, a.state)
		if err != nil {
			return err
		}
		for open := true; open; {
			select {
			case <-ctx.Done():
				cancel()
				return nil
			case e, more := <-events:
				if open = more; open {
					m.count(e, moved, over)
				}
			}
		}
		cancel()
	}
	return nil
}

func (m *metrics) count(e control.Event, moved map[string]int64, over map[string]bool) {
	switch {
	case e.State != nil:
		// What was moved before the agent started is no news; what was while this watcher was cut is.
		for i := range e.State.Transfers {
			t := &e.State.Transfers[i]
			if _, known := moved[t.ID]; known {
				m.transfer(t, moved, over)
				continue
			}
			moved[t.ID], over[t.ID] = t.BytesMoved, ended(t.State)
		}
	case e.Transfer != nil:
		m.transfer(e.Transfer, moved, over)
	case e.Type == "transfer_gone":
		delete(moved, e.Key)
		delete(over, e.Key)
	}
}

func (m *metrics) transfer(t *control.Transfer, moved map[string]int64, over map[string]bool) {
	if n := t.BytesMoved - moved[t.ID]; n > 0 {
		m.bytes.WithLabelValues(t.Direction).Add(float64(n))
	}
	moved[t.ID] = t.BytesMoved
	now := ended(t.State)
	if now && !over[t.ID] {
		m.finished.WithLabelValues(t.Direction, t.State).Inc()
	}
	over[t.ID] = now
}

func ended(state string) bool { return state == "done" || state == "refused" || state == "failed" }

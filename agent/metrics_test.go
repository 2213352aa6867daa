//go:build metrics

package agent

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"nigh/agent/control"
)

// A real agent tells its metrics on its socket, and the name of nobody.
func TestMetrics(t *testing.T) {
	cfg := localConfig(t)
	cfg.Name = "Lovelace"
	a := runAgent(t, cfg)
	friend := newIdentity(t).ID
	if err := a.trust.Add(friend, "Ana's laptop"); err != nil {
		t.Fatal(err)
	}
	a.table.know(friend)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", a.Socket())
	}}}
	scrape := func() string {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://nigh/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
			t.Fatalf("%d %s, %v", resp.StatusCode, resp.Header, err)
		}
		return string(raw)
	}
	text := scrape()
	for _, line := range []string{
		"nigh_info{version=", `nigh_peers{state="away",trust="trusted"} 1`, `nigh_transfer_bytes_total{direction="send"} 0`, "nigh_uptime_seconds ", "nigh_questions 0",
		"go_goroutines ", "process_resident_memory_bytes ", "# TYPE nigh_transfer_bytes_total counter",
	} {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("no %s in\n%s", line, text)
		}
	}
	if containsAny(text, "Ana", friend.Short(), friend.String(), a.ID().Short(), cfg.Name) {
		t.Errorf("who somebody is is told:\n%s", text)
	}
}

func value(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// Bytes and ends are counted once, and nothing that was before the agent.
func TestMetricsCount(t *testing.T) {
	m := newMetrics(&Agent{})
	moved, over := map[string]int64{}, map[string]bool{}
	event := func(state string, bytes int64) control.Event {
		return control.Event{Type: "transfer", Transfer: &control.Transfer{ID: "b", Direction: "receive", State: state, BytesMoved: bytes}}
	}
	for _, e := range []control.Event{
		{Type: "state", State: &control.State{Transfers: []control.Transfer{{ID: "a", Direction: "receive", State: "done", BytesMoved: 900}}}},
		event("running", 10), event("running", 30), event("done", 50), event("done", 50),
		{Type: "state", State: &control.State{Transfers: []control.Transfer{{ID: "b", Direction: "receive", State: "done", BytesMoved: 50}}}},
		{Type: "transfer_gone", Key: "a"}, {Type: "transfer_gone", Key: "b"},
	} {
		m.count(e, moved, over)
	}
	for want, c := range map[float64]prometheus.Counter{50: m.bytes.WithLabelValues("receive"), 0: m.bytes.WithLabelValues("send"), 1: m.finished.WithLabelValues("receive", "done")} {
		if got := value(t, c); got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
	if len(moved) != 0 || len(over) != 0 {
		t.Errorf("%d transfers that are gone are kept", len(moved)+len(over))
	}
}

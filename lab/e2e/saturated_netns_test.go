//go:build netns

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// Messages while a large file fills a slow link, with the file and against it, p95 from the request to the event that shows the
// message: at most 150 ms over 20 Mbit/s and 30 ms over 100, and 88 % of the link are used. A token bucket with a queue of 50 ms at each
// end stands for the link.
func TestMessagesOverAFullLink(t *testing.T) {
	for mbit, bound := range map[int]time.Duration{20: 150 * time.Millisecond, 100: 30 * time.Millisecond} {
		t.Run(fmt.Sprintf("%dMbit", mbit), func(t *testing.T) { messagesOverAFullLink(t, mbit, bound) })
	}
}

func messagesOverAFullLink(t *testing.T, mbit int, bound time.Duration) {
	const rounds = 4 // others use this machine too
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb := n.Host("ada"), n.Host("bob")
	for i, h := range []*lab.Host{ha, hb} {
		lan.Join(h, "eth0", fmt.Sprintf("10.0.0.%d/24", i+1))
		// What Linux has by default, whatever the machine of this test prefers.
		h.IP("route", "replace", "10.0.0.0/24", "dev", "eth0", "congctl", "cubic")
		h.IP("-6", "route", "replace", "fe80::/64", "dev", "eth0", "proto", "kernel", "metric", "256", "congctl", "cubic")
		h.Run("tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", strconv.Itoa(mbit)+"mbit", "burst", "16kb", "latency", "50ms")
	}
	// A message is on the disk before it is answered: it is the link that is measured, not the disk.
	ada, bob := startIn(t, lab.Memory(t), ha, "ada", "--accept", "trusted"), startIn(t, lab.Memory(t), hb, "bob", "--accept", "trusted")
	befriend(t, ada, bob)
	for _, w := range []struct {
		on  *node.Agent
		who string
	}{{ada, "bob"}, {bob, "ada"}} {
		if err := w.on.Await(within(t, 20*time.Second), hasPeer(w.who, "ready")); err != nil {
			t.Fatal(err)
		}
	}
	film := hollow(t, 8<<30)
	if _, errs, code := ada.Run(within(t, 30*time.Second), "send", film, "--to", "bob"); code != 0 {
		t.Fatalf("send: exit %d: %s", code, errs)
	}
	// About a second of the link, so that the queue is full.
	err := bob.Await(within(t, 60*time.Second), func(s control.State) bool {
		return len(s.Transfers) == 1 && s.Transfers[0].BytesDone > int64(mbit)*1e6/8
	})
	if err != nil {
		t.Fatal(err)
	}
	for round := 1; ; round++ {
		before, began := cameTo(t, hb), time.Now()
		took := make(chan []time.Duration)
		for _, w := range []struct{ from, to *node.Agent }{{ada, bob}, {bob, ada}} {
			go func() { took <- chat(t, w.from, w.to, fmt.Sprintf("%s %d ", w.from.Name, round)) }()
		}
		all := slices.Concat(<-took, <-took)
		moved, lasted := cameTo(t, hb)-before, time.Since(began)
		if t.Failed() {
			t.Fatalf("%s\n%s", ada.Tail(), bob.Tail())
		}
		slices.Sort(all)
		p95 := all[len(all)*95/100]
		use := float64(moved) * 8 / 1e6 / float64(mbit) / lasted.Seconds()
		t.Logf("%d Mbit/s: %d messages in p50 %v, p95 %v, at most %v; %.0f %% of the link were used", mbit, len(all), all[len(all)/2], p95,
			all[len(all)-1], 100*use)
		full := time.Duration(float64(moved) * 8 / (0.88 * float64(mbit)) * 1e3) // that so many bytes may take
		limit, patience := lab.Bound(t, bound), lab.Bound(t, full)
		switch {
		case p95 <= limit && lasted <= patience:
			return
		case round == rounds:
			t.Fatalf("p95 is %v, the bound is %v; %v for %d bytes, the bound is %v", p95, limit, lasted, moved, patience)
		}
	}
}

// cameTo returns the bytes that came to a host.
func cameTo(t *testing.T, h *lab.Host) int64 {
	t.Helper()
	n, err := strconv.ParseInt(strings.TrimSpace(h.Run("cat", "/sys/class/net/eth0/statistics/rx_bytes")), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// chat sends ten messages a second for four seconds, and returns how long each took, from the request until the other agent shows it.
func chat(t *testing.T, from, to *node.Agent, prefix string) (took []time.Duration) {
	events, err := to.Client().Watch(t.Context())
	if err != nil {
		t.Error(err)
		return nil
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	sent := make([]time.Time, 40)
	asked := make(chan error, len(sent))
	over := time.NewTimer(60 * time.Second)
	defer over.Stop()
	for next := 0; len(took) < len(sent); {
		select {
		case <-tick.C:
			if next == len(sent) {
				continue
			}
			text := prefix + strconv.Itoa(next)
			sent[next] = time.Now()
			next++
			go func() {
				_, err := from.Client().SendMessage(t.Context(), control.MessageRequest{Text: text, To: []string{to.Name}})
				asked <- err
			}()
		case err := <-asked:
			if err != nil {
				t.Error(err)
				return took
			}
		case e, ok := <-events:
			if !ok {
				t.Errorf("the events of %s ended", to.Name)
				return took
			}
			if e.Type != "message" || e.Message.Direction != "receive" {
				continue
			}
			rest, ours := strings.CutPrefix(e.Message.Text, prefix)
			if i, err := strconv.Atoi(rest); ours && err == nil && i < next && !sent[i].IsZero() {
				took = append(took, time.Since(sent[i]))
				sent[i] = time.Time{}
			}
		case <-over.C:
			t.Errorf("of %d messages from %s %d came", next, from.Name, len(took))
			return took
		}
	}
	return took
}

// hollow makes a file of zeros that takes no room on the disk.
func hollow(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "film")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

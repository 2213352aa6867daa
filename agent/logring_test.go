package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"nigh/agent/control"
)

func TestLogRing(t *testing.T) {
	ring := &logRing{}
	var out strings.Builder
	log := slog.New(ringHandler{Handler: slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn}), ring: ring})
	log.Debug("Too small")
	log.Info("First", "port", 7421)
	log.With("peer", "AAAA-BBBB").WithGroup("radio").Warn("Second", "err", errors.New(`no "wlan0"`), "name", "two words")
	lines, _ := ring.last()
	if len(lines) != 2 || lines[0].Message != "First" || lines[0].Attrs != "port=7421" || lines[0].Level != "INFO" || lines[0].Time.IsZero() {
		t.Fatalf("%+v", lines)
	}
	if want := `peer=AAAA-BBBB radio.err="no \"wlan0\"" radio.name="two words"`; lines[1].Attrs != want {
		t.Errorf("attributes %s, want %s", lines[1].Attrs, want)
	}
	if strings.Contains(out.String(), "First") || !strings.Contains(out.String(), `peer=AAAA-BBBB radio.err="no \"wlan0\""`) {
		t.Errorf("the program's own log: %s", out.String())
	}
	for i := range 2 * ringLines {
		log.Log(t.Context(), slog.LevelInfo, fmt.Sprint(i), "long", strings.Repeat("ü", ringBytes))
	}
	lines, _ = ring.last()
	if len(lines) != ringLines || lines[0].Message != fmt.Sprint(ringLines) || lines[ringLines-1].Message != fmt.Sprint(2*ringLines-1) {
		t.Errorf("%d lines, %s to %s", len(lines), lines[0].Message, lines[len(lines)-1].Message)
	}
	for _, l := range lines {
		if len(l.Attrs) > ringBytes+2 {
			t.Fatalf("%d bytes are kept", len(l.Attrs))
		}
	}
}

// A watcher is told each line once, in order; one that is too slow is told how many are missing.
func TestLogRingAfter(t *testing.T) {
	ring := newLogRing()
	put := func(n int) {
		for range n {
			ring.add(control.LogLine{Message: fmt.Sprint(ring.total + 1)})
		}
	}
	var seen uint64
	expect := func(most, missed int, first, last uint64) {
		t.Helper()
		lines, now := ring.after(seen, most)
		if len(lines) != int(last-first+1) || now != last || now > seen && (lines[0].Message != fmt.Sprint(first) || lines[0].Missed != missed || lines[len(lines)-1].Message != fmt.Sprint(last)) {
			t.Fatalf("after %d: %d lines up to %d, %+v", seen, len(lines), now, lines[:min(len(lines), 1)])
		}
		seen = now
	}
	expect(9, 0, 1, 0)
	put(5)
	expect(2, 0, 1, 2)
	expect(9, 0, 3, 5)
	expect(9, 0, 6, 5)
	put(ringLines)
	expect(1, 0, 6, 6)
	put(10)
	expect(3, 9, 16, 18)
	expect(ringLines, 0, 19, 15+ringLines)
	put(3 * ringLines)
	expect(ringLines, 2*ringLines, 16+3*ringLines, 15+4*ringLines)
}

func BenchmarkLogRing(b *testing.B) {
	log := slog.New(ringHandler{Handler: slog.DiscardHandler, ring: &logRing{}})
	for b.Loop() {
		log.Info("Device is near", "peer", "AAAA-BBBB", "path", "lan", "ifname", "eth0")
	}
}
